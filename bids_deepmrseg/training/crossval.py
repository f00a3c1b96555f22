"""The paper's protocol (section 4): folds of persons, and networks trained on all but one fold.

Every fold is a folder of its own, ``<runs>/<network>/repeat-1_fold-2``, whatever process made it
and wherever; a fold that is there is not made again. So the work can be cut by network, repeat,
fold and view, and folders of several machines are merged by copying them together.
"""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.ensembles import compare_ensembles
from bids_deepmrseg.evaluation.lesion_ensembles import measure_lesions
from bids_deepmrseg.evaluation.lesion_results import (
    LESIONS,
    read_lesion_results,
    write_lesion_results,
)
from bids_deepmrseg.evaluation.logs import PREFIX, read_log
from bids_deepmrseg.evaluation.results import (
    Fold,
    Identity,
    read_folds,
    read_results,
    write_folds,
    write_results,
)
from bids_deepmrseg.evaluation.thresholds import AT_RULES, read_at_rules, write_at_rules
from bids_deepmrseg.evaluation.whole import Models
from bids_deepmrseg.network.architecture import Family
from bids_deepmrseg.network.build import measure_cost
from bids_deepmrseg.network.weights import read_record
from bids_deepmrseg.selection.labelled import LabelledScan, find_labelled
from bids_deepmrseg.training.run import Listener, TrainSettings, run_training

logger = logging.getLogger(__name__)

RESULTS = "results.tsv"
NETWORKS = "networks.tsv"
LESION_RESULTS = "lesions.tsv"
AT_RULE_RESULTS = "thresholds.tsv"
NO_ENSEMBLE = "n/a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One fold of one repeat: who is tested, by networks that learned from everyone else.

    Attributes
    ----------
    repeat, fold
        From 1.
    test
        Persons, with ``sub-``.
    """

    repeat: int
    fold: int
    test: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"repeat-{self.repeat}_fold-{self.fold}"


def make_splits(
    subjects: tuple[str, ...],
    *,
    n_folds: int,
    repeat: int,
    seed: int,
    groups: tuple[tuple[str, ...], ...] = (),
) -> tuple[Split, ...]:
    """Shuffle persons into folds of almost equal size.

    Parameters
    ----------
    subjects
        All persons; their order does not matter.
    n_folds
        Number of parts; each is tested once.
    repeat
        From 1; each repeat is another shuffle.
    seed
        With ``repeat``, all that the shuffle depends on.
    groups
        Subjects that are one person under several names, and so belong into one fold.

    Returns
    -------
    tuple
        One split per fold. Every person is in exactly one of them.

    Raises
    ------
    UsageError
        If there are fewer persons than folds, or a group names someone unknown.
    """
    if unknown := sorted({name for group in groups for name in group} - set(subjects)):
        raise UsageError(f"the groups of subjects name {', '.join(unknown)}, who has no scan")
    grouped = {name: group for group in groups for name in group}
    units = sorted({grouped.get(name, (name,)) for name in subjects})
    if not 2 <= n_folds <= len(units):
        raise UsageError(f"{len(units)} persons cannot be parted into {n_folds} folds")
    order = np.random.default_rng([seed, repeat]).permutation(len(units))
    shuffled = [units[i] for i in order]
    return tuple(
        Split(
            repeat=repeat,
            fold=fold + 1,
            test=tuple(sorted(name for unit in shuffled[fold::n_folds] for name in unit)),
        )
        for fold in range(n_folds)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A cross-validation, or a piece of it.

    Attributes
    ----------
    training
        How each network is trained; its ``output_dir`` is the folder of all runs.
    networks
        Families that are trained on the same folds, by the same recipe.
    n_folds, repeats, folds
        Parts of the persons; which shuffles, and which of their folds, are done now.
    groups
        Subjects that are one person, see :func:`make_splits`.
    dataset
        What the results call it.
    start_runs
        Runs of an earlier recipe on the same folds: each fold's networks start from those of the
        same fold, which saw the same people; ``None`` for random weights, or ``start_dir``.
    start_dir
        Model folder that every fold starts from; it must have learned from no scan of the dataset.
    models_dir
        Where to look first for the models that find places, or the brain.
    variants
        As for :func:`~bids_deepmrseg.evaluation.lesion_ensembles.measure_lesions`.
    """

    training: TrainSettings
    networks: tuple[Family, ...]
    n_folds: int
    repeats: tuple[int, ...]
    folds: tuple[int, ...]
    groups: tuple[tuple[str, ...], ...]
    dataset: str
    start_runs: Path | None = None
    start_dir: Path | None = None
    models_dir: Path | None = None
    variants: bool = True

    @property
    def models(self) -> Models:
        """What finds the places of a task that is measured on whole scans."""
        return Models(models_dir=self.models_dir, device=self.training.device)


