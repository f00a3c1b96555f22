"""The flags of ``bids-deepmrseg``, and how they and a settings file become one record."""

import argparse
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.machine import available_cpus, available_memory_gb
from bids_deepmrseg.settings import LEVELS, RunSettings, TomlValue, read_config

PROG = "bids-deepmrseg"
MAX_THREADS = 8  # more threads than this make one case hardly faster
MEMORY_UNITS_GB = {"": 1e-3, "K": 1e-6, "M": 1e-3, "G": 1.0, "T": 1e3}

DEFAULT_WORK_FOLDER = "work"

LABELS = {
    "participant-label": "participant_labels",
    "session-label": "session_labels",
    "exclude-participant-label": "exclude_participant_labels",
}
PATHS = frozenset(
    {
        "bids_dir",
        "output_dir",
        "work_dir",
        "bids_filter_file",
        "bids_database_dir",
        "models_dir",
        "use_plugin",
    }
)
SWITCHES = {
    "skip-bids-validation": "take datasets and file names that are not valid BIDS",
    "clean-workdir": "when the run ends, delete what it wrote to the work folder",
    "write-probabilities": "also write the probability of every structure",
    "fast": "run one network of each ensemble only: sooner, a little less accurate",
    "bias-correction": "take slow changes of brightness out of FLAIR and T1w before lesions are "
    "looked for (N4)",
    "stop-on-first-crash": "end the run at the first case that fails",
    "dry-run": "print which task would run on which scans, and why others are left out; stop there",
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are sentences of this program, with its exit code."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong, and the usual cause of missing positional arguments."""
        hint = ""
        if "are required" in message:
            hint = "; write them first, since a flag with several values takes all that follow"
        raise UsageError(f"{message}{hint}; see {self.prog} --help")


class _Version(argparse.Action):
    """Prints the version; looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"{parser.prog} {version('bids-deepmrseg')}")
        parser.exit()


def memory_gb(text: str) -> float:
    """Gigabytes from a size as fMRIPrep takes it: megabytes, or a number with K, M, G or T."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 16000 or 16G")
    return float(found[1]) * MEMORY_UNITS_GB[found[2].upper()]


def build_parser() -> argparse.ArgumentParser:
    """All flags. None has a default here, so that what was not given can be told."""
    parser = _Parser(
        prog=PROG,
        allow_abbrev=False,
        description="Segment the brain scans of a BIDS dataset with DeepMRSeg, and gather volumes.",
        epilog="Flags may be spelt with underscores. Exit codes and examples: docs/usage.md.",
    )
    parser.add_argument("bids_dir", type=Path, help="root of the raw BIDS dataset")
    parser.add_argument("output_dir", type=Path, help="where results are written")
    parser.add_argument(
        "analysis_level",
        choices=LEVELS,
        help="participant: segment scans; group: gather the tables of all participants",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    _add_selection(parser.add_argument_group("which scans"))
    _add_method(parser.add_argument_group("what is done with them"))
    _add_resources(parser.add_argument_group("resources"))
    _add_run(parser.add_argument_group("how the run goes"))
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    """Labels, filters and the index."""
    for (flag, dest), what in zip(
        LABELS.items(),
        (
            "participants to take, with or without sub-; default: all",
            "sessions to take, with or without ses-; default: all",
            "participants to leave out",
        ),
        strict=True,
    ):
        group.add_argument(
            f"--{flag}", dest=dest, nargs="+", action="extend", metavar="LABEL", help=what
        )
    group.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help='JSON with entities that scans must have, such as {"T1w": {"session": "01"}}',
    )
    group.add_argument(
        "--bids-database-dir",
        type=Path,
        metavar="DIR",
        help="keep the index of the dataset here; made when absent, made anew when out of date",
    )
    _add_switch(group, "skip-bids-validation")


def _add_method(group: argparse._ArgumentGroup) -> None:
    """Tasks and models."""
    group.add_argument(
        "--task",
        dest="tasks",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="tasks to run; default: every task whose scans are there",
    )
    group.add_argument(
        "--require",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="tasks without whose scans a session counts as failed; default: it is skipped",
    )
    group.add_argument(
        "--models-dir",
        type=Path,
        metavar="DIR",
        help="folder of model folders, which come before the built-in ones of the same name",
    )
    _add_switch(group, "fast")
    _add_switch(group, "write-probabilities")
    _add_lesions(group)


def _add_lesions(group: argparse._ArgumentGroup) -> None:
    """How two scans are laid upon each other, and what counts as a lesion."""
    group.add_argument(
        "--no-registration",
        dest="registration",
        action="store_const",
        const=False,
        help="take T1w and FLAIR as they are, which must then be on one grid",
    )
    group.add_argument("--registration", action="store_const", const=True, help=argparse.SUPPRESS)
    _add_switch(group, "bias-correction")
    group.add_argument(
        "--lesion-threshold",
        type=float,
        metavar="P",
        help="probability from which a voxel is lesion; default: what the model was measured with",
    )
    group.add_argument(
        "--min-lesion-mm3",
        type=float,
        metavar="MM3",
        help="volume below which a piece is no lesion; default: what the model was measured with",
    )


