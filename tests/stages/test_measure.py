"""Volumes are counts times voxel volume, on any grid."""

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.records import Segmented
from bids_deepmrseg.stages.measure import brain_volume_mm3, doubts_of_brain, measure
from tests.makers import GEOMETRIES, make_grid, make_segmented, make_task

TASK = make_task(indices=(1, 2, 3))


def segmented_of(dseg: np.ndarray, grid: Grid, probability: float = 0.5) -> Segmented:
    confidence = np.full(dseg.shape, probability, np.float32)
    return Segmented(dseg.astype(np.uint16), confidence, grid, None)


@given(
    dseg=arrays(np.uint16, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 3)),
    spacing_mm=st.tuples(*[st.sampled_from((0.5, 1.0, 3.0))] * 3),
)
def test_volume_is_voxel_count_times_voxel_volume(
    dseg: np.ndarray, spacing_mm: tuple[float, float, float]
) -> None:
    grid = Grid(dseg.shape, np.diag([*spacing_mm, 1.0]))
    for one in measure(segmented_of(dseg, grid), TASK):
        assert one.n_voxels == np.count_nonzero(dseg == one.label.index)
        assert one.volume_mm3 == pytest.approx(one.n_voxels * math.prod(spacing_mm))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_label_has_one_entry_in_the_order_of_the_table(geometry: str) -> None:
    grid = make_grid(geometry)
    measures = measure(make_segmented(grid, TASK), TASK)
    assert [one.label for one in measures] == list(TASK.labels)
    assert {one.n_voxels for one in measures} == {32}
    assert {one.mean_probability for one in measures} == {0.75}


def test_an_absent_label_is_zero_and_not_missing() -> None:
    grid = make_grid()
    left, right, _ = measure(segmented_of(np.zeros(grid.shape), grid), TASK)
    assert (left.n_voxels, left.volume_mm3, left.touches_edge) == (0, 0.0, False)
    assert math.isnan(left.mean_probability)
    assert left.in_adult_range is False  # 0 ml is below the least that an adult has
    assert right.in_adult_range is None  # nothing was published for it


def test_mean_probability_is_over_the_voxels_of_the_structure_alone() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    dseg = np.zeros(grid.shape, np.uint16)
    dseg[1, 1, 1:3] = 1
    confidence = np.ones(grid.shape, np.float32)
    confidence[1, 1, 1], confidence[1, 1, 2] = 0.5, 0.9
    left, *_ = measure(Segmented(dseg, confidence, grid, None), TASK)
    assert left.mean_probability == pytest.approx(0.7)


@pytest.mark.parametrize("face", [(0, 2, 2), (4, 2, 2), (2, 0, 2), (2, 4, 2), (2, 2, 0), (2, 2, 4)])
def test_a_structure_on_any_face_touches_the_edge(face: tuple[int, int, int]) -> None:
    grid = Grid((5, 5, 5), np.eye(4))
    dseg = np.zeros(grid.shape, np.uint16)
    dseg[face], dseg[2, 2, 2] = 1, 2
    left, right, _ = measure(segmented_of(dseg, grid), TASK)
    assert (left.touches_edge, right.touches_edge) == (True, False)


def test_an_index_without_a_name_is_told(caplog: pytest.LogCaptureFixture) -> None:
    grid = make_grid()
    dseg = np.zeros(grid.shape)
    dseg[5, 5, 5] = 77
    with caplog.at_level(logging.WARNING):
        measure(segmented_of(dseg, grid), TASK)
    assert "without a name: [77]" in caplog.text


def test_fractions_are_of_the_brain_that_was_measured_before() -> None:
    grid = make_grid()
    segmented = make_segmented(grid, TASK)
    assert {one.fraction_of_brain for one in measure(segmented, TASK)} == {None}
    told = replace(segmented, brain_volume_mm3=4096.0)
    assert brain_volume_mm3(told, TASK) == 4096.0
    fractions = [one.fraction_of_brain for one in measure(told, TASK)]
    assert fractions == pytest.approx([0.5, 0.5, 0.5])


def test_a_task_that_measures_the_brain_trusts_its_own() -> None:
    task = replace(TASK, brain=3)
    told = replace(make_segmented(make_grid(), task), brain_volume_mm3=1.0)
    assert brain_volume_mm3(told, task) == pytest.approx(2048.0)
    left, right, brain = measure(told, task)
    assert (left.fraction_of_brain, right.fraction_of_brain) == (1.0, 1.0)
    assert brain.fraction_of_brain is None


def test_nothing_is_divided_by_a_brain_that_was_not_found() -> None:
    task = replace(TASK, brain=3)
    segmented = make_segmented(make_grid(), task)
    segmented.dseg[segmented.dseg == 3] = 0
    assert brain_volume_mm3(segmented, task) == 0.0
    assert {one.fraction_of_brain for one in measure(segmented, task)} == {None}


def test_a_brain_that_may_be_cut_or_is_no_adults_is_doubted() -> None:
    segmented = make_segmented(make_grid(), TASK)
    assert doubts_of_brain(segmented, TASK) == ()
    task = replace(TASK, brain=1)  # its adult range is 1 to 50 ml
    assert doubts_of_brain(segmented, task) == ()
    segmented.dseg[0, 3, 3] = 1
    (cut,) = doubts_of_brain(segmented, task)
    assert "the brain that tiny found reaches the edge of the scan" in cut
    segmented.dseg[:] = 1
    _, large = doubts_of_brain(segmented, task)
    assert "has 5161 ml; adults have 1 to 50 ml: look at the picture" in large


def test_labels_off_their_grid_are_refused() -> None:
    with pytest.raises(GeometryError, match="is not on its grid"):
        measure(segmented_of(np.zeros((3, 3, 3)), make_grid()), TASK)
