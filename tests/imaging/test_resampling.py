"""Laws of interpolation between grids: nothing moves, and what is smooth survives."""

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.grid import Grid, Shape, plan_resampling
from tests.imaging.test_grid import SPACINGS_MM, centre_of_mass_mm, grids, middle_mm, xyz_mm


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.data())
def test_resampling_to_the_same_spacing_is_the_identity(
    i: int, j: int, k: int, data: st.DataObject
) -> None:
    values = data.draw(arrays(np.float32, (i, j, k), elements=st.floats(0, 100, width=32)))
    resampling = plan_resampling(Grid((i, j, k), np.diag([2.0, 2.0, 2.0, 1.0])), 2.0)
    assert resampling.target.matches(resampling.source)
    np.testing.assert_array_equal(resampling.apply(values), values)
    np.testing.assert_array_equal(resampling.undo(values), values)


@given(grids(most=12), st.sampled_from(SPACINGS_MM))
def test_a_constant_stays_constant(grid: Grid, spacing_mm: float) -> None:
    resampling = plan_resampling(grid, spacing_mm)
    there = resampling.apply(np.full(grid.shape, 7.0))
    np.testing.assert_allclose(there, 7, rtol=1e-5)
    np.testing.assert_allclose(resampling.undo(there), 7, rtol=1e-5)


@given(grids(most=12), st.sampled_from(SPACINGS_MM), st.integers(0, 2**32 - 1))
def test_interpolation_stays_within_the_values_that_it_mixes(
    grid: Grid, spacing_mm: float, seed: int
) -> None:
    values = np.random.default_rng(seed).uniform(-3, 5, grid.shape)
    there = plan_resampling(grid, spacing_mm).apply(values)
    assert values.min() - 1e-4 <= there.min()
    assert there.max() <= values.max() + 1e-4


@given(grids(), st.sampled_from(SPACINGS_MM))
def test_both_grids_share_their_middle_and_directions(grid: Grid, spacing_mm: float) -> None:
    target = plan_resampling(grid, spacing_mm).target
    np.testing.assert_allclose(target.spacing_mm, spacing_mm)
    np.testing.assert_allclose(middle_mm(target), middle_mm(grid), atol=1e-6)
    directions = [g.affine[:3, :3] / np.array(g.spacing_mm) for g in (grid, target)]
    np.testing.assert_allclose(directions[0], directions[1], atol=1e-9)


@given(grids(), st.sampled_from(SPACINGS_MM))
def test_both_grids_cover_the_same_field_up_to_half_a_voxel(grid: Grid, spacing_mm: float) -> None:
    target = plan_resampling(grid, spacing_mm).target
    before, after = (np.array(g.shape) * np.array(g.spacing_mm) for g in (grid, target))
    covered = np.abs(before - after) <= spacing_mm / 2 + 1e-4
    assert np.all(covered | (np.array(target.shape) == 1))


@settings(max_examples=40)
@given(grids(least=10, most=20), st.sampled_from(SPACINGS_MM), st.integers(0, 2))
def test_a_linear_field_is_kept_away_from_the_edges(
    grid: Grid, spacing_mm: float, axis: int
) -> None:
    """Exactly where it refines; a coarser voxel, mean of a few finer ones, is off by a grain."""
    resampling = plan_resampling(grid, spacing_mm)
    there = resampling.apply(xyz_mm(grid)[axis])
    true = xyz_mm(resampling.target)[axis]
    lines = [
        np.arange(n) * spacing_mm >= 2 * max(spacing_mm, s)
        for n, s in zip(there.shape, grid.spacing_mm, strict=True)
    ]
    inside = np.ix_(*(line & line[::-1] for line in lines))
    grain_mm = sum(s for s in grid.spacing_mm if s < spacing_mm)
    np.testing.assert_allclose(there[inside], true[inside], atol=1e-3 + 0.09 * grain_mm)


@st.composite
def blobs(draw: st.DrawFn) -> tuple[Grid, float, npt.NDArray[np.float32]]:
    """A Gaussian ball somewhere in the middle of a grid that it fits in, and a spacing for it."""
    spacing_mm = draw(st.sampled_from((0.7, 1.0, 2.0)))
    grid = draw(grids(most=1))
    edges_mm = np.array(grid.spacing_mm)
    sigma = 1.5 * np.maximum(1, spacing_mm / edges_mm)  # in voxels of the grid
    i, j, k = np.ceil(11 * sigma).astype(int).tolist()
    grid = Grid((i, j, k), grid.affine)
    values = np.ones(grid.shape)
    for axis, n in enumerate(grid.shape):
        centre = (n - 1) / 2 + draw(st.floats(-0.5, 0.5)) * sigma[axis]
        line = np.exp(-(((np.arange(n) - centre) / sigma[axis]) ** 2) / 2)
        values *= np.expand_dims(line, tuple(a for a in range(3) if a != axis))
    return grid, spacing_mm, values.astype(np.float32)


@settings(max_examples=40)
@given(blobs())
def test_a_smooth_field_survives_there_and_back(
    image: tuple[Grid, float, npt.NDArray[np.float32]],
) -> None:
    grid, spacing_mm, values = image
    resampling = plan_resampling(grid, spacing_mm)
    back = resampling.undo(resampling.apply(values))
    assert np.abs(back - values).max() < 0.4
    assert np.corrcoef(back.ravel(), values.ravel())[0, 1] > 0.97


@settings(max_examples=40)
@given(blobs())
def test_the_centre_of_mass_does_not_move(
    image: tuple[Grid, float, npt.NDArray[np.float32]],
) -> None:
    """A shift by half a voxel, of whichever grid, would be seen here."""
    grid, spacing_mm, values = image
    resampling = plan_resampling(grid, spacing_mm)
    there = resampling.apply(values)
    before = centre_of_mass_mm(values, grid)
    finest = min(spacing_mm, *grid.spacing_mm)
    np.testing.assert_allclose(
        centre_of_mass_mm(there, resampling.target), before, atol=0.05 * finest
    )
    back = resampling.undo(there)
    np.testing.assert_allclose(centre_of_mass_mm(back, grid), before, atol=0.05 * finest)


@pytest.mark.parametrize("spacing_mm", [0.5, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("shape", [(9, 10, 11), (8, 8, 8), (1, 7, 2), (31, 16, 5)])
def test_odd_and_even_sizes_come_back_to_their_shape(shape: Shape, spacing_mm: float) -> None:
    resampling = plan_resampling(Grid(shape, np.diag([0.9, 1.1, 6.4, 1.0])), spacing_mm)
    there = resampling.apply(np.ones(shape))
    assert there.shape == resampling.target.shape
    assert resampling.undo(there).shape == shape


@pytest.mark.parametrize("shear", [0.1, -0.3])
def test_a_sheared_scan_is_refused(shear: float) -> None:
    affine = np.eye(4)
    affine[0, 1] = shear
    with pytest.raises(GeometryError, match="sheared"):
        plan_resampling(Grid((8, 8, 8), affine), 1.0)
