"""Lesions worked out by hand on thick and oblique slices, and the laws of the removal rule."""

import logging
import math

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from bids_deepmrseg.errors import GeometryError, SegmentationError, UsageError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.lesions import (
    CURVE_THRESHOLDS,
    Axis,
    LesionRule,
    Lesions,
    find_lesions,
    slice_axis_of,
    volume_curve,
)
from tests.makers import GEOMETRIES, make_grid

Probability = npt.NDArray[np.float32]
SHAPE = (12, 12, 8)
THICK_MM = (0.9, 0.9, 7.0)
VOXEL_MM3 = 0.9 * 0.9 * 7.0
THICK = Grid(
    SHAPE,
    np.array([[-0.9, 0, 0, 90], [0, 0.9, 0, -20], [0, 0, 7.0, -30], [0, 0, 0, 1]]),
)
EVERY = LesionRule(threshold=0.5, smallest_mm3=0)
MAPS = arrays(
    np.float32,
    st.tuples(*[st.integers(1, 5)] * 3),
    elements=st.sampled_from([np.float32(n / 20) for n in range(21)]),
)


def made(*boxes: tuple[slice, slice, slice], probability: float = 0.8) -> Probability:
    """A map that is ``probability`` in boxes and 0.05 elsewhere."""
    values = np.full(SHAPE, 0.05, np.float32)
    for box in boxes:
        values[box] = probability
    return values


LARGE = (slice(2, 5), slice(3, 6), slice(2, 5))  # 27 voxels in 3 slices
FLAT = (slice(8, 10), slice(8, 10), slice(5, 6))  # 4 voxels in 1 slice
SINGLE = (slice(0, 1), slice(10, 11), slice(0, 1))


def test_lesions_are_counted_and_measured() -> None:
    lesions = find_lesions(made(FLAT, LARGE, SINGLE), THICK, EVERY)
    assert [x.n_voxels for x in lesions.lesions] == [27, 4, 1]
    assert [x.index for x in lesions.lesions] == [1, 2, 3]
    assert [x.n_slices for x in lesions.lesions] == [3, 1, 1]
    assert [x.volume_mm3 for x in lesions.lesions] == pytest.approx(
        [27 * VOXEL_MM3, 4 * VOXEL_MM3, VOXEL_MM3]
    )
    assert lesions.volume_mm3 == pytest.approx(32 * VOXEL_MM3)
    assert [x.mean_probability for x in lesions.lesions] == pytest.approx([0.8] * 3)
    assert (lesions.label_map[LARGE] == 1).all()
    assert (lesions.label_map[FLAT] == 2).all()
    assert np.count_nonzero(lesions.mask) == 32


def test_a_centroid_lies_where_the_affine_puts_it() -> None:
    """Voxel 8.5, 8.5, 5 of a scan that runs from right to left."""
    (lesion,) = find_lesions(made(FLAT), THICK, EVERY).lesions
    assert lesion.centroid_mm == pytest.approx((90 - 8.5 * 0.9, -20 + 8.5 * 0.9, -30 + 5 * 7.0))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_centroid_is_the_mean_of_world_points_on_every_grid(geometry: str) -> None:
    grid = make_grid(geometry)
    probability = np.zeros(grid.shape, np.float32)
    voxels = np.array([[3, 4, 5], [4, 5, 5], [4, 6, 6], [5, 6, 7]])
    probability[tuple(voxels.T)] = 1
    (lesion,) = find_lesions(probability, grid, EVERY).lesions
    points = [grid.affine @ [*voxel, 1] for voxel in voxels]
    assert lesion.centroid_mm == pytest.approx(tuple(np.mean(points, axis=0)[:3]))
    assert lesion.volume_mm3 == pytest.approx(4 * grid.voxel_volume_mm3)


def test_a_threshold_is_reached_by_what_equals_it() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        for threshold in CURVE_THRESHOLDS:
            values = np.zeros(SHAPE, dtype)
            values[3, 3, 3] = threshold
            rule = LesionRule(threshold=threshold, smallest_mm3=0)
            assert len(find_lesions(values, THICK, rule).lesions) == 1


def test_lesions_that_touch_by_a_corner_across_slices_are_one() -> None:
    corner = (slice(5, 6), slice(6, 7), slice(5, 6))
    beside = (slice(5, 6), slice(6, 7), slice(6, 7))
    (lesion,) = find_lesions(made(LARGE, corner), THICK, EVERY).lesions
    assert (lesion.n_voxels, lesion.n_slices) == (28, 4)
    assert len(find_lesions(made(LARGE, beside), THICK, EVERY).lesions) == 2


def test_slices_are_those_with_a_voxel_not_the_span() -> None:
    """A lesion that winds: two arms of one slice each, joined in others."""
    values = made((slice(2, 3), slice(2, 9), slice(3, 4)))
    values[2, 2, 1:3] = values[2, 8, 4:6] = 0.8
    (lesion,) = find_lesions(values, THICK, EVERY).lesions
    assert lesion.n_slices == 5


