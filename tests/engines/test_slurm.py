"""A real Slurm runs the app: by nipype's plugin, and as jobs that run out of memory."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.files import read_tsv
from bids_deepmrseg.records import Outcome
from bids_deepmrseg.stages.status import read_status
from tests.makers import bids_path, make_dataset, make_model_folder, write_nifti

pytestmark = pytest.mark.engine("slurm")

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LIMIT_S = 1200  # for machines with much else to do
NAMES = ("sub-1_T1w.nii.gz", "sub-2_T1w.nii.gz", "sub-3_T1w.nii.gz")


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


@pytest.fixture(scope="module")
def plain() -> Iterator[Cluster]:
    """A cluster that believes what jobs say."""
    with cluster("plain") as started:
        yield started


@pytest.fixture(scope="module")
def confining() -> Iterator[Cluster]:
    """A cluster in which a job that goes over its memory is killed."""
    with cluster("cgroup") as started:
        yield started


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder with a dataset of three participants and a model; its name has a space."""
    root = tmp_path / "a study"
    make_dataset(root / "bids", NAMES)
    make_model_folder(root / "models")
    return root


def use_plugin(root: Path, arguments: str) -> tuple[str, ...]:
    """Flags that run the nodes as jobs."""
    file = root / "plugin.yml"
    file.write_text(f"plugin: SLURM\nplugin_args: {{poll_s: 0.5, {arguments}}}\n", "utf-8")
    return ("--use-plugin", str(file))


def command_of(root: Path, *flags: str, task: str = "tiny") -> tuple[str, ...]:
    """The app, for the participants of a dataset."""
    folders = (str(root / "bids"), str(root / "out"), "participant")
    models = ("--models-dir", str(root / "models")) if task == "tiny" else ()
    own = (*models, "--task", task, "-w", str(root / "work"))
    return (sys.executable, "-m", "bids_deepmrseg", *folders, *own, *flags)


def outcomes_of(root: Path) -> dict[str, Outcome]:
    """The latest run's table of status, by participant."""
    latest = max((root / "out" / "logs").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    return {one.participant_id: one for one in read_status(latest / "status.tsv")}


def log_of(root: Path) -> list[str]:
    """The logs of all runs."""
    return [file.read_text("utf-8") for file in (root / "out").glob("logs/*/run.log")]


def statuses(root: Path) -> list[str]:
    """What became of the participants, in their order."""
    return [one.status for _, one in sorted(outcomes_of(root).items())]


def damage(root: Path, name: str) -> None:
    scan = root / "bids" / bids_path(name)
    scan.write_bytes(scan.read_bytes()[:1000])


def make_huge(root: Path, name: str) -> None:
    """Put a scan in the place of another of which a copy with four bytes per voxel is 0.5 GB."""
    scan = root / "bids" / bids_path(name)
    scan.unlink()
    data = np.zeros((500, 500, 500), np.uint8)
    data[100:400, 100:400, 100:400] = 100
    affine = np.diag([0.4, 0.4, 0.4, 1.0])
    affine[:3, 3] = -100
    write_nifti(scan.with_name(scan.name.removesuffix(".gz")), data, affine)


def write_array(root: Path, *flags: str, task: str = "tiny") -> tuple[str, ...]:
    """Let the app write the scripts of an array job; the command that sends them."""
    scripts = root / "scripts"
    command = command_of(root, "--write-slurm-array", str(scripts), *flags, task=task)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, env=environment, check=True, timeout=LIMIT_S)
    return ("bash", str(scripts / "submit.sh"))


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


def statuses_of_group(root: Path) -> dict[str, str]:
    """By participant, what the table of the group level says."""
    rows = read_tsv(root / "out" / "group_tiny.tsv")[1]
    return dict(sorted((row["participant_id"], row["status"]) for row in rows))


def participants_of(root: Path) -> list[str]:
    """Participants of the output dataset, which are those with results."""
    return [row["participant_id"] for row in read_tsv(root / "out" / "participants.tsv")[1]]


def statuses_of_all_runs(root: Path) -> dict[str, list[str]]:
    """By participant, what became of it in each run that had it."""
    found: dict[str, list[str]] = {}
    for folder in sorted((root / "out" / "logs").iterdir()):
        for one in read_status(folder / "status.tsv"):
            found.setdefault(one.participant_id, []).append(one.status)
    return dict(sorted(found.items()))


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


