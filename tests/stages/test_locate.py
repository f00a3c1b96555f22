"""Laws of places: they lie where their labels lie, on any grid, and nothing is taken on trust."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bids_deepmrseg.errors import GeometryError, InputDataError, SegmentationError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.records import Located, Predicted, Segmented
from bids_deepmrseg.stages.locate import check_found, locate
from bids_deepmrseg.stages.prepare import prepare_places
from bids_deepmrseg.stages.restore import restore_places
from bids_deepmrseg.stages.segment import segment
from tests.makers import GEOMETRIES, make_case, make_grid, write_nifti
from tests.regions import (
    BRIGHTNESS,
    LOCATED,
    make_dataset,
    make_locator,
    make_models,
    make_region_task,
    make_truth,
)

TASK, LOCATOR = make_region_task(), make_locator()
SCAN = "sub-01_T1w.nii.gz"


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"), n_members=3, flips=True)


def corners_mm(located: Located) -> npt.NDArray[np.float64]:
    """Least and greatest coordinates of the voxels of a place's box."""
    grid = located.placement.model
    ijk = np.indices(grid.shape).reshape(3, -1)
    xyz = grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]
    return np.stack([xyz.min(axis=1), xyz.max(axis=1)])


def voxels_mm(mask: npt.NDArray[np.bool_], grid: Grid) -> npt.NDArray[np.float64]:
    """Least and greatest coordinates of the voxels of a mask."""
    xyz = grid.affine[:3, :3] @ np.argwhere(mask).T + grid.affine[:3, 3:]
    return np.stack([xyz.min(axis=1), xyz.max(axis=1)])


@pytest.mark.parametrize("geometry", ["RAS", "LAS", "LPS", "LIA"])
def test_a_box_is_its_label_with_the_margin(geometry: str) -> None:
    grid = make_grid(geometry)
    _, dseg = make_truth(grid)
    for one in locate(dseg, grid, TASK, LOCATOR):
        around = corners_mm(one) - voxels_mm(dseg == one.place.located_by, grid)
        np.testing.assert_allclose(around, [[-8] * 3, [8] * 3], atol=1e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_box_holds_its_label_and_runs_as_its_place_says(geometry: str) -> None:
    grid = make_grid(geometry)
    _, dseg = make_truth(grid)
    for one in locate(dseg, grid, TASK, LOCATOR):
        low, high = corners_mm(one) - voxels_mm(dseg == one.place.located_by, grid)
        assert (low < 0).all()
        assert (high > 0).all()
        rightwards = float(one.placement.model.affine[0, 0])
        assert (rightwards < 0) is one.place.mirrored


@pytest.mark.parametrize("geometry", LOCATED)
def test_networks_see_every_side_as_the_first(tmp_path: Path, geometry: str) -> None:
    """Medial is where the index grows, front where the second index grows, on both sides."""
    case = make_case(make_dataset(tmp_path, {SCAN: geometry}), SCAN, task=TASK)
    grid = make_grid(geometry)
    _, dseg = make_truth(grid)
    located = locate(dseg, grid, TASK, LOCATOR)
    for one, side in zip(prepare_places(case, located), ("left", "right"), strict=True):
        j = np.indices(one.channels.shape[1:])[1]
        medial_mm = one.placement.model.affine[0, 0] * (1 if side == "left" else -1)
        assert medial_mm > 0
        back, front = BRIGHTNESS[side]
        shown = one.channels[0]
        assert np.isclose(shown.max(), max(BRIGHTNESS[side]), atol=0.1)
        assert j[np.abs(shown - front) < 0.1].mean() > j[np.abs(shown - back) < 0.1].mean()


@pytest.mark.parametrize("geometry", LOCATED)
def test_fronts_and_backs_of_both_sides_come_back_to_their_voxels(
    tmp_path: Path, models_dir: Path, geometry: str
) -> None:
    case = make_case(make_dataset(tmp_path, {SCAN: geometry}), SCAN, task=TASK)
    grid = make_grid(geometry)
    truth, dseg = make_truth(grid)
    located = locate(dseg, grid, TASK, LOCATOR)
    folder = models_dir / TASK.name
    predicted = tuple(
        segment(one, folder, TASK, device="cpu") for one in prepare_places(case, located)
    )
    segmented = restore_places(predicted, TASK, keep_probabilities=True)
    np.testing.assert_array_equal(segmented.dseg, truth)
    check_found(segmented, dseg, TASK, LOCATOR)
    assert segmented.probabilities is not None
    np.testing.assert_allclose(segmented.probabilities.sum(axis=0, dtype="f4"), 1, atol=2e-3)
    winners = np.array([0, 11, 12, 13, 14])[segmented.probabilities.argmax(axis=0)]
    np.testing.assert_array_equal(winners, truth)


# what is not taken on trust


def made(change: str) -> tuple[npt.NDArray[np.uint16], Grid]:
    """The locator's labels with something wrong on the left side."""
    grid = make_grid()
    _, dseg = make_truth(grid)
    left = np.argwhere(dseg == 1)
    low, high = left.min(axis=0), left.max(axis=0)
    if change in {"absent", "tiny", "huge", "long", "edge"}:
        dseg[dseg == 1] = 0
    if change == "tiny":
        dseg[tuple(low)] = 1
    if change == "huge":
        dseg[4:18, 4:40, 4:34] = 1
    if change == "long":
        dseg[low[0] : low[0] + 3, 10:30, low[2] : low[2] + 3] = 1
    if change == "edge":
        dseg[1:6, low[1] : high[1], low[2] : high[2]] = 1
    if change == "pieces":
        dseg[low[0] : low[0] + 5, 4:9, low[2] : low[2] + 5] = 1
    return dseg, grid


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ("absent", SegmentationError, "was not found"),
        ("tiny", SegmentationError, r"has 0.06 ml; adults have 1 to 50 ml: .* cannot be it"),
        ("huge", SegmentationError, r"has \d+.\d\d ml; adults have 1 to 50 ml: .* cannot be it"),
        ("long", SegmentationError, "is 80 mm long"),
        ("pieces", SegmentationError, "lies in 2 places that are apart"),
        ("edge", GeometryError, "reaches the edge of the scan"),
    ],
)
def test_a_label_that_cannot_be_right_is_refused(
    change: str, error: type[Exception], sentence: str
) -> None:
    dseg, grid = made(change)
    with pytest.raises(error, match=f"Left Blob of tiny, around which part is .*{sentence}"):
        locate(dseg, grid, TASK, LOCATOR)


