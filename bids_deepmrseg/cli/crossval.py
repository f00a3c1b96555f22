"""``deepmrseg-evaluate crossval``, ``merge`` and ``ensemble``: the protocol, and its networks."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bids_deepmrseg.cli.train import ProgressBars, add_shared_flags, settings_from
from bids_deepmrseg.errors import UsageError

if TYPE_CHECKING:
    from bids_deepmrseg.training.crossval import Protocol

NETWORKS = ("deepmrseg", "unet")
VIEWS = ("axial", "coronal", "sagittal")  # those of network/weights.py, which imports torch


def add_crossval(p: argparse.ArgumentParser) -> None:
    """Flags of the verb ``crossval``."""
    add_shared_flags(p)
    p.set_defaults(exclude=[])
    p.add_argument(
        "--network",
        nargs="+",
        choices=NETWORKS,
        default=list(NETWORKS),
        help="trained on the same folds by the same recipe; default both",
    )
    p.add_argument("--folds", type=int, default=4, help="parts of the persons; default %(default)s")
    p.add_argument(
        "--repeats", type=int, default=1, help="shuffles; the paper has 20; default %(default)s"
    )
    p.add_argument("--only-repeat", type=int, nargs="+", metavar="R", help="do only these now")
    p.add_argument("--only-fold", type=int, nargs="+", metavar="F", help="do only these now")
    p.add_argument(
        "--view",
        nargs="+",
        metavar="VIEW",
        help="train only these views now; the same command without --view then measures",
    )
    p.add_argument(
        "--start-runs",
        type=Path,
        metavar="RUNS",
        help="finished runs of an earlier recipe: each fold starts from the networks of the same "
        "fold there, which saw the same people",
    )
    p.add_argument(
        "--start-from",
        type=Path,
        metavar="MODEL",
        help="model folder that every fold starts from: only one that learned from none of these "
        "scans, such as one of painted heads, leaves the folds honest",
    )
    p.add_argument(
        "--groups",
        type=Path,
        metavar="TSV",
        help="subjects that are one person: columns participant_id and group",
    )
    p.add_argument(
        "--no-variants",
        action="store_true",
        help="for tasks that find lesions: measure scans as they are only, not also without their "
        "optional channels and after bias correction",
    )


def add_merge(p: argparse.ArgumentParser) -> None:
    """Flags of the verb ``merge``."""
    p.add_argument("runs", type=Path, nargs="+", help="output folders of crossval")
    p.add_argument(
        "--into",
        type=Path,
        required=True,
        metavar="NAME",
        help="where to write: DIR/NAME makes NAME.tsv, NAME_folds.tsv, the training logs and, of "
        "lesions, NAME_lesions.tsv and NAME_thresholds.tsv",
    )


def add_ensemble(p: argparse.ArgumentParser) -> None:
    """Flags of the verb ``ensemble``."""
    p.add_argument("models", type=Path, nargs="+", help="model folders, as those of all folds")
    p.add_argument(
        "--into", type=Path, required=True, metavar="FOLDER", help="model folder to write"
    )
    p.add_argument("--view", nargs="+", choices=VIEWS, default=[], help="only these, in this order")
    p.add_argument("--flips", action="store_true", help="the ensemble also sees mirror images")


def crossval(arguments: argparse.Namespace) -> None:
    """Train and measure fold by fold."""
    from bids_deepmrseg.training.crossval import run_protocol

    for folder in run_protocol(protocol_from(arguments), ProgressBars().listener()):
        print(folder, file=sys.stderr)


def merge(arguments: argparse.Namespace) -> None:
    """Gather what pieces of a protocol found."""
    from bids_deepmrseg.training.crossval import merge_runs

    for file in merge_runs(tuple(arguments.runs), arguments.into.parent, arguments.into.name):
        print(file)


def ensemble(arguments: argparse.Namespace) -> None:
    """Make one model of the networks of many folds."""
    from bids_deepmrseg.training.ensemble import gather_ensemble

    models, views = tuple(arguments.models), tuple(arguments.view)
    record = gather_ensemble(models, arguments.into, views=views, flips=arguments.flips)
    print(f"{arguments.into}: {len(record.members)} networks")


def protocol_from(arguments: argparse.Namespace) -> "Protocol":
    """The protocol that the flags ask for."""
    from bids_deepmrseg.training.crossval import Protocol

    training = settings_from(arguments)
    return Protocol(
        training=training,
        networks=tuple(arguments.network),
        n_folds=arguments.folds,
        repeats=_chosen("repeat", arguments.only_repeat, arguments.repeats),
        folds=_chosen("fold", arguments.only_fold, arguments.folds),
        groups=_groups(arguments.groups),
        dataset=f"{training.task.name}_crossval",
        start_runs=arguments.start_runs,
        start_dir=arguments.start_from,
        models_dir=arguments.models_dir,
        variants=not arguments.no_variants,
    )


def _chosen(what: str, wanted: list[int] | None, n: int) -> tuple[int, ...]:
    """Numbers from 1 to ``n``, or those of them that were asked for."""
    if wanted and (unknown := [number for number in wanted if not 1 <= number <= n]):
        raise UsageError(f"there is no {what} {unknown[0]}: they go from 1 to {n}")
    return tuple(sorted(set(wanted))) if wanted else tuple(range(1, n + 1))


def _groups(file: Path | None) -> tuple[tuple[str, ...], ...]:
    """Subjects of each group of a TSV."""
    from bids_deepmrseg.files import read_tsv

    if file is None:
        return ()
    columns, rows = read_tsv(file)
    if missing := {"participant_id", "group"} - set(columns):
        raise UsageError(f"{file} lacks the column {missing.pop()}")
    members: dict[str, list[str]] = {}
    for row in rows:
        members.setdefault(row["group"], []).append(row["participant_id"])
    return tuple(tuple(sorted(names)) for names in members.values())
