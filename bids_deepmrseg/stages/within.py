"""Stages 2 and 4 of 8, for tasks within a brain: slices as acquired, and the way back."""

import logging
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_deepmrseg.errors import GeometryError, InputDataError
from bids_deepmrseg.imaging.grid import (
    Crop,
    Grid,
    Placement,
    Spacing,
    crop_to,
    plan_resampling,
    to_ras,
)
from bids_deepmrseg.imaging.head import BRIGHTEST
from bids_deepmrseg.imaging.lesions import LesionRule, find_lesions, slice_axis_of
from bids_deepmrseg.records import LesionMap, Predicted, Prepared, Segmented
from bids_deepmrseg.tasks import Task

logger = logging.getLogger(__name__)

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

AROUND_BRAIN_MM = 4.0  # kept around the brain: its mask leaves sulci out, and may be a little off
THICK_MM = 2.0  # slices from here on are looked at as they were acquired, and only so
SLICED = ("sagittal", "coronal", "axial")  # what slices across each axis of a RAS+ array are
FAR_FROM_MEASURED = 0.25  # relative, from the thinnest and thickest slices that were measured
SAME_SPACING = 0.05  # relative: slices this near to the model's are taken as they are


def prepare_within(
    volumes: tuple[Field | None, ...], grid: Grid, brain: Mask, task: Task
) -> Prepared:
    """Put volumes on one grid on the model grid of a task within a brain; training calls this too.

    Parameters
    ----------
    volumes
        One ``(I, J, K)`` array per channel, all on ``grid``; ``None`` for an optional channel that
        is not there, which the networks see as zeros.
    grid
        Native lattice.
    brain
        ``(I, J, K)`` on that grid.
    task
        Gives the spacing of pixels.

    Returns
    -------
    Prepared
        Channels turned to RAS+, pixels of the task's spacing, cut to the brain, 0 further from it
        than 4 mm, divided by the median over the brain, in 0 to 4. Slices thicker than the task's
        spacing stay as they were acquired: nothing is interpolated through them.

    Raises
    ------
    GeometryError
        If a volume or the brain is not on the grid, or thick slices were not acquired axially.
    InputDataError
        If there is no brain, or a volume shows nothing in it.
    """
    if not brain.any():
        raise InputDataError(f"no brain was found, and {task.name} looks within it only")
    turned_brain, turn = to_ras(brain, grid)
    resampling = plan_resampling(turn.turned, model_spacing_mm(turn.turned, task))
    spacing_mm = resampling.target.spacing_mm
    inside = resampling.apply(turned_brain.astype(np.float32)) > 0.5
    near = near_brain(inside, spacing_mm)
    crop = crop_to(near, margin=0)
    channels = np.zeros((len(task.channels), *crop.apply(near).shape), dtype=np.float32)
    for number, volume in enumerate(volumes):
        if volume is not None:
            shown = resampling.apply(to_ras(volume, grid)[0].astype(np.float32))
            channels[number] = _normalised(shown, inside, task.channels[number], crop)
    channels *= crop.apply(near)
    return Prepared(channels, Placement(turn, resampling, crop))


def model_spacing_mm(turned: Grid, task: Task) -> Spacing:
    """Edges of the model grid's voxels for a scan whose axes run R, A, S.

    Raises
    ------
    GeometryError
        If the scan has thick slices that are not axial.
    """
    i, j, k = turned.spacing_mm
    thickest = int(np.argmax((i, j, k)))
    if thickest != 2 and turned.spacing_mm[thickest] >= THICK_MM and k < THICK_MM:
        raise GeometryError(
            f"the scan was acquired in {SLICED[thickest]} slices of "
            f"{turned.spacing_mm[thickest]:.1f} mm; the networks of {task.name} know axial slices, "
            f"or voxels below {THICK_MM:g} mm: use another scan of the session, if there is one"
        )
    as_acquired = k >= task.spacing_mm * (1 - SAME_SPACING)
    return task.spacing_mm, task.spacing_mm, k if as_acquired else task.spacing_mm


def doubts_of_slices(grid: Grid, task: Task) -> tuple[str, ...]:
    """A sentence where a scan's slices are far from those that the model was measured on."""
    if task.lesions is None or task.lesions.slices_mm is None:
        return ()
    low_mm, high_mm = task.lesions.slices_mm
    slice_mm = grid.spacing_mm[slice_axis_of(grid)]
    if low_mm * (1 - FAR_FROM_MEASURED) <= slice_mm <= high_mm * (1 + FAR_FROM_MEASURED):
        return ()
    doubt = (
        f"the slices are {slice_mm:.1f} mm thick, but {task.name} was measured well only on slices "
        f"of {low_mm:g} to {high_mm:g} mm: volumes may be far off, look at the picture "
        "(docs/accuracy.md)"
    )
    return (doubt,)


def near_brain(inside: Mask, spacing_mm: Spacing) -> Mask:
    """The brain and what lies up to 4 mm from it."""
    outside: npt.NDArray[np.float64] = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
    return outside <= AROUND_BRAIN_MM


def _normalised(shown: Field, inside: Mask, channel: str, crop: Crop) -> Field:
    """Intensities over the median of the brain's."""
    values = shown[inside & (shown > 0)]
    if values.size < 0.5 * int(inside.sum()):
        raise InputDataError(
            f"the {channel} scan shows hardly anything where the brain is: is it of the same head, "
            "and does it lie where the other scan lies?"
        )
    normalised: Field = np.clip(crop.apply(shown) / np.float32(np.median(values)), 0, BRIGHTEST)
    return normalised


def restore_within(
    predicted: Predicted, rule: LesionRule, *, brain_volume_mm3: float | None = None
) -> Segmented:
    """Bring the probability of lesions to the native grid, and keep what the rule calls lesions.

    Parameters
    ----------
    predicted
        Probabilities ``(2, I, J, K)`` on the model grid.
    rule
        What counts as a lesion.
    brain_volume_mm3
        Of this scan, where it was measured.

    Returns
    -------
    Segmented
        Lesions as label 1; the map of their probability, in half precision, from which the same
        lesions can be found again; and all probabilities, background first.
    """
    placement = predicted.placement
    probability = np.clip(placement.undo(predicted.probabilities[1]), 0, 1).astype(np.float16)
    lesions = find_lesions(probability, placement.native, rule)
    likely = probability.astype(np.float32)
    return Segmented(
        dseg=lesions.mask.astype(np.uint16),
        confidence=np.where(lesions.mask, likely, 1 - likely).astype(np.float32),
        grid=placement.native,
        probabilities=np.stack([1 - probability, probability]),
        brain_volume_mm3=brain_volume_mm3,
        certainties=predicted.certainties,
        lesion_map=LesionMap(probability, rule),
    )


def without_probabilities(segmented: Segmented) -> Segmented:
    """The same answer for users who did not ask for probabilities."""
    return replace(segmented, probabilities=None)
