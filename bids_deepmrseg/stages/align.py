"""Stage 2 of 8, of cases with several scans: all of them on the grid of the first."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.derivatives import PROVENANCE_KEY, check_ours, is_ours, raw_uri
from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.files import JsonValue, write_json
from bids_deepmrseg.imaging.alignment import field_of_view, resample_onto
from bids_deepmrseg.imaging.bias import correct_bias
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.nifti import Scan, read_scan
from bids_deepmrseg.imaging.register import register_rigid, write_transform
from bids_deepmrseg.imaging.registration import Registration
from bids_deepmrseg.records import Alignment, Case

logger = logging.getLogger(__name__)

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MIN_BRAIN_OVERLAP = 0.90  # docs/decisions/0014: 0.94 to 0.97 where scans lie rightly


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """align -> prepare: the channels of a case on one grid.

    Attributes
    ----------
    volumes
        One ``(I, J, K)`` array per channel of the task; ``None`` for optional ones without a scan.
    grid
        Native lattice of the first scan.
    registrations
        How each further scan was laid upon the first; empty where none was.
    doubts
        Sentences on what is unusual there.
    seen
        ``(I, J, K)``, what lies in the fields of view of all scans; ``None`` for all of it.
    """

    volumes: tuple[Field | None, ...]
    grid: Grid
    registrations: tuple[Registration, ...]
    doubts: tuple[str, ...]
    seen: Mask | None = None

    @property
    def present(self) -> tuple[Field, ...]:
        """The volumes that are there."""
        return tuple(volume for volume in self.volumes if volume is not None)

    def overlap(self, one: Mask, other: Mask) -> float:
        """Dice of two masks on the grid, where all scans show anything; 0 where both are empty."""
        if self.seen is not None:
            one, other = one & self.seen, other & self.seen
        n_both = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
        return 2 * int(np.count_nonzero(one & other)) / n_both if n_both else 0.0


class Told(Protocol):
    """What the transform's sidecar tells of a case's provenance."""

    @property
    def code_version(self) -> str:
        """Version of this package."""

    @property
    def registration(self) -> Alignment | None:
        """How the second scan was laid upon the first, if it was."""


def align(
    case: Case, brain: Mask, *, registration: bool = True, bias_correction: bool = False
) -> Aligned:
    """Read the scans of a case and bring them to the grid of the first.

    Parameters
    ----------
    case
        Its first scan stays as it is.
    brain
        ``(I, J, K)`` on the grid of the first scan, by which brightness is evened.
    registration
        Whether to lay further scans upon the first by a rigid movement.
    bias_correction
        Whether to take slow changes of brightness out of every volume, by N4.

    Raises
    ------
    GeometryError
        Without registration, if the scans are not on one grid.
    InputDataError
        If a scan cannot be read, or cannot be laid upon the first.
    """
    first = read_scan(case.scans[0])
    registrations: list[Registration] = []
    volumes, seen = [first.data], np.ones(first.grid.shape, dtype=bool)
    for file in case.scans[1:]:
        scan = read_scan(file)
        if registration:
            found = register_rigid(first, scan)
            registrations.append(found)
            volumes.append(resample_onto(scan.data, scan.grid, first.grid, found.matrix))
            seen &= field_of_view(scan.grid, first.grid, found.matrix)
        elif scan.grid.matches(first.grid):
            volumes.append(scan.data)
        else:
            raise GeometryError(
                f"{file} is not on the grid of {case.scans[0]}; leave --no-registration away, or "
                "align them first"
            )
    if bias_correction:
        volumes = [_evened(volume, first.grid, brain) for volume in volumes]
    absent = [None] * (len(case.task.channels) - len(volumes))
    doubts = tuple(one.doubt for one in registrations if one.doubt is not None)
    logger.info("%s: %d scans on one grid", case.name, len(volumes))
    return Aligned((*volumes, *absent), first.grid, tuple(registrations), doubts, seen)


def _evened(volume: Field, grid: Grid, brain: Mask) -> Field:
    """A volume without slow changes of brightness."""
    return correct_bias(Scan(volume, grid), brain)[0].data


def recorded(case: Case, aligned: Aligned) -> Alignment | None:
    """How the second scan was laid upon the first, as provenance keeps it."""
    if not aligned.registrations:
        return None
    found = aligned.registrations[0]
    fixed, moving = case.channels[:2]
    return Alignment(
        moving=moving,
        fixed=fixed,
        matrix=tuple(tuple(float(number) for number in row) for row in found.matrix),
        start=found.start,
        metric_before=found.metric_before,
        metric_after=found.metric_after,
        overlap_before=found.overlap_before,
        overlap_after=found.overlap_after,
        covered=found.covered,
        moved_mm=found.moved_mm,
        turned_deg=found.turned_deg,
        doubt=found.doubt,
    )


def doubts_of_inputs(case: Case) -> tuple[str, ...]:
    """What is to be said of channels without a scan."""
    absent = " and ".join(case.task.channels[len(case.scans) :])
    if not absent:
        return ()
    what = "lesions were" if case.task.lesions is not None else f"{case.task.name} was"
    there = " and ".join(case.channels)
    doubt = f"no {absent} scan: {what} looked for in the {there} alone, which is less accurate"
    return (f"{doubt} (docs/accuracy.md)",)


def doubts_of_overlap(case: Case, brain_overlap: float | None) -> tuple[str, ...]:
    """What is to be said where the brains of two scans do not lie upon each other.

    Parameters
    ----------
    case
        Says which scans they are.
    brain_overlap
        Dice, 0 to 1; ``None`` where there is no second scan.
    """
    if brain_overlap is None or brain_overlap >= MIN_BRAIN_OVERLAP:
        return ()
    fixed, moving = case.channels[:2]
    doubt = (
        f"the brains found in the {fixed} and in the {moving} laid upon it overlap by a Dice of "
        f"{brain_overlap:.2f} only: they are not of one head, do not lie upon each other, or one "
        "brain was not found whole; look at the picture"
    )
    return (doubt,)


def write_alignment(case: Case, provenance: Told, output_dir: Path) -> Path | None:
    """Write how the second scan was laid upon the first as an ITK transform, and its sidecar.

    Parameters
    ----------
    case
        Gives the name and the sources.
    provenance
        Tells the movement. Without one, what an earlier run wrote of it is taken away.
    output_dir
        The derivative dataset.

    Returns
    -------
    Path or None
        Such as ``sub-01/anat/sub-01_from-T1w_to-FLAIR_mode-image_xfm.txt``, relative to
        ``output_dir``; ``None`` where nothing was moved.

    Raises
    ------
    OutputError
        If a file that this program did not write is in the way, or one cannot be written.
    """
    if len(case.task.channels) < 2:
        return None
    fixed, moving = case.task.channels[:2]
    name = f"{case.stem}_from-{moving}_to-{fixed}_mode-image_xfm.txt"
    folders = (f"{key}-{case.entity(key)}" for key in ("sub", "ses") if case.entity(key))
    file = Path(*folders, "anat", name)
    transform = output_dir / file
    sidecar = transform.with_suffix(".json")
    if provenance.registration is None:
        _take_away(transform, sidecar)
        return None
    check_ours(sidecar, (transform,))
    write_json(sidecar, _sidecar(case, provenance.code_version, provenance.registration))
    write_transform(np.array(provenance.registration.matrix), transform)
    return file


def _take_away(transform: Path, sidecar: Path) -> None:
    """Delete a movement that an earlier run found and that this one does not stand upon."""
    if is_ours(sidecar):
        transform.unlink(missing_ok=True)
        sidecar.unlink()


def _sidecar(case: Case, version: str, found: Alignment) -> dict[str, JsonValue]:
    """What is told of a transform."""
    return {
        "Description": f"Rigid movement that lays the {found.moving} upon the {found.fixed}, for "
        "ITK, ANTs and 3D Slicer (antsApplyTransforms -t)",
        "Sources": [raw_uri(case, scan) for scan in case.scans],
        PROVENANCE_KEY: {
            "Version": version,
            "Task": case.task.name,
            "StartedFrom": found.start,
            "MutualInformationBefore": found.metric_before,
            "MutualInformationAfter": found.metric_after,
            "OverlapBefore": found.overlap_before,
            "OverlapAfter": found.overlap_after,
            "Covered": found.covered,
            "MovedMm": found.moved_mm,
            "TurnedDeg": found.turned_deg,
            "Doubt": found.doubt,
        },
    }
