"""Gaps between voxels and a mask are measured in scanner space, from edge to edge."""

import math

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.distance import gaps_mm
from bids_deepmrseg.imaging.grid import Grid
from tests.makers import GEOMETRIES, make_grid

Mask = npt.NDArray[np.bool_]
SHAPE = (5, 6, 4)
SPACING_MM = (0.9, 1.1, 7.0)


def tilted(spacing_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    """A grid whose axes lie across all three directions of scanner space."""
    angle, tilt = np.deg2rad(25), np.deg2rad(-15)
    around_z = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    around_x = [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(around_z) @ np.array(around_x) * np.array(spacing_mm)
    affine[:3, 3] = (-40, 17, 80)
    return Grid(shape, affine)


def by_hand(voxel: npt.NDArray[np.intp], mask: Mask) -> float:
    """The least gap between two boxes, axis by axis, over all voxels of the mask."""
    return min(
        math.hypot(
            *(max(0, abs(a - b) - 1) * mm for a, b, mm in zip(u, voxel, SPACING_MM, strict=True))
        )
        for u in np.argwhere(mask)
    )


@given(arrays(np.bool_, SHAPE, elements=st.sampled_from((False, False, False, True))))
def test_gaps_are_those_between_boxes_on_thick_and_tilted_slices(mask: Mask) -> None:
    if not mask.any():
        return
    voxels = np.argwhere(np.ones(SHAPE, dtype=bool))
    found = gaps_mm(voxels, mask, tilted(SPACING_MM, SHAPE))
    np.testing.assert_allclose(found, [by_hand(v, mask) for v in voxels], atol=1e-9)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_three_voxels_further_two_lie_between_on_every_grid(geometry: str, axis: int) -> None:
    grid = make_grid(geometry)
    middle = [n // 2 for n in grid.shape]
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(middle)] = True
    middle[axis] += 3
    (found,) = gaps_mm(np.array([middle]), mask, grid)
    assert found == pytest.approx(2 * grid.spacing_mm[axis])


def test_touching_by_a_corner_and_lying_inside_are_no_distance() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2, 2, 2] = True
    found = gaps_mm(np.array([[2, 2, 2], [3, 3, 3], [2, 2, 3]]), mask, tilted(SPACING_MM, SHAPE))
    assert found.tolist() == [0, 0, 0]


def test_a_mask_at_the_rim_of_the_scan_is_measured_too() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[0, 0, 0] = True
    (found,) = gaps_mm(np.array([[4, 5, 3]]), mask, tilted(SPACING_MM, SHAPE))
    assert found == pytest.approx(math.hypot(3 * 0.9, 4 * 1.1, 2 * 7.0))


def test_nothing_is_at_no_distance() -> None:
    with pytest.raises(GeometryError, match="empty"):
        gaps_mm(np.array([[0, 0, 0]]), np.zeros(SHAPE, dtype=bool), make_grid())
