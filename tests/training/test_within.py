"""Laws of volumes to learn from within a brain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bids_deepmrseg.errors import TrainingError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.nifti import read_label_map
from bids_deepmrseg.taskfiles import find_tasks
from bids_deepmrseg.tasks import Task
from bids_deepmrseg.training.within import Native, changed_scan, painted_head, place_within
from tests.training.corpora import make_head_map


@pytest.fixture
def task() -> Task:
    """The task that the package ships."""
    return next(task for task in find_tasks() if task.lesions is not None)


def _native(spacing_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> Native:
    """A box of a brain with one bright box of a lesion in it, stored left to right reversed."""
    brain = np.zeros(shape, dtype=np.float32)
    brain[4:-4, 4:-4, 1:-1] = 1
    lesions = np.zeros(shape, dtype=np.float32)
    lesions[10:16, 20:26, shape[2] // 2 : shape[2] // 2 + 6] = 1
    flair = brain * 100 + lesions * 60
    grid = Grid(shape, np.diag([-spacing_mm[0], spacing_mm[1], spacing_mm[2], 1.0]))
    return Native((flair, brain * 80), lesions, brain, grid)


def test_a_scan_as_it_is_keeps_its_slices(task: Task) -> None:
    native = _native((1.0, 1.0, 6.0), (40, 48, 20))
    channels, classes = place_within(native, task)
    assert channels.shape[0] == 2
    assert classes.shape == channels.shape[1:]
    assert classes.shape[2] == 18  # those that show the brain
    assert classes.sum() == native.lesions.sum()
    assert np.median(channels[0][classes == 1]) == pytest.approx(1.6, abs=0.02)
    # the array runs from right to left, the model grid from left to right
    assert np.argwhere(classes).mean(axis=0)[0] > classes.shape[0] / 2


def test_thin_slices_are_thickened_in_most_variants_and_thick_ones_never(task: Task) -> None:
    thin, thick = _native((1.0, 1.0, 1.0), (40, 48, 60)), _native((1.0, 1.0, 5.0), (40, 48, 20))
    generators = [torch.Generator().manual_seed(seed) for seed in range(12)]
    n_slices = [changed_scan(thin, task, g)[0].shape[3] for g in generators]
    assert 4 <= sum(n < 30 for n in n_slices) < 12
    assert {changed_scan(thick, task, g)[0].shape[3] for g in generators} == {18}


def test_thickened_slices_show_the_mean_of_what_they_hold(task: Task) -> None:
    native = _native((1.0, 1.0, 1.0), (40, 48, 60))
    for seed in range(20):
        channels, classes = changed_scan(native, task, torch.Generator().manual_seed(seed))
        inside = channels[0] > 0
        assert channels[0][inside].min() > 0.15
        if channels.shape[3] < 30 and classes.any():
            return
    pytest.fail("no variant was thickened")


def test_a_painted_head_is_a_brain_with_lesions(tmp_path: Path, task: Task) -> None:
    values, grid = read_label_map(make_head_map(tmp_path / "m.nii.gz"))
    label_map = torch.from_numpy(values).long()
    n_lesions = 0
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        channels, classes = painted_head(label_map, grid.spacing_mm, task, generator)
        assert channels.shape[0] == 2
        assert channels.shape[1:] == classes.shape
        assert 0 <= channels.min() <= channels.max() <= 4
        assert (channels[0][classes == 1] > 0).all()
        n_lesions += int(classes.sum())
    assert n_lesions > 0


def test_heads_are_not_painted_for_tasks_of_other_scans(tmp_path: Path, task: Task) -> None:
    alone = replace(task, channels=("FLAIR",), optional=())
    label_map = torch.from_numpy(read_label_map(make_head_map(tmp_path / "m.nii.gz"))[0]).long()
    with pytest.raises(TrainingError, match="FLAIR and T1w"):
        painted_head(label_map, (1, 1, 1), alone, torch.Generator().manual_seed(0))
