"""Time what a user of the image waits for: from starting a container to the first label map.

``python benchmarks/container_start.py IMAGE BIDS_DIR --task brainmask`` runs the image without
network, as a stranger and read-only; options after ``--`` go to the engine, as in
``-- --env PYTHONPYCACHEPREFIX=/nowhere``, which has Python compile all that it loads.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STRANGER = ("--rm", "--network", "none", "--read-only", "--user", "12345:12345")
POLL_S = 0.02


def seconds_to_end(command: list[str]) -> float:
    """Wall time of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def seconds_to_label_map(command: list[str], out: Path) -> tuple[float, float]:
    """Wall time until a label map has its final name, and until the container has ended."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        written = None
        while process.poll() is None:
            if written is None and any(out.glob("sub-*/**/*_dseg.nii.gz")):
                written = time.perf_counter() - start
            time.sleep(POLL_S)
        ended = time.perf_counter() - start
        if process.returncode or written is None:
            message = process.stderr.read().decode() if process.stderr else ""
            sys.exit(f"no label map was written: {message}")
    return written, ended


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--engine", default="podman", help="podman or docker")
    parser.add_argument("--task", default="brainmask")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("options", nargs="*", help="after --: options for the engine")
    given = parser.parse_args()
    run = [given.engine, "run", *STRANGER, *given.options]
    rows: dict[str, list[float]] = {}
    for _ in range(given.repetitions):
        idle = [*run, "--entrypoint", "/bin/true", given.image]
        rows.setdefault("an empty container", []).append(seconds_to_end(idle))
        version = [*run, given.image, "--version"]
        rows.setdefault("`--version`", []).append(seconds_to_end(version))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            out.mkdir()
            os.chown(out, 12345, 12345)
            shown = ["--volume", f"{given.bids_dir.resolve()}:/data:ro", "--volume", f"{out}:/out"]
            app = [given.image, "/data", "/out", "participant", "--task", given.task]
            written, ended = seconds_to_label_map([*run, *shown, *app], out)
        rows.setdefault(f"`--task {given.task}`: first label map", []).append(written)
        rows.setdefault(f"`--task {given.task}`: the end", []).append(ended)
    print(f"medians of {given.repetitions}, the least and the most\n")
    print("| container | seconds | least | most |\n|---|---|---|---|")
    for name, times in rows.items():
        print(f"| {name} | {statistics.median(times):.1f} | {min(times):.1f} | {max(times):.1f} |")


if __name__ == "__main__":
    main()
