"""Damages that change where voxels lie, and how label maps go there and come back."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_deepmrseg.errors import GeometryError, UsageError
from bids_deepmrseg.imaging.grid import Affine, Crop, Grid, Shape, crop_to, plan_resampling, to_ras

Field = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint16]

EXACT_VOXELS = 1e-4  # a step that is whole within this moves voxels without interpolation
FOREGROUND_FRACTION = 0.12  # of the 99th percentile, as imaging.head sees heads
AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
STORAGE_ORDERS: tuple[str, ...] = tuple(
    a + b + c
    for a in AXES
    for b in AXES
    for c in AXES
    if {AXES[a][0], AXES[b][0], AXES[c][0]} == {0, 1, 2}
)  # all 48 ways in which axes can run


@dataclass(frozen=True, slots=True, eq=False)
class Damaged:
    """A damaged scan, and where its head went.

    Attributes
    ----------
    data
        ``(I, J, K)`` intensities.
    grid
        Their lattice.
    moved
        ``(4, 4)``, undamaged to damaged place of a point of the head, in scanner millimetres; the
        identity where the head stays and only the scan of it changes.
    """

    data: Field
    grid: Grid
    moved: Affine

    def there(self, labels: Labels, grid: Grid) -> Labels:
        """Take labels ``(I, J, K)`` from the undamaged grid to the damaged one."""
        return carry_labels(labels, grid, self.grid, self.moved)

    def back(self, labels: Labels, grid: Grid) -> Labels:
        """Bring labels ``(I, J, K)`` from the damaged grid to the undamaged ``grid``."""
        return carry_labels(labels, self.grid, grid, np.linalg.inv(self.moved).astype(np.float64))


def stays(data: Field, grid: Grid) -> Damaged:
    """A damaged scan whose head has not moved in scanner space."""
    return Damaged(data, grid, np.eye(4))


def carry_labels(labels: Labels, source: Grid, target: Grid, moved: Affine) -> Labels:
    """Put a label map on another grid.

    Parameters
    ----------
    labels
        ``(I, J, K)`` on ``source``.
    source, target
        Lattices.
    moved
        ``(4, 4)``, place on the source to place on the target of the same point, in millimetres.

    Returns
    -------
    ndarray
        On ``target``; background where the source does not reach. Where whole voxels fall on whole
        voxels each is copied, which is exact. Elsewhere every label is interpolated linearly, and
        the highest share wins, so that borders are not moved by half a voxel to one side.

    Raises
    ------
    GeometryError
        If ``labels`` are not on ``source``.
    """
    if labels.shape != source.shape:
        raise GeometryError(f"label map {labels.shape} is not on its grid {source.shape}")
    step = np.linalg.inv(source.affine) @ np.linalg.inv(moved) @ target.affine
    whole = np.rint(step)
    corner = np.abs(step - whole)[:3] @ np.array([*target.shape, 1.0])
    if corner.max() < EXACT_VOXELS and abs(round(np.linalg.det(whole))) == 1:
        return _copied(labels, whole, target)
    if not labels.any():
        return np.zeros(target.shape, np.uint16)
    shown = crop_to(labels > 0, margin=1)
    reached = _reached(shown, step, target.shape)
    if reached is None:
        return np.zeros(target.shape, np.uint16)
    return reached.undo(_voted(shown.apply(labels), _between(shown, step, reached), reached))


def _reached(shown: Crop, step: Affine, shape: Shape) -> Crop | None:
    """The box of the target that a box of the source falls into; ``None`` where it misses it."""
    corners = np.array(np.meshgrid(*zip(shown.start, shown.stop, strict=True))).reshape(3, -1)
    to_target = np.linalg.inv(step)
    there = to_target[:3, :3] @ corners + to_target[:3, 3:]
    start = np.maximum(0, np.floor(there.min(axis=1)).astype(int) - 1)
    stop = np.minimum(shape, np.ceil(there.max(axis=1)).astype(int) + 2)
    return Crop(shape, _shape(start), _shape(stop)) if (start < stop).all() else None


def _between(shown: Crop, step: Affine, reached: Crop) -> Affine:
    """The step from a box of the target to a box of the source."""
    into, out_of = np.eye(4), np.eye(4)
    into[:3, 3] = reached.start
    out_of[:3, 3] = -np.array(shown.start)
    between: Affine = out_of @ step @ into
    return between


def _copied(labels: Labels, step: Affine, target: Grid) -> Labels:
    """Labels whose axes are permuted, flipped and shifted by whole voxels."""
    axes = np.abs(step[:3, :3]).argmax(axis=0)
    ordered = np.transpose(labels, axes)
    taken, filled = [], []
    for axis, source in enumerate(axes):
        at = step[source, axis] * np.arange(target.shape[axis]) + step[source, 3]
        inside = np.flatnonzero((at >= 0) & (at < ordered.shape[axis]))
        filled.append(inside)
        taken.append(at[inside].astype(int))
    copied = np.zeros(target.shape, np.uint16)
    copied[np.ix_(*filled)] = ordered[np.ix_(*taken)]
    return copied


def _voted(labels: Labels, step: Affine, box: Crop) -> Labels:
    """The label of the highest share in every voxel of a box of the target."""
    within = Grid(_shape(np.subtract(box.stop, box.start)), np.eye(4))
    winner = np.zeros(within.shape, np.uint16)
    best = 1 - _sampled((labels > 0).astype(np.float32), step, within, order=1)
    for index in (int(index) for index in np.unique(labels) if index):
        share = _sampled((labels == index).astype(np.float32), step, within, order=1)
        higher = share > best
        winner[higher] = index
        best[higher] = share[higher]
    return winner


def _shape(counts: npt.NDArray[np.integer]) -> Shape:
    """Three numbers as a shape."""
    i, j, k = (int(n) for n in counts)
    return i, j, k


def _sampled(values: Field, step: Affine, target: Grid, *, order: int, outside: float = 0) -> Field:
    """Values at the target's voxels; ``step`` takes their indices to those of ``values``."""
    sampled: Field = ndimage.affine_transform(
        values,
        step[:3, :3],
        step[:3, 3],
        output_shape=target.shape,
        order=order,
        mode="constant",
        cval=outside,
    )
    return sampled


