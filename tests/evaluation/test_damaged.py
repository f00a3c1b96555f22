"""Held-out scans are damaged, segmented and compared by the folds that never saw them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.cli.evaluate import main
from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.damaged import find_held_folds, plan_damaged
from bids_deepmrseg.evaluation.judged import UNDAMAGED, read_judged
from bids_deepmrseg.evaluation.results import write_results
from bids_deepmrseg.imaging.nifti import read_label_map
from bids_deepmrseg.selection.labelled import find_labelled
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.stages.segment import segment
from tests.evaluation.made import make_result
from tests.makers import make_model_folder, make_task
from tests.training.corpora import make_labelled

TASK = make_task()
PEOPLE = ("sub-1", "sub-2", "sub-3", "sub-4")


def make_runs(tmp_path: Path) -> tuple[Path, Path]:
    """A labelled dataset, and finished folds of tiny random networks that held two people each."""
    labelled = make_labelled(tmp_path / "labelled", PEOPLE)
    for fold in (1, 2):
        folder = tmp_path / "runs" / "deepmrseg" / f"repeat-1_fold-{fold}"
        make_model_folder(folder, TASK, views=("axial", "sagittal"), seed=fold)
        held = PEOPLE[2 * fold - 2 : 2 * fold]
        rows = [replace(make_result(who, "Left Blob", 0.5), fold=fold, repeat=1) for who in held]
        write_results([replace(row, scan=row.subject) for row in rows], folder / "results.tsv")
    return labelled, tmp_path / "runs"


def test_every_scan_is_planned_for_the_fold_that_held_it(tmp_path: Path) -> None:
    labelled, runs = make_runs(tmp_path)
    folds = find_held_folds(runs, TASK.name, "deepmrseg")
    plan = list(plan_damaged(find_labelled(labelled, TASK), folds, n_damages=3))
    assert len(plan) == 4 * (1 + 3)
    for todo in plan:
        assert todo.scan.subject in PEOPLE[2 * todo.fold.fold - 2 : 2 * todo.fold.fold]
    assert [(t.fold.fold, t.scan.subject) for t in plan[::4]] == [
        (1, "sub-1"),
        (2, "sub-3"),
        (1, "sub-2"),
        (2, "sub-4"),
    ]
    assert sum(todo.damage is None for todo in plan) == 4


def test_fewer_people_and_damages_are_a_part_of_more(tmp_path: Path) -> None:
    labelled, runs = make_runs(tmp_path)
    folds = find_held_folds(runs, TASK.name, "deepmrseg")
    scans = find_labelled(labelled, TASK)
    few = {t.key for t in plan_damaged(scans, folds, n_people=1, n_damages=2)}
    assert len(few) == 2 * 3
    assert few < {t.key for t in plan_damaged(scans, folds, n_damages=4)}


def test_folds_of_another_network_are_not_there(tmp_path: Path) -> None:
    _, runs = make_runs(tmp_path)
    with pytest.raises(UsageError, match="no finished fold of unet"):
        find_held_folds(runs, TASK.name, "unet")


def test_the_verb_tells_what_the_app_says_of_each_scan(tmp_path: Path) -> None:
    labelled, runs = make_runs(tmp_path)
    table = tmp_path / "tiny_quality.tsv"
    command = ["damage", TASK.name, str(labelled), str(runs), "--into", str(table)]
    command += ["--people", "1", "--device", "cpu"]
    assert main([*command, "--damages", "1"]) == 0
    rows = read_judged(table)
    assert len(rows) == 2 * 2 * len(TASK.labels)
    for row in (r for r in rows if r.damage == UNDAMAGED):
        scan = next(s for s in find_labelled(labelled, TASK) if s.stem == row.scan)
        folder = runs / "deepmrseg" / f"repeat-1_fold-{row.fold}" / TASK.name
        predicted = segment(prepare(scan.case), folder, TASK, device="cpu")
        mask = restore(predicted, TASK).dseg == row.index
        wanted = read_label_map(scan.reference)[0] == row.index
        dice = 2 * np.sum(mask & wanted) / (mask.sum() + wanted.sum())
        said = next(one for one in predicted.certainties if one.index == row.index)
        assert row.dice == pytest.approx(dice, rel=1e-3, abs=1e-6)
        assert row.agreement == pytest.approx(said.agreement, rel=1e-3)
    assert main([*command, "--damages", "2"]) == 0
    more = read_judged(table)
    assert more[: len(rows)] == rows  # what is there is not made again
    assert len(more) == 2 * 3 * len(TASK.labels)
