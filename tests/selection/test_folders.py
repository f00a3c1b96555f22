"""A look at the disk tells where scans lie, and what is there instead of them."""

from pathlib import Path

import pytest

from bids_deepmrseg.selection.folders import (
    describe_dataset,
    describe_subject,
    find_anat_folders,
    find_subjects,
)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_only_folders_are_subjects(tmp_path: Path) -> None:
    touch(tmp_path, "sub-02/x", "sub-01/x", "sub-03", "derivatives/sub-04/x")
    assert find_subjects(tmp_path) == ("01", "02")


def test_anat_folders_are_found_with_and_without_sessions(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/b", "sub-1/anat/a", "sub-1/ses-x/anat/c", "sub-1/ses-y/func/d")
    found = [
        (one.path.as_posix(), one.session, one.names) for one in find_anat_folders(tmp_path, "1")
    ]
    assert found == [
        ("sub-1/anat", None, ("a", "b")),
        ("sub-1/ses-x/anat", "x", ("c",)),
    ]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("sub-1/sub-1_T1w.nii.gz",), "sub-1/sub-1_T1w.nii.gz would have to lie in an anat folder"),
        (("sub-1/anat/sub-1_T2w.nii.gz",), "sub-1/anat holds sub-1_T2w.nii.gz"),
        (("sub-1/func/x", "sub-1/dwi/x"), "has no anat folder; it holds dwi, func"),
    ],
)
def test_what_is_there_instead_of_a_scan_is_told(
    tmp_path: Path, files: tuple[str, ...], said: str
) -> None:
    assert said in describe_subject(touch(tmp_path, *files), "1", "T1w")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("ds1/dataset_description.json",), "a dataset in its subfolder ds1"),
        (("01/anat/01_T1w.nii.gz",), "01 without the prefix sub-"),
        (("notes.txt",), "it holds notes.txt"),
        ((), "is it mounted?"),
    ],
)
def test_a_folder_without_subjects_is_told_of(
    tmp_path: Path, files: tuple[str, ...], said: str
) -> None:
    assert said in describe_dataset(touch(tmp_path, *files))
