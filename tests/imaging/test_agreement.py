"""What two scans share is most where they lie upon each other, whatever their contrast."""

import numpy as np
import pytest

from bids_deepmrseg.imaging.agreement import (
    centre_mm,
    clipped,
    head_mask,
    information_by,
    middle_mm,
    mutual_information,
    overlap,
    sample_points,
)
from bids_deepmrseg.imaging.grid import Affine, Grid
from bids_deepmrseg.imaging.nifti import Scan
from tests.makers import make_grid, make_head

HERE = np.eye(4)


def shift(*xyz_mm: float) -> Affine:
    matrix = np.eye(4)
    matrix[:3, 3] = xyz_mm
    return matrix


def head(geometry: str = "RAS", suffix: str = "T1w", seed: int = 0) -> Scan:
    grid = make_grid(geometry)
    return Scan(make_head(grid, suffix=suffix, seed=seed), grid)


@pytest.mark.parametrize("fixed", ["RAS", "anisotropic", "odd"])
def test_information_is_highest_where_the_heads_lie_upon_each_other(fixed: str) -> None:
    flair, t1w = head(fixed, "FLAIR"), head("LPS", seed=1)
    points = sample_points(head_mask(flair), flair.grid)
    shared = [
        mutual_information(flair, t1w, shift(*mm), points)
        for mm in ((0, 0, 0), (4, 0, 0), (0, -4, 0), (0, 0, 4), (8, 8, 8))
    ]
    assert max(shared) == shared[0]
    assert shared[-1] < 0.7 * shared[0]


def test_information_does_not_depend_on_how_tissues_are_coloured() -> None:
    flair, t1w = head(suffix="FLAIR"), head(seed=1)
    negative = Scan(500 - 2 * t1w.data, t1w.grid)
    points = sample_points(head_mask(flair), flair.grid)
    here = [mutual_information(flair, each, HERE, points) for each in (t1w, negative)]
    # a point that leaves the field counts as the lowest value, which is no air in the negative
    assert here[1] == pytest.approx(here[0], rel=0.02)


def test_noise_and_empty_space_share_nothing() -> None:
    flair = head(suffix="FLAIR")
    points = sample_points(head_mask(flair), flair.grid)
    noise = np.random.default_rng(0).uniform(0, 100, flair.grid.shape).astype(np.float32)
    assert mutual_information(flair, Scan(noise, flair.grid), HERE, points) < 0.05
    assert mutual_information(flair, flair, shift(900, 0, 0), points) == pytest.approx(0)


def test_information_for_many_matrices_is_that_of_each() -> None:
    flair, t1w = head("anisotropic", "FLAIR"), head("RAS", "T1w")
    points = sample_points(head_mask(flair), flair.grid)
    information = information_by(flair, t1w, points)
    for matrix in (HERE, shift(5, 0, 3)):
        assert information(matrix) == mutual_information(flair, t1w, matrix, points)
    assert information(HERE) > information(shift(5, 0, 3))


def test_points_lie_around_the_head_and_are_the_same_each_time() -> None:
    flair = head("anisotropic", "FLAIR")
    mask = head_mask(flair)
    points = sample_points(mask, flair.grid)
    np.testing.assert_array_equal(points, sample_points(mask, flair.grid))
    middle = centre_mm(mask, flair.grid)
    assert np.linalg.norm(points - middle, axis=1).max() < 90 + 10 + 8
    off_voxel = np.linalg.inv(flair.grid.affine)[:3, :3] @ (points - flair.grid.affine[:3, 3]).T
    assert np.abs(off_voxel - np.rint(off_voxel)).mean() == pytest.approx(0.25, abs=0.01)


def test_a_head_is_told_from_air_and_its_ventricles_belong_to_it() -> None:
    scan = head("anisotropic", "FLAIR")
    mask = head_mask(scan)
    volume_ml = mask.sum() * scan.grid.voxel_volume_mm3 / 1000
    assert volume_ml == pytest.approx(4 / 3 * np.pi * 76 * 90 * 74 / 1000, rel=0.05)
    middle = np.rint(np.linalg.inv(scan.grid.affine) @ [-14, 0, 8, 1]).astype(int)
    assert mask[tuple(middle[:3])]


def test_ringing_below_zero_and_bright_vessels_do_not_change_the_head() -> None:
    scan = head()
    mask = head_mask(scan)
    rung = scan.data.copy()
    rung[:3] = -20
    rung[20, 24, 20] = 5000
    other = Scan(rung, scan.grid)
    assert np.count_nonzero(head_mask(other) != mask) < 0.02 * mask.sum()
    tamed = clipped(other, mask).data
    assert tamed.max() <= 200
    assert tamed.min() == -20


def test_overlap_is_told_within_the_shared_field_of_view() -> None:
    scan = head()
    mask = head_mask(scan)
    assert overlap(mask, scan.grid, mask, scan.grid, HERE) == 1
    assert overlap(mask, scan.grid, mask, scan.grid, shift(0, 0, 900)) == 0
    lower = Grid((*scan.grid.shape[:2], 20), scan.grid.affine)
    assert overlap(mask, scan.grid, mask[..., :20], lower, HERE) == 1
    apart = overlap(mask, scan.grid, mask, scan.grid, shift(12, 0, 0))
    expected = 2 * (mask[3:] & mask[:-3]).sum() / (mask[:-3].sum() + mask[3:].sum())
    assert apart == pytest.approx(expected, abs=0.01)


def test_an_empty_mask_has_the_middle_of_its_field() -> None:
    grid = make_grid("odd")
    np.testing.assert_allclose(centre_mm(np.zeros(grid.shape, bool), grid), middle_mm(grid))
    np.testing.assert_allclose(middle_mm(grid), 0, atol=1e-9)
