"""Array jobs are as large as their cases need, and no larger than a cluster takes."""

from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.pipeline.needs import estimate_memory_gb, find_locators, read_needs
from bids_deepmrseg.pipeline.slurm import ArraySize, SlurmChoice, size_array
from bids_deepmrseg.records import Case
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task
from tests.makers import make_case, make_dataset, make_settings

BUILT_IN = ("brainmask", "deepbrain", "hippocampus")


def settings_of(folder: Path, *, n_procs: int = 2, n_threads: int = 1) -> RunSettings:
    """A run of shipped tasks."""
    made = make_settings(folder, n_procs=n_procs, omp_nthreads=n_threads)
    return replace(made, models_dir=None)


def plan_of(folder: Path, n: int, *tasks: str) -> Plan:
    """A plan of many participants with one and the same scan."""
    bids_dir = make_dataset(folder / "bids", ("sub-0_T1w.nii.gz",))
    found = [read_task(find_named_model_folder(task) / TASK_FILE) for task in tasks]
    cases = [make_case(bids_dir, "sub-0_T1w.nii.gz", task=task) for task in found]
    return Plan(
        tuple(
            replace(case, entities=(("sub", f"{number:05d}"),))
            for case in cases
            for number in range(n)
        ),
        (),
    )


def size(
    folder: Path, n: int, *tasks: str, n_procs: int = 2, n_threads: int = 1, **choice: float
) -> ArraySize:
    return size_array(
        plan_of(folder, n, *(tasks or BUILT_IN)),
        settings_of(folder, n_procs=n_procs, n_threads=n_threads),
        SlurmChoice(folder=folder / "scripts", **choice),  # type: ignore[arg-type] # whole numbers
        memory_gb=None,
    )


def test_jobs_last_what_they_are_meant_to_and_may_last_longer(tmp_path: Path) -> None:
    for hours in (0.1, 0.5):
        sized = size(tmp_path, 2000, hours=hours)  # so many that whole jobs are no matter
        assert 0.9 * hours * 3600 < sized.expected_s < 1.1 * hours * 3600
        assert sized.limit_s > 1.5 * sized.expected_s
        assert 1 < sized.n_shards < 1000


def test_there_are_no_more_jobs_than_a_cluster_takes(tmp_path: Path) -> None:
    sized = size(tmp_path, 2000, hours=0.001)
    assert sized.n_shards == 1000
    assert (sized.n_participants, sized.n_cases) == (2000, 6000)
    assert sized.expected_s > 0.001 * 3600
    assert size(tmp_path, 60, hours=0.001, max_jobs=50).n_shards == 50


def test_there_are_no_more_jobs_than_participants(tmp_path: Path) -> None:
    assert size(tmp_path, 3, hours=0.001).n_shards == 3
    assert size(tmp_path, 1).n_shards == 1


def test_more_cpus_are_fewer_jobs_and_more_memory(tmp_path: Path) -> None:
    small, large = (size(tmp_path, 300, hours=0.05, n_procs=n) for n in (2, 8))
    assert large.n_shards < small.n_shards / 3
    assert large.memory_gib > 2 * small.memory_gib
    together = size(tmp_path, 300, hours=0.05, n_procs=8, n_threads=8)
    assert together.memory_gib < large.memory_gib
    assert together.n_shards > large.n_shards


def test_one_case_cannot_be_shared_by_the_cpus_of_a_job(tmp_path: Path) -> None:
    assert size(tmp_path, 1, n_procs=8).expected_s == size(tmp_path, 1, n_procs=1).expected_s


def test_what_locates_counts_once(tmp_path: Path) -> None:
    chain, alone = (size(tmp_path, 1, *tasks) for tasks in (BUILT_IN, BUILT_IN[2:]))
    written = 2 * read_needs().written.at(0)
    assert chain.expected_s - alone.expected_s == pytest.approx(written, abs=1)


def test_memory_holds_the_largest_cases_side_by_side(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 5, *BUILT_IN)
    locators = find_locators((case.task for case in plan.cases), None)
    needs = [
        estimate_memory_gb(one, keep_probabilities=False)
        for case in plan.cases
        for one in (case, *locators.of(case))
    ]
    for n_procs in (1, 4):
        sized = size(tmp_path, 5, n_procs=n_procs)
        assert sized.memory_gib * 1.074 > n_procs * max(needs)
        assert n_procs * max(needs) < sized.memory_gb < sized.memory_gib * 1.074


def test_memory_that_the_user_names_is_what_the_run_may_use(tmp_path: Path) -> None:
    plan, settings = plan_of(tmp_path, 2, "brainmask"), settings_of(tmp_path)
    sized = size_array(plan, settings, SlurmChoice(folder=tmp_path), memory_gb=16.0)
    assert sized.memory_gb >= 16.0
    assert sized.memory_gib == 17


def test_a_task_that_nobody_measured_counts_as_the_slowest(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 1, "brainmask")
    (case,) = plan.cases
    own = replace(case, task=replace(case.task, name="own"))
    (known, unknown) = (
        size_array(
            Plan((one,), ()), settings_of(tmp_path), SlurmChoice(folder=tmp_path), memory_gb=None
        )
        for one in (case, own)
    )
    assert unknown.expected_s >= known.expected_s


def test_a_plan_of_failures_only_is_one_job_that_tells_them(tmp_path: Path) -> None:
    settings, choice = settings_of(tmp_path), SlurmChoice(folder=tmp_path)
    sized = size_array(Plan((), ()), settings, choice, memory_gb=None)
    assert (sized.n_shards, sized.n_cases) == (1, 0)
    assert sized.limit_s > 0


def test_a_scan_that_cannot_be_read_is_no_reason_to_stop(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 2, *BUILT_IN)
    broken: list[Case] = [
        replace(case, scans=(tmp_path / "gone.nii.gz",)) for case in plan.cases[:1]
    ]
    settings, choice = settings_of(tmp_path), SlurmChoice(folder=tmp_path)
    assert size_array(Plan(tuple(broken), ()), settings, choice, memory_gb=None).expected_s > 0


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"hours": 0.0}, "--slurm-hours must be more than 0"),
        ({"hours": float("nan")}, "--slurm-hours must be more than 0"),
        ({"max_jobs": 0}, "--slurm-max-jobs must be 1 or more, got 0"),
        ({"jobs_at_once": 0}, "--slurm-jobs-at-once must be 1 or more"),
        ({"gpus": -1}, "--slurm-gpus must be 1 or more"),
        ({"command": " "}, "--slurm-command is empty"),
        ({"options": ("--account=x\nrm",)}, "several lines"),
    ],
)
def test_choices_that_no_cluster_takes_are_refused(
    choice: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        SlurmChoice(folder=Path("/x"), **choice)  # type: ignore[arg-type] # wrong on purpose
    assert sentence in str(caught.value)
