"""From figures of certainty to a predicted Dice: a small fit, and what it is worth on others.

The prediction is ``1 / (1 + exp(-x))`` with ``x`` a weighted sum of the figures and an offset per
structure; weights can only have the sign that makes sense (more agreement is never worse). Figures
of merit are of people whom neither the fit nor the threshold saw.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.judged import Judged
from bids_deepmrseg.evaluation.results import Result
from bids_deepmrseg.records import Certainty
from bids_deepmrseg.stages.quality import (
    Calibration,
    Expected,
    Weights,
    asymmetry,
    canonical,
    predict_dice,
    volume_deviation,
)
from bids_deepmrseg.tasks import Label, Range, Task

Vector = npt.NDArray[np.float64]

SIGNS = (1, 1, -1, -1)  # of the weights of agreement, soft Dice, entropy, and volume deviation
RIDGE = 0.02  # keeps weights finite where figures say the same; in squared Dice
OFFSET_RIDGE = 0.05
RANGE_SD = 3.0  # of log volumes and asymmetries: nearly all training data lie within
SMALLEST_LOG_SD = 0.05
SMALLEST_ASYMMETRY_SD = 0.02
WORSE_BY = 0.10  # bad is this much below the median of undamaged scans
MARGINS = tuple(np.round(np.arange(-0.15, 0.1501, 0.01), 2).tolist())
FEWEST_PEOPLE = 3


@dataclass(frozen=True, slots=True)
class Reference:
    """What the reference of one scan says of volumes, in millilitres by label index."""

    subject: str
    volumes_ml: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Predicted:
    """One row, and what a calibration that saw nothing of that person makes of it."""

    row: Judged
    dice: float
    bad_below: float
    flag_below: float

    @property
    def is_bad(self) -> bool:
        """Whether the structure came out worse than it should."""
        return self.row.dice < self.bad_below

    @property
    def is_flagged(self) -> bool:
        """Whether the prediction says so."""
        return self.dice < self.flag_below


def known_rows(rows: Iterable[Judged]) -> tuple[Judged, ...]:
    """Rows with a true Dice of scans that were segmented."""
    return tuple(row for row in rows if not row.is_refused and math.isfinite(row.dice))


def references_of(rows: Iterable[Judged]) -> tuple[Reference, ...]:
    """Reference volumes of every scan, each once."""
    by_scan: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        by_scan.setdefault((row.subject, row.scan), {})[row.index] = row.reference_volume_ml
    return tuple(Reference(subject, volumes) for (subject, _), volumes in by_scan.items())


def references_of_results(results: Iterable[Result], task: Task) -> tuple[Reference, ...]:
    """Reference volumes of every scan that a cross-validation measured."""
    indices = {label.name: label.index for label in task.labels}
    by_scan: dict[tuple[str, str], dict[int, float]] = {}
    for one in results:
        if one.structure in indices:
            volumes = by_scan.setdefault((one.subject, one.scan), {})
            volumes[indices[one.structure]] = one.reference_volume_ml
    return tuple(Reference(subject, volumes) for (subject, _), volumes in by_scan.items())


def fit(rows: Sequence[Judged], references: Sequence[Reference], task: Task) -> Calibration:
    """Fit the prediction to rows with true Dice; thresholds stay at what counts as bad.

    Parameters
    ----------
    rows
        As of :func:`known_rows`, damaged and not.
    references
        Of training data: which volumes are usual.
    task
        Gives names and mirror images.

    Raises
    ------
    UsageError
        If a structure has no volume, or no undamaged scan.
    """
    canonicals = _canonicals(task)
    seen = {canonicals[row.index] for row in rows}
    expected = {
        label.index: _expected(label, rows, references)
        for label in task.labels
        if label.index in seen
    }
    used = [row for row in rows if row.volume_ml > 0 and canonicals[row.index] in expected]
    if len({row.subject for row in used}) < FEWEST_PEOPLE:
        raise UsageError(f"a calibration needs {FEWEST_PEOPLE} people or more")
    figures = np.array([_figures(row, expected[canonicals[row.index]]) for row in used])
    has_agreement = bool(np.isfinite(figures[:, 0]).any())
    figures = np.nan_to_num(figures, nan=0.0)
    order = sorted(expected)
    member = np.array([order.index(canonicals[row.index]) for row in used])
    truth = np.array([row.dice for row in used])
    weights, offsets = _solve(figures, member, truth, has_agreement=has_agreement)
    structures = tuple(
        replace(expected[index], offset=float(offset))
        for index, offset in zip(order, offsets, strict=True)
    )
    case_bad = float(np.mean([one.bad_below for one in structures]))
    return Calibration(
        task=task.name,
        model_sha256="",
        stands_on="",
        weights=Weights(
            agreement=float(weights[0]) if has_agreement else None,
            soft_dice=float(weights[1]),
            border_entropy_bits=float(weights[2]),
            volume_deviation=float(weights[3]),
        ),
        structures=structures,
        case_bad_below=case_bad,
        case_flag_below=case_bad,
    )


def _canonicals(task: Task) -> dict[int, int]:
    """The index under which each label's structure is known."""
    return {label.index: canonical(label) for label in task.labels}