@pytest.mark.parametrize(("axis", "n_slices"), [(0, 2), (1, 2), (2, 1)])
def test_slices_are_counted_along_the_axis_that_is_asked_for(axis: Axis, n_slices: int) -> None:
    lesions = find_lesions(made(FLAT), THICK, EVERY, slice_axis=axis)
    assert lesions.slice_axis == axis
    assert lesions.lesions[0].n_slices == n_slices


@pytest.mark.parametrize(
    ("geometry", "axis"),
    [("anisotropic", 2), ("RAS", 2), ("LIA", 1), ("oblique", 2), ("odd", 1)],
)
def test_slices_are_thick_or_else_axial(geometry: str, axis: int) -> None:
    """``odd`` runs P, S, R with voxels that are nearly cubes."""
    assert slice_axis_of(make_grid(geometry)) == axis


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_thickest_axis_is_that_of_the_slices(axis: int) -> None:
    spacing_mm = [0.9, 0.9, 0.9]
    spacing_mm[axis] = 3.0
    assert slice_axis_of(Grid(SHAPE, np.diag([*spacing_mm, 1.0]))) == axis


def test_small_pieces_go_by_the_rule_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    rule = LesionRule(threshold=0.5, smallest_mm3=4 * VOXEL_MM3)
    with caplog.at_level(logging.INFO):
        lesions = find_lesions(made(LARGE, FLAT, SINGLE), THICK, rule)
    assert [x.n_voxels for x in lesions.lesions] == [27, 4]
    assert lesions.n_removed == 1
    assert lesions.removed_mm3 == pytest.approx(VOXEL_MM3)
    assert not lesions.mask[SINGLE].any()
    assert "1 pieces below 22.68 mm3 are no lesions by the rule: 5.7 mm3" in caplog.text


def test_a_map_without_lesions_is_no_error() -> None:
    ventricles = np.zeros(SHAPE, dtype=bool)
    ventricles[LARGE] = True
    lesions = find_lesions(made(), THICK, EVERY, ventricles=ventricles)
    assert lesions.lesions == ()
    assert (lesions.volume_mm3, lesions.n_removed, lesions.removed_mm3) == (0, 0, 0)
    assert lesions.label_map.shape == SHAPE
    assert not lesions.mask.any()
    assert lesions.ventricles_known
    assert [(at.n_lesions, at.volume_mm3) for at in lesions.curve] == [(0, 0)] * 9


def test_all_that_was_found_may_be_too_small() -> None:
    rule = LesionRule(threshold=0.5, smallest_mm3=1000)
    lesions = find_lesions(made(FLAT, SINGLE), THICK, rule)
    assert (lesions.lesions, lesions.n_removed) == ((), 2)
    assert not lesions.mask.any()


# ventricles


def test_distances_are_from_edge_to_edge_through_thick_slices() -> None:
    """Three slices of 7 mm lie between slice 0 and slice 4; LARGE begins in slice 2."""
    ventricles = np.zeros(SHAPE, dtype=bool)
    ventricles[2:5, 3:6, 0] = True
    far = (slice(2, 5), slice(3, 6), slice(7, 8))
    rule = LesionRule(threshold=0.5, smallest_mm3=0, periventricular_mm=7.0)
    near, deep = find_lesions(made(LARGE, far), THICK, rule, ventricles=ventricles).lesions
    assert near.ventricle_distance_mm == pytest.approx(7.0)  # slice 1 lies between
    assert deep.ventricle_distance_mm == pytest.approx(42.0)
    assert (near.zone, deep.zone) == ("periventricular", "deep")


def test_a_lesion_has_one_class_that_of_its_nearest_voxel() -> None:
    ventricles = np.zeros(SHAPE, dtype=bool)
    ventricles[2, 2, 2] = True
    (lesion,) = find_lesions(
        made((slice(2, 12), slice(3, 4), slice(2, 3))), THICK, EVERY, ventricles=ventricles
    ).lesions
    assert (lesion.ventricle_distance_mm, lesion.zone) == (0, "periventricular")


def test_ten_millimetres_part_periventricular_from_deep() -> None:
    grid = Grid((40, 4, 4), np.eye(4))
    ventricles = np.zeros(grid.shape, dtype=bool)
    ventricles[0] = True
    values = np.zeros(grid.shape, np.float32)
    values[11, 0, 0] = values[11, 3, 3] = values[13:15, 1, 1] = 1
    zones = [x.zone for x in find_lesions(values, grid, EVERY, ventricles=ventricles).lesions]
    assert zones == ["deep", "periventricular", "periventricular"]  # 12, 10 and 10 mm


@pytest.mark.parametrize("ventricles", [None, np.zeros(SHAPE, dtype=bool)])
def test_without_ventricles_nothing_is_said_of_them(
    ventricles: npt.NDArray[np.bool_] | None,
) -> None:
    lesions = find_lesions(made(LARGE, FLAT), THICK, EVERY, ventricles=ventricles)
    assert not lesions.ventricles_known
    assert len(lesions.lesions) == 2
    for lesion in lesions.lesions:
        assert (lesion.ventricle_distance_mm, lesion.zone) == (None, None)


# laws


