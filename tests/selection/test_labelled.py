"""Each label map belongs to one scan, and what is unclear is asked rather than guessed."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.selection.labelled import find_labelled
from bids_deepmrseg.tasks import Task
from tests.makers import make_task

TASK = make_task()
TWO_CHANNELS = make_task(channels=("T1w", "FLAIR"))


def touch(root: Path, *names: str) -> Path:
    """Empty files; a bare name lies where BIDS puts it, others where they say."""
    for name in names:
        parts = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        file = root / name if "/" in name else root.joinpath(*parts, "anat", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def pairs(
    root: Path,
    *,
    task: Task = TASK,
    reference: str = "dseg",
    subjects: tuple[str, ...] = (),
    excluded: tuple[str, ...] = (),
) -> dict[str, tuple[str, ...]]:
    """Name of each label map and the names of its scans."""
    found = find_labelled(root, task, subjects=subjects, excluded=excluded, reference=reference)
    return {one.reference.name: tuple(scan.name for scan in one.case.scans) for one in found}


def test_label_maps_may_lie_beside_their_scans(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_T1w.nii.gz", "sub-01_dseg.nii.gz", "sub-02_T1w.nii", "sub-02_dseg.nii")
    assert pairs(tmp_path) == {
        "sub-01_dseg.nii.gz": ("sub-01_T1w.nii.gz",),
        "sub-02_dseg.nii": ("sub-02_T1w.nii",),
    }


def test_what_is_found_names_subject_scan_and_entities(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-2_run-1_T1w.nii.gz", "sub-01_ses-2_run-1_dseg.nii.gz")
    (one,) = find_labelled(tmp_path, TASK)
    assert (one.subject, one.stem) == ("sub-01", "sub-01_ses-2_run-1")
    assert one.case.entities == (("sub", "01"), ("ses", "2"), ("run", "1"))
    assert one.case.bids_dir == tmp_path
    assert one.case.task is TASK


@pytest.mark.parametrize(
    "entities", ["", "desc-manual_", "space-T1w_", "space-orig_desc-manual_", "label-blob_"]
)
def test_label_maps_may_be_derivatives(tmp_path: Path, entities: str) -> None:
    name = f"sub-01_{entities}dseg.nii.gz"
    touch(tmp_path, "sub-01_T1w.nii.gz", f"derivatives/manual/sub-01/anat/{name}")
    assert pairs(tmp_path) == {name: ("sub-01_T1w.nii.gz",)}


@pytest.mark.parametrize("reference", ["mask", "label-lesion_mask"])
def test_masks_can_be_asked_for(tmp_path: Path, reference: str) -> None:
    mask = "sub-01_space-FLAIR_desc-manual_label-lesion_mask.nii.gz"
    touch(tmp_path, "sub-01_FLAIR.nii.gz", "sub-01_dseg.nii.gz", f"derivatives/x/{mask}")
    flair = make_task(channels=("FLAIR",))
    assert pairs(tmp_path, task=flair, reference=reference) == {mask: ("sub-01_FLAIR.nii.gz",)}


def test_every_run_and_session_is_paired_with_its_own_label_map(tmp_path: Path) -> None:
    stems = ("sub-01_ses-1_run-1", "sub-01_ses-1_run-2", "sub-01_ses-2", "sub-02_ses-1_acq-fast")
    for stem in stems:
        touch(tmp_path, f"{stem}_T1w.nii.gz", f"{stem}_dseg.nii.gz")
    assert pairs(tmp_path) == {f"{s}_dseg.nii.gz": (f"{s}_T1w.nii.gz",) for s in stems}


def test_all_channels_are_found_in_task_order(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_run-1_T1w.nii.gz", "sub-01_run-2_T1w.nii.gz", "sub-01_FLAIR.nii.gz")
    touch(tmp_path, "sub-01_run-2_dseg.nii.gz")
    assert pairs(tmp_path, task=TWO_CHANNELS) == {
        "sub-01_run-2_dseg.nii.gz": ("sub-01_run-2_T1w.nii.gz", "sub-01_FLAIR.nii.gz")
    }


def test_a_label_map_whose_scan_is_absent_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "sub-01_T1w.nii.gz", "sub-01_FLAIR.nii.gz", "sub-01_dseg.nii.gz")
    touch(tmp_path, "sub-02_T1w.nii.gz", "sub-02_dseg.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert list(pairs(tmp_path, task=TWO_CHANNELS)) == ["sub-01_dseg.nii.gz"]
    assert "sub-02_dseg.nii.gz is passed over: there is no FLAIR scan for it" in caplog.text


def test_an_optional_scan_may_be_absent_and_a_needed_one_not(tmp_path: Path) -> None:
    task = replace(make_task(channels=("FLAIR", "T1w")), optional=("T1w",))
    touch(tmp_path, "sub-01_FLAIR.nii.gz", "sub-01_T1w.nii.gz", "sub-01_label-lesion_mask.nii.gz")
    touch(tmp_path, "sub-02_desc-brain_FLAIR.nii.gz", "sub-02_label-lesion_mask.nii.gz")
    assert pairs(tmp_path, task=task, reference="label-lesion_mask") == {
        "sub-01_label-lesion_mask.nii.gz": ("sub-01_FLAIR.nii.gz", "sub-01_T1w.nii.gz"),
        "sub-02_label-lesion_mask.nii.gz": ("sub-02_desc-brain_FLAIR.nii.gz",),
    }
    touch(tmp_path / "other", "sub-03_T1w.nii.gz", "sub-03_dseg.nii.gz")
    with pytest.raises(UsageError, match=r"needs FLAIR scans .*there is no FLAIR scan for it"):
        pairs(tmp_path / "other", task=task)


def test_the_scan_that_shares_most_entities_wins(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_T1w.nii.gz", "sub-01_run-2_T1w.nii.gz", "sub-01_run-2_dseg.nii.gz")
    assert pairs(tmp_path) == {"sub-01_run-2_dseg.nii.gz": ("sub-01_run-2_T1w.nii.gz",)}


def test_a_scan_as_acquired_comes_before_a_resampled_one(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_T1w.nii.gz", "sub-01_space-MNI_T1w.nii.gz", "sub-01_dseg.nii.gz")
    assert pairs(tmp_path) == {"sub-01_dseg.nii.gz": ("sub-01_T1w.nii.gz",)}


def test_one_scan_kept_twice_is_one_scan(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_T1w.nii.gz", "sub-01_T1w.nii", "sub-01_dseg.nii.gz")
    assert pairs(tmp_path) == {"sub-01_dseg.nii.gz": ("sub-01_T1w.nii.gz",)}


def test_a_label_map_that_fits_two_scans_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_run-1_T1w.nii.gz", "sub-01_run-2_T1w.nii.gz", "sub-01_dseg.nii.gz")
    with pytest.raises(UsageError, match=r"sub-01_dseg.* could belong to .*run-1.* or .*run-2"):
        pairs(tmp_path)


def test_two_label_maps_of_one_scan_are_refused_until_one_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_T1w.nii.gz", "derivatives/a/sub-01_desc-one_dseg.nii.gz")
    touch(tmp_path, "derivatives/b/sub-01_desc-two_dseg.nii.gz")
    with pytest.raises(UsageError, match=r"two label maps, .*desc-one.* and .*desc-two"):
        pairs(tmp_path)
    assert list(pairs(tmp_path, reference="desc-two_dseg")) == ["sub-01_desc-two_dseg.nii.gz"]


@pytest.mark.parametrize("entities", ["space-T1w_seg-deepbrain", "space-MNI152NLin6Asym"])
def test_results_of_programs_are_no_references_unless_they_are_named(
    tmp_path: Path, entities: str
) -> None:
    result = f"sub-01_{entities}_dseg.nii.gz"
    touch(tmp_path, "sub-01_T1w.nii.gz", f"derivatives/x/sub-01/anat/{result}")
    with pytest.raises(UsageError, match="unless --reference names it"):
        pairs(tmp_path)
    assert list(pairs(tmp_path, reference=f"{entities}_dseg")) == [result]
    manual = "sub-01_desc-manual_dseg.nii.gz"
    touch(tmp_path, f"derivatives/manual/sub-01/anat/{manual}")
    assert list(pairs(tmp_path)) == [manual]


def test_subjects_can_be_chosen_and_left_out(tmp_path: Path) -> None:
    for subject in ("sub-1", "sub-2", "sub-3"):
        touch(tmp_path, f"{subject}_T1w.nii.gz", f"{subject}_dseg.nii.gz")
    assert list(pairs(tmp_path, excluded=("sub-1", "sub-3"))) == ["sub-2_dseg.nii.gz"]
    assert list(pairs(tmp_path, subjects=("sub-3",))) == ["sub-3_dseg.nii.gz"]
    with pytest.raises(UsageError, match="no labelled scan of sub-4"):
        pairs(tmp_path, subjects=("sub-3", "sub-4"))


def test_excluding_somebody_who_is_not_there_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "sub-1_T1w.nii.gz", "sub-1_dseg.nii.gz")
    with caplog.at_level(logging.WARNING):
        pairs(tmp_path, excluded=("sub-01",))
    assert "sub-01 is to be left out, but is not in" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        ("sub-01_T1w.nii.gz",),
        ("sub-01_T1w.nii.gz", "sub-02_dseg.nii.gz"),
        ("sub-01_ses-1_T1w.nii.gz", "sub-01_ses-2_dseg.nii.gz"),
        ("sub-01_run-1_T1w.nii.gz", "sub-01_run-2_dseg.nii.gz"),
        ("sub-01_FLAIR.nii.gz", "sub-01_dseg.nii.gz"),
        ("sub-01_T1w.nii.gz", "sub-01_dseg.nii.gz.part"),
        ("sub-01_T1w.nii.gz", "dseg.nii.gz", "group_dseg.nii.gz"),
        ("sub-01_T1w.nii.gz", ".git/annex/sub-01_dseg.nii.gz"),
    ],
)
def test_a_dataset_without_a_pair_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UsageError, match=r"no labelled scan of anyone: it needs T1w scans"):
        pairs(tmp_path)


@pytest.mark.parametrize("reference", ["", "lesion-_mask", "a b"])
def test_an_ending_that_no_name_can_have_is_refused(tmp_path: Path, reference: str) -> None:
    with pytest.raises(UsageError, match="does not say how names of label maps end"):
        pairs(touch(tmp_path, "sub-01_T1w.nii.gz"), reference=reference)
