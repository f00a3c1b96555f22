"""Whole scans through the app's own stages in this process, tasks that show where to look first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.imaging.lesions import LesionRule
from bids_deepmrseg.records import Case, Predicted, Prepared, Segmented
from bids_deepmrseg.stages.align import align
from bids_deepmrseg.stages.locate import check_found, locate
from bids_deepmrseg.stages.measure import brain_volume_mm3
from bids_deepmrseg.stages.prepare import prepare, prepare_places
from bids_deepmrseg.stages.restore import restore, restore_places
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.stages.within import prepare_within, restore_within
from bids_deepmrseg.taskfiles import find_locator, find_model_folder
from bids_deepmrseg.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Where weights are, and what runs them.

    Attributes
    ----------
    models_dir
        Searched before the package's own model folders.
    device, fast
        As for :func:`bids_deepmrseg.stages.segment.segment`.
    """

    models_dir: Path | None
    device: str
    fast: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The task that shows where another one works, and its answer."""

    task: Task
    segmented: Segmented

    @property
    def brain(self) -> npt.NDArray[np.bool_]:
        """``(I, J, K)``, where the brain is; all labels, for a task that does not name it."""
        dseg = self.segmented.dseg
        return dseg > 0 if self.task.brain is None else dseg == self.task.brain


Ask = Callable[[Prepared, Case, Models], Predicted]


def ask_networks(prepared: Prepared, case: Case, models: Models) -> Predicted:
    """What the networks of the case's task say of what was prepared for them."""
    folder = find_model_folder(case.task, models.models_dir)
    return segment(prepared, folder, case.task, device=models.device, fast=models.fast)


def segment_scan(case: Case, models: Models) -> tuple[Segmented, ...]:
    """Segment a whole scan as the app does.

    Returns
    -------
    tuple
        The answers of all tasks that show where to look, from the first on, and that of the
        case's task last.

    Raises
    ------
    DeepMRSegError
        As the stages do.
    """
    return tuple(segment_chain(case, models))


def segment_chain(case: Case, models: Models, *, ask: Ask = ask_networks) -> Iterator[Segmented]:
    """As :func:`segment_scan`, one by one: what comes before a failure is had.

    Parameters
    ----------
    case, models
        The scan, and what it is segmented with.
    ask
        Gives the networks' answers.
    """
    shown: Shown | None = None
    for one in chain_of(case, models.models_dir):
        predicted = tuple(ask(prepared, one, models) for prepared in prepare_shown(one, shown))
        answer = restore_shown(predicted, one.task, shown)
        yield answer
        shown = Shown(one.task, answer)


def chain_of(case: Case, models_dir: Path | None) -> tuple[Case, ...]:
    """The scan as a case of every task that has to see it, in the order of their need."""
    locator = find_locator(case.task, models_dir)
    if locator is None:
        return (case,)
    first = replace(case, task=locator, scans=case.scans[: len(locator.channels)])
    return (*chain_of(first, models_dir), case)


def show(case: Case, models: Models) -> Shown | None:
    """What shows where the case's task works; ``None`` for tasks on the whole brain."""
    chain = chain_of(case, models.models_dir)[:-1]
    return Shown(chain[-1].task, segment_scan(chain[-1], models)[-1]) if chain else None


def show_labelled(case: Case, models: Models) -> Shown | None:
    """As :func:`show`; ``None`` also for a crop of one place, which is segmented as it is."""
    is_crop = case.task.region is not None and not case.task.is_cut_from_scans
    return None if is_crop else show(case, models)


def rule_of(task: Task) -> LesionRule:
    """What counts as a lesion unless the user says otherwise."""
    if task.lesions is None:
        raise UsageError(f"task {task.name} finds no lesions")
    return LesionRule(threshold=task.lesions.threshold, smallest_mm3=task.lesions.smallest_mm3)


def prepare_shown(case: Case, shown: Shown | None) -> tuple[Prepared, ...]:
    """What the networks are to see of a case: all, the brain only, or every place of a region."""
    if shown is None:
        return (prepare(case),)
    if case.task.within is not None:
        aligned = align(case, shown.brain)
        return (prepare_within(aligned.volumes, aligned.grid, shown.brain, case.task),)
    located = locate(shown.segmented.shown, shown.segmented.grid, case.task, shown.task)
    return prepare_places(case, located)


def restore_shown(predicted: tuple[Predicted, ...], task: Task, shown: Shown | None) -> Segmented:
    """The answer on the native grid, refused where places and locator disagree."""
    if shown is None:
        return restore(predicted[0], task)
    if task.lesions is not None:
        brain_mm3 = brain_volume_mm3(shown.segmented, shown.task)
        return restore_within(predicted[0], rule_of(task), brain_volume_mm3=brain_mm3)
    if task.within is not None:
        return restore(predicted[0], task)
    segmented = restore_places(predicted, task)
    check_found(segmented, shown.segmented.shown, task, shown.task)
    return segmented
