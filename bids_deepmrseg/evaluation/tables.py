"""Markdown tables of accuracy, from per-case results."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.metrics import concordance
from bids_deepmrseg.evaluation.paired import VOLUME_ERROR, Paired
from bids_deepmrseg.evaluation.published import Published, published_row
from bids_deepmrseg.evaluation.results import Result
from bids_deepmrseg.evaluation.summary import (
    AVERAGE,
    NETWORKS,
    Spread,
    Summary,
    frame_of,
    headline,
    in_order,
    summaries,
)
from bids_deepmrseg.network.weights import Metric

MEASURED = ("BACC", "F1", "F2", "rho_c", "HD95 (mm)", "ASD (mm)")
ACCURACY = ("structure", "network", *MEASURED, "volume / reference (ml)")
ENSEMBLES = ("network", "ensemble", *MEASURED)
TITLES = {
    "bacc": "BACC",
    "f1": "F1",
    "f2": "F2",
    "hd95_mm": "HD95 (mm)",
    "asd_mm": "ASD (mm)",
    VOLUME_ERROR: "volume error (ml)",
}
UNKNOWN = "n/a"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def accuracy_table(results: Sequence[Result], published: tuple[Published, ...] = ()) -> str:
    """A table like the paper's: a row per structure and network, then averages if several.

    Parameters
    ----------
    results
        Of any number of networks; of each, :func:`~.summary.headline` is shown.
    published
        The paper's rows for the task, each put below ours of the same structure and network.
    """
    shown = headline(results)
    networks = in_order(r.network for r in shown)
    by_network = {n: summaries([r for r in shown if r.network == n]) for n in networks}
    names = list(dict.fromkeys(s.name for rows in by_network.values() for s in rows[:-1]))
    found = {(n, s.name): s for n, rows in by_network.items() for s in rows}
    rows: list[tuple[str, ...]] = []
    for name in (*names, AVERAGE) if len(names) > 1 else names:
        title = f"**average of {len(names)}**" if name == AVERAGE else name
        for network in networks:
            if summary := found.get((network, name)):
                rows.append((title, NETWORKS.get(network, network), *_measured(summary)))
            if row := published_row(published, name, network):
                rows.append((title, f"{NETWORKS.get(network, network)}, paper", *_printed(row)))
    return markdown(ACCURACY, rows)


def ensemble_table(results: Sequence[Result]) -> str:
    """The average over structures of every view and ensemble of every network."""
    rows = []
    for network in in_order(r.network for r in results):
        of_network = [r for r in results if r.network == network]
        for ensemble in dict.fromkeys(r.ensemble for r in of_network):
            *_, average = summaries([r for r in of_network if r.ensemble == ensemble])
            rows.append((NETWORKS.get(network, network), ensemble, *_measured(average)[:-1]))
    return markdown(ENSEMBLES, rows)


def paired_table(tests: Sequence[Paired]) -> str:
    """Median difference and corrected p of every metric; bold where p is below 0.05."""
    rows = []
    for name in dict.fromkeys(t.structure for t in tests):
        cells = {t.metric: t for t in tests if t.structure == name}
        n_people = max(t.n_people for t in cells.values())
        title = "**average**" if name == AVERAGE else name
        rows.append((title, str(n_people), *(_tested(cells[m], n_people) for m in TITLES)))
    return markdown(("structure", "people", *TITLES.values()), rows)


def subject_table(results: Sequence[Result], *, n_lowest: int | None = None) -> str:
    """A row per scan and network: mean and lowest F1, and the structure that has it.

    Parameters
    ----------
    results
        Of any number of networks; of each, :func:`~.summary.headline` is shown.
    n_lowest
        Only so many scans of each network, those of lowest mean F1 first; all, as they come,
        without it.
    """
    frame = frame_of(headline(results))
    rows: list[tuple[str, ...]] = []
    for network in in_order(frame["network"]):
        of_scans = [
            (str(scan), of_scan.groupby("structure", sort=False)["f1"].mean())
            for scan, of_scan in frame[frame["network"] == network].groupby("scan", sort=False)
        ]
        if n_lowest is not None:
            of_scans = sorted(of_scans, key=lambda pair: float(pair[1].mean()))[:n_lowest]
        title = NETWORKS.get(network, network)
        rows += [(scan, title, f"{f1.mean():.3f}", _worst(f1)) for scan, f1 in of_scans]
    return markdown(("scan", "network", "mean F1", "lowest F1"), rows)


def rho_c_of_structures(results: Sequence[Result], published: tuple[Published, ...] = ()) -> str:
    """A sentence: the mean of the structures' rho_c, which the average row does not hold."""
    shown = headline(results)
    parts = []
    for network in in_order(r.network for r in shown):
        rows = summaries([r for r in shown if r.network == network])[:-1]
        title = NETWORKS.get(network, network)
        parts.append(f"{title} {np.nanmean([s.rho_c.mean for s in rows]):.3f}")
        printed = [p.rho_c for s in rows if (p := published_row(published, s.name, network))]
        if printed:
            parts.append(f"{title} in the paper {np.mean(printed):.3f}")
    return (
        "rho_c of the average row is over the volumes of all structures together, as the paper's; "
        f"the mean of the structures' rho_c is: {', '.join(parts)}."
    )


