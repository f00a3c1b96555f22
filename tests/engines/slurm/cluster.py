"""A Slurm of one node that runs while a test asks for it."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines.conftest import HERE, REPOSITORY

LIMIT_S = 1200  # for machines with much else to do


@dataclass(frozen=True)
class Cluster:
    """A Slurm that runs, and the environment in which its commands and the app find it."""

    environment: dict[str, str]

    def call(self, *command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, whatever its exit code."""
        return subprocess.run(
            command,
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )

    def jobs(self) -> dict[str, dict[str, str]]:
        """What Slurm tells of all jobs of its life, by their names."""
        shown = self.call("scontrol", "--oneliner", "show", "job").stdout.splitlines()
        jobs = (dict(re.findall(r"(\w+(?:/\w+)?)=(\S*)", line)) for line in shown)
        return {job["JobName"]: job for job in jobs if job}

    def queue(self) -> list[str]:
        """Names of the jobs that wait or run."""
        return self.call("squeue", "--noheader", "--format=%j").stdout.split()


@contextmanager
def cluster(kind: str) -> Iterator[Cluster]:
    """A Slurm of its own; it ends with this process, even if that is killed."""
    command = [str(HERE / "setup_slurm.sh"), "run", kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as daemons:
        assert daemons.stdout is not None
        assert daemons.stdin is not None
        name, _, file = daemons.stdout.readline().strip().partition("=")
        if name != "SLURM_CONF":
            pytest.fail("Slurm did not start: what it said is above", pytrace=False)
        paths = {"SLURM_CONF": file, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        try:
            yield Cluster({**os.environ, **paths})
        finally:
            daemons.stdin.close()
            assert daemons.wait(LIMIT_S) == 0


def array_tasks(cluster: Cluster) -> dict[int, dict[str, str]]:
    """What Slurm tells of the shards of the latest array, by their index."""
    shown = cluster.call("scontrol", "--oneliner", "show", "job").stdout.splitlines()
    jobs = [dict(re.findall(r"(\w+(?:/\w+)?)=(\S*)", line)) for line in shown]
    latest = max((int(job.get("ArrayJobId", 0)) for job in jobs), default=0)
    return {int(job["ArrayTaskId"]): job for job in jobs if job.get("ArrayJobId") == str(latest)}


def run_array(cluster: Cluster, *command: str) -> dict[int, dict[str, str]]:
    """Send an array job, wait until it and the group level have ended; what Slurm tells of it."""
    sent = cluster.call(*command)
    assert sent.returncode == 0, sent.stderr
    wait_for(lambda: cluster.queue() == [])
    return array_tasks(cluster)


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Do something beside what is waited for, and fail if that fails."""
    failures: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()
    assert failures == []


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s, "waited too long"
        time.sleep(0.1)
