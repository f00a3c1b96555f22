"""``deepmrseg-evaluate damage`` and ``calibrate``: how far a model's figures of quality can go."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm


def add_damage(p: argparse.ArgumentParser) -> None:
    """Flags of the verb ``damage``."""
    p.add_argument("task", help="name of the task")
    p.add_argument("labelled", type=Path, help="the dataset that crossval was run on")
    p.add_argument("runs", type=Path, help="output folder of crossval, with finished folds")
    p.add_argument("--into", type=Path, required=True, metavar="TSV", help="table to write")
    p.add_argument("--network", default="deepmrseg", help="family; default %(default)s")
    p.add_argument("--only-fold", type=int, nargs="+", default=[], metavar="F", help="only these")
    p.add_argument("--people", type=int, metavar="N", help="at most as many people of each fold")
    p.add_argument(
        "--damages", type=int, metavar="N", help="of each scan only as many, drawn at random"
    )
    p.add_argument("--reference", default="dseg", metavar="ENDING", help="as for the verb run")
    p.add_argument(
        "--freesurfer", action="store_true", help="the labels carry FreeSurfer's numbers"
    )
    p.add_argument("--models-dir", type=Path, help="models that show where places are")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def damage(arguments: argparse.Namespace) -> None:
    """Segment held-out scans, damaged and not; rows that are in the table are not made again."""
    from bids_deepmrseg.evaluation.damaged import find_held_folds, judge_todo, plan_damaged
    from bids_deepmrseg.evaluation.judged import read_judged, write_judged
    from bids_deepmrseg.evaluation.whole import Models
    from bids_deepmrseg.selection.labelled import find_labelled
    from bids_deepmrseg.stages.segment import pick_device
    from bids_deepmrseg.taskfiles import TASK_FILE, read_task

    folds = find_held_folds(arguments.runs, arguments.task, arguments.network)
    if arguments.only_fold:
        folds = tuple(fold for fold in folds if fold.fold in arguments.only_fold)
    task = read_task(folds[0].model / TASK_FILE)
    scans = find_labelled(arguments.labelled, task, reference=arguments.reference)
    plan = plan_damaged(scans, folds, n_people=arguments.people, n_damages=arguments.damages)
    rows = list(read_judged(arguments.into)) if arguments.into.is_file() else []
    done = {row.case for row in rows}
    todos = [todo for todo in plan if todo.key not in done]
    models = Models(models_dir=arguments.models_dir, device=pick_device(arguments.device))
    for todo in tqdm(todos, unit="scan", file=sys.stderr):
        rows += judge_todo(todo, models, freesurfer=arguments.freesurfer)
        write_judged(rows, arguments.into)
