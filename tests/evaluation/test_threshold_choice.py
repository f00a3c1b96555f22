"""The choice of a rule follows its criterion, and a fold has no say in its own."""

import math

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.threshold_choice import choose_rule, leave_out, score
from bids_deepmrseg.evaluation.threshold_tables import criterion_table, threshold_text
from bids_deepmrseg.evaluation.thresholds import AtRule
from bids_deepmrseg.imaging.lesions import LesionRule
from tests.evaluation.made import cells


def at(
    scan: str,
    threshold: float,
    f1: float,
    lesion_f1: float | None = None,
    *,
    smallest_mm3: float = 0.0,
    fold: int = 1,
    repeat: int = 1,
    volume_ml: float = 1.0,
    network: str = "deepmrseg",
) -> AtRule:
    """What one rule gives on one scan."""
    return AtRule(
        dataset="made",
        network=network,
        ensemble="axial, flips",
        repeat=repeat,
        fold=fold,
        subject=scan,
        scan=scan,
        threshold=threshold,
        smallest_mm3=smallest_mm3,
        f1=f1,
        lesion_f1=f1 if lesion_f1 is None else lesion_f1,
        volume_ml=volume_ml,
        reference_volume_ml=2.0,
    )


def rule(threshold: float, smallest_mm3: float = 0.0) -> LesionRule:
    return LesionRule(threshold=threshold, smallest_mm3=smallest_mm3)


# low is best in folds 1 and 2, but fold 3 likes high so much that high is best over all
THREE_FOLDS = tuple(
    at(f"sub-{fold}", threshold, f1, fold=fold)
    for threshold, of_folds in ((0.3, (0.7, 0.7, 0.0)), (0.6, (0.6, 0.6, 0.9)))
    for fold, f1 in enumerate(of_folds, start=1)
)


def test_the_rule_of_the_highest_mean_of_both_f1_is_chosen() -> None:
    rows = (at("a", 0.3, 0.9, 0.1), at("a", 0.4, 0.6, 0.5), at("a", 0.5, 0.2, 0.8))
    assert choose_rule(rows) == rule(0.4)


def test_scans_count_alike_however_often_they_were_repeated() -> None:
    low = [at("a", 0.3, 1.0, repeat=n) for n in (1, 2, 3)] + [at("b", 0.3, 0.1)]
    high = [at("a", 0.6, 0.5, repeat=n) for n in (1, 2, 3)] + [at("b", 0.6, 0.7)]
    assert score(low).criterion == pytest.approx(0.55)
    assert choose_rule((*low, *high)) == rule(0.6)


def test_of_equal_rules_the_middle_one_that_removes_least_is_chosen() -> None:
    rows = [
        at("a", threshold, 0.5, smallest_mm3=mm3)
        for mm3 in (10.0, 5.0)
        for threshold in (0.3, 0.45, 0.9)
    ]
    assert choose_rule(rows) == rule(0.45, 5.0)


def test_what_was_not_measured_is_left_out() -> None:
    rows = (at("a", 0.4, 0.5), at("b", 0.4, math.nan), at("a", 0.5, 0.4), at("b", 0.5, 0.4))
    assert choose_rule(rows) == rule(0.4)
    with pytest.raises(UsageError, match="no measured rules"):
        choose_rule((at("a", 0.4, math.nan),))


def test_a_fold_has_no_say_in_its_own_rule() -> None:
    assert choose_rule(THREE_FOLDS) == rule(0.6)
    left_out = leave_out(THREE_FOLDS)
    assert [(one.fold, one.rule) for one in left_out] == [
        (1, rule(0.6)),
        (2, rule(0.6)),
        (3, rule(0.3)),
    ]
    honest = score([row for one in left_out for row in one.rows])
    assert honest.f1 == pytest.approx((0.6 + 0.6 + 0.0) / 3)
    changed = [at(r.scan, r.threshold, 1 - r.f1, fold=3) if r.fold == 3 else r for r in THREE_FOLDS]
    assert [one.rule for one in leave_out(changed)][2] == left_out[2].rule


def test_a_lone_fold_has_no_others_to_choose_for_it() -> None:
    assert leave_out(tuple(row for row in THREE_FOLDS if row.fold == 1)) == ()


def test_volumes_are_compared_as_well() -> None:
    found = score((at("a", 0.5, 0.5, volume_ml=1.0), at("b", 0.5, 0.5, volume_ml=2.5)))
    assert found.volume_difference_percent == pytest.approx((50 + 25) / 2)
    assert math.isnan(score((at("a", 0.5, 0.5),)).rho_c)


def test_the_text_shows_what_was_chosen_and_what_it_is_worth() -> None:
    text = threshold_text(THREE_FOLDS)
    assert "DeepMRSeg, axial, flips: 3 scans of 3 subjects in 3 folds." in text
    assert "| at least 0.6, 0 mm3, chosen on all folds | 0.700 | 0.700 | 0.700 |" in text
    assert "| chosen for each fold on the others | 0.400 | 0.400 | 0.400 |" in text
    assert "| 3 | sub-3 | at least 0.3, 0 mm3 | 0.000 | 0.000 | 0.000 |" in text
    assert cells(criterion_table(THREE_FOLDS, rule(0.6))) == {
        "0.3": ["0.467"],
        "0.6": ["**0.700**"],
    }


def test_a_lone_fold_is_told_and_networks_stand_one_after_another() -> None:
    first = tuple(row for row in THREE_FOLDS if row.fold == 1)
    assert "There is one fold only" in threshold_text(first)
    other = (at("sub-1", 0.5, 0.3, network="unet"),)
    assert threshold_text((*first, *other)) == f"{threshold_text(first)}\n\n{threshold_text(other)}"
    with pytest.raises(UsageError, match="no measured rules"):
        threshold_text(())
