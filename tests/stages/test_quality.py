"""Laws of telling quality without a reference: what is predicted, flagged, and left untold."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import WeightsError
from bids_deepmrseg.records import Certainty, StructureMeasures
from bids_deepmrseg.stages.quality import (
    QUALITY_FILE,
    Calibration,
    Expected,
    Weights,
    asymmetry,
    doubts_of_quality,
    judge,
    predict_dice,
    read_calibration,
    write_calibration,
)
from bids_deepmrseg.tasks import Range
from tests.makers import make_task

TASK = make_task()
LEFT, RIGHT, MIDDLE = TASK.labels
WEIGHTS = Weights(agreement=4.0, soft_dice=2.0, border_entropy_bits=-1.0, volume_deviation=-0.5)
SURE = Certainty(index=1, agreement=0.95, soft_dice=0.95, border_entropy_bits=0.3)


def expected(index: int, name: str) -> Expected:
    return Expected(
        index=index,
        name=name,
        offset=-3.0,
        log_volume_mean=math.log(2.0),
        log_volume_sd=0.1,
        volume_range=Range(1.5, 2.7),
        asymmetry_low=-0.2,
        asymmetry_high=0.2,
        bad_below=0.8,
        flag_below=0.85,
    )


CALIBRATION = Calibration(
    task="tiny",
    model_sha256="abc",
    stands_on="Nobody",
    weights=WEIGHTS,
    structures=(expected(1, LEFT.name), expected(7, MIDDLE.name)),
    case_bad_below=0.8,
    case_flag_below=0.85,
)


def measured(volumes_ml: tuple[float, ...] = (2.0, 2.0, 2.0)) -> tuple[StructureMeasures, ...]:
    return tuple(
        StructureMeasures(
            label=label,
            n_voxels=round(1000 * volume_ml),
            volume_mm3=1000 * volume_ml,
            mean_probability=0.9,
            touches_edge=False,
            in_adult_range=None,
        )
        for label, volume_ml in zip(TASK.labels, volumes_ml, strict=True)
    )


def certain(**changes: float) -> tuple[Certainty, ...]:
    return tuple(replace(SURE, index=label.index, **changes) for label in TASK.labels)


def test_the_predicted_dice_is_the_logistic_of_the_weighted_figures() -> None:
    """-3 + 4 * 0.95 + 2 * 0.95 - 0.3 - 0.5 * |ln(2.2 / 2)| / 0.1."""
    logit = 2.4 - 0.5 * math.log(1.1) / 0.1
    found = predict_dice(SURE, 2.2, WEIGHTS, expected(1, LEFT.name))
    assert found == pytest.approx(1 / (1 + math.exp(-logit)))


def test_nothing_found_is_predicted_to_be_nothing_right() -> None:
    empty = replace(SURE, agreement=math.nan, soft_dice=0.0, border_entropy_bits=math.nan)
    assert predict_dice(empty, 0.0, WEIGHTS, expected(1, LEFT.name)) == 0


def test_one_network_of_several_gives_no_prediction() -> None:
    """With --fast there is no agreement, which the calibration needs."""
    one = replace(SURE, agreement=math.nan)
    assert math.isnan(predict_dice(one, 2.0, WEIGHTS, expected(1, LEFT.name)))
    of_one_network = replace(WEIGHTS, agreement=None)
    assert 0 < predict_dice(one, 2.0, of_one_network, expected(1, LEFT.name)) < 1


def test_a_good_case_has_no_flag_and_both_sides_are_known_by_one() -> None:
    judged = judge(measured(), certain(), CALIBRATION)
    assert [one.flags for one in judged] == [(), (), ()]
    assert judged[0].predicted_dice == judged[1].predicted_dice > 0.85
    assert [one.in_training_range for one in judged] == [True, True, True]
    assert doubts_of_quality(judged, TASK, CALIBRATION, "abc") == ()


def test_disagreement_is_flagged_by_structure_and_by_case() -> None:
    judged = judge(measured(), certain(agreement=0.4), CALIBRATION)
    assert all("predicted Dice 0.550 is below 0.850" in one.flags[0] for one in judged)
    first, *others = doubts_of_quality(judged, TASK, CALIBRATION, "abc")
    assert "mean over structures" in first
    assert len(others) == 3


def test_what_is_odd_in_the_scan_is_flagged_with_its_reason() -> None:
    left, right, middle = judge(measured((2.6, 1.6, 4.0)), certain(), CALIBRATION)
    assert left.asymmetry == right.asymmetry == pytest.approx(2 * 1.0 / 4.2)
    assert any("asymmetry +0.48" in why for why in left.flags)
    assert math.isnan(middle.asymmetry)
    assert middle.in_training_range is False
    assert any("1.50 to 2.70 ml" in why for why in middle.flags)


def test_without_calibration_only_the_scan_itself_is_judged() -> None:
    measures = (replace(measured()[0], touches_edge=True), *measured()[1:])
    left, right, _ = judge(measures, certain(), None)
    assert left.flags == ("it reaches the edge of the field of view",)
    assert right.flags == ()
    assert math.isnan(left.predicted_dice)
    assert left.in_training_range is None
    assert left.agreement == 0.95


def test_finding_nothing_is_a_flag_but_for_what_may_be_absent() -> None:
    empty = measured((0.0, 2.0, 2.0))
    assert judge(empty, (), None)[0].flags == ("nothing was found",)
    assert judge(empty, (), None, may_be_none=True)[0].flags == ()


def test_sides_are_told_by_names_and_asymmetry_points_left() -> None:
    assert asymmetry(LEFT, {1: 3.0, 2: 1.0}) == asymmetry(RIGHT, {1: 3.0, 2: 1.0}) == 1.0
    assert math.isnan(asymmetry(MIDDLE, {7: 1.0}))
    assert math.isnan(asymmetry(replace(LEFT, name="One Blob"), {1: 3.0, 2: 1.0}))
    assert math.isnan(asymmetry(LEFT, {1: 0.0, 2: 0.0}))


def test_a_calibration_of_other_weights_is_told_of() -> None:
    judged = judge(measured(), certain(), CALIBRATION)
    (doubt,) = doubts_of_quality(judged, TASK, CALIBRATION, "def")
    assert "other weights" in doubt


def test_a_calibration_reads_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    write_calibration(CALIBRATION, tmp_path)
    assert read_calibration(tmp_path) == CALIBRATION


def test_a_damaged_calibration_is_refused(tmp_path: Path) -> None:
    file = write_calibration(CALIBRATION, tmp_path)
    table = json.loads(file.read_text(encoding="utf-8"))
    del table["weights"]["soft_dice"]
    (tmp_path / QUALITY_FILE).write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(WeightsError, match="make it again"):
        read_calibration(tmp_path)
