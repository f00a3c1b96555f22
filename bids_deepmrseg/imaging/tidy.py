"""What is known beforehand about where structures lie corrects what networks say of them.

Each function changes probabilities ``(L, I, J, K)``, background first, in place; their sum over
classes stays 1.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_deepmrseg.imaging.grid import crop_to

Probabilities = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SMALLEST_SHARE = 0.1  # of a structure's largest piece, for a piece that is kept beside it


def merge_parts(foreground: Probabilities, parents: tuple[int, ...]) -> Probabilities:
    """Count the last classes into those that they are parts of.

    Parameters
    ----------
    foreground
        ``(L + P, I, J, K)``: whole classes, then parts; no background.
    parents
        For each part, the position of the class that it is a part of.

    Returns
    -------
    ndarray
        ``(L, I, J, K)``.
    """
    n_whole = len(foreground) - len(parents)
    merged: Probabilities = foreground[:n_whole].copy()
    for parent, probability in zip(parents, foreground[n_whole:], strict=True):
        merged[parent] += probability
    return merged


def part_labels(probabilities: Probabilities, axis: int) -> None:
    """Part two labels by the plane that most of the evidence supports.

    Every slice across ``axis`` is given to one of the two: the first label lies above the plane
    and the second below it. Single slices are poor judges of such a border; all of them
    together are a better one.
    """
    others = tuple(a for a in range(3) if a != axis)
    first, second = (probabilities[c].sum(axis=others, dtype=np.float64) for c in (1, 2))
    below = np.concatenate([[0.0], np.cumsum(second)])  # evidence of planes before slice 0, 1, ...
    above = np.concatenate([np.cumsum(first[::-1])[::-1], [0.0]])
    plane = int(np.argmax(below + above))
    both = np.moveaxis(probabilities[1:3], axis + 1, 1)
    either = both.sum(axis=0)
    both[0, plane:], both[0, :plane] = either[plane:], 0
    both[1, :plane], both[1, plane:] = either[:plane], 0


def keep_one_cluster(probabilities: Probabilities, *, gap_voxels: int) -> int:
    """Give what lies far from the main cluster to the background; count the voxels that changed.

    First the largest cluster of all structures together, closed over gaps of ``gap_voxels``, then
    within it the pieces of each structure that are not much smaller than its largest: a lacune
    can part a thin caudate in two, and neither half is an error.
    """
    labels = probabilities.argmax(axis=0)
    if not labels.any():
        return 0
    gap = max(1, round(gap_voxels / 2))
    box = crop_to(labels > 0, margin=gap + 1)
    near = ndimage.binary_dilation(box.apply(labels) > 0, iterations=gap)
    main = box.undo(_largest_piece(near))
    stray = (labels > 0) & ~main
    for number in range(1, len(probabilities)):
        mine = box.apply((labels == number) & main)
        stray |= box.undo(mine & ~_large_pieces(mine))
    n_removed = int(stray.sum())
    kept = main & ~stray
    probabilities[1:] *= kept
    probabilities[0][~kept] = 1
    return n_removed


def keep_one_piece(probabilities: Probabilities) -> int:
    """Give all but the largest piece of all classes together to the background; count voxels."""
    found = probabilities.argmax(axis=0) > 0
    stray = found & ~_largest_piece(found)
    probabilities[1:] *= ~stray
    probabilities[0][stray] = 1
    return int(stray.sum())


def _largest_piece(mask: Mask) -> Mask:
    """The connected piece (faces, edges and corners) with the most voxels."""
    pieces, sizes = _pieces(mask)
    largest: Mask = pieces == sizes.argmax() if len(sizes) > 2 else mask
    return largest


def _large_pieces(mask: Mask) -> Mask:
    """All pieces that are not much smaller than the largest."""
    pieces, sizes = _pieces(mask)
    large: Mask = (sizes >= SMALLEST_SHARE * sizes.max())[pieces] & mask
    return large


def _pieces(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Numbers of connected pieces from 1, and the size of each; that of the outside is 0."""
    pieces, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces, sizes
