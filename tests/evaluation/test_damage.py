"""Damages do what they say, by the amount that they say, and labels find their way back."""

import numpy as np
import pytest

from bids_deepmrseg.errors import GeometryError, UsageError
from bids_deepmrseg.evaluation.damage import CALIBRATION, DAMAGES, STRIPPED, Damage, stored
from bids_deepmrseg.evaluation.degraded import (
    add_bias,
    add_ghosts,
    add_noise,
    blur,
    change_gamma,
    deface,
    invert,
    strip,
    thicken_slices,
    tissue_intensity,
)
from bids_deepmrseg.evaluation.moved import (
    STORAGE_ORDERS,
    Field,
    Labels,
    carry_labels,
    cut_off,
    foreground_of,
    resample,
    rotate_affine,
    rotate_head,
    store_as,
)
from bids_deepmrseg.imaging.grid import Grid, to_ras
from tests.makers import make_grid, make_head
from tests.regions import make_truth

EVERY = tuple({damage.title: damage for damage in (*DAMAGES, *CALIBRATION)}.values())


def made(geometry: str = "RAS") -> tuple[Field, Grid]:
    grid = make_grid(geometry)
    return make_head(grid), grid


def flat(value: float = 100.0, shape: tuple[int, int, int] = (40, 44, 48)) -> tuple[Field, Grid]:
    """A bright box in the dark."""
    data = np.zeros(shape, np.float32)
    data[4:-4, 4:-4, 4:-4] = value
    return data, Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0]))


def centre_mm(labels: Labels, grid: Grid, index: int) -> np.ndarray:
    """Middle of a label in scanner space."""
    ijk = np.argwhere(labels == index).mean(axis=0)
    middle: np.ndarray = grid.affine[:3, :3] @ ijk + grid.affine[:3, 3]
    return middle


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("geometry", ["RAS", "LPS", "oblique", "odd"])
def test_every_storage_order_is_the_same_head_in_the_same_place(geometry: str) -> None:
    data, grid = made(geometry)
    parts, _ = make_truth(grid)
    reference, turn = to_ras(data, grid)
    assert len(set(STORAGE_ORDERS)) == 48
    for order in STORAGE_ORDERS:
        damaged = store_as(data, grid, order)
        assert damaged.grid.orientation == order
        turned, back = to_ras(damaged.data, damaged.grid)
        np.testing.assert_array_equal(turned, reference)
        assert back.turned.matches(turn.turned)
        there = damaged.there(parts, grid)
        np.testing.assert_array_equal(damaged.back(there, grid), parts)
        np.testing.assert_allclose(
            centre_mm(there, damaged.grid, 12), centre_mm(parts, grid, 12), atol=1e-9
        )


def test_an_order_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="three letters"):
        store_as(*made(), "RRS")


@pytest.mark.parametrize("spacing_mm", [3.0, 5.0])
def test_resampling_gives_the_spacing_and_keeps_the_head_in_place(spacing_mm: float) -> None:
    data, grid = made("oblique")
    parts, _ = make_truth(grid)
    damaged = resample(data, grid, spacing_mm)
    assert damaged.grid.spacing_mm == pytest.approx((spacing_mm,) * 3)
    there = damaged.there(parts, grid)
    assert there.shape == damaged.data.shape
    for index in (11, 12, 13, 14):
        apart = centre_mm(there, damaged.grid, index) - centre_mm(parts, grid, index)
        assert np.abs(apart).max() < 1.0  # a fourth of a voxel
        volume_mm3 = (there == index).sum() * damaged.grid.voxel_volume_mm3
        assert volume_mm3 == pytest.approx((parts == index).sum() * 64, rel=0.15)
    back = damaged.back(there, grid)
    assert dice(back > 0, parts > 0) > 0.85


