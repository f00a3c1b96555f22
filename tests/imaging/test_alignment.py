"""Laws of showing one scan on another's grid: nothing is lost, nothing moves but by the matrix."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.alignment import (
    field_of_view,
    mask_points,
    mean_displacement_mm,
    moved,
    resample_onto,
    rigid_about,
    rotation_deg,
)
from bids_deepmrseg.imaging.grid import Affine, Grid
from tests.makers import GEOMETRIES, make_grid, make_head

HERE = np.eye(4)


def cubes(*shape: int, spacing_mm: float = 1.0) -> Grid:
    i, j, k = shape
    return Grid((i, j, k), np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))


def shift(*xyz_mm: float) -> Affine:
    matrix = np.eye(4)
    matrix[:3, 3] = xyz_mm
    return matrix


def noise(grid: Grid, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(1, 9, grid.shape).astype(np.float32)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("nearest", [False, True])
def test_without_movement_the_same_grid_shows_the_very_same_voxels(
    geometry: str, nearest: bool
) -> None:
    grid = make_grid(geometry)
    data = noise(grid)
    np.testing.assert_array_equal(resample_onto(data, grid, grid, HERE, nearest=nearest), data)


def test_a_header_that_rounds_its_affine_leaves_the_voxels_as_they_are() -> None:
    grid = make_grid("odd")
    data = noise(grid)
    rounded = Grid(grid.shape, grid.affine.astype(np.float32).astype(np.float64))
    np.testing.assert_array_equal(resample_onto(data, grid, rounded, HERE), data)


def test_turned_axes_show_the_same_voxels_in_another_order() -> None:
    ras, las = make_grid("RAS"), make_grid("LAS")
    data = noise(ras)
    np.testing.assert_array_equal(resample_onto(data, ras, las, HERE), data[::-1])


def test_a_movement_by_whole_voxels_moves_the_voxels() -> None:
    grid = cubes(6, 7, 8, spacing_mm=2.0)
    data = noise(grid)
    there = resample_onto(data, grid, grid, shift(4.0, 0.0, -2.0))
    np.testing.assert_array_equal(there[:4, :, 1:], data[2:, :, :-1])
    assert not there[4:].any()
    assert not there[:, :, 0].any()


def test_the_matrix_asks_where_in_the_source_to_look() -> None:
    grid = make_grid("oblique")
    head = make_head(grid) > 60
    turn = Rotation.from_rotvec([0.1, -0.05, 0.15]).as_matrix()
    matrix = rigid_about((3.0, 2.0, 1.0), turn, (6.0, -4.0, 5.0))
    there = resample_onto(head, grid, grid, matrix)
    weights = there / there.sum()
    centre = np.einsum("ijk,aijk->a", weights, np.indices(grid.shape))
    found_mm = moved(moved(centre[None], grid.affine), matrix)[0]
    np.testing.assert_allclose(found_mm, mask_points(head, grid).mean(axis=0), atol=0.15)


def test_a_shift_by_a_hair_does_not_lose_the_last_slice() -> None:
    grid = Grid((10, 10, 5), np.diag([1.0, 1.0, 7.0, 1.0]))
    data = noise(grid)
    for hair_mm in (0.5, -0.5):
        there = resample_onto(data, grid, grid, shift(0, 0, hair_mm))
        assert there[:, :, [0, -1]].min() > 0
    np.testing.assert_array_equal(resample_onto(data, grid, grid, shift(0, 0, 4.0))[..., -1], 0)


def test_thick_slices_show_the_mean_of_the_thin_ones_within() -> None:
    thin = cubes(4, 4, 30)
    data = noise(thin)
    thick_affine = np.diag([1.0, 1.0, 5.0, 1.0])
    thick_affine[2, 3] = 2.0
    there = resample_onto(data, thin, Grid((4, 4, 6), thick_affine), HERE)
    np.testing.assert_allclose(there, data.reshape(4, 4, 6, 5).mean(axis=3), rtol=1e-5)


def test_labels_stay_whole() -> None:
    source, target = make_grid("anisotropic"), make_grid("odd")
    labels = (make_head(source) // 40).astype(np.uint8)
    turn = Rotation.from_rotvec([0, 0.2, 0.1]).as_matrix()
    there = resample_onto(labels, source, target, rigid_about((0, 0, 0), turn, 0), nearest=True)
    assert set(np.unique(there)) == set(np.unique(labels))


def test_outside_the_field_of_view_there_is_nothing() -> None:
    small, large = cubes(4, 4, 4), Grid((8, 8, 8), shift(-2, -2, -2))
    seen = field_of_view(small, large, HERE)
    assert seen.sum() == small.shape[0] ** 3
    assert seen[2:6, 2:6, 2:6].all()
    there = resample_onto(np.ones(small.shape), small, large, HERE)
    np.testing.assert_array_equal(there, seen)


def test_an_array_of_another_grid_is_refused() -> None:
    with pytest.raises(GeometryError, match="not on its grid"):
        resample_onto(np.zeros((3, 3, 3)), cubes(3, 3, 4), cubes(3, 3, 3), HERE)


def test_a_rigid_matrix_turns_about_its_centre_by_its_angle() -> None:
    centre = np.array([10.0, -20.0, 30.0])
    turn = Rotation.from_rotvec([0, 0, np.deg2rad(15)]).as_matrix()
    matrix = rigid_about(centre, turn, (1.0, 2.0, 2.0))
    np.testing.assert_allclose(moved(centre[None], matrix), centre[None] + [[1, 2, 2]])
    assert rotation_deg(matrix) == pytest.approx(15)
    assert rotation_deg(HERE) == 0
    around = centre + np.array([[10.0, 0, 0], [-10, 0, 0], [0, 0, 5]])
    chord_mm = 2 * 10 * np.sin(np.deg2rad(7.5))
    still = rigid_about(centre, turn, (0, 0, 0))
    assert mean_displacement_mm(still, HERE, around) == pytest.approx(2 * chord_mm / 3)
