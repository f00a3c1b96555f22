"""Laws of placements, with right and left exchanged or not: nothing moves, all can be undone."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from bids_deepmrseg.imaging.grid import Crop, Grid, Placement, crop_to, to_ras
from tests.imaging.test_grid import centre_of_mass_mm, grids, place, xyz_mm
from tests.imaging.test_resampling import blobs
from tests.makers import GEOMETRIES, make_grid

CUBIC = [name for name, (_, spacing_mm, *_) in GEOMETRIES.items() if len(set(spacing_mm)) == 1]

Field = npt.NDArray[np.float32]


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, int, int]) -> Crop:
    """Any box of one voxel or more within a shape."""
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    stops = [draw(st.integers(a + 1, n)) for a, n in zip(starts, shape, strict=True)]
    return Crop(shape, (starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2]))


@st.composite
def mirrored_fields(draw: st.DrawFn) -> tuple[Placement, Field]:
    """A mirrored placement in any grid, and a field on its model grid."""
    whole = place(draw(grids(least=2)), draw(st.sampled_from((0.8, 1.0, 1.7))))
    placement = replace(
        whole, crop=draw(boxes(whole.resampling.target.shape)), mirrored=draw(st.booleans())
    )
    seed = draw(st.integers(0, 2**16))
    field = np.random.default_rng(seed).uniform(0, 1, placement.model.shape)
    return placement, field.astype(np.float32)


@given(mirrored_fields())
def test_a_mirrored_placement_undoes_what_the_plain_one_undoes_of_the_mirror_image(
    made: tuple[Placement, Field],
) -> None:
    placement, field = made
    plain = replace(placement, mirrored=False)
    expected = plain.undo(field[::-1] if placement.mirrored else field)
    np.testing.assert_array_equal(placement.undo(field), expected)


@given(mirrored_fields())
def test_the_model_grid_says_where_every_cut_voxel_lies(made: tuple[Placement, Field]) -> None:
    placement, _ = made
    target = placement.resampling.target
    ijk = np.indices(target.shape).reshape(3, -1)
    xyz = (target.affine[:3, :3] @ ijk + target.affine[:3, 3:]).reshape(3, *target.shape)
    model = placement.model
    ijk = np.indices(model.shape).reshape(3, -1)
    said = (model.affine[:3, :3] @ ijk + model.affine[:3, 3:]).reshape(3, *model.shape)
    np.testing.assert_allclose(placement.cut(xyz), said, atol=1e-9)


@settings(max_examples=60)
@given(mirrored_fields(), st.data())
def test_a_box_within_is_undone_to_where_the_whole_has_it(
    made: tuple[Placement, Field], data: st.DataObject
) -> None:
    placement, field = made
    inner = data.draw(boxes(placement.model.shape))
    alone = inner.undo(inner.apply(field))
    np.testing.assert_allclose(
        placement.within(inner).undo(inner.apply(field)), placement.undo(alone), atol=1e-6
    )


@pytest.mark.parametrize("geometry", CUBIC)
@pytest.mark.parametrize("mirrored", [False, True])
def test_cut_and_undo_bring_voxels_of_the_same_spacing_back_bit_for_bit(
    geometry: str, *, mirrored: bool
) -> None:
    grid = make_grid(geometry)
    native = np.random.default_rng(1).uniform(0, 1, grid.shape).astype(np.float32)
    whole = place(grid, grid.spacing_mm[0])
    n_i, n_j, n_k = whole.resampling.target.shape
    crop = Crop((n_i, n_j, n_k), (3, 4, 5), (n_i // 2, n_j - 2, n_k - 3))
    placement = replace(whole, crop=crop, mirrored=mirrored)
    turned, turn = to_ras(native, grid)
    back = placement.undo(placement.cut(whole.resampling.apply(turned)))
    kept = turn.undo(crop.undo(np.ones(placement.model.shape, dtype=np.uint8)))
    np.testing.assert_array_equal(back, np.where(kept > 0, native, 0))


@settings(max_examples=40)
@given(blobs())
def test_a_placement_moves_nothing(image: tuple[Grid, float, npt.NDArray[np.float32]]) -> None:
    grid, spacing_mm, values = image
    whole = place(grid, spacing_mm)
    turned, turn = to_ras(values, grid)
    there = whole.resampling.apply(turned)
    crop = crop_to(there > 1e-4, margin=1)
    placement = Placement(turn, whole.resampling, crop)
    model = crop.apply(there)
    assert placement.model.shape == model.shape
    before = centre_of_mass_mm(values, grid)
    finest = min(spacing_mm, *grid.spacing_mm)
    np.testing.assert_allclose(
        centre_of_mass_mm(model, placement.model), before, atol=0.05 * finest
    )
    native = placement.undo(model)
    assert native.shape == grid.shape
    assert placement.native.matches(grid)
    np.testing.assert_allclose(centre_of_mass_mm(native, grid), before, atol=0.05 * finest)


@settings(max_examples=40)
@given(grids(least=6, most=12), st.sampled_from((1.0, 2.0)), st.integers(0, 2**32 - 1))
def test_undoing_a_box_is_undoing_the_whole_with_nothing_around(
    grid: Grid, spacing_mm: float, seed: int
) -> None:
    placement = place(grid, spacing_mm)
    full = placement.resampling.target.shape
    rng = np.random.default_rng(seed)
    start = [int(rng.integers(0, n)) for n in full]
    stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, full, strict=True)]
    crop = Crop(full, (start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    field = rng.random(crop.apply(np.empty(full)).shape, dtype=np.float32)
    box = placement.within(crop)
    np.testing.assert_allclose(box.undo(field), placement.undo(crop.undo(field)), atol=1e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_model_grid_lies_where_it_says(geometry: str) -> None:
    """A world coordinate, sampled on the model grid, is the model grid's own."""
    grid = make_grid(geometry)
    whole = place(grid, 2.5)
    i, j, k = whole.resampling.target.shape
    crop = Crop((i, j, k), (4, 5, 4), (i - 5, j - 4, k - 6))
    placement = Placement(whole.turn, whole.resampling, crop)
    for axis, truth in enumerate(xyz_mm(placement.model)):
        turned, _ = to_ras(xyz_mm(grid)[axis], grid)
        sampled = crop.apply(placement.resampling.apply(turned))
        np.testing.assert_allclose(sampled, truth, atol=1e-3)