def _expected(label: Label, rows: Sequence[Judged], references: Sequence[Reference]) -> Expected:
    """What is known of a structure, sides pooled, before the fit."""
    sides = (label.index, label.mirror)
    own = [row.dice for row in rows if row.index in sides and not row.is_damaged]
    volumes = [v for one in references for i, v in one.volumes_ml.items() if i in sides and v > 0]
    if not volumes or not own:
        raise UsageError(f"{label.name} has no undamaged scan with a reference to learn from")
    logs = np.log(volumes)
    mean, sd = float(logs.mean()), max(float(logs.std()), SMALLEST_LOG_SD)
    low_side, high_side = _asymmetry_limits(label, references)
    bad_below = round(max(0.0, float(np.median(own)) - WORSE_BY), 3)
    return Expected(
        index=label.index,
        name=label.name,
        offset=0.0,
        log_volume_mean=mean,
        log_volume_sd=sd,
        volume_range=Range(math.exp(mean - RANGE_SD * sd), math.exp(mean + RANGE_SD * sd)),
        asymmetry_low=low_side,
        asymmetry_high=high_side,
        bad_below=bad_below,
        flag_below=bad_below,
    )


def _asymmetry_limits(
    label: Label, references: Sequence[Reference]
) -> tuple[float | None, float | None]:
    """Mean less and plus three standard deviations, where there are values enough."""
    listed = [
        asymmetry(label, dict(one.volumes_ml))
        for one in references
        if label.index in one.volumes_ml
    ]
    values = [value for value in listed if math.isfinite(value)]
    if len(values) < FEWEST_PEOPLE:
        return None, None
    mean, sd = float(np.mean(values)), max(float(np.std(values)), SMALLEST_ASYMMETRY_SD)
    return mean - RANGE_SD * sd, mean + RANGE_SD * sd


def _figures(row: Judged, expected: Expected) -> tuple[float, ...]:
    """The four figures of one row."""
    deviation = volume_deviation(row.volume_ml, expected.log_volume_mean, expected.log_volume_sd)
    return row.agreement, row.soft_dice, row.border_entropy_bits, deviation


def _solve(
    figures: Vector, member: npt.NDArray[np.intp], truth: Vector, *, has_agreement: bool
) -> tuple[Vector, Vector]:
    """Weights ``(4,)`` and offsets, by penalised least squares on figures scaled alike."""
    mean, sd = figures.mean(axis=0), np.maximum(figures.std(axis=0), 1e-6)
    scaled = (figures - mean) / sd
    n_figures, n_structures = len(SIGNS), int(member.max()) + 1

    def residuals(parameters: Vector) -> Vector:
        weights, base, own = np.split(parameters, [n_figures, n_figures + 1])
        logit = scaled @ weights + base + own[member]
        penalty = np.concatenate([np.sqrt(RIDGE) * weights, np.sqrt(OFFSET_RIDGE) * own])
        return np.concatenate([1 / (1 + np.exp(-logit)) - truth, penalty])

    free = np.full(n_structures + 1, np.inf)
    signs = np.array(SIGNS)
    low = np.concatenate([np.where(signs > 0, 0, -np.inf), -free])
    high = np.concatenate([np.where(signs > 0, np.inf, 0), free])
    if not has_agreement:
        high[0] = 1e-12
    start = np.concatenate([0.1 * signs, np.zeros(n_structures + 1)])
    solved = optimize.least_squares(residuals, np.clip(start, low, high), bounds=(low, high)).x
    weights = solved[:n_figures] / sd
    weights[0] *= has_agreement
    offsets = solved[n_figures] + solved[n_figures + 1 :] - float(weights @ mean)
    return weights, offsets


