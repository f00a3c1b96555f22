"""Names of results keep every entity of their source, and nobody else's files are in their way."""

from pathlib import Path

import pytest

from bids_deepmrseg.derivatives import derivative_path, lesion_files
from bids_deepmrseg.errors import OutputError
from tests.lesion_cases import make_lesion_case
from tests.makers import make_case


@pytest.mark.parametrize(
    ("scan", "expected"),
    [
        ("sub-01_T1w.nii.gz", "sub-01/anat/sub-01_space-T1w_seg-tiny_dseg.nii.gz"),
        (
            "sub-01_ses-2_acq-mp_run-1_T1w.nii",
            "sub-01/ses-2/anat/sub-01_ses-2_acq-mp_run-1_space-T1w_seg-tiny_dseg.nii.gz",
        ),
        (
            "sub-01_echo-1_part-mag_chunk-3_T1w.nii",
            "sub-01/anat/sub-01_echo-1_part-mag_space-T1w_chunk-3_seg-tiny_dseg.nii.gz",
        ),
    ],
)
def test_a_path_keeps_every_entity_of_its_source(tmp_path: Path, scan: str, expected: str) -> None:
    path = derivative_path(make_case(tmp_path, scan), suffix="dseg", extension=".nii.gz")
    assert path == Path(expected)


def test_a_picture_lies_in_the_figures_of_the_subject(tmp_path: Path) -> None:
    case = make_case(tmp_path, "sub-01_ses-2_T1w.nii.gz")
    path = derivative_path(case, suffix="dseg", extension=".png", folder="figures")
    assert path == Path("sub-01/figures/sub-01_ses-2_space-T1w_seg-tiny_dseg.png")


def test_a_mask_names_its_label_and_its_task(tmp_path: Path) -> None:
    case = make_case(tmp_path, "sub-01_T1w.nii.gz")
    path = derivative_path(case, suffix="mask", extension=".nii.gz", label="L")
    assert path.name == "sub-01_space-T1w_label-L_desc-tiny_mask.nii.gz"


def test_one_of_several_files_of_a_task_is_told_by_its_description(tmp_path: Path) -> None:
    case = make_case(tmp_path, "sub-01_T1w.nii.gz")
    path = derivative_path(case, suffix="dseg", extension=".tsv", desc="lesions")
    assert path.name == "sub-01_space-T1w_seg-tiny_desc-lesions_dseg.tsv"


def test_lesions_have_a_mask_a_map_by_number_and_a_table(tmp_path: Path) -> None:
    files = lesion_files(make_lesion_case(tmp_path, "sub-01_FLAIR.nii"), tmp_path / "out")
    stem = "sub-01_space-FLAIR"
    assert files.mask.name == f"{stem}_label-L_desc-spots_mask.nii.gz"
    assert files.label_map.name == f"{stem}_seg-spots_desc-lesions_dseg.nii.gz"
    assert files.mask.with_name(files.mask.name.replace(".nii.gz", ".json")) == files.mask_sidecar
    assert files.table.with_suffix(".json") == files.label_sidecar
    assert files.table.parent == tmp_path / "out" / "sub-01" / "anat"


def test_a_table_of_lesions_that_somebody_else_wrote_is_in_the_way(tmp_path: Path) -> None:
    case = make_lesion_case(tmp_path, "sub-01_FLAIR.nii")
    theirs = lesion_files(case, tmp_path / "out").table
    theirs.parent.mkdir(parents=True)
    theirs.write_text("index\n1\n", encoding="utf-8")
    with pytest.raises(OutputError, match="was not written by deepmrseg"):
        lesion_files(case, tmp_path / "out")
