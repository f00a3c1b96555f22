"""Which rule of a lesion is the default: chosen on folds, and what an honest choice gives."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.lesionwise import volume_difference_percent
from bids_deepmrseg.evaluation.metrics import concordance
from bids_deepmrseg.evaluation.thresholds import AtRule
from bids_deepmrseg.imaging.lesions import LesionRule

SAME = 1e-9  # criteria that differ by less are equal


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleScore:
    """What rules give, as means over scans, a scan's value being its mean over repeats.

    Attributes
    ----------
    f1, lesion_f1
        Overlap, and lesion-wise; ``nan`` left out.
    criterion
        Of ``(f1 + lesion_f1) / 2`` of the scans.
    rho_c
        Concordance of volumes with the reference's, the mean over repeats.
    volume_difference_percent
        Absolute, in percent of the reference.
    """

    f1: float
    lesion_f1: float
    criterion: float
    rho_c: float
    volume_difference_percent: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The rule that is chosen for a fold without it, and the fold's rows by that rule."""

    repeat: int
    fold: int
    rule: LesionRule
    rows: tuple[AtRule, ...]


def rule_at(row: AtRule) -> LesionRule:
    """The rule that a row is about."""
    return LesionRule(threshold=row.threshold, smallest_mm3=row.smallest_mm3)


def by_rule(rows: Iterable[AtRule]) -> dict[LesionRule, tuple[AtRule, ...]]:
    """Rows of each rule, rules in the order in which they come."""
    found: dict[LesionRule, list[AtRule]] = {}
    for row in rows:
        found.setdefault(rule_at(row), []).append(row)
    return {rule: tuple(own) for rule, own in found.items()}


def choose_rule(rows: Sequence[AtRule]) -> LesionRule:
    """The rule whose mean over scans of ``(F1 + lesion-wise F1) / 2`` is highest.

    Of equals, the one whose threshold is nearest to 0.5, then the one that removes least.

    Raises
    ------
    UsageError
        If there is no row, or no rule by which anything can be measured.
    """
    criteria = {rule: score(own).criterion for rule, own in by_rule(rows).items()}
    known = {rule: value for rule, value in criteria.items() if not math.isnan(value)}
    if not known:
        raise UsageError("there are no measured rules to choose a threshold from")
    best = max(known.values())
    equal = [rule for rule, value in known.items() if value > best - SAME]
    return min(equal, key=lambda rule: (abs(rule.threshold - 0.5), rule.smallest_mm3))


def leave_out(rows: Sequence[AtRule]) -> tuple[LeftOut, ...]:
    """For every fold, the rule that the other folds of its repeat choose; none for a lone fold."""
    folds = sorted({(row.repeat, row.fold) for row in rows})
    left_out = []
    for repeat, fold in folds:
        of_repeat = [row for row in rows if row.repeat == repeat]
        others = [row for row in of_repeat if row.fold != fold]
        if others:
            rule = choose_rule(others)
            own = by_rule(row for row in of_repeat if row.fold == fold)
            left_out.append(LeftOut(repeat, fold, rule, own.get(rule, ())))
    return tuple(left_out)


def score(rows: Sequence[AtRule]) -> RuleScore:
    """Means over the scans of rows, each scan and repeat having one row."""
    return RuleScore(
        f1=_over_scans(rows, [row.f1 for row in rows]),
        lesion_f1=_over_scans(rows, [row.lesion_f1 for row in rows]),
        criterion=_over_scans(rows, [(row.f1 + row.lesion_f1) / 2 for row in rows]),
        rho_c=_mean(_rho_c([r for r in rows if r.repeat == n]) for n in {r.repeat for r in rows}),
        volume_difference_percent=_over_scans(
            rows,
            [volume_difference_percent(row.volume_ml, row.reference_volume_ml) for row in rows],
        ),
    )


def _over_scans(rows: Sequence[AtRule], values: Sequence[float]) -> float:
    """Mean over scans of their means over repeats."""
    by_scan: dict[str, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        by_scan.setdefault(row.scan, []).append(value)
    return _mean(_mean(own) for own in by_scan.values())


def _mean(values: Iterable[float]) -> float:
    """Mean of what is known; ``nan`` of nothing."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _rho_c(rows: Sequence[AtRule]) -> float:
    """Concordance of the volumes of one repeat."""
    ours = np.array([row.volume_ml for row in rows])
    return concordance(ours, np.array([row.reference_volume_ml for row in rows]))
