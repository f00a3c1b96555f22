"""Laws of the brain frame."""

import numpy as np
import pytest

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.imaging.head import find_brain_frame, frame_crop
from tests.makers import make_grid, make_head

SPACING_MM = 4.0


def test_centre_is_the_middle_of_the_head_below_its_top() -> None:
    head = make_head(make_grid())
    frame = find_brain_frame(head, SPACING_MM)
    middle = (np.array(head.shape) - 1) / 2
    assert np.abs(np.array(frame.centre[:2]) - middle[:2]).max() <= 1.5
    top = np.flatnonzero((head > 60).any(axis=(0, 1)))[-1]
    assert 0 <= top - frame.vertex <= 2


def test_scale_of_the_scanner_does_not_matter() -> None:
    head = make_head(make_grid())
    one, other = find_brain_frame(head, SPACING_MM), find_brain_frame(head * 37, SPACING_MM)
    assert other.centre == one.centre
    assert other.tissue_intensity == pytest.approx(37 * one.tissue_intensity, rel=1e-4)


def test_bright_scalp_and_no_scalp_give_the_same_tissue_intensity() -> None:
    grid = make_grid()
    whole = make_head(grid)
    xyz_mm = grid.affine[:3, :3] @ np.indices(grid.shape).reshape(3, -1) + grid.affine[:3, 3:]
    inside = ((xyz_mm / np.array([[64], [78], [62]])) ** 2).sum(axis=0) <= 1
    stripped = np.where(inside.reshape(grid.shape), whole, 0).astype(np.float32)
    bright = np.where(inside.reshape(grid.shape), whole, whole * 3).astype(np.float32)
    levels = [find_brain_frame(h, SPACING_MM).tissue_intensity for h in (whole, stripped, bright)]
    assert max(levels) <= 1.05 * min(levels)


def test_negative_air_counts_as_background() -> None:
    head = make_head(make_grid())
    frame = find_brain_frame(head - 50, SPACING_MM)
    assert frame.background_intensity == pytest.approx(-50, abs=3)
    assert frame.tissue_intensity == pytest.approx(
        find_brain_frame(head, SPACING_MM).tissue_intensity, rel=0.1
    )


def test_too_little_foreground_is_refused_with_its_volume() -> None:
    speck = np.zeros((40, 40, 40), np.float32)
    speck[20:22, 20:22, 20:22] = 100
    with pytest.raises(InputDataError, match=r"only \d+ ml"):
        find_brain_frame(speck, SPACING_MM)


def test_the_box_has_its_extent_where_there_is_room_and_stays_inside_where_not() -> None:
    head = np.pad(make_head(make_grid()), 10)
    frame = find_brain_frame(head, SPACING_MM)
    i, j, k = head.shape
    crop = frame_crop(frame, (i, j, k), (44, 52, 44), SPACING_MM)
    assert [b - a for a, b in zip(crop.start, crop.stop, strict=True)] == [44, 52, 44]
    whole = frame_crop(frame, (i, j, k), (500, 500, 500), SPACING_MM)
    assert (whole.start, whole.stop) == ((0, 0, 0), head.shape)
