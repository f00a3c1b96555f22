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


def add_calibrate(p: argparse.ArgumentParser) -> None:
    """Flags of the verb ``calibrate``."""
    p.add_argument(
        "results",
        type=Path,
        help="table of the verb damage; where <task>_crossval.tsv lies beside it, usual volumes "
        "are taken from there",
    )
    p.add_argument(
        "--into", type=Path, required=True, metavar="MODEL_FOLDER", help="gets quality.json"
    )


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


def calibrate(arguments: argparse.Namespace) -> None:
    """Fit the predicted Dice, write it into a model folder, and print what it is worth."""
    from bids_deepmrseg.evaluation.calibration import calibrate as fit_all
    from bids_deepmrseg.evaluation.calibration import known_rows
    from bids_deepmrseg.evaluation.quality_tables import quality_text, stands_on, study
    from bids_deepmrseg.network.weights import read_record
    from bids_deepmrseg.stages.quality import write_calibration

    studied = study(arguments.results, folder=arguments.into)
    calibration = fit_all(
        known_rows(studied.rows),
        studied.references,
        studied.task,
        model_sha256=read_record(arguments.into).digest,
        stands_on=stands_on(studied),
    )
    write_calibration(calibration, arguments.into)
    print(quality_text(studied))
