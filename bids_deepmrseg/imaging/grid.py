"""The lattice of a scan, and every change of it together with how to undo that change."""

from dataclasses import dataclass, replace
from typing import TypeVar

import nibabel.orientations as nbo
import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import GeometryError

Affine = npt.NDArray[np.float64]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
Scalar = TypeVar("Scalar", bound=np.generic)

AFFINE_TOLERANCE_MM = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A regular lattice of voxels in scanner space.

    Holds an array, so ``==`` is switched off; compare with :meth:`matches`.

    Attributes
    ----------
    shape
        Voxel counts ``(I, J, K)``.
    affine
        ``(4, 4)`` float64, voxel index ``ijk`` to RAS+ millimetres.
    """

    shape: Shape
    affine: Affine

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(f"a grid has three axes of one voxel or more, got {self.shape}")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise GeometryError("affine must be a (4, 4) matrix of finite numbers")
        if not self.voxel_volume_mm3 > 1e-9:
            raise GeometryError("affine is singular: voxels would have no volume")

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel; the determinant also holds for oblique and sheared grids."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along ``I``, ``J`` and ``K``."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def orientation(self) -> str:
        """Anatomical directions in which the axes run, such as ``RAS`` or ``LPS``."""
        return "".join(nbo.aff2axcodes(self.affine))

    def matches(self, other: "Grid", *, tolerance_mm: float = AFFINE_TOLERANCE_MM) -> bool:
        """Whether both grids put every voxel at the same place, within ``tolerance_mm``."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*((0, n - 1) for n in self.shape))).reshape(3, -1)
        apart_mm = (self.affine - other.affine)[:3] @ np.vstack(
            [corners, np.ones(corners.shape[1])]
        )
        return bool(np.abs(apart_mm).max() <= tolerance_mm)


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A reorientation to RAS+ that was done, kept so that it can be undone."""

    native: Grid
    orientation: npt.NDArray[np.float64]  # (3, 2), nibabel's axis/flip table

    @property
    def turned(self) -> Grid:
        """The same lattice with its axes running R, A, S."""
        shape = np.empty(3, dtype=int)
        shape[self.orientation[:, 0].astype(int)] = self.native.shape
        affine = self.native.affine @ nbo.inv_ornt_aff(self.orientation, self.native.shape)
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    def undo(self, data_ras: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Put an array made on the RAS+ grid back on the native grid."""
        back = nbo.ornt_transform(nbo.axcodes2ornt("RAS"), self.orientation)
        native: npt.NDArray[Scalar] = nbo.apply_orientation(data_ras, back)
        if native.shape != self.native.shape:
            raise GeometryError(f"expected {self.native.shape}, got {native.shape}")
        return native


def to_ras(data: npt.NDArray[Scalar], grid: Grid) -> tuple[npt.NDArray[Scalar], Turn]:
    """Flip and swap axes, without interpolation, until the array runs R, A, S."""
    if data.shape != grid.shape:
        raise GeometryError(f"array {data.shape} is not on its grid {grid.shape}")
    orientation = nbo.io_orientation(grid.affine)
    return nbo.apply_orientation(data, orientation), Turn(grid, orientation)


def _line_weights(n_from: int, n_to: int, step: float) -> npt.NDArray[np.float32]:
    """Weights ``(n_to, n_from)`` of linear interpolation on one axis.

    Output voxels lie ``step`` input voxels apart, both lines share their middle. For steps
    above 1 the kernel widens to the step, so that down-sampling averages what it skips.
    """
    at = (np.arange(n_to) - (n_to - 1) / 2) * step + (n_from - 1) / 2
    at = np.clip(at, 0, n_from - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n_from)) / max(1.0, step))
    normalised: npt.NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype("f4")
    return normalised


def _along_axis(
    weights: npt.NDArray[np.float32], data: npt.NDArray[np.float32], axis: int
) -> npt.NDArray[np.float32]:
    """Matrix product of ``(n_to, n_from)`` weights with one axis of a ``(I, J, K)`` array."""
    if weights.shape[0] == weights.shape[1] and np.array_equal(weights, np.eye(len(weights))):
        return data
    product: npt.NDArray[np.float32] = np.einsum(
        "ab," + ("bjk->ajk", "ibk->iak", "ijb->ija")[axis], weights, data, optimize=True
    )
    return np.ascontiguousarray(product)


