"""What the app needs on a scan: CPU seconds and memory of the whole process tree, task by task.

    python benchmarks/needs.py --t1w NAME=T1W ... --flair NAME=FLAIR[,T1W] ... > TABLE

Each row is one run of the app on one scan, as a user would start it: each task by itself. On the
first scan of each kind also with more threads, all tasks together, these with probabilities, and
the last task on two participants side by side.

CPU seconds are those of all processes (user and system), told by the kernel when the last of them
has ended. They are the base of what is derived, since wall time depends on what else the machine
does; but they grow as well where others use its caches, which the column ``others`` tells (CPUs
that other programs kept busy meanwhile): measure on a quiet machine, and the jobs that are sized by
it will be no larger than they have to be. Memory is the largest sum of the proportional set sizes
of all processes, sampled five times a second, and beside it the largest resident set of any single
process, which the kernel keeps and no sampling can miss. ``benchmarks/render_needs.py`` makes of
the table what the app uses.
"""

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.imaging.nifti import read_grid

SAMPLE_S = 0.2
PR_SET_CHILD_SUBREAPER = 36
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
T1W_TASKS = ("brainmask", "deepbrain", "hippocampus")
FLAIR_TASKS = ("flairbrain", "wml")
COLUMNS = (
    "scan tasks n_threads probabilities device voxels spacing_mm wall_s others cpu_s "
    "tree_gb process_gb exit_code n_cases"
)
DESCRIPTION = '{"Name": "Scans to measure", "BIDSVersion": "1.10.0"}'


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan, or a FLAIR with its T1w, and what it is called in the table."""

    name: str
    files: tuple[Path, ...]
    suffixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """What one run needed."""

    wall_s: float
    others: float
    cpu_s: float
    tree_gb: float
    process_gb: float
    exit_code: int


def adopt_orphans() -> None:
    """Let this process be told of all its descendants, also of those whose parent has ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "orphans cannot be adopted")


def descendants(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from descendants(int(child))


def memory_gb(pid: int) -> tuple[float, float]:
    """Proportional set size of a process now, and its largest resident set so far."""
    with suppress(OSError):
        pss = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
        return pss * 1024 / 1e9, _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:") * 1024 / 1e9
    return 0.0, 0.0


def _kilobytes(file: Path, key: str) -> int:
    """A number of a file of the kernel's."""
    rows = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return next((int(row[1]) for row in rows if row and row[0] == key), 0)


def busy_s() -> float:
    """CPU seconds that this machine has worked since it was started."""
    first, *_ = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, first.split()[1:])
    return (user + nice + system + irq + softirq) / TICKS_PER_S


def children_cpu_s() -> float:
    """CPU seconds of all descendants that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(command: list[str]) -> Need:
    """Run a command and all that it starts to their end."""
    before_s, busy_before_s, started_s = children_cpu_s(), busy_s(), time.monotonic()
    tree_gb = process_gb = 0.0
    with tempfile.TemporaryFile() as said:
        running = subprocess.Popen(command, stdout=said, stderr=said)
        while running.poll() is None:
            sizes = [memory_gb(pid) for pid in descendants(running.pid)]
            tree_gb = max(tree_gb, sum(pss for pss, _ in sizes))
            process_gb = max(process_gb, *(hwm for _, hwm in sizes))
            time.sleep(SAMPLE_S)
        wall_s = time.monotonic() - started_s
        with suppress(ChildProcessError):
            while True:
                os.wait()
        if running.returncode != 0:
            said.seek(0)
            sys.stderr.write(said.read().decode())
    cpu_s = children_cpu_s() - before_s
    others = max(0.0, busy_s() - busy_before_s - cpu_s) / wall_s
    return Need(wall_s, others, cpu_s, tree_gb, process_gb, running.returncode)


def make_dataset(root: Path, scan: Scan, n_participants: int) -> Path:
    """A BIDS dataset of that one scan for each participant, by links."""
    for number in range(n_participants):
        anat = root / f"sub-{number}" / "anat"
        anat.mkdir(parents=True)
        for file, suffix in zip(scan.files, scan.suffixes, strict=True):
            ending = ".nii.gz" if file.name.endswith(".gz") else ".nii"
            (anat / f"sub-{number}_{suffix}{ending}").symlink_to(file.absolute())
    (root / "dataset_description.json").write_text(DESCRIPTION, encoding="utf-8")
    return root


def row(
    scan: Scan,
    tasks: tuple[str, ...],
    asked: argparse.Namespace,
    *flags: str,
    n_threads: int,
    n_cases: int = 1,
) -> tuple[str, ...]:
    """Run the app once, and tell what it needed."""
    with tempfile.TemporaryDirectory() as folder:
        bids_dir = make_dataset(Path(folder, "bids"), scan, n_cases)
        cpus = ["--n-procs", str(n_threads * n_cases), "--omp-nthreads", str(n_threads)]
        command = [sys.executable, "-m", "bids_deepmrseg", str(bids_dir), f"{folder}/out"]
        command += ["participant", *cpus, "--device", asked.device, *flags, "--task", *tasks]
        need = measure(command)
    grids = [read_grid(file) for file in scan.files]
    return (
        scan.name,
        "start" if "--dry-run" in flags else " ".join(tasks),
        str(n_threads),
        "yes" if "--write-probabilities" in flags else "no",
        asked.device,
        " ".join("x".join(map(str, grid.shape)) for grid in grids),
        " ".join("x".join(f"{mm:.2f}" for mm in grid.spacing_mm) for grid in grids),
        f"{need.wall_s:.1f}",
        f"{need.others:.2f}",
        f"{need.cpu_s:.1f}",
        f"{need.tree_gb:.2f}",
        f"{need.process_gb:.2f}",
        str(need.exit_code),
        str(n_cases),
    )


def rows(scans: list[Scan], asked: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """All runs on all scans; all that can be asked for on the first of each kind."""
    seen: set[str] = set()
    for scan in scans:
        known = T1W_TASKS if scan.suffixes[0] == "T1w" else FLAIR_TASKS
        tasks = tuple(task for task in known if asked.task is None or task in asked.task)
        first = scan.suffixes[0] not in seen
        if first and not seen:
            yield row(scan, tasks, asked, "--dry-run", n_threads=1)
        seen.add(scan.suffixes[0])
        for n_threads in asked.threads if first else asked.threads[:1]:
            for task in tasks:
                yield row(scan, (task,), asked, n_threads=n_threads)
        if first and asked.task is None:
            yield row(scan, tasks, asked, n_threads=1)
            yield row(scan, tasks, asked, "--write-probabilities", n_threads=1)
            yield row(scan, tasks[-1:], asked, n_threads=1, n_cases=2)


def main() -> None:
    """Print one line per run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--t1w", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("--flair", nargs="+", default=[], metavar="NAME=FILE[,T1W]")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--task", nargs="+", help="each by itself only; default: all that fit")
    parser.add_argument("--no-header", action="store_true", help="to go on with a table")
    asked = parser.parse_args()
    scans = []
    for texts, suffixes in ((asked.t1w, ("T1w",)), (asked.flair, ("FLAIR", "T1w"))):
        for text in texts:
            name, _, files = text.partition("=")
            paths = tuple(map(Path, files.split(",")))
            scans.append(Scan(name, paths, suffixes[: len(paths)]))
    adopt_orphans()
    if not asked.no_header:
        print(*COLUMNS.split(), sep="\t", flush=True)
    for cells in rows(scans, asked):
        print(*cells, sep="\t", flush=True)


if __name__ == "__main__":
    main()
