"""Stage 2 of 8, of cases with several scans: all of them on the grid of the first."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.alignment import resample_onto
from bids_deepmrseg.imaging.bias import correct_bias
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.nifti import Scan, read_scan
from bids_deepmrseg.imaging.register import register_rigid
from bids_deepmrseg.imaging.registration import Registration
from bids_deepmrseg.records import Case

logger = logging.getLogger(__name__)

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


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
    """

    volumes: tuple[Field | None, ...]
    grid: Grid
    registrations: tuple[Registration, ...]
    doubts: tuple[str, ...]


def align(
    case: Case, brain: Mask, *, registration: bool = True, bias_correction: bool = False
) -> Aligned:
    """Read the scans of a case and bring them to the grid of the first.

    Parameters
    ----------
    case
        Its first scan stays as it is.
    brain
        ``(I, J, K)`` on the grid of the first scan, by which results are judged.
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
    first, *others = (read_scan(file) for file in case.scans)
    registrations: list[Registration] = []
    volumes = [first.data]
    for scan, file in zip(others, case.scans[1:], strict=True):
        if registration:
            found = register_rigid(first, scan)
            registrations.append(found)
            volumes.append(resample_onto(scan.data, scan.grid, first.grid, found.matrix))
        elif scan.grid.matches(first.grid):
            volumes.append(scan.data)
        else:
            raise GeometryError(
                f"{file} is not on the grid of {case.scans[0]}; leave --no-registration away, or "
                "align them first"
            )
    if bias_correction:
        volumes = [correct_bias(Scan(volume, first.grid), brain)[0].data for volume in volumes]
    absent = [None] * (len(case.task.channels) - len(volumes))
    doubts = tuple(one.doubt for one in registrations if one.doubt is not None)
    return Aligned((*volumes, *absent), first.grid, tuple(registrations), doubts)
