"""Group tables hold every case once, failures included, and can be made again at any time."""

from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import InputDataError, NothingToDoError
from bids_deepmrseg.files import read_json, read_tsv, write_tsv
from bids_deepmrseg.imaging.nifti import read_grid
from bids_deepmrseg.records import Case, Outcome
from bids_deepmrseg.stages.aggregate import aggregate, slug
from bids_deepmrseg.stages.measure import measure
from bids_deepmrseg.stages.status import write_status
from bids_deepmrseg.stages.write import Provenance, write_case
from tests.makers import make_case, make_dataset, make_segmented, make_task

PROVENANCE = Provenance(
    code_version="0.1.0",
    torch_version="2.0",
    model_sha256="ab" * 32,
    preprocessing="brainframe-1",
    training_data="None",
    license="CC0-1.0",
    attribution="Nobody",
    device="cpu",
    fast=False,
    n_islands_removed_voxels=0,
)


def add_result(
    folder: Path,
    scan: str,
    task_name: str = "tiny",
    *,
    brain_mm3: float | None = None,
    measures_brain: bool = False,
) -> Case:
    """Write a result of a scan into ``folder/out``."""
    bids_dir = make_dataset(folder / "bids", [scan])
    task = replace(make_task(task_name), brain=7 if measures_brain else None)
    case = make_case(bids_dir, scan, task=task)
    segmented = make_segmented(read_grid(case.scans[0]), case.task)
    segmented = replace(segmented, brain_volume_mm3=2048.0 if measures_brain else brain_mm3)
    measures = measure(segmented, case.task)
    write_case(case, segmented, measures, PROVENANCE, folder / "out")
    return case


def outcome_of(case: Case, **changes: str) -> Outcome:
    """What a status table says of a case that was done, with changes."""
    participant, session, run = (
        f"{key}-{case.entity(key)}" if case.entity(key) else "n/a" for key in ("sub", "ses", "run")
    )
    done = Outcome(
        participant_id=participant,
        session_id=session,
        run_id=run,
        source=case.scans[0].relative_to(case.bids_dir).as_posix(),
        task=case.task.name,
        status="done",
        reason="n/a",
        dseg="anything",
        duration_s=1.0,
    )
    return replace(done, **changes)  # type: ignore[arg-type] # only texts are changed


def add_run(folder: Path, run_id: str, *outcomes: Outcome) -> None:
    write_status(outcomes, folder / "out" / "logs" / run_id)


def rows_of(folder: Path, table: str = "group_tiny.tsv") -> tuple[dict[str, str], ...]:
    aggregate(folder / "out")
    return read_tsv(folder / "out" / table)[1]


def test_a_slug_holds_for_any_name() -> None:
    assert slug("Left Accumbens Area") == "left_accumbens_area_mm3"
    assert slug("3rd-Ventricle (whole)") == "3rd_ventricle_whole_mm3"