def store_as(data: Field, grid: Grid, orientation: str) -> Damaged:
    """The same head with its voxels stored in another order; the affine follows.

    Parameters
    ----------
    data, grid
        A scan.
    orientation
        One of :data:`STORAGE_ORDERS`, such as ``LPS``: where the axes then run.
    """
    if orientation not in STORAGE_ORDERS:
        raise UsageError(f"{orientation!r} is no storage order; it is three letters such as LPS")
    turned, turn = to_ras(data, grid)
    axes = [AXES[letter] for letter in orientation]
    stored = np.transpose(turned, [axis for axis, _ in axes])
    to_ras_index = np.zeros((4, 4))
    to_ras_index[3, 3] = 1
    for new, (axis, sign) in enumerate(axes):
        to_ras_index[axis, new] = sign
        to_ras_index[axis, 3] = 0 if sign > 0 else turned.shape[axis] - 1
    flips = tuple(slice(None, None, sign) for _, sign in axes)
    stored = np.ascontiguousarray(stored[flips])
    return stays(stored, Grid(_shape(np.array(stored.shape)), turn.turned.affine @ to_ras_index))


def resample(data: Field, grid: Grid, spacing_mm: float) -> Damaged:
    """The same field of view in cubic voxels of ``spacing_mm``; larger ones average what they hold.

    Raises
    ------
    GeometryError
        If the scan's axes are not at right angles.
    """
    plan = plan_resampling(grid, spacing_mm)
    return stays(plan.apply(data), plan.target)


