"""``deepmrseg-model``: what the networks of a task, or of a recipe, are made of and cost."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bids_deepmrseg.errors import DeepMRSegError


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = argparse.ArgumentParser(
        prog="deepmrseg-model",
        description="Print parameters and GFLOP per slice of a task's networks, verified first.",
    )
    p.add_argument("task", nargs="?", default="deepbrain", help="default: %(default)s")
    p.add_argument("--models-dir", type=Path)
    p.add_argument("--side", type=int, default=256, help="voxels; default: %(default)s")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        for line in _lines(arguments):
            print(line)
    except DeepMRSegError as error:
        print(f"deepmrseg-model: {error}", file=sys.stderr)
        return error.exit_code
    return os.EX_OK


def _lines(arguments: argparse.Namespace) -> list[str]:
    """One line per network, and the UNet benchmark of the same width beside it."""
    from dataclasses import replace

    from bids_deepmrseg.network.build import measure_cost
    from bids_deepmrseg.network.weights import read_record, verify
    from bids_deepmrseg.taskfiles import find_named_model_folder

    folder = find_named_model_folder(arguments.task, arguments.models_dir)
    record = read_record(folder)
    verify(folder, record)
    lines = [f"task {record.task}, weights {record.digest}, {record.license}"]
    for member in record.members:
        for family in ("deepmrseg", "unet"):
            architecture = replace(member.architecture, family=family)
            cost = measure_cost(architecture, side=arguments.side)
            mark = "" if family == member.architecture.family else " (benchmark, not used)"
            lines.append(
                f"{member.view} {family}{mark}: {cost.n_parameters:,} parameters, "
                f"{cost.gflop_per_slice:.2f} GFLOP per {arguments.side} x {arguments.side} slice"
            )
    return lines


def entry() -> None:
    """Console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
