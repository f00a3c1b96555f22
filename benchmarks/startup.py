"""Time what a user waits for before anything happens, as ratios to starting Python itself."""

import statistics
import subprocess
import sys
import time

REPETITIONS = 7
COMMANDS = {
    "python": ["-c", "pass"],
    "bids-deepmrseg --version": ["-m", "bids_deepmrseg", "--version"],
    "bids-deepmrseg --help": ["-m", "bids_deepmrseg", "--help"],
    "import numpy": ["-c", "import numpy"],
    "import nibabel": ["-c", "import nibabel"],
    "import bids": ["-c", "import bids"],
    "import nipype": ["-c", "import nipype"],
    "import torch": ["-c", "import torch"],
}


def seconds(arguments: list[str]) -> float:
    """Median wall time of one Python process."""
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    bare = seconds(COMMANDS["python"])
    print("| process | seconds | times bare Python |\n|---|---|---|")
    for name, arguments in COMMANDS.items():
        taken = seconds(arguments)
        print(f"| {name} | {taken:.2f} | {taken / bare:.1f} |")
