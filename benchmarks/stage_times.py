"""Time the stages of one scan, alone in one process: medians over repetitions.

Tasks that show the named one where to look are timed with it, in the order in which they run.
"""

import argparse
import resource
import statistics
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from bids_deepmrseg.evaluation.whole import Shown, chain_of, prepare_shown, restore_shown
from bids_deepmrseg.records import Case
from bids_deepmrseg.stages.measure import measure
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.taskfiles import (
    TASK_FILE,
    find_model_folder,
    find_named_model_folder,
    read_task,
)

STAGES = ("prepare", "segment", "restore", "measure")


def time_chain(case: Case) -> dict[str, tuple[float, ...]]:
    """Seconds of every stage, by task."""
    seconds: dict[str, tuple[float, ...]] = {}
    shown: Shown | None = None
    for one in chain_of(case, None):
        clock = [time.perf_counter()]
        prepared = prepare_shown(one, shown)
        clock.append(time.perf_counter())
        folder = find_model_folder(one.task, None)
        predicted = tuple(segment(p, folder, one.task, device="cpu") for p in prepared)
        clock.append(time.perf_counter())
        segmented = restore_shown(predicted, one.task, shown)
        clock.append(time.perf_counter())
        measure(segmented, one.task)
        clock.append(time.perf_counter())
        seconds[one.task.name] = tuple(b - a for a, b in pairwise(clock))
        shown = Shown(one.task, segmented)
    return seconds


def main(scan: Path, task_name: str, repetitions: int) -> None:
    """Print seconds per task and stage and the largest memory used."""
    task = read_task(find_named_model_folder(task_name) / TASK_FILE)
    case = Case(task=task, bids_dir=scan.parent, scans=(scan,), entities=(("sub", "x"),))
    times: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for _ in range(repetitions):
        for name, seconds in time_chain(case).items():
            times[name].append(seconds)
    print("\t".join(("task", *STAGES, "all")))
    for name, rows in times.items():
        medians = [statistics.median(stage) for stage in zip(*rows, strict=True)]
        print("\t".join((name, *(f"{s:.2f} s" for s in (*medians, sum(medians))))))
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory\t{peak_gib:.2f} GiB, libraries included")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--task", default="deepbrain")
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    main(given.scan, given.task, given.repetitions)
