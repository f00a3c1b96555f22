"""Connected pieces of a mask: found, ordered by size, small ones left out and counted."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]

NEIGHBOURHOOD = np.ones((3, 3, 3), dtype=bool)  # voxels touch by faces, edges and corners: 26
VOXEL_TOLERANCE = 1e-3  # affines are stored in single precision


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The connected pieces of a mask that are large enough.

    Attributes
    ----------
    labels
        ``(I, J, K)``: 0 outside, 1 in the largest piece, 2 in the next one.
    n_voxels
        Of each piece, largest first.
    n_removed, n_removed_voxels
        Pieces that were too small, and their voxels together.
    """

    labels: Labels
    n_voxels: Counts
    n_removed: int
    n_removed_voxels: int

    def __len__(self) -> int:
        return len(self.n_voxels)


def find_pieces(mask: Mask, *, fewest_voxels: int = 1) -> Pieces:
    """Take a mask apart into pieces that touch nowhere, not even by a corner.

    Parameters
    ----------
    mask
        ``(I, J, K)``.
    fewest_voxels
        Smaller pieces are left out, and counted.

    Returns
    -------
    Pieces
        Largest first; of equals the one whose first voxel comes first in the array.
    """
    found, n_found = ndimage.label(mask, structure=NEIGHBOURHOOD, output=np.int32)
    sizes = np.bincount(found.ravel(), minlength=n_found + 1)[1:].astype(np.int64)
    order = np.argsort(-sizes, kind="stable")
    kept = order[sizes[order] >= fewest_voxels]
    numbers = np.zeros(n_found + 1, dtype=np.int32)
    numbers[kept + 1] = np.arange(1, len(kept) + 1)
    return Pieces(
        labels=numbers[found],
        n_voxels=sizes[kept],
        n_removed=n_found - len(kept),
        n_removed_voxels=int(sizes.sum() - sizes[kept].sum()),
    )


def fewest_voxels_of(smallest_mm3: float, voxel_volume_mm3: float) -> int:
    """How many voxels make up a volume: the least whole number that reaches it, 1 at least."""
    return max(1, math.ceil(smallest_mm3 / voxel_volume_mm3 - VOXEL_TOLERANCE))
