"""What damages change: nothing where they should not, a sentence where the app refuses."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.cli.evaluate import main
from bids_deepmrseg.errors import InputDataError, UsageError
from bids_deepmrseg.evaluation.changes import Change, read_changes, write_changes
from bids_deepmrseg.evaluation.damage import (
    STRIPPED,
    Damage,
    cut,
    gamma,
    noise,
    resampled,
    stored,
)
from bids_deepmrseg.evaluation.moved import STORAGE_ORDERS
from bids_deepmrseg.evaluation.render import put_into, render
from bids_deepmrseg.evaluation.robustness import find_cases, measure
from bids_deepmrseg.evaluation.robustness_tables import robustness_text
from bids_deepmrseg.evaluation.whole import Models
from tests.makers import bids_path, make_task
from tests.regions import make_chain, make_chain_models, make_dataset

SCAN = "sub-01_T1w.nii.gz"


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(models_dir=make_chain_models(tmp_path / "models"), device="cpu")


def changes_of(
    raw: Path, models: Models, damages: Sequence[Damage], *, scan: str = SCAN
) -> tuple[Change, ...]:
    (case,) = find_cases([raw / bids_path(scan)], make_chain()[-1])
    more = measure(case, models, damages, done=(), on_damage=lambda _: None)
    return tuple(change for rows in more for change in rows)


def test_no_storage_order_changes_a_label_of_any_task_of_a_chain(
    tmp_path: Path, models: Models
) -> None:
    raw = make_dataset(tmp_path / "raw", {SCAN: "LPS"})
    changes = changes_of(raw, models, [stored(order) for order in STORAGE_ORDERS])
    orders = [change for change in changes if change.damage != "none"]
    assert {change.severity for change in orders} == set(STORAGE_ORDERS)
    assert {change.task for change in orders} == {"whole", "side", "part"}
    for change in orders:
        assert (change.status, change.same) == ("done", "true")
        assert (change.change, change.dice, change.trip_dice) == (0, 1, 1)
        assert change.undamaged_ml > 0
    assert "as it was: 48 of 48." in robustness_text(changes)


def test_strong_damages_change_answers_and_the_undamaged_rows_say_what_was_there(
    tmp_path: Path, models: Models
) -> None:
    raw = make_dataset(tmp_path / "raw", {SCAN: "LAS"})
    changes = changes_of(raw, models, [gamma(0.9), resampled(5.0)])
    whole = {c.title: c for c in changes if c.task == "whole"}
    assert whole["none"].volume_ml == whole["none"].undamaged_ml > 500
    assert math.isnan(whole["none"].change)
    brighter = whole["gamma 0.9"]
    assert brighter.same == "false"
    assert brighter.volume_ml != brighter.undamaged_ml
    assert brighter.change == pytest.approx(brighter.volume_ml / brighter.undamaged_ml - 1)
    assert brighter.trip_dice == 1  # the lattice is the same
    coarse = whole["resampled 5 mm"]
    assert 0.8 < coarse.trip_dice < 1
    assert 0.8 < coarse.dice < 1


def test_a_scan_that_is_refused_after_a_damage_is_a_row_with_the_sentence(
    tmp_path: Path, models: Models
) -> None:
    raw = make_dataset(tmp_path / "raw", {SCAN: "RAS"})
    changes = changes_of(raw, models, [cut("L", 60.0), cut("S", 900.0)])
    failed = [change for change in changes if change.status == "failed"]
    of_cut = [change for change in failed if change.severity == "L 60 mm"]
    assert {change.task for change in of_cut} == {"side", "part"}  # the whole brain is still seen
    for change in of_cut:
        assert "Left" in change.reason
        assert math.isnan(change.volume_ml)
        assert change.undamaged_ml > 0
        assert str(tmp_path) not in change.reason
    impossible = [change for change in failed if change.severity == "S 900 mm"]
    assert len({change.task for change in impossible}) == 3
    assert all("nothing of the head" in change.reason for change in impossible)
    text = robustness_text(changes)
    assert f"- sub-01, cut off L 60 mm, side, part: {of_cut[0].reason}" in text


def test_a_scan_that_is_refused_as_it_is_says_so_and_counts_for_the_tasks_before(
    tmp_path: Path, models: Models
) -> None:
    raw = make_dataset(tmp_path / "raw", {SCAN: "RAS"}, one_sided=(SCAN,))
    changes = changes_of(raw, models, [noise(1.0)])
    as_it_is = {change.task: change for change in changes if change.damage == "none"}
    assert as_it_is["whole"].status == "done"
    assert as_it_is["part"].status == "failed"
    assert "Right" in as_it_is["part"].reason
    assert {change.task for change in changes if change.damage == "noise"} == {"whole"}


def test_scans_are_stripped_by_the_mask_that_the_chain_itself_found(
    tmp_path: Path, models: Models
) -> None:
    raw = make_dataset(tmp_path / "raw", {SCAN: "LIA"})
    changes = changes_of(raw, models, [STRIPPED])
    stripped = [change for change in changes if change.damage == "stripped"]
    assert {change.task for change in stripped} == {"whole", "side", "part"}
    (brain,) = (change for change in stripped if change.task == "whole")
    assert brain.dice > 0.9


def test_the_verb_writes_goes_on_where_it_stopped_and_renders(tmp_path: Path) -> None:
    scans = {SCAN: "RAS", "sub-02_T1w.nii.gz": "LPS"}
    raw = make_dataset(tmp_path / "raw", scans, one_sided=("sub-02_T1w.nii.gz",))
    table = tmp_path / "docs" / "robustness_part.tsv"
    command = ["robustness", "part", str(raw), "--into", str(table), "--device", "cpu"]
    command += ["--models-dir", str(make_chain_models(tmp_path / "models"))]
    assert main([*command, "--only", "gamma"]) == 0
    first = read_changes(table)
    assert {change.scan for change in first} == {"sub-01", "sub-02"}
    assert {change.title for change in first} == {"none", "gamma 0.7", "gamma 1.4"}
    assert any(change.status == "failed" for change in first)
    assert main([*command, "--only", "gamma", "oblique affine"]) == 0
    second = read_changes(table)
    assert _alike(second[: len(first)], first)
    assert {change.damage for change in second[len(first) :]} == {"oblique affine"}
    document = tmp_path / "docs" / "accuracy.md"
    document.write_text("<!-- begin robustness_part -->\n<!-- end robustness_part -->\n")
    put_into(document, render([table], draw=True))
    text = document.read_text(encoding="utf-8")
    assert "| part | gamma 0.7 | 1 |" in text
    assert "Refused" in text
    assert "robustness_part.svg" in text
    drawn = (table.parent / "figures" / "robustness_part.svg").read_text(encoding="utf-8")
    assert "gamma 1.4" in drawn
    assert "oblique" not in drawn


def _alike(some: Sequence[Change], others: Sequence[Change]) -> bool:
    """Whether rows say the same; ``nan`` is no number, and equals nothing."""
    return [str(one) for one in some] == [str(other) for other in others]


def test_the_verb_refuses_unknown_damages_and_folders_without_scans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models_dir = str(make_chain_models(tmp_path / "models"))
    command = ["robustness", "part", str(tmp_path), "--into", str(tmp_path / "t.tsv")]
    assert main([*command, "--models-dir", models_dir, "--only", "rust"]) != 0
    assert "rust" in capsys.readouterr().err
    assert main([*command, "--models-dir", models_dir]) != 0
    assert "holds no T1w scan" in capsys.readouterr().err


def test_tasks_of_several_scans_are_refused() -> None:
    with pytest.raises(UsageError, match="one scan"):
        find_cases([], make_task(channels=("T1w", "FLAIR")))


def test_medians_leave_out_damages_that_cannot_change_anything() -> None:
    made = Change(
        task="part",
        scan="sub-01",
        damage="noise",
        severity="3 %",
        status="done",
        reason="n/a",
        index=1,
        structure="Blob",
        volume_ml=1.1,
        undamaged_ml=1.0,
        change=0.1,
        dice=0.9,
        trip_dice=1.0,
        same="false",
    )
    orders = [
        replace(made, damage="stored as", severity=order, change=0.0, dice=1.0, same="true")
        for order in STORAGE_ORDERS
    ]
    text = robustness_text([made, *orders])
    assert "below 5%: 0 of 1 structures; not Blob (part)." in text
    assert "| part | Blob | 10.0% | 10.0% | +10.0% (noise 3 %, sub-01) | 0.900 | 0 |" in text
    broken = replace(orders[3], same="false")
    sentence = f"47 of 48; not {broken.severity} of sub-01."
    assert sentence in robustness_text([made, *orders[:3], broken, *orders[4:]])


def test_changes_read_back_and_an_empty_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "robustness_part.tsv"
    write_changes([], file)
    assert read_changes(file) == ()
    with pytest.raises(InputDataError, match="holds no change"):
        render([file], draw=False)
