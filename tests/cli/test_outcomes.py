"""Failures are told one by one, and so is what was skipped, until it is too much to read."""

import logging
from pathlib import Path

import pytest

from bids_deepmrseg.cli.outcomes import MOST_LINES, report
from bids_deepmrseg.records import Outcome, Status
from bids_deepmrseg.settings import RunSettings


def outcome(subject: str, status: Status, reason: str = "n/a", *, task: str = "wml") -> Outcome:
    return Outcome(
        participant_id=f"sub-{subject}",
        session_id="n/a",
        run_id="n/a",
        source="n/a",
        task=task,
        status=status,
        reason=reason,
        dseg="n/a",
        duration_s=0.0,
    )


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    """Settings of a run that only has a name."""
    return RunSettings(
        bids_dir=tmp_path / "bids",
        output_dir=tmp_path / "out",
        work_dir=tmp_path / "work",
        analysis_level="participant",
        run_id="one",
    )


def lines(
    outcomes: list[Outcome], settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="bids_deepmrseg"):
        report(tuple(outcomes), settings)
    return caplog.messages


def test_few_are_told_one_by_one(settings: RunSettings, caplog: pytest.LogCaptureFixture) -> None:
    some = [outcome("1", "done"), outcome("2", "skipped", "a: b"), outcome("3", "failed", "c")]
    assert lines(some, settings, caplog) == [
        "skipped: sub-2 wml: a: b",
        "failed: sub-3 wml: c",
        f"1 done, 1 skipped, 1 failed; {settings.log_dir / 'status.tsv'}",
    ]


def test_many_sessions_without_a_scan_are_one_line_for_each_task(
    settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    many = [outcome(str(n), "skipped", "no FLAIR scan, only T1w") for n in range(300)]
    many += [outcome(str(n), "done", task="tiny") for n in range(300)]
    many.append(outcome("x", "skipped", "no T1w scan: nothing is there", task="tiny"))
    assert lines(many, settings, caplog)[:-1] == [
        "skipped: 300 for wml: no FLAIR scan, only T1w",
        "skipped: sub-x tiny: no T1w scan: nothing is there",
    ]


def test_reasons_that_begin_alike_are_counted_together_and_rare_ones_summed(
    settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    many = [outcome(str(n), "skipped", f"no FLAIR scan: sub-{n} holds x") for n in range(7)]
    many += [outcome("a", "skipped", f"reason {n}") for n in range(MOST_LINES + 1)]
    told = lines(many, settings, caplog)
    assert told[0] == "skipped: 7 for wml: no FLAIR scan"
    assert told[-2] == "skipped: 2 more for wml, for other reasons"
    assert len(told) == MOST_LINES + 2


def test_every_failure_is_told(settings: RunSettings, caplog: pytest.LogCaptureFixture) -> None:
    many = [outcome(str(n), "failed", "x") for n in range(3 * MOST_LINES)]
    assert len(lines(many, settings, caplog)) == 3 * MOST_LINES + 1
