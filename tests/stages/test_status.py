"""The status table reads back as what was written."""

from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.records import Outcome
from bids_deepmrseg.stages.status import read_status, write_status

DONE = Outcome(
    participant_id="sub-01",
    session_id="ses-2",
    run_id="n/a",
    source="sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
    task="tiny",
    status="done",
    reason="n/a",
    dseg="sub-01/ses-2/anat/sub-01_ses-2_space-T1w_seg-tiny_dseg.nii.gz",
    duration_s=12.5,
)


def test_outcomes_read_back(tmp_path: Path) -> None:
    failed = replace(DONE, status="failed", reason="it is empty (0 bytes)", dseg="n/a")
    file = write_status((DONE, failed), tmp_path / "logs" / "run")
    assert file == tmp_path / "logs" / "run" / "status.tsv"
    assert read_status(file) == (DONE, failed)


def test_a_reason_of_many_lines_stays_one_row(tmp_path: Path) -> None:
    failed = replace(DONE, status="failed", reason="one\n\ttwo\nthree")
    (back,) = read_status(write_status((failed,), tmp_path))
    assert back.reason == "one two three"


def test_a_run_without_cases_has_a_table_without_rows(tmp_path: Path) -> None:
    assert read_status(write_status((), tmp_path)) == ()


@pytest.mark.parametrize("text", ["a\tb\n1\t2\n", "status\nperhaps\n"])
def test_another_table_is_no_status_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(InputDataError, match=r"status\.tsv is not a status table"):
        read_status(tmp_path / "status.tsv")
