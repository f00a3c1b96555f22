"""Everything that is written of lesions agrees with itself, is valid BIDS, and harms nobody."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import read_json, read_tsv
from bids_deepmrseg.stages.aggregate import aggregate
from bids_deepmrseg.stages.describe import write_dataset_files
from tests.lesion_cases import BRAIN_MM3, FLAIR, make_lesion_case, write_found
from tests.makers import bids_path, make_dataset, open_nifti

STEM = "sub-01_ses-1_run-2_space-FLAIR"
DSEG = f"{STEM}_seg-spots_dseg"
MASK = f"{STEM}_label-L_desc-spots_mask"
EACH = f"{STEM}_seg-spots_desc-lesions_dseg"
PROBSEG = f"{STEM}_seg-spots_probseg"
MOVED = "sub-01_ses-1_run-2_from-T1w_to-FLAIR_mode-image_xfm"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A thick FLAIR and a T1w on another grid."""
    t1w = FLAIR.replace("FLAIR", "T1w")
    return make_dataset(tmp_path / "bids", {FLAIR: "anisotropic", t1w: "oblique"})


def test_every_file_of_lesions_has_its_name(raw: Path, tmp_path: Path) -> None:
    write_found(make_lesion_case(raw), tmp_path / "out", probabilities=True)
    names = {file.name for file in (tmp_path / "out" / "sub-01" / "ses-1" / "anat").iterdir()}
    assert names == {
        *(f"{DSEG}{ending}" for ending in (".nii.gz", ".json", ".tsv")),
        *(f"{EACH}{ending}" for ending in (".nii.gz", ".json", ".tsv")),
        *(f"{name}{ending}" for name in (MASK, PROBSEG) for ending in (".nii.gz", ".json")),
        *(f"{MOVED}{ending}" for ending in (".txt", ".json")),
    }
    assert (tmp_path / "out" / "sub-01" / "figures" / f"{DSEG}.png").is_file()


def test_label_map_mask_numbers_and_tables_tell_the_same(raw: Path, tmp_path: Path) -> None:
    found, dseg = write_found(make_lesion_case(raw), tmp_path / "out", probabilities=True)
    maps = {
        name: np.asanyarray(open_nifti(dseg.with_name(f"{name}.nii.gz")).dataobj)
        for name in (DSEG, MASK, EACH, PROBSEG)
    }
    np.testing.assert_array_equal(maps[DSEG], found.dseg)
    np.testing.assert_array_equal(maps[MASK], maps[DSEG])
    np.testing.assert_array_equal(maps[EACH] > 0, maps[MASK])
    assert maps[PROBSEG].ndim == 3
    assert (maps[PROBSEG][maps[MASK] > 0] >= 0.5).all()
    (row,) = read_tsv(dseg.with_name(f"{DSEG}.tsv"))[1]
    each = read_tsv(dseg.with_name(f"{EACH}.tsv"))[1]
    assert row["n_lesions"] == str(len(each)) == "2"
    assert float(row["volume_mm3"]) == sum(float(one["volume_mm3"]) for one in each) == 1100


def test_the_table_tells_the_rule_what_it_left_out_and_what_was_looked_at(
    raw: Path, tmp_path: Path
) -> None:
    _, dseg = write_found(make_lesion_case(raw), tmp_path / "out")
    columns, (row,) = read_tsv(dseg.with_name(f"{DSEG}.tsv"))
    told = {name: row[name] for name in ("lesion_threshold", "min_lesion_mm3", "inputs")}
    assert told == {"lesion_threshold": "0.5", "min_lesion_mm3": "100", "inputs": "FLAIR+T1w"}
    assert (row["n_removed"], row["removed_mm3"]) == ("1", "50.000")
    assert (row["brain_mm3"], row["fraction_of_brain"]) == ("1100000.000", "0.00100000")
    assert set(columns) <= read_json(dseg.with_name(f"{DSEG}.json")).keys()


