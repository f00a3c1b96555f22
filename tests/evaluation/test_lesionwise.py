"""Lesions found and made up, counted by hand, and the laws of the counts."""

import math

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.errors import GeometryError, UsageError
from bids_deepmrseg.evaluation.lesion_results import LesionResult
from bids_deepmrseg.evaluation.lesionwise import (
    ALL_SIZES,
    SIZE_CLASSES,
    LesionCounts,
    SizeClass,
    compare_lesions,
    match_lesions,
    volume_difference_percent,
)
from tests.evaluation.made import IDENTITY

Mask = npt.NDArray[np.bool_]
SHAPE = (10, 10, 6)
VOXEL_MM3 = 0.9 * 0.9 * 7.0
MASKS = arrays(np.bool_, (4, 5, 3))
NOTHING = np.zeros(SHAPE, dtype=bool)


def mask_of(*boxes: tuple[slice, slice, slice]) -> Mask:
    mask = np.zeros(SHAPE, dtype=bool)
    for box in boxes:
        mask[box] = True
    return mask


def box(i: int, j: int, k: int, *, n: int = 1) -> tuple[slice, slice, slice]:
    """A row of ``n`` voxels along the second axis."""
    return slice(i, i + 1), slice(j, j + n), slice(k, k + 1)


def compared(
    segmented: Mask,
    reference: Mask,
    *,
    least_share: float = 0.0,
    voxel_volume_mm3: float = VOXEL_MM3,
) -> dict[str, LesionResult]:
    rows = compare_lesions(
        segmented, reference, voxel_volume_mm3, IDENTITY, least_share=least_share
    )
    return {row.size: row for row in rows}


# Three lesions of the reference: hit by one voxel, missed, and hit by two pieces. Four segmented:
# three of them touch the reference, and one is made up.
REFERENCE = mask_of(box(0, 0, 0, n=4), box(4, 0, 0, n=2), box(8, 0, 3, n=8))
SEGMENTED = mask_of(box(0, 3, 0, n=3), box(8, 0, 3, n=2), box(8, 5, 3, n=3), box(4, 6, 5))


def test_counts_by_hand() -> None:
    row = compared(SEGMENTED, REFERENCE)[ALL_SIZES]
    assert (row.n_reference, row.n_found) == (3, 2)
    assert (row.n_segmented, row.n_true) == (4, 3)
    assert row.recall == pytest.approx(2 / 3)
    assert row.precision == pytest.approx(3 / 4)
    assert row.f1 == pytest.approx(2 * (2 / 3) * (3 / 4) / (2 / 3 + 3 / 4))
    assert row.reference_volume_ml == pytest.approx(14 * VOXEL_MM3 / 1000)
    assert row.volume_ml == pytest.approx(9 * VOXEL_MM3 / 1000)
    assert row.volume_difference_percent == pytest.approx(100 * 5 / 14)
    assert row.scan == IDENTITY.scan


@pytest.mark.parametrize(
    ("least_share", "n_found", "n_true"),
    [(0.0, 2, 3), (0.25, 2, 3), (0.26, 1, 3), (0.34, 1, 2), (0.625, 1, 2), (0.63, 0, 2), (1, 0, 2)],
)
def test_a_larger_share_may_be_asked_for(least_share: float, n_found: int, n_true: int) -> None:
    """Found by 1 of 4 and by 5 of 8 voxels; true by 1 of 3, by all and by all."""
    row = compared(SEGMENTED, REFERENCE, least_share=least_share)[ALL_SIZES]
    assert (row.n_found, row.n_true) == (n_found, n_true)
    assert row.least_share == least_share


def test_lesions_that_touch_by_a_corner_count_once() -> None:
    reference = mask_of(box(0, 0, 0), box(1, 1, 1))
    row = compared(reference, reference)[ALL_SIZES]
    assert (row.n_reference, row.n_found, row.n_segmented) == (1, 1, 1)


def test_lesions_that_touch_each_other_only_across_masks_are_not_found() -> None:
    row = compared(mask_of(box(0, 1, 0)), mask_of(box(0, 0, 0)))[ALL_SIZES]
    assert (row.recall, row.precision, row.f1) == (0, 0, 0)
    assert row.volume_difference_percent == 0  # as large, and elsewhere


def test_one_segmented_lesion_may_find_many_which_volumes_show() -> None:
    row = compared(~NOTHING, mask_of(box(0, 0, 0), box(5, 5, 5)))[ALL_SIZES]
    assert (row.recall, row.precision) == (1, 1)
    assert row.volume_difference_percent > 10000


def test_recall_is_of_the_sizes_of_the_reference_and_precision_of_our_own() -> None:
    """A lesion of 113 mm3 in the reference, found by one of 57 mm3, and 40 mm3 made up."""
    reference, segmented = mask_of(box(0, 0, 0, n=10)), mask_of(box(0, 0, 0, n=5))
    reference |= mask_of(box(2, 0, 0, n=10), box(3, 0, 0, n=10))  # 113 mm3
    segmented |= mask_of(box(2, 0, 0, n=5), box(8, 0, 5, n=7))
    rows = compared(segmented, reference)
    small, middle, large = (rows[size.name] for size in SIZE_CLASSES[1:])
    assert (small.n_reference, small.n_found, small.n_segmented, small.n_true) == (1, 1, 3, 2)
    assert (middle.n_reference, middle.n_found, middle.n_segmented) == (1, 1, 0)
    assert middle.recall == 1
    assert math.isnan(middle.precision)
    assert math.isnan(middle.f1)  # neither bad nor good: there is nothing of that size to judge
    assert (large.n_reference, large.n_segmented) == (0, 0)


