"""Laws of the metrics, and figures that were worked out by hand."""

import math

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.evaluation.metrics import Overlap, concordance, overlap

Mask = npt.NDArray[np.bool_]
SHAPE = (3, 4, 5)
MASKS = arrays(np.bool_, SHAPE)
BY_HAND = Overlap(true_positive=6, false_positive=2, false_negative=4, true_negative=88)


def volumes(n: int) -> st.SearchStrategy[npt.NDArray[np.float64]]:
    return arrays(np.float64, n, elements=st.floats(0.1, 10))


@given(MASKS, MASKS)
def test_every_voxel_is_counted_once(segmented: Mask, reference: Mask) -> None:
    counts = overlap(segmented, reference)
    parts = (
        counts.true_positive,
        counts.false_positive,
        counts.false_negative,
        counts.true_negative,
    )
    assert min(parts) >= 0
    assert sum(parts) == segmented.size
    assert counts.true_positive + counts.false_negative == reference.sum()
    assert counts.true_positive + counts.false_positive == segmented.sum()


@given(MASKS, MASKS)
def test_scores_lie_between_0_and_1(segmented: Mask, reference: Mask) -> None:
    counts = overlap(segmented, reference)
    for score in (counts.f1, counts.f2, counts.balanced_accuracy):
        assert math.isnan(score) or 0 <= score <= 1


@given(MASKS)
def test_perfect_agreement_scores_1(mask: Mask) -> None:
    counts = overlap(mask, mask)
    if mask.any() and not mask.all():
        assert (counts.f1, counts.f2, counts.balanced_accuracy) == (1, 1, 1)


@given(MASKS, MASKS)
def test_f1_does_not_care_which_one_is_the_reference(a: Mask, b: Mask) -> None:
    np.testing.assert_equal(overlap(a, b).f1, overlap(b, a).f1)


@given(MASKS, st.integers(0, 2**32 - 1))
def test_scores_do_not_depend_on_where_voxels_lie(mask: Mask, seed: int) -> None:
    rng = np.random.default_rng(seed)
    other = rng.random(SHAPE) < 0.3
    order = rng.permutation(mask.size)
    shuffled = overlap(mask.ravel()[order], other.ravel()[order])
    assert shuffled == overlap(mask, other)


def test_figures_worked_out_by_hand() -> None:
    assert BY_HAND.f1 == pytest.approx(12 / 18)
    assert BY_HAND.f2 == pytest.approx(30 / (30 + 16 + 2))
    assert BY_HAND.balanced_accuracy == pytest.approx((6 / 10 + 88 / 90) / 2)


def test_f2_punishes_misses_more_than_false_alarms() -> None:
    misses = Overlap(true_positive=6, false_positive=0, false_negative=4, true_negative=90)
    alarms = Overlap(true_positive=6, false_positive=4, false_negative=0, true_negative=90)
    assert misses.f1 == alarms.f1
    assert misses.f2 < alarms.f2


def test_what_neither_shows_was_not_measured() -> None:
    nothing = np.zeros(SHAPE, dtype=bool)
    counts = overlap(nothing, nothing)
    assert math.isnan(counts.f1)
    assert math.isnan(counts.f2)
    assert math.isnan(counts.balanced_accuracy)


def test_what_only_one_of_them_shows_scores_0() -> None:
    nothing, something = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    something[1] = True
    for counts in (overlap(something, nothing), overlap(nothing, something)):
        assert counts.f1 == 0
        assert counts.f2 == 0
    assert overlap(something, nothing).balanced_accuracy == 0
    assert overlap(nothing, something).balanced_accuracy == 0.5


def test_masks_of_different_shape_cannot_be_compared() -> None:
    with pytest.raises(GeometryError, match="cannot be compared"):
        overlap(np.ones((2, 3), dtype=bool), np.ones((3, 2), dtype=bool))


# concordance


@given(volumes(6))
def test_equal_volumes_concord_perfectly(x: npt.NDArray[np.float64]) -> None:
    if np.ptp(x) > 1e-3:
        assert concordance(x, x) == pytest.approx(1)


@given(volumes(6), volumes(6))
def test_concordance_is_symmetric_and_at_most_correlation(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> None:
    if min(np.ptp(x), np.ptp(y)) < 1e-3:
        return
    rho = concordance(x, y)
    assert rho == pytest.approx(concordance(y, x))
    assert abs(rho) <= abs(np.corrcoef(x, y)[0, 1]) + 1e-9


@given(volumes(6), st.floats(0.5, 5))
def test_a_bias_lowers_concordance(x: npt.NDArray[np.float64], bias: float) -> None:
    if np.ptp(x) > 1e-3:
        assert concordance(x, x + 2 * bias) < concordance(x, x + bias) < 1


def test_concordance_worked_out_by_hand() -> None:
    x, y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 4.0])
    # means 2 and 8/3, variances 2/3 and 8/9, covariance 2/3
    assert concordance(x, y) == pytest.approx(2 * (2 / 3) / (2 / 3 + 8 / 9 + 4 / 9))


def test_concordance_of_too_little_is_unknown() -> None:
    assert math.isnan(concordance(np.array([1.0]), np.array([1.0])))
    assert math.isnan(concordance(np.ones(4), np.ones(4)))
    with pytest.raises(GeometryError, match="cannot be paired"):
        concordance(np.ones(3), np.ones(4))