def test_every_sidecar_tells_scans_registration_rule_and_whose_brain(
    raw: Path, tmp_path: Path
) -> None:
    _, dseg = write_found(make_lesion_case(raw), tmp_path / "out")
    flair, t1w = (
        f"bids:raw:sub-01/ses-1/anat/sub-01_ses-1_run-2_{suffix}.nii.gz"
        for suffix in ("FLAIR", "T1w")
    )
    sidecars = [read_json(dseg.with_name(f"{name}.json")) for name in (DSEG, MASK, EACH)]
    for sidecar in sidecars:
        assert sidecar["Sources"] == [flair, t1w]
        assert sidecar["SpatialReference"] == flair
        assert sidecar["Lesions"] == sidecars[0]["Lesions"]
        assert isinstance(sidecar["Lesions"], dict)
        assert sidecar["Lesions"]["BrainMm3"] == BRAIN_MM3
        assert len(sidecar["Lesions"]["VolumeByThreshold"]) == 9
        made = sidecar["DeepMRSeg"]
        assert isinstance(made, dict)
        assert made["Inputs"] == ["FLAIR", "T1w"]
        assert made["BrainMeasuredBy"] == {
            "Task": "brainmask",
            "ModelSHA256": "cd" * 32,
            "Scan": flair,
        }
        assert made["Registration"]["MutualInformationAfter"] == 0.7123
        assert made["Registration"]["FixedToMovingMm"][0] == [1, 0, 0, 2.5]
        assert made["BrainOverlap"] == 0.97


def test_without_a_t1w_nothing_of_one_is_told(raw: Path, tmp_path: Path) -> None:
    _, dseg = write_found(make_lesion_case(raw, with_t1w=False), tmp_path / "out")
    sidecar = read_json(dseg.with_name(f"{DSEG}.json"))
    assert isinstance(sidecar["DeepMRSeg"], dict)
    assert sidecar["DeepMRSeg"]["Inputs"] == ["FLAIR"]
    assert sidecar["DeepMRSeg"]["Registration"] is None
    assert sidecar["DeepMRSeg"]["BrainOverlap"] is None
    assert read_tsv(dseg.with_name(f"{DSEG}.tsv"))[1][0]["inputs"] == "FLAIR"
    assert not list(dseg.parent.glob("*_xfm.*"))


def test_a_scan_without_lesions_has_empty_maps_a_row_of_zeros_and_a_picture(
    raw: Path, tmp_path: Path
) -> None:
    _, dseg = write_found(make_lesion_case(raw), tmp_path / "out", n_lesions=0)
    for name in (DSEG, MASK, EACH):
        assert not np.asanyarray(open_nifti(dseg.with_name(f"{name}.nii.gz")).dataobj).any()
    (row,) = read_tsv(dseg.with_name(f"{DSEG}.tsv"))[1]
    told = (row["n_lesions"], row["volume_mm3"], row["n_removed"], row["mean_probability"])
    assert told == ("0", "0.000", "0", "n/a")
    assert read_tsv(dseg.with_name(f"{EACH}.tsv"))[1] == ()
    assert (tmp_path / "out" / "sub-01" / "figures" / f"{DSEG}.png").is_file()


def test_other_tasks_are_told_no_lesions(raw: Path, tmp_path: Path) -> None:
    """Nothing that belongs to lesions shows up where a task finds structures."""
    from tests.stages.test_write import make_written  # noqa: PLC0415 - as an example only

    _, _, dseg = make_written(tmp_path / "other")
    assert "n_lesions" not in read_tsv(Path(str(dseg).replace(".nii.gz", ".tsv")))[0]
    assert "Lesions" not in read_json(Path(str(dseg).replace(".nii.gz", ".json")))