def summarise(results: Sequence[Result]) -> tuple[Metric, ...]:
    """The figures of the average row, for the weights' record.

    Overlaps are means over structures of each scan, then over scans; rho_c is over all volumes
    together.

    Raises
    ------
    UsageError
        If the results are of several networks or ensembles, which are not one model's.
    """
    if len({(r.network, r.ensemble) for r in results}) != 1:
        raise UsageError(f"{results[0].dataset} holds results of several networks or ensembles")
    dataset = results[0].dataset
    n_scans = len({r.scan for r in results})
    columns = {
        "BACC": [r.bacc for r in results],
        "F1": [r.f1 for r in results],
        "F2": [r.f2 for r in results],
    }
    means = [
        Metric(f"mean {name}, {dataset}, {n_scans} scans", round(float(np.nanmean(values)), 4))
        for name, values in columns.items()
    ]
    x = np.array([r.volume_ml for r in results])
    y = np.array([r.reference_volume_ml for r in results])
    return (*means, Metric(f"rho_c, {dataset}, {n_scans} scans", round(concordance(x, y), 4)))


def _measured(summary: Summary) -> tuple[str, ...]:
    """Cells of one of our rows, behind its names."""
    return (
        spread_cell(summary.bacc),
        spread_cell(summary.f1),
        spread_cell(summary.f2),
        spread_cell(summary.rho_c),
        spread_cell(summary.hd95_mm, digits=2),
        spread_cell(summary.asd_mm, digits=2),
        "" if summary.name == AVERAGE else _volumes(summary),
    )


def _volumes(summary: Summary) -> str:
    """Mean volumes of one structure, segmented and reference."""
    return f"{summary.volume_ml:.2f} / {summary.reference_volume_ml:.2f}"


def _printed(row: Published) -> tuple[str, ...]:
    """Cells of one of the paper's rows; it has no distances and no volumes."""
    overlaps = ((row.bacc, row.bacc_sd), (row.f1, row.f1_sd), (row.f2, row.f2_sd))
    return (*(f"{mean:.3f} ({sd:.2f})" for mean, sd in overlaps), f"{row.rho_c:.3f}", "", "", "")


def spread_cell(spread: Spread, *, digits: int = 3) -> str:
    """Mean, deviation where there are several values, and what was left out."""
    if spread.n == 0:
        return UNKNOWN
    sd = "" if math.isnan(spread.sd) else f" ({spread.sd:.{digits}f})"
    missing = f", {spread.n_missing} n/a" if spread.n_missing else ""
    return f"{spread.mean:.{digits}f}{sd}{missing}"


def _tested(paired: Paired, n_people: int) -> str:
    """Cell of one test."""
    if math.isnan(paired.p):
        return UNKNOWN
    p = "p < 0.001" if paired.p < 0.001 else f"p {paired.p:.3f}"
    cell = f"{paired.median_difference:+.4f}, {p}"
    if paired.p < 0.05:
        cell = f"**{cell}**"
    return cell if paired.n_people == n_people else f"{cell} ({paired.n_people} people)"


def _worst(of_structures: "pd.Series[float]") -> str:
    """Lowest F1 of a scan and whose it is."""
    known = of_structures.dropna()
    return f"{known.min():.3f} ({known.idxmin()})" if len(known) else UNKNOWN
