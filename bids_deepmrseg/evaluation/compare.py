"""Run the app's own stages on labelled scans and compare with the labels, one row per structure."""

import csv
import logging
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import InputDataError, UsageError
from bids_deepmrseg.evaluation.metrics import overlap
from bids_deepmrseg.imaging.nifti import read_label_map
from bids_deepmrseg.records import Case
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one structure of one scan came out; volumes in millilitres."""

    dataset: str
    subject: str
    structure: str
    f1: float
    f2: float
    bacc: float
    volume_ml: float
    reference_volume_ml: float


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
    voxel_ml: float,
    labels: tuple[Label, ...],
    *,
    freesurfer: bool,
    dataset: str,
    subject: str,
) -> Iterator[Result]:
    """Compare two label maps on one grid, structure by structure."""
    for label in labels:
        counts = overlap(
            dseg == label.index, reference == reference_index(label, freesurfer=freesurfer)
        )
        yield Result(
            dataset=dataset,
            subject=subject,
            structure=label.name,
            f1=counts.f1,
            f2=counts.f2,
            bacc=counts.balanced_accuracy,
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
    results: list[Result] = []
    for labelled in cases:
        case, task = labelled.case, labelled.case.task
        subject = f"sub-{case.entity('sub')}"
        predicted = segment(prepare(case), folder, task, device=device, fast=fast)
        segmented = restore(predicted, task)
        reference, grid = read_label_map(labelled.reference)
        if not grid.matches(segmented.grid):
            raise InputDataError(f"{labelled.reference} is not on the grid of {case.scans[0]}")
        results += compare_maps(
            segmented.dseg,
            reference,
            grid.voxel_volume_mm3 / 1000,
            task.labels,
            freesurfer=freesurfer,
            dataset=dataset,
            subject=subject,
        )
        on_case(subject)
    return tuple(results)


def write_results(results: tuple[Result, ...], file: Path) -> None:
    """Write per-case results as TSV."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow([field.name for field in fields(Result)])
        for result in results:
            writer.writerow([f"{v:.4f}" if isinstance(v, float) else v for v in astuple(result)])


def read_results(file: Path) -> tuple[Result, ...]:
    """Read per-case results back."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return tuple(
                Result(
                    dataset=row["dataset"],
                    subject=row["subject"],
                    structure=row["structure"],
                    f1=float(row["f1"]),
                    f2=float(row["f2"]),
                    bacc=float(row["bacc"]),
                    volume_ml=float(row["volume_ml"]),
                    reference_volume_ml=float(row["reference_volume_ml"]),
                )
                for row in csv.DictReader(stream, delimiter="\t")
            )
    except (OSError, KeyError, ValueError) as error:
        raise InputDataError(f"{file} is no table of results: {error!r}") from error
