"""``--write-slurm-array``: what a user would run becomes scripts that a cluster runs in shards."""

import logging
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_deepmrseg.cli.parser import LABELS, PATHS, parse, read_command
from bids_deepmrseg.cli.slurm_flags import take_slurm
from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.pipeline.needs import read_needs
from bids_deepmrseg.pipeline.slurm import (
    DEFAULT_PROCS,
    DEFAULT_THREADS,
    ArraySize,
    SlurmChoice,
    size_array,
)
from bids_deepmrseg.pipeline.slurm_scripts import clock, write_scripts
from bids_deepmrseg.settings import RunSettings, read_config
from bids_deepmrseg.stages.discover import discover, why_idle
from bids_deepmrseg.tasks import Task

logger = logging.getLogger(__name__)

PACKAGE = "bids_deepmrseg"
CONTAINER_VARIABLES = ("APPTAINER_NAME", "SINGULARITY_NAME", "BIDS_DEEPMRSEG_DOCKER_TAG")
POSITIONALS = frozenset({"bids_dir", "output_dir", "analysis_level"})
SIZED = frozenset({"n_procs", "omp_nthreads", "memory_gb"})  # the scripts say these themselves
FLAGS = {"tasks": "task", **{name: flag for flag, name in LABELS.items()}}
TOO_LONG = 1.5  # times what a job is meant to last


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array job that was asked for.

    Attributes
    ----------
    settings
        Of the run that the shards share.
    choice
        What the user says of the jobs.
    memory_gb
        Of a job's run, if the user says so.
    flags
        Words of the user's flags, other than of Slurm and of resources, for the jobs.
    """

    settings: RunSettings
    choice: SlurmChoice
    memory_gb: float | None
    flags: tuple[str, ...]


def read_array(argv: Sequence[str]) -> Array:
    """What ``--write-slurm-array`` is to write scripts for.

    Raises
    ------
    UsageError
        If flags contradict each other, or nodes could not begin what was begun here.
    """
    arguments = parse(argv)
    said = take_slurm(arguments)
    if said is None:
        raise UsageError("scripts are written where --write-slurm-array names a folder")
    given = {name: value for name, value in arguments.items() if value is not None}
    file = given.get("config_file")
    known: dict[str, Any] = {**({} if file is None else read_config(file)), **given}
    n_threads = known.get("omp_nthreads", DEFAULT_THREADS)
    n_procs = known.get("n_procs", max(DEFAULT_PROCS, n_threads))
    sized = ["--n-procs", str(n_procs), "--omp-nthreads", str(n_threads)]
    settings, _ = read_command([*argv, *sized])
    choice = SlurmChoice(**said)
    _check(settings, choice)
    return Array(
        settings=settings,
        choice=choice,
        memory_gb=known.get("memory_gb"),
        flags=tuple(flags_of(given)),
    )


def _check(settings: RunSettings, choice: SlurmChoice) -> None:
    """Refuse what no array job can do."""
    if settings.analysis_level != "participant":
        raise UsageError(
            "--write-slurm-array goes with the participant level; it writes the job of the group "
            "level, too"
        )
    if settings.dry_run or settings.num_shards is not None:
        flag = "--dry-run" if settings.dry_run else "--num-shards"
        raise UsageError(
            f"--write-slurm-array runs nothing and makes shards by itself; leave {flag} away"
        )
    folder = choice.folder.resolve()
    logs = settings.output_dir.resolve() / "logs"
    for root in (settings.bids_dir, settings.output_dir):
        if folder.is_relative_to(root.resolve()) and logs not in folder.parents:
            raise UsageError(
                f"--write-slurm-array {choice.folder} lies in {root}, where only data belong; give "
                "a folder outside of it"
            )
    inside = next((name for name in CONTAINER_VARIABLES if os.environ.get(name)), None)
    if inside is not None and choice.command is None:
        raise UsageError(
            f"this is a container ({inside} is set): nodes know neither its Python nor its paths, "
            "so --slurm-command must say how they begin it, for instance --slurm-command "
            "'apptainer run --containall -B /study:/data:ro -B /results:/out /images/app.sif'"
        )


def write_array(array: Array, tasks: tuple[Task, ...]) -> tuple[str, str]:
    """Write the scripts, and return what was made and what to do next.

    Raises
    ------
    DeepMRSegError
        As :func:`discover` and :func:`write_scripts`.
    """
    settings, choice = array.settings, array.choice
    plan = discover(settings, tasks)
    why_idle(plan, settings, tasks)
    _warn(array, tasks)
    size = size_array(plan, settings, choice, memory_gb=array.memory_gb)
    start = [choice.command or shlex.join([sys.executable, "-m", PACKAGE])]
    folders = shlex.join([str(settings.bids_dir), str(settings.output_dir)])
    resources = f"--n-procs {size.n_procs} --omp-nthreads {size.n_threads} --mem-gb "
    memory_gb = size.memory_gb if array.memory_gb is None else array.memory_gb
    submit = write_scripts(
        choice,
        size,
        command=[
            *start,
            f"{folders} participant",
            *array.flags,
            f"{resources}{memory_gb:g}",
        ],
        group_command=[*start, f"{folders} group"],
    )
    return _made(size, choice), f"look through the scripts, then run {shlex.quote(str(submit))}"


def _warn(array: Array, tasks: tuple[Task, ...]) -> None:
    """Tell where the time limit rests on no measurement."""
    if unknown := [task.name for task in tasks if task.name not in read_needs().segmented]:
        logger.warning(
            "the time of %s was not measured; the slowest known task's is taken", ", ".join(unknown)
        )
    if array.choice.gpus is not None:
        logger.warning(
            "times are those of CPUs; jobs with a GPU will end sooner than they may last"
        )


def _made(size: ArraySize, choice: SlurmChoice) -> str:
    """What was made, in one line."""
    too_long = size.expected_s > TOO_LONG * choice.hours * 3600
    why = " (more than meant: see --slurm-max-jobs and --n-procs)" if too_long else ""
    resources = f"{size.n_procs} CPUs and {size.memory_gib} GiB"
    return (
        f"{choice.folder}: {size.n_shards} jobs for {size.n_cases} cases of "
        f"{size.n_participants} participants; each has {resources}, "
        f"should last {_spoken(size.expected_s)}{why} and may last {clock(size.limit_s)}"
    )


def _spoken(seconds: float) -> str:
    """A time as people say it."""
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def flags_of(given: Mapping[str, Any]) -> list[str]:
    """Flags that say the same as those that were given, paths absolute, each quoted for a shell.

    Parameters
    ----------
    given
        Arguments by destination; positional ones and resources are passed over.
    """
    return [
        shlex.join(_words(name, value))
        for name, value in given.items()
        if name not in POSITIONALS | SIZED
    ]


def _words(name: str, value: object) -> list[str]:
    """The words of one flag."""
    flag = FLAGS.get(name, name).replace("_", "-")
    if name == "verbosity" and isinstance(value, int):
        return ["-" + "v" * value]
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list):
        return [f"--{flag}", *map(str, value)]
    path = isinstance(value, Path) or name in PATHS
    return [f"--{flag}", str(Path(str(value)).absolute() if path else value)]
