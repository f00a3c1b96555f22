"""Stage 2 of 8: the scans of a case become channels on the model grid, normalised."""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import GeometryError, InputDataError
from bids_deepmrseg.imaging.grid import Crop, Grid, Placement, plan_resampling, to_ras
from bids_deepmrseg.imaging.head import BRIGHTEST, find_brain_frame, frame_crop
from bids_deepmrseg.imaging.nifti import Scan, read_scan
from bids_deepmrseg.records import Case, Located, Prepared
from bids_deepmrseg.tasks import Task

logger = logging.getLogger(__name__)

MIN_SHOWN = 0.5  # part of a place's voxels that must be above zero


def prepare(case: Case) -> Prepared:
    """Read the scans of a case and put them on the task's model grid.

    The scans of a task with a region must be crops of its first place, as its training data are;
    whole scans go to :func:`prepare_places`.

    Raises
    ------
    InputDataError
        If a scan cannot be read or shows no head.
    GeometryError
        If the scans of a case lie on different grids.
    """
    scans = _read_scans(case)
    prepared = prepare_volumes(tuple(scan.data for scan in scans), scans[0].grid, case.task)
    logger.info("%s: prepared, model grid %s", case.name, prepared.placement.model.shape)
    return prepared


def prepare_places(case: Case, located: tuple[Located, ...]) -> tuple[Prepared, ...]:
    """Read the whole scans of a case and cut the places of its task's region out of them.

    Parameters
    ----------
    case
        Its task has a region.
    located
        Where the places lie.

    Returns
    -------
    tuple
        One entry per place, in the same order. Each scan is interpolated once, whole, as
        :func:`prepare_volumes` does.

    Raises
    ------
    InputDataError
        If a scan cannot be read, or shows nothing in a place.
    GeometryError
        If the scans of a case lie on different grids, or on another than the places.
    """
    scans = _read_scans(case)
    if not scans[0].grid.matches(located[0].placement.native):
        raise GeometryError(f"{case.scans[0]} is not on the grid of the labels that locate places")
    channels = [
        located[0].placement.resampling.apply(to_ras(scan.data, scan.grid)[0].astype(np.float32))
        for scan in scans
    ]
    return tuple(
        Prepared(
            np.stack([normalise_place(one.placement.cut(channel)) for channel in channels]),
            one.placement,
            one.place,
        )
        for one in located
    )


def normalise_place(channel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Divide a cut-out place by the median of what it shows, so that tissue is near 1.

    Parameters
    ----------
    channel
        ``(I, J, K)`` intensities of a box inside the brain.

    Returns
    -------
    ndarray
        In 0 to 4. A box within the brain is nearly all tissue, so its median needs no mask.

    Raises
    ------
    InputDataError
        If the box shows nothing.
    """
    shown = channel[channel > 0]
    if shown.size < MIN_SHOWN * channel.size:
        raise InputDataError("the place to segment shows no tissue: is the scan cut there?")
    normalised: npt.NDArray[np.float32] = np.clip(channel / float(np.median(shown)), 0, BRIGHTEST)
    return normalised.astype(np.float32)


def prepare_place(volumes: tuple[npt.NDArray[np.float32], ...], grid: Grid, task: Task) -> Prepared:
    """Put volumes that show one place of a region, and nothing else, on the task's model grid.

    As :func:`prepare_volumes`, for the training crops of a task with a region.
    """
    turned = [to_ras(volume, grid) for volume in volumes]
    turn = turned[0][1]
    resampling = plan_resampling(turn.turned, task.spacing_mm)
    channels = [normalise_place(resampling.apply(data.astype(np.float32))) for data, _ in turned]
    shape = resampling.target.shape
    return Prepared(np.stack(channels), Placement(turn, resampling, Crop(shape, (0, 0, 0), shape)))


def prepare_volumes(
    volumes: tuple[npt.NDArray[np.float32], ...], grid: Grid, task: Task
) -> Prepared:
    """Put volumes that share a grid on the task's model grid; training calls this too.

    Parameters
    ----------
    volumes
        One ``(I, J, K)`` array of intensities per channel, all on ``grid``.
    grid
        Native lattice.
    task
        Gives spacing and field of view.

    Returns
    -------
    Prepared
        Channels turned to RAS+, interpolated to cubic voxels, cut to the field of view around
        the brain and divided by the median intensity of central brain tissue, in 0 to 4.
    """
    if task.field_of_view_mm is None:
        return prepare_place(volumes, grid, task)
    turned = [to_ras(volume, grid) for volume in volumes]
    turn = turned[0][1]
    resampling = plan_resampling(turn.turned, task.spacing_mm)
    channels = [resampling.apply(data.astype(np.float32)) for data, _ in turned]
    frames = [find_brain_frame(channel, task.spacing_mm) for channel in channels]
    i, j, k = (round(mm / task.spacing_mm) for mm in task.field_of_view_mm)
    crop = frame_crop(frames[0], resampling.target.shape, (i, j, k), task.spacing_mm)
    normalised = [
        np.clip((crop.apply(c) - f.background_intensity) / f.tissue_intensity, 0, BRIGHTEST)
        for c, f in zip(channels, frames, strict=True)
    ]
    return Prepared(np.stack(normalised).astype(np.float32), Placement(turn, resampling, crop))


def _read_scans(case: Case) -> tuple[Scan, ...]:
    """The scans of a case, which lie on one grid."""
    scans = tuple(read_scan(file) for file in case.scans)
    _check_one_grid(scans, case.scans)
    return scans


def _check_one_grid(scans: tuple[Scan, ...], files: tuple[Path, ...]) -> None:
    """Channels are stacked voxel for voxel, so their grids must agree."""
    for scan, file in zip(scans[1:], files[1:], strict=True):
        if not scan.grid.matches(scans[0].grid):
            raise GeometryError(f"{file} is not on the grid of {files[0]}; align them first")
