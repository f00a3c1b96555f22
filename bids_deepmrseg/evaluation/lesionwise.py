"""Agreement of a segmentation with a reference, lesion by lesion.

Lesions are the pieces of a mask whose voxels touch by a face, an edge or a corner. A lesion of the
reference is found, and one of the segmentation is true, where any of its voxels lies in the other
mask; a larger share of its voxels can be asked for. So did the WMH challenge (Kuijf et al. 2019,
doi:10.1109/TMI.2019.2905770), one voxel being enough. Neither mask is cleaned of small pieces here.
Under this rule one segmented lesion may find many: recall and precision are to be read beside
overlap and volumes.

Empty masks: without a lesion in the reference there is no recall, and without one in the
segmentation no precision, which is ``nan``; the challenge counts 1 there. F1 is 0 where either of
the two is 0, so also where only one of the masks has lesions, and else ``nan`` where one of the two
is. A difference in percent of a reference without lesions is ``nan``. Means leave ``nan`` out and
say how many.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import GeometryError, UsageError
from bids_deepmrseg.evaluation.lesion_results import LesionResult
from bids_deepmrseg.evaluation.metrics import Mask
from bids_deepmrseg.evaluation.results import Identity
from bids_deepmrseg.imaging.pieces import VOXEL_TOLERANCE, Counts, find_pieces

MM3_PER_ML = 1000.0


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Lesions from ``low_mm3`` up to, and without, ``high_mm3``."""

    name: str
    low_mm3: float
    high_mm3: float

    def holds(self, n_voxels: Counts, voxel_volume_mm3: float) -> Mask:
        """Which of the lesions with so many voxels are of this class."""
        volumes_mm3 = (n_voxels + VOXEL_TOLERANCE) * voxel_volume_mm3
        return (volumes_mm3 >= self.low_mm3) & (volumes_mm3 < self.high_mm3)


ALL_SIZES = "all"
SIZE_CLASSES = (
    SizeClass(ALL_SIZES, 0, math.inf),
    SizeClass("below 0.1 ml", 0, 100),
    SizeClass("0.1 to 1 ml", 100, 1000),
    SizeClass("1 ml and more", 1000, math.inf),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionCounts:
    """Lesions of a reference and of a segmentation, and how many of each the other one overlaps."""

    n_reference: int
    n_found: int
    n_segmented: int
    n_true: int

    @property
    def recall(self) -> float:
        """Share of the reference's lesions that are found; 1 is perfect."""
        return self.n_found / self.n_reference if self.n_reference else math.nan

    @property
    def precision(self) -> float:
        """Share of the segmented lesions that are true; 1 is perfect."""
        return self.n_true / self.n_segmented if self.n_segmented else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision; 1 is perfect."""
        recall, precision = self.recall, self.precision
        if 0 in (recall, precision):
            return 0.0
        return 2 * recall * precision / (recall + precision)


@dataclass(frozen=True, slots=True, eq=False)
class MatchedLesions:
    """The lesions of one mask, and which of them the other mask overlaps.

    Attributes
    ----------
    n_voxels
        Of each lesion, largest first.
    is_matched
        Whether it overlaps by as much as was asked for.
    """

    n_voxels: Counts
    is_matched: Mask

    def count(self, size: SizeClass, voxel_volume_mm3: float) -> tuple[int, int, float]:
        """Lesions of a class, how many of them are matched, and their volume in millilitres."""
        held = size.holds(self.n_voxels, voxel_volume_mm3)
        volume_ml = float(self.n_voxels[held].sum() * voxel_volume_mm3 / MM3_PER_ML)
        return int(held.sum()), int((held & self.is_matched).sum()), volume_ml


def match_lesions(mask: Mask, other: Mask, *, least_share: float = 0.0) -> MatchedLesions:
    """Take a mask apart into lesions, and see which of them overlap another mask.

    Parameters
    ----------
    mask, other
        ``(I, J, K)`` on one grid.
    least_share
        Share of a lesion's voxels that have to lie in ``other``, 0 to 1; one voxel in any case.

    Raises
    ------
    GeometryError
        If the shapes differ.
    UsageError
        If the share is none.
    """
    if mask.shape != other.shape:
        raise GeometryError(f"masks of {mask.shape} and {other.shape} cannot be compared")
    if not 0 <= least_share <= 1:
        raise UsageError(f"a lesion overlaps by a share from 0 to 1, not by {least_share}")
    pieces = find_pieces(mask)
    n_shared = np.bincount(pieces.labels[other], minlength=len(pieces) + 1)[1:]
    least: npt.NDArray[np.float64] = np.maximum(1, least_share * pieces.n_voxels)
    return MatchedLesions(pieces.n_voxels, n_shared >= least - VOXEL_TOLERANCE)


def compare_lesions(
    segmented: Mask,
    reference: Mask,
    voxel_volume_mm3: float,
    identity: Identity,
    *,
    least_share: float = 0.0,
    sizes: tuple[SizeClass, ...] = SIZE_CLASSES,
) -> Iterator[LesionResult]:
    """Compare two masks on one grid lesion by lesion, a row per class of size.

    Parameters
    ----------
    segmented, reference
        ``(I, J, K)`` masks.
    voxel_volume_mm3
        Of their grid.
    identity
        What the rows say that they are about.
    least_share
        As for :func:`match_lesions`, for both masks alike.
    sizes
        Classes of lesion volume. A lesion that is segmented too large may be of another class than
        in the reference: recall is of the reference's lesions of a class, precision of the
        segmentation's, and so are volumes.

    Raises
    ------
    GeometryError
        If the shapes differ.
    """
    wanted = match_lesions(reference, segmented, least_share=least_share)
    ours = match_lesions(segmented, reference, least_share=least_share)
    for size in sizes:
        n_reference, n_found, reference_ml = wanted.count(size, voxel_volume_mm3)
        n_segmented, n_true, volume_ml = ours.count(size, voxel_volume_mm3)
        counts = LesionCounts(
            n_reference=n_reference, n_found=n_found, n_segmented=n_segmented, n_true=n_true
        )
        yield LesionResult(
            **asdict(identity),
            size=size.name,
            least_share=least_share,
            n_reference=n_reference,
            n_found=n_found,
            n_segmented=n_segmented,
            n_true=n_true,
            recall=counts.recall,
            precision=counts.precision,
            f1=counts.f1,
            volume_ml=volume_ml,
            reference_volume_ml=reference_ml,
            volume_difference_percent=volume_difference_percent(volume_ml, reference_ml),
        )


def volume_difference_percent(volume_ml: float, reference_volume_ml: float) -> float:
    """Absolute difference of volumes in percent of the reference; ``nan`` without a reference."""
    if not reference_volume_ml:
        return math.nan
    return 100 * abs(volume_ml - reference_volume_ml) / reference_volume_ml