def test_an_unusual_volume_is_a_doubt_and_no_more() -> None:
    grid = make_grid()
    _, dseg = make_truth(grid)
    left, right, middle = LOCATOR.labels
    assert left.adult_range is not None
    narrow = replace(left, adult_range=replace(left.adult_range, low_ml=30.0))
    located = locate(dseg, grid, TASK, replace(LOCATOR, labels=(narrow, right, middle)))
    assert [len(one.doubts) for one in located] == [1, 0]
    assert "adults have 30 to 50 ml" in located[0].doubts[0]


def test_a_bit_far_away_does_not_widen_the_box() -> None:
    grid = make_grid()
    _, dseg = make_truth(grid)
    expected = locate(dseg, grid, TASK, LOCATOR)[0].placement.crop
    dseg[2:4, 2:4, 2:4] = 1
    assert locate(dseg, grid, TASK, LOCATOR)[0].placement.crop == expected


def test_a_place_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    case = make_case(make_dataset(tmp_path, {SCAN: "RAS"}), SCAN, task=TASK)
    grid = make_grid()
    located = locate(make_truth(grid)[1], grid, TASK, LOCATOR)
    elsewhere = np.zeros(grid.shape, np.int16)
    elsewhere[:, :3] = 100
    write_nifti(case.scans[0], elsewhere, grid.affine)
    with pytest.raises(InputDataError, match="shows no tissue"):
        prepare_places(case, located)


def test_labels_on_another_grid_than_the_scan_are_refused(tmp_path: Path) -> None:
    case = make_case(make_dataset(tmp_path, {SCAN: "LAS"}), SCAN, task=TASK)
    grid = make_grid("RAS")
    located = locate(make_truth(grid)[1], grid, TASK, LOCATOR)
    with pytest.raises(GeometryError, match="is not on the grid of the labels"):
        prepare_places(case, located)


def segmented_as(truth: npt.NDArray[np.uint16], grid: Grid) -> Segmented:
    """An answer that is sure of itself."""
    return Segmented(truth, np.ones(grid.shape, np.float32), grid, None)


def test_what_was_found_must_be_what_was_looked_for() -> None:
    grid = make_grid()
    truth, dseg = make_truth(grid)
    check_found(segmented_as(truth, grid), dseg, TASK, LOCATOR)
    without = np.where(truth == 14, 0, truth).astype(np.uint16)
    with pytest.raises(SegmentationError, match="found no Right Back Blob"):
        check_found(segmented_as(without, grid), dseg, TASK, LOCATOR)
    moved = np.roll(truth, 6, axis=2)
    sentence = r"part and tiny disagree about where Left Blob is \(Dice 0\.\d\d\)"
    with pytest.raises(SegmentationError, match=sentence):
        check_found(segmented_as(moved, grid), dseg, TASK, LOCATOR)


# two places become one answer


def test_where_two_places_claim_a_voxel_the_surer_has_it() -> None:
    grid = make_grid()
    _, dseg = make_truth(grid)
    left, right = locate(dseg, grid, TASK, LOCATOR)
    # the same box for both, each sure of one class everywhere, by 0.6 and 0.9
    answers = []
    for place, chance in ((left.place, 0.6), (right.place, 0.9)):
        shape = left.placement.model.shape
        field = np.full((3, *shape), 0, np.float32)
        field[0], field[1] = 1 - chance, chance
        answers.append(Predicted(field, left.placement, 0, place))
    segmented = restore_places(tuple(answers), TASK, keep_probabilities=True)
    inside = left.placement.turn.undo(left.placement.crop.undo(np.ones(shape, np.uint8))) > 0
    assert set(np.unique(segmented.dseg[inside]).tolist()) == {13}
    assert not segmented.dseg[~inside].any()
    np.testing.assert_allclose(segmented.confidence[inside], 0.9, atol=1e-6)
    np.testing.assert_allclose(segmented.confidence[~inside], 1, atol=1e-6)
    assert segmented.probabilities is not None
    np.testing.assert_allclose(segmented.probabilities[:, inside].sum(axis=0), 1, atol=2e-3)
    np.testing.assert_allclose(segmented.probabilities[1][inside], 0.4, atol=2e-3)
