"""Places cut out of labelled scans, as the app cuts them out of scans without labels."""

import math

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import TrainingError
from bids_deepmrseg.imaging.grid import Grid, crop_to, to_ras
from bids_deepmrseg.records import Located
from bids_deepmrseg.stages.locate import locate
from bids_deepmrseg.stages.prepare import normalise_place
from bids_deepmrseg.tasks import Place, Region, Task
from bids_deepmrseg.training.synthesis import Head

NEAR_MM = 32.0  # kept around all labels: the margin of a place, and what a warp may bring into it


def near_labels(head: Head, spacing_mm: tuple[float, float, float]) -> Head:
    """A head cut down to what lies near its labels, along coarser axes to somewhat more."""
    margin = math.ceil(NEAR_MM / min(spacing_mm))
    i, j, k = crop_to(head.classes.numpy() > 0, margin=margin).slices
    return Head(head.image[i, j, k].contiguous(), head.classes[i, j, k].contiguous())


def cut_places(
    head: Head, grid: Grid, task: Task, locator: Task
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]:
    """Cut every place of a task's region out of a labelled scan.

    Parameters
    ----------
    head
        Image, and classes that are positions in the task's lookup table, on ``grid``.
    grid
        Native lattice.
    task
        Has a region.
    locator
        The task that finds the places in scans without labels.

    Returns
    -------
    list
        For each place ``(1, I, J, K)`` normalised intensities and ``(I, J, K)`` classes of the
        networks, mirrored where the place is.
    """
    classes = head.classes.numpy()
    located = locate(shown_places(classes, task), grid, task, locator)
    image = head.image.numpy().astype(np.float32)
    resampled = located[0].placement.resampling.apply(to_ras(image, grid)[0])
    return [
        (
            normalise_place(one.placement.cut(resampled))[None],
            _classes_in(classes, grid, task, one),
        )
        for one in located
    ]


def shown_places(classes: npt.NDArray[np.uint8], task: Task) -> npt.NDArray[np.uint16]:
    """What a locator without faults would find: each place's labels as the one it is cut around."""
    shown = np.zeros(classes.shape, dtype=np.uint16)
    for place in region_of(task).places:
        shown[np.isin(classes, _positions(task, place))] = place.located_by
    return shown


def region_of(task: Task) -> Region:
    """The region of a task that has one."""
    if task.region is None:
        raise TrainingError(f"task {task.name} has no region")
    return task.region


def _positions(task: Task, place: Place) -> list[int]:
    """Classes of a place's labels among all labels of the task."""
    positions = {label.index: number for number, label in enumerate(task.labels, start=1)}
    return [positions[index] for index in place.labels]


def _classes_in(
    classes: npt.NDArray[np.uint8], grid: Grid, task: Task, located: Located
) -> npt.NDArray[np.uint8]:
    """Network classes of one place on its model grid: each is interpolated, the highest wins."""
    turned = to_ras(classes, grid)[0]
    wanted = _positions(task, located.place)
    placement = located.placement
    fields = [np.isin(turned, wanted, invert=True), *(turned == one for one in wanted)]
    shares = [
        placement.cut(placement.resampling.apply(field.astype(np.float32))) for field in fields
    ]
    winner: npt.NDArray[np.uint8] = np.argmax(np.stack(shares), axis=0).astype(np.uint8)
    return winner
