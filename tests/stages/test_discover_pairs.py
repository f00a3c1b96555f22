"""Every FLAIR is a case with the T1w of its session; what lacks is skipped, or fails if asked."""

import json
from pathlib import Path

import pytest

from bids_deepmrseg.errors import NothingToDoError
from bids_deepmrseg.stages.discover import Plan
from bids_deepmrseg.taskfiles import BUILTIN_MODELS, TASK_FILE, read_task
from tests.makers import make_task
from tests.trees import T1W, make_tree, plan, reasons, stems

WML = read_task(BUILTIN_MODELS / "wml" / TASK_FILE)
PAIR = make_task("pair", channels=("T1w", "FLAIR"))


def scans(found: Plan) -> list[tuple[str, ...]]:
    return [tuple(scan.name for scan in case.scans) for case in found.cases]


def remarks(found: Plan) -> dict[str, str]:
    return {one.case.stem: one.sentence for one in found.remarks}


def test_every_flair_is_a_case_of_its_own(tmp_path: Path) -> None:
    names = [
        "sub-1_ses-a_run-1_T1w.nii",
        "sub-1_ses-a_run-2_T1w.nii",
        "sub-1_ses-a_run-1_FLAIR.nii",
        "sub-1_ses-a_run-2_FLAIR.nii",
        "sub-2_T1w.nii",
        "sub-2_acq-2d_FLAIR.nii",
        "sub-2_acq-3d_FLAIR.nii",
        "sub-3_FLAIR.nii",
    ]
    found = plan(make_tree(tmp_path / "bids", names), WML)
    assert scans(found) == [
        ("sub-1_ses-a_run-1_FLAIR.nii", "sub-1_ses-a_run-1_T1w.nii"),
        ("sub-1_ses-a_run-2_FLAIR.nii", "sub-1_ses-a_run-2_T1w.nii"),
        ("sub-2_acq-2d_FLAIR.nii", "sub-2_T1w.nii"),
        ("sub-2_acq-3d_FLAIR.nii", "sub-2_T1w.nii"),
        ("sub-3_FLAIR.nii",),
    ]
    assert [case.channels for case in found.cases][3:] == [("FLAIR", "T1w"), ("FLAIR",)]
    assert found.left_out == ()
    assert remarks(found) == {
        "sub-1_ses-a_run-1": "T1w chosen by name from 2",
        "sub-1_ses-a_run-2": "T1w chosen by name from 2",
        "sub-3": "FLAIR alone: no T1w in the session",
    }


