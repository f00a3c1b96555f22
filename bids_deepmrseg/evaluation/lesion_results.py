"""What an evaluation of lesions found: a row per scan and class of lesion size."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.evaluation.results import Identity
from bids_deepmrseg.evaluation.rows import read_records, write_records

LESIONS = "_lesions"  # ends the names of their files, which stand beside the results
SCAN_GROUPS = "_scans"  # the same, of files that say what kind each scan is of


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionResult(Identity):
    """How the lesions of one class of size of one scan came out.

    Attributes
    ----------
    size
        Name of the class, ``all`` for lesions of every size. Lesions of the reference and of the
        segmentation are each in the class of their own volume.
    least_share
        Share of its voxels by which a lesion has to overlap; 0 where one voxel is enough.
    n_reference, n_found
        Lesions of the reference, and those of them that the segmentation overlaps.
    n_segmented, n_true
        Lesions of the segmentation, and those of them that the reference overlaps.
    recall, precision, f1, volume_difference_percent
        As of :mod:`~.lesionwise`; ``nan`` where there is nothing to measure.
    volume_ml, reference_volume_ml
        Millilitres of those lesions; 0 where there is none.
    """

    size: str
    least_share: float
    n_reference: int
    n_found: int
    n_segmented: int
    n_true: int
    recall: float
    precision: float
    f1: float
    volume_ml: float
    reference_volume_ml: float
    volume_difference_percent: float


def write_lesion_results(results: Iterable[LesionResult], file: Path) -> None:
    """Write rows as TSV."""
    write_records(results, LesionResult, file)


def read_lesion_results(file: Path) -> tuple[LesionResult, ...]:
    """Read rows back; raises InputDataError where the file holds none."""
    return read_records(file, LesionResult)


@dataclass(frozen=True, slots=True)
class GroupedScan:
    """What kind a scan is of, such as ``whole head``: tables show each kind by itself."""

    scan: str
    group: str


def read_groups(file: Path) -> dict[str, str]:
    """Group of every scan; raises InputDataError where the file holds none."""
    return {row.scan: row.group for row in read_records(file, GroupedScan)}