def test_a_size_that_only_the_reference_has_and_nobody_found_scores_0() -> None:
    row = compared(mask_of(box(0, 0, 5)), mask_of((slice(5, 9), slice(0, 9), slice(0, 1))))
    middle = row["0.1 to 1 ml"]
    assert (middle.n_reference, middle.recall, middle.f1) == (1, 0, 0)


@pytest.mark.parametrize(
    ("n_voxels", "voxel_mm3", "name"),
    [
        (99, 1.0, "below 0.1 ml"),
        (100, 1.0, "0.1 to 1 ml"),
        (100, 0.99999994, "0.1 to 1 ml"),  # 1 mm, as single precision may have it
        (1000, 0.99999994, "1 ml and more"),
        (17, VOXEL_MM3, "below 0.1 ml"),
        (18, VOXEL_MM3, "0.1 to 1 ml"),
    ],
)
def test_classes_meet_without_gap_or_overlap(n_voxels: int, voxel_mm3: float, name: str) -> None:
    sizes = np.array([n_voxels])
    held = [size.name for size in SIZE_CLASSES[1:] if size.holds(sizes, voxel_mm3).all()]
    assert held == [name]


# empty masks


def test_what_neither_shows_was_not_measured() -> None:
    for row in compared(NOTHING, NOTHING).values():
        assert (row.n_reference, row.n_segmented, row.volume_ml) == (0, 0, 0)
        for value in (row.recall, row.precision, row.f1, row.volume_difference_percent):
            assert math.isnan(value)


def test_a_segmentation_without_lesions_finds_none() -> None:
    row = compared(NOTHING, REFERENCE)[ALL_SIZES]
    assert (row.recall, row.f1, row.volume_difference_percent) == (0, 0, 100)
    assert math.isnan(row.precision)


def test_a_reference_without_lesions_makes_every_lesion_untrue() -> None:
    row = compared(SEGMENTED, NOTHING)[ALL_SIZES]
    assert (row.precision, row.f1) == (0, 0)
    assert math.isnan(row.recall)
    assert math.isnan(row.volume_difference_percent)  # no percentage of nothing


def test_differences_have_no_sign() -> None:
    assert volume_difference_percent(3, 2) == volume_difference_percent(1, 2) == 50


# laws


@given(MASKS)
def test_a_mask_finds_all_of_itself(mask: Mask) -> None:
    row = compared(mask, mask)[ALL_SIZES]
    if mask.any():
        assert (row.recall, row.precision, row.f1) == (1, 1, 1)
        assert row.volume_difference_percent == 0


@given(MASKS, MASKS, st.floats(0, 1))
def test_exchanging_the_masks_exchanges_recall_and_precision(
    a: Mask, b: Mask, least_share: float
) -> None:
    there = compared(a, b, least_share=least_share)
    back = compared(b, a, least_share=least_share)
    for size, row in there.items():
        np.testing.assert_equal(row.recall, back[size].precision)
        np.testing.assert_allclose(row.f1, back[size].f1)
        assert row.volume_ml == back[size].reference_volume_ml


@given(MASKS, MASKS)
def test_classes_add_up_to_all(segmented: Mask, reference: Mask) -> None:
    rows = compared(segmented, reference, voxel_volume_mm3=40.0)
    whole = rows.pop(ALL_SIZES)
    for count in ("n_reference", "n_found", "n_segmented", "n_true"):
        assert sum(getattr(row, count) for row in rows.values()) == getattr(whole, count)
    assert sum(row.volume_ml for row in rows.values()) == pytest.approx(whole.volume_ml)
    assert whole.volume_ml == pytest.approx(segmented.sum() * 0.04)


@given(MASKS, MASKS, st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_asking_for_more_finds_no_more(
    segmented: Mask, reference: Mask, shares: tuple[float, float]
) -> None:
    low, high = (compared(segmented, reference, least_share=x)[ALL_SIZES] for x in sorted(shares))
    assert high.n_found <= low.n_found <= low.n_reference
    assert high.n_true <= low.n_true <= low.n_segmented


@given(*[st.integers(0, 5)] * 4)
def test_scores_lie_between_0_and_1(n_found: int, n_missed: int, n_true: int, n_wrong: int) -> None:
    counts = LesionCounts(
        n_reference=n_found + n_missed,
        n_found=n_found,
        n_segmented=n_true + n_wrong,
        n_true=n_true,
    )
    for score in (counts.recall, counts.precision, counts.f1):
        assert math.isnan(score) or 0 <= score <= 1


# refusals


def test_masks_of_different_shape_cannot_be_compared() -> None:
    with pytest.raises(GeometryError, match="cannot be compared"):
        match_lesions(np.ones((2, 3, 2), dtype=bool), np.ones((3, 2, 2), dtype=bool))


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="share"):
        match_lesions(NOTHING, NOTHING, least_share=share)


def test_other_classes_can_be_asked_for() -> None:
    whole = SizeClass("any", 0, math.inf)
    (row,) = compare_lesions(SEGMENTED, REFERENCE, 1.0, IDENTITY, sizes=(whole,))
    assert (row.size, row.n_reference) == ("any", 3)
