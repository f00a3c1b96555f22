"""How far voxels lie from a mask on the same grid, whatever its spacings and directions."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from bids_deepmrseg.imaging.grid import Grid, crop_to
from bids_deepmrseg.imaging.pieces import NEIGHBOURHOOD, Mask


def gaps_mm(voxels: npt.NDArray[np.intp], mask: Mask, grid: Grid) -> npt.NDArray[np.float64]:
    """How much room there is between voxels and a mask, from edge to edge.

    Parameters
    ----------
    voxels
        ``(n, 3)`` indices.
    mask
        ``(I, J, K)``, not empty.
    grid
        Of both; its affine gives directions and spacings.

    Returns
    -------
    ndarray
        ``(n,)`` millimetres: 0 for voxels that touch the mask, by whatever corner, or lie in it.

    Raises
    ------
    GeometryError
        If the mask is empty.

    Notes
    -----
    Centres would put a voxel in the next slice of a 7 mm scan 7 mm away, though nothing lies in
    between. Along an axis two voxels ``n`` apart have ``n - 1`` between them, which is what remains
    from centre to centre once one of the two has grown by its 26 neighbours. On sheared grids,
    where voxels are no boxes, this is the distance to the grown mask and no longer exactly the gap.
    """
    box = crop_to(mask, margin=1)
    near = ndimage.binary_dilation(box.apply(mask), structure=NEIGHBOURHOOD)
    shell = np.argwhere(near & ~ndimage.binary_erosion(near)) + np.array(box.start)
    to_mm = grid.affine[:3, :3].T
    apart_mm: npt.NDArray[np.float64] = cKDTree(shell @ to_mm).query(voxels @ to_mm)[0]
    apart_mm[box.undo(near)[tuple(voxels.T)]] = 0
    return apart_mm
