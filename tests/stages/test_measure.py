"""Volumes are counts times voxel volume, on any grid."""

import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.records import Segmented
from bids_deepmrseg.stages.measure import measure
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


def test_labels_off_their_grid_are_refused() -> None:
    with pytest.raises(GeometryError, match="is not on its grid"):
        measure(segmented_of(np.zeros((3, 3, 3)), make_grid()), TASK)
