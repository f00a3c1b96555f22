"""What a case needs: its memory from the headers of its scans, its time from what was measured."""

import math

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.nifti import read_grid
from bids_deepmrseg.records import Case
from bids_deepmrseg.tasks import Task

UNKNOWN_MEMORY_GB = 1.0
PYTHON_AND_TORCH_GB = 0.7
REGISTERED_BYTES = 40  # per voxel of every scan that is laid upon another


def estimate_memory_gb(case: Case, *, keep_probabilities: bool) -> float:
    """What the segmentation of a case is expected to need, from the headers of its scans.

    Notes
    -----
    Counts the arrays that are alive at the same time in prepare, segment and restore; an upper
    bound, checked against the peak of real runs.
    """
    try:
        grids = [read_grid(scan) for scan in case.scans]
    except InputDataError:
        return UNKNOWN_MEMORY_GB
    n_bytes = _bytes_of_brain(case.task, grids) if case.task.within else _bytes(case.task, grids[0])
    if keep_probabilities:
        n_bytes += 6 * math.prod(grids[0].shape) * case.task.n_classes
    return PYTHON_AND_TORCH_GB + n_bytes / 1e9


def _bytes(task: Task, grid: Grid) -> float:
    """Arrays of a task on cubic voxels."""
    n_native = math.prod(grid.shape)
    n_cubic = n_native * grid.voxel_volume_mm3 / task.spacing_mm**3
    n_model = min(n_cubic, math.prod(task.extent_mm) / task.spacing_mm**3)
    return 24 * n_native + 4 * n_cubic * (2 + len(task.channels)) + 8 * n_model * task.n_classes


def _bytes_of_brain(task: Task, grids: list[Grid]) -> float:
    """Arrays of a task within a brain: the registration's, those of slices, those of the networks.

    Scans lie on grids of their own, each held as it was read, clipped, as a mask and by SimpleITK;
    all on the first grid at last. Slices thicker than the model's voxels are not interpolated.
    """
    n_native = math.prod(grids[0].shape)
    i, j, k = grids[0].spacing_mm
    voxel_mm3 = task.spacing_mm**2 * max(task.spacing_mm, i, j, k)
    n_model = min(n_native * grids[0].voxel_volume_mm3, math.prod(task.extent_mm)) / voxel_mm3
    registered = REGISTERED_BYTES * sum(math.prod(grid.shape) for grid in grids)
    segmented = 24 * n_native + n_model * (16 * len(task.channels) + 12 * task.n_classes)
    return registered + segmented
