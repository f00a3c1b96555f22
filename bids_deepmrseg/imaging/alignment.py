"""How one scan lies against another: volumes and points moved by a matrix, and what agrees then."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.grid import Affine, Grid

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

SAME_INDEX = 1e-4  # voxels; a header keeps no more of an affine, and no interpolation sees it
EDGE = 0.5 + 1e-3  # voxels; a voxel reaches half a voxel beyond its centre


def resample_onto(
    data: npt.NDArray[np.generic],
    source: Grid,
    target: Grid,
    matrix: Affine,
    *,
    nearest: bool = False,
) -> Field:
    """Show a volume on another grid, after a movement.

    Parameters
    ----------
    data
        ``(I, J, K)`` on ``source``.
    source, target
        Where the volume is, and where it is wanted.
    matrix
        ``(4, 4)``, points of ``target``'s scanner space to ``source``'s, in RAS+ millimetres.
    nearest
        Whether to take the nearest voxel as it is, as masks and labels need it. Otherwise linear
        interpolation; where ``target`` is coarser by half and more along an axis, the mean over its
        voxel, so that a thick slice shows what it would have shown had it been acquired.

    Returns
    -------
    ndarray
        ``(I, J, K)`` float32 on ``target``, 0 outside the field of view of ``source``. Where voxels
        fall upon voxels the values are exactly those of ``data``.

    Raises
    ------
    GeometryError
        If ``data`` is not on ``source``.
    """
    if data.shape != source.shape:
        raise GeometryError(f"array {data.shape} is not on its grid {source.shape}")
    values = data.astype(np.float32)
    to_index = index_matrix(source, target, matrix)
    shifts = [np.zeros(3)] if nearest else list(_shifts(to_index))
    total = np.zeros(target.shape, np.float32)
    for shift in shifts:
        total += ndi.affine_transform(
            values,
            to_index[:3, :3],
            _rounded(to_index[:3, :3] @ shift + to_index[:3, 3]),
            output_shape=target.shape,
            output=np.float32,
            order=0 if nearest else 1,
            mode="nearest",
        )
    total[~field_of_view(source, target, matrix)] = 0
    return total / np.float32(len(shifts))


def index_matrix(source: Grid, target: Grid, matrix: Affine) -> Affine:
    """Voxel indices of ``target`` to voxel indices of ``source``, free of rounding noise."""
    return _rounded(np.linalg.inv(source.affine) @ matrix @ target.affine)


def _rounded(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Whole numbers where the difference is noise, so that voxels upon voxels stay as they are."""
    whole = np.rint(numbers)
    return np.where(np.abs(numbers - whole) < SAME_INDEX, whole, numbers)


def _shifts(to_index: Affine) -> Iterator[npt.NDArray[np.float64]]:
    """Places within a target voxel, in voxels, at which a finer source is to be read."""
    counts = np.maximum(1, np.rint(np.linalg.norm(to_index[:3, :3], axis=0))).astype(int)
    lines = [(np.arange(n) - (n - 1) / 2) / n for n in counts]
    return (np.array(place) for place in product(*lines))


def field_of_view(source: Grid, target: Grid, matrix: Affine) -> Mask:
    """Voxels ``(I, J, K)`` of ``target`` whose middle falls into a voxel of ``source``."""
    to_index = index_matrix(source, target, matrix)
    i, j, k = np.ogrid[tuple(slice(n) for n in target.shape)]
    within = np.ones(target.shape, dtype=bool)
    for row, size in zip(to_index[:3], source.shape, strict=True):
        at = (row[0] * i + (row[1] * j + (row[2] * k + row[3]))).astype(np.float32)
        within &= (at >= -EDGE) & (at <= size - 1 + EDGE)
    return within


def moved(points_mm: Points, matrix: Affine) -> Points:
    """Points ``(N, 3)`` in scanner millimetres, moved by a ``(4, 4)`` matrix."""
    there: Points = points_mm @ matrix[:3, :3].T + matrix[:3, 3]
    return there


def mask_points(mask: Mask, grid: Grid) -> Points:
    """Middles ``(N, 3)`` of a mask's voxels in scanner millimetres."""
    return moved(np.argwhere(mask).astype(np.float64), grid.affine)


def mean_displacement_mm(one: Affine, other: Affine, points_mm: Points) -> float:
    """How far apart two matrices put the same points, on average over ``(N, 3)`` of them."""
    apart = moved(points_mm, one) - moved(points_mm, other)
    return float(np.linalg.norm(apart, axis=1).mean())


def rotation_deg(matrix: Affine) -> float:
    """Angle of a rigid matrix' rotation about its axis, 0 to 180 degrees."""
    cosine = (np.trace(matrix[:3, :3]) - 1) / 2
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def rigid_about(
    centre_mm: npt.ArrayLike, rotation: npt.NDArray[np.float64], shift_mm: npt.ArrayLike
) -> Affine:
    """The ``(4, 4)`` matrix that turns by ``rotation`` ``(3, 3)`` about a point, then shifts."""
    centre = np.asarray(centre_mm, dtype=np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre - rotation @ centre + np.asarray(shift_mm, dtype=np.float64)
    return matrix
