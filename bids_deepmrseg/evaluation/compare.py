"""Run the app's own stages on labelled scans and compare with the labels, one row per structure."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import InputDataError, UsageError
from bids_deepmrseg.evaluation.lesion_results import LesionResult
from bids_deepmrseg.evaluation.lesionwise import compare_lesions
from bids_deepmrseg.evaluation.metrics import Mask, overlap
from bids_deepmrseg.evaluation.results import ALL_VIEWS, Identity, Result
from bids_deepmrseg.evaluation.surface import surface_distance
from bids_deepmrseg.evaluation.whole import (
    Models,
    prepare_shown,
    restore_shown,
    show_labelled,
)
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.network.weights import read_record
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.selection.labelled import LabelledScan
from bids_deepmrseg.selection.references import read_reference
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.tasks import Label

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Compared:
    """What an evaluation found: rows of structures and, of tasks that find any, of lesions."""

    results: tuple[Result, ...]
    lesions: tuple[LesionResult, ...]


def reference_numbers(label: Label, *, freesurfer: bool) -> tuple[int, ...]:
    """The numbers that a structure has in the reference's own numbering."""
    if not freesurfer:
        return (label.index,)
    if not label.freesurfer:
        raise UsageError(f"{label.name} has no FreeSurfer number in its task file")
    return label.freesurfer


def compare_maps(
    dseg: npt.NDArray[np.integer],
    reference: npt.NDArray[np.integer],
    spacing_mm: tuple[float, float, float],
    labels: tuple[Label, ...],
    identity: Identity,
    *,
    freesurfer: bool = False,
) -> Iterator[Result]:
    """Compare two label maps on one grid, structure by structure.

    Parameters
    ----------
    dseg
        ``(I, J, K)`` segmentation in the task's numbering.
    reference
        Label map of the same shape.
    spacing_mm
        Distance between neighbouring voxels along each axis.
    labels
        Structures to compare.
    identity
        What the rows say that they are about.
    freesurfer
        Whether the reference numbers structures as FreeSurfer does, rather than as the task.
    """
    for label in labels:
        segmented = dseg == label.index
        wanted = np.isin(reference, reference_numbers(label, freesurfer=freesurfer))
        yield compare_masks(segmented, wanted, spacing_mm, label.name, identity)


def compare_masks(
    segmented: Mask,
    reference: Mask,
    spacing_mm: tuple[float, float, float],
    structure: str,
    identity: Identity,
) -> Result:
    """One structure's masks compared, as a row."""
    counts = overlap(segmented, reference)
    apart = surface_distance(segmented, reference, spacing_mm)
    voxel_ml = math.prod(spacing_mm) / 1000
    return Result(
        **asdict(identity),
        structure=structure,
        f1=counts.f1,
        f2=counts.f2,
        bacc=counts.balanced_accuracy,
        hd95_mm=apart.hd95_mm,
        asd_mm=apart.asd_mm,
        volume_ml=(counts.true_positive + counts.false_positive) * voxel_ml,
        reference_volume_ml=(counts.true_positive + counts.false_negative) * voxel_ml,
    )


def evaluate(
    scans: tuple[LabelledScan, ...],
    folder: Path,
    *,
    dataset: str,
    freesurfer: bool,
    models: Models,
    on_scan: Callable[[str], None],
) -> Compared:
    """Segment every scan by the stages that the app runs, and compare on the native grid.

    Parameters
    ----------
    scans
        Labelled scans. For a task with a region that is trained on crops they are crops that show
        its first place.
    folder
        Model folder.
    dataset
        Name of the dataset in the results.
    freesurfer
        Whether references number structures as FreeSurfer does, rather than as the task.
    models
        Device, speed, and where the models are that find places.
    on_scan
        Called with the scan's stem after each one.

    Returns
    -------
    Compared
        Rows of every scan, in their order.

    Raises
    ------
    InputDataError
        If a reference is not on the grid of its scan.
    """
    members = read_record(folder).members
    network = "+".join(sorted({member.architecture.family for member in members}))
    ensemble = members[0].view if models.fast or len(members) == 1 else ALL_VIEWS
    results: list[Result] = []
    lesions: list[LesionResult] = []
    for scan in scans:
        identity = Identity(
            dataset=dataset,
            network=network,
            ensemble=ensemble,
            repeat=1,
            fold=1,
            subject=scan.subject,
            scan=scan.stem,
        )
        segmented = segment_labelled(scan.case, folder, models)
        results += compare_scan(scan, segmented, identity, freesurfer=freesurfer)
        lesions += compare_scan_lesions(scan, segmented, identity)
        on_scan(scan.stem)
    return Compared(tuple(results), tuple(lesions))


def segment_labelled(case: Case, folder: Path, models: Models) -> Segmented:
    """What a model says of a labelled scan: a crop of one place is taken as it is."""
    task = case.task
    shown = show_labelled(case, models)
    predicted = tuple(
        segment(prepared, folder, task, device=models.device, fast=models.fast)
        for prepared in prepare_shown(case, shown)
    )
    return restore_shown(predicted, task, shown)


def compare_scan_lesions(
    scan: LabelledScan, segmented: Segmented, identity: Identity
) -> Iterator[LesionResult]:
    """Rows of one scan's lesions, told one by one; none for tasks of other structures.

    Raises
    ------
    InputDataError
        If the reference is not on the grid of the scan.
    """
    if scan.case.task.lesions is not None:
        wanted, grid = read_lesions(scan, segmented)
        yield from compare_lesions(segmented.dseg > 0, wanted, grid.voxel_volume_mm3, identity)


def read_lesions(scan: LabelledScan, segmented: Segmented) -> tuple[Mask, Grid]:
    """The lesions of a scan's reference ``(I, J, K)``, and their grid.

    Raises
    ------
    InputDataError
        If they are not on the grid of what was segmented.
    """
    reference, grid = _read_on_grid(scan, segmented)
    return reference > 0, grid


def _read_on_grid(scan: LabelledScan, segmented: Segmented) -> tuple[npt.NDArray[np.int32], Grid]:
    """The reference of a scan, which must lie where the scan does."""
    reference, grid = read_reference(scan.reference, scan.case.task)
    if not grid.matches(segmented.grid):
        raise InputDataError(f"{scan.reference} is not on the grid of {scan.case.scans[0]}")
    return reference, grid


def compare_scan(
    scan: LabelledScan, segmented: Segmented, identity: Identity, *, freesurfer: bool = False
) -> Iterator[Result]:
    """Rows of one scan, compared on its native grid.

    Raises
    ------
    InputDataError
        If the reference is not on that grid.
    """
    task = scan.case.task
    reference, grid = _read_on_grid(scan, segmented)
    shows_all = task.region is None or task.is_cut_from_scans
    return compare_maps(
        segmented.dseg,
        reference,
        grid.spacing_mm,
        task.labels if shows_all else task.network_labels,
        identity,
        freesurfer=freesurfer,
    )
