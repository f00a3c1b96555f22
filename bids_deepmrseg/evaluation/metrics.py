"""Agreement of a segmentation with a reference (paper, section 4).

Empty masks: a structure that neither reference nor segmentation shows was not measured and is
``nan``. Where only one of them shows it, F1 and F2 are 0; balanced accuracy is 0.5 where the
segmentation lacks it (all of the background is right), and 0 where the reference does. Means leave
``nan`` out and say how many.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import GeometryError

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Voxels on which a segmentation and its reference agree and differ."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def f1(self) -> float:
        """Dice coefficient, ``2 TP / (2 TP + FP + FN)``; 1 is perfect (Dice 1945)."""
        return _ratio(
            2 * self.true_positive,
            2 * self.true_positive + self.false_positive + self.false_negative,
        )

    @property
    def f2(self) -> float:
        """``5 TP / (5 TP + 4 FN + FP)``: misses weigh more than false alarms; 1 is perfect."""
        return _ratio(
            5 * self.true_positive,
            5 * self.true_positive + 4 * self.false_negative + self.false_positive,
        )

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity over the whole scan; 1 is perfect."""
        sensitivity = _ratio(self.true_positive, self.true_positive + self.false_negative)
        specificity = _ratio(self.true_negative, self.true_negative + self.false_positive)
        if math.isnan(sensitivity) and self.false_positive:
            return 0.0
        return (sensitivity + specificity) / 2


def _ratio(part: int, whole: int) -> float:
    """``part / whole``, ``nan`` for nothing out of nothing."""
    return part / whole if whole else math.nan


def overlap(segmented: Mask, reference: Mask) -> Overlap:
    """Count agreement voxel by voxel.

    Parameters
    ----------
    segmented, reference
        Masks of the same shape.

    Raises
    ------
    GeometryError
        If the shapes differ.
    """
    if segmented.shape != reference.shape:
        raise GeometryError(f"masks of {segmented.shape} and {reference.shape} cannot be compared")
    n_both = int(np.count_nonzero(segmented & reference))
    n_segmented = int(np.count_nonzero(segmented))
    n_reference = int(np.count_nonzero(reference))
    return Overlap(
        true_positive=n_both,
        false_positive=n_segmented - n_both,
        false_negative=n_reference - n_both,
        true_negative=segmented.size - n_segmented - n_reference + n_both,
    )


def concordance(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> float:
    """Concordance correlation coefficient rho_c of two sets of volumes; 1 is perfect.

    Parameters
    ----------
    x, y
        ``(n,)`` volumes of the same subjects.

    Returns
    -------
    float
        ``2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2)`` with variances over ``n`` (Lin 1989,
        doi:10.2307/2532051); ``nan`` for fewer than two subjects or when nothing varies.
    """
    if len(x) != len(y):
        raise GeometryError(f"{len(x)} and {len(y)} volumes cannot be paired")
    if len(x) < 2:
        return math.nan
    covariance = float(np.mean((x - x.mean()) * (y - y.mean())))
    spread = float(x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    return 2 * covariance / spread if spread else math.nan
