"""Laws of restoring: what the network says comes back at its place, on exactly the native grid."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from bids_deepmrseg.imaging.grid import Crop, Grid, Placement
from bids_deepmrseg.records import Predicted
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.tasks import Task
from tests.imaging.test_grid import centre_of_mass_mm, place
from tests.makers import GEOMETRIES, make_grid, make_task

TASK = make_task()
INDICES = np.array([0, *(label.index for label in TASK.labels)])


def sure_of(classes: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Probabilities ``(L, I, J, K)`` that are 1 for the given class."""
    one_hot: npt.NDArray[np.bool_] = np.arange(TASK.n_classes).reshape(-1, 1, 1, 1) == classes
    return one_hot.astype(np.float32)


def blobs(grid: Grid, *, radius_mm: float = 18.0) -> npt.NDArray[np.intp]:
    """Class numbers: left and right ball, and one in the middle above, by world coordinates."""
    ijk = np.indices(grid.shape).reshape(3, -1)
    xyz_mm = grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]
    classes = np.zeros(xyz_mm.shape[1], dtype=np.intp)
    for number, centre in enumerate(((-24, -4, 0), (24, -4, 0), (0, 14, 28)), start=1):
        away = np.linalg.norm(xyz_mm - np.reshape(centre, (3, 1)), axis=0)
        classes[away < radius_mm] = number
    return classes.reshape(grid.shape)


def predicted(placement: Placement, probabilities: npt.NDArray[np.float32]) -> Predicted:
    return Predicted(probabilities, placement, 0)


def test_labels_come_back_unchanged_where_the_grids_are_the_same() -> None:
    placement = place(make_grid("RAS"), 4.0)
    classes = np.random.default_rng(0).integers(0, TASK.n_classes, placement.model.shape)
    segmented = restore(predicted(placement, sure_of(classes)), TASK)
    np.testing.assert_array_equal(segmented.dseg, INDICES[classes])
    np.testing.assert_array_equal(segmented.confidence, 1)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_labels_lie_on_exactly_the_native_grid(geometry: str) -> None:
    grid = make_grid(geometry)
    placement = place(grid, 3.0)
    segmented = restore(predicted(placement, sure_of(blobs(placement.model))), TASK)
    assert segmented.dseg.shape == segmented.confidence.shape == grid.shape
    assert segmented.dseg.dtype == np.uint16
    assert segmented.confidence.dtype == np.float32
    assert segmented.grid is grid
    assert segmented.probabilities is None


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_structure_comes_back_to_its_place_and_size(geometry: str) -> None:
    grid = make_grid(geometry)
    placement = place(grid, 2.0)
    there = blobs(placement.model)
    segmented = restore(predicted(placement, sure_of(there)), TASK)
    for number, index in enumerate(INDICES[1:], start=1):
        on_model, back = (there == number).astype(float), (segmented.dseg == index).astype(float)
        before = centre_of_mass_mm(on_model, placement.model)
        np.testing.assert_allclose(centre_of_mass_mm(back, grid), before, atol=0.8)
        volume = on_model.sum() * placement.model.voxel_volume_mm3
        assert back.sum() * grid.voxel_volume_mm3 == pytest.approx(volume, rel=0.1)


@pytest.mark.parametrize("geometry", ["RAS", "LAS", "LPS", "LIA", "odd"])
def test_left_stays_left(geometry: str) -> None:
    grid = make_grid(geometry)
    placement = place(grid, 3.0)
    segmented = restore(predicted(placement, sure_of(blobs(placement.model))), TASK)
    left, right = (
        centre_of_mass_mm((segmented.dseg == index).astype(float), grid) for index in INDICES[1:3]
    )
    assert left[0] < -15 < 15 < right[0]


def test_outside_of_the_model_grid_there_is_background_for_sure() -> None:
    whole = place(make_grid(), 4.0)
    crop = Crop(whole.model.shape, (5, 6, 7), (30, 40, 30))
    placement = Placement(whole.turn, whole.resampling, crop)
    classes = np.ones(placement.model.shape, dtype=int)
    segmented = restore(predicted(placement, sure_of(classes)), TASK)
    outside = np.ones(segmented.dseg.shape, dtype=bool)
    outside[crop.slices] = False
    assert not segmented.dseg[outside].any()
    assert (segmented.confidence[outside] == 1).all()
    assert (segmented.dseg[~outside] == INDICES[1]).all()


def test_the_background_wins_ties() -> None:
    placement = place(make_grid(), 4.0)
    probabilities = np.zeros((TASK.n_classes, *placement.model.shape), np.float32)
    probabilities[0], probabilities[1] = 0.5, 0.5
    probabilities[0, 20], probabilities[1, 20] = 0.25, 0.75
    segmented = restore(predicted(placement, probabilities), TASK)
    assert set(np.unique(segmented.dseg[20])) == {INDICES[1]}
    assert not np.delete(segmented.dseg, 20, axis=0).any()


def test_the_most_probable_label_wins_although_none_has_half() -> None:
    placement = place(make_grid(), 4.0)
    shares = np.array([0.2, 0.25, 0.3, 0.25], np.float32).reshape(-1, 1, 1, 1)
    probabilities = np.broadcast_to(shares, (4, *placement.model.shape)).copy()
    segmented = restore(predicted(placement, probabilities), TASK)
    assert (segmented.dseg == INDICES[2]).all()
    np.testing.assert_allclose(segmented.confidence, 0.3, atol=1e-5)


