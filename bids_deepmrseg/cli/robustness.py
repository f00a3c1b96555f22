"""``deepmrseg-evaluate robustness``: what damages to a scan change in its segmentation."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm


def add_robustness(p: argparse.ArgumentParser) -> None:
    """Flags of the verb ``robustness``."""
    p.add_argument("task", help="name of the task; tasks that locate it are measured with it")
    p.add_argument(
        "scans", type=Path, nargs="+", help="scans, or BIDS datasets of which all are taken"
    )
    p.add_argument(
        "--into",
        type=Path,
        required=True,
        metavar="TSV",
        help="table to write, a row per structure; what it holds already is not done again",
    )
    p.add_argument(
        "--only", nargs="+", default=[], metavar="DAMAGE", help="damages of these names only"
    )
    p.add_argument("--models-dir", type=Path)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    p.add_argument("--fast", action="store_true", help="only the first view")


def robustness(arguments: argparse.Namespace) -> None:
    """Segment scans as they are and damaged, and write what changes."""
    from bids_deepmrseg.errors import UsageError
    from bids_deepmrseg.evaluation.changes import read_changes, write_changes
    from bids_deepmrseg.evaluation.damage import DAMAGES
    from bids_deepmrseg.evaluation.robustness import find_cases, measure
    from bids_deepmrseg.evaluation.robustness_tables import robustness_text
    from bids_deepmrseg.evaluation.whole import Models
    from bids_deepmrseg.stages.segment import pick_device
    from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task

    known = list(dict.fromkeys(damage.name for damage in DAMAGES))
    if unknown := set(arguments.only) - set(known):
        raise UsageError(f"--only {unknown.pop()}: there is {', '.join(known)}")
    damages = [d for d in DAMAGES if not arguments.only or d.name in arguments.only]
    task = read_task(find_named_model_folder(arguments.task, arguments.models_dir) / TASK_FILE)
    cases = find_cases(arguments.scans, task)
    models = Models(
        models_dir=arguments.models_dir,
        device=pick_device(arguments.device),
        fast=arguments.fast,
    )
    rows = list(read_changes(arguments.into)) if arguments.into.is_file() else []
    done = {(row.scan, row.damage, row.severity) for row in rows}
    with tqdm(total=len(cases) * (len(damages) + 1), unit="damage", file=sys.stderr) as bar:
        for case in cases:
            for more in measure(case, models, damages, done=done, on_damage=lambda _: bar.update()):
                rows += more
                write_changes(rows, arguments.into)
    print(robustness_text(rows))
