"""Means over scans, and agreement of volumes, of the results of one network."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from bids_deepmrseg.evaluation.metrics import concordance
from bids_deepmrseg.evaluation.results import ALL_VIEWS, FLIPPED, Identity, Result

Row = TypeVar("Row", bound=Identity)

AVERAGE = "average"
NETWORKS = {"unet": "UNet", "deepmrseg": "DeepMRSeg"}  # in the order of the paper's tables
METRICS = ["bacc", "f1", "f2", "hd95_mm", "asd_mm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and standard deviation of what was measured.

    Attributes
    ----------
    mean, sd
        ``nan`` for nothing, and the deviation for one value.
    n
        Values that they are of: scans for overlap and distances, repeats for rho_c.
    n_missing
        Measurements (scan, structure and repeat) that were left out because they are ``nan``.
    """

    mean: float
    sd: float
    n: int
    n_missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One structure, or the average over structures, of one network; volumes in millilitres."""

    name: str
    n_scans: int
    bacc: Spread
    f1: Spread
    f2: Spread
    hd95_mm: Spread
    asd_mm: Spread
    rho_c: Spread
    volume_ml: float
    reference_volume_ml: float


def frame_of(results: Iterable[Identity]) -> pd.DataFrame:
    """Results as a table: a row each, a column per field."""
    return pd.DataFrame(list(results))


def in_order(found: Iterable[str]) -> tuple[str, ...]:
    """Networks as the paper orders them, others behind in the order in which they come."""
    names = list(dict.fromkeys(found))
    return (*(n for n in NETWORKS if n in names), *(n for n in names if n not in NETWORKS))


def headline(results: Sequence[Row]) -> tuple[Row, ...]:
    """The rows that tables show, like beside like.

    An ensemble that every network has, all views together before others, one that sees mirror
    images before single views; where there is none, that of each network by itself.
    """
    ensembles = {
        network: list(dict.fromkeys(r.ensemble for r in results if r.network == network))
        for network in dict.fromkeys(r.network for r in results)
    }
    shown = {}
    for network, own in ensembles.items():
        shared = [e for e in own if all(e in others for others in ensembles.values())]
        candidates = shared or own
        flipped = [ensemble for ensemble in candidates if ensemble.endswith(FLIPPED)]
        shown[network] = ALL_VIEWS if ALL_VIEWS in candidates else (flipped or candidates)[0]
    return tuple(r for r in results if r.ensemble == shown[r.network])


def summaries(results: Sequence[Result]) -> tuple[Summary, ...]:
    """Every structure and then their average, of one ensemble of one network.

    Notes
    -----
    A scan's value is its mean over repeats; means and deviations are over scans. The average is
    over structures first. rho_c is computed over the scans of each repeat, mean and deviation are
    over repeats; that of the average row is over the volumes of all structures together. So is
    the paper's, though it does not say so: 0.993 of its table 2 lies above every structure's, and
    0.786 and 0.726 of its table 3 differ from the means of the rows above them (0.767, 0.695).
    """
    frame = frame_of(results)
    rows = [
        _summary(str(name), of_structure, of_structure)
        for name, of_structure in frame.groupby("structure", sort=False)
    ]
    of_scans = frame.groupby(["scan", "repeat"], sort=False, as_index=False)[METRICS].mean()
    return (*rows, _summary(AVERAGE, of_scans, frame))


def spread(values: "pd.Series[float]", *, n_missing: int = 0) -> Spread:
    """Mean and standard deviation, ``nan`` left out."""
    known = values.dropna()
    return Spread(
        mean=float(known.mean()) if len(known) else math.nan,
        sd=float(known.std()) if len(known) > 1 else math.nan,
        n=len(known),
        n_missing=n_missing,
    )


def _summary(name: str, of_scans: pd.DataFrame, measured: pd.DataFrame) -> Summary:
    """One row: overlap from a row per scan and repeat, volumes and gaps from what was measured."""
    by_scan = of_scans.groupby("scan", sort=False)[METRICS].mean()
    missing = measured[METRICS].isna().sum()
    spreads = {m: spread(by_scan[m], n_missing=int(missing[m])) for m in METRICS}
    return Summary(
        name=name,
        n_scans=len(by_scan),
        bacc=spreads["bacc"],
        f1=spreads["f1"],
        f2=spreads["f2"],
        hd95_mm=spreads["hd95_mm"],
        asd_mm=spreads["asd_mm"],
        rho_c=spread(pd.Series([_rho_c(rows) for _, rows in measured.groupby("repeat")])),
        volume_ml=float(measured["volume_ml"].mean()),
        reference_volume_ml=float(measured["reference_volume_ml"].mean()),
    )


def _rho_c(rows: pd.DataFrame) -> float:
    """Concordance of segmented and reference volumes."""
    return concordance(
        rows["volume_ml"].to_numpy(np.float64), rows["reference_volume_ml"].to_numpy(np.float64)
    )
