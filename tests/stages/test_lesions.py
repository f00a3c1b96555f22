"""What is written of lesions reads back, adds up, and is valid BIDS."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bids_deepmrseg.derivatives import LesionFiles, lesion_details
from bids_deepmrseg.errors import GeometryError, OutputError
from bids_deepmrseg.files import JsonValue, read_json, read_tsv
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.lesions import LesionRule, Lesions, find_lesions
from bids_deepmrseg.imaging.nifti import read_grid
from bids_deepmrseg.stages.describe import write_dataset_files
from bids_deepmrseg.stages.lesions import lesion_rows, write_lesions
from tests.makers import bids_path, make_dataset, open_nifti

SCAN = "sub-01_ses-1_FLAIR.nii.gz"
URI = "bids:raw:sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz"
TOLD: dict[str, JsonValue] = {
    "Sources": [URI],
    "SpatialReference": URI,
    "DeepMRSeg": {"Task": "wml"},
}
RULE = LesionRule(threshold=0.5, smallest_mm3=100)


def make_lesions(
    grid: Grid, *, rule: LesionRule = RULE, ventricles: bool = False, n_lesions: int = 2
) -> Lesions:
    """A lesion of 18 voxels, one of 4, and a voxel that is too small to be one."""
    probability = np.full(grid.shape, 0.02, np.float32)
    if n_lesions:
        probability[20:23, 30:33, 8:10] = 0.9
        probability[40:42, 50:52, 12] = 0.6
        probability[5, 5, 5] = 0.7
    mask: npt.NDArray[np.bool_] | None = None
    if ventricles:
        mask = np.zeros(grid.shape, dtype=bool)
        mask[24:30, 30:33, 8:10] = True  # one voxel of 2.5 mm lies between
    return find_lesions(probability, grid, rule, ventricles=mask)


def files_in(folder: Path, scan: str = SCAN) -> LesionFiles:
    stem = (folder / bids_path(scan)).with_name(scan.removesuffix("_FLAIR.nii.gz"))
    mask = stem.with_name(f"{stem.name}_space-FLAIR_label-L_desc-wml_mask")
    label_map = stem.with_name(f"{stem.name}_space-FLAIR_seg-wml_desc-lesions_dseg")
    return LesionFiles(
        mask=mask.with_name(f"{mask.name}.nii.gz"),
        mask_sidecar=mask.with_name(f"{mask.name}.json"),
        label_map=label_map.with_name(f"{label_map.name}.nii.gz"),
        label_sidecar=label_map.with_name(f"{label_map.name}.json"),
        table=label_map.with_name(f"{label_map.name}.tsv"),
    )


def make_written(
    folder: Path, *, ventricles: bool = False, n_lesions: int = 2, brain_mm3: float | None = None
) -> tuple[Path, Lesions, LesionFiles]:
    """Lesions that were written on a scan with thick slices."""
    raw = make_dataset(folder / "bids", {SCAN: "anisotropic"})
    scan = raw / bids_path(SCAN)
    lesions = make_lesions(read_grid(scan), ventricles=ventricles, n_lesions=n_lesions)
    files = files_in(folder / "out")
    write_lesions(lesions, scan, files, told=TOLD, brain_mm3=brain_mm3)
    return scan, lesions, files


def test_a_row_says_everything_of_a_lesion(tmp_path: Path) -> None:
    scan, _, files = make_written(tmp_path, ventricles=True)
    columns, rows = read_tsv(files.table)
    x, y, z, _ = open_nifti(scan).affine @ [21, 31, 8.5, 1]
    assert rows[0] == {
        "index": "1",
        "name": "Lesion 1",
        "mapping": "7",
        "volume_mm3": "900.000",  # 18 voxels of 2.5 x 2.5 x 8 mm
        "n_voxels": "18",
        "x_mm": f"{x:.2f}",
        "y_mm": f"{y:.2f}",
        "z_mm": f"{z:.2f}",
        "n_slices": "2",
        "mean_probability": "0.9000",
        "ventricle_distance_mm": "2.50",
        "zone": "periventricular",
    }
    assert [row["zone"] for row in rows] == ["periventricular", "deep"]
    assert tuple(rows[0]) == columns == tuple(read_json_of_columns(files))


def read_json_of_columns(files: LesionFiles) -> list[str]:
    """Columns that the sidecar of the table describes, in its order."""
    told = read_json(files.label_sidecar)
    return [key for key in told if key[0].islower()]


def test_without_ventricles_cells_are_na(tmp_path: Path) -> None:
    _, _, files = make_written(tmp_path)
    for row in read_tsv(files.table)[1]:
        assert (row["ventricle_distance_mm"], row["zone"]) == ("n/a", "n/a")


def test_maps_lie_on_the_scan_and_agree_with_the_table(tmp_path: Path) -> None:
    scan, lesions, files = make_written(tmp_path)
    mask, labels = open_nifti(files.mask), open_nifti(files.label_map)
    for image in (mask, labels):
        np.testing.assert_array_equal(image.affine, open_nifti(scan).affine)
        assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), lesions.label_map > 0)
    values, counts = np.unique(np.asanyarray(labels.dataobj), return_counts=True)
    _, rows = read_tsv(files.table)
    assert dict(zip(values[1:].tolist(), counts[1:].tolist(), strict=True)) == {
        int(row["index"]): int(row["n_voxels"]) for row in rows
    }


def test_sidecars_tell_rule_totals_what_was_removed_and_other_thresholds(tmp_path: Path) -> None:
    _, _, files = make_written(tmp_path, brain_mm3=1.1e6)
    mask_told, told = read_json(files.mask_sidecar), read_json(files.label_sidecar)
    assert mask_told["Type"] == "Lesion"
    assert told["Manual"] is False
    assert mask_told["Sources"] == told["Sources"] == [URI]
    assert mask_told["Lesions"] == told["Lesions"]
    details = told["Lesions"]
    assert isinstance(details, dict)
    curve = details.pop("VolumeByThreshold")
    assert details == {
        "Threshold": 0.5,
        "MinLesionMm3": 100,
        "Connectivity": 26,
        "PeriventricularMm": 10.0,
        "VentriclesKnown": False,
        "SliceAxis": "k",
        "Count": 2,
        "VolumeMm3": 1100.0,
        "BrainMm3": 1.1e6,
        "FractionOfBrain": 0.001,
        "RemovedCount": 1,
        "RemovedMm3": 50.0,
    }
    points = [(p["Threshold"], p["Count"], p["VolumeMm3"], p["RemovedMm3"]) for p in curve]
    assert points == [
        *((t, 2, 1100.0, 50.0) for t in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        (0.7, 1, 900.0, 50.0),
        *((t, 1, 900.0, 0.0) for t in (0.8, 0.9)),
    ]


def test_a_scan_without_lesions_has_empty_maps_and_a_table_without_rows(tmp_path: Path) -> None:
    _, _, files = make_written(tmp_path, n_lesions=0, ventricles=True, brain_mm3=1.1e6)
    for file in (files.mask, files.label_map):
        assert not np.asanyarray(open_nifti(file).dataobj).any()
    columns, rows = read_tsv(files.table)
    assert columns[0] == "index"
    assert rows == ()
    details = read_json(files.label_sidecar)["Lesions"]
    assert isinstance(details, dict)
    assert (details["Count"], details["VolumeMm3"], details["FractionOfBrain"]) == (0, 0, 0)
    assert details["VentriclesKnown"] is True


@pytest.mark.parametrize("brain_mm3", [None, 0.0])
def test_without_a_brain_there_is_no_fraction(brain_mm3: float | None) -> None:
    lesions = make_lesions(Grid((66, 78, 20), np.diag([2.5, 2.5, 8, 1])))
    details = lesion_details(lesions, brain_mm3=brain_mm3)
    assert details["FractionOfBrain"] is None
    assert details["BrainMm3"] == brain_mm3


def test_more_lesions_than_a_byte_holds_keep_their_numbers(tmp_path: Path) -> None:
    raw = make_dataset(tmp_path / "bids", {SCAN: "anisotropic"})
    scan = raw / bids_path(SCAN)
    grid = read_grid(scan)
    probability = np.zeros(grid.shape, np.float32)
    probability[::6, ::6, ::3] = 1
    lesions = find_lesions(probability, grid, LesionRule(threshold=0.5, smallest_mm3=0))
    files = files_in(tmp_path / "out")
    write_lesions(lesions, scan, files, told=TOLD)
    labels = np.asanyarray(open_nifti(files.label_map).dataobj)
    assert labels.dtype == np.uint16
    assert labels.max() == len(lesion_rows(lesions)) == 11 * 13 * 7


def test_lesions_of_another_grid_are_not_written(tmp_path: Path) -> None:
    raw = make_dataset(tmp_path / "bids", {SCAN: "RAS"})
    lesions = make_lesions(Grid((66, 78, 20), np.diag([2.5, 2.5, 8, 1])))
    files = files_in(tmp_path / "out")
    with pytest.raises(GeometryError, match="is not on the grid"):
        write_lesions(lesions, raw / bids_path(SCAN), files, told=TOLD)
    assert not files.label_map.exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    raw = make_dataset(tmp_path / "bids", {SCAN: "anisotropic"})
    scan = raw / bids_path(SCAN)
    (tmp_path / "out").write_text("in the way", encoding="utf-8")
    lesions = make_lesions(read_grid(scan))
    with pytest.raises(OutputError, match="cannot be written"):
        write_lesions(lesions, scan, files_in(tmp_path / "out"), told=TOLD)


def test_what_is_written_is_bids_without_an_error_or_a_warning(tmp_path: Path) -> None:
    """Of one session with lesions, and one without any."""
    out, other = tmp_path / "out", SCAN.replace("ses-1", "ses-2")
    raw = make_dataset(tmp_path / "bids", dict.fromkeys((SCAN, other), "anisotropic"))
    for name, n_lesions in ((SCAN, 2), (other, 0)):
        scan = raw / bids_path(name)
        lesions = make_lesions(read_grid(scan), ventricles=True, n_lesions=n_lesions)
        write_lesions(lesions, scan, files_in(out, name), told=TOLD, brain_mm3=1.1e6)
    write_dataset_files(raw, out, code_version="0", work_dir=tmp_path / "work")
    validator = Path(sys.executable).with_name("bids-validator-deno")
    answer = subprocess.run(
        [validator, str(out), "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(answer.stdout)["issues"]["issues"]
    assert [(one["code"], one.get("location"), one["severity"]) for one in issues] == []
