"""Stages 2 and 4 of tasks within a brain."""

from dataclasses import replace

import numpy as np
import pytest

from bids_deepmrseg.errors import GeometryError, InputDataError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.lesions import LesionRule
from bids_deepmrseg.records import Predicted
from bids_deepmrseg.stages.within import doubts_of_slices, prepare_within, restore_within
from bids_deepmrseg.taskfiles import find_tasks
from bids_deepmrseg.tasks import Task

SHAPE = (48, 40, 14)


@pytest.fixture
def task() -> Task:
    """The task that the package ships."""
    return next(task for task in find_tasks() if task.lesions is not None)


def _grid(i_mm: float, j_mm: float, k_mm: float) -> Grid:
    """A grid that runs left, posterior, superior."""
    return Grid(SHAPE, np.diag([-i_mm, -j_mm, k_mm, 1.0]))


def _brain() -> np.ndarray:
    brain = np.zeros(SHAPE, dtype=bool)
    brain[8:-8, 8:-8, 2:-2] = True
    return brain


def test_slices_stay_as_they_were_acquired(task: Task) -> None:
    levels = np.arange(SHAPE[2], dtype=np.float32)[None, None] + np.ones(SHAPE, dtype=np.float32)
    prepared = prepare_within((levels, None), _grid(0.9, 0.9, 6.5), _brain(), task)
    assert prepared.channels.shape[0] == 2
    assert prepared.placement.model.spacing_mm == pytest.approx((1, 1, 6.5))
    shown = prepared.channels[0]
    assert [len(np.unique(s[s > 0].round(4))) for s in np.moveaxis(shown, 2, 0)] == [1] * 10
    assert not prepared.channels[1].any()  # a scan that is not there is seen as zeros


def test_what_is_far_from_the_brain_is_not_shown(task: Task) -> None:
    scan = np.full(SHAPE, 100, dtype=np.float32)
    prepared = prepare_within((scan, scan), _grid(1, 1, 5), _brain(), task)
    i, j, k = prepared.channels.shape[1:]
    assert (i, j, k) == (32 + 8, 24 + 8, 10)  # 4 mm around, and no further slice
    assert prepared.channels[0, 0, 0].max() == 0  # its corners are cut
    assert prepared.channels[:, 6:-6, 6:-6] == pytest.approx(1)


def test_sagittal_slices_are_refused_and_fine_ones_are_not(task: Task) -> None:
    scan = np.full(SHAPE, 100, dtype=np.float32)
    with pytest.raises(GeometryError, match=r"sagittal slices of 4\.0 mm"):
        prepare_within((scan, None), _grid(4, 1, 1), _brain(), task)
    prepared = prepare_within((scan, None), _grid(1.2, 1, 1), _brain(), task)
    assert prepared.placement.model.spacing_mm == pytest.approx((1, 1, 1))


def test_without_brain_or_signal_nothing_is_made_up(task: Task) -> None:
    scan = np.full(SHAPE, 100, dtype=np.float32)
    with pytest.raises(InputDataError, match="no brain was found"):
        prepare_within((scan, None), _grid(1, 1, 5), np.zeros(SHAPE, dtype=bool), task)
    with pytest.raises(InputDataError, match="T1w scan shows hardly anything"):
        prepare_within((scan, np.zeros_like(scan)), _grid(1, 1, 5), _brain(), task)


def test_lesions_come_back_to_their_voxels(task: Task) -> None:
    scan = np.full(SHAPE, 100, dtype=np.float32)
    grid = _grid(1, 1, 5)
    lesion = np.zeros(SHAPE, dtype=bool)
    lesion[12:16, 20:24, 5] = True
    lesion[30, 20, 9] = True  # smaller than the rule asks for
    prepared = prepare_within((scan + 50 * lesion, scan), grid, _brain(), task)
    certain = (prepared.channels[0] > 1.2).astype(np.float32)
    predicted = Predicted(np.stack([1 - certain, certain]), prepared.placement, 0)
    rule = LesionRule(threshold=0.5, smallest_mm3=20)
    segmented = restore_within(predicted, rule, brain_volume_mm3=1e6)
    lesion[30, 20, 9] = False
    assert np.array_equal(segmented.dseg == 1, lesion)
    assert segmented.lesion_map is not None
    assert segmented.lesion_map.probability[30, 20, 9] == 1  # it can be found by another rule
    assert segmented.brain_volume_mm3 == 1e6


def test_slices_unlike_those_that_were_measured_are_a_doubt(task: Task) -> None:
    assert doubts_of_slices(_grid(0.9, 0.9, 6.5), task) == ()
    (doubt,) = doubts_of_slices(_grid(1, 1, 1), task)
    assert "1.0 mm thick" in doubt
    assert task.lesions is not None
    unknown = replace(task, lesions=replace(task.lesions, slices_mm=None))
    assert doubts_of_slices(_grid(1, 1, 1), unknown) == ()
