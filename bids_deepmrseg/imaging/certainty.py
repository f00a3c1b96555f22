"""How far answers agree, and how sure their mean is of itself: arithmetic on probabilities."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Winners = npt.NDArray[np.uint16]
Groups = Sequence[Sequence[int]]


def winners(probabilities: Field, groups: Groups) -> Winners:
    """Which label each voxel belongs to, where a label may be made of several classes.

    Parameters
    ----------
    probabilities
        ``(L, I, J, K)``, background first.
    groups
        For every label, the classes whose probabilities it is the sum of.

    Returns
    -------
    ndarray
        ``(I, J, K)``: position in ``groups`` plus one; 0 where the background has it, also in ties.
    """
    best = np.array(probabilities[0], dtype=np.float32)
    winner = np.zeros(best.shape, dtype=np.uint16)
    for number, group in enumerate(groups, start=1):
        probability = label_probability(probabilities, group)
        higher = probability > best
        winner[higher] = number
        np.maximum(best, probability, out=best)
    return winner


def label_probability(probabilities: Field, group: Sequence[int]) -> Field:
    """``(I, J, K)`` sum of the classes that one label is made of."""
    first, *others = group
    total: Field = probabilities[first]
    for number in others:
        total = total + probabilities[number]
    return total


def mean_agreement(
    answers: Sequence[tuple[str, Winners]], n_labels: int
) -> npt.NDArray[np.float64]:
    """Mean Dice, label by label, over pairs of answers from different views.

    Parameters
    ----------
    answers
        The view of each answer, and who wins its voxels as :func:`winners` tells. Where all are of
        one view, every pair counts.
    n_labels
        Number of labels.

    Returns
    -------
    ndarray
        ``(n_labels,)`` in 0 to 1; ``nan`` where there is no pair, or no answer shows the label.
    """
    pairs = list(combinations(range(len(answers)), 2))
    across = [(a, b) for a, b in pairs if answers[a][0] != answers[b][0]]
    if not pairs:
        return np.full(n_labels, math.nan)
    shown = np.zeros(answers[0][1].shape, dtype=bool)
    for _, winner in answers:
        shown |= winner > 0
    told = [winner[shown] for _, winner in answers]
    dice = np.stack([_dice(told[a], told[b], n_labels) for a, b in across or pairs])
    known = np.isfinite(dice)
    summed = np.where(known, dice, 0).sum(axis=0)
    n_known = known.sum(axis=0)
    mean = np.full(n_labels, math.nan)
    np.divide(summed, n_known, out=mean, where=n_known > 0)
    return mean


def _dice(one: Winners, other: Winners, n_labels: int) -> npt.NDArray[np.float64]:
    """Dice of every label between two answers; ``nan`` where neither shows it."""
    both = np.bincount(one[one == other], minlength=n_labels + 1)[1:]
    sizes = (np.bincount(each, minlength=n_labels + 1)[1:] for each in (one, other))
    summed = np.sum(list(sizes), axis=0)
    dice = np.full(n_labels, math.nan)
    np.divide(2.0 * both, summed, out=dice, where=summed > 0)
    return dice


def soft_dice(probability: Field, mask: Mask) -> float:
    """The Dice that a mask is expected to have if its probabilities are right.

    Parameters
    ----------
    probability
        ``(I, J, K)`` of one label.
    mask
        Voxels that it won.

    Returns
    -------
    float
        ``2 sum(p m) / (sum(p) + sum(m))``; ``nan`` where there is neither.
    """
    inside = float(probability[mask].sum(dtype=np.float64))
    total = float(probability.sum(dtype=np.float64)) + int(np.count_nonzero(mask))
    return 2 * inside / total if total else math.nan


def border_entropy_bits(probability: Field, mask: Mask) -> float:
    """Mean binary entropy of the probabilities on both sides of a mask's border.

    Parameters
    ----------
    probability
        ``(I, J, K)`` of one label.
    mask
        Voxels that it won.

    Returns
    -------
    float
        0 (sure) to 1 bit (a coin's toss), over the voxels that have a face in the border; ``nan``
        where the mask has no border.
    """
    border = np.zeros(mask.shape, dtype=bool)
    for axis in range(3):
        low, high = (_face(axis, part) for part in (slice(None, -1), slice(1, None)))
        differs = mask[low] != mask[high]
        border[low] |= differs
        border[high] |= differs
    at_border = probability[border].astype(np.float64)
    if not at_border.size:
        return math.nan
    p = np.clip(at_border, 1e-12, 1 - 1e-12)
    return float(np.mean(-p * np.log2(p) - (1 - p) * np.log2(1 - p)))


def _face(axis: int, part: slice) -> tuple[slice, ...]:
    """An index that takes a part along one axis."""
    return tuple(part if a == axis else slice(None) for a in range(3))
