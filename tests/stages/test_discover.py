"""Every scan that was asked for is found once, and what is left out gets its reason."""

from pathlib import Path

import pytest

from bids_deepmrseg.errors import NothingToDoError, UsageError
from bids_deepmrseg.selection.plan import PLAN_COLUMNS
from bids_deepmrseg.stages.discover import DATABASE_FILE
from tests.makers import make_task
from tests.trees import make_tree, plan, reasons, stems

PAIR = make_task("pair", channels=("T1w", "FLAIR"))


def test_every_run_of_every_session_is_a_case_named_like_its_file(tmp_path: Path) -> None:
    bids_dir = make_tree(
        tmp_path / "bids",
        [
            "sub-01_ses-1_run-1_T1w.nii.gz",
            "sub-01_ses-1_run-2_T1w.nii.gz",
            "sub-01_ses-2_acq-mprage_rec-norm_run-02_T1w.nii",
            "sub-02_T1w.nii.gz",
            "sub-02_T2w.nii.gz",
        ],
    )
    found = plan(bids_dir)
    assert stems(found) == [
        "sub-01_ses-1_run-1",
        "sub-01_ses-1_run-2",
        "sub-01_ses-2_acq-mprage_rec-norm_run-02",
        "sub-02",
    ]
    assert [case.scans for case in found.cases][3] == (
        bids_dir / "sub-02" / "anat" / "sub-02_T1w.nii.gz",
    )
    assert found.left_out == ()


def test_only_the_dataset_itself_is_looked_at(tmp_path: Path) -> None:
    scan = "sub-01/anat/sub-01_T1w.nii.gz"
    others = ["derivatives/x", "sourcedata", "code", "sub-01/derivatives", ".git/annex"]
    bids_dir = make_tree(tmp_path / "bids", [scan, *(f"{other}/{scan}" for other in others)])
    assert [case.scans for case in plan(bids_dir).cases] == [(bids_dir / scan,)]


@pytest.mark.parametrize("folder", ["sourcedata", "derivatives", "code", "models"])
def test_a_dataset_may_lie_in_a_folder_of_any_name(tmp_path: Path, folder: str) -> None:
    assert stems(plan(make_tree(tmp_path / folder / "raw", ["sub-1_T1w.nii"]))) == ["sub-1"]


def test_a_relative_path_to_the_dataset_is_as_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path / "bids", ["sub-1_T1w.nii"])
    monkeypatch.chdir(tmp_path)
    assert [case.scans for case in plan(Path("bids")).cases] == [
        (Path("bids/sub-1/anat/sub-1_T1w.nii"),)
    ]


def test_labels_choose_participants_and_sessions(tmp_path: Path) -> None:
    names = [f"sub-{sub}_ses-{ses}_T1w.nii.gz" for sub in ("01", "02", "010") for ses in "12"]
    bids_dir = make_tree(tmp_path / "bids", names)
    chosen = plan(bids_dir, participant_labels=("01", "02"), session_labels=("2",))
    assert stems(chosen) == ["sub-01_ses-2", "sub-02_ses-2"]
    assert chosen.left_out == ()
    assert [one.source for one in chosen.filtered] == [
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
    ]
    rest = plan(bids_dir, exclude_participant_labels=("01", "02"))
    assert stems(rest) == ["sub-010_ses-1", "sub-010_ses-2"]


