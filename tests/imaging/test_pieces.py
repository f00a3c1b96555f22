"""Pieces of a mask: what touches is one, sizes order them, small ones are counted."""

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.imaging.pieces import fewest_voxels_of, find_pieces

Mask = npt.NDArray[np.bool_]
MASKS = arrays(np.bool_, st.tuples(*[st.integers(1, 4)] * 3))


def mask_of(*voxels: tuple[int, int, int]) -> Mask:
    mask = np.zeros((7, 7, 7), dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


@pytest.mark.parametrize("other", [(3, 3, 4), (3, 4, 4), (4, 4, 4), (2, 4, 2)])
def test_voxels_that_touch_by_face_edge_or_corner_are_one_piece(
    other: tuple[int, int, int],
) -> None:
    assert find_pieces(mask_of((3, 3, 3), other)).n_voxels.tolist() == [2]


@pytest.mark.parametrize("other", [(3, 3, 5), (5, 4, 4), (1, 1, 1)])
def test_voxels_with_one_between_them_are_two_pieces(other: tuple[int, int, int]) -> None:
    assert find_pieces(mask_of((3, 3, 3), other)).n_voxels.tolist() == [1, 1]


def test_the_largest_piece_is_1_and_of_equals_the_first() -> None:
    mask = mask_of((0, 0, 0), (3, 3, 3), (3, 3, 4), (6, 6, 6))
    labels = find_pieces(mask).labels
    assert [int(labels[v]) for v in ((3, 3, 3), (3, 3, 4), (0, 0, 0), (6, 6, 6))] == [1, 1, 2, 3]


def test_small_pieces_are_left_out_and_counted() -> None:
    pieces = find_pieces(mask_of((0, 0, 0), (3, 3, 3), (3, 3, 4), (6, 6, 6)), fewest_voxels=2)
    assert (len(pieces), pieces.n_removed, pieces.n_removed_voxels) == (1, 2, 2)
    assert set(np.argwhere(pieces.labels).ravel().tolist()) == {3, 4}


def test_nothing_has_no_pieces() -> None:
    pieces = find_pieces(mask_of())
    assert (len(pieces), pieces.n_removed, pieces.n_removed_voxels) == (0, 0, 0)
    assert not pieces.labels.any()


@given(MASKS, st.integers(1, 5))
def test_no_voxel_is_lost_or_made_up(mask: Mask, fewest: int) -> None:
    pieces = find_pieces(mask, fewest_voxels=fewest)
    counts = np.bincount(pieces.labels.ravel(), minlength=len(pieces) + 1)[1:]
    np.testing.assert_array_equal(counts, pieces.n_voxels)
    assert pieces.n_voxels.sum() + pieces.n_removed_voxels == mask.sum()
    assert not (pieces.labels > 0)[~mask].any()
    assert (pieces.n_voxels >= fewest).all()
    assert (np.diff(pieces.n_voxels) <= 0).all()
    assert pieces.n_removed <= pieces.n_removed_voxels <= pieces.n_removed * (fewest - 1)


@given(MASKS, st.integers(1, 5))
def test_taking_apart_what_was_kept_changes_nothing(mask: Mask, fewest: int) -> None:
    once = find_pieces(mask, fewest_voxels=fewest)
    twice = find_pieces(once.labels > 0, fewest_voxels=fewest)
    np.testing.assert_array_equal(once.labels, twice.labels)
    assert twice.n_removed == 0


@pytest.mark.parametrize(
    ("smallest_mm3", "voxel_mm3", "fewest"),
    [
        (0, 5.67, 1),
        (5.67, 5.67, 1),
        (5.68, 5.67, 2),
        (3.0, 1.0, 3),
        (3.0, 0.99999994, 3),  # 1 mm, as single precision may have it
        (3.0, 1.0000001, 3),
        (10, 0.9 * 0.9 * 7, 2),
    ],
)
def test_a_volume_is_reached_by_whole_voxels(
    smallest_mm3: float, voxel_mm3: float, fewest: int
) -> None:
    assert fewest_voxels_of(smallest_mm3, voxel_mm3) == fewest
