"""What each part of an ensemble adds: every network's answer once, fused in several ways."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.evaluation.compare import compare_scan
from bids_deepmrseg.evaluation.results import (
    ALL_VIEWS,
    ALL_VIEWS_FLIPPED,
    FLIPPED,
    Identity,
    Result,
)
from bids_deepmrseg.evaluation.whole import (
    Models,
    prepare_shown,
    restore_shown,
    show_labelled,
)
from bids_deepmrseg.network.blocks import fold_normalisation
from bids_deepmrseg.network.weights import View, load_network, read_record, verify
from bids_deepmrseg.records import Predicted, Prepared
from bids_deepmrseg.selection.labelled import LabelledScan
from bids_deepmrseg.stages.segment import predict_view, tidy
from bids_deepmrseg.tasks import Task

logger = logging.getLogger(__name__)

Field = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Network:
    """A network ready to be asked, and the direction of its slices."""

    view: View
    predict: Callable[[Field], Field]


@dataclass(frozen=True, slots=True)
class Answer:
    """One network's probabilities, ``(L, I, J, K)``, and those of the left/right-flipped scan."""

    view: View
    straight: Field
    flipped: Field | None


def compare_ensembles(
    scans: tuple[LabelledScan, ...], folder: Path, identity: Identity, models: Models
) -> Iterator[Result]:
    """Segment scans by each view alone, by all views, and with flips, and compare each.

    Parameters
    ----------
    scans
        Labelled scans that no network of ``folder`` learned from. For a task with a region that
        is trained on crops they are crops that show its first place; for one that is trained on
        scans the places are found as the app finds them.
    folder
        Model folder.
    identity
        Leading columns; ensemble, subject and scan are filled in here.
    models
        The device, and where the models are that find places.

    Yields
    ------
    Result
        A row per ensemble and structure of each scan, scan by scan.

    Raises
    ------
    InputDataError
        If a reference is not on the grid of its scan.
    """
    networks = load_networks(folder, models.device)
    for scan in scans:
        task = scan.case.task
        shown = show_labelled(scan.case, models)
        by_ensemble: dict[str, list[Predicted]] = {}
        for prepared in prepare_shown(scan.case, shown):
            for name, predicted in predict_ensembles(networks, prepared, task):
                by_ensemble.setdefault(name, []).append(predicted)
        for name, predictions in by_ensemble.items():
            named = replace(identity, ensemble=name, subject=scan.subject, scan=scan.stem)
            segmented = restore_shown(tuple(predictions), task, shown)
            yield from compare_scan(scan, segmented, named)


def predict_ensembles(
    networks: Sequence[Network], prepared: Prepared, task: Task
) -> Iterator[tuple[str, Predicted]]:
    """The name and the answer of every ensemble, each network asked once."""
    answers = [_answer(network, prepared.channels, task) for network in networks]
    for name, probabilities in _fusions(answers):
        n_removed = tidy(probabilities, task)
        yield name, Predicted(probabilities, prepared.placement, n_removed, prepared.place)


def load_networks(folder: Path, device: str) -> list[Network]:
    """The verified networks of a model folder, on their device."""
    record = read_record(folder)
    verify(folder, record)
    loaded = []
    for member in record.members:
        network = fold_normalisation(load_network(folder, member)).to(device)
        loaded.append(Network(member.view, partial(predict_view, network, member=member)))
    return loaded


def _answer(network: Network, channels: Field, task: Task) -> Answer:
    """What one network says of a scan, and of its mirror image where the view can be flipped."""
    straight = network.predict(channels)
    # sagittal slices look alike from both sides; places cut from scans all show one side
    if network.view == "sagittal" or task.is_cut_from_scans:
        return Answer(network.view, straight, None)
    mirrored = network.predict(np.ascontiguousarray(channels[:, ::-1]))
    return Answer(network.view, straight, mirrored[list(task.mirror_classes), ::-1])


def _fusions(answers: list[Answer]) -> Iterator[tuple[str, Field]]:
    """Every ensemble that can be made of the answers, with its name."""
    views = list(dict.fromkeys(answer.view for answer in answers))
    for view in views:
        yield view, _mean([a.straight for a in answers if a.view == view])
    if len(views) > 1:
        yield ALL_VIEWS, _mean([a.straight for a in answers])
    if any(a.flipped is not None for a in answers):
        both = [
            _mean([a.straight, a.straight if a.flipped is None else a.flipped]) for a in answers
        ]
        name = ALL_VIEWS_FLIPPED if len(views) > 1 else f"{views[0]}{FLIPPED}"
        yield name, _mean(both)


def _mean(fields: list[Field]) -> Field:
    """Mean probability, network by network."""
    total = fields[0].copy()
    for field in fields[1:]:
        total += field
    total /= len(fields)
    return total