def test_a_participant_that_is_not_there_fails_and_the_others_go_on(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-01_T1w.nii", "sub-11_T1w.nii", "03/x"])
    found = plan(bids_dir, participant_labels=("1", "01", "03"))
    assert stems(found) == ["sub-01"]
    assert "failed: sub-1 is not in the dataset; nearest: sub-" in reasons(found)["sub-1"]
    assert "a folder 03 without the prefix sub-" in reasons(found)["sub-03"]


def test_none_of_the_participants_there_is_nothing_to_do(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-01_T1w.nii"])
    with pytest.raises(NothingToDoError, match=r"\(sub-2\); it has sub-01"):
        plan(bids_dir, participant_labels=("2",))
    with pytest.raises(NothingToDoError, match="all are excluded"):
        plan(bids_dir, exclude_participant_labels=("01",))


def test_a_filter_file_chooses_scans(tmp_path: Path) -> None:
    names = ["sub-01_run-1_T1w.nii", "sub-01_run-2_T1w.nii", "sub-01_acq-x_run-2_T1w.nii"]
    bids_dir = make_tree(tmp_path / "bids", names)
    file = tmp_path / "filter.json"
    file.write_text('{"t1w": {"run": 2, "acquisition": null}}', encoding="utf-8")
    found = plan(bids_dir, bids_filter_file=file)
    assert stems(found) == ["sub-01_run-2"]
    assert {one.reason for one in found.filtered} == {
        "left out by --bids-filter-file (T1w run=2)",
        "left out by --bids-filter-file (T1w acquisition=absent)",
    }


def test_a_filter_on_what_no_name_can_have_is_refused(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-01_T1w.nii"])
    file = tmp_path / "filter.json"
    file.write_text('{"T1w": {"sesion": "1"}}', encoding="utf-8")
    with pytest.raises(UsageError, match="nearest is 'session'"):
        plan(bids_dir, bids_filter_file=file)


def test_filters_that_leave_nothing_are_named(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-01_ses-1_T1w.nii", "sub-02_T1w.nii"])
    with pytest.raises(NothingToDoError) as caught:
        plan(bids_dir, session_labels=("3",))
    said = str(caught.value)
    assert "looked at 2 participants (sub-01, sub-02)" in said
    assert "--session-label 3 leaves out sub-01_ses-1_T1w.nii" in said


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("sub-01/anat/sub-01_t1w.nii.gz", "must end in _T1w.nii.gz"),
        ("sub-01/anat/sub-01_T1w.mgz", "it ends in .mgz"),
        ("sub-01/sub-01_T1w.nii.gz", "would have to lie in an anat folder"),
        ("sub-01/anat/01_T1w.nii.gz", "not key-value"),
        ("sub-01/anat/sub-01_T2w.nii.gz", "sub-01/anat holds sub-01_T2w.nii.gz"),
        ("sub-01/func/sub-01_task-rest_bold.nii.gz", "no anat folder; it holds func"),
    ],
)
def test_a_near_miss_is_skipped_with_its_reason_and_the_others_go_on(
    tmp_path: Path, file: str, why: str
) -> None:
    found = plan(make_tree(tmp_path / "bids", [file, "sub-02_T1w.nii.gz"]))
    assert stems(found) == ["sub-02"]
    ((what, reason),) = reasons(found).items()
    assert what in ("sub-01", Path(file).name)
    assert reason.startswith("skipped: ")
    assert why in reason


def test_a_lone_near_miss_is_nothing_to_do_and_is_named(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-01/anat/sub-01_t1w.nii.gz"])
    with pytest.raises(NothingToDoError, match=r"sub-01: its name must end in _T1w\.nii\.gz"):
        plan(bids_dir)


def test_a_session_without_scan_has_a_row_only_if_it_has_an_anat_folder(tmp_path: Path) -> None:
    bids_dir = make_tree(
        tmp_path / "bids",
        ["sub-1_ses-a_T1w.nii", "sub-1_ses-b_T2w.nii", "sub-1/ses-c/func/x"],
    )
    (row,) = plan(bids_dir).left_out
    assert (row.participant_id, row.session_id, row.status) == ("sub-1", "ses-b", "skipped")
    assert plan(bids_dir, session_labels=("a",)).left_out == ()


def test_a_name_that_is_no_bids_is_taken_only_without_validation(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii", "sub-1_run-1_acq-a_T1w.nii"])
    assert stems(plan(bids_dir)) == ["sub-1"]
    taken = plan(bids_dir, skip_bids_validation=True)
    assert stems(taken) == ["sub-1", "sub-1_run-1_acq-a"]


def test_a_dangling_link_fails_alone_and_names_its_target(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii.gz"])
    link = bids_dir / "sub-2" / "anat" / "sub-2_T1w.nii.gz"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../.git/annex/objects/XY/key.nii.gz")
    found = plan(bids_dir)
    assert stems(found) == ["sub-1"]
    reason = reasons(found)["sub-2_T1w.nii.gz"]
    assert reason.startswith("failed: ")
    assert "annex/objects/XY/key.nii.gz" in reason
    assert "datalad get sub-2/anat/sub-2_T1w.nii.gz" in reason


def test_links_that_lead_somewhere_are_scans(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii.gz"])
    make_tree(tmp_path / "annex", ["sub-2_T1w.nii.gz", "sub-3/anat/key"])
    (bids_dir / "sub-2").symlink_to(tmp_path / "annex" / "sub-2")
    (bids_dir / "sub-3" / "anat").mkdir(parents=True)
    link = bids_dir / "sub-3" / "anat" / "sub-3_T1w.nii.gz"
    link.symlink_to(tmp_path / "annex" / "sub-3" / "anat" / "key")
    assert stems(plan(bids_dir)) == ["sub-1", "sub-2", "sub-3"]


def test_channels_are_paired_within_the_session_by_what_their_names_share(tmp_path: Path) -> None:
    bids_dir = make_tree(
        tmp_path / "bids",
        [
            "sub-1_ses-a_run-1_T1w.nii",
            "sub-1_ses-a_run-2_T1w.nii",
            "sub-1_ses-a_run-1_FLAIR.nii",
            "sub-1_ses-a_run-2_FLAIR.nii",
            "sub-1_ses-b_T1w.nii",
            "sub-1_ses-b_acq-x_FLAIR.nii",
            "sub-1_ses-b_acq-y_FLAIR.nii",
            "sub-1_ses-c_T1w.nii",
            "sub-1_ses-d_FLAIR.nii",
        ],
    )
    found = plan(bids_dir, PAIR)
    assert [tuple(scan.name for scan in case.scans) for case in found.cases] == [
        ("sub-1_ses-a_run-1_T1w.nii", "sub-1_ses-a_run-1_FLAIR.nii"),
        ("sub-1_ses-a_run-2_T1w.nii", "sub-1_ses-a_run-2_FLAIR.nii"),
        ("sub-1_ses-b_T1w.nii", "sub-1_ses-b_acq-x_FLAIR.nii"),
    ]
    rows = {(one.session_id, one.status): one.reason for one in found.left_out}
    assert set(rows) == {("ses-c", "skipped"), ("ses-d", "skipped")}
    assert "no FLAIR" in rows["ses-c", "skipped"]
    assert "no T1w" in rows["ses-d", "skipped"]


def test_a_dangling_partner_fails_the_pair(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii"])
    (bids_dir / "sub-1" / "anat" / "sub-1_FLAIR.nii").symlink_to("nowhere")
    found = plan(bids_dir, PAIR)
    assert reasons(found)["sub-1_T1w.nii"].startswith("failed: sub-1/anat/sub-1_FLAIR.nii is")


def test_a_folder_that_is_no_dataset_is_told_from_one_without_description(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is mounted"):
        plan(tmp_path / "nowhere")
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii"])
    with pytest.raises(NothingToDoError, match="dataset in its subfolder bids"):
        plan(tmp_path)
    (bids_dir / "dataset_description.json").unlink()
    with pytest.raises(UsageError, match=r"dataset_description\.json.*--skip-bids-validation"):
        plan(bids_dir)
    assert stems(plan(bids_dir, skip_bids_validation=True)) == ["sub-1"]


@pytest.mark.parametrize("text", ["{", "{}", '{"Name": "x"}', "[]"])
def test_a_damaged_description_is_refused_unless_told_to_go_on(tmp_path: Path, text: str) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii"])
    (bids_dir / "dataset_description.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="is not a BIDS dataset"):
        plan(bids_dir)


def test_a_saved_index_is_made_once_and_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii", "sub-2_T1w.nii"])
    folder = tmp_path / "database"
    assert stems(plan(bids_dir, bids_database_dir=folder, participant_labels=("1",))) == ["sub-1"]
    written = (folder / DATABASE_FILE).stat().st_mtime_ns
    caplog.clear()
    assert stems(plan(bids_dir, bids_database_dir=folder)) == ["sub-1", "sub-2"]
    assert (folder / DATABASE_FILE).stat().st_mtime_ns == written
    assert caplog.text == ""
    assert [path.name for path in folder.iterdir()] == [DATABASE_FILE]


def test_only_structural_scans_are_indexed(tmp_path: Path) -> None:
    others = ["func/sub-1_task-zebra_bold.nii", "anat/sub-1_acq-zebra_T1w.json", "zebra.nii"]
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii", *(f"sub-1/{o}" for o in others)])
    plan(bids_dir, bids_database_dir=tmp_path / "database")
    index = (tmp_path / "database" / DATABASE_FILE).read_bytes()
    assert b"sub-1_T1w.nii" in index
    assert b"zebra" not in index


@pytest.mark.parametrize("added", [True, False])
def test_a_stale_index_is_made_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, added: bool
) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii", "sub-2_T1w.nii"])
    folder = tmp_path / "database"
    plan(bids_dir, bids_database_dir=folder)
    if added:
        make_tree(bids_dir, ["sub-2_run-2_T1w.nii"])
    else:
        (bids_dir / "sub-2" / "anat" / "sub-2_T1w.nii").unlink()
    caplog.clear()
    now = ["sub-1", "sub-2", "sub-2_run-2"] if added else ["sub-1"]
    assert stems(plan(bids_dir, bids_database_dir=folder)) == now
    assert "out of date (1 scans" in caplog.text
    caplog.clear()
    assert stems(plan(bids_dir, bids_database_dir=folder)) == now
    assert caplog.text == ""


def test_an_index_of_another_dataset_is_neither_used_nor_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "database"
    plan(make_tree(tmp_path / "a", ["sub-1_T1w.nii"]), bids_database_dir=folder)
    before = (folder / DATABASE_FILE).read_bytes()
    assert stems(plan(make_tree(tmp_path / "b", ["sub-2_T1w.nii"]), bids_database_dir=folder)) == [
        "sub-2"
    ]
    assert (folder / DATABASE_FILE).read_bytes() == before


def test_an_index_that_cannot_be_read_or_written_does_not_stop_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii"])
    (tmp_path / "file").touch()
    assert stems(plan(bids_dir, bids_database_dir=tmp_path / "file" / "x")) == ["sub-1"]
    assert "cannot be saved" in caplog.text
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / DATABASE_FILE).write_bytes(b"no database at all" * 100)
    assert stems(plan(bids_dir, bids_database_dir=tmp_path / "damaged")) == ["sub-1"]
    assert "cannot be used" in caplog.text


def test_a_dry_run_saves_no_index(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii"])
    plan(bids_dir, bids_database_dir=tmp_path / "database", dry_run=True)
    assert not (tmp_path / "database").exists()


def test_the_plan_is_a_table_with_a_row_for_all_that_was_seen(tmp_path: Path) -> None:
    names = ["sub-1_ses-a_run-1_T1w.nii", "sub-1_ses-b_T1w.nii", "sub-2_ses-a_T2w.nii"]
    found = plan(make_tree(tmp_path / "bids", names), session_labels=("a",))
    assert len({len(row) for row in (PLAN_COLUMNS, *found.rows)}) == 1
    assert [row[:6] for row in found.rows] == [
        ("sub-1", "ses-a", "run-1", "tiny", "sub-1_ses-a_run-1_T1w.nii", "run"),
        ("sub-1", "ses-b", "n/a", "tiny", "sub-1/ses-b/anat/sub-1_ses-b_T1w.nii", "skipped"),
        ("sub-2", "ses-a", "n/a", "tiny", "n/a", "skipped"),
    ]


def test_real_scans_are_found(shared_data: Path) -> None:
    found = plan(shared_data / "rawbids")
    assert len(found.cases) == 9
    assert found.left_out == ()
