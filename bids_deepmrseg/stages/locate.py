"""Between stages 1 and 2, for tasks with a region: where its places lie, and if that was right."""

import logging
import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_deepmrseg.errors import GeometryError, SegmentationError
from bids_deepmrseg.imaging.grid import (
    Crop,
    Grid,
    Placement,
    Resampling,
    crop_to,
    plan_resampling,
    to_ras,
)
from bids_deepmrseg.records import Located, Segmented
from bids_deepmrseg.tasks import Label, Region, Task

logger = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]

IMPOSSIBLE_TIMES = 2.0  # beyond the adult range by this factor, a label is no such structure
PIECE_GAP_MM = 6.0  # parts of one structure lie nearer together than this
MIN_IN_ONE_PIECE = 0.8  # of a structure's voxels
MIN_AGREEMENT = 0.6  # Dice; docs/decisions/0009


def locate(
    dseg: npt.NDArray[np.integer], grid: Grid, task: Task, locator: Task
) -> tuple[Located, ...]:
    """Find the box of every place of a task's region, as its training crops were cut.

    Parameters
    ----------
    dseg
        ``(I, J, K)`` labels of the locating task, on the native grid.
    grid
        Native lattice.
    task
        Has a region.
    locator
        The task that ``dseg`` is of.

    Returns
    -------
    tuple
        One entry per place of the region: the box around its label with the region's margin, at
        the task's spacing, right and left exchanged where the place is mirrored.

    Raises
    ------
    SegmentationError
        If a label is absent, in pieces, or too small, large or long to be what its name says.
    GeometryError
        If a box reaches beyond the scan, or labels and grid disagree.
    """
    turned, turn = to_ras(np.asarray(dseg), grid)
    resampling = plan_resampling(turn.turned, task.spacing_mm)
    labels = {label.index: label for label in locator.told_apart}
    located = []
    for place in _region(task).places:
        label = labels[place.located_by]
        mask = turned == label.index
        who = f"{label.name} of {locator.name}, around which {task.name} is segmented,"
        doubts = _check_volume(mask, grid, label, who)
        crop = _box(mask, resampling, _region(task), who)
        placement = Placement(turn, resampling, crop, mirrored=place.mirrored)
        located.append(Located(place, placement, doubts))
        logger.debug("%s: box of %s voxels", label.name, placement.model.shape)
    return tuple(located)


def _region(task: Task) -> Region:
    """The region of a task that has one."""
    if task.region is None:
        raise ValueError(f"task {task.name} has no region")
    return task.region


def _check_volume(mask: Mask, grid: Grid, label: Label, who: str) -> tuple[str, ...]:
    """Refuse a volume that no such structure has; tell of one that is unusual."""
    volume_ml = int(mask.sum()) * grid.voxel_volume_mm3 / 1000
    if not volume_ml:
        raise SegmentationError(f"{who} was not found; look at the scan")
    if label.adult_range is None:
        return ()
    low_ml, high_ml = label.adult_range.low_ml, label.adult_range.high_ml
    sentence = f"{who} has {volume_ml:.2f} ml; adults have {low_ml:g} to {high_ml:g} ml"
    if not low_ml / IMPOSSIBLE_TIMES <= volume_ml <= high_ml * IMPOSSIBLE_TIMES:
        raise SegmentationError(f"{sentence}: what was found there cannot be it; look at the scan")
    return () if low_ml <= volume_ml <= high_ml else (f"{sentence}: look at the picture",)


def _box(mask: Mask, resampling: Resampling, region: Region, who: str) -> Crop:
    """The box of a label with its margin on the model's lattice."""
    spacing_mm = resampling.target.spacing_mm
    fine = _one_piece(resampling.apply(mask.astype(np.float32)) >= 0.5, spacing_mm[0], who)
    tight = crop_to(fine, margin=0)
    lengths_mm = [
        (b - a) * mm for a, b, mm in zip(tight.start, tight.stop, spacing_mm, strict=True)
    ]
    if max(lengths_mm) > region.largest_mm:
        raise SegmentationError(
            f"{who} is {max(lengths_mm):.0f} mm long: what was found cannot be it; look at the scan"
        )
    margins = [round(mm / step) for mm, step in zip(region.margin_mm, spacing_mm, strict=True)]
    i0, j0, k0 = (a - m for a, m in zip(tight.start, margins, strict=True))
    i1, j1, k1 = (b + m for b, m in zip(tight.stop, margins, strict=True))
    if min(i0, j0, k0) < 0 or any(b > n for b, n in zip((i1, j1, k1), fine.shape, strict=True)):
        raise GeometryError(f"{who} reaches the edge of the scan, where it may be cut")
    return Crop(tight.full, (i0, j0, k0), (i1, j1, k1))


def _one_piece(mask: Mask, spacing_mm: float, who: str) -> Mask:
    """The main piece of a label, small gaps allowed."""
    if not mask.any():
        raise SegmentationError(f"{who} is thinner than a voxel of {spacing_mm:g} mm")
    gap = max(1, round(PIECE_GAP_MM / spacing_mm / 2))
    near = crop_to(mask, margin=gap + 1)
    cut = near.apply(mask)
    wide = ndimage.binary_dilation(cut, iterations=gap)
    pieces, n_pieces = ndimage.label(wide, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces[cut], minlength=n_pieces + 1)
    if sizes.max() < MIN_IN_ONE_PIECE * sizes.sum():
        raise SegmentationError(
            f"{who} lies in {n_pieces} places that are apart; one of them at most can be it; "
            "look at the scan"
        )
    return near.undo(cut & (pieces == sizes.argmax()))


def check_found(
    segmented: Segmented, dseg: npt.NDArray[np.integer], task: Task, locator: Task
) -> None:
    """Make sure that what was found in every place is what the place was cut around.

    Parameters
    ----------
    segmented
        The task's answer on the native grid.
    dseg
        ``(I, J, K)`` labels of the locating task on the same grid.
    task
        Has a region.
    locator
        The task that ``dseg`` is of.

    Raises
    ------
    SegmentationError
        If a label of the task has no voxel, or all labels of a place together overlap too little
        with the label that the place was cut around.
    """
    names = {label.index: label.name for label in locator.told_apart}
    for place in _region(task).places:
        labels = task.labels_of(place)
        for label in labels:
            if not (segmented.dseg == label.index).any():
                raise SegmentationError(f"the networks found no {label.name}; look at the scan")
        found = np.isin(segmented.dseg, [label.index for label in labels])
        agreement = _dice(found, dseg == place.located_by)
        logger.debug("%s: Dice with %s %.2f", names[place.located_by], locator.name, agreement)
        if not agreement >= MIN_AGREEMENT:
            raise SegmentationError(
                f"the networks of {task.name} and {locator.name} disagree about where "
                f"{names[place.located_by]} is (Dice {agreement:.2f}); look at the scan"
            )


def _dice(one: Mask, other: Mask) -> float:
    """Overlap of two masks; ``nan`` where both are empty."""
    n_voxels = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / n_voxels if n_voxels else math.nan
