"""Time the stages of one scan, alone in one process: medians over repetitions."""

import argparse
import resource
import statistics
import time
from pathlib import Path

from bids_deepmrseg.records import Case
from bids_deepmrseg.stages.measure import measure
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task


def main(scan: Path, task_name: str, repetitions: int) -> None:
    """Print seconds per stage and the largest memory used."""
    folder = find_named_model_folder(task_name)
    task = read_task(folder / TASK_FILE)
    case = Case(task=task, bids_dir=scan.parent, scans=(scan,), entities=(("sub", "x"),))
    times: dict[str, list[float]] = {}
    for _ in range(repetitions):
        clock = [time.perf_counter()]
        prepared = prepare(case)
        clock.append(time.perf_counter())
        predicted = segment(prepared, folder, task, device="cpu")
        clock.append(time.perf_counter())
        segmented = restore(predicted, task)
        clock.append(time.perf_counter())
        measure(segmented, task)
        clock.append(time.perf_counter())
        for n, name in enumerate(("prepare", "segment", "restore", "measure")):
            times.setdefault(name, []).append(clock[n + 1] - clock[n])
    for name, seconds in times.items():
        print(f"{name}\t{statistics.median(seconds):.2f} s")
    print(f"all\t{sum(statistics.median(s) for s in times.values()):.2f} s")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory\t{peak_gib:.2f} GiB, libraries included")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--task", default="deepbrain")
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    main(given.scan, given.task, given.repetitions)