def test_one_row_per_scan_with_a_column_per_structure(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_ses-1_run-1_T1w.nii.gz")
    add_result(tmp_path, "sub-01_ses-1_run-2_T1w.nii.gz")
    add_result(tmp_path, "sub-02_T1w.nii.gz")
    rows = rows_of(tmp_path)
    places = [(row["participant_id"], row["session_id"], row["run_id"]) for row in rows]
    assert places == [
        ("sub-01", "ses-1", "run-1"),
        ("sub-01", "ses-1", "run-2"),
        ("sub-02", "n/a", "n/a"),
    ]
    for row in rows:
        assert (row["status"], row["reason"]) == ("done", "n/a")
        assert row["left_blob_mm3"] == "2048.000"
        assert row["total_mm3"] == "6144.000"
        assert row["mean_probability"] == "0.7500"
        assert (row["n_touching_edge"], row["n_outside_adult_range"]) == ("0", "0")
        assert (row["model_sha256"], row["code_version"]) == ("ab" * 32, "0.1.0")


def test_two_acquisitions_of_a_session_keep_a_row_each(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_acq-a_T1w.nii.gz")
    add_result(tmp_path, "sub-01_acq-b_T1w.nii.gz")
    assert [row["source"] for row in rows_of(tmp_path)] == [
        "sub-01/anat/sub-01_acq-a_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-b_T1w.nii.gz",
    ]


def test_the_long_table_has_a_row_per_scan_and_structure(tmp_path: Path) -> None:
    case = add_result(tmp_path, "sub-01_T1w.nii.gz")
    lost = make_case(case.bids_dir, "sub-02_T1w.nii.gz")
    add_run(tmp_path, "20260101-000000_a", outcome_of(lost, status="failed", reason="empty"))
    rows = rows_of(tmp_path, "group_volumes.tsv")
    assert [(row["participant_id"], row["index"]) for row in rows] == [
        ("sub-01", "1"),
        ("sub-01", "2"),
        ("sub-01", "7"),
        ("sub-02", "n/a"),
    ]
    assert rows[3]["volume_mm3"] == "n/a"


def test_volumes_stand_beside_their_part_of_the_brain(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_T1w.nii.gz", brain_mm3=8192.0)
    add_result(tmp_path, "sub-02_T1w.nii.gz")
    divided, raw = rows_of(tmp_path)
    assert divided["brain_mm3"] == "8192.000"
    assert divided["left_blob_mm3"] == "2048.000"
    assert divided["left_blob_per_brain"] == "0.25000000"
    assert (raw["brain_mm3"], raw["left_blob_per_brain"]) == ("n/a", "n/a")
    assert raw["left_blob_mm3"] == "2048.000"
    rows = rows_of(tmp_path, "group_volumes.tsv")
    told = [(row["brain_mm3"], row["fraction_of_brain"]) for row in rows]
    assert told == [("8192.000", "0.25000000")] * 3 + [("n/a", "n/a")] * 3


def test_a_structure_that_is_named_like_another_column_keeps_its_own(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_T1w.nii.gz", brain_mm3=8192.0)
    (table,) = (tmp_path / "out").rglob("*_dseg.tsv")
    text = table.read_text(encoding="utf-8")
    text = text.replace("Left Blob", "Brain").replace("Right Blob", "Total")
    table.write_text(text, encoding="utf-8")
    (row,) = rows_of(tmp_path)
    assert (row["brain_mm3"], row["brain_1_mm3"]) == ("8192.000", "2048.000")
    assert (row["total_mm3"], row["total_2_mm3"]) == ("6144.000", "2048.000")
    assert row["brain_per_brain"] == "0.25000000"


def test_the_brain_is_not_divided_by_itself(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_T1w.nii.gz", measures_brain=True)
    (row,) = rows_of(tmp_path)
    assert row["brain_mm3"] == row["middle_blob_mm3"] == "2048.000"
    assert row["left_blob_per_brain"] == "1.00000000"
    assert "middle_blob_per_brain" not in row


def test_a_task_that_knows_no_brain_is_told_what_others_found_in_the_same_scan(
    tmp_path: Path,
) -> None:
    add_result(tmp_path, "sub-01_T1w.nii.gz", "alone")
    add_result(tmp_path, "sub-02_T1w.nii.gz", "alone")
    add_result(tmp_path, "sub-01_T1w.nii.gz", "whole", measures_brain=True)
    first, second = rows_of(tmp_path, "group_alone.tsv")
    assert (first["brain_mm3"], first["left_blob_per_brain"]) == ("2048.000", "1.00000000")
    assert (second["brain_mm3"], second["left_blob_per_brain"]) == ("n/a", "n/a")
    add_result(tmp_path, "sub-01_T1w.nii.gz", "other", brain_mm3=4096.0)
    first, _ = rows_of(tmp_path, "group_alone.tsv")
    assert first["brain_mm3"] == "n/a"  # the two disagree


def test_without_any_brain_no_column_is_empty_for_its_sake(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_T1w.nii.gz")
    (row,) = rows_of(tmp_path)
    assert row["brain_mm3"] == "n/a"
    assert not [column for column in row if column.endswith("_per_brain")]


def test_tables_of_earlier_versions_are_still_read(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_T1w.nii.gz")
    (table,) = (tmp_path / "out").rglob("*_dseg.tsv")
    columns, rows = read_tsv(table)
    earlier = [column for column in columns if "brain" not in column]
    write_tsv(table, earlier, rows)
    (row,) = rows_of(tmp_path)
    assert (row["left_blob_mm3"], row["brain_mm3"]) == ("2048.000", "n/a")


def test_every_task_has_a_table_and_every_column_is_explained(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_T1w.nii.gz", "tiny")
    add_result(tmp_path, "sub-01_T1w.nii.gz", "other", brain_mm3=8192.0)
    tables = aggregate(tmp_path / "out")
    assert [table.name for table in tables] == [
        "group_other.tsv",
        "group_tiny.tsv",
        "group_volumes.tsv",
    ]
    for table in tables:
        columns, rows = read_tsv(table)
        assert rows
        assert tuple(read_json(table.with_suffix(".json"))) == columns


def test_a_failed_case_keeps_a_row_with_the_reason(tmp_path: Path) -> None:
    case = add_result(tmp_path, "sub-01_T1w.nii.gz")
    lost = make_case(case.bids_dir, "sub-02_T1w.nii.gz")
    reason = "it is empty (0 bytes)"
    add_run(tmp_path, "1", outcome_of(case), outcome_of(lost, status="failed", reason=reason))
    done, failed = rows_of(tmp_path)
    assert done["status"] == "done"
    assert (failed["status"], failed["reason"]) == ("failed", reason)
    assert failed["left_blob_mm3"] == "n/a"


def test_a_later_success_replaces_a_failure(tmp_path: Path) -> None:
    case = add_result(tmp_path, "sub-01_T1w.nii.gz")
    add_run(tmp_path, "20260101-000000_a", outcome_of(case, status="failed", reason="memory"))
    add_run(tmp_path, "20260102-000000_a", outcome_of(case))
    (row,) = rows_of(tmp_path)
    assert (row["status"], row["reason"]) == ("done", "n/a")


def test_a_later_failure_keeps_the_result_and_is_told(tmp_path: Path) -> None:
    case = add_result(tmp_path, "sub-01_T1w.nii.gz")
    add_run(tmp_path, "20260101-000000_a", outcome_of(case))
    add_run(tmp_path, "20260102-000000_a", outcome_of(case, status="failed", reason="memory"))
    (row,) = rows_of(tmp_path)
    assert row["status"] == "done"
    assert row["left_blob_mm3"] == "2048.000"
    assert row["reason"] == "an earlier result; in the latest run it failed: memory"


def test_the_newest_run_gives_the_reason(tmp_path: Path) -> None:
    case = make_case(make_dataset(tmp_path / "bids", ["sub-01_T1w.nii.gz"]), "sub-01_T1w.nii.gz")
    add_run(tmp_path, "20260102-000000_a", outcome_of(case, status="failed", reason="second"))
    add_run(tmp_path, "20260101-000000_b", outcome_of(case, status="failed", reason="first"))
    (row,) = rows_of(tmp_path)
    assert row["reason"] == "second"


def test_a_label_map_that_is_gone_is_not_called_done(tmp_path: Path) -> None:
    case = add_result(tmp_path, "sub-01_T1w.nii.gz")
    add_run(tmp_path, "1", outcome_of(case))
    next((tmp_path / "out").rglob("*_dseg.nii.gz")).unlink()
    (row,) = rows_of(tmp_path)
    assert row["status"] == "failed"
    assert "is not any more" in row["reason"]


def test_a_participant_without_a_scan_has_a_row_until_there_is_one(tmp_path: Path) -> None:
    case = make_case(tmp_path / "bids", "sub-01_ses-1_T1w.nii.gz")
    no_scan = outcome_of(case, status="skipped", source="n/a", reason="no T1w")
    add_run(tmp_path, "1", no_scan)
    (row,) = rows_of(tmp_path)
    assert (row["status"], row["source"], row["reason"]) == ("skipped", "n/a", "no T1w")
    add_result(tmp_path, "sub-01_ses-1_T1w.nii.gz")
    (row,) = rows_of(tmp_path)
    assert row["status"] == "done"


def test_another_session_does_not_hide_a_session_without_a_scan(tmp_path: Path) -> None:
    case = add_result(tmp_path, "sub-01_ses-1_T1w.nii.gz")
    add_run(tmp_path, "1", outcome_of(case, session_id="ses-2", status="skipped", source="n/a"))
    assert [row["session_id"] for row in rows_of(tmp_path)] == ["ses-1", "ses-2"]


def test_label_maps_of_others_are_no_results(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_T1w.nii.gz")
    theirs = tmp_path / "out" / "sub-02" / "anat" / "sub-02_space-T1w_seg-hand_dseg"
    theirs.parent.mkdir(parents=True)
    theirs.with_suffix(".json").write_text('{"Manual": true}', encoding="utf-8")
    theirs.with_suffix(".tsv").write_text("index\tname\n1\tx\n", encoding="utf-8")
    theirs.with_suffix(".nii.gz").write_bytes(b"")
    assert [row["participant_id"] for row in rows_of(tmp_path)] == ["sub-01"]


def test_a_second_time_gives_the_same_tables(tmp_path: Path) -> None:
    add_result(tmp_path, "sub-01_T1w.nii.gz")
    first = {table: table.read_bytes() for table in aggregate(tmp_path / "out")}
    assert {table: table.read_bytes() for table in aggregate(tmp_path / "out")} == first


def test_an_output_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match="run the participant level first"):
        aggregate(tmp_path)


def test_a_table_that_is_no_status_table_is_named(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "run" / "status.tsv"
    file.parent.mkdir(parents=True)
    file.write_text("a\n1\n", encoding="utf-8")
    with pytest.raises(InputDataError, match=r"status\.tsv is no status table"):
        aggregate(tmp_path)