def apply(calibration: Calibration, row: Judged, task: Task) -> Predicted:
    """What a calibration makes of a row."""
    expected = next(e for e in calibration.structures if e.index == _canonicals(task)[row.index])
    agreement = 0.0 if math.isnan(row.agreement) else row.agreement
    certainty = Certainty(
        index=row.index,
        agreement=agreement,
        soft_dice=row.soft_dice,
        border_entropy_bits=row.border_entropy_bits,
    )
    dice = predict_dice(certainty, row.volume_ml, calibration.weights, expected)
    return Predicted(row, dice, expected.bad_below, expected.flag_below)


def predict_held_out(
    rows: Sequence[Judged], references: Sequence[Reference], task: Task
) -> tuple[Predicted, ...]:
    """Predict every person by a fit to all the others, thresholds included.

    Parameters
    ----------
    rows
        As of :func:`known_rows`.
    references, task
        As for :func:`fit`; the person's own are left out.

    Raises
    ------
    UsageError
        If there are too few people.
    """
    predicted: list[Predicted] = []
    for person in sorted({row.subject for row in rows}):
        others = [row for row in rows if row.subject != person]
        calibration = fit(others, [r for r in references if r.subject != person], task)
        predicted += [apply(calibration, row, task) for row in rows if row.subject == person]
    margins = {
        person: best_margin([p for p in predicted if p.row.subject != person])
        for person in {row.subject for row in rows}
    }
    return tuple(replace(p, flag_below=p.bad_below + margins[p.row.subject]) for p in predicted)


def best_margin(predicted: Sequence[Predicted]) -> float:
    """What is added to what counts as bad, to part bad from good best (Youden 1950).

    Of margins that do equally well the one nearest to 0 is taken, and so it is where there is
    nothing bad or nothing good to part.
    """

    def parted(margin: float) -> tuple[float, float]:
        flagged = [p.dice < p.bad_below + margin for p in predicted]
        caught = _share([f for f, p in zip(flagged, predicted, strict=True) if p.is_bad])
        wrongly = _share([f for f, p in zip(flagged, predicted, strict=True) if not p.is_bad])
        return round(caught - wrongly, 9), -abs(margin)

    return float(max(MARGINS, key=parted))


def _share(values: Sequence[bool]) -> float:
    """Part that is true; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def of_cases(predicted: Iterable[Predicted]) -> tuple[Predicted, ...]:
    """Means over the structures of each case, flagged at their own threshold."""
    together: dict[tuple[str, ...], list[Predicted]] = {}
    for one in predicted:
        together.setdefault(one.row.case, []).append(one)
    means = [_mean_of(parts) for parts in together.values()]
    margins = {
        person: best_margin([m for m in means if m.row.subject != person])
        for person in {m.row.subject for m in means}
    }
    return tuple(replace(m, flag_below=m.bad_below + margins[m.row.subject]) for m in means)


def _mean_of(parts: Sequence[Predicted]) -> Predicted:
    """One case."""
    row = replace(
        parts[0].row, structure="case", index=0, dice=float(np.mean([p.row.dice for p in parts]))
    )
    bad_below = float(np.mean([p.bad_below for p in parts]))
    return Predicted(row, float(np.mean([p.dice for p in parts])), bad_below, bad_below)


def calibrate(
    rows: Sequence[Judged],
    references: Sequence[Reference],
    task: Task,
    *,
    model_sha256: str,
    stands_on: str,
) -> Calibration:
    """The calibration that a model folder gets: fitted to everybody, thresholds as measured.

    Parameters
    ----------
    rows
        As of :func:`known_rows`.
    references, task
        As for :func:`fit`.
    model_sha256
        Digest of the weights.
    stands_on
        Sentence for the record.
    """
    fitted = fit(rows, references, task)
    predicted = predict_held_out(rows, references, task)
    margin, case_margin = best_margin(predicted), best_margin(of_cases(predicted))
    structures = tuple(
        replace(one, flag_below=round(one.bad_below + margin, 3)) for one in fitted.structures
    )
    return replace(
        fitted,
        structures=structures,
        case_flag_below=round(fitted.case_bad_below + case_margin, 3),
        model_sha256=model_sha256,
        stands_on=stands_on,
    )


def correlation(predicted: Sequence[Predicted]) -> tuple[float, float]:
    """Pearson's and Spearman's, of predicted and true Dice; ``nan`` where nothing varies."""
    told = np.array([p.dice for p in predicted])
    true = np.array([p.row.dice for p in predicted])
    if len(told) < FEWEST_PEOPLE or np.ptp(told) == 0 or np.ptp(true) == 0:
        return math.nan, math.nan
    return float(stats.pearsonr(told, true)[0]), float(stats.spearmanr(told, true)[0])