@given(MAPS, st.floats(0.05, 1), st.floats(0, 40))
def test_volumes_add_up_to_what_reached_the_threshold(
    values: Probability, threshold: float, smallest_mm3: float
) -> None:
    grid = Grid(values.shape, np.diag([*THICK_MM, 1.0]))
    rule = LesionRule(threshold=threshold, smallest_mm3=smallest_mm3)
    lesions = find_lesions(values, grid, rule)
    reached_mm3 = np.count_nonzero(values >= threshold) * VOXEL_MM3
    assert lesions.volume_mm3 + lesions.removed_mm3 == pytest.approx(reached_mm3)
    assert np.count_nonzero(lesions.mask) * VOXEL_MM3 == pytest.approx(lesions.volume_mm3)
    for lesion in lesions.lesions:
        mine = lesions.label_map == lesion.index
        assert lesion.n_voxels == np.count_nonzero(mine)
        assert lesion.volume_mm3 >= smallest_mm3 - 0.01
        assert lesion.n_slices == np.count_nonzero(mine.any(axis=(0, 1)))
        assert threshold - 1e-6 <= lesion.mean_probability <= 1
        assert lesion.mean_probability == pytest.approx(values[mine].mean(), rel=1e-5)


@given(MAPS, st.floats(0, 40))
def test_no_volume_grows_with_the_threshold(values: Probability, smallest_mm3: float) -> None:
    grid = Grid(values.shape, np.diag([*THICK_MM, 1.0]))
    curve = volume_curve(values, grid, smallest_mm3=smallest_mm3)
    volumes = [at.volume_mm3 for at in curve]
    assert volumes == sorted(volumes, reverse=True)
    found = [at.volume_mm3 + at.removed_mm3 for at in curve]
    assert found == pytest.approx(
        [np.count_nonzero(values >= t) * VOXEL_MM3 for t in CURVE_THRESHOLDS]
    )


@given(MAPS, st.sampled_from(CURVE_THRESHOLDS), st.floats(0, 40))
def test_the_curve_says_what_a_run_at_that_threshold_would(
    values: Probability, threshold: float, smallest_mm3: float
) -> None:
    grid = Grid(values.shape, np.diag([*THICK_MM, 1.0]))
    lesions = find_lesions(values, grid, LesionRule(threshold=threshold, smallest_mm3=smallest_mm3))
    (at,) = (x for x in lesions.curve if x.threshold == threshold)
    assert at.n_lesions == len(lesions.lesions)
    assert at.volume_mm3 == pytest.approx(lesions.volume_mm3)
    assert at.n_removed == lesions.n_removed
    assert at.removed_mm3 == pytest.approx(lesions.removed_mm3)


def test_a_lesion_that_falls_apart_raises_the_count_and_not_the_volume() -> None:
    values = made((slice(2, 9), slice(2, 3), slice(3, 4)), probability=0.85)
    values[5, 2, 3] = 0.45
    counts = [at.n_lesions for at in volume_curve(values, THICK, smallest_mm3=0)]
    assert counts == [1, 1, 1, 1, 2, 2, 2, 2, 0]


@given(MAPS, st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_storage_order_changes_no_lesion(
    values: Probability, order: list[int], flips: tuple[bool, bool, bool]
) -> None:
    grid = Grid(values.shape, np.diag([*THICK_MM, 1.0]))
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, old in enumerate(order):
        to_old[old, new] = -1 if flips[new] else 1
        to_old[old, 3] = values.shape[old] - 1 if flips[new] else 0
    turned = values.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    other = find_lesions(turned, Grid(turned.shape, grid.affine @ to_old), EVERY)
    first = find_lesions(values, grid, EVERY)

    def told(lesions: Lesions) -> list[tuple[float, ...]]:
        return sorted(
            (x.n_voxels, *(round(mm, 6) + 0.0 for mm in x.centroid_mm), x.n_slices)
            for x in lesions.lesions
        )

    assert told(first) == told(other)


# refusals


def test_maps_off_their_grid_are_refused() -> None:
    with pytest.raises(GeometryError, match="is not on its grid"):
        find_lesions(np.zeros((3, 3, 3), np.float32), THICK, EVERY)
    with pytest.raises(GeometryError, match="ventricles"):
        find_lesions(made(), THICK, EVERY, ventricles=np.zeros((3, 3, 3), dtype=bool))


@pytest.mark.parametrize("wrong", [math.nan, -0.2, 1.5])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    values = made(LARGE)
    values[0, 0, 0] = wrong
    with pytest.raises(SegmentationError, match="no probabilities"):
        find_lesions(values, THICK, EVERY)


@pytest.mark.parametrize(
    ("threshold", "smallest_mm3", "periventricular_mm"),
    [(0, 0, 10), (1.1, 0, 10), (math.nan, 0, 10), (0.5, -1, 10), (0.5, math.inf, 10), (0.5, 0, -1)],
)
def test_a_rule_that_makes_no_sense_is_refused(
    threshold: float, smallest_mm3: float, periventricular_mm: float
) -> None:
    with pytest.raises(UsageError):
        LesionRule(
            threshold=threshold, smallest_mm3=smallest_mm3, periventricular_mm=periventricular_mm
        )
