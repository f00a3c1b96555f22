"""Stages 2 to 4 of a case, which a process of their own runs: a request in, an answer saved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from bids_deepmrseg.errors import InputDataError, SegmentationError
from bids_deepmrseg.imaging.lesions import LesionRule
from bids_deepmrseg.network.record import ModelRecord, read_record
from bids_deepmrseg.pipeline.asking import Networks, NetworksOfRun, OwnNetworks, Question
from bids_deepmrseg.pipeline.handoff import load_provenance, load_segmented, save_segmented
from bids_deepmrseg.records import Alignment, Case, Predicted, Prepared, Segmented
from bids_deepmrseg.stages.locate import check_found, locate
from bids_deepmrseg.stages.measure import brain_volume_mm3, doubts_of_brain
from bids_deepmrseg.stages.prepare import prepare, prepare_places, prepare_volumes
from bids_deepmrseg.stages.restore import restore, restore_places
from bids_deepmrseg.stages.within import (
    doubts_of_slices,
    prepare_within,
    restore_within,
    without_probabilities,
)
from bids_deepmrseg.stages.write import Provenance, UsedModel
from bids_deepmrseg.tasks import Task

if TYPE_CHECKING:
    from bids_deepmrseg.stages.align import Aligned, Mask


@dataclass(frozen=True, slots=True)
class LocatorFiles:
    """What the task that shows where to look has left behind: labels, and what made them."""

    task: Task
    model_folder: Path
    segmented_file: Path
    provenance_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRequest:
    """What the child is asked to do.

    Attributes
    ----------
    case
        The scans, and the task that reads them.
    model_folder
        Weights of the task.
    device
        ``cpu`` or ``cuda:N``, for networks that run in the child.
    fast
        Whether to run only the first network of the ensemble.
    keep_probabilities
        Whether to keep the probability of every label.
    file
        Where the answer is to be saved.
    locator
        For a task with a region or within a brain, the answer of the task that it is located by.
    registration, bias_correction
        For a task within a brain, as in :class:`bids_deepmrseg.settings.RunSettings`.
    rule
        For a task that finds lesions, what counts as one.
    workers
        Address of the run's workers, where these run the networks; ``None`` for the child itself.
    """

    case: Case
    model_folder: Path
    device: str
    fast: bool
    keep_probabilities: bool
    file: Path
    locator: LocatorFiles | None = None
    registration: bool = True
    bias_correction: bool = False
    rule: LesionRule | None = None
    workers: str | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """The answer for a case, and what its sidecar has to tell of how it was come by."""

    segmented: Segmented
    n_islands_removed_voxels: int
    doubts: tuple[str, ...] = ()
    registration: Alignment | None = None
    brain_overlap: float | None = None


class _Asker:
    """Shows what was prepared of a case to networks, and remembers which devices these ran on."""

    def __init__(self, request: SegmentRequest) -> None:
        self.devices: set[str] = set()
        self._fast = request.fast
        self._networks: Networks
        if request.workers is None:
            self._networks = OwnNetworks(request.device)
        else:
            self._networks = NetworksOfRun(request.workers, request.case.name)

    def ask(
        self, prepared: Sequence[Prepared], model_folder: Path, task: Task
    ) -> tuple[Predicted, ...]:
        """What the networks of a model say of each."""
        answer = self._networks.ask(
            Question(
                prepared=tuple(prepared), model_folder=model_folder, task=task, fast=self._fast
            )
        )
        self.devices.add(answer.device)
        return answer.predicted


def segment_case(request: SegmentRequest) -> Provenance:
    """Prepare, segment and restore a case, save the answer, and tell what made it."""
    record = read_record(request.model_folder)
    asker = _Asker(request)
    found = _found(request, asker)
    brain_mm3 = brain_volume_mm3(found.segmented, request.case.task)
    save_segmented(replace(found.segmented, brain_volume_mm3=brain_mm3), request.file)
    return _provenance(request, record, found, ", ".join(sorted(asker.devices)))


def _found(request: SegmentRequest, asker: _Asker) -> _Found:
    """Stages 2 to 4 in the way of the task."""
    if request.locator is None:
        return _segment_whole(request, asker)
    if request.case.task.within is not None:
        return _segment_within(request, request.locator, asker)
    return _segment_places(request, request.locator, asker)


def _provenance(
    request: SegmentRequest, record: ModelRecord, found: _Found, device: str
) -> Provenance:
    """What made an answer: its own model, and what is known of those that it builds on."""
    task = request.case.task
    before = None if request.locator is None else load_provenance(request.locator.provenance_file)
    chain: tuple[UsedModel, ...] = ()
    if request.locator is not None and before is not None:
        chain = (UsedModel(request.locator.task.name, before.model_sha256), *before.located_by)
    brain = UsedModel(task.name, record.digest) if task.brain is not None else None
    return Provenance(
        code_version=version("bids-deepmrseg"),
        torch_version=version("torch"),
        model_sha256=record.digest,
        preprocessing=record.preprocessing,
        training_data=record.training_data,
        license=record.license,
        attribution=record.attribution,
        device=device,
        fast=request.fast,
        n_islands_removed_voxels=found.n_islands_removed_voxels,
        located_by=chain,
        brain_measured_by=brain or (before.brain_measured_by if before else None),
        doubts=(
            *(before.doubts if before else ()),
            *found.doubts,
            *doubts_of_brain(found.segmented, task),
        ),
        inputs=(request.case.suffix, *request.case.channels[1:]),
        registration=found.registration,
        bias_corrected=task.within is not None and request.bias_correction,
        brain_overlap=found.brain_overlap,
    )


def _segment_whole(request: SegmentRequest, asker: _Asker) -> _Found:
    """Stages 2 to 4 on the whole brain."""
    task = request.case.task
    (predicted,) = asker.ask([prepare(request.case)], request.model_folder, task)
    segmented = restore(predicted, task, keep_probabilities=request.keep_probabilities)
    return _Found(segmented, predicted.n_islands_removed_voxels)


def _segment_places(request: SegmentRequest, locator: LocatorFiles, asker: _Asker) -> _Found:
    """Stages 2 to 4 on the places that another task's labels show."""
    task = request.case.task
    shown = load_segmented(locator.segmented_file)
    located = locate(shown.shown, shown.grid, task, locator.task)
    predicted = asker.ask(prepare_places(request.case, located), request.model_folder, task)
    segmented = restore_places(predicted, task, keep_probabilities=request.keep_probabilities)
    check_found(segmented, shown.shown, task, locator.task)
    return _Found(
        replace(segmented, brain_volume_mm3=shown.brain_volume_mm3),
        sum(one.n_islands_removed_voxels for one in predicted),
        tuple(doubt for one in located for doubt in one.doubts),
    )