def test_nothing_found_is_an_empty_label_map() -> None:
    placement = place(make_grid("odd"), 4.0)
    classes = np.zeros(placement.model.shape, dtype=int)
    segmented = restore(predicted(placement, sure_of(classes)), TASK)
    assert not segmented.dseg.any()
    np.testing.assert_allclose(segmented.confidence, 1)


@pytest.mark.parametrize("geometry", ["LPS", "anisotropic", "odd"])
def test_probabilities_are_those_that_the_labels_won_by(geometry: str) -> None:
    grid = make_grid(geometry)
    placement = place(grid, 3.0)
    segmented = restore(
        predicted(placement, sure_of(blobs(placement.model))), TASK, keep_probabilities=True
    )
    kept = segmented.probabilities
    assert kept is not None
    assert kept.shape == (TASK.n_classes, *grid.shape)
    np.testing.assert_allclose(kept.astype(np.float32).sum(axis=0), 1, atol=4e-3)
    clear = np.sort(kept, axis=0)[-1] - np.sort(kept, axis=0)[-2] > 0.01
    np.testing.assert_array_equal(INDICES[kept.argmax(axis=0)][clear], segmented.dseg[clear])
    np.testing.assert_allclose(kept.max(axis=0)[clear], segmented.confidence[clear], atol=1e-3)


@pytest.mark.parametrize(("probability", "n_voxels"), [(0.6, 0), (1.0, 2)])
def test_probabilities_are_interpolated_and_not_labels(probability: float, n_voxels: int) -> None:
    """A quarter of the way to the background, a label wins only if the network was sure of it."""
    grid = make_grid()
    half = Grid((84, 48, 40), grid.affine @ np.diag([0.5, 1, 1, 1]))
    placement = place(half, 4.0)
    probabilities = np.zeros((TASK.n_classes, *placement.model.shape), np.float32)
    probabilities[0] = 1
    probabilities[0, 20], probabilities[1, 20] = 1 - probability, probability
    found = restore(predicted(placement, probabilities), TASK).dseg
    assert np.count_nonzero(found[:, 24, 20]) == n_voxels


def test_what_the_network_said_is_left_as_it_was() -> None:
    placement = place(make_grid(), 3.0)
    probabilities = sure_of(blobs(placement.model))
    before = probabilities.copy()
    restore(predicted(placement, probabilities), TASK, keep_probabilities=True)
    np.testing.assert_array_equal(probabilities, before)


# landmarks: parts of the third structure, told apart by the networks alone


def with_landmarks() -> Task:
    left, right, middle = TASK.labels
    parts = (
        replace(left, index=21, mirror=22, part_of=middle.index),
        replace(right, index=22, mirror=21, part_of=middle.index),
    )
    return replace(TASK, landmarks=parts)


@pytest.mark.parametrize("geometry", ["RAS", "LPS", "anisotropic", "odd"])
def test_landmarks_become_their_label_and_a_map_of_their_own(geometry: str) -> None:
    task = with_landmarks()
    placement = place(make_grid(geometry), 3.0)
    classes = blobs(placement.model)
    # the left and right ball are landmarks now; the third one is the label that they are a part of
    told = np.choose(classes, [0, 4, 5, 3])
    probabilities = (np.arange(6).reshape(-1, 1, 1, 1) == told).astype(np.float32)
    segmented = restore(predicted(placement, probabilities), task, keep_probabilities=True)
    plain = restore(predicted(placement, sure_of(classes)), TASK)
    assert segmented.landmarks is not None
    assert set(np.unique(segmented.dseg).tolist()) == {0, 7}
    np.testing.assert_array_equal(segmented.landmarks == 21, plain.dseg == 1)
    np.testing.assert_array_equal(segmented.landmarks == 22, plain.dseg == 2)
    np.testing.assert_array_equal(segmented.shown, segmented.landmarks)
    assert ((segmented.dseg == 7) | (segmented.landmarks == 0)).all()
    assert segmented.probabilities is not None
    assert len(segmented.probabilities) == 4, "no class for landmarks"
    np.testing.assert_allclose(segmented.probabilities.sum(axis=0, dtype="f4"), 1, atol=4e-3)


def test_parts_that_are_each_less_probable_than_the_background_win_together() -> None:
    task = with_landmarks()
    placement = place(make_grid(), 4.0)
    shares = np.array([0.4, 0, 0, 0.1, 0.3, 0.2], np.float32).reshape(-1, 1, 1, 1)
    probabilities = np.broadcast_to(shares, (6, *placement.model.shape)).copy()
    segmented = restore(predicted(placement, probabilities), task, keep_probabilities=True)
    assert (segmented.dseg == 7).all()
    np.testing.assert_allclose(segmented.confidence, 0.6, atol=1e-5)
    assert segmented.landmarks is not None
    assert not segmented.landmarks.any(), "none of them is more probable than the background"
    assert segmented.probabilities is not None
    np.testing.assert_allclose(segmented.probabilities[3], 0.6, atol=1e-3)
    np.testing.assert_allclose(segmented.probabilities[0], 0.4, atol=1e-3)


def test_a_task_without_landmarks_shows_its_labels() -> None:
    placement = place(make_grid(), 4.0)
    segmented = restore(predicted(placement, sure_of(blobs(placement.model))), TASK)
    assert segmented.landmarks is None
    assert segmented.shown is segmented.dseg
