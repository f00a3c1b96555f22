"""A registration is doubted for each reason there is, and for no other."""

from dataclasses import replace

import numpy as np
import pytest

from bids_deepmrseg.imaging.alignment import rigid_about
from bids_deepmrseg.imaging.nifti import Scan
from bids_deepmrseg.imaging.registration import Pair, Registration, doubted, judged
from tests.makers import make_grid, make_head

GOOD = Registration(
    matrix=np.eye(4),
    start="header",
    metric_before=0.5,
    metric_after=0.8,
    converged=True,
    overlap_before=0.7,
    overlap_after=0.95,
    covered=1.0,
    moved_mm=6.0,
    turned_deg=3.0,
    doubt=None,
)


def pair() -> Pair:
    grid = make_grid("RAS")
    mask = make_head(grid) > 60
    scan = Scan(make_head(grid), grid)
    return Pair(scan, scan, mask, mask)


def test_a_good_registration_is_not_doubted() -> None:
    assert doubted(GOOD).doubt is None


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (replace(GOOD, metric_after=0.3), "agree less"),
        (replace(GOOD, moved_mm=55.0), "55 mm"),
        (replace(GOOD, turned_deg=40.0), "40 degrees"),
        (replace(GOOD, overlap_after=0.41), "Dice of 0.41"),
        (replace(GOOD, covered=0.3), "30%"),
        (replace(GOOD, converged=False), "not settled"),
    ],
)
def test_each_reason_for_doubt_is_a_sentence(found: Registration, word: str) -> None:
    doubt = doubted(found).doubt
    assert doubt is not None
    assert word in doubt
    assert doubt.startswith("the registration is doubtful: ")


def test_the_header_is_believed_where_the_search_found_nothing_better_next_to_it() -> None:
    near = rigid_about((0, 0, 0), np.eye(3), (0.5, 0, 0))
    kept = judged(pair(), near, "heads", (0.8, 0.79), converged=True)
    np.testing.assert_array_equal(kept.matrix, np.eye(4))
    assert (kept.start, kept.metric_after, kept.moved_mm) == ("header", 0.8, 0.0)
    assert kept.doubt is None


def test_a_movement_smaller_than_registrations_differ_is_not_made() -> None:
    tiny = rigid_about((0, 0, 0), np.eye(3), (0.4, 0, 0))
    kept = judged(pair(), tiny, "heads", (0.8, 0.81), converged=True)
    np.testing.assert_array_equal(kept.matrix, np.eye(4))
    larger = judged(pair(), 1.5 * tiny - 0.5 * np.eye(4), "heads", (0.8, 0.81), converged=True)
    assert larger.moved_mm == pytest.approx(0.6)


def test_something_worse_far_from_the_header_is_not_believed_and_doubted() -> None:
    far = rigid_about((0, 0, 0), np.eye(3), (9.0, 0, 0))
    kept = judged(pair(), far, "heads", (0.8, 0.6), converged=True)
    np.testing.assert_array_equal(kept.matrix, np.eye(4))
    assert (kept.moved_mm, kept.metric_after, kept.overlap_after) == (0, 0.8, 1)
    assert kept.doubt is not None
    assert "agree less by the movement that was found (mutual information 0.60)" in kept.doubt
    assert "headers (0.80), which are believed" in kept.doubt


def test_overlap_before_and_after_are_those_of_header_and_matrix() -> None:
    away = rigid_about((0, 0, 0), np.eye(3), (16.0, 0, 0))
    found = judged(pair(), away, "header", (0.5, 0.8), converged=True)
    assert found.overlap_before == 1
    assert found.overlap_after < 0.95
    assert found.turned_deg == 0
    assert found.covered > 0.9
