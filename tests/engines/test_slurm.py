"""A real Slurm runs the app: by nipype's plugin, and as jobs that run out of memory."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bids_deepmrseg.files import read_tsv
from tests.engines.conftest import REPOSITORY
from tests.engines.slurm.cluster import LIMIT_S, Cluster, cluster, meanwhile, run_array, wait_for
from tests.engines.slurm.study import (
    command_of,
    damage,
    log_of,
    make_huge,
    outcomes_of,
    participants_of,
    processes_of,
    statuses,
    statuses_of_all_runs,
    statuses_of_group,
    use_plugin,
    write_array,
)
from tests.makers import bids_path, make_dataset, make_model_folder

pytestmark = pytest.mark.engine("slurm")

NAMES = ("sub-1_T1w.nii.gz", "sub-2_T1w.nii.gz", "sub-3_T1w.nii.gz")


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
