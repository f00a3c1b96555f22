"""Distances between surfaces, worked out by hand on cubes, and their laws."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.evaluation.surface import NO_SURFACE, surface_distance

Mask = npt.NDArray[np.bool_]
MASKS = arrays(np.bool_, (3, 4, 5))
SPACING_MM = (1.0, 2.0, 3.0)


def box(*corner: int, size: int = 1) -> Mask:
    mask = np.zeros((12, 12, 12), dtype=bool)
    i, j, k = corner
    mask[i : i + size, j : j + size, k : k + size] = True
    return mask


@pytest.mark.parametrize(("axis", "apart_mm"), [(0, 4.0), (1, 8.0), (2, 12.0)])
def test_two_voxels_are_as_far_apart_as_their_centres(axis: int, apart_mm: float) -> None:
    corner = [2, 2, 2]
    corner[axis] += 4
    found = surface_distance(box(2, 2, 2), box(*corner), SPACING_MM)
    assert found.hd95_mm == found.asd_mm == pytest.approx(apart_mm)


def test_a_diagonal_is_measured_in_millimetres() -> None:
    found = surface_distance(box(0, 0, 0), box(3, 2, 0), SPACING_MM)
    assert found.hd95_mm == pytest.approx(5.0)


def test_a_shifted_cube() -> None:
    """Of the 26 surface voxels of a cube of 3, shifted by one, 10 are 1 mm away, 16 shared."""
    ours, theirs = box(2, 2, 2, size=3), box(3, 2, 2, size=3)
    surface = {(i, j, k) for i in range(3) for j in range(3) for k in range(3)} - {(1, 1, 1)}
    other = {(i + 1, j, k) for i, j, k in surface}
    there = [min(math.dist(a, b) for b in other) for a in surface]
    # 9 voxels of the face that sticks out, and the middle of the face that lies inside the other
    assert sorted(there) == [0.0] * 16 + [1.0] * 10
    found = surface_distance(ours, theirs, (1.0, 1.0, 1.0))
    assert found.asd_mm == pytest.approx(10 / 26)
    assert found.hd95_mm == pytest.approx(1.0)


def test_one_stray_voxel_in_many_moves_the_mean_and_not_the_95th_percentile() -> None:
    cube = box(2, 2, 2, size=3)  # 26 surface voxels
    stray = cube | box(10, 3, 3)
    found = surface_distance(stray, cube, (1.0, 1.0, 1.0))
    # nearest of the cube to (10, 3, 3) is (4, 3, 3), 6 mm away; all other distances are 0
    assert found.asd_mm == pytest.approx(6 / (27 + 26))
    assert found.hd95_mm == 0


def test_the_direction_with_the_larger_percentile_counts() -> None:
    """From the far half of the points to the cube it is far, from the cube to them it is not."""
    near, far = box(0, 0, 0), box(10, 0, 0)
    assert surface_distance(near | far, near, (1.0, 1.0, 1.0)).hd95_mm == pytest.approx(9.5)
    assert surface_distance(near, near | far, (1.0, 1.0, 1.0)).hd95_mm == pytest.approx(9.5)


def test_a_mask_at_the_edge_of_the_scan_has_a_surface_there() -> None:
    whole = np.ones((3, 3, 3), dtype=bool)
    found = surface_distance(whole, np.pad(np.ones((1, 1, 1), bool), 1), (1.0, 1.0, 1.0))
    assert found.hd95_mm == pytest.approx(math.sqrt(3))


def test_without_a_voxel_there_is_no_distance() -> None:
    nothing = np.zeros((12, 12, 12), dtype=bool)
    some = box(1, 1, 1)
    for segmented, reference in ((nothing, nothing), (nothing, some), (some, nothing)):
        found = surface_distance(segmented, reference, SPACING_MM)
        assert found is NO_SURFACE
        assert math.isnan(found.hd95_mm)
        assert math.isnan(found.asd_mm)


@given(MASKS, MASKS)
def test_it_does_not_matter_which_one_is_the_reference(a: Mask, b: Mask) -> None:
    there, back = surface_distance(a, b, SPACING_MM), surface_distance(b, a, SPACING_MM)
    np.testing.assert_allclose(there.hd95_mm, back.hd95_mm)
    np.testing.assert_allclose(there.asd_mm, back.asd_mm)


@given(MASKS)
def test_a_mask_lies_on_itself(mask: Mask) -> None:
    if mask.any():
        found = surface_distance(mask, mask, SPACING_MM)
        assert (found.hd95_mm, found.asd_mm) == (0, 0)


def test_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(GeometryError, match="cannot be compared"):
        surface_distance(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), SPACING_MM)
