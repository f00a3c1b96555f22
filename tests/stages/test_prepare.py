"""Laws of preparation: the same head reaches the network the same way, however it was stored."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bids_deepmrseg.errors import GeometryError, InputDataError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.head import BRIGHTEST
from bids_deepmrseg.records import Prepared
from bids_deepmrseg.stages.prepare import prepare, prepare_volumes
from bids_deepmrseg.tasks import Task
from tests.imaging.test_grid import SIGNED_PERMUTATIONS, affine_of, centre_of_mass_mm, place
from tests.makers import (
    GEOMETRIES,
    bids_path,
    make_case,
    make_dataset,
    make_grid,
    make_head,
    make_task,
    write_nifti,
)

TWO_CHANNELS = make_task("pair", channels=("T1w", "FLAIR"))


def prepared(grid: Grid, task: Task | None = None) -> Prepared:
    return prepare_volumes((make_head(grid),), grid, task or make_task())


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_channels_lie_on_the_model_grid_that_the_placement_names(geometry: str) -> None:
    made = prepared(make_grid(geometry))
    model = made.placement.model
    assert made.channels.shape == (1, *model.shape)
    assert made.channels.dtype == np.float32
    assert model.orientation == "RAS"
    np.testing.assert_allclose(model.spacing_mm, 4.0)
    assert made.placement.native.matches(make_grid(geometry))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_head_stays_where_it_was_in_space(geometry: str) -> None:
    made = prepared(make_grid(geometry))
    bright = (made.channels[0] > 0.5).astype(float)
    centre = centre_of_mass_mm(bright, made.placement.model)
    np.testing.assert_allclose(centre, (0, 0, 0), atol=4)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_brain_tissue_is_near_one_whatever_the_scanner_says(geometry: str) -> None:
    grid = make_grid(geometry)
    head = make_head(grid)
    one = prepare_volumes((head,), grid, make_task()).channels
    other = prepare_volumes((head * 37,), grid, make_task()).channels
    np.testing.assert_allclose(other, one, atol=2e-3)
    middle = tuple(slice(n // 2 - 4, n // 2 + 4) for n in one.shape[1:])
    assert 0.7 < float(np.median(one[0][middle])) < 1.3


def test_intensities_stay_between_nothing_and_the_brightest() -> None:
    grid = make_grid()
    head = make_head(grid)
    head[20, 3:6, 20] = 50_000
    head[0] -= 30
    channels = prepare_volumes((head,), grid, make_task()).channels
    assert channels.min() >= 0
    assert channels.max() <= BRIGHTEST


def test_air_below_zero_is_still_air() -> None:
    grid = make_grid()
    head = make_head(grid)
    one, other = (prepare_volumes((h,), grid, make_task()).channels for h in (head, head - 50))
    assert np.abs(other - one).mean() < 0.05


@pytest.mark.parametrize("rotation", SIGNED_PERMUTATIONS[::5])
def test_the_order_of_storage_does_not_matter(rotation: npt.NDArray[np.float64]) -> None:
    ras = make_grid()
    head = make_head(ras)
    stored, grid = stored_as(head, ras, rotation)
    one, other = (prepare_volumes((h,), g, make_task()) for h, g in ((head, ras), (stored, grid)))
    assert other.placement.model.matches(one.placement.model)
    np.testing.assert_allclose(other.channels, one.channels, atol=1e-5)


def stored_as(
    head: npt.NDArray[np.float32], ras: Grid, rotation: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], Grid]:
    """The same voxels at the same places, with axes in another order."""
    target = Grid(ras.shape, affine_of(rotation, (1, 1, 1), (0, 0, 0)))
    turn = place(target, 1.0).turn
    stored_shape = tuple(int(ras.shape[axis]) for axis in turn.orientation[:, 0].astype(int))
    i, j, k = stored_shape
    turn = place(Grid((i, j, k), target.affine), 1.0).turn
    stored = turn.undo(head)
    to_ras_ijk = np.linalg.inv(turn.native.affine) @ turn.turned.affine
    return stored, Grid((i, j, k), ras.affine @ np.linalg.inv(to_ras_ijk))


def test_the_field_of_view_is_the_tasks_where_the_scan_is_larger() -> None:
    grid = make_grid()
    wide = Grid((62, 68, 60), grid.affine.copy())
    wide.affine[:3, 3] -= 40
    made = prepare_volumes((make_head(wide),), wide, make_task())
    assert made.placement.model.shape == (40, 48, 40)


def test_channels_keep_their_order(tmp_path: Path) -> None:
    raw = make_dataset(tmp_path, ("sub-01_T1w.nii.gz", "sub-01_FLAIR.nii.gz"))
    made = prepare(make_case(raw, "sub-01_T1w.nii.gz", task=TWO_CHANNELS))
    alone = prepare(make_case(raw, "sub-01_T1w.nii.gz"))
    assert len(made.channels) == 2
    np.testing.assert_array_equal(made.channels[0], alone.channels[0])
    assert not np.allclose(made.channels[1], made.channels[0], atol=0.1)


def test_channels_on_different_grids_are_refused(tmp_path: Path) -> None:
    scans = {"sub-01_T1w.nii.gz": "RAS", "sub-01_FLAIR.nii.gz": "anisotropic"}
    raw = make_dataset(tmp_path, scans)
    with pytest.raises(GeometryError, match=r"sub-01_FLAIR\.nii\.gz is not on the grid of"):
        prepare(make_case(raw, "sub-01_T1w.nii.gz", task=TWO_CHANNELS))


def test_a_scan_without_a_head_is_refused(tmp_path: Path) -> None:
    raw = make_dataset(tmp_path, ("sub-01_T1w.nii.gz",))
    speck = np.zeros((40, 40, 40), np.int16)
    speck[18:21, 18:21, 18:21] = 100
    write_nifti(raw / bids_path("sub-01_T1w.nii.gz"), speck, np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(InputDataError, match="a head or a brain needs more"):
        prepare(make_case(raw, "sub-01_T1w.nii.gz"))
