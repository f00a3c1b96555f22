"""What cases need: memory from the headers of their scans, CPU seconds as they were measured."""

import math
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.nifti import read_grid
from bids_deepmrseg.pipeline.handoff import node_name
from bids_deepmrseg.records import Case
from bids_deepmrseg.taskfiles import find_locator
from bids_deepmrseg.tasks import Task

NEEDS_FILE = Path(__file__).parents[1] / "data" / "needs.toml"
UNKNOWN_MEMORY_GB = 1.0
PYTHON_AND_TORCH_GB = 0.7
NATIVE_BYTES = 32  # per voxel of the first scan, as labels are brought back to it
KEPT_BYTES = 12  # per such voxel and label, background too, where probabilities are kept
REGISTERED_BYTES = 40  # per voxel of every scan that is laid upon another
UNREADABLE_MVOXELS = 16.8  # a cube of 256 voxels


@dataclass(frozen=True, slots=True)
class Line:
    """CPU seconds that grow with the scan.

    Attributes
    ----------
    cpu_s
        Whatever its size.
    cpu_s_per_mvoxel
        For each million of its voxels, as :func:`mvoxels` counts them.
    """

    cpu_s: float
    cpu_s_per_mvoxel: float

    def at(self, mvoxels: float) -> float:
        """CPU seconds of a scan of that size."""
        return self.cpu_s + self.cpu_s_per_mvoxel * mvoxels


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What was measured, on one thread; ``docs/benchmarks/needs.tsv`` rendered for programs.

    Attributes
    ----------
    start_s
        CPU seconds of a run before its first case.
    run_memory_gb, worker_memory_gb
        What a run holds beside the processes that segment: by itself, and for each of its CPUs.
    serial
        Share of a case's time that further threads do not shorten.
    written
        Measuring and writing the result of a task that was asked for.
    segmented
        Segmenting, by task; of what locates it, nothing.
    """

    start_s: float
    run_memory_gb: float
    worker_memory_gb: float
    serial: float
    written: Line
    segmented: dict[str, Line]

    def run_gb(self, n_procs: int) -> float:
        """What a run on that many CPUs holds beside the processes that segment."""
        return self.run_memory_gb + self.worker_memory_gb * n_procs

    def efficiency(self, n_threads: int) -> float:
        """CPU seconds of one thread over those that several threads of one case take up."""
        return 1 / (1 + self.serial * (n_threads - 1))


@cache
def read_needs(file: Path = NEEDS_FILE) -> Needs:
    """The needs that come with the package."""
    table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    return Needs(
        start_s=table["start_s"],
        run_memory_gb=table["run_memory_gb"],
        worker_memory_gb=table["worker_memory_gb"],
        serial=table["serial"],
        written=Line(**table["written"]),
        segmented={name: Line(**line) for name, line in table["segmented"].items()},
    )


@dataclass(frozen=True, slots=True)
class Locators:
    """The tasks that show others where to look, read once for however many cases.

    Attributes
    ----------
    chains
        By name of a task: what locates it, what locates that, and so on.
    """

    chains: dict[str, tuple[Task, ...]]

    def of(self, case: Case) -> tuple[Case, ...]:
        """The cases that have to be segmented before a case."""
        return tuple(
            replace(case, task=task, scans=case.scans[: len(task.channels)])
            for task in self.chains[case.task.name]
        )


def find_locators(tasks: Iterable[Task], models_dir: Path | None) -> Locators:
    """What locates each of some tasks."""
    return Locators({task.name: tuple(_chain(task, models_dir)) for task in tasks})


def _chain(task: Task, models_dir: Path | None) -> Iterator[Task]:
    """What locates a task, from the last on that runs before it to the first."""
    locator = find_locator(task, models_dir)
    while locator is not None:
        yield locator
        locator = find_locator(locator, models_dir)


def estimate_cpu_s(cases: Iterable[Case], locators: Locators) -> float:
    """CPU seconds that cases take on one thread, with all that has to be segmented for them.

    What locates several of them counts once. A task that was not measured, such as one of the
    user's own, counts as the slowest of those that were.
    """
    written = read_needs().written
    segmented: dict[str, float] = {}
    written_s = 0.0
    for case in cases:
        written_s += written.at(mvoxels(case))
        for one in (case, *locators.of(case)):
            segmented[node_name(one, "segment")] = segmenting_s(one)
    return written_s + sum(segmented.values())


def segmenting_s(case: Case) -> float:
    """CPU seconds of segmenting alone."""
    lines, size = read_needs().segmented, mvoxels(case)
    line = lines.get(case.task.name)
    return max(one.at(size) for one in lines.values()) if line is None else line.at(size)


def mvoxels(case: Case) -> float:
    """Size of the first scan as the time of a case grows with it, in millions of voxels.

    Within a brain, networks see all slices on their own grid; elsewhere they see a frame of one
    size, and what grows is the reading, restoring and writing of the scan's own voxels.
    """
    try:
        grid = _grid_of(case.scans[0])
    except InputDataError:
        return UNREADABLE_MVOXELS
    n_voxels = math.prod(grid.shape) if case.task.within is None else model_voxels(case.task, grid)
    return n_voxels / 1e6


def _grid_of(scan: Path) -> Grid:
    """The grid of a scan, read once though several tasks look at it."""
    try:
        return _grid_at(scan, scan.stat().st_mtime_ns)
    except OSError as error:
        raise InputDataError(f"{scan} cannot be opened: {error.strerror}") from error


@lru_cache(maxsize=64)
def _grid_at(scan: Path, _changed_ns: int) -> Grid:
    """The grid of a scan as it was at that time."""
    return read_grid(scan)


def model_voxels(task: Task, grid: Grid) -> float:
    """Voxels on the grid of a task within a brain, whose slices stay as thick as they are."""
    thickest = max(task.spacing_mm, *grid.spacing_mm)
    return math.prod(grid.shape) * grid.voxel_volume_mm3 / (task.spacing_mm**2 * thickest)


def estimate_memory_gb(case: Case, *, keep_probabilities: bool) -> float:
    """What the segmentation of a case is expected to need, from the headers of its scans.

    Notes
    -----
    Counts the arrays that are alive at the same time in prepare, segment and restore; an upper
    bound of all peaks in docs/benchmarks/needs.tsv, which a test checks.
    """
    try:
        grids = [_grid_of(scan) for scan in case.scans]
    except InputDataError:
        return UNKNOWN_MEMORY_GB
    n_bytes = _bytes_of_brain(case.task, grids) if case.task.within else _bytes(case.task, grids[0])
    if keep_probabilities:
        n_bytes += KEPT_BYTES * math.prod(grids[0].shape) * (1 + len(case.task.labels))
    return PYTHON_AND_TORCH_GB + n_bytes / 1e9


def _bytes(task: Task, grid: Grid) -> float:
    """Arrays of a task on cubic voxels."""
    n_native = math.prod(grid.shape)
    n_cubic = n_native * grid.voxel_volume_mm3 / task.spacing_mm**3
    n_model = min(n_cubic, math.prod(task.extent_mm) / task.spacing_mm**3)
    framed = 4 * n_cubic * (2 + len(task.channels)) + 8 * n_model * task.n_classes
    return NATIVE_BYTES * n_native + framed


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
