"""How large an array job has to be: shards, CPUs, memory and time, from what was measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.pipeline.needs import (
    UNKNOWN_MEMORY_GB,
    Locators,
    estimate_cpu_s,
    estimate_memory_gb,
    find_locators,
    read_needs,
)
from bids_deepmrseg.records import Case
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import RunSettings

DEFAULT_HOURS = 2.0
DEFAULT_MAX_JOBS = 1000  # Slurm's own default lets indices run to 1000 (MaxArraySize)
DEFAULT_PROCS = 2
DEFAULT_THREADS = 1  # cases side by side lose nothing; threads of one case wait for each other
MEMORY_HEADROOM = 1.2
TIME_SAFETY = 2.5  # nodes may be older than the machine that was measured, and busy
SHORTEST_LIMIT_S = 1200.0
LIMIT_STEP_S = 600
SHARE_OF_JOB = 0.9  # of a job's memory for cases, as the app takes by itself
GIB_IN_GB = 1024**3 / 1e9  # Slurm's G


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmChoice:
    """What the user says of the jobs.

    Attributes
    ----------
    folder
        Where the scripts go.
    command
        How the app is begun on a node, as shell text; ``None`` for this Python.
    partition, gpus
        ``None`` for what the cluster gives by default, and no GPU.
    options
        Further options of sbatch, such as ``--account=x``; they come before ours.
    hours
        How long a job is meant to last.
    max_jobs
        Largest number of jobs in the array.
    jobs_at_once
        How many may run at a time; ``None`` for no limit.
    """

    folder: Path
    command: str | None = None
    partition: str | None = None
    gpus: int | None = None
    options: tuple[str, ...] = ()
    hours: float = DEFAULT_HOURS
    max_jobs: int = DEFAULT_MAX_JOBS
    jobs_at_once: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.hours < math.inf:
            raise UsageError(f"--slurm-hours must be more than 0, got {self.hours:g}")
        for flag, count in (
            ("max-jobs", self.max_jobs),
            ("jobs-at-once", self.jobs_at_once),
            ("gpus", self.gpus),
        ):
            if count is not None and count < 1:
                raise UsageError(f"--slurm-{flag} must be 1 or more, got {count}")
        if self.command is not None and not self.command.strip():
            raise UsageError("--slurm-command is empty; say how the app is begun on a node")
        for text in (self.command, self.partition, *self.options):
            if text is not None and "\n" in text:
                raise UsageError(f"{text!r} has several lines; each --slurm-option is one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySize:
    """What the array job asks for.

    Attributes
    ----------
    n_shards
        Jobs of the array.
    n_participants, n_cases
        Of the plan that it is made for.
    n_procs, n_threads
        CPUs of a job, and of each case in it.
    memory_gib
        Of a job, as Slurm counts.
    expected_s, limit_s
        How long the longest job should last, and may last.
    """

    n_shards: int
    n_participants: int
    n_cases: int
    n_procs: int
    n_threads: int
    memory_gib: int
    expected_s: float
    limit_s: int

    @property
    def memory_gb(self) -> float:
        """What a job's run may use of its memory, to one decimal."""
        return math.floor(SHARE_OF_JOB * self.memory_gib * GIB_IN_GB * 10) / 10


def size_array(
    plan: Plan, settings: RunSettings, choice: SlurmChoice, *, memory_gb: float | None
) -> ArraySize:
    """Size the array job for a plan.

    Parameters
    ----------
    plan
        Of all participants.
    settings
        Give CPUs of the run and of each case.
    choice
        Gives how long a job is to last, and how many there may be.
    memory_gb
        What the user wants a job's run to have; ``None`` for what its cases need.

    Notes
    -----
    CPU seconds and memory were measured on one machine, for tasks and sizes of scans
    (docs/benchmarks/needs.tsv); the time limit is :data:`TIME_SAFETY` times what they come to.
    """
    tasks = {case.task.name: case.task for case in plan.cases}
    locators = find_locators(tasks.values(), settings.models_dir)
    participant_s = _cpu_s_of_participants(plan, locators)
    at_once = max(1, settings.n_procs // settings.omp_nthreads)
    case_speed = settings.omp_nthreads * read_needs().efficiency(settings.omp_nthreads)
    whole_s = sum(participant_s.values()) / (at_once * case_speed)
    wanted = math.ceil(whole_s / (choice.hours * 3600))
    n_shards = max(1, min(wanted, choice.max_jobs, len(participant_s)))
    longest_s = read_needs().start_s + max(
        _longest_s(participant_s, n_shards) / (at_once * case_speed),
        max(participant_s.values(), default=0.0) / case_speed,
    )
    needed_gb = _needed_gb(plan, locators, settings, at_once)
    job_gb = needed_gb if memory_gb is None else memory_gb / SHARE_OF_JOB
    return ArraySize(
        n_shards=n_shards,
        n_participants=len(participant_s),
        n_cases=len(plan.cases),
        n_procs=settings.n_procs,
        n_threads=settings.omp_nthreads,
        memory_gib=math.ceil(job_gb / GIB_IN_GB),
        expected_s=longest_s,
        limit_s=_limit_s(longest_s),
    )


def _cpu_s_of_participants(plan: Plan, locators: Locators) -> dict[str, float]:
    """CPU seconds by participant, those included of whom nothing is run."""
    cases: dict[str, list[Case]] = {row[0]: [] for row in plan.rows}
    for case in plan.cases:
        cases[f"sub-{case.entity('sub')}"].append(case)
    return {name: estimate_cpu_s(cases[name], locators) for name in sorted(cases)}


def _longest_s(participant_s: Mapping[str, float], n_shards: int) -> float:
    """CPU seconds of the shard that has most, as participants are dealt out."""
    ordered = [participant_s[name] for name in sorted(participant_s)]
    return max(sum(ordered[index::n_shards]) for index in range(n_shards))


def _needed_gb(plan: Plan, locators: Locators, settings: RunSettings, at_once: int) -> float:
    """Memory of the most demanding cases side by side, and of the run itself."""
    keep = settings.write_probabilities
    needs_gb = [
        estimate_memory_gb(one, keep_probabilities=keep and one is case)
        for case in plan.cases
        for one in (case, *locators.of(case))
    ]
    largest_gb = max(needs_gb, default=UNKNOWN_MEMORY_GB)
    return MEMORY_HEADROOM * (at_once * largest_gb + read_needs().run_gb(settings.n_procs))


def _limit_s(expected_s: float) -> int:
    """A time limit that a job keeps to on a slower or busier node, in whole steps."""
    wanted_s = max(SHORTEST_LIMIT_S, TIME_SAFETY * expected_s)
    return math.ceil(wanted_s / LIMIT_STEP_S) * LIMIT_STEP_S
