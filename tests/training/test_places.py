"""Laws of places to learn from: they are cut as the app cuts them, and both sides look alike."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bids_deepmrseg.errors import SegmentationError, TrainingError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.nifti import read_scan
from bids_deepmrseg.stages.locate import locate
from bids_deepmrseg.stages.prepare import prepare_places
from bids_deepmrseg.training.corpus import classes_of
from bids_deepmrseg.training.places import cut_places, near_labels, shown_places
from bids_deepmrseg.training.synthesis import Head
from tests.makers import GEOMETRIES, make_case, make_grid, make_task
from tests.regions import LOCATED, make_dataset, make_locator, make_region_task, make_truth

TASK, LOCATOR = make_region_task(), make_locator()
NUMBERS = tuple((label.index,) for label in TASK.labels)
SCAN = "sub-01_T1w.nii.gz"


def xyz_mm(grid: Grid) -> npt.NDArray[np.float64]:
    """World coordinates ``(3, I, J, K)`` of every voxel."""
    ijk = np.indices(grid.shape).reshape(3, -1)
    return (grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]).reshape(3, *grid.shape)


def symmetric_head(grid: Grid) -> Head:
    """Two blobs, front and back, in a scan that is the same on both sides and nowhere flat."""
    x, y, z = xyz_mm(grid)
    image = 100 + 20 * np.sin(np.abs(x) / 9) + 20 * np.sin(y / 13) + 20 * np.cos(z / 11)
    inside = np.hypot(np.hypot(np.abs(x) - 34, y - 2), z + 2) < 16
    part = np.where(y > 2, 1, 2)  # front and back
    classes = np.where(inside, part + np.where(x > 0, 2, 0), 0)
    return Head(
        torch.from_numpy(image.astype(np.float32)), torch.from_numpy(classes.astype(np.uint8))
    )


@pytest.mark.parametrize(
    ("geometry", "spacing_mm"), [*product(LOCATED, (4.0, 3.0)), ("anisotropic", 3.0)]
)
def test_the_right_place_is_the_mirror_image_of_the_left(geometry: str, spacing_mm: float) -> None:
    grid = make_grid(geometry)
    task = replace(TASK, spacing_mm=spacing_mm)
    left, right = cut_places(symmetric_head(grid), grid, task, LOCATOR)
    np.testing.assert_allclose(left[0], right[0], atol=1e-4)
    np.testing.assert_array_equal(left[1], right[1])
    assert np.abs(left[0] - left[0][:, ::-1]).max() > 0.1, "one side alone is not symmetric"
    assert set(np.unique(left[1])) == {0, 1, 2}


@pytest.mark.parametrize("geometry", LOCATED)
def test_classes_are_the_labels_of_their_place_and_lie_where_these_lie(geometry: str) -> None:
    grid = make_grid(geometry)
    truth, blobs = make_truth(grid)
    head = Head(torch.ones(grid.shape), torch.from_numpy(classes_of(truth, NUMBERS)))
    places = cut_places(head, grid, TASK, LOCATOR)
    back = np.zeros(grid.shape, np.uint16)
    for one, (_, classes) in zip(locate(blobs, grid, TASK, LOCATOR), places, strict=True):
        assert classes.shape == one.placement.model.shape
        assert classes.dtype == np.uint8
        for number, label in enumerate(TASK.labels_of(one.place), start=1):
            back[one.placement.undo((classes == number).astype(np.float32)) > 0.5] = label.index
    np.testing.assert_array_equal(back, truth)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_classes_keep_their_volume_on_finer_voxels(geometry: str) -> None:
    grid = make_grid(geometry)
    truth, _ = make_truth(grid)
    head = Head(torch.ones(grid.shape), torch.from_numpy(classes_of(truth, NUMBERS)))
    task = replace(TASK, spacing_mm=2.0)
    for (_, classes), indices in zip(
        cut_places(head, grid, task, LOCATOR), ((11, 12), (13, 14)), strict=True
    ):
        for number, index in enumerate(indices, start=1):
            volume_mm3 = np.count_nonzero(truth == index) * grid.voxel_volume_mm3
            assert np.count_nonzero(classes == number) * 8 == pytest.approx(volume_mm3, rel=0.12)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_networks_learn_from_what_they_are_shown_by_the_app(tmp_path: Path, geometry: str) -> None:
    case = make_case(make_dataset(tmp_path, {SCAN: geometry}), SCAN, task=TASK)
    scan = read_scan(case.scans[0])
    truth, blobs = make_truth(scan.grid)
    shown = prepare_places(case, locate(blobs, scan.grid, TASK, LOCATOR))
    head = Head(torch.from_numpy(scan.data), torch.from_numpy(classes_of(truth, NUMBERS)))
    for (image, _), prepared in zip(cut_places(head, scan.grid, TASK, LOCATOR), shown, strict=True):
        np.testing.assert_array_equal(image, prepared.channels)


def test_a_perfect_locator_shows_the_labels_of_each_place_as_one() -> None:
    grid = make_grid()
    truth, blobs = make_truth(grid)
    np.testing.assert_array_equal(shown_places(classes_of(truth, NUMBERS), TASK), blobs)


def test_labels_that_no_locator_could_show_are_refused() -> None:
    grid = make_grid()
    truth, _ = make_truth(grid)
    for indices, sentence in (
        ((13, 14), "Right Blob of tiny, around which part"),
        ((11, 12), "Left"),
    ):
        without = np.where(np.isin(truth, indices), 0, truth)
        head = Head(torch.ones(grid.shape), torch.from_numpy(classes_of(without, NUMBERS)))
        with pytest.raises(SegmentationError, match=sentence):
            cut_places(head, grid, TASK, LOCATOR)


def test_a_task_without_a_region_has_no_places() -> None:
    with pytest.raises(TrainingError, match="task tiny has no region"):
        shown_places(np.zeros((2, 2, 2), np.uint8), make_task())


@pytest.mark.parametrize(
    ("spacing_mm", "margin"),
    [((1.0, 1.0, 1.0), 32), ((4.0, 4.0, 4.0), 8), ((3.0, 5.0, 6.0), 11)],
)
def test_what_is_near_the_labels_is_kept_as_far_as_the_scan_goes(
    spacing_mm: tuple[float, float, float], margin: int
) -> None:
    classes = torch.zeros(90, 80, 100, dtype=torch.uint8)
    classes[40:44, 35, 50], classes[42, 5, 52] = 1, 2
    image = torch.arange(classes.numel(), dtype=torch.float32).reshape(classes.shape)
    near = near_labels(Head(image, classes), spacing_mm)
    i, j, k = (
        slice(max(0, low - margin), high + margin) for low, high in ((40, 44), (5, 36), (50, 53))
    )
    assert torch.equal(near.image, image[i, j, k])
    assert torch.equal(near.classes, classes[i, j, k])
    assert set(near.classes.flatten().tolist()) == {0, 1, 2}
