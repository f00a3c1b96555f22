"""How far the surfaces of a segmentation and its reference lie apart, in millimetres.

Empty masks: where segmentation or reference has no voxel there is no surface and no distance,
which is ``nan`` and never a number made up for it. A structure that only one of them has scores
F1 0, and tables say how many such scans a mean of distances leaves out.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.evaluation.metrics import Mask
from bids_deepmrseg.imaging.grid import crop_to

Distances = npt.NDArray[np.float64]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SurfaceDistance:
    """Distances between two surfaces in millimetres; ``nan`` where one of them does not exist.

    Attributes
    ----------
    hd95_mm
        The larger of the 95th percentiles of the distances from either surface to the other
        (95th percentile Hausdorff distance).
    asd_mm
        Mean over the points of both surfaces of the distance to the other one (average
        symmetric surface distance).
    """

    hd95_mm: float
    asd_mm: float


NO_SURFACE = SurfaceDistance(math.nan, math.nan)


def surface_distance(
    segmented: Mask, reference: Mask, spacing_mm: tuple[float, float, float]
) -> SurfaceDistance:
    """Distances between the surfaces of two masks on one grid.

    Parameters
    ----------
    segmented, reference
        ``(I, J, K)`` masks.
    spacing_mm
        Distance between neighbouring voxels along each axis; axes at right angles.

    Returns
    -------
    SurfaceDistance
        ``nan`` where a mask is empty.

    Raises
    ------
    GeometryError
        If the shapes differ.

    Notes
    -----
    A surface is the centres of a mask's voxels that share a face with a voxel outside of it;
    what lies beyond the scan is outside. Definitions as of Heimann et al. 2009,
    doi:10.1109/TMI.2009.2013851 (average) and Kuijf et al. 2019, doi:10.1109/TMI.2019.2905770
    (95th percentile).
    """
    if segmented.shape != reference.shape:
        raise GeometryError(f"masks of {segmented.shape} and {reference.shape} cannot be compared")
    if not segmented.any() or not reference.any():
        return NO_SURFACE
    box = crop_to(segmented | reference, margin=0)
    ours = _surface_mm(box.apply(segmented), spacing_mm)
    theirs = _surface_mm(box.apply(reference), spacing_mm)
    there, back = _to(theirs, ours), _to(ours, theirs)
    return SurfaceDistance(
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        asd_mm=float(np.concatenate([there, back]).mean()),
    )


def _surface_mm(mask: Mask, spacing_mm: tuple[float, float, float]) -> Points:
    """Centres of the voxels of a mask with a face on its outside, ``(n, 3)`` in millimetres."""
    surface = mask & ~ndimage.binary_erosion(mask)
    points: Points = np.argwhere(surface) * np.asarray(spacing_mm)
    return points


def _to(target: Points, start: Points) -> Distances:
    """Distance of every point of ``start`` to the nearest of ``target``.

    A tree of points is many times faster than a distance map where a surface has few of the
    voxels of its box, as that of a brain.
    """
    distances: Distances = cKDTree(target).query(start)[0]
    return distances