def processes_of(root: Path) -> list[str]:
    """Command lines of all processes that have to do with a dataset."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(root) in line and int(file.parent.name) != os.getpid():
            found.append(line)
    return found


def test_the_plugin_runs_nodes_as_jobs_and_tells_the_truth_of_a_broken_scan(
    plain: Cluster, dataset: Path, tmp_path: Path
) -> None:
    damage(dataset, NAMES[1])
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    bare = {name: text for name, text in plain.environment.items() if name != "LOGNAME"}
    flags = use_plugin(dataset, "sbatch_args: --export=NONE --time=10")
    done = Cluster({**bare, "HOME": str(home)}).call(*command_of(dataset, *flags), cwd=elsewhere)

    assert done.returncode == 1, done.stderr
    assert statuses(dataset) == ["done", "failed", "done"]
    assert "sub-2_T1w.nii.gz is truncated or damaged" in outcomes_of(dataset)["sub-2"].reason
    assert "2 done, 0 skipped, 1 failed" in done.stderr
    assert list(home.iterdir()) == []
    assert list(elsewhere.iterdir()) == []

    jobs = plain.jobs()
    assert {"tiny_sub-1_segment", "tiny_sub-1_measure", "tiny_sub-3_write"} <= jobs.keys()
    assert "tiny_sub-2_measure" not in jobs
    segment = jobs["tiny_sub-1_segment"]
    assert (segment["TimeLimit"], segment["JobState"]) == ("00:10:00", "COMPLETED")
    assert 1000 < int(segment["MinMemoryNode"].removesuffix("M")) < 1500
    assert list((dataset / "work").glob("*/batch/*tiny_sub-1_segment.*.out"))


def test_a_job_that_is_cancelled_is_a_failed_case_and_the_others_finish(
    plain: Cluster, dataset: Path
) -> None:
    def cancel() -> None:
        wait_for(lambda: "tiny_sub-2_segment" in plain.queue())
        plain.call("scancel", "--name=tiny_sub-2_segment")

    flags = use_plugin(dataset, "sbatch_args: --time=10")
    with meanwhile(cancel):
        done = plain.call(*command_of(dataset, *flags))
    assert done.returncode == 1, done.stderr
    assert statuses(dataset) == ["done", "failed", "done"]
    reason = outcomes_of(dataset)["sub-2"].reason
    assert re.search(r"its Slurm job \d+ ended without a result \(CANCELLED\)", reason)
    assert "TypeError" not in done.stderr


def test_what_slurm_does_not_take_is_a_failed_case(plain: Cluster, dataset: Path) -> None:
    flags = use_plugin(dataset, "sbatch_args: --partition=absent, retry_timeout: 0.1")
    done = plain.call(*command_of(dataset, *flags))
    assert done.returncode == 1, done.stderr
    assert statuses(dataset) == ["failed"] * 3
    for outcome in outcomes_of(dataset).values():
        assert "Slurm did not take its job: " in outcome.reason
        assert "invalid partition specified: absent" in outcome.reason


def test_a_run_that_stops_leaves_no_job_in_the_queue(plain: Cluster, dataset: Path) -> None:
    damage(dataset, NAMES[0])
    flags = use_plugin(dataset, "sbatch_args: --time=10")
    done = plain.call(*command_of(dataset, *flags, "--stop-on-first-crash"))
    assert done.returncode == 1, done.stderr
    assert "failed" in statuses(dataset)
    wait_for(lambda: plain.queue() == [])


def test_a_node_that_is_killed_for_memory_says_so_and_the_others_finish(
    confining: Cluster, dataset: Path
) -> None:
    make_huge(dataset, NAMES[1])
    flags = use_plugin(dataset, "sbatch_args: --mem=1500")
    done = confining.call(*command_of(dataset, *flags))
    assert done.returncode == 1, done.stderr
    assert statuses(dataset) == ["done", "failed", "done"]
    assert_told_of_memory(outcomes_of(dataset)["sub-2"].reason, limit_gb=1.6)


def test_a_job_that_runs_out_of_memory_loses_one_case_only(
    confining: Cluster, dataset: Path, tmp_path: Path
) -> None:
    make_huge(dataset, NAMES[1])
    script = tmp_path / "job.sh"
    command = " ".join(f"'{part}'" for part in command_of(dataset, "--n-procs", "2"))
    script.write_text(f"#!/bin/bash\n{command}\n", "utf-8")
    printed = tmp_path / "job.out"
    flags = ("--wait", "--mem=2500", "--cpus-per-task=2", "--job-name=whole")
    done = confining.call("sbatch", *flags, f"--output={printed}", str(script))

    assert done.returncode != 0
    assert confining.jobs()["whole"]["JobState"] == "OUT_OF_MEMORY"
    assert statuses(dataset) == ["done", "failed", "done"], printed.read_text("utf-8")
    reason = outcomes_of(dataset)["sub-2"].reason
    assert_told_of_memory(reason, limit_gb=2.6)
    assert reason in printed.read_text("utf-8")
    assert "2 done, 0 skipped, 1 failed" in printed.read_text("utf-8")
    wait_for(lambda: processes_of(dataset) == [])


def test_an_array_of_shards_then_the_group_level_then_one_shard_again(
    plain: Cluster, tmp_path: Path
) -> None:
    root = tmp_path / "an array"
    names = [f"sub-{n}_T1w.nii.gz" for n in range(1, 6)]
    make_dataset(root / "bids", names)
    make_model_folder(root / "models")
    broken = root / "bids" / bids_path(names[1])
    good = broken.read_bytes()
    damage(root, names[1])
    submit = write_array(root, "--slurm-hours", "0.001", "--slurm-max-jobs", "3")

    tasks = run_array(plain, *submit)
    codes = {index: (task["JobState"], task["ExitCode"]) for index, task in tasks.items()}
    (failed,) = (index for index, code in codes.items() if code == ("FAILED", "1:0"))
    assert sorted(codes.values()) == [("COMPLETED", "0:0")] * 2 + [("FAILED", "1:0")]
    group = plain.jobs()["deepmrseg-group"]
    assert (group["JobState"], group["ExitCode"]) == ("COMPLETED", "0:0")
    assert group["StartTime"] >= max(task["EndTime"] for task in tasks.values())
    expected = {f"sub-{n}": "failed" if n == 2 else "done" for n in range(1, 6)}
    assert statuses_of_all_runs(root) == {name: [status] for name, status in expected.items()}
    assert statuses_of_group(root) == expected
    done = [name for name, status in expected.items() if status == "done"]
    assert participants_of(root) == done

    broken.write_bytes(good)
    tasks = run_array(plain, *submit, f"--array={failed}")
    assert {index: task["ExitCode"] for index, task in tasks.items()} == {failed: "0:0"}
    assert statuses_of_all_runs(root)["sub-2"] == ["failed", "done"]
    assert statuses_of_group(root) == dict.fromkeys(expected, "done")
    assert participants_of(root) == list(expected)


def test_a_shard_that_is_told_to_end_tells_of_every_case(plain: Cluster, dataset: Path) -> None:
    """By ``scancel`` here, which does what Slurm does at a time limit."""

    def cancel() -> None:
        wait_for(lambda: "write done" in "".join(log_of(dataset)))
        plain.call("scancel", "--name=deepmrseg")

    submit = write_array(dataset, "--slurm-max-jobs", "1", "--n-procs", "1")
    with meanwhile(cancel):
        (task,) = run_array(plain, *submit).values()
    assert task["JobState"] == "CANCELLED"
    became = outcomes_of(dataset)
    assert sorted(became) == ["sub-1", "sub-2", "sub-3"]
    assert sorted({one.status for one in became.values()}) == ["done", "failed"]
    assert "the run was told to end (SIGTERM)" in "".join(log_of(dataset))
    assert statuses_of_group(dataset) == {name: one.status for name, one in became.items()}
    wait_for(lambda: processes_of(dataset) == [])


def test_a_shard_that_runs_out_of_memory_loses_one_case_only(
    confining: Cluster, dataset: Path
) -> None:
    make_huge(dataset, NAMES[1])
    limits = ("--slurm-option=--mem=2500", "--n-procs", "2", "--slurm-max-jobs", "1")
    tasks = run_array(confining, *write_array(dataset, *limits))
    assert [task["JobState"] for task in tasks.values()] == ["OUT_OF_MEMORY"]
    assert statuses(dataset) == ["done", "failed", "done"]
    assert_told_of_memory(outcomes_of(dataset)["sub-2"].reason, limit_gb=2.6)
    assert list(statuses_of_group(dataset).values()) == ["done", "failed", "done"]
    wait_for(lambda: processes_of(dataset) == [])


@pytest.mark.weights
def test_a_shipped_task_keeps_to_the_memory_that_its_array_asks_for(
    confining: Cluster, tmp_path: Path
) -> None:
    demo = REPOSITORY / "docs" / "demo" / "make_dataset.py"
    subprocess.run([sys.executable, str(demo), str(tmp_path / "bids")], check=True, timeout=LIMIT_S)
    (task,) = run_array(confining, *write_array(tmp_path, task="brainmask")).values()
    assert (task["JobState"], task["ExitCode"]) == ("COMPLETED", "0:0")
    assert statuses(tmp_path) == ["done"]
    (row,) = read_tsv(tmp_path / "out" / "group_brainmask.tsv")[1]
    assert (row["participant_id"], row["status"]) == ("sub-mni152", "done")


def assert_told_of_memory(reason: str, *, limit_gb: float) -> None:
    """The sentence says that memory was the cause, what is needed, was held, and is allowed."""
    assert "was killed by signal 9 (SIGKILL) because memory ran out: " in reason
    found = re.search(
        r"about (\d+\.\d) GB are needed, it held (\d+\.\d) GB when last seen, "
        rf"and {limit_gb} GB is the limit here",
        reason,
    )
    assert found is not None, reason
    needed_gb, held_gb = float(found[1]), float(found[2])
    assert needed_gb > limit_gb > held_gb > 0.3
