"""A run that is told to end writes its table, says so of every case, and leaves no process."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bids_deepmrseg.files import read_tsv
from bids_deepmrseg.records import UNTOLD
from bids_deepmrseg.stages.aggregate import aggregate
from bids_deepmrseg.stages.status import read_status
from tests.commands import app, environment, is_alive
from tests.makers import make_dataset, make_model_folder

LIMIT_S = 300


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s, "waited too long"
        time.sleep(0.02)


def descendants(process: int) -> list[int]:
    """All processes below one, as far down as they go."""
    found: list[int] = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, file.read_text(encoding="ascii").split()):
            found += [child, *descendants(child)]
    return found


def log_of(output_dir: Path) -> str:
    return "".join(file.read_text("utf-8") for file in output_dir.glob("logs/*/run.log"))


def command_of(folder: Path, n_procs: int) -> list[str]:
    """The app on a dataset of four participants, which is made."""
    raw = make_dataset(folder / "bids", [f"sub-{n}_T1w.nii.gz" for n in range(1, 5)])
    make_model_folder(folder / "models")
    return app(raw, folder / "out", folder / "models", "--n-procs", str(n_procs))


def interrupt(command: list[str], folder: Path, number: int) -> tuple[int, str]:
    """Send a signal to a run that has written a case; its exit code and what it said."""
    with subprocess.Popen(
        command, env=environment({}), stderr=subprocess.PIPE, text=True
    ) as running:
        wait_for(lambda: "write done" in log_of(folder / "out"))
        wait_for(lambda: len(descendants(running.pid)) > 1)
        started = descendants(running.pid)
        running.send_signal(number)
        _, said = running.communicate(timeout=LIMIT_S)
    wait_for(lambda: not any(map(is_alive, started)))
    return running.returncode, said


def assert_it_goes_on(command: list[str], folder: Path) -> None:
    """The same command takes over what is there, and finishes the rest."""
    again = subprocess.run(
        command, env=environment({}), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "taken over from the work folder" in again.stderr
    assert "4 done, 0 skipped, 0 failed" in again.stderr
    assert not (folder / "out" / "work").exists()


@pytest.mark.parametrize("n_procs", [1, 2])
def test_a_run_that_is_told_to_end_tells_of_every_case(tmp_path: Path, n_procs: int) -> None:
    command = command_of(tmp_path, n_procs)
    code, said = interrupt(command, tmp_path, signal.SIGTERM)
    assert code == 1, said
    assert "the run was told to end (SIGTERM)" in said
    (table,) = tmp_path.glob("out/logs/*/status.tsv")
    outcomes = read_status(table)
    assert len(outcomes) == 4
    assert {one.status for one in outcomes} == {"done", "failed"}
    for one in outcomes:
        assert one.status == "done" or "was told to end (SIGTERM)" in one.reason
    assert_it_goes_on(command, tmp_path)


def test_a_run_that_is_killed_outright_leaves_a_row_for_every_case(tmp_path: Path) -> None:
    command = command_of(tmp_path, 1)
    interrupt(command, tmp_path, signal.SIGKILL)
    (table,) = tmp_path.glob("out/logs/*/status.tsv")
    outcomes = read_status(table)
    assert [one.status for one in outcomes] == ["failed"] * 4
    assert all(one.reason.startswith(UNTOLD) for one in outcomes)
    aggregate(tmp_path / "out")
    rows = read_tsv(tmp_path / "out" / "group_tiny.tsv")[1]
    assert [row["participant_id"] for row in rows] == ["sub-1", "sub-2", "sub-3", "sub-4"]
    assert rows[0]["status"] == "done"
    assert rows[3]["status"] == "failed"
    assert rows[3]["reason"].startswith(UNTOLD)
    assert_it_goes_on(command, tmp_path)
    aggregate(tmp_path / "out")
    rows = read_tsv(tmp_path / "out" / "group_tiny.tsv")[1]
    assert [row["status"] for row in rows] == ["done"] * 4