def test_sessions_are_not_mixed(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_ses-a_T1w.nii", "sub-1_ses-b_FLAIR.nii"])
    found = plan(bids_dir, WML)
    assert scans(found) == [("sub-1_ses-b_FLAIR.nii",)]
    assert remarks(found)["sub-1_ses-b"].endswith("ses-a has one, but sessions are not mixed")
    (row,) = found.left_out
    assert (row.session_id, row.status, row.source) == ("ses-a", "skipped", "n/a")
    assert row.reason == "no FLAIR scan, only T1w"


def test_what_goes_together_and_what_runs_first_stand_in_the_table(tmp_path: Path) -> None:
    names = ["sub-1_FLAIR.nii", "sub-1_T1w.nii", "sub-2_FLAIR.nii", "sub-3_T1w.nii"]
    found = plan(make_tree(tmp_path / "bids", names), WML)
    assert [row[4:] for row in found.rows] == [
        ("sub-1_FLAIR.nii sub-1_T1w.nii", "run", "flairbrain on the FLAIR runs first"),
        (
            "sub-2_FLAIR.nii",
            "run",
            "FLAIR alone: no T1w in the session; flairbrain on the FLAIR runs first",
        ),
        ("n/a", "skipped", "no FLAIR scan, only T1w"),
    ]


def test_a_filter_that_leaves_the_t1w_out_is_named_and_the_flair_runs_alone(tmp_path: Path) -> None:
    names = ["sub-1_FLAIR.nii", "sub-1_run-1_T1w.nii", "sub-2_FLAIR.nii", "sub-2_run-2_T1w.nii"]
    bids_dir = make_tree(tmp_path / "bids", names)
    file = tmp_path / "filter.json"
    file.write_text(json.dumps({"T1w": {"run": 2}}), encoding="utf-8")
    found = plan(bids_dir, WML, bids_filter_file=file)
    assert scans(found) == [("sub-1_FLAIR.nii",), ("sub-2_FLAIR.nii", "sub-2_run-2_T1w.nii")]
    assert remarks(found) == {
        "sub-1": "FLAIR alone: no T1w in the session: --bids-filter-file (T1w run=2) leaves out "
        "sub-1_run-1_T1w.nii"
    }


def test_a_filter_that_leaves_the_flair_out_is_on_purpose(tmp_path: Path) -> None:
    names = ["sub-1_ses-a_FLAIR.nii", "sub-1_ses-a_T1w.nii", "sub-1_ses-b_FLAIR.nii"]
    bids_dir = make_tree(tmp_path / "bids", names)
    file = tmp_path / "filter.json"
    file.write_text(json.dumps({"FLAIR": {"session": "b"}}), encoding="utf-8")
    found = plan(bids_dir, WML, bids_filter_file=file, require=("wml",))
    assert stems(found) == ["sub-1_ses-b"]
    assert found.left_out == ()
    assert [one.reason for one in found.filtered] == [
        "left out by --bids-filter-file (FLAIR session=b)"
    ]


def test_a_t1w_that_cannot_be_read_fails_the_case(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_FLAIR.nii"])
    (bids_dir / "sub-1" / "anat" / "sub-1_T1w.nii").symlink_to("nowhere")
    found = plan(bids_dir, WML)
    assert found.cases == ()
    assert reasons(found)["sub-1_FLAIR.nii"].startswith("failed: sub-1/anat/sub-1_T1w.nii is a d")


LACKS = [
    "sub-1_FLAIR.nii",
    "sub-2_T1w.nii",
    "sub-3_ses-a_T1w.nii",
    "sub-3_ses-b_FLAIR.nii",
    "sub-4/func/sub-4_task-rest_bold.nii",
    "sub-5/anat/sub-5_flair.nii",
]


def test_a_required_task_fails_what_it_would_skip(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", LACKS)
    without = plan(bids_dir, WML, T1W)
    required = plan(bids_dir, WML, T1W, require=("wml",))
    assert required.cases == without.cases
    assert {one.status for one in without.left_out} == {"skipped"}
    lacking = {
        (one.participant_id, one.session_id): (one.status, one.reason)
        for one in required.left_out
        if one.task == "wml"
    }
    assert {place: status for place, (status, _) in lacking.items()} == dict.fromkeys(
        [("sub-2", "n/a"), ("sub-3", "ses-a"), ("sub-4", "n/a"), ("sub-5", "n/a")], "failed"
    )
    assert lacking["sub-2", "n/a"][1] == "no FLAIR scan, only T1w"
    assert lacking["sub-4", "n/a"][1].startswith("no FLAIR scan: sub-4/ has no anat folder")
    assert "must end in _FLAIR.nii" in lacking["sub-5", "n/a"][1]
    assert {one.status for one in required.left_out if one.task == "tiny"} == {"skipped"}


def test_a_task_of_t1w_scans_can_be_required_as_well(tmp_path: Path) -> None:
    found = plan(make_tree(tmp_path / "bids", LACKS), T1W, require=("tiny",))
    assert stems(found) == ["sub-2", "sub-3_ses-a"]
    assert {(one.participant_id, one.session_id, one.status) for one in found.left_out} == {
        ("sub-1", "n/a", "failed"),
        ("sub-3", "ses-b", "failed"),
        ("sub-4", "n/a", "failed"),
        ("sub-5", "n/a", "failed"),
    }


def test_a_needed_partner_that_lacks_fails_only_what_is_required(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii"])
    with pytest.raises(NothingToDoError, match="sub-1: no FLAIR scan in the session"):
        plan(bids_dir, PAIR)
    (row,) = plan(bids_dir, PAIR, require=("pair",)).left_out
    assert (row.status, row.source) == ("failed", "sub-1/anat/sub-1_T1w.nii")


def test_a_derivative_beside_a_good_scan_fails_nothing(tmp_path: Path) -> None:
    names = ["sub-1_FLAIR.nii", "sub-1/anat/sub-1_space-T1w_FLAIR.nii"]
    found = plan(make_tree(tmp_path / "bids", names), WML, require=("wml",))
    assert stems(found) == ["sub-1"]
    assert [one.status for one in found.left_out] == ["skipped"]


def test_a_dataset_without_flair_runs_as_before_and_says_once_per_session_why(
    tmp_path: Path,
) -> None:
    bids_dir = make_tree(tmp_path / "bids", [f"sub-{n}_T1w.nii" for n in range(3)])
    found = plan(bids_dir, T1W, WML)
    assert len(found.cases) == 3
    assert {(one.task, one.status, one.reason) for one in found.left_out} == {
        ("wml", "skipped", "no FLAIR scan, only T1w")
    }
    assert len(found.left_out) == 3
    with pytest.raises(NothingToDoError, match="sub-0: no FLAIR scan, only T1w"):
        plan(bids_dir, WML)


def test_a_reason_that_several_tasks_share_is_told_once(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T2w.nii"])
    with pytest.raises(NothingToDoError) as caught:
        plan(bids_dir, T1W, make_task("other"))
    assert str(caught.value).count("no T1w scan") == 1


def test_real_pairs_are_found(shared_data: Path) -> None:
    found = plan(shared_data / "rawbids", WML)
    assert scans(found) == [
        (f"{stem}_FLAIR.nii.gz", f"{stem}_T1w.nii.gz")
        for stem in (
            "sub-ms03_ses-2",
            "sub-ms04_ses-1",
            "sub-ms19_ses-2",
            "sub-ms20_ses-2",
            "sub-tcga",
        )
    ]
    assert found.remarks == ()
    assert sorted(reasons(found).items()) == [
        (f"sub-{one}", "skipped: no FLAIR scan, only T1w")
        for one in ("forrest", "pumi", "stripped01", "stripped02")
    ]
