"""The flags of ``--write-slurm-array``, and what they say as one record."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bids_deepmrseg.errors import UsageError

WRITE = "write_slurm_array"
PREFIX = "slurm_"
OPTION = "--slurm-option"


def add_slurm_flags(group: argparse._ArgumentGroup) -> None:
    """All of them; the defaults are told here and live where the jobs are sized."""
    group.add_argument(
        "--write-slurm-array",
        type=Path,
        metavar="DIR",
        help="write scripts into DIR that run all of this as an array job, and stop there",
    )
    for flag, kind, metavar, text in (
        ("command", str, "TEXT", "how the app is begun on a node; default: as it was begun here"),
        ("partition", str, "NAME", "partition of the jobs; default: the cluster's"),
        ("gpus", int, "N", "GPUs of each job; default: none"),
        ("hours", float, "H", "how long a job is meant to last; default: 2"),
        ("max-jobs", int, "N", "most jobs that the array may have; default: 1000"),
        ("jobs-at-once", int, "N", "most jobs that may run at a time; default: no limit"),
    ):
        group.add_argument(f"--slurm-{flag}", type=kind, metavar=metavar, help=text)
    group.add_argument(
        OPTION,
        dest="slurm_options",
        action="append",
        metavar="OPTION",
        help="a further option of sbatch, such as --account=x; may be repeated",
    )


def join_options(argv: Sequence[str]) -> list[str]:
    """The same arguments, with ``--slurm-option --x=y``, which looks like two flags, as one."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1].replace("_", "-") == OPTION:
            joined[-1] = f"{OPTION}={argument}"
        else:
            joined.append(argument)
    return joined


def take_slurm(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Take what is said of Slurm out of the arguments; ``None`` if no script is asked for.

    Raises
    ------
    UsageError
        If something is said of jobs that nobody asked for.
    """
    folder = arguments.pop(WRITE)
    names = [name for name in arguments if name.startswith(PREFIX)]
    given = {
        name.removeprefix(PREFIX): value
        for name in names
        if (value := arguments.pop(name)) is not None
    }
    if folder is not None:
        return {**given, "folder": folder.absolute(), "options": tuple(given.get("options", ()))}
    for name in given:
        flag = OPTION if name == "options" else f"--slurm-{name.replace('_', '-')}"
        raise UsageError(f"{flag} goes with --write-slurm-array DIR only")
    return None
