"""Names say which scan a file is; a file that is not quite a scan gets the reason."""

from pathlib import PurePosixPath

import pytest

from bids_deepmrseg.selection.names import listed, looks_like, parse_name, why_unusable


def test_entities_keep_the_order_and_spelling_of_the_name() -> None:
    name = parse_name("sub-01_ses-a_acq-b_run-02_T1w.nii.gz")
    assert name is not None
    assert name.entities == (("sub", "01"), ("ses", "a"), ("acq", "b"), ("run", "02"))
    assert name.suffix == "T1w"
    assert name.folders == ("sub-01", "ses-a", "anat")
    assert name.entity("rec") is None


@pytest.mark.parametrize("name", ["sub-01_foo_T1w.nii", "sub-1_sub-2_T1w.nii", "sub-_T1w.nii"])
def test_a_name_that_is_not_key_value_is_none(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize(
    "path",
    [
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T1w.nii",
        "sub-01/ses-2/anat/sub-01_ses-2_acq-x_rec-y_run-1_T1w.nii.gz",
        "sub-01/anat/sub-01_part-mag_T1w.nii.gz",
    ],
)
def test_a_scan_where_it_belongs_can_be_used(path: str) -> None:
    assert why_unusable(PurePosixPath(path), "T1w", skip_validation=False) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("sub-01/anat/sub-01_t1w.nii.gz", "must end in _T1w.nii.gz, not t1w.nii.gz"),
        ("sub-01/anat/sub-01_T1.nii.gz", "must end in _T1w.nii.gz, not T1.nii.gz"),
        ("sub-01/anat/sub-01_T1w_defaced.nii.gz", "not defaced.nii.gz"),
        ("sub-01/anat/sub-01_T1w.mgz", "it ends in .mgz"),
        ("sub-01/anat/sub-01_T1w.NII.GZ", "it ends in .NII.GZ"),
        ("sub-01/sub-01_T1w.nii.gz", "belongs in sub-01/anat/"),
        ("sub-01/anat/sub-01_ses-1_T1w.nii.gz", "belongs in sub-01/ses-1/anat/"),
        ("sub-02/anat/sub-01_T1w.nii.gz", "belongs in sub-01/anat/"),
        ("sub-01/anat/T1w.nii.gz", "must begin with sub-"),
        ("sub-01/anat/01_T1w.nii.gz", "not key-value"),
        ("sub-01/anat/sub-01_space-MNI_desc-preproc_T1w.nii.gz", "space, desc in its name"),
        ("sub-01/anat/sub-01_part-phase_T1w.nii.gz", "part-phase shows no anatomy"),
        ("sub-01/anat/sub-01_run-1_acq-a_T1w.nii.gz", "--skip-bids-validation"),
    ],
)
def test_a_near_miss_gets_its_reason(path: str, why: str) -> None:
    said = why_unusable(PurePosixPath(path), "T1w", skip_validation=False)
    assert said is not None
    assert why in said


def test_without_validation_any_name_that_can_be_understood_is_taken() -> None:
    path = PurePosixPath("sub-01/anat/sub-01_run-1_acq-a_T1w.nii.gz")
    assert why_unusable(path, "T1w", skip_validation=True) is None


@pytest.mark.parametrize(
    ("name", "is_alike"),
    [
        ("sub-01_T1w.nii.gz", True),
        ("sub-01_t1W.mgz", True),
        ("sub-01_T1.nii", True),
        ("T1w.nii.gz", True),
        ("sub-01_T1w.json", False),
        ("._sub-01_T1w.nii.gz", False),
        ("sub-01_T2w.nii.gz", False),
        ("sub-01_T1map.nii.gz", False),
        ("sub-01_mod-T1w_defacemask.nii.gz", False),
    ],
)
def test_only_images_of_the_suffix_look_like_it(name: str, *, is_alike: bool) -> None:
    assert looks_like(name, "T1w") is is_alike


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
