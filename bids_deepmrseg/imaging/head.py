"""Where the brain lies in a head or a stripped brain, from intensities and anatomy alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.imaging.grid import Crop, Shape

# the preparation by which weights are trained; changes whenever a scan would reach the network
# differently, so that weights and code cannot drift apart
PREPROCESSING = "brainframe-1"
FOREGROUND_FRACTION = 0.12  # of the 99th percentile; air, its noise and stripped voxels lie below
MIN_FOREGROUND_ML = 300.0  # less than a newborn's brain
VERTEX_AREA_MM2 = 2000.0  # a slice this full belongs to the head, not to a fixation or to noise
BRAIN_CENTRE_BELOW_VERTEX_MM = 75.0
BRAIN_CORE_RADIUS_MM = 50.0
ABOVE_VERTEX_MM = 11.0
BRIGHTEST = 4.0  # times the tissue intensity; fat and vessels above it carry no information


@dataclass(frozen=True, slots=True)
class BrainFrame:
    """Where the brain is expected on a cubic RAS+ grid, and how bright its tissue is.

    Attributes
    ----------
    centre
        Voxel index ``ijk`` of the middle of the brain.
    vertex
        Index along ``K`` of the top of the head.
    tissue_intensity
        Median intensity of the tissue around the centre.
    background_intensity
        What the scan shows in air; 0 unless intensities are negative.
    """

    centre: Shape
    vertex: int
    tissue_intensity: float
    background_intensity: float


def find_brain_frame(data: npt.NDArray[np.float32], spacing_mm: float) -> BrainFrame:
    """Locate the brain by the top of the head, on whole and on stripped heads alike.

    Parameters
    ----------
    data
        ``(I, J, K)`` intensities, axes R, A, S, cubic voxels.
    spacing_mm
        Edge of a voxel.

    Returns
    -------
    BrainFrame
        The tissue intensity is a median over a core of 50 mm around the centre, so that neither
        scalp fat nor neck enter it; docs/decisions/0003.

    Raises
    ------
    InputDataError
        If there is not enough foreground to be a brain.
    """
    background = min(0.0, float(np.percentile(data[::2, ::2, ::2], 1)))
    bright = float(np.percentile(data[::2, ::2, ::2], 99)) - background
    foreground = data - background > FOREGROUND_FRACTION * bright
    volume_ml = foreground.sum() * spacing_mm**3 / 1000
    if volume_ml < MIN_FOREGROUND_ML:
        raise InputDataError(
            f"only {volume_ml:.0f} ml of the scan are brighter than its background; "
            "a head or a brain needs more: look at the scan"
        )
    areas_mm2 = foreground.sum(axis=(0, 1)) * spacing_mm**2
    full = np.flatnonzero(areas_mm2 > min(VERTEX_AREA_MM2, 0.25 * float(areas_mm2.max())))
    vertex = int(full[-1])
    centre = _centre_below(foreground, vertex, spacing_mm)
    core = _core(data, foreground, centre, spacing_mm)
    return BrainFrame(centre, vertex, float(np.median(core)) - background, background)


def _centre_below(foreground: npt.NDArray[np.bool_], vertex: int, spacing_mm: float) -> Shape:
    """The middle of the head at brain height: medians over the slices below the vertex."""
    below = int(BRAIN_CENTRE_BELOW_VERTEX_MM / spacing_mm)
    slab = foreground[:, :, max(0, vertex - 2 * below + below // 2) : vertex + 1]
    across, along = slab.sum(axis=(1, 2)).cumsum(), slab.sum(axis=(0, 2)).cumsum()
    i = int(np.searchsorted(across, across[-1] / 2))
    j = int(np.searchsorted(along, along[-1] / 2))
    return i, j, max(0, vertex - below)


def _core(
    data: npt.NDArray[np.float32],
    foreground: npt.NDArray[np.bool_],
    centre: Shape,
    spacing_mm: float,
) -> npt.NDArray[np.float32]:
    """Foreground intensities within a ball around the centre."""
    radius = int(BRAIN_CORE_RADIUS_MM / spacing_mm)
    box = tuple(slice(max(0, c - radius), c + radius + 1) for c in centre)
    offsets = np.ogrid[box]
    distance2 = sum((o - c) ** 2 for o, c in zip(offsets, centre, strict=True))
    inside = foreground[box] & (distance2 <= radius**2)
    core: npt.NDArray[np.float32] = data[box][inside]
    if not core.size:
        raise InputDataError("there is no tissue where the middle of the brain should be")
    return core


def frame_crop(frame: BrainFrame, shape: Shape, extent: Shape, spacing_mm: float) -> Crop:
    """The box of at most ``extent`` voxels around the brain that fits into ``shape``."""
    above = int(ABOVE_VERTEX_MM / spacing_mm)
    starts = (
        frame.centre[0] - extent[0] // 2,
        frame.centre[1] - extent[1] // 2,
        frame.vertex + above - extent[2],
    )
    bounds = []
    for start, n, size in zip(starts, shape, extent, strict=True):
        first = max(0, min(start, n - size))
        bounds.append((first, min(n, first + size)))
    (i0, i1), (j0, j1), (k0, k1) = bounds
    return Crop(shape, (i0, j0, k0), (i1, j1, k1))
