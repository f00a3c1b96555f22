"""Make of measured needs what the app uses.

    python benchmarks/render_needs.py docs/benchmarks/needs.tsv > bids_deepmrseg/data/needs.toml

A line through the CPU seconds of each task over the size of its scans, raised until no measured
scan lies above it. Runs on one thread count; a task's own seconds are those of its run less those
of what locates it on the same scan. What several tasks asked for together take more than the last
of them alone is measuring and writing. Threads are judged by rows on which other programs left the
CPUs alone, by their wall time.
"""

import argparse
import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bids_deepmrseg.files import read_tsv
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.pipeline.needs import find_locators, model_voxels
from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task
from bids_deepmrseg.tasks import Task

QUIET = 0.3  # CPUs that others may have used where a wall time is taken at its word
ASSUMED_SERIAL = 0.5
HEAD = (
    "# Made from docs/benchmarks/needs.tsv by benchmarks/render_needs.py, never by hand.\n"
    "# CPU seconds on one thread; what each number means: bids_deepmrseg/pipeline/needs.py.\n"
)

Row = dict[str, str]
Point = tuple[float, float]  # millions of voxels, CPU seconds


def line_above(points: Iterable[Point]) -> Point:
    """Seconds at size zero and per million voxels, of a line with no point above it."""
    sizes, seconds = np.array(sorted(points)).T
    slope = 0.0
    if len(set(sizes)) > 1:
        slope = max(0.0, float(np.polyfit(sizes, seconds, 1)[0]))
    return max(0.0, float((seconds - slope * sizes).max())), slope


class Table:
    """The measured runs that ended well, on one device."""

    def __init__(self, rows: Iterable[Row]) -> None:
        good = [row for row in rows if row["exit_code"] == "0" and row["device"] == "cpu"]
        plain = {"probabilities": "no", "n_cases": "1"}
        self.rows = [row for row in good if plain.items() <= row.items()]
        self.single = {
            (row["scan"], row["tasks"]): row for row in self.rows if row["n_threads"] == "1"
        }
        names = {name for _, names in self.single for name in names.split() if name != "start"}
        found = (read_task(find_named_model_folder(name) / TASK_FILE) for name in sorted(names))
        self.tasks = {task.name: task for task in found}
        self.chains = find_locators(self.tasks.values(), None).chains

    @property
    def start_s(self) -> float:
        """CPU seconds of a run before its first case."""
        return max(float(row["cpu_s"]) for row in self.rows if row["tasks"] == "start")

    def written(self) -> list[Point]:
        """Measuring and writing one more task, by size of the scan."""
        points = []
        for (scan, names), row in self.single.items():
            tasks = names.split()
            if len(tasks) > 1:
                more_s = float(row["cpu_s"]) - float(self.single[scan, tasks[-1]]["cpu_s"])
                points.append((_native(row), more_s / (len(tasks) - 1)))
        return points

    def segmented(self, task: Task, written: Point) -> list[Point]:
        """A task's own seconds on every scan that it was measured on."""
        return [
            (self.size(row, task), self._own_s(scan, task, written))
            for (scan, names), row in self.single.items()
            if names == task.name
        ]

    def _own_s(self, scan: str, task: Task, written: Point) -> float:
        """Seconds of its run less those of its locator's, or of start and writing without one."""
        row = self.single[scan, task.name]
        chain = self.chains[task.name]
        if chain:
            return float(row["cpu_s"]) - float(self.single[scan, chain[0].name]["cpu_s"])
        return float(row["cpu_s"]) - self.start_s - written[0] - written[1] * _native(row)

    def size(self, row: Row, task: Task) -> float:
        """Millions of voxels, as :func:`bids_deepmrseg.pipeline.needs.mvoxels` counts them."""
        return _native(row) if task.within is None else model_voxels(task, _grid(row)) / 1e6

    def serial(self) -> str:
        """Share of a run that a second thread does not shorten, from rows of a quiet machine."""
        shares = []
        for row in self.rows:
            alone = self.single.get((row["scan"], row["tasks"]))
            quiet = row["n_threads"] == "2" and float(row["others"]) <= QUIET
            if quiet and alone is not None and row["tasks"] != "start":
                shares.append(2 * float(row["wall_s"]) / float(alone["cpu_s"]) - 1)
        if not shares:
            return f"{ASSUMED_SERIAL}  # assumed: two threads were not measured on a quiet machine"
        return f"{min(1.0, max(0.0, statistics.median(shares))):.2f}"

    def beside_gb(self, n_threads: str) -> float:
        """Most memory that a run's other processes held beside the one that segmented."""
        beside = [
            float(row["tree_gb"]) - float(row["process_gb"])
            for row in self.rows
            if row["n_threads"] == n_threads and row["tasks"] != "start"
        ]
        return max(beside, default=0.0)


def _grid(row: Row) -> Grid:
    """The grid of a row's first scan, but for where it lies."""
    i, j, k = map(int, row["voxels"].split()[0].split("x"))
    spacing_mm = [float(mm) for mm in row["spacing_mm"].split()[0].split("x")]
    return Grid((i, j, k), np.diag([*spacing_mm, 1.0]))


def _native(row: Row) -> float:
    """Millions of voxels of a row's first scan."""
    i, j, k = map(int, row["voxels"].split()[0].split("x"))
    return i * j * k / 1e6


def render(file: Path) -> str:
    """The needs as TOML."""
    table = Table(read_tsv(file)[1])
    written = line_above(table.written())
    lines = [
        f"start_s = {table.start_s:.1f}",
        f"run_memory_gb = {table.beside_gb('1'):.2f}",
        f"worker_memory_gb = {max(0.0, table.beside_gb('2') - table.beside_gb('1')) / 2:.2f}",
        f"serial = {table.serial()}",
        *_section("written", written),
    ]
    for task in table.tasks.values():
        lines += _section(f"segmented.{task.name}", line_above(table.segmented(task, written)))
    return HEAD + "\n".join(lines) + "\n"


def _section(name: str, line: Point) -> list[str]:
    """One line as a TOML table."""
    return ["", f"[{name}]", f"cpu_s = {line[0]:.1f}", f"cpu_s_per_mvoxel = {line[1]:.2f}"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    print(render(parser.parse_args().table), end="")
