"""How well two scans of one head agree: shared information and overlap of what they show."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from bids_deepmrseg.imaging.alignment import (
    Field,
    Mask,
    Points,
    field_of_view,
    mask_points,
    moved,
    resample_onto,
)
from bids_deepmrseg.imaging.grid import Affine, Grid
from bids_deepmrseg.imaging.head import FOREGROUND_FRACTION
from bids_deepmrseg.imaging.nifti import Scan

BINS = 32
SAMPLES = 50_000  # places at which information is measured; its noise is then below 0.002 nats
REACH_MM = 10.0  # around the head: its outline is what carries most of the information
BRIGHT_PERCENTILE = 99.0  # of the head's voxels; vessels and fat above it would stretch the bins


def head_mask(scan: Scan) -> Mask:
    """What is brighter than air, with the holes filled slice by slice: a head or a stripped brain.

    Slices are those as they were acquired, across the coarsest axis, so that a head cut off by the
    field of view is filled as well.
    """
    background = _background(scan.data)
    bright = float(np.percentile(scan.data, 99)) - background
    foreground = scan.data - background > FOREGROUND_FRACTION * bright
    slices = np.moveaxis(foreground, int(np.argmax(scan.grid.spacing_mm)), 0)
    filled = np.stack([ndi.binary_fill_holes(ndi.binary_opening(each)) for each in slices])
    return np.ascontiguousarray(np.moveaxis(filled, 0, int(np.argmax(scan.grid.spacing_mm))))


def _background(data: Field) -> float:
    """What a scan shows in air; 0 unless intensities are negative."""
    return min(0.0, float(np.percentile(data, 1)))


def clipped(scan: Scan, head: Mask) -> Scan:
    """The scan without intensities below air's and above nearly all of the head's."""
    inside = scan.data[head] if head.any() else scan.data
    top = float(np.percentile(inside, BRIGHT_PERCENTILE))
    return Scan(np.clip(scan.data, _background(scan.data), top), scan.grid)


def overlap(
    fixed: Mask, fixed_grid: Grid, moving: Mask, moving_grid: Grid, to_moving: Affine
) -> float:
    """Dice of two masks within the field of view that both scans share.

    Parameters
    ----------
    fixed, moving
        ``(I, J, K)`` on their own grids.
    fixed_grid, moving_grid
        Those grids.
    to_moving
        ``(4, 4)``, points of the fixed scan to points of the moving one, RAS+ millimetres.

    Returns
    -------
    float
        0 to 1; 0 where the masks do not meet.
    """
    there = resample_onto(moving, moving_grid, fixed_grid, to_moving, nearest=True) > 0.5
    shared = fixed & field_of_view(moving_grid, fixed_grid, to_moving)
    sizes = int(np.count_nonzero(shared)) + int(np.count_nonzero(there))
    return 2 * int(np.count_nonzero(shared & there)) / sizes if sizes else 0.0


def sample_points(head: Mask, grid: Grid, *, seed: int = 0) -> Points:
    """Places ``(N, 3)`` in and around a head, in scanner millimetres, at random within voxels.

    That they are at random within voxels keeps a movement by whole voxels, which blurs nothing,
    from looking better than it is.
    """
    reach = ndi.distance_transform_edt(~head, sampling=grid.spacing_mm) <= REACH_MM
    generator = np.random.default_rng(seed)
    voxels = np.flatnonzero(reach)
    chosen = generator.choice(voxels, SAMPLES)
    ijk = np.column_stack(np.unravel_index(chosen, grid.shape)).astype(np.float64)
    return moved(ijk + generator.uniform(-0.5, 0.5, ijk.shape), grid.affine)


def mutual_information(fixed: Scan, moving: Scan, to_moving: Affine, points_mm: Points) -> float:
    """Information that one scan has about the other, in nats, at points of the fixed one.

    Parameters
    ----------
    fixed, moving
        The scans, intensities clipped (:func:`clipped`).
    to_moving
        ``(4, 4)``, points of the fixed scan to points of the moving one, RAS+ millimetres.
    points_mm
        ``(N, 3)`` in the fixed scan's scanner space (:func:`sample_points`).

    Returns
    -------
    float
        0 (none) to ``log(32)``, from a histogram of 32 by 32 bins. What lies outside of the moving
        scan's field of view counts as air, so that a movement cannot win by leaving the field.
    """
    return information_by(fixed, moving, points_mm)(to_moving)


def information_by(fixed: Scan, moving: Scan, points_mm: Points) -> Callable[[Affine], float]:
    """:func:`mutual_information` as a function of the matrix, for many of them."""
    one = _bins(_values_at(fixed, points_mm))
    air = float(moving.data.min())
    of_one = _entropy(np.bincount(one, minlength=BINS))

    def information(to_moving: Affine) -> float:
        other = _bins(_values_at(moving, moved(points_mm, to_moving), outside=air))
        joint = np.bincount(one * BINS + other, minlength=BINS**2).reshape(BINS, BINS)
        return of_one + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())

    return information


def _values_at(scan: Scan, points_mm: Points, *, outside: float | None = None) -> Field:
    """Intensities at points, linear in between; outside of the field of view air, the least."""
    air = float(scan.data.min()) if outside is None else outside
    to_index: Affine = np.linalg.inv(scan.grid.affine).astype(np.float64)
    at = moved(points_mm, to_index).T
    values: Field = ndi.map_coordinates(scan.data, at, order=1, mode="constant", cval=air)
    return values


def _bins(values: Field) -> npt.NDArray[np.intp]:
    """Which of :data:`BINS` equal bins each value falls into."""
    lowest, highest = float(values.min()), float(values.max())
    width = (highest - lowest) / BINS or 1.0
    return np.minimum(((values - lowest) / width).astype(np.intp), BINS - 1)


def _entropy(counts: npt.NDArray[np.integer]) -> float:
    """Entropy in nats of a histogram."""
    shares = counts[counts > 0] / counts.sum()
    return -math.fsum(shares * np.log(shares))


def centre_mm(mask: Mask, grid: Grid) -> npt.NDArray[np.float64]:
    """Mean ``(3,)`` of a mask's voxels in scanner millimetres; the grid's middle if it is empty."""
    if mask.any():
        centre: npt.NDArray[np.float64] = mask_points(mask, grid).mean(axis=0)
        return centre
    return middle_mm(grid)


def middle_mm(grid: Grid) -> npt.NDArray[np.float64]:
    """Middle ``(3,)`` of the field of view in scanner millimetres."""
    middle: npt.NDArray[np.float64] = (np.array(grid.shape, dtype=np.float64) - 1) / 2
    return np.asarray(grid.affine[:3, :3] @ middle + grid.affine[:3, 3])
