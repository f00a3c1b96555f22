"""Pictures show the right colours at the right side, in true proportions."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.imaging.nifti import read_grid
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.stages.report import draw_case
from tests.lesion_cases import FLAIR, make_found, make_lesion_case
from tests.makers import make_case, make_dataset, make_segmented, open_nifti, write_nifti

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


def make_lesions_seen(folder: Path, slices: tuple[int, ...]) -> tuple[Case, Segmented]:
    """A thick FLAIR with a lesion of 20 x 20 mm in each of those slices."""
    case = make_lesion_case(make_dataset(folder / "bids", {FLAIR: "anisotropic"}), with_t1w=False)
    segmented = make_found(read_grid(case.scans[0]), n_lesions=0)
    for index in slices:
        segmented.dseg[20:28, 30:38, index] = 1
    return case, segmented


def red_of(picture: np.ndarray) -> np.ndarray:
    """Where outlines are."""
    return np.asarray(picture[..., 0] > picture[..., 1:3].max(axis=-1) + 0.25)


def tiles_with(red: np.ndarray) -> list[int]:
    """Which of the seven columns of tiles hold any red."""
    n = red.shape[1] / 7
    parts = [red[:, round(tile * n) : round((tile + 1) * n)] for tile in range(7)]
    return [tile for tile, part in enumerate(parts) if part.any()]


def test_slices_with_lesions_are_drawn_each_once(tmp_path: Path) -> None:
    case, segmented = make_lesions_seen(tmp_path, (8, 9, 13))
    draw_case(case, segmented, tmp_path / "picture.png")
    red = red_of(imread(tmp_path / "picture.png"))
    assert tiles_with(red[: red.shape[0] // 3]) == [0, 1, 2]


def test_lesions_are_outlined_and_not_painted_over(tmp_path: Path) -> None:
    case, segmented = make_lesions_seen(tmp_path, (8,))
    draw_case(case, segmented, tmp_path / "picture.png")
    red = red_of(imread(tmp_path / "picture.png"))
    top = red[: red.shape[0] // 3]
    rows, columns = np.flatnonzero(top.any(axis=1)), np.flatnonzero(top.any(axis=0))
    inside = top[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert inside.mean() < 0.5
    assert len(rows) == pytest.approx(len(columns), rel=0.15)  # 20 mm are 20 mm either way


def test_more_slices_with_lesions_take_more_rows_and_none_takes_as_many(tmp_path: Path) -> None:
    heights = []
    for name, slices in (("few", (8,)), ("many", tuple(range(3, 17))), ("none", ())):
        case, segmented = make_lesions_seen(tmp_path, slices)
        draw_case(case, segmented, tmp_path / f"{name}.png")
        heights.append(imread(tmp_path / f"{name}.png").shape[0])
    few, many, none = heights
    assert few < many < none


def test_brain_stays_visible_beside_bright_fat(tmp_path: Path) -> None:
    """White is for what is brighter than tissue by as much as lesions are."""
    case, segmented = make_lesions_seen(tmp_path, (8,))
    scan = open_nifti(case.scans[0])
    head = np.asanyarray(scan.dataobj).astype(np.float32)
    head[head > 150] = 1500  # skin as a fatty scalp shines
    write_nifti(case.scans[0], head, scan.affine)
    draw_case(case, segmented, tmp_path / "picture.png")
    picture = imread(tmp_path / "picture.png")[..., :3]
    tile = picture[: picture.shape[0] // 3, : picture.shape[1] // 7]
    rows, columns = tile.shape[0], tile.shape[1]
    middle = tile[rows // 2 : rows * 3 // 4, columns // 3 : columns * 2 // 3]
    assert np.median(middle) > 0.3