@pytest.mark.parametrize(
    ("angles_deg", "rotation"),
    [
        ((90.0, 0.0, 0.0), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),  # nodding: the front goes up
        ((0.0, 90.0, 0.0), [[0, 0, -1], [0, 1, 0], [1, 0, 0]]),  # tilting: the right goes up
        ((0.0, 0.0, 90.0), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    ],
)
def test_rotations_move_the_head_by_their_angle(
    angles_deg: tuple[float, float, float], rotation: list[list[int]]
) -> None:
    data, grid = made()
    parts, _ = make_truth(grid)
    damaged = rotate_head(data, grid, angles_deg)
    middle = np.linalg.inv(grid.affine) @ [0, 0, 0, 1]
    np.testing.assert_allclose(middle[:3], (np.array(grid.shape) - 1) / 2, atol=1e-9)
    there = damaged.there(parts, grid)
    before = centre_mm(parts, grid, 11)
    np.testing.assert_allclose(
        centre_mm(there, damaged.grid, 11), np.array(rotation) @ before, atol=0.2
    )
    np.testing.assert_array_equal(damaged.back(there, grid), parts)  # 90 degrees are exact
    np.testing.assert_allclose(np.sort(damaged.data[damaged.data > 50]), np.sort(data[data > 50]))


def test_a_rotated_head_keeps_its_tissue_and_its_field_of_view() -> None:
    data, grid = made("oblique")
    parts, _ = make_truth(grid)
    damaged = rotate_head(data, grid, (15.0, 0.0, 0.0))
    assert damaged.grid.spacing_mm == pytest.approx(grid.spacing_mm)
    assert damaged.data.sum() == pytest.approx(data.sum(), rel=0.02)
    trip = damaged.back(damaged.there(parts, grid), grid)
    assert 0.8 < dice(trip == 12, parts == 12) < 1  # interpolated twice, and so not exact


def test_an_oblique_affine_leaves_every_voxel_alone() -> None:
    data, grid = made("LAS")
    parts, _ = make_truth(grid)
    damaged = rotate_affine(data, grid, (15.0, 10.0, 5.0))
    np.testing.assert_array_equal(damaged.data, data)
    assert not damaged.grid.matches(grid)
    np.testing.assert_array_equal(damaged.there(parts, grid), parts)
    np.testing.assert_array_equal(damaged.back(parts, grid), parts)


@pytest.mark.parametrize("geometry", ["RAS", "LPS", "LIA"])
@pytest.mark.parametrize(
    ("side", "axis", "sign"), [("S", 2, 1), ("I", 2, -1), ("L", 0, -1), ("A", 1, 1)]
)
def test_a_slab_is_cut_off_on_its_side(geometry: str, side: str, axis: int, sign: int) -> None:
    data, grid = made(geometry)
    damaged = cut_off(data, grid, side, 40.0)
    assert damaged.grid.orientation == grid.orientation
    before, turn = to_ras(foreground_of(data), grid)
    after, cut_turn = to_ras(foreground_of(damaged.data), damaged.grid)

    def end_mm(mask: np.ndarray, lattice: Grid) -> float:
        at = np.argwhere(mask)[:, axis]
        ijk = np.zeros(4)
        ijk[axis], ijk[3] = at.max() if sign > 0 else at.min(), 1
        return float((lattice.affine @ ijk)[axis])

    lost_mm = sign * (end_mm(before, turn.turned) - end_mm(after, cut_turn.turned))
    assert lost_mm == pytest.approx(40, abs=8)  # the first and last slices hold hardly any tissue
    everywhere = np.ones(damaged.data.shape, np.uint16)
    kept = damaged.back(everywhere, grid) > 0
    np.testing.assert_array_equal(data[kept], damaged.data.ravel())


def test_a_cut_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(GeometryError, match="nothing of the head"):
        cut_off(*made(), "S", 400.0)


@pytest.mark.parametrize("percent", [3.0, 10.0])
def test_noise_has_the_deviation_that_it_says(percent: float) -> None:
    data, _ = flat()
    noisy = add_noise(data, percent, seed=1)
    assert tissue_intensity(data) == 100
    assert noisy[data > 0].std() == pytest.approx(percent, rel=0.03)
    assert noisy[data == 0].mean() == pytest.approx(percent * np.sqrt(np.pi / 2), rel=0.03)
    assert noisy.min() >= 0


@pytest.mark.parametrize("percent", [40.0, 80.0])
def test_a_bias_field_is_smooth_and_spans_its_range(percent: float) -> None:
    data, _ = flat()
    shown = add_bias(data, percent, seed=1)[data > 0] / 100
    assert shown.min() == pytest.approx(1 - percent / 200, abs=1e-4)
    assert shown.max() == pytest.approx(1 + percent / 200, abs=1e-4)
    field = add_bias(data, percent, seed=1)[4:-4, 4:-4, 4:-4] / 100
    steps = max(float(np.abs(np.diff(field, axis=axis)).max()) for axis in range(3))
    assert steps < percent / 100 / 4


def test_gamma_raises_shares_of_the_bright_end() -> None:
    data = np.linspace(0, 100, 10_001, dtype=np.float32).reshape(1, 73, 137)
    assert np.percentile(data, 99) == pytest.approx(99)
    np.testing.assert_allclose(change_gamma(data, 2), 99 * (data / 99) ** 2, rtol=1e-4)
    np.testing.assert_allclose(change_gamma(data, 1), data, rtol=1e-4, atol=1e-4)


def test_inverted_contrast_reverses_the_order_of_tissues_and_keeps_air_dark() -> None:
    data, _ = flat()
    data[10:14], data[20:24] = 60, 80
    data[data == 0] = 1
    inverted = invert(data)
    assert inverted[11].max() > inverted[21].max() > inverted[30, 20, 20]
    assert (inverted[data == 1] == 1).all()


def test_blur_spreads_a_point_to_its_width() -> None:
    data = np.zeros((61, 61, 31), np.float32)
    data[30, 30, 15] = 1
    grid = Grid((61, 61, 31), np.diag([0.5, 0.5, 1.0, 1.0]))
    spread = blur(data, grid, 6.0)
    half = spread[30, 30, 15] / 2
    assert (spread[:, 30, 15] >= half).sum() * 0.5 == pytest.approx(6.0, abs=0.5)
    assert (spread[30, 30, :] >= half).sum() * 1.0 == pytest.approx(6.0, abs=1.0)
    assert spread.sum() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("axis", [0, 2])
def test_thick_slices_average_along_foot_to_head_only(axis: int) -> None:
    shape = (36, 36, 36)
    affine = np.eye(4) if axis == 2 else np.eye(4)[[2, 1, 0, 3]]
    data = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    thick = thicken_slices(data, Grid(shape, affine), 6.0)
    assert thick.shape == shape
    slabs = np.moveaxis(data, axis, 0).reshape(6, 6, 36, 36).mean(axis=1)
    ours = np.moveaxis(thick, axis, 0)
    middles = (ours[2::6] + ours[3::6]) / 2  # voxels beside the middles of slabs
    np.testing.assert_allclose(
        middles[1:-1], slabs[1:-1] * 11 / 12 + (slabs[:-2] + slabs[2:]) / 24, rtol=1e-3
    )


def test_ghosts_lie_along_the_phase_axis_and_grow_with_the_nodding() -> None:
    data, grid = flat()
    data[:, :12], data[:, -12:] = 0, 0
    in_air = [float(add_ghosts(data, grid, mm, seed=1)[20, :6, 24].mean()) for mm in (0, 1, 3)]
    assert in_air[0] < 1e-3 < in_air[1] < in_air[2]
    np.testing.assert_allclose(add_ghosts(data, grid, 0, seed=1), data, atol=1e-3)
    aside = add_ghosts(data, grid, 3, seed=1)
    assert aside[:4].max() < 1e-3  # not along another axis


@pytest.mark.parametrize("geometry", ["RAS", "LPS", "LIA"])
def test_defacing_blanks_the_front_below_the_brow_and_spares_the_rest(geometry: str) -> None:
    data, grid = made(geometry)
    before, turn = to_ras(data, grid)
    after = to_ras(deface(data, grid), grid)[0]
    blanked = (after == 0) & (before > 0)
    ijk = np.argwhere(blanked)
    xyz = ijk @ turn.turned.affine[:3, :3].T + turn.turned.affine[:3, 3]
    assert len(ijk) > 500
    assert xyz[:, 2].max() < 0
    assert xyz[xyz[:, 2] > -40, 1].min() > 0  # high up only at the very front
    np.testing.assert_array_equal(after[~blanked], before[~blanked])


def test_stripping_keeps_the_brain_and_its_margin() -> None:
    data, grid = flat()
    brain = np.zeros(data.shape, bool)
    brain[15:25, 15:25, 15:25] = True
    stripped = strip(data, grid, brain, 2.0)
    np.testing.assert_array_equal(stripped[brain], data[brain])
    assert stripped[14, 20, 20] == 100  # one voxel of 2 mm
    assert stripped[13, 20, 20] == 0
    with pytest.raises(GeometryError, match="brain mask"):
        strip(data, grid, np.zeros_like(brain), 2.0)


@pytest.mark.parametrize("damage", EVERY, ids=lambda damage: damage.title)
def test_a_damage_is_the_same_for_the_same_seed_and_shows_a_scan(damage: Damage) -> None:
    data, grid = made()
    data, grid = data[::2, ::2, ::2], Grid((21, 24, 20), grid.affine @ np.diag([2, 2, 2, 1]))
    untouched = data.copy()
    brain = data > 100
    one = damage.do(data, grid, seed=damage.seed_for("sub-01"), brain=brain)
    other = damage.do(data, grid, seed=damage.seed_for("sub-01"), brain=brain)
    np.testing.assert_array_equal(data, untouched)  # damaged copies, not the scan itself
    np.testing.assert_array_equal(one.data, other.data)
    assert one.data.dtype == np.float32
    assert one.data.shape == one.grid.shape
    assert np.isfinite(one.data).all()
    assert one.data.max() > one.data.min()


def test_random_damages_differ_between_seeds_and_titles_between_damages() -> None:
    data, grid = made()
    for damage in CALIBRATION[:1]:
        one, other = (damage.do(data, grid, seed=seed).data for seed in (1, 2))
        assert not np.array_equal(one, other)
    assert len({damage.title for damage in DAMAGES}) == len(DAMAGES)
    assert len({damage.title for damage in CALIBRATION}) == len(CALIBRATION)
    assert sum(damage.is_exact for damage in DAMAGES) == 49
    assert stored("LAS").seed_for("sub-01") != stored("LAS").seed_for("sub-02")


def test_stripping_without_a_mask_is_refused() -> None:
    data, grid = made()
    with pytest.raises(UsageError, match="needs a brain mask"):
        STRIPPED.do(data, grid, seed=0)


def test_labels_that_miss_the_other_grid_or_are_none_come_back_empty() -> None:
    _, grid = made()
    parts, _ = make_truth(grid)
    far = np.eye(4)
    far[0, 3] = 1000.5
    assert not carry_labels(parts, grid, grid, far).any()
    assert not carry_labels(np.zeros_like(parts), grid, grid, far).any()
    with pytest.raises(GeometryError, match="not on its grid"):
        carry_labels(parts[1:], grid, grid, far)