def _interpolate(
    data: npt.NDArray[np.floating], shape: Shape, steps: tuple[float, float, float]
) -> npt.NDArray[np.float32]:
    """Separable linear interpolation, one matrix product per axis."""
    result = data.astype(np.float32, copy=False)
    for axis, (n_to, step) in enumerate(zip(shape, steps, strict=True)):
        weights = _line_weights(result.shape[axis], n_to, step)
        result = _along_axis(weights, result, axis)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """An interpolation between two grids that share axes and centre, kept to be undone."""

    source: Grid
    target: Grid

    @property
    def _steps(self) -> tuple[float, float, float]:
        """Target spacing in source voxels, per axis."""
        i, j, k = np.array(self.target.spacing_mm) / np.array(self.source.spacing_mm)
        return float(i), float(j), float(k)

    def apply(self, data: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Interpolate from ``source`` to ``target``."""
        return _interpolate(data, self.target.shape, self._steps)

    def undo(self, data: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Interpolate from ``target`` back to ``source``."""
        i, j, k = self._steps
        return _interpolate(data, self.source.shape, (1 / i, 1 / j, 1 / k))


def plan_resampling(grid: Grid, spacing_mm: float | Spacing) -> Resampling:
    """The grid of ``spacing_mm`` that shares axes and centre with ``grid``.

    Parameters
    ----------
    grid
        To resample from.
    spacing_mm
        Edge of cubic voxels, or the edges of voxels along each axis.

    Raises
    ------
    GeometryError
        If the axes of ``grid`` are not at right angles, so that such voxels cannot fit them.
    """
    directions = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    if np.abs(directions.T @ directions - np.eye(3)).max() > 0.02:
        raise GeometryError("the axes of the scan are not at right angles (sheared affine)")
    steps = np.array(spacing_mm) / np.array(grid.spacing_mm)
    counts = np.maximum(1, np.round(np.array(grid.shape) / steps - 1e-6)).astype(int)
    offset = (np.array(grid.shape) - 1) / 2 - steps * (counts - 1) / 2
    to_source = np.diag([*steps, 1.0])
    to_source[:3, 3] = offset
    shape = (int(counts[0]), int(counts[1]), int(counts[2]))
    return Resampling(grid, Grid(shape, grid.affine @ to_source))


@dataclass(frozen=True, slots=True)
class Crop:
    """A box cut out of an array of ``full`` shape, kept so that it can be put back."""

    full: Shape
    start: Shape
    stop: Shape

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index."""
        i, j, k = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    def apply(self, data: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Cut the box out of the last three axes of ``data``."""
        cut: npt.NDArray[Scalar] = data[(..., *self.slices)]
        return cut

    def undo(self, data: npt.NDArray[Scalar], *, fill: float = 0) -> npt.NDArray[Scalar]:
        """Put the box back into a full array that holds ``fill`` elsewhere."""
        full: npt.NDArray[Scalar] = np.full((*data.shape[:-3], *self.full), fill, dtype=data.dtype)
        full[(..., *self.slices)] = data
        return full


def crop_to(mask: npt.NDArray[np.bool_], *, margin: int) -> Crop:
    """The smallest box around ``mask``, widened by ``margin`` voxels where there is room."""
    if not mask.any():
        raise GeometryError("there is nothing to crop to: the mask is empty")
    bounds = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        bounds.append(
            (max(0, int(filled[0]) - margin), min(mask.shape[axis], int(filled[-1]) + 1 + margin))
        )
    (i0, i1), (j0, j1), (k0, k1) = bounds
    n_i, n_j, n_k = mask.shape
    return Crop((n_i, n_j, n_k), (i0, j0, k0), (i1, j1, k1))


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where the model grid lies in the native one: turned, resampled, cropped, perhaps mirrored.

    Attributes
    ----------
    turn, resampling, crop
        The steps, in the order in which they were done.
    mirrored
        Whether right and left were then exchanged within the box.
    """

    turn: Turn
    resampling: Resampling
    crop: Crop
    mirrored: bool = False

    @property
    def native(self) -> Grid:
        """The grid of the scan as it was read."""
        return self.turn.native

    @property
    def model(self) -> Grid:
        """The grid that the network works on; mirrored, its first axis runs from right to left."""
        i, j, k = (b - a for a, b in zip(self.crop.start, self.crop.stop, strict=True))
        to_target = np.eye(4)
        to_target[:3, 3] = self.crop.start
        if self.mirrored:
            to_target[0] = (-1, 0, 0, self.crop.stop[0] - 1)
        return Grid((i, j, k), self.resampling.target.affine @ to_target)

    def cut(self, resampled: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Take the model grid's part of arrays ``(..., I, J, K)`` on the resampling's target."""
        return self._mirrored_or_not(self.crop.apply(resampled))

    def within(self, inner: Crop) -> "Placement":
        """The placement of a box cut out of the model grid."""
        start, stop = list(inner.start), list(inner.stop)
        if self.mirrored:
            n_i = self.crop.stop[0] - self.crop.start[0]
            start[0], stop[0] = n_i - inner.stop[0], n_i - inner.start[0]
        i0, j0, k0 = (a + b for a, b in zip(self.crop.start, start, strict=True))
        i1, j1, k1 = (a + b for a, b in zip(self.crop.start, stop, strict=True))
        return replace(self, crop=Crop(self.crop.full, (i0, j0, k0), (i1, j1, k1)))

    def _mirrored_or_not(self, data: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Exchange right and left where this placement does; doing it twice undoes it."""
        return np.ascontiguousarray(data[..., ::-1, :, :]) if self.mirrored else data

    def undo_box(self, data: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float32], Crop]:
        """Bring one field that is zero outside the model grid back, but only where it can reach.

        Parameters
        ----------
        data
            ``(I, J, K)`` on the model grid.

        Returns
        -------
        tuple
            The field at native spacing, axes still running R, A, S, and the box of the turned
            native grid that it fills; it is zero elsewhere.
        """
        source, target = self.resampling.source, self.resampling.target
        result = self._mirrored_or_not(data.astype(np.float32, copy=False))
        start, stop = [0, 0, 0], [0, 0, 0]
        for axis in range(3):
            step = source.spacing_mm[axis] / target.spacing_mm[axis]
            weights = _line_weights(target.shape[axis], source.shape[axis], step)
            weights = weights[:, self.crop.start[axis] : self.crop.stop[axis]]
            reached = np.flatnonzero(weights.any(axis=1))
            start[axis], stop[axis] = int(reached[0]), int(reached[-1]) + 1
            result = _along_axis(weights[start[axis] : stop[axis]], result, axis)
        box = Crop(source.shape, (start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        return result, box

    def undo(self, data: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Bring one field that is zero outside the model grid back to the whole native grid."""
        result, box = self.undo_box(data)
        native: npt.NDArray[np.float32] = self.turn.undo(box.undo(result)).astype(np.float32)
        return native
