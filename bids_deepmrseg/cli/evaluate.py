"""``deepmrseg-evaluate``: segment labelled scans, compare, and render tables of results."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from bids_deepmrseg.cli import crossval, quality, robustness
from bids_deepmrseg.errors import DeepMRSegError


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = argparse.ArgumentParser(
        prog="deepmrseg-evaluate", description="Measure a model against labelled scans."
    )
    verbs = p.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="segment labelled scans and write per-case results")
    run.add_argument("task", help="name of a known task")
    run.add_argument(
        "labelled",
        type=Path,
        help="BIDS dataset with label maps beside its scans or below derivatives/; for a task "
        "with a region, crops of its first place",
    )
    run.add_argument(
        "--reference",
        default="dseg",
        metavar="ENDING",
        help="what names of label maps end in: dseg, mask, label-lesion_mask; default %(default)s",
    )
    run.add_argument(
        "results",
        type=Path,
        help="TSV to write, one row per scan and structure; of lesions also NAME_lesions.tsv",
    )
    run.add_argument("--subjects", nargs="+", default=[], metavar="SUB", help="only these")
    run.add_argument(
        "--freesurfer", action="store_true", help="the labels carry FreeSurfer's numbers"
    )
    run.add_argument("--models-dir", type=Path)
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    run.add_argument("--fast", action="store_true", help="only the first view")
    render = verbs.add_parser("render", help="put tables and figures of results into a document")
    render.add_argument(
        "results",
        type=Path,
        nargs="+",
        help="TSVs of results (NAME.tsv), of the networks behind them (NAME_folds.tsv), of lesions "
        "(NAME_lesions.tsv, NAME_thresholds.tsv, and NAME_scans.tsv with the kind of each scan), "
        "and logs of trainings (training_TASK_*.tsv)",
    )
    render.add_argument(
        "--into",
        type=Path,
        metavar="DOCUMENT",
        help="markdown with '<!-- begin NAME -->' and '<!-- end NAME -->' for each NAME.tsv, "
        "NAME_thresholds and training_TASK; figures are drawn into the folder figures beside the "
        "results. Without it the tables are printed",
    )
    crossval.add_crossval(
        verbs.add_parser("crossval", help="train and measure on folds of persons, resumably")
    )
    crossval.add_merge(verbs.add_parser("merge", help="gather the folds that crossval finished"))
    crossval.add_ensemble(
        verbs.add_parser("ensemble", help="make one model of many folds' networks")
    )
    quality.add_calibrate(
        verbs.add_parser("calibrate", help="fit a predicted Dice to the table of damage")
    )
    quality.add_damage(verbs.add_parser("damage", help="segment held-out scans, damaged"))
    robustness.add_robustness(
        verbs.add_parser("robustness", help="what damages to scans change, without labels")
    )
    thresholds = verbs.add_parser(
        "thresholds", help="choose what counts as a lesion, from what folds gave at many thresholds"
    )
    thresholds.add_argument("results", type=Path, help="NAME_thresholds.tsv of the verb merge")
    record = verbs.add_parser("record", help="write means of results into a model's record")
    record.add_argument("results", type=Path, nargs="+", help="TSVs of the verb run")
    record.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="model folder")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate or render, and return the exit code."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    from bids_deepmrseg.pipeline.environment import passing_folder

    try:
        with passing_folder(_results_folder(arguments)):
            VERBS[arguments.verb](arguments)
    except DeepMRSegError as error:
        print(f"deepmrseg-evaluate: {error}", file=sys.stderr)
        return error.exit_code
    return os.EX_OK


def _results_folder(arguments: argparse.Namespace) -> Path:
    """Where a verb writes, or else where it reads."""
    for name in ("output", "into", "results", "runs"):
        found = getattr(arguments, name, None)
        first = found[0] if isinstance(found, list) else found
        if isinstance(first, Path):
            return first if name in {"output", "runs"} else first.parent
    return Path()


def _run(arguments: argparse.Namespace) -> None:
    """Segment, compare, write and print."""
    from bids_deepmrseg.evaluation.compare import evaluate
    from bids_deepmrseg.evaluation.lesion_results import LESIONS, write_lesion_results
    from bids_deepmrseg.evaluation.lesion_tables import lesion_text
    from bids_deepmrseg.evaluation.results import write_results
    from bids_deepmrseg.evaluation.tables import accuracy_table
    from bids_deepmrseg.evaluation.whole import Models
    from bids_deepmrseg.selection.labelled import find_labelled
    from bids_deepmrseg.stages.segment import pick_device
    from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task

    folder = find_named_model_folder(arguments.task, arguments.models_dir)
    task = read_task(folder / TASK_FILE)
    subjects = tuple(f"sub-{s.removeprefix('sub-')}" for s in arguments.subjects)
    scans = find_labelled(
        arguments.labelled, task, subjects=subjects, reference=arguments.reference
    )
    with tqdm(total=len(scans), unit="scan", file=sys.stderr) as bar:
        compared = evaluate(
            scans,
            folder,
            dataset=arguments.results.stem,
            freesurfer=arguments.freesurfer,
            models=Models(
                models_dir=arguments.models_dir,
                device=pick_device(arguments.device),
                fast=arguments.fast,
            ),
            on_scan=lambda _: bar.update(),
        )
    write_results(compared.results, arguments.results)
    print(accuracy_table(compared.results))
    if compared.lesions:
        beside = arguments.results.with_name(f"{arguments.results.stem}{LESIONS}.tsv")
        write_lesion_results(compared.lesions, beside)
        print(f"\n{lesion_text(compared.lesions)}")


def _render(arguments: argparse.Namespace) -> None:
    """Tables and figures of committed results put into a document, or tables printed."""
    from bids_deepmrseg.evaluation.render import put_into, render

    sections = render(arguments.results, draw=arguments.into is not None)
    if arguments.into is not None:
        put_into(arguments.into, sections)
        return
    for section in sections:
        print(f"{section.name}\n\n{section.text}\n")


def _thresholds(arguments: argparse.Namespace) -> None:
    """Print which rule of a lesion is best, and what a choice made that way is worth."""
    from bids_deepmrseg.evaluation.threshold_tables import threshold_text
    from bids_deepmrseg.evaluation.thresholds import read_at_rules

    print(threshold_text(read_at_rules(arguments.results)))


def _record(arguments: argparse.Namespace) -> None:
    """Let the weights' record say what was measured with them."""
    from dataclasses import replace

    from bids_deepmrseg.evaluation.results import read_results
    from bids_deepmrseg.evaluation.summary import headline
    from bids_deepmrseg.evaluation.tables import summarise
    from bids_deepmrseg.network.weights import read_record, write_record

    metrics = [m for file in arguments.results for m in summarise(headline(read_results(file)))]
    write_record(arguments.model, replace(read_record(arguments.model), metrics=tuple(metrics)))
    for metric in metrics:
        print(f"{metric.name}: {metric.value}")


VERBS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": _run,
    "render": _render,
    "record": _record,
    "thresholds": _thresholds,
    "crossval": crossval.crossval,
    "merge": crossval.merge,
    "ensemble": crossval.ensemble,
    "damage": quality.damage,
    "calibrate": quality.calibrate,
    "robustness": robustness.robustness,
}


def entry() -> None:
    """Console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