def _add_resources(group: argparse._ArgumentGroup) -> None:
    """CPUs, memory, device."""
    group.add_argument(
        "--n-procs",
        "--nprocs",
        "--n-cpus",
        type=int,
        metavar="N",
        help="CPUs of the whole run; default: all that this process may use",
    )
    group.add_argument(
        "--omp-nthreads",
        type=int,
        metavar="N",
        help=f"CPUs of one case; default: as many as the run has, at most {MAX_THREADS}",
    )
    group.add_argument(
        "--mem-gb",
        dest="memory_gb",
        type=float,
        metavar="GB",
        help="memory of the whole run; default: 90 %% of what this process may use",
    )
    group.add_argument(
        "--mem",
        "--mem-mb",
        dest="memory_gb",
        type=memory_gb,
        metavar="MB",
        help="the same in megabytes, or with a unit, such as 16G",
    )
    group.add_argument(
        "--device",
        metavar="auto|cpu|cuda|cuda:N",
        help="where networks run; default: auto, which is a GPU if there is one",
    )


def _add_run(group: argparse._ArgumentGroup) -> None:
    """Folders, plugins, failures, logs."""
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="intermediate files, kept so that a stopped run can go on; default: work/ in the "
        "output folder, deleted when the run ends",
    )
    _add_switch(group, "clean-workdir")
    group.add_argument(
        "--use-plugin",
        "--nipype-plugin-file",
        type=Path,
        metavar="FILE",
        help="YAML or TOML file that names a nipype plugin and its arguments",
    )
    _add_switch(group, "stop-on-first-crash")
    _add_switch(group, "dry-run")
    group.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="TOML file with settings; flags come before it. Each run writes such a file",
    )
    group.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="count",
        help="tell more; -vv also what nipype says",
    )


def _add_switch(group: argparse._ArgumentGroup, flag: str) -> None:
    """A flag that is on or off; ``--no-...`` switches off what a settings file switched on."""
    name = flag.replace("-", "_")
    group.add_argument(f"--{flag}", action="store_const", const=True, help=SWITCHES[flag])
    group.add_argument(
        f"--no-{flag}", dest=name, action="store_const", const=False, help=argparse.SUPPRESS
    )


def with_hyphens(argv: Sequence[str]) -> list[str]:
    """The same arguments with long flags spelt with hyphens; values stay as they are."""
    return [
        re.sub(r"^--[^=]+", lambda flag: flag[0].replace("_", "-"), argument) for argument in argv
    ]


def read_command(argv: Sequence[str]) -> tuple[RunSettings, str]:
    """Turn arguments into settings.

    Parameters
    ----------
    argv
        Arguments without the program's name.

    Returns
    -------
    tuple
        Settings whose device is still ``cpu``, and the device that was asked for: whether it is
        there can only be told after torch is imported.

    Raises
    ------
    UsageError
        If flags or settings file are wrong or contradict each other.
    SystemExit
        After ``--help`` and ``--version``.
    """
    arguments = vars(build_parser().parse_args(with_hyphens(argv)))
    file = arguments.pop("config_file")
    config: Mapping[str, TomlValue] = {} if file is None else read_config(file)
    given = {name: value for name, value in arguments.items() if value is not None}
    chosen: dict[str, Any] = {**config, **given}
    device = str(chosen.pop("device", "auto"))
    chosen["run_id"] = make_run_id()
    _complete(chosen)
    return RunSettings(**chosen), device


def _complete(chosen: dict[str, Any]) -> None:
    """Give every value its type, and what was not chosen its default."""
    for name in LABELS.values():
        prefix = "ses-" if name.startswith("session") else "sub-"
        chosen[name] = tuple(label.removeprefix(prefix) for label in chosen.get(name, ()))
    for name in ("tasks", "require"):
        chosen[name] = tuple(dict.fromkeys(chosen.get(name, ())))
    for name in PATHS & chosen.keys():
        chosen[name] = Path(chosen[name]).absolute()
    if "work_dir" not in chosen:
        chosen["work_dir"] = chosen["output_dir"] / DEFAULT_WORK_FOLDER
        chosen.setdefault("clean_workdir", True)
    chosen.setdefault("n_procs", available_cpus())
    chosen.setdefault("omp_nthreads", min(chosen["n_procs"], MAX_THREADS))
    chosen.setdefault("memory_gb", available_memory_gb())


def make_run_id() -> str:
    """A name that sorts by time and that no other run has."""
    return f"{datetime.now().astimezone():%Y%m%d-%H%M%S}_{secrets.token_hex(4)}"
