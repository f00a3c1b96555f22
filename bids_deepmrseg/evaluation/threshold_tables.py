"""The choice of the default rule of a lesion as text: what was chosen, and what it is worth."""

import math
from collections.abc import Iterable, Iterator, Sequence

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.summary import NETWORKS
from bids_deepmrseg.evaluation.tables import UNKNOWN, markdown
from bids_deepmrseg.evaluation.threshold_choice import (
    LeftOut,
    RuleScore,
    by_rule,
    choose_rule,
    leave_out,
    score,
)
from bids_deepmrseg.evaluation.thresholds import AtRule
from bids_deepmrseg.imaging.lesions import LesionRule

SCORES = ("F1", "lesion F1", "criterion", "rho_c", "volume difference (%)")
CHOICES = ("rule", *SCORES)
FOLDS = ("fold", "scans", "rule of the other folds", *SCORES[:3])


def threshold_text(rows: Sequence[AtRule]) -> str:
    """All that one file of rows says, network by network.

    Parameters
    ----------
    rows
        Every scan by every rule.

    Raises
    ------
    UsageError
        If there is no row.
    """
    if not rows:
        raise UsageError("there are no measured rules to choose a threshold from")
    behind = dict.fromkeys((row.network, row.ensemble) for row in rows)
    return "\n\n".join(
        _text_of([row for row in rows if (row.network, row.ensemble) == one]) for one in behind
    )


def _text_of(rows: Sequence[AtRule]) -> str:
    """The text of one network's ensemble."""
    about = (
        f"{NETWORKS.get(rows[0].network, rows[0].network)}, {rows[0].ensemble}: "
        f"{len({row.scan for row in rows})} scans of {len({row.subject for row in rows})} subjects "
        f"in {len({(row.repeat, row.fold) for row in rows})} folds. The criterion is the mean over "
        "scans of (F1 + lesion-wise F1) / 2; of equal rules the one whose threshold is nearest to "
        "0.5, then the one that removes least."
    )
    chosen = choose_rule(rows)
    grid = "The criterion by threshold (rows) and smallest lesion in mm3 (columns), highest bold:"
    return "\n\n".join([about, *_choice(rows, chosen), grid, criterion_table(rows, chosen)])


def criterion_table(rows: Sequence[AtRule], chosen: LesionRule) -> str:
    """The criterion of every rule."""
    criteria = {rule: score(own).criterion for rule, own in by_rule(rows).items()}
    least = sorted({rule.smallest_mm3 for rule in criteria})
    cells = [
        (f"{threshold:g}", *(_criterion(criteria, threshold, mm3, chosen) for mm3 in least))
        for threshold in sorted({rule.threshold for rule in criteria})
    ]
    return markdown(("threshold", *(f"{mm3:g}" for mm3 in least)), cells)


def _choice(rows: Sequence[AtRule], chosen: LesionRule) -> Iterator[str]:
    """What was chosen on all folds, and what it is worth when a fold does not choose for itself."""
    folds = leave_out(rows)
    known = by_rule(rows)
    compared = [(f"{_named(chosen)}, chosen on all folds", score(known[chosen]))]
    if folds:
        honest = score([row for one in folds for row in one.rows])
        compared.append(("chosen for each fold on the others", honest))
    plain = LesionRule(threshold=0.5, smallest_mm3=0.0)
    if plain in known and plain != chosen:
        compared.append((f"{_named(plain)}, nothing chosen", score(known[plain])))
    yield (
        "The first row is too good: its rule was chosen on the scans that it is measured on. The "
        "second one is what a choice made this way gives on scans that had no part in it."
        if folds
        else "There is one fold only: the row is too good, for its rule was chosen on these scans."
    )
    yield markdown(CHOICES, [(name, *_cells(found)) for name, found in compared])
    if folds:
        yield markdown(FOLDS, (_fold(one) for one in folds))


def _fold(one: LeftOut) -> tuple[str, ...]:
    """A row of the table of folds."""
    name = f"{one.repeat}.{one.fold}" if one.repeat > 1 else str(one.fold)
    scans = ", ".join(dict.fromkeys(row.scan for row in one.rows))
    return (name, scans, _named(one.rule), *list(_cells(score(one.rows)))[:3])


def _named(rule: LesionRule) -> str:
    """A rule in words."""
    return f"at least {rule.threshold:g}, {rule.smallest_mm3:g} mm3"


def _cells(found: RuleScore) -> Iterable[str]:
    """Means as cells."""
    for value in (found.f1, found.lesion_f1, found.criterion, found.rho_c):
        yield UNKNOWN if math.isnan(value) else f"{value:.3f}"
    difference = found.volume_difference_percent
    yield UNKNOWN if math.isnan(difference) else f"{difference:.1f}"


def _criterion(
    criteria: dict[LesionRule, float], threshold: float, smallest_mm3: float, chosen: LesionRule
) -> str:
    """One cell of the table of the criterion."""
    rule = LesionRule(threshold=threshold, smallest_mm3=smallest_mm3)
    value = criteria.get(rule, math.nan)
    if math.isnan(value):
        return UNKNOWN
    return f"**{value:.3f}**" if rule == chosen else f"{value:.3f}"
