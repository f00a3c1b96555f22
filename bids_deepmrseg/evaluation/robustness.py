"""Scans segmented as they are and damaged, each task of a chain at once, and what changes."""

import hashlib
import logging
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bids_deepmrseg.errors import DeepMRSegError, GeometryError, UsageError
from bids_deepmrseg.evaluation.changes import DONE, FAILED, NO, UNDAMAGED, YES, Change
from bids_deepmrseg.evaluation.damage import Damage
from bids_deepmrseg.evaluation.metrics import Mask, overlap
from bids_deepmrseg.evaluation.moved import Damaged, Labels
from bids_deepmrseg.evaluation.whole import Ask, Models, ask_networks, chain_of, segment_chain
from bids_deepmrseg.files import ABSENT
from bids_deepmrseg.imaging.grid import crop_to
from bids_deepmrseg.imaging.nifti import Scan, read_scan, write_scan
from bids_deepmrseg.records import Case, Predicted, Prepared, Segmented
from bids_deepmrseg.selection.names import ENDINGS, parse_name, split_ending
from bids_deepmrseg.selection.scans import without_twins
from bids_deepmrseg.tasks import Label, Task

logger = logging.getLogger(__name__)

Key = tuple[str, str, str]  # scan, damage and severity


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What networks said of the scan as it is, by every bit of what they saw.

    A network gives the same answer to the same input, so that a damaged scan that reaches it
    exactly as the undamaged one need not be shown to it again; all else is done anew.
    """

    answers: dict[tuple[str, bytes], Predicted] = field(default_factory=dict)

    def learn(self, prepared: Prepared, case: Case, models: Models) -> Predicted:
        """Ask the networks, and keep what they say."""
        predicted = ask_networks(prepared, case, models)
        self.answers[_seen(prepared, case)] = predicted
        return predicted

    def recall(self, prepared: Prepared, case: Case, models: Models) -> Predicted:
        """Ask the networks only what they were never asked."""
        known = self.answers.get(_seen(prepared, case))
        if known is None:
            return ask_networks(prepared, case, models)
        return replace(known, placement=prepared.placement, place=prepared.place)


def _seen(prepared: Prepared, case: Case) -> tuple[str, bytes]:
    """Digest of what a task's networks see, and of its shape."""
    channels = np.ascontiguousarray(prepared.channels)
    digest = hashlib.sha256(str((channels.shape, channels.dtype)).encode())
    digest.update(channels.tobytes())
    return case.task.name, digest.digest()


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What the tasks of a chain said of one scan, as far as they came, and what stopped them."""

    segmented: tuple[Segmented, ...]
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class _Undamaged:
    """A scan as it is, and what the tasks of the chain say of it."""

    name: str
    scan: Scan
    chain: tuple[Case, ...]
    answers: _Answers

    @property
    def brain(self) -> Mask | None:
        """Where the brain is, if a task of the chain measures it."""
        for case, segmented in zip(self.chain, self.answers.segmented, strict=False):
            if case.task.brain is not None:
                return np.asarray(segmented.dseg == case.task.brain)
        return None


def find_cases(inputs: Collection[Path], task: Task) -> tuple[Case, ...]:
    """Scans to damage: files, and every scan of the task's suffix in datasets.

    Raises
    ------
    UsageError
        If the task needs several scans, or there is none where one is looked for.
    """
    if len(task.needed) > 1:
        raise UsageError(
            f"{task.name} reads {', '.join(task.needed)}; robustness is measured for tasks that "
            "can do with one scan"
        )
    cases: list[Case] = []
    for one in inputs:
        files = [one] if one.is_file() else _scans_in(one, task.channels[0])
        cases += [
            Case(task=task, bids_dir=one, scans=(file,), entities=_entities(file)) for file in files
        ]
    return tuple(cases)


def _scans_in(folder: Path, suffix: str) -> list[Path]:
    """Scans of a suffix in the folders of a dataset's subjects."""
    files = [
        file
        for pattern in ("sub-*/anat", "sub-*/ses-*/anat")
        for file in folder.glob(f"{pattern}/*_{suffix}.nii*")
        if split_ending(file.name)[1] in ENDINGS
    ]
    if not files:
        raise UsageError(f"{folder} is no scan, and holds no {suffix} scan in sub-*/[ses-*/]anat")
    return without_twins(files)


def _entities(file: Path) -> tuple[tuple[str, str], ...]:
    """Entities of a scan's name; none of names that are not BIDS."""
    name = parse_name(file.name)
    return name.entities if name else ()


def name_of(case: Case) -> str:
    """What tables call a scan: its name without suffix and ending."""
    return case.stem or split_ending(case.scans[0].name)[0]


def measure(
    case: Case,
    models: Models,
    damages: Collection[Damage],
    *,
    done: Collection[Key],
    on_damage: Callable[[str], None],
) -> Iterator[tuple[Change, ...]]:
    """Segment a scan as it is and after every damage, and tell what changed.

    Parameters
    ----------
    case
        The scan, for the last task of a chain.
    models
        Weights and device.
    damages
        What is done to the scan, one at a time.
    done
        Scan, damage and severity of what need not be done again.
    on_damage
        Called with a title after each damage.

    Yields
    ------
    tuple
        For every damage a row per structure of every task of the chain. Where a task failed, its
        rows and those of tasks that it locates say why. If the scan as it is fails, the rows of
        ``none`` say so, and damages are compared for the tasks before.

    Raises
    ------
    InputDataError
        If the scan cannot be read.
    """
    name = name_of(case)
    wanted = [d for d in damages if (name, d.name, d.severity or ABSENT) not in done]
    if not wanted and (name, UNDAMAGED, ABSENT) in done:
        return
    memory = Memory()
    undamaged = _Undamaged(
        name,
        read_scan(case.scans[0]),
        chain_of(case, models.models_dir),
        _ask(case, models, memory.learn),
    )
    if (name, UNDAMAGED, ABSENT) not in done:
        yield tuple(_rows_as_it_is(undamaged))
    on_damage(UNDAMAGED)
    for damage in wanted:
        yield tuple(_rows_of(undamaged, damage, models, memory.recall))
        on_damage(damage.title)


