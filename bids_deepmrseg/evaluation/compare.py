"""Run the app's own stages on labelled scans and compare with the labels, one row per structure."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import InputDataError, UsageError
from bids_deepmrseg.evaluation.metrics import Mask, overlap
from bids_deepmrseg.evaluation.results import ALL_VIEWS, Identity, Result
from bids_deepmrseg.evaluation.surface import surface_distance
from bids_deepmrseg.imaging.nifti import read_label_map
from bids_deepmrseg.network.weights import read_record
from bids_deepmrseg.records import Case, Predicted
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.tasks import Label, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCase:
    """A case and the label map that it is to be compared with."""

    case: Case
    reference: Path


def find_cases(
    folder: Path, task: Task, *, subjects: tuple[str, ...] = ()
) -> tuple[LabelledCase, ...]:
    """Labelled scans of a folder: each ``anat`` folder with a ``_dseg`` and the task's scans.

    Parameters
    ----------
    folder
        Root of the labelled dataset.
    task
        Names the scans' suffixes.
    subjects
        Only these (with ``sub-``); all where empty.

    Raises
    ------
    UsageError
        If a subject that was asked for is not there, or none is.
    """
    found = []
    for reference in sorted(folder.rglob("anat/*_dseg.nii*")):
        subject = reference.name.split("_")[0]
        scans = [sorted(reference.parent.glob(f"*_{suffix}.nii*")) for suffix in task.channels]
        if not all(scans) or (subjects and subject not in subjects):
            continue
        case = Case(
            task=task,
            bids_dir=folder,
            scans=tuple(s[0] for s in scans),
            entities=(("sub", subject.removeprefix("sub-")),),
        )
        found.append(LabelledCase(case=case, reference=reference))
    missing = set(subjects) - {f"sub-{c.case.entity('sub')}" for c in found}
    if missing or not found:
        raise UsageError(f"{folder} has no labelled scan of {', '.join(sorted(missing)) or 'any'}")
    return tuple(found)


def reference_index(label: Label, *, freesurfer: bool) -> int:
    """The number of a structure in the reference's own numbering."""
    if not freesurfer:
        return label.index
    if label.freesurfer is None:
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
        wanted = reference == reference_index(label, freesurfer=freesurfer)
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
        dataset=identity.dataset,
        network=identity.network,
        ensemble=identity.ensemble,
        repeat=identity.repeat,
        fold=identity.fold,
        subject=identity.subject,
        scan=identity.scan,
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
    cases: tuple[LabelledCase, ...],
    folder: Path,
    *,
    dataset: str,
    freesurfer: bool,
    device: str,
    fast: bool,
    on_case: Callable[[str], None],
) -> tuple[Result, ...]:
    """Segment every case by the stages that the app runs, and compare on the native grid.

    Parameters
    ----------
    cases
        Labelled scans.
    folder
        Model folder.
    dataset
        Name of the dataset in the results.
    freesurfer
        Whether references number structures as FreeSurfer does, rather than as the task.
    device, fast
        As for :func:`bids_deepmrseg.stages.segment.segment`.
    on_case
        Called with the subject after each case.

    Raises
    ------
    InputDataError
        If a reference is not on the grid of its scan.
    """
    members = read_record(folder).members
    network = "+".join(sorted({member.architecture.family for member in members}))
    ensemble = members[0].view if fast or len(members) == 1 else ALL_VIEWS
    results: list[Result] = []
    for labelled in cases:
        identity = Identity(
            dataset=dataset,
            network=network,
            ensemble=ensemble,
            repeat=1,
            fold=1,
            subject=f"sub-{labelled.case.entity('sub')}",
            scan=labelled.case.stem,
        )
        predicted = segment(
            prepare(labelled.case), folder, labelled.case.task, device=device, fast=fast
        )
        results += _compare_case(labelled, predicted, identity, freesurfer=freesurfer)
        on_case(identity.subject)
    return tuple(results)


def _compare_case(
    labelled: LabelledCase, predicted: Predicted, identity: Identity, *, freesurfer: bool
) -> Iterator[Result]:
    """Rows of one case, on its native grid."""
    task = labelled.case.task
    segmented = restore(predicted, task)
    reference, grid = read_label_map(labelled.reference)
    if not grid.matches(segmented.grid):
        raise InputDataError(f"{labelled.reference} is not on the grid of {labelled.case.scans[0]}")
    return compare_maps(
        segmented.dseg,
        reference,
        grid.spacing_mm,
        task.labels,
        identity,
        freesurfer=freesurfer,
    )
