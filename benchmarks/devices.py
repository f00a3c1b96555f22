"""Cases per minute of the app, for lists of devices: how far workers that stay, and several, help.

For example ``python benchmarks/devices.py SCAN --task brainmask --devices cpu cpu,cpu`` on two
CPUs, or ``--devices cuda:0 cuda:0,cuda:1 --n-procs 16`` where there are GPUs. The scan is copied
for as many subjects as are asked for. CPU seconds count all processes of a run, so that they tell
something on a machine that has other work to do, too.
"""

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # prctl: processes that lost their parent become ours, and are counted
COLUMNS = ("devices", "n_procs", "threads", "cases", "wall s", "cases/min", "CPU s/case", "done")


def make_dataset(scan: Path, root: Path, n_cases: int) -> Path:
    """A BIDS dataset with as many subjects as are asked for, all with the same scan."""
    root.mkdir()
    description = {"Name": "Copies", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
    for number in range(1, n_cases + 1):
        folder = root / f"sub-{number:02d}" / "anat"
        folder.mkdir(parents=True)
        ending = scan.name.partition(".")[2]
        shutil.copyfile(scan, folder / f"sub-{number:02d}_T1w.{ending}")
    return root


def cpu_s() -> float:
    """CPU seconds of all processes that were started here and have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait_for_all() -> None:
    """Wait for what the run leaves behind for a moment, such as the server of its forks."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def time_run(bids_dir: Path, output_dir: Path, flags: list[str]) -> tuple[float, float, int]:
    """Wall and CPU seconds of a run, and how many label maps it left."""
    command = [sys.executable, "-m", "bids_deepmrseg", str(bids_dir), str(output_dir)]
    cpu_before, start = cpu_s(), time.perf_counter()
    subprocess.run([*command, "participant", *flags], check=False, capture_output=True)
    wall_s = time.perf_counter() - start
    wait_for_all()
    n_done = len(list(output_dir.glob(f"sub-*/anat/*seg-{flags[1]}_dseg.nii.gz")))
    return wall_s, cpu_s() - cpu_before, n_done


def main(given: argparse.Namespace) -> None:
    """Print a row for every list of devices."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bids_dir = make_dataset(given.scan, Path(folder) / "bids", given.cases)
        for number, devices in enumerate(given.devices):
            flags = ["--task", given.task, "--device", devices, "--n-procs", str(given.n_procs)]
            flags += ["--omp-nthreads", str(given.omp_nthreads), "--skip-bids-validation"]
            output_dir = Path(folder) / f"out{number}"
            wall_s, used_s, n_done = time_run(bids_dir, output_dir, flags)
            cells = (
                devices,
                str(given.n_procs),
                str(given.omp_nthreads),
                str(given.cases),
                f"{wall_s:.1f}",
                f"{60 * n_done / wall_s:.2f}",
                f"{used_s / given.cases:.1f}",
                str(n_done),
            )
            print("| " + " | ".join(cells) + " |", flush=True)
            shutil.rmtree(output_dir, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path, help="a T1w")
    parser.add_argument("--task", default="brainmask")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cpu,cpu"])
    parser.add_argument("--n-procs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--omp-nthreads", type=int, default=1)
    main(parser.parse_args())