def run_protocol(protocol: Protocol, listener: Listener) -> Iterator[Path]:
    """Train and measure what is not there yet, fold by fold.

    Yields
    ------
    Path
        The folder of each fold once it is done: model folder, training logs, and, when all views
        of the recipe are trained, ``results.tsv`` and ``networks.tsv``; of tasks that find
        lesions also ``lesions.tsv`` and ``thresholds.tsv``.
    """
    training = protocol.training
    scans = find_labelled(training.labelled_dir, training.task, reference=training.reference)
    subjects = tuple(sorted({scan.subject for scan in scans}))
    for repeat in protocol.repeats:
        splits = make_splits(
            subjects,
            n_folds=protocol.n_folds,
            repeat=repeat,
            seed=training.seed,
            groups=protocol.groups,
        )
        for split in (s for s in splits if s.fold in protocol.folds):
            for network in protocol.networks:
                yield _run_fold(protocol, split, network, scans, listener)


def _run_fold(
    protocol: Protocol,
    split: Split,
    network: Family,
    scans: tuple[LabelledScan, ...],
    listener: Listener,
) -> Path:
    """One network on one fold: train its views, measure them on the scans left out."""
    folder = protocol.training.output_dir / network / split.name
    if _is_measured(folder, protocol.training):
        logger.info("%s is there already", folder)
        return folder
    settings = replace(
        protocol.training,
        recipe=replace(protocol.training.recipe, family=network),
        excluded=split.test,
        output_dir=folder,
        start_dir=_start(protocol, split, network),
    )
    model = run_training(settings, listener)
    if settings.views != settings.recipe.views:
        return folder  # a piece: the process that finds all views trained measures them
    identity = Identity(
        dataset=protocol.dataset,
        network=network,
        ensemble=NO_ENSEMBLE,
        repeat=split.repeat,
        fold=split.fold,
        subject="",
        scan="",
    )
    tested = tuple(
        replace(scan, subject=_person(protocol, scan.subject))
        for scan in scans
        if scan.subject in split.test
    )
    write_folds(
        _networks(settings, identity, len(scans) - len(tested), len(tested)), folder / NETWORKS
    )
    _measure(protocol, tested, model, identity, folder)
    return folder


def _measure(
    protocol: Protocol,
    tested: tuple[LabelledScan, ...],
    model: Path,
    identity: Identity,
    folder: Path,
) -> None:
    """Compare what a fold's networks say of the scans left out; the results come last."""
    if protocol.training.task.lesions is None:
        results = tuple(compare_ensembles(tested, model, identity, protocol.models))
    else:
        measured = measure_lesions(
            tested, model, identity, protocol.models, variants=protocol.variants
        )
        write_lesion_results(measured.lesions, folder / LESION_RESULTS)
        write_at_rules(measured.at_rules, folder / AT_RULE_RESULTS)
        results = measured.results
    write_results(results, folder / RESULTS)


def _start(protocol: Protocol, split: Split, network: Family) -> Path | None:
    """The model folder of the same fold of an earlier recipe, which did not see the test fold."""
    if protocol.start_runs is None:
        return protocol.start_dir
    earlier = protocol.start_runs / network / split.name
    tested = {row.subject for row in read_results(earlier / RESULTS)}
    if tested != {_person(protocol, name) for name in split.test}:
        raise UsageError(
            f"{earlier} was measured on other people than this fold: its networks may have learned "
            "from those who are to be tested"
        )
    return earlier / protocol.training.task.name


