"""Laws of the fit: it finds what is there, sees nobody whom it predicts, and claims no more."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import InputDataError, UsageError
from bids_deepmrseg.evaluation.calibration import (
    Predicted,
    apply,
    best_margin,
    calibrate,
    correlation,
    fit,
    known_rows,
    of_cases,
    predict_held_out,
    references_of,
)
from bids_deepmrseg.evaluation.judged import UNDAMAGED, Judged, read_judged, write_judged
from bids_deepmrseg.evaluation.quality_plots import draw_predictions
from bids_deepmrseg.evaluation.quality_tables import quality_text, study
from bids_deepmrseg.files import ABSENT
from bids_deepmrseg.taskfiles import TASK_FILE
from tests.makers import make_task, task_toml

TASK = make_task()


def make_row(person: int, number: int, strength: float, *, index: int = 1) -> Judged:
    """A row whose Dice follows the agreement of the networks, with a little noise."""
    noise = np.random.default_rng([person, number, index]).normal(0, 0.01)
    agreement = 0.95 - strength
    dice = 1 / (1 + math.exp(-(5 * agreement - 2.5))) + noise
    return Judged(
        task=TASK.name,
        repeat=1,
        fold=person % 2 + 1,
        subject=f"sub-{person}",
        scan=f"sub-{person}",
        damage=f"damage{number}" if number else UNDAMAGED,
        severity=ABSENT,
        index=index,
        structure=next(label.name for label in TASK.labels if label.index == index),
        agreement=agreement,
        soft_dice=0.9,
        border_entropy_bits=0.4,
        dice=dice,
        volume_ml=2.0,
        reference_volume_ml=2.0 + 0.1 * (person % 3),
        refused=ABSENT,
    )


ROWS = tuple(
    make_row(person, number, strength, index=index)
    for person in range(6)
    for number, strength in enumerate((0.0, 0.1, 0.3, 0.6))
    for index in (1, 7)
)


def test_the_fit_finds_what_the_dice_follows() -> None:
    fitted = fit(ROWS, references_of(ROWS), TASK)
    assert fitted.weights.agreement is not None
    assert fitted.weights.agreement > 1
    assert [one.index for one in fitted.structures] == [1, 7]
    predicted = [apply(fitted, row, TASK) for row in ROWS]
    assert max(abs(p.dice - p.row.dice) for p in predicted) < 0.1
    assert correlation(predicted)[0] > 0.98


def test_weights_never_have_the_sign_that_makes_no_sense() -> None:
    """Where the Dice falls with agreement the weight is 0, and not below."""
    upside_down = [replace(row, dice=1 - row.dice) for row in ROWS]
    weights = fit(upside_down, references_of(ROWS), TASK).weights
    assert weights.agreement == pytest.approx(0, abs=1e-3)


def test_a_person_is_predicted_without_their_own_rows() -> None:
    """Changing one person's truth changes the predictions of all others, and not theirs."""
    before = predict_held_out(ROWS, references_of(ROWS), TASK)
    changed = [replace(r, dice=r.dice / 2) if r.subject == "sub-3" else r for r in ROWS]
    after = predict_held_out(changed, references_of(changed), TASK)
    for one, other in zip(before, after, strict=True):
        assert (one.dice == other.dice) is (one.row.subject == "sub-3")


def test_models_of_one_network_do_without_agreement() -> None:
    rows = [replace(r, soft_dice=r.agreement, agreement=math.nan) for r in ROWS]
    fitted = fit(rows, references_of(rows), TASK)
    assert fitted.weights.agreement is None
    assert correlation([apply(fitted, row, TASK) for row in rows])[0] > 0.98


def test_refused_scans_and_structures_that_nobody_shows_are_left_out() -> None:
    refused = replace(ROWS[0], refused="no brain", agreement=math.nan, dice=0.0)
    assert known_rows([refused, replace(ROWS[1], dice=math.nan), ROWS[2]]) == (ROWS[2],)


@pytest.mark.parametrize(("shift", "margin"), [(0.0, 0.0), (0.05, 0.06), (-0.04, -0.04)])
def test_the_threshold_parts_bad_from_good(shift: float, margin: float) -> None:
    """Predictions that are too high by ``shift`` need a threshold that much higher."""
    truths = (0.70, 0.795, 0.805, 0.90)
    predicted = [Predicted(replace(ROWS[0], dice=t), t + shift, 0.8, 0.8) for t in truths]
    assert best_margin(predicted) == pytest.approx(margin, abs=0.011)


def test_cases_are_means_over_their_structures() -> None:
    predicted = predict_held_out(ROWS, references_of(ROWS), TASK)
    cases = of_cases(predicted)
    assert len(cases) == len(ROWS) // 2
    parts = [p for p in predicted if p.row.case == cases[0].row.case]
    assert cases[0].dice == pytest.approx(np.mean([p.dice for p in parts]))
    assert cases[0].row.dice == pytest.approx(np.mean([p.row.dice for p in parts]))


def test_the_calibration_flags_what_is_bad() -> None:
    made = calibrate(ROWS, references_of(ROWS), TASK, model_sha256="abc", stands_on="Six people")
    flags = {one.index: one.flag_below for one in made.structures}
    predicted = [apply(made, row, TASK) for row in ROWS]
    bad = [p for p in predicted if p.is_bad]
    assert bad
    assert all(p.dice < flags[p.row.index] for p in bad)
    assert not any(p.dice < flags[p.row.index] for p in predicted if not p.row.is_damaged)


def test_too_few_people_are_refused() -> None:
    few = [row for row in ROWS if row.subject in {"sub-0", "sub-1"}]
    with pytest.raises(UsageError, match="people"):
        fit(few, references_of(few), TASK)


def test_a_table_becomes_text_and_a_picture(tmp_path: Path) -> None:
    (tmp_path / TASK_FILE).write_text(task_toml(TASK), encoding="utf-8")
    file = tmp_path / "tiny_quality.tsv"
    write_judged(ROWS, file)
    assert [row.case for row in read_judged(file)] == [row.case for row in ROWS]
    studied = study(file, folder=tmp_path)
    text = quality_text(studied)
    assert "6 people, 24 scans, 18 of them damaged; 0 were refused" in text
    assert "| mean of a case | 24 |" in text
    assert "| damage3 | 6 |" in text
    draw_predictions(studied.structures, studied.cases, tmp_path / "picture.svg")
    assert "true Dice" in (tmp_path / "picture.svg").read_text(encoding="utf-8")


def test_a_table_of_two_tasks_is_refused(tmp_path: Path) -> None:
    write_judged([ROWS[0], replace(ROWS[1], task="other")], tmp_path / "a_quality.tsv")
    with pytest.raises(InputDataError, match="one task"):
        study(tmp_path / "a_quality.tsv")
