"""A run that is told to end writes its table, says so of every case, and leaves no process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bids_deepmrseg.stages.status import read_status
from tests.commands import is_alive
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


@pytest.mark.parametrize("n_procs", [1, 2])
def test_a_run_that_is_told_to_end_tells_of_every_case(tmp_path: Path, n_procs: int) -> None:
    make_dataset(tmp_path / "bids", [f"sub-{n}_T1w.nii.gz" for n in range(1, 5)])
    make_model_folder(tmp_path / "models")
    folders = [str(tmp_path / "bids"), str(tmp_path / "out"), "participant"]
    flags = ["--models-dir", str(tmp_path / "models"), "--task", "tiny", "--n-procs", str(n_procs)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "bids_deepmrseg", *folders, *flags]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as run:
        wait_for(lambda: "write done" in log_of(tmp_path / "out"))
        wait_for(lambda: len(descendants(run.pid)) > 1)
        started = descendants(run.pid)
        run.send_signal(signal.SIGTERM)
        _, said = run.communicate(timeout=LIMIT_S)
    assert run.returncode == 1, said
    assert "the run was told to end (SIGTERM)" in said
    wait_for(lambda: not any(map(is_alive, started)))

    (table,) = tmp_path.glob("out/logs/*/status.tsv")
    outcomes = read_status(table)
    assert len(outcomes) == 4
    assert {one.status for one in outcomes} == {"done", "failed"}
    for one in outcomes:
        assert one.status == "done" or "was told to end (SIGTERM)" in one.reason

    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as again:
        _, said = again.communicate(timeout=LIMIT_S)
    assert again.returncode == 0, said
    assert "taken over from the work folder" in said
    assert "4 done, 0 skipped, 0 failed" in said
    assert not (tmp_path / "out" / "work").exists()