def _person(protocol: Protocol, subject: str) -> str:
    """One name for all subjects that are one person."""
    return next((min(group) for group in protocol.groups if subject in group), subject)


def _is_measured(folder: Path, training: TrainSettings) -> bool:
    """Whether the views of a recipe were trained and measured on a fold."""
    tables = (RESULTS,) if training.task.lesions is None else (RESULTS, LESION_RESULTS)
    if not all((folder / name).is_file() for name in tables):
        return False
    return {row.view for row in read_folds(folder / NETWORKS)} == set(training.recipe.views)


def _networks(
    settings: TrainSettings, identity: Identity, n_training: int, n_test: int
) -> Iterator[Fold]:
    """What each network of a fold took."""
    for member in read_record(settings.output_dir / settings.task.name).members:
        log = read_log(settings.output_dir / "training" / member.view / "log.tsv")
        cost = measure_cost(member.architecture, side=member.architecture.stride)
        yield Fold(
            dataset=identity.dataset,
            network=identity.network,
            view=member.view,
            repeat=identity.repeat,
            fold=identity.fold,
            n_training_scans=n_training,
            n_test_scans=n_test,
            n_epochs=len(log.epochs),
            n_steps=log.n_steps,
            n_parameters=cost.n_parameters,
            training_s=log.training_s,
            recipe=settings.recipe.name,
            seed=settings.seed,
        )


def merge_runs(roots: tuple[Path, ...], results_dir: Path, dataset: str) -> tuple[Path, ...]:
    """Gather finished folds into the tables that documents are rendered from.

    Parameters
    ----------
    roots
        Folders of runs, from one machine or several.
    results_dir
        Where ``<dataset>.tsv``, ``<dataset>_folds.tsv`` and the training logs go, and, of tasks
        that find lesions, ``<dataset>_lesions.tsv`` and ``<dataset>_thresholds.tsv``.
    dataset
        Name of the tables.

    Raises
    ------
    UsageError
        If there is no finished fold, or two roots hold the same one.
    """
    finished = sorted(file.parent for root in roots for file in root.glob(f"*/*/{RESULTS}"))
    if not finished:
        raise UsageError(f"no finished fold in {', '.join(str(root) for root in roots)}")
    names = [f"{folder.parent.name}/{folder.name}" for folder in finished]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{twice[0]} is in more than one of the folders; give one of them")
    rows = [row for folder in finished for row in read_results(folder / RESULTS)]
    networks = [row for folder in finished for row in read_folds(folder / NETWORKS)]
    tables = (results_dir / f"{dataset}.tsv", results_dir / f"{dataset}_folds.tsv")
    write_results((replace(row, dataset=dataset) for row in rows), tables[0])
    write_folds((replace(row, dataset=dataset) for row in networks), tables[1])
    of_lesions = _merge_lesions(finished, results_dir, dataset)
    logs = [log for folder in finished for log in _copy_logs(folder, results_dir, dataset)]
    return (*tables, *of_lesions, *logs)


def _merge_lesions(finished: list[Path], results_dir: Path, dataset: str) -> Iterator[Path]:
    """Gather what folds found of lesions; nothing for other tasks."""
    lesions = [file for folder in finished if (file := folder / LESION_RESULTS).is_file()]
    if lesions:
        found = [row for file in lesions for row in read_lesion_results(file)]
        table = results_dir / f"{dataset}{LESIONS}.tsv"
        write_lesion_results((replace(row, dataset=dataset) for row in found), table)
        yield table
    at_rules = [file for folder in finished if (file := folder / AT_RULE_RESULTS).is_file()]
    if at_rules:
        rows = [row for file in at_rules for row in read_at_rules(file)]
        table = results_dir / f"{dataset}{AT_RULES}.tsv"
        write_at_rules((replace(row, dataset=dataset) for row in rows), table)
        yield table


def _copy_logs(folder: Path, results_dir: Path, dataset: str) -> Iterator[Path]:
    """Copy the training logs of one fold; their names say which network they are of."""
    for log in sorted(folder.glob("training/*/log.tsv")):
        own = f"{PREFIX}{dataset}_{folder.parent.name}_{log.parent.name}_{folder.name}.tsv"
        yield Path(shutil.copyfile(log, results_dir / own))