def _rotation(angles_deg: tuple[float, float, float], centre_mm: npt.NDArray[np.float64]) -> Affine:
    """Rotation about a point by angles about R (nodding), A (tilting) and S (turning), in turn."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_deg)):
        one, other = [a for a in range(3) if a != axis]
        about = np.eye(3)
        about[one, one] = about[other, other] = np.cos(angle)
        about[one, other], about[other, one] = -np.sin(angle), np.sin(angle)
        rotation = about @ rotation
    moved = np.eye(4)
    moved[:3, :3] = rotation
    moved[:3, 3] = centre_mm - rotation @ centre_mm
    return moved


def _centre_mm(grid: Grid) -> npt.NDArray[np.float64]:
    """The middle of the field of view in scanner space."""
    middle: npt.NDArray[np.float64] = grid.affine[:3] @ [*((np.array(grid.shape) - 1) / 2), 1.0]
    return middle


def rotate_head(data: Field, grid: Grid, angles_deg: tuple[float, float, float]) -> Damaged:
    """The head lies rotated in the scanner: voxels are interpolated linearly.

    Parameters
    ----------
    data, grid
        A scan.
    angles_deg
        About R (nodding), A (tilting to a shoulder) and S (turning to a side), about the middle of
        the field of view. The lattice keeps directions and spacing and grows until the whole old
        field of view fits in; what was never scanned is as dark as the darkest voxel.
    """
    moved = _rotation(angles_deg, _centre_mm(grid))
    to_index = np.linalg.inv(grid.affine) @ moved @ grid.affine
    corners = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in grid.shape))).reshape(3, -1)
    reached = to_index[:3, :3] @ corners + to_index[:3, 3:]
    first = np.floor(reached.min(axis=1) + 0.5).astype(int)
    last = np.ceil(reached.max(axis=1) - 0.5).astype(int)
    shift = np.eye(4)
    shift[:3, 3] = first
    larger = Grid(_shape(last - first + 1), grid.affine @ shift)
    step = np.linalg.inv(grid.affine) @ np.linalg.inv(moved) @ larger.affine
    rotated = _sampled(data, step, larger, order=1, outside=float(data.min()))
    return Damaged(rotated.astype(np.float32), larger, moved)


def rotate_affine(data: Field, grid: Grid, angles_deg: tuple[float, float, float]) -> Damaged:
    """An oblique scan: the same voxels, rotated only by what the affine says of them."""
    moved = _rotation(angles_deg, _centre_mm(grid))
    return Damaged(data, Grid(grid.shape, moved @ grid.affine), moved)


def foreground_of(data: Field) -> npt.NDArray[np.bool_]:
    """What is brighter than air, as imaging.head tells it."""
    dark = min(0.0, float(np.percentile(data, 1)))
    mask: npt.NDArray[np.bool_] = data - dark > FOREGROUND_FRACTION * (
        float(np.percentile(data, 99)) - dark
    )
    return mask


def head_extent(data: Field) -> Iterator[tuple[int, int]]:
    """First and last slice of the head along each axis; slices with hardly any tissue are air."""
    foreground = foreground_of(data)
    for axis in range(3):
        filled = foreground.sum(axis=tuple(a for a in range(3) if a != axis))
        shown = np.flatnonzero(filled > 0.02 * filled.max())
        yield int(shown[0]), int(shown[-1])


def cut_off(data: Field, grid: Grid, side: str, amount_mm: float) -> Damaged:
    """The field of view ends inside the head.

    Parameters
    ----------
    data, grid
        A scan.
    side
        ``R``, ``L``, ``A``, ``P``, ``S`` or ``I``: where the slab is cut off.
    amount_mm
        How much of the head is lost there, measured from its skin.

    Raises
    ------
    GeometryError
        If nothing of the head would be left.
    """
    axis, sign = _stored(grid, side)
    n_voxels = round(amount_mm / grid.spacing_mm[axis])
    first, last = list(head_extent(data))[axis]
    start, stop = np.zeros(3, int), np.array(data.shape)
    if sign > 0:
        stop[axis] = last + 1 - n_voxels
    else:
        start[axis] = first + n_voxels
    if stop[axis] - start[axis] < 1:
        raise GeometryError(f"{amount_mm:g} mm cut off {side} leave nothing of the head")
    shift = np.eye(4)
    shift[:3, 3] = start
    kept = Crop(grid.shape, _shape(start), _shape(stop))
    cut = np.ascontiguousarray(kept.apply(data))
    return stays(cut, Grid(_shape(stop - start), grid.affine @ shift))


def _stored(grid: Grid, side: str) -> tuple[int, int]:
    """The array axis on which a side of the head lies, and whether at its end (1) or start (-1)."""
    axis, sign = AXES[side]
    for stored, letter in enumerate(grid.orientation):
        if AXES[letter][0] == axis:
            return stored, sign * AXES[letter][1]
    raise GeometryError(f"no axis of the scan runs towards {side}")
