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

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.evaluation.metrics import Mask
from bids_deepmrseg.imaging.grid import crop_to

Distances = npt.NDArray[np.float64]


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
    ours, theirs = _surface(box.apply(segmented)), _surface(box.apply(reference))
    there, back = _to(theirs, ours, spacing_mm), _to(ours, theirs, spacing_mm)
    return SurfaceDistance(
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        asd_mm=float(np.concatenate([there, back]).mean()),
    )


def _surface(mask: Mask) -> Mask:
    """Voxels of a mask with a face on its outside."""
    surface: Mask = mask & ~ndimage.binary_erosion(mask)
    return surface


def _to(target: Mask, start: Mask, spacing_mm: tuple[float, float, float]) -> Distances:
    """Distance of every point of ``start`` to the nearest point of ``target``."""
    everywhere: Distances = ndimage.distance_transform_edt(~target, sampling=spacing_mm)
    return everywhere[start]
