"""Laws of grids: whatever is done to an array can be undone, and nothing moves in space."""

import itertools

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.grid import (
    Crop,
    Grid,
    Placement,
    crop_to,
    plan_resampling,
    to_ras,
)
from tests.makers import make_grid

Array = npt.NDArray[np.float64]

SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
SPACINGS_MM = (0.5, 0.67, 0.94, 1.0, 1.2, 2.0, 3.0)


def affine_of(
    rotation: Array, spacing_mm: tuple[float, ...], origin_mm: tuple[float, ...]
) -> Array:
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array(spacing_mm)
    affine[:3, 3] = origin_mm
    return affine


def turned_by(degrees: tuple[float, float, float]) -> Array:
    """A rotation about each axis in turn."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        rotation = step @ rotation
    return rotation


@st.composite
def grids(draw: st.DrawFn, *, least: int = 1, most: int = 6, oblique: bool = True) -> Grid:
    """A grid with any of the 48 axis orders, anisotropic, and perhaps turned a little."""
    i, j, k = draw(st.tuples(*[st.integers(least, most)] * 3))
    spacing_mm = draw(st.tuples(*[st.sampled_from(SPACINGS_MM)] * 3))
    origin_mm = draw(st.tuples(*[st.integers(-90, 90)] * 3))
    rotation = draw(st.sampled_from(SIGNED_PERMUTATIONS))
    if oblique:
        rotation = turned_by(draw(st.tuples(*[st.floats(-14, 14)] * 3))) @ rotation
    return Grid((i, j, k), affine_of(rotation, spacing_mm, origin_mm))


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[npt.NDArray[np.uint8], Grid]:
    grid = draw(grids())
    return draw(arrays(np.uint8, grid.shape)), grid


def xyz_mm(grid: Grid) -> Array:
    """World coordinates ``(3, I, J, K)`` of every voxel centre."""
    ijk = np.indices(grid.shape).reshape(3, -1)
    points: Array = grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]
    return points.reshape(3, *grid.shape)


def middle_mm(grid: Grid) -> Array:
    """World coordinates of the middle of a grid."""
    middle: Array = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    return middle


def centre_of_mass_mm(data: npt.NDArray[np.floating], grid: Grid) -> Array:
    weighted: Array = (xyz_mm(grid) * data).sum(axis=(1, 2, 3)) / data.sum(dtype=float)
    return weighted


def place(grid: Grid, spacing_mm: float, crop: Crop | None = None) -> Placement:
    """The placement of a model grid, cut or whole."""
    _, turn = to_ras(np.zeros(grid.shape, np.uint8), grid)
    resampling = plan_resampling(turn.turned, spacing_mm)
    full = resampling.target.shape
    return Placement(turn, resampling, crop or Crop(full, (0, 0, 0), full))


# turning


@given(label_maps())
def test_turn_and_undo_is_the_identity_bit_for_bit(
    image: tuple[npt.NDArray[np.uint8], Grid],
) -> None:
    data, grid = image
    turned, turn = to_ras(data, grid)
    np.testing.assert_array_equal(turn.undo(turned), data)


@given(label_maps())
def test_turning_moves_no_voxel_in_space(image: tuple[npt.NDArray[np.uint8], Grid]) -> None:
    data, grid = image
    turned, turn = to_ras(data, grid)
    before = np.vstack([xyz_mm(grid).reshape(3, -1), data.reshape(1, -1)]).round(6) + 0.0
    after = np.vstack([xyz_mm(turn.turned).reshape(3, -1), turned.reshape(1, -1)]).round(6) + 0.0
    order = [np.lexsort(np.round(points, 3)) for points in (before, after)]
    np.testing.assert_allclose(before[:, order[0]], after[:, order[1]], atol=1e-5)


@pytest.mark.parametrize("rotation", SIGNED_PERMUTATIONS)
def test_all_48_axis_orders_turn_to_ras(rotation: Array) -> None:
    grid = Grid((3, 4, 5), affine_of(rotation, (1, 2, 3), (0, 0, 0)))
    _, turn = to_ras(np.zeros(grid.shape, np.uint8), grid)
    assert turn.turned.orientation == "RAS"
    assert sorted(turn.turned.shape) == [3, 4, 5]


def test_the_48_orders_are_distinct() -> None:
    orders = {
        Grid((2, 2, 2), affine_of(r, (1, 1, 1), (0, 0, 0))).orientation for r in SIGNED_PERMUTATIONS
    }
    assert len(orders) == 48


def test_an_array_of_another_shape_is_refused() -> None:
    grid = make_grid("odd")
    _, turn = to_ras(np.zeros(grid.shape, np.uint8), grid)
    with pytest.raises(GeometryError, match="not on its grid"):
        to_ras(np.zeros((3, 3, 3), np.uint8), grid)
    with pytest.raises(GeometryError, match="expected"):
        turn.undo(np.zeros((3, 3, 3), np.uint8))


# grids


@given(grids())
def test_volume_of_a_voxel_is_the_product_of_its_edges(grid: Grid) -> None:
    assert grid.voxel_volume_mm3 == pytest.approx(np.prod(grid.spacing_mm))


@given(grids(), st.floats(0.01, 3))
def test_a_moved_grid_does_not_match(grid: Grid, by_mm: float) -> None:
    moved = grid.affine.copy()
    moved[1, 3] += by_mm
    assert grid.matches(Grid(grid.shape, grid.affine.copy()))
    assert not grid.matches(Grid(grid.shape, moved))
    assert not grid.matches(Grid((grid.shape[0] + 1, *grid.shape[1:]), grid.affine))


def test_a_small_turn_that_moves_only_the_far_corner_does_not_match() -> None:
    grid = Grid((200, 200, 200), np.eye(4))
    affine = np.eye(4)
    affine[:3, :3] = turned_by((0, 0, 0.01))
    assert not grid.matches(Grid(grid.shape, affine))


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
)
def test_a_singular_affine_is_refused(affine: Array) -> None:
    with pytest.raises(GeometryError, match="singular"):
        Grid((2, 2, 2), affine)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_affine_that_is_no_number_is_refused(bad: float) -> None:
    affine = np.eye(4)
    affine[0, 3] = bad
    with pytest.raises(GeometryError, match="finite"):
        Grid((2, 2, 2), affine)


def test_a_grid_has_three_axes() -> None:
    with pytest.raises(GeometryError, match="finite"):
        Grid((2, 2, 2), np.eye(3))
    with pytest.raises(GeometryError, match="one voxel or more"):
        Grid((2, 0, 2), np.eye(4))


# cropping


@given(arrays(np.bool_, st.tuples(*[st.integers(1, 7)] * 3)), st.integers(0, 3))
def test_a_crop_holds_the_whole_mask_and_undoes(mask: npt.NDArray[np.bool_], margin: int) -> None:
    if not mask.any():
        with pytest.raises(GeometryError, match="empty"):
            crop_to(mask, margin=margin)
        return
    crop = crop_to(mask, margin=margin)
    np.testing.assert_array_equal(crop.undo(crop.apply(mask)), mask)


@given(arrays(np.int16, st.tuples(*[st.integers(1, 7)] * 3)), st.data())
def test_outside_of_a_crop_there_is_the_fill(
    values: npt.NDArray[np.int16], data: st.DataObject
) -> None:
    pairs = [
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        for n in values.shape
    ]
    (i0, i1), (j0, j1), (k0, k1) = pairs
    i, j, k = values.shape
    crop = Crop((i, j, k), (i0, j0, k0), (i1, j1, k1))
    back = crop.undo(crop.apply(values), fill=-5)
    np.testing.assert_array_equal(back[crop.slices], values[crop.slices])
    back[crop.slices] = -5
    assert (back == -5).all()


def test_a_crop_has_the_margin_where_there_is_room() -> None:
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[1, 5:7, 9] = True
    crop = crop_to(mask, margin=2)
    assert (crop.start, crop.stop) == ((0, 3, 7), (4, 9, 10))


def test_a_crop_keeps_leading_axes() -> None:
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    crop = Crop((3, 4, 5), (0, 1, 2), (3, 3, 4))
    assert crop.apply(values).shape == (2, 3, 2, 2)
    assert crop.undo(crop.apply(values)).shape == values.shape