def _segment_within(request: SegmentRequest, locator: LocatorFiles, asker: _Asker) -> _Found:
    """Stages 2 to 4 within the brain that another task finds in the first scan."""
    from bids_deepmrseg.stages.align import (  # noqa: PLC0415 - only children load SimpleITK
        align,
        doubts_of_inputs,
        doubts_of_overlap,
        recorded,
    )

    case, task = request.case, request.case.task
    shown = load_segmented(locator.segmented_file)
    brain = shown.dseg == locator.task.brain
    aligned = align(
        case, brain, registration=request.registration, bias_correction=request.bias_correction
    )
    prepared = prepare_within(aligned.volumes, aligned.grid, brain, task)
    (predicted,) = asker.ask([prepared], request.model_folder, task)
    if request.rule is None:
        segmented = restore(predicted, task, keep_probabilities=request.keep_probabilities)
    else:
        segmented = restore_within(predicted, request.rule)
        if not request.keep_probabilities:
            segmented = without_probabilities(segmented)
    overlap = _brain_overlap(request, locator, asker, aligned, brain)
    return _Found(
        replace(segmented, brain_volume_mm3=shown.brain_volume_mm3),
        predicted.n_islands_removed_voxels,
        (
            *doubts_of_inputs(case),
            *doubts_of_slices(aligned.grid, task),
            *aligned.doubts,
            *doubts_of_overlap(case, overlap),
        ),
        recorded(case, aligned),
        overlap,
    )


def _brain_overlap(
    request: SegmentRequest,
    locator: LocatorFiles,
    asker: _Asker,
    aligned: "Aligned",
    brain: "Mask",
) -> float | None:
    """Dice of the brain with what the same networks find in the second scan, laid upon the first.

    0 where no brain is found in it, ``None`` where there is no second scan.
    """
    if len(request.case.scans) == 1 or locator.task.field_of_view_mm is None:
        return None
    try:
        prepared = prepare_volumes((aligned.present[1],), aligned.grid, locator.task)
        (predicted,) = asker.ask([prepared], locator.model_folder, locator.task)
    except (InputDataError, SegmentationError):
        return 0.0
    there = restore(predicted, locator.task).dseg == locator.task.brain
    return aligned.overlap(brain, there)
