"""What is written lies on the scan's grid, says where it came from, and harms nobody's files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import read_json, read_tsv
from bids_deepmrseg.imaging.nifti import read_grid
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.stages.measure import measure
from bids_deepmrseg.stages.write import (
    Provenance,
    UsedModel,
    check_written,
    derivative_path,
    write_case,
)
from bids_deepmrseg.tasks import Task
from tests.makers import GEOMETRIES, make_case, make_dataset, make_segmented, make_task, open_nifti

PROVENANCE = Provenance(
    code_version="0.1.0",
    torch_version="2.0",
    model_sha256="ab" * 32,
    preprocessing="brainframe-1",
    training_data="None: the weights are random",
    license="CC0-1.0",
    attribution="Nobody",
    device="cpu",
    fast=False,
    n_islands_removed_voxels=3,
)


def make_written(
    folder: Path,
    scan: str = "sub-01_T1w.nii.gz",
    *,
    geometry: str = "RAS",
    task: Task | None = None,
    probabilities: bool = False,
    brain_mm3: float | None = None,
    provenance: Provenance = PROVENANCE,
) -> tuple[Case, Segmented, Path]:
    """A case that was written to ``folder/out``, and its label map."""
    case = make_case(make_dataset(folder / "bids", {scan: geometry}), scan, task=task)
    grid = read_grid(case.scans[0])
    segmented = make_segmented(grid, case.task, probabilities=probabilities)
    segmented = replace(segmented, brain_volume_mm3=brain_mm3)
    measures = measure(segmented, case.task)
    dseg = write_case(case, segmented, measures, provenance, folder / "out")
    return case, segmented, folder / "out" / dseg


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_a_label_map_has_shape_and_transforms_of_its_scan(
    tmp_path: Path, geometry: str, extension: str
) -> None:
    case, segmented, dseg = make_written(tmp_path, f"sub-01_T1w{extension}", geometry=geometry)
    scan, image = open_nifti(case.scans[0]), open_nifti(dseg)
    assert image.shape == scan.shape
    np.testing.assert_array_equal(image.affine, scan.affine)
    for form in ("qform", "sform"):
        assert image.header[f"{form}_code"] == scan.header[f"{form}_code"]
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), segmented.dseg)
    check_written(case, dseg.relative_to(tmp_path / "out"), tmp_path / "out")


@pytest.mark.parametrize(("largest", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_indices_above_a_byte_take_two(tmp_path: Path, largest: int, dtype: type) -> None:
    _, segmented, dseg = make_written(tmp_path, task=make_task(indices=(1, 2, largest)))
    image = open_nifti(dseg)
    assert image.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), segmented.dseg)


def test_the_table_holds_a_row_per_structure_with_what_was_measured(tmp_path: Path) -> None:
    _, _, dseg = make_written(tmp_path)
    columns, rows = read_tsv(Path(str(dseg).replace(".nii.gz", ".tsv")))
    assert columns[:5] == ("index", "name", "abbreviation", "color", "mapping")
    assert rows[0] == {
        "index": "1",
        "name": "Left Blob",
        "abbreviation": "L-Blo",
        "color": "#FF0000",
        "mapping": "9",
        "volume_mm3": "2048.000",
        "n_voxels": "32",
        "brain_mm3": "n/a",
        "fraction_of_brain": "n/a",
        "mean_probability": "0.7500",
        "touches_edge": "false",
        "in_adult_range": "true",
        "agreement": "n/a",
        "soft_dice": "n/a",
        "border_entropy_bits": "n/a",
        "predicted_dice": "n/a",
        "in_training_range": "n/a",
        "asymmetry": "n/a",
        "flagged": "false",
        "why_flagged": "n/a",
    }
    assert rows[1]["in_adult_range"] == "n/a"


def test_the_table_holds_the_volume_of_the_brain_and_each_part_of_it(tmp_path: Path) -> None:
    _, _, dseg = make_written(tmp_path, brain_mm3=3e6)
    rows = read_tsv(Path(str(dseg).replace(".nii.gz", ".tsv")))[1]
    assert [(row["brain_mm3"], row["fraction_of_brain"]) for row in rows] == [
        ("3000000.000", "0.00068267")
    ] * 3


def test_the_sidecar_tells_every_model_that_was_built_on(tmp_path: Path) -> None:
    part, whole = UsedModel("part", "cd"), UsedModel("whole", "ef")
    provenance = replace(
        PROVENANCE, located_by=(part, whole), brain_measured_by=whole, doubts=("it is small",)
    )
    _, _, dseg = make_written(tmp_path, provenance=provenance)
    told = read_json(Path(str(dseg).replace(".nii.gz", ".json")))["DeepMRSeg"]
    assert isinstance(told, dict)
    assert told["LocatedBy"] == [
        {"Task": "part", "ModelSHA256": "cd"},
        {"Task": "whole", "ModelSHA256": "ef"},
    ]
    assert told["BrainMeasuredBy"] == {
        "Task": "whole",
        "ModelSHA256": "ef",
        "Scan": "bids:raw:sub-01/anat/sub-01_T1w.nii.gz",
    }
    assert told["Doubts"] == ["it is small"]


def test_the_brain_is_also_written_as_a_mask(tmp_path: Path) -> None:
    _, segmented, dseg = make_written(tmp_path, task=replace(make_task(), brain=7))
    file = dseg.with_name("sub-01_space-T1w_label-brain_desc-tiny_mask.nii.gz")
    mask, image = open_nifti(file), open_nifti(dseg)
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), segmented.dseg == 7)
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.get_data_dtype() == np.uint8
    sidecar = read_json(Path(str(file).replace(".nii.gz", ".json")))
    assert sidecar["Type"] == "Brain"
    assert sidecar["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]


def test_a_task_that_does_not_measure_the_brain_writes_no_mask(tmp_path: Path) -> None:
    make_written(tmp_path)
    assert not list((tmp_path / "out").rglob("*_mask.*"))


def test_a_mask_of_someone_else_is_left_as_it_is(tmp_path: Path) -> None:
    theirs = (
        tmp_path / "out" / "sub-01" / "anat" / "sub-01_space-T1w_label-brain_desc-tiny_mask.json"
    )
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"Type": "Brain"}', encoding="utf-8")
    with pytest.raises(OutputError, match="was not written by deepmrseg"):
        make_written(tmp_path, task=replace(make_task(), brain=7))
    assert theirs.read_text(encoding="utf-8") == '{"Type": "Brain"}'
    assert [file.name for file in theirs.parent.iterdir()] == [theirs.name]


def test_the_sidecar_tells_source_model_and_columns(tmp_path: Path) -> None:
    _, _, dseg = make_written(tmp_path, "sub-01_ses-2_T1w.nii.gz")
    sidecar = read_json(Path(str(dseg).replace(".nii.gz", ".json")))
    uri = "bids:raw:sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz"
    assert sidecar["Sources"] == [uri]
    assert sidecar["SpatialReference"] == uri
    assert sidecar["Manual"] is False
    provenance = sidecar["DeepMRSeg"]
    assert isinstance(provenance, dict)
    assert provenance["ModelSHA256"] == PROVENANCE.model_sha256
    assert provenance["IslandsRemovedVoxels"] == 3
    assert set(read_tsv(Path(str(dseg).replace(".nii.gz", ".tsv")))[0]) <= sidecar.keys()


def test_probabilities_have_one_named_volume_per_structure(tmp_path: Path) -> None:
    _, segmented, dseg = make_written(tmp_path, probabilities=True)
    probseg = Path(str(dseg).replace("_dseg", "_probseg"))
    image = open_nifti(probseg)
    assert segmented.probabilities is not None
    for number in range(3):
        np.testing.assert_array_equal(
            np.asanyarray(image.dataobj)[..., number], segmented.probabilities[number + 1]
        )
    sidecar = read_json(Path(str(probseg).replace(".nii.gz", ".json")))
    assert sidecar["LabelMap"] == ["L-Blo", "R-Blo", "M-Blo"]


def test_without_being_asked_no_probabilities_are_written(tmp_path: Path) -> None:
    _, _, dseg = make_written(tmp_path)
    assert not list(dseg.parent.glob("*probseg*"))


def test_two_runs_of_a_session_do_not_collide(tmp_path: Path) -> None:
    maps = {make_written(tmp_path, f"sub-01_ses-1_run-{n}_T1w.nii.gz")[2] for n in (1, 2)}
    assert len(maps) == 2
    assert all(file.is_file() for file in maps)


def test_a_second_run_replaces_what_the_first_wrote(tmp_path: Path) -> None:
    make_written(tmp_path)
    _, _, dseg = make_written(tmp_path)
    assert dseg.is_file()


@pytest.mark.parametrize("ending", [".nii.gz", ".tsv", ".json"])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, ending: str) -> None:
    case = make_case(make_dataset(tmp_path / "bids", ["sub-01_T1w.nii.gz"]), "sub-01_T1w.nii.gz")
    theirs = tmp_path / "out" / derivative_path(case, suffix="dseg", extension=ending)
    theirs.parent.mkdir(parents=True)
    theirs.write_text(json.dumps({"Description": "drawn by hand"}), encoding="utf-8")
    before = theirs.read_bytes()
    segmented = make_segmented(read_grid(case.scans[0]), case.task)
    with pytest.raises(OutputError, match="was not written by deepmrseg"):
        write_case(case, segmented, measure(segmented, case.task), PROVENANCE, tmp_path / "out")
    assert theirs.read_bytes() == before
    assert [file.name for file in theirs.parent.iterdir()] == [theirs.name]


def test_a_run_that_was_cut_off_before_its_label_map_can_be_repeated(tmp_path: Path) -> None:
    _, _, dseg = make_written(tmp_path)
    dseg.unlink()
    assert make_written(tmp_path)[2].is_file()


def test_values_without_a_name_are_not_written(tmp_path: Path) -> None:
    case = make_case(make_dataset(tmp_path / "bids", ["sub-01_T1w.nii.gz"]), "sub-01_T1w.nii.gz")
    segmented = make_segmented(read_grid(case.scans[0]), case.task)
    segmented.dseg[0, 0, 0] = 99
    with pytest.raises(OutputError, match="without a name"):
        write_case(case, segmented, measure(segmented, case.task), PROVENANCE, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_volume_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    case = make_case(make_dataset(tmp_path / "bids", ["sub-01_T1w.nii.gz"]), "sub-01_T1w.nii.gz")
    segmented = make_segmented(read_grid(case.scans[0]), case.task)
    first, *others = measure(segmented, case.task)
    measures = (replace(first, volume_mm3=float("inf")), *others)
    with pytest.raises(OutputError, match="volume of Left Blob is not finite"):
        write_case(case, segmented, measures, PROVENANCE, tmp_path / "out")


def test_a_damaged_label_map_does_not_pass_the_check(tmp_path: Path) -> None:
    case, _, dseg = make_written(tmp_path)
    relative = dseg.relative_to(tmp_path / "out")
    dseg.write_bytes(dseg.read_bytes()[:200])
    with pytest.raises(OutputError, match="does not read back"):
        check_written(case, relative, tmp_path / "out")
    dseg.unlink()
    with pytest.raises(OutputError, match="does not exist"):
        check_written(case, relative, tmp_path / "out")


def test_a_label_map_with_foreign_values_does_not_pass_the_check(tmp_path: Path) -> None:
    case, segmented, dseg = make_written(tmp_path)
    other = replace(case, task=make_task(indices=(1, 2, 3)))
    with pytest.raises(OutputError, match=r"no labels: \[7\]"):
        check_written(other, dseg.relative_to(tmp_path / "out"), tmp_path / "out")
    assert (segmented.dseg == 7).any()
