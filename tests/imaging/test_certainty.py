"""Figures of certainty agree with what can be counted by hand."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from bids_deepmrseg.imaging.certainty import (
    Winners,
    border_entropy_bits,
    label_probability,
    mean_agreement,
    soft_dice,
    winners,
)


def line(*values: float) -> npt.NDArray[np.float32]:
    """A volume of one row of voxels."""
    return np.array(values, np.float32).reshape(-1, 1, 1)


def row(*values: int) -> Winners:
    return np.array(values, np.uint16).reshape(-1, 1, 1)


def test_a_label_of_two_classes_wins_by_their_sum_and_the_background_wins_ties() -> None:
    background, whole, part = line(0.4, 0.5, 0.2), line(0.3, 0.5, 0.1), line(0.3, 0.0, 0.7)
    probabilities = np.stack([background, whole, part])
    np.testing.assert_array_equal(winners(probabilities, ((1, 2),)).ravel(), [1, 0, 1])
    np.testing.assert_array_equal(winners(probabilities, ((1,), (2,))).ravel(), [0, 0, 2])
    np.testing.assert_allclose(
        label_probability(probabilities, (1, 2)).ravel(), [0.6, 0.5, 0.8], rtol=1e-6
    )


def test_agreement_is_the_mean_dice_over_pairs_of_different_views() -> None:
    answers = [
        ("axial", row(1, 1, 1, 0, 2)),
        ("axial", row(0, 0, 0, 0, 0)),  # never compared with the other axial one
        ("coronal", row(1, 1, 0, 0, 0)),
    ]
    first = 2 * 2 / (3 + 2)  # axial with coronal; the empty answer with coronal is 0
    found = mean_agreement(answers, 3)
    assert found[:2].tolist() == pytest.approx([first / 2, 0.0])
    assert math.isnan(found[2])  # nobody shows the third label


def test_answers_of_one_view_are_compared_where_there_are_no_others() -> None:
    found = mean_agreement([("axial", row(1, 1, 0)), ("axial", row(1, 0, 0))], 1)
    assert found.tolist() == pytest.approx([2 / 3])


def test_one_answer_agrees_with_nobody() -> None:
    assert np.isnan(mean_agreement([("axial", row(1, 0))], 2)).all()


def test_soft_dice_is_the_dice_that_is_expected() -> None:
    """Of two voxels in the mask 1.7 are right, and 0.3 lie outside: 2 * 1.7 / (2.0 + 2)."""
    probability = line(0.9, 0.8, 0.3, 0.0)
    assert soft_dice(probability, probability > 0.5) == pytest.approx(0.85)
    assert soft_dice(line(1, 1, 0), line(1, 1, 0) > 0) == 1
    assert soft_dice(line(0.4, 0), line(0, 0) > 0) == 0
    assert math.isnan(soft_dice(line(0, 0), line(0, 0) > 0))


def test_border_entropy_is_of_voxels_on_both_sides_of_the_border() -> None:
    mask = line(0, 0, 1, 1, 1) > 0
    assert border_entropy_bits(line(0.5, 0.0, 1.0, 0.5, 0.5), mask) == pytest.approx(0, abs=1e-9)
    assert border_entropy_bits(line(0.0, 0.5, 0.5, 1.0, 1.0), mask) == pytest.approx(1)
    quarter = 2 - 0.75 * math.log2(3)  # bits of a coin that falls one way a quarter of the time
    assert border_entropy_bits(line(0, 0.25, 1, 1, 1), mask) == pytest.approx(quarter / 2)
    assert math.isnan(border_entropy_bits(line(0.5, 0.5), line(1, 1) > 0))