def _ask(case: Case, models: Models, ask: Ask) -> _Answers:
    """Answers of the chain until it fails, and the sentence with which it does."""
    answers: list[Segmented] = []
    try:
        for answer in segment_chain(case, models, ask=ask):
            answers.append(answer)  # noqa: PERF402 - what was answered before a failure counts
    except DeepMRSegError as error:
        return _Answers(tuple(answers), str(error))
    return _Answers(tuple(answers), ABSENT)


def _rows_as_it_is(undamaged: _Undamaged) -> Iterator[Change]:
    """Rows of the scan as it is, which is compared with nothing."""
    answers = undamaged.answers
    for number, case in enumerate(undamaged.chain):
        failed = number >= len(answers.segmented)
        for label in case.task.labels:
            volume_ml = math.nan if failed else _volume_ml(answers.segmented[number], label)
            yield _row(
                undamaged,
                None,
                case.task,
                label,
                answers.reason if failed else ABSENT,
                volume_ml=volume_ml,
                undamaged_ml=volume_ml,
            )


def _rows_of(undamaged: _Undamaged, damage: Damage, models: Models, ask: Ask) -> Iterator[Change]:
    """Rows of the scan after one damage, for every task that succeeded on the scan as it is."""
    if damage.needs_brain and undamaged.brain is None:
        logger.warning("%s: not %s, for no task shows the brain", undamaged.name, damage.name)
        return
    damaged: Damaged | None = None
    try:
        damaged = _damage(undamaged, damage)
    except GeometryError as error:
        answers = _Answers((), str(error))
    else:
        answers = _segmented(undamaged, damaged, models, ask)
    for number, before in enumerate(undamaged.answers.segmented):
        task = undamaged.chain[number].task
        if damaged is None or number >= len(answers.segmented):
            for label in task.labels:
                yield _row(
                    undamaged,
                    damage,
                    task,
                    label,
                    answers.reason,
                    undamaged_ml=_volume_ml(before, label),
                )
        else:
            after = answers.segmented[number]
            yield from _compared(undamaged, damage, damaged, number, after)


def _damage(undamaged: _Undamaged, damage: Damage) -> Damaged:
    """The scan after a damage, with random numbers of its own."""
    scan = undamaged.scan
    seed = damage.seed_for(undamaged.name)
    return damage.do(scan.data, scan.grid, seed=seed, brain=undamaged.brain)


def _segmented(undamaged: _Undamaged, damaged: Damaged, models: Models, ask: Ask) -> _Answers:
    """What the chain says of a damaged scan, which is written so that the app's stages read it."""
    case = undamaged.chain[-1]
    with TemporaryDirectory(prefix="damaged_") as name:
        file = Path(name) / f"{split_ending(case.scans[0].name)[0]}.nii"
        write_scan(Scan(damaged.data, damaged.grid), file)
        answers = _ask(replace(case, bids_dir=Path(name), scans=(file,)), models, ask)
        return replace(answers, reason=answers.reason.replace(f"{name}/", ""))


def _compared(
    undamaged: _Undamaged, damage: Damage, damaged: Damaged, number: int, after: Segmented
) -> Iterator[Change]:
    """Rows of the chain's task of that number, which answered both times."""
    task, before = undamaged.chain[number].task, undamaged.answers.segmented[number]
    back = damaged.back(after.dseg, before.grid)
    trip = damaged.back(damaged.there(before.dseg, before.grid), before.grid)
    for label in task.labels:
        yield _row(
            undamaged,
            damage,
            task,
            label,
            ABSENT,
            volume_ml=_volume_ml(after, label),
            undamaged_ml=_volume_ml(before, label),
            dice=_dice(before.dseg, back, label),
            trip_dice=_dice(before.dseg, trip, label),
            same=YES if np.array_equal(before.dseg == label.index, back == label.index) else NO,
        )


def _row(
    undamaged: _Undamaged,
    damage: Damage | None,
    task: Task,
    label: Label,
    reason: str,
    *,
    volume_ml: float = math.nan,
    undamaged_ml: float,
    dice: float = math.nan,
    trip_dice: float = math.nan,
    same: str = ABSENT,
) -> Change:
    """One structure; what is not given was not measured."""
    return Change(
        task=task.name,
        scan=undamaged.name,
        damage=damage.name if damage else UNDAMAGED,
        severity=(damage.severity or ABSENT) if damage else ABSENT,
        status=DONE if reason == ABSENT else FAILED,
        reason=reason,
        index=label.index,
        structure=label.name,
        volume_ml=volume_ml,
        undamaged_ml=undamaged_ml,
        change=volume_ml / undamaged_ml - 1 if damage and undamaged_ml else math.nan,
        dice=dice,
        trip_dice=trip_dice,
        same=same,
    )


def _volume_ml(segmented: Segmented, label: Label) -> float:
    """Volume of a structure, by counting voxels as stage 5 does."""
    n_voxels = int((segmented.dseg == label.index).sum())
    return n_voxels * segmented.grid.voxel_volume_mm3 / 1000


def _dice(one: Labels, other: Labels, label: Label) -> float:
    """Overlap of a structure in two label maps on one grid."""
    first, second = one == label.index, other == label.index
    either = first | second
    if not either.any():
        return math.nan
    box = crop_to(either, margin=0)
    return overlap(box.apply(first), box.apply(second)).f1
