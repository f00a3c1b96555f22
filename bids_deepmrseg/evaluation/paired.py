"""Is one network better than the other? Paired over persons, corrected for many questions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from bids_deepmrseg.evaluation.results import Result
from bids_deepmrseg.evaluation.summary import AVERAGE, METRICS, frame_of

ABOUT = ["repeat", "fold", "subject", "scan", "structure"]
VOLUME_ERROR = "volume_error_ml"
TESTED = [*METRICS, VOLUME_ERROR]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Difference of two networks in one metric of one structure.

    Attributes
    ----------
    structure, metric
        What was compared; ``average`` is over structures, ``volume_error_ml`` is the absolute
        difference from the reference volume.
    median_difference
        First network less second, over persons; ``nan`` without a pair.
    n_people
        Persons with a pair of measurements.
    p
        Wilcoxon signed-rank test, two-sided, Holm-corrected over the whole table; ``nan`` where
        nothing differs.
    """

    structure: str
    metric: str
    median_difference: float
    n_people: int
    p: float


def compare_networks(results: Sequence[Result], first: str, second: str) -> tuple[Paired, ...]:
    """Test every metric of every structure, and of their average if several, of two networks.

    Parameters
    ----------
    results
        Of both networks, one ensemble each; what only one of them was measured on is left out.
    first, second
        Their names; differences are first less second.

    Notes
    -----
    Two scans of a person, or two repeats on one scan, are not independent: differences are
    averaged over them, so that a person counts once. Holm 1979 corrects for the number of tests.
    """
    differences = _differences(frame_of(results), first, second)
    average = differences.groupby(["scan", "repeat", "subject"], as_index=False)[TESTED].mean()
    everything = list(differences.groupby("structure", sort=False))
    if len(everything) > 1:
        everything.append((AVERAGE, average))
    raw = [
        _test(str(name), metric, rows.groupby("subject")[metric].mean().dropna())
        for name, rows in everything
        for metric in TESTED
    ]
    corrected = holm([paired.p for paired in raw])
    return tuple(replace(paired, p=p) for paired, p in zip(raw, corrected, strict=True))


def _differences(frame: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """First less second for every scan, repeat and structure that both have."""
    frame = frame.assign(
        **{VOLUME_ERROR: (frame["volume_ml"] - frame["reference_volume_ml"]).abs()}
    )
    by_network = [
        frame[frame["network"] == network].set_index(ABOUT)[TESTED] for network in (first, second)
    ]
    kept = by_network[0].index.intersection(by_network[1].index, sort=False)
    return (by_network[0].loc[kept] - by_network[1].loc[kept]).reset_index()


def _test(structure: str, metric: str, of_people: "pd.Series[float]") -> Paired:
    """Wilcoxon's test of one difference per person."""
    values = of_people.to_numpy(np.float64)
    differ = bool(np.any(values != 0))
    return Paired(
        structure=structure,
        metric=metric,
        median_difference=float(np.median(values)) if len(values) else math.nan,
        n_people=len(values),
        p=float(stats.wilcoxon(values).pvalue) if differ else math.nan,
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Correct p values for their number (Holm 1979); ``nan`` was no test and stays ``nan``."""
    known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    corrected, highest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[i]))
        corrected[i] = highest
    return tuple(corrected)
