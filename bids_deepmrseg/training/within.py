"""Volumes to learn from within a brain: scans as they are, changed ones, painted heads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bids_deepmrseg.errors import TrainingError
from bids_deepmrseg.evaluation.whole import Models, segment_scan
from bids_deepmrseg.imaging.grid import Grid, Spacing, to_ras
from bids_deepmrseg.records import Case
from bids_deepmrseg.stages.within import THICK_MM, model_spacing_mm, prepare_within
from bids_deepmrseg.tasks import Task
from bids_deepmrseg.training.deform import blur, random_field, uniform, warp
from bids_deepmrseg.training.lesions import add_flow, add_lesions, paint_pair
from bids_deepmrseg.training.synthesis import OUTSIDE

THICKENED_SHARE = 0.7
THICKNESS_MM = (2.5, 8.0)
LESIONS_ADDED_SHARE = 0.8
FLOW_SHARE = 0.5
SULCAL_FLUID = 24  # of FreeSurfer's numbers; no brain

Field = npt.NDArray[np.float32]
Classes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Native:
    """A labelled head before preparation.

    Attributes
    ----------
    volumes
        One ``(I, J, K)`` array per channel.
    lesions, brain
        How much of each voxel they take, 0 to 1.
    grid
        Of all of them.
    """

    volumes: tuple[Field, ...]
    lesions: Field
    brain: Field
    grid: Grid


def brain_of(case: Case, locator: Task, models: Models) -> Mask:
    """The brain on the first scan of a case, as the app finds it, ``(I, J, K)`` on its grid."""
    first = Case(task=locator, bids_dir=case.bids_dir, scans=case.scans[:1], entities=case.entities)
    mask: Mask = segment_scan(first, models)[-1].dseg == locator.brain
    return mask


def keep_brain(case: Case, locator: Task, models: Models, folder: Path) -> Mask:
    """As :func:`brain_of`, found once and kept in a folder."""
    file = folder / f"brain_{case.stem}.npz"
    if not file.is_file():
        partial = folder / f".{file.name}"
        np.savez_compressed(partial, allow_pickle=False, brain=brain_of(case, locator, models))
        partial.replace(file)
    with np.load(file, allow_pickle=False) as arrays:
        brain: Mask = arrays["brain"]
    return brain


def changed_scan(native: Native, task: Task, generator: torch.Generator) -> tuple[Field, Classes]:
    """A labelled scan in thicker slices, if its own are thin, and with painted lesions added.

    Parameters
    ----------
    native
        The scan as it is.
    task
        Within a brain, of one label.
    generator
        Source of every random choice.

    Returns
    -------
    tuple
        ``(C, I, J, K)`` channels and ``(I, J, K)`` classes on the model grid.
    """
    turned = _turned(native)
    is_thin = turned.grid.spacing_mm[2] < THICK_MM
    if is_thin and uniform(0, 1, generator) < THICKENED_SHARE:
        turned = _in_slices(turned, generator)
    channels, classes = place_within(turned, task)
    if len(channels) != 2:
        return channels, classes
    spacing_mm = model_spacing_mm(turned.grid, task)
    if uniform(0, 1, generator) < LESIONS_ADDED_SHARE:
        channels, classes = add_lesions(channels, classes, spacing_mm, generator)
    return _with_flow(channels, spacing_mm, generator), classes


def painted_head(
    label_map: torch.Tensor, spacing_mm: Spacing, task: Task, generator: torch.Generator
) -> tuple[Field, Classes]:
    """A head painted with lesions, of random shape and slices, as the app would prepare it."""
    if len(task.channels) != 2:
        raise TrainingError(f"heads are painted as FLAIR and T1w; {task.name} reads other scans")
    shape = (label_map.shape[0], label_map.shape[1], label_map.shape[2])
    warped = warp(label_map, random_field(shape, generator), labels=True)
    pair = paint_pair(warped, spacing_mm, generator)
    is_brain = (warped > 0) & (warped < OUTSIDE) & (warped != SULCAL_FLUID)
    brain = blur(is_brain.float(), uniform(0.5, 2, generator)) > uniform(0.35, 0.6, generator)
    head = Native(
        (pair.flair.numpy(), pair.t1w.numpy()),
        pair.classes.numpy().astype(np.float32),
        brain.numpy().astype(np.float32),
        Grid(shape, np.diag([*spacing_mm, 1.0])),
    )
    is_thick = uniform(0, 1, generator) < THICKENED_SHARE
    shown = _in_slices(head, generator) if is_thick else head
    channels, classes = place_within(shown, task)
    return _with_flow(channels, model_spacing_mm(shown.grid, task), generator), classes


def _with_flow(channels: Field, spacing_mm: Spacing, generator: torch.Generator) -> Field:
    """Fluid brightened by its pulsation, in some of the heads."""
    if uniform(0, 1, generator) > FLOW_SHARE:
        return channels
    return add_flow(channels, spacing_mm, generator)


def place_within(native: Native, task: Task) -> tuple[Field, Classes]:
    """Channels as the app prepares them, and classes interpolated to the same grid."""
    prepared = prepare_within(native.volumes, native.grid, native.brain > 0.5, task)
    placement = prepared.placement
    shares = placement.resampling.apply(to_ras(native.lesions, native.grid)[0])
    return prepared.channels, (placement.crop.apply(shares) > 0.5).astype(np.uint8)


def _turned(native: Native) -> Native:
    """The same head with axes that run R, A, S."""
    *volumes, lesions, brain = (
        to_ras(one, native.grid)[0] for one in (*native.volumes, native.lesions, native.brain)
    )
    grid = to_ras(native.brain, native.grid)[1].turned
    return Native(tuple(volumes), lesions, brain, grid)


def _in_slices(native: Native, generator: torch.Generator) -> Native:
    """A head on a grid that runs R, A, S, averaged to thicker slices from a random one on."""
    grid = native.grid
    n = max(2, round(uniform(*THICKNESS_MM, generator) / grid.spacing_mm[2]))
    first = int(torch.randint(n, (), generator=generator))
    n_slices = (grid.shape[2] - first) // n

    def thick(one: Field) -> Field:
        kept = one[:, :, first : first + n * n_slices]
        slices: Field = kept.reshape(*one.shape[:2], n_slices, n).mean(axis=3)
        return slices

    to_thick = np.diag([1.0, 1.0, n, 1.0])
    to_thick[2, 3] = first + (n - 1) / 2
    return Native(
        tuple(thick(one) for one in native.volumes),
        thick(native.lesions),
        thick(native.brain),
        Grid((grid.shape[0], grid.shape[1], n_slices), grid.affine @ to_thick),
    )
