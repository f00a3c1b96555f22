"""Stage 5 of 8: how large each structure is, how sure the network was, and what looks doubtful."""

import logging

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.records import Segmented, StructureMeasures
from bids_deepmrseg.tasks import Label, Task

logger = logging.getLogger(__name__)

MM3_PER_ML = 1000.0


def measure(segmented: Segmented, task: Task) -> tuple[StructureMeasures, ...]:
    """Measure every structure of a task, in the order of its lookup table.

    Parameters
    ----------
    segmented
        Labels and confidence on the native grid, and the volume of the brain where it is known.
    task
        Gives the structures and the volumes that adults are known to have.

    Returns
    -------
    tuple
        One entry per label; a label without a single voxel has 0.0 mm3, it is never left out.

    Raises
    ------
    GeometryError
        If labels or confidence are not on the native grid.

    Notes
    -----
    Every voxel counts whole, so that partial volume is ignored and a volume can be recomputed
    from the label map by anybody who counts its voxels.
    """
    for array in (segmented.dseg, segmented.confidence):
        if array.shape != segmented.grid.shape:
            raise GeometryError(f"array {array.shape} is not on its grid {segmented.grid.shape}")
    n_values = max(int(segmented.dseg.max()), *(label.index for label in task.labels)) + 1
    flat = segmented.dseg.ravel()
    counts = np.bincount(flat, minlength=n_values)
    sums = np.bincount(flat, weights=segmented.confidence.ravel(), minlength=n_values)
    at_edge = _indices_on_faces(segmented.dseg)
    _warn_of_unnamed(counts, task)
    brain_mm3 = brain_volume_mm3(segmented, task)
    return tuple(
        _measures_of(
            label,
            n_voxels=int(counts[label.index]),
            summed_probability=float(sums[label.index]),
            voxel_volume_mm3=segmented.grid.voxel_volume_mm3,
            touches_edge=label.index in at_edge,
            brain_mm3=None if label.index == task.brain else brain_mm3,
        )
        for label in task.labels
    )


def brain_volume_mm3(segmented: Segmented, task: Task) -> float | None:
    """Volume of the brain in a scan.

    Parameters
    ----------
    segmented
        Labels on the native grid, and the volume that another task measured before.
    task
        Says which of its labels is the brain, if one is.

    Returns
    -------
    float or None
        That of the task's own brain, or else what was measured before; ``None`` where neither is.
    """
    if task.brain is None:
        return segmented.brain_volume_mm3
    n_voxels = np.count_nonzero(segmented.dseg == task.brain)
    return float(n_voxels * segmented.grid.voxel_volume_mm3)


def doubts_of_brain(segmented: Segmented, task: Task) -> tuple[str, ...]:
    """Sentences on why the volume of the brain, if the task measures it, may not be right."""
    if task.brain is None:
        return ()
    doubts = []
    if task.brain in _indices_on_faces(segmented.dseg):
        doubts.append(
            f"the brain that {task.name} found reaches the edge of the scan, where it may be cut: "
            "its volume may be too small, and fractions of it too large"
        )
    volume_ml = (brain_volume_mm3(segmented, task) or 0.0) / MM3_PER_ML
    adult = next(label.adult_range for label in task.labels if label.index == task.brain)
    if adult is not None and not adult.low_ml <= volume_ml <= adult.high_ml:
        doubts.append(
            f"the brain that {task.name} found has {volume_ml:.0f} ml; adults have "
            f"{adult.low_ml:g} to {adult.high_ml:g} ml: look at the picture"
        )
    return tuple(doubts)


def _measures_of(
    label: Label,
    *,
    n_voxels: int,
    summed_probability: float,
    voxel_volume_mm3: float,
    touches_edge: bool,
    brain_mm3: float | None,
) -> StructureMeasures:
    """One structure, from its count and the sum of its voxels' probabilities."""
    volume_mm3 = n_voxels * voxel_volume_mm3
    adult = label.adult_range
    return StructureMeasures(
        label=label,
        n_voxels=n_voxels,
        volume_mm3=volume_mm3,
        mean_probability=summed_probability / n_voxels if n_voxels else float("nan"),
        touches_edge=touches_edge,
        in_adult_range=None
        if adult is None
        else adult.low_ml <= volume_mm3 / MM3_PER_ML <= adult.high_ml,
        fraction_of_brain=volume_mm3 / brain_mm3 if brain_mm3 else None,
    )


def _indices_on_faces(dseg: npt.NDArray[np.uint16]) -> set[int]:
    """Label indices that occur in a first or last slice along any axis."""
    found: set[int] = set()
    for axis in range(3):
        for face in (0, -1):
            found.update(np.unique(dseg.take(face, axis=axis)).tolist())
    return found - {0}


def _warn_of_unnamed(counts: npt.NDArray[np.intp], task: Task) -> None:
    """Say which values of the label map have no name in the lookup table."""
    unnamed = set(np.flatnonzero(counts).tolist()) - {0, *(label.index for label in task.labels)}
    if unnamed:
        logger.warning("%s: label map holds indices without a name: %s", task.name, sorted(unnamed))
