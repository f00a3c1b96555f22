"""Runs at once on one output folder, wave upon wave, some of them killed; counts what broke.

PYTHONPATH=. python benchmarks/many_writers.py --runs 16 --killed 8 --waves 5
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.storm import blow, faults_of, left_over, make_storm, undone


def main() -> int:
    """Blow, look, and tell."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--runs", type=int, default=16)
    p.add_argument("--killed", type=int, default=8)
    p.add_argument("--participants", type=int, default=10)
    p.add_argument("--waves", type=int, default=3)
    p.add_argument("--latest-s", type=float, default=60.0, help="kills happen before")
    arguments = p.parse_args()
    n_broken = 0
    with tempfile.TemporaryDirectory() as folder:
        storm = make_storm(Path(folder), arguments.participants)
        for wave in range(arguments.waves + 1):
            is_last = wave == arguments.waves
            n_killed = 0 if is_last else arguments.killed
            started_s = time.monotonic()
            told = blow(
                storm, arguments.runs, n_killed=n_killed, latest_s=arguments.latest_s, seed=wave
            )
            broken = [*told.complaints, *faults_of(storm)]
            if is_last:
                broken += [*left_over(storm), *undone(storm)]
            codes = dict(sorted(told.exit_codes.items()))
            print(f"wave {wave + 1}: {time.monotonic() - started_s:.0f} s, exit codes {codes}")
            for line in broken:
                print(f"  broken: {line}")
            n_broken += len(broken)
    print(f"broken: {n_broken}")
    return int(n_broken > 0)


if __name__ == "__main__":
    sys.exit(main())