@pytest.mark.parametrize("name", [DSEG, MASK, EACH, PROBSEG])
@pytest.mark.parametrize("ending", [".nii.gz", ".json"])
def test_a_file_of_somebody_else_stops_the_case_before_its_label_map(
    raw: Path, tmp_path: Path, name: str, ending: str
) -> None:
    theirs = tmp_path / "out" / "sub-01" / "ses-1" / "anat" / f"{name}{ending}"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"Description": "drawn by hand"}', encoding="utf-8")
    with pytest.raises(OutputError, match="was not written by deepmrseg"):
        write_found(make_lesion_case(raw), tmp_path / "out", probabilities=True)
    assert theirs.read_text(encoding="utf-8") == '{"Description": "drawn by hand"}'
    if name != DSEG:
        assert not (theirs.parent / f"{DSEG}.nii.gz").exists()


def test_a_second_run_replaces_what_the_first_wrote(raw: Path, tmp_path: Path) -> None:
    write_found(make_lesion_case(raw), tmp_path / "out")
    _, dseg = write_found(make_lesion_case(raw), tmp_path / "out", n_lesions=0)
    assert read_tsv(dseg.with_name(f"{EACH}.tsv"))[1] == ()


def make_study(folder: Path) -> Path:
    """Sessions, runs, one FLAIR alone, one without lesions; tables of the study beside them."""
    out = folder / "out"
    cases = {
        "sub-01_ses-1_run-1_FLAIR.nii.gz": (True, 2),
        "sub-01_ses-1_run-2_FLAIR.nii.gz": (True, 2),
        "sub-01_ses-2_FLAIR.nii": (False, 2),
        "sub-02_acq-thick_FLAIR.nii.gz": (True, 0),
    }
    t1ws = [name.replace("FLAIR", "T1w") for name, (with_t1w, _) in cases.items() if with_t1w]
    geometries = dict.fromkeys(cases, "anisotropic") | dict.fromkeys(t1ws, "RAS")
    raw = make_dataset(folder / "bids", geometries, participants=True)
    for name, (with_t1w, n_lesions) in cases.items():
        case = make_lesion_case(raw, name, with_t1w=with_t1w)
        write_found(case, out, n_lesions=n_lesions, probabilities=True)
    write_dataset_files(raw, out, code_version="0", work_dir=folder / "work")
    aggregate(out)
    return out


def test_a_study_of_lesions_is_bids_without_an_error_or_a_warning(tmp_path: Path) -> None:
    out = make_study(tmp_path)
    validator = Path(sys.executable).with_name("bids-validator-deno")
    answer = subprocess.run(
        [validator, str(out), "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(answer.stdout)["issues"]["issues"]
    assert [(one["code"], one.get("location"), one["severity"]) for one in issues] == []
    assert answer.returncode == 0


def test_the_group_table_has_one_row_per_scan_with_count_volume_and_inputs(tmp_path: Path) -> None:
    out = make_study(tmp_path)
    columns, rows = read_tsv(out / "group_spots.tsv")
    wanted = ("source", "total_mm3", "spot_per_brain", "n_lesions", "lesion_threshold", "inputs")
    fraction = f"{1100 / BRAIN_MM3:.8f}"
    told = [tuple(row[name] for name in wanted) for row in rows]
    found = ("1100.000", fraction, "2", "0.5")
    assert told == [
        (bids_path(name).as_posix(), *cells)
        for name, *cells in (
            ("sub-01_ses-1_run-1_FLAIR.nii.gz", *found, "FLAIR+T1w"),
            ("sub-01_ses-1_run-2_FLAIR.nii.gz", *found, "FLAIR+T1w"),
            ("sub-01_ses-2_FLAIR.nii", *found, "FLAIR"),
            ("sub-02_acq-thick_FLAIR.nii.gz", "0.000", "0.00000000", "0", "0.5", "FLAIR+T1w"),
        )
    ]
    assert tuple(read_json(out / "group_spots.json")) == columns
    long = read_tsv(out / "group_volumes.tsv")[1]
    assert [(row["task"], row["name"]) for row in long] == [("spots", "Spot")] * 4
