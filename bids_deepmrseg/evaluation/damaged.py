"""Held-out scans, as they are and damaged, through the networks of folds that never saw them."""

import logging
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import DeepMRSegError, GeometryError, InputDataError, UsageError
from bids_deepmrseg.evaluation.compare import reference_numbers, segment_labelled
from bids_deepmrseg.evaluation.damage import CALIBRATION, Damage
from bids_deepmrseg.evaluation.judged import UNDAMAGED, Judged
from bids_deepmrseg.evaluation.metrics import overlap
from bids_deepmrseg.evaluation.moved import Damaged, stays
from bids_deepmrseg.evaluation.results import read_results
from bids_deepmrseg.evaluation.whole import Models
from bids_deepmrseg.files import ABSENT
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.nifti import Scan, read_scan, write_scan
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.selection.labelled import LabelledScan
from bids_deepmrseg.selection.references import read_reference
from bids_deepmrseg.tasks import Label, Task

logger = logging.getLogger(__name__)

RESULTS = "results.tsv"  # of a finished fold, in <runs>/<network>/repeat-1_fold-2
CUTS = "cut off"  # the edges of a crop are not those of a field of view


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFold:
    """A finished fold: its networks, and the scans that they never saw.

    Attributes
    ----------
    repeat, fold
        From 1.
    model
        Model folder of its networks.
    subject_of
        The person, by the name of each scan that was held out.
    """

    repeat: int
    fold: int
    model: Path
    subject_of: dict[str, str]


@dataclass(frozen=True, slots=True)
class Todo:
    """One scan to be segmented by one fold's networks, as it is or damaged."""

    fold: HeldFold
    scan: LabelledScan
    damage: Damage | None

    @property
    def key(self) -> tuple[str, ...]:
        """As :attr:`Judged.case`."""
        name, severity = _named(self.damage)
        return (str(self.fold.repeat), str(self.fold.fold), self.scan.stem, name, severity)


def find_held_folds(runs: Path, task: str, network: str) -> tuple[HeldFold, ...]:
    """Every finished fold of a cross-validation of one family of networks.

    Raises
    ------
    UsageError
        If there is none.
    """
    found = []
    for file in sorted((runs / network).glob(f"*/{RESULTS}")):
        rows = read_results(file)
        model = file.parent / task
        if rows and model.is_dir():
            held = {row.scan: row.subject for row in rows}
            fold = HeldFold(repeat=rows[0].repeat, fold=rows[0].fold, model=model, subject_of=held)
            found.append(fold)
    if not found:
        raise UsageError(f"{runs} has no finished fold of {network} networks for {task}")
    return tuple(found)


def plan_damaged(
    scans: Sequence[LabelledScan],
    folds: Iterable[HeldFold],
    *,
    n_people: int | None = None,
    n_damages: int | None = None,
) -> Iterator[Todo]:
    """What is to be segmented, folds in turn, so that a part of it says something of all folds.

    Parameters
    ----------
    scans
        All labelled scans; of each fold those are taken that it held out.
    folds
        Finished folds.
    n_people
        At most as many people of each fold, spread evenly over their names, and of each only the
        first scan; all scans of all where ``None``.
    n_damages
        Of each scan only as many damages, drawn at random by its name, half of them strong ones;
        all where ``None``. Every scan is also segmented as it is.
    """
    chosen = [[(fold, scan) for scan in _held(scans, fold, n_people)] for fold in folds]
    for turn in zip_longest(*chosen):
        for fold, scan in (pair for pair in turn if pair is not None):
            yield Todo(fold, scan, None)
            possible = [d for d in CALIBRATION if d.name != CUTS or _shows_head(scan.case.task)]
            for damage in _drawn(possible, n_damages, scan.stem):
                yield Todo(fold, scan, damage)


