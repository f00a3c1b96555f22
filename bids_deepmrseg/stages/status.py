"""The table that says what became of every case of a run, and nothing but the truth."""

from pathlib import Path
from typing import get_args

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.files import read_tsv, write_tsv
from bids_deepmrseg.records import Outcome, Status

STATUS_FILE = "status.tsv"
COLUMNS = (
    "participant_id",
    "session_id",
    "run_id",
    "source",
    "task",
    "status",
    "reason",
    "dseg",
    "duration_s",
)


def write_status(outcomes: tuple[Outcome, ...], log_dir: Path) -> Path:
    """Write ``status.tsv`` of a run, one row per case, and return where it is.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    file = log_dir / STATUS_FILE
    write_tsv(file, COLUMNS, (_row(outcome) for outcome in outcomes))
    return file


def _row(outcome: Outcome) -> dict[str, str]:
    """One outcome as cells."""
    return {
        "participant_id": outcome.participant_id,
        "session_id": outcome.session_id,
        "run_id": outcome.run_id,
        "source": outcome.source,
        "task": outcome.task,
        "status": outcome.status,
        "reason": outcome.reason,
        "dseg": outcome.dseg,
        "duration_s": f"{outcome.duration_s:.1f}",
    }


def read_status(file: Path) -> tuple[Outcome, ...]:
    """Read a status table back.

    Raises
    ------
    InputDataError
        If the table lacks a column or holds something else than outcomes.
    """
    _, rows = read_tsv(file)
    try:
        return tuple(_outcome(row) for row in rows)
    except (KeyError, ValueError) as error:
        raise InputDataError(f"{file} is not a status table: {error!r}") from error


def _outcome(row: dict[str, str]) -> Outcome:
    """One row as an outcome."""
    return Outcome(
        participant_id=row["participant_id"],
        session_id=row["session_id"],
        run_id=row["run_id"],
        source=row["source"],
        task=row["task"],
        status=_status(row["status"]),
        reason=row["reason"],
        dseg=row["dseg"],
        duration_s=float(row["duration_s"]),
    )


def _status(word: str) -> Status:
    """The status of that name."""
    statuses: tuple[Status, ...] = get_args(Status)
    for status in statuses:
        if status == word:
            return status
    raise ValueError(f"unknown status {word!r}")
