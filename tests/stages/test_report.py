"""Pictures show the right colours at the right side, in true proportions."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.imaging.nifti import read_grid
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.stages.report import draw_case
from tests.makers import make_case, make_dataset, make_segmented

TOP_ROW = slice(10, 35)  # percent of the height: axial slices
BOTTOM_ROW = slice(65, 90)  # sagittal slices


def make_seen(folder: Path, geometry: str) -> tuple[Case, Segmented]:
    """A case whose left structure (red) lies left and whose right one (green) lies right."""
    scan = "sub-01_T1w.nii.gz"
    case = make_case(make_dataset(folder / "bids", {scan: geometry}), scan)
    grid = read_grid(case.scans[0])
    segmented = make_segmented(grid, case.task)
    segmented.dseg[:] = 0
    ijk = np.indices(grid.shape).reshape(3, -1)
    x, y, z = grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]
    near = (np.abs(y) < 20) & (np.abs(z) < 20)
    flat = segmented.dseg.reshape(-1)
    flat[near & (x < -10) & (x > -40)] = 1
    flat[near & (x > 10) & (x < 40)] = 2
    return case, segmented


def columns_of(picture: np.ndarray, channel: int, rows: slice) -> np.ndarray:
    """Columns in which that colour prevails."""
    n = picture.shape[0]
    part = picture[rows.start * n // 100 : rows.stop * n // 100]
    others = [c for c in range(3) if c != channel]
    strong = part[..., channel] > part[..., others].max(axis=-1) + 0.25
    return np.flatnonzero(strong.any(axis=0))


@pytest.mark.parametrize("geometry", ["RAS", "LAS", "odd"])
def test_left_is_left_in_every_axial_slice(tmp_path: Path, geometry: str) -> None:
    case, segmented = make_seen(tmp_path, geometry)
    draw_case(case, segmented, tmp_path / "picture.png")
    picture = imread(tmp_path / "picture.png")
    red, green = (columns_of(picture, channel, TOP_ROW) for channel in (0, 1))
    tile = picture.shape[1] / 7
    for number in range(7):
        inside_red = red[(red >= number * tile) & (red < (number + 1) * tile)]
        inside_green = green[(green >= number * tile) & (green < (number + 1) * tile)]
        assert inside_red.size
        assert inside_green.size
        assert inside_red.mean() < inside_green.mean()


def test_a_cube_is_drawn_as_a_square_whatever_the_voxels(tmp_path: Path) -> None:
    case, segmented = make_seen(tmp_path, "anisotropic")
    draw_case(case, segmented, tmp_path / "picture.png")
    picture = imread(tmp_path / "picture.png")
    n = picture.shape[0]
    part = picture[
        BOTTOM_ROW.start * n // 100 : BOTTOM_ROW.stop * n // 100, : picture.shape[1] // 7
    ]
    red = part[..., 0] > part[..., 1:3].max(axis=-1) + 0.25
    height, width = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert np.ptp(height) / np.ptp(width) == pytest.approx(1, abs=0.25)


def test_an_empty_label_map_has_a_picture_too(tmp_path: Path) -> None:
    case, segmented = make_seen(tmp_path, "RAS")
    segmented.dseg[:] = 0
    draw_case(case, segmented, tmp_path / "picture.png")
    assert imread(tmp_path / "picture.png").shape[0] > 100


def test_a_picture_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    case, segmented = make_seen(tmp_path, "RAS")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        draw_case(case, segmented, tmp_path / "file" / "picture.png")


def test_warnings_are_told_above_the_slices(tmp_path: Path) -> None:
    """The heading turns amber, and only then."""
    case, segmented = make_seen(tmp_path, "RAS")
    found = []
    for name, warnings in (("calm", ()), ("loud", tuple("abcd"))):
        draw_case(case, segmented, tmp_path / f"{name}.png", warnings=warnings)
        picture = imread(tmp_path / f"{name}.png")[..., :3]
        heading = picture[: picture.shape[0] // 10]
        amber = (heading[..., 0] > 0.8) & (heading[..., 1] > 0.5) & (heading[..., 2] < 0.3)
        found.append(int(amber.sum()))
    assert found[0] == 0
    assert found[1] > 100
