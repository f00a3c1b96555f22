"""Stage 4 of 8: probabilities on the model grid become labels on exactly the native grid."""

import logging
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.imaging.grid import Crop, Placement, crop_to
from bids_deepmrseg.imaging.tidy import merge_parts
from bids_deepmrseg.records import Predicted, Segmented
from bids_deepmrseg.tasks import Label, Task

logger = logging.getLogger(__name__)

NEGLIGIBLE = 1e-3  # foreground probability below which no voxel can win, nor tip a balance


def restore(predicted: Predicted, task: Task, *, keep_probabilities: bool = False) -> Segmented:
    """Interpolate each class's probability to the native grid and let the highest win.

    Parameters
    ----------
    predicted
        Probabilities ``(L, I, J, K)`` on the model grid.
    task
        Gives the index of every class: those of the place, where this is the answer for one.
    keep_probabilities
        Also return all probabilities on the native grid, float16.

    Returns
    -------
    Segmented
        Labels on the grid of the first scan, landmarks merged into the labels that they are a
        part of, and beside them the map of the landmarks. Classes are interpolated one by one, so
        that no more than three native fields are in memory; the background wins ties.

    Raises
    ------
    GeometryError
        If the result is not on the native grid.
    """
    foreground = predicted.probabilities[1:]
    if task.region is None and task.landmarks:
        told_apart = _restored(foreground, predicted.placement, task.told_apart)
        indices = [landmark.index for landmark in task.landmarks]
        landmarks = np.where(np.isin(told_apart.dseg, indices), told_apart.dseg, 0)
        whole = _restored(
            merge_parts(foreground, task.parents),
            predicted.placement,
            task.labels,
            keep_probabilities=keep_probabilities,
        )
        return replace(
            whole, landmarks=landmarks.astype(np.uint16), certainties=predicted.certainties
        )
    labels = task.labels_of(predicted.place) if predicted.place else task.network_labels
    restored = _restored(
        foreground, predicted.placement, labels, keep_probabilities=keep_probabilities
    )
    return replace(restored, certainties=predicted.certainties)


def _restored(
    foreground: npt.NDArray[np.float32],
    placement: Placement,
    labels: tuple[Label, ...],
    *,
    keep_probabilities: bool = False,
) -> Segmented:
    """Labels of the classes on the native grid."""
    inner = _reach(foreground)
    placement = placement.within(inner)
    winner, best, total, box = _argmax(foreground, inner, placement)
    background = np.maximum(0, 1 - total)
    wins = best > background
    indices = np.array([label.index for label in labels], dtype=np.uint16)
    dseg_box = np.where(wins, indices[winner], 0).astype(np.uint16)
    dseg = placement.turn.undo(box.undo(dseg_box))
    confidence = placement.turn.undo(box.undo(np.where(wins, best, background), fill=1))
    return Segmented(
        dseg=np.ascontiguousarray(dseg).astype(np.uint16),
        confidence=np.ascontiguousarray(confidence).astype(np.float32),
        grid=placement.native,
        probabilities=_native_probabilities(foreground, inner, placement)
        if keep_probabilities
        else None,
    )


def restore_places(
    predicted: tuple[Predicted, ...], task: Task, *, keep_probabilities: bool = False
) -> Segmented:
    """Bring the answers of all places of a region to the native grid, and make them one.

    Parameters
    ----------
    predicted
        One entry per place.
    task
        Has the region.
    keep_probabilities
        As for :func:`restore`; classes are in the order of the task's lookup table.

    Returns
    -------
    Segmented
        Where two places claim a voxel, the one that is surer has it. Places that are cut around
        structures of two sides share none.
    """
    restored = [restore(one, task, keep_probabilities=keep_probabilities) for one in predicted]
    merged = restored[0]
    for other in restored[1:]:
        merged = _merge(merged, other)
    if keep_probabilities:
        merged = replace(merged, probabilities=_gather(predicted, restored, task))
    found = {one.index: one for part in predicted for one in part.certainties}
    in_order = tuple(found[label.index] for label in task.labels if label.index in found)
    return replace(merged, certainties=in_order)


def _merge(one: Segmented, other: Segmented) -> Segmented:
    """The labels of both; background only where both say so, and then as sure as the less sure."""
    surer = (other.dseg > 0) & ((one.dseg == 0) | (other.confidence > one.confidence))
    both_empty = (one.dseg == 0) & (other.dseg == 0)
    confidence = np.where(surer, other.confidence, one.confidence)
    confidence[both_empty] = np.minimum(one.confidence, other.confidence)[both_empty]
    return replace(one, dseg=np.where(surer, other.dseg, one.dseg), confidence=confidence)


def _gather(
    predicted: tuple[Predicted, ...], restored: list[Segmented], task: Task
) -> npt.NDArray[np.float16]:
    """Probabilities of all places as classes of the task, background first; they sum to 1."""
    classes = {label.index: number for number, label in enumerate(task.labels, start=1)}
    shape = (len(task.labels) + 1, *restored[0].grid.shape)
    gathered = np.zeros(shape, dtype=np.float16)
    total = np.zeros(shape[1:], dtype=np.float32)
    for one, native in zip(predicted, restored, strict=True):
        if one.place is None or native.probabilities is None:
            raise ValueError("only the probabilities of places can be gathered")
        for label, probability in zip(
            task.labels_of(one.place), native.probabilities[1:], strict=True
        ):
            gathered[classes[label.index]] = probability
            total += probability
    gathered[1:] /= np.maximum(1, total)
    gathered[0] = np.maximum(0, 1 - total)
    return gathered


def _reach(foreground: npt.NDArray[np.float32]) -> Crop:
    """The box outside of which every foreground probability is negligible."""
    somewhere = np.zeros(foreground.shape[1:], dtype=bool)
    for probability in foreground:
        somewhere |= probability > NEGLIGIBLE
    if not somewhere.any():
        somewhere.flat[somewhere.size // 2] = True
    return crop_to(somewhere, margin=1)


def _argmax(
    foreground: npt.NDArray[np.float32], inner: Crop, placement: Placement
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32], npt.NDArray[np.float32], Crop]:
    """Class with the highest probability, that probability, and the sum over classes."""
    best, box = placement.undo_box(np.asarray(inner.apply(foreground[0]), dtype=np.float32))
    best, total = best.copy(), best.copy()
    winner = np.zeros(best.shape, dtype=np.intp)
    for number, probability in enumerate(foreground[1:], start=1):
        native, _ = placement.undo_box(np.asarray(inner.apply(probability), dtype=np.float32))
        higher = native > best
        winner[higher] = number
        best[higher] = native[higher]
        total += native
    return winner, best, total, box


def _native_probabilities(
    foreground: npt.NDArray[np.float32], inner: Crop, placement: Placement
) -> npt.NDArray[np.float16]:
    """All classes, background first, on the native grid."""
    shape = placement.native.shape
    native = np.zeros((len(foreground) + 1, *shape), dtype=np.float16)
    background = np.ones(shape, dtype=np.float32)
    for number, probability in enumerate(foreground, start=1):
        field = placement.undo(np.asarray(inner.apply(probability), dtype=np.float32))
        native[number] = field
        background -= field
    native[0] = np.maximum(0, background)
    return native