def _held(
    scans: Sequence[LabelledScan], fold: HeldFold, n_people: int | None
) -> tuple[LabelledScan, ...]:
    """Scans that a fold held out, of some of its people or of all."""
    held = [scan for scan in scans if scan.stem in fold.subject_of]
    if n_people is None:
        return tuple(held)
    firsts: dict[str, LabelledScan] = {}
    for scan in held:
        firsts.setdefault(fold.subject_of[scan.stem], scan)
    people = sorted(firsts)
    n_chosen = min(n_people, len(people))
    return tuple(firsts[people[number * len(people) // n_chosen]] for number in range(n_chosen))


def _shows_head(task: Task) -> bool:
    """Whether labelled scans show whole heads, and not crops of one place."""
    return task.region is None or task.is_cut_from_scans


def _drawn(damages: list[Damage], n_damages: int | None, stem: str) -> list[Damage]:
    """Some of the damages, the same ones for the same scan: strong ones and any others in turn.

    Drawn without regard to strength most would be harmless, and say little of bad answers.
    """
    if n_damages is None or n_damages >= len(damages):
        return damages
    shuffled = random.Random(stem).sample(damages, len(damages))  # noqa: S311 - no secret
    strongest = {damage.name: damage for damage in damages}.values()  # the last of each name
    strong = [damage for damage in shuffled if damage in strongest]
    others = [damage for damage in shuffled if damage not in strongest]
    in_turn = [damage for pair in zip_longest(strong, others) for damage in pair if damage]
    return in_turn[:n_damages]


def judge_todo(todo: Todo, models: Models, *, freesurfer: bool) -> tuple[Judged, ...]:
    """Damage a scan, segment it as the app does, and compare it with its reference.

    Parameters
    ----------
    todo
        The scan, its damage, and the networks.
    models
        Device, and where the models are that find places.
    freesurfer
        Whether references number structures as FreeSurfer does, rather than as the task.

    Returns
    -------
    tuple
        A row per structure that the reference can tell of; none where the damage cannot be done
        to this scan. Where the app refuses the scan its sentence stands in every row.

    Raises
    ------
    InputDataError
        If a reference is not on the grid of its scan.
    """
    case = todo.scan.case
    originals = [read_scan(file) for file in case.scans]
    try:
        damaged = [_damage(todo, original) for original in originals]
    except GeometryError as error:
        logger.warning("%s: %s", " ".join(todo.key), error)
        return ()
    reference, grid = read_reference(todo.scan.reference, case.task)
    if not grid.matches(originals[0].grid):
        raise InputDataError(f"{todo.scan.reference} is not on the grid of {case.scans[0]}")
    labels = case.task.labels if _shows_head(case.task) else case.task.network_labels
    wanted = {
        label.index: np.isin(reference, reference_numbers(label, freesurfer=freesurfer))
        for label in labels
    }
    refused, segmented = _segmented(case, damaged, todo.fold.model, models)
    dseg = None if segmented is None else damaged[0].back(segmented.dseg, grid)
    return tuple(
        _row(todo, label, wanted[label.index], grid, _Answer(refused, segmented, dseg))
        for label in labels
    )


def _damage(todo: Todo, original: Scan) -> Damaged:
    """One channel, damaged; all channels get the same seed."""
    if todo.damage is None:
        return stays(original.data, original.grid)
    seed = todo.damage.seed_for(todo.scan.stem)
    return todo.damage.do(original.data, original.grid, seed=seed)


def _segmented(
    case: Case, damaged: Sequence[Damaged], model: Path, models: Models
) -> tuple[str, Segmented | None]:
    """The answer, or the sentence with which the app refuses."""
    with TemporaryDirectory(prefix="damaged_") as name:
        folder = Path(name)
        files = tuple(
            write_scan(Scan(one.data, one.grid), folder / file.name.replace(".gz", ""))
            for one, file in zip(damaged, case.scans, strict=True)
        )
        try:
            answer = segment_labelled(replace(case, bids_dir=folder, scans=files), model, models)
        except DeepMRSegError as error:
            return str(error).replace(str(folder), "").strip(), None
    return ABSENT, answer


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """What the app said of a scan, and its labels on the undamaged grid."""

    refused: str
    segmented: Segmented | None
    dseg: npt.NDArray[np.uint16] | None


def _row(
    todo: Todo, label: Label, wanted: npt.NDArray[np.bool_], grid: Grid, answer: _Answer
) -> Judged:
    """One structure."""
    mask = np.zeros_like(wanted) if answer.dseg is None else answer.dseg == label.index
    told = () if answer.segmented is None else answer.segmented.certainties
    certainty = {one.index: one for one in told}.get(label.index)
    name, severity = _named(todo.damage)
    voxel_ml = grid.voxel_volume_mm3 / 1000
    return Judged(
        task=todo.scan.case.task.name,
        repeat=todo.fold.repeat,
        fold=todo.fold.fold,
        subject=todo.fold.subject_of[todo.scan.stem],
        scan=todo.scan.stem,
        damage=name,
        severity=severity,
        index=label.index,
        structure=label.name,
        agreement=certainty.agreement if certainty else math.nan,
        soft_dice=certainty.soft_dice if certainty else math.nan,
        border_entropy_bits=certainty.border_entropy_bits if certainty else math.nan,
        dice=overlap(mask, wanted).f1,
        volume_ml=int(mask.sum()) * voxel_ml,
        reference_volume_ml=int(wanted.sum()) * voxel_ml,
        refused=answer.refused,
    )


def _named(damage: Damage | None) -> tuple[str, str]:
    """What a row calls a damage."""
    return (UNDAMAGED, ABSENT) if damage is None else (damage.name, damage.severity or ABSENT)
