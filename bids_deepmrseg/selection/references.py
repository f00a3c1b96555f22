"""Label maps to learn from: which names are meant, and what their voxels say."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import InputDataError, UsageError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.nifti import read_label_map
from bids_deepmrseg.selection.names import ENDINGS, ScanName, listed, parse_name, split_ending
from bids_deepmrseg.selection.scans import without_twins
from bids_deepmrseg.tasks import Task

# values of ``space-`` that mean the scan's own grid, besides the suffix of one of the task's scans
OWN_SPACES = frozenset({"individual", "native", "orig", "scanner"})


def parse_reference(reference: str) -> ScanName:
    """Suffix and entities that names of label maps must have."""
    wanted = parse_name(reference)
    if wanted is None or not wanted.suffix.isalnum():
        raise UsageError(
            f"{reference!r} does not say how names of label maps end; "
            "write dseg, mask, label-lesion_mask or the like"
        )
    return wanted


def find_label_maps(folder: Path, suffix: str) -> Iterator[tuple[Path, ScanName]]:
    """Images of a suffix at any depth, sorted; hidden folders are not looked into."""
    files = [
        file
        for file in folder.rglob(f"*_{suffix}.nii*")
        if split_ending(file.name)[1] in ENDINGS
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    for file in without_twins(files):
        name = parse_name(file.name)
        if name is not None and name.entity("sub") is not None:
            yield file, name


def why_not_wanted(name: ScanName, wanted: ScanName, task: Task) -> str | None:
    """Why a label map of the right suffix is not meant, or ``None``."""
    asked = dict(wanted.entities)
    if lacking := [f"{k}-{v}" for k, v in asked.items() if name.entity(k) != v]:
        return f"its name has no {lacking[0]}"
    segmentation, space = name.entity("seg"), name.entity("space")
    if segmentation is not None and "seg" not in asked:
        return f"seg-{segmentation} is a program's result unless --reference names it"
    if space not in (None, *OWN_SPACES, *task.channels) and "space" not in asked:
        return f"space-{space} is not the grid of a scan unless --reference names it"
    return None


def read_reference(file: Path, task: Task) -> tuple[npt.NDArray[np.int32], Grid]:
    """Read a label map ``(I, J, K)`` in the task's numbering, and its lattice.

    Parameters
    ----------
    file
        Label map. Where it is a ``_mask``, the one value besides 0, be it 1 or 255, means the
        task's one label.
    task
        Names the labels.

    Raises
    ------
    InputDataError
        If the file cannot be read, its values are not whole numbers from 0 up, or it is a mask
        that shows more than one thing or belongs to a task of several labels.
    """
    values, grid = read_label_map(file)
    if values.min() < 0:
        raise InputDataError(f"{file} is not a label map: it holds the value {values.min()}")
    name = parse_name(file.name)
    if name is None or name.suffix != "mask":
        return values, grid
    shows_all = task.region is None or task.is_cut_from_scans
    labels = task.labels if shows_all else task.network_labels
    if len(labels) > 1:
        raise InputDataError(
            f"{file} is a mask, and the task {task.name} has {len(labels)} labels; "
            "it learns from label maps, whose names end in _dseg"
        )
    shown = [str(value) for value in np.unique(values[values != 0])]
    if len(shown) > 1:
        raise InputDataError(
            f"{file} is a mask and holds the values {listed(shown)} besides 0, where one is "
            "expected; make a mask of the one that is meant"
        )
    return np.where(values != 0, labels[0].index, 0).astype(np.int32), grid
