"""Markdown tables of a task that finds lesions: overlap and lesions side by side, scan by scan."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.lesion_results import LesionResult
from bids_deepmrseg.evaluation.lesion_tables import lesion_cells, lesion_text_by_size
from bids_deepmrseg.evaluation.lesionwise import ALL_SIZES
from bids_deepmrseg.evaluation.published import Published, published_row
from bids_deepmrseg.evaluation.results import Result
from bids_deepmrseg.evaluation.summary import (
    NETWORKS,
    frame_of,
    headline,
    in_order,
    summaries,
)
from bids_deepmrseg.evaluation.tables import UNKNOWN, markdown, spread_cell

ALL_SCANS = "all"
OVERLAP = ("F1", "F2", "BACC", "rho_c", "HD95 (mm)")
LESIONS = ("lesion recall", "lesion precision", "lesion F1", "volume difference (%)")
MEANS = ("scans", "network", "ensemble", *OVERLAP, *LESIONS)
BY_SCAN = ("scan", "group", "network", "F1", "F2", "BACC", "HD95 (mm)")
PEOPLE = ("person", "network", "scans", "ours (ml)", "by hand (ml)", "ours apart", "by hand apart")


@dataclass(frozen=True, slots=True)
class Findings:
    """What one evaluation found: overlap, and lesions of every size together, row beside row."""

    results: tuple[Result, ...]
    lesions: tuple[LesionResult, ...]

    def only(self, *, ensemble: str, network: str, scans: Sequence[str]) -> "Findings":
        """The rows of one ensemble of one network on some scans."""
        return Findings(
            tuple(
                row
                for row in self.results
                if (row.network, row.ensemble) == (network, ensemble) and row.scan in scans
            ),
            tuple(
                row
                for row in self.lesions
                if (row.network, row.ensemble) == (network, ensemble) and row.scan in scans
            ),
        )


def lesion_section(
    results: Sequence[Result],
    lesions: Sequence[LesionResult],
    groups: Mapping[str, str],
    published: tuple[Published, ...] = (),
) -> str:
    """Every table of an evaluation of lesions, each with its sentence.

    Parameters
    ----------
    results, lesions
        Of the same scans, networks and ensembles.
    groups
        The kind of each scan, such as ``whole head``; empty where all are alike.
    published
        The paper's rows for the task.

    Raises
    ------
    UsageError
        If a scan has no group while others have, or rows of lesions do not fit the results.
    """
    found = Findings(tuple(results), tuple(r for r in lesions if r.size == ALL_SIZES))
    _check(found, groups)
    shown = headline(results)
    lesions_shown = [r for r in lesions if (r.network, r.ensemble) in _named(shown)]
    parts = [
        "Means over scans (deviation between scans); rho_c is that of the total volumes:",
        means_table(found, groups, published),
        "Scan by scan, the other ways to look at a scan beside:",
        scan_table(found, groups),
    ]
    if any(_repeated(shown)):
        parts += ["One person scanned more than once, total volumes:", repeated_table(shown)]
    return "\n\n".join([*parts, lesion_text_by_size(lesions_shown)])


def means_table(
    found: Findings, groups: Mapping[str, str], published: tuple[Published, ...] = ()
) -> str:
    """A row per group of scans, network and ensemble, then all scans and the paper's rows."""
    rows: list[tuple[str, ...]] = []
    for group, scans in _groups(found, groups):
        for network, ensemble in _named(found.results):
            own = found.only(ensemble=ensemble, network=network, scans=scans)
            if own.results:
                n_scans = len({row.scan for row in own.results})
                title = f"{group} ({n_scans})"
                rows.append((title, NETWORKS.get(network, network), ensemble, *_means(own)))
    rows += [
        ("other data", f"{NETWORKS[network]}, paper", "", *_printed(row))
        for structure in dict.fromkeys(result.structure for result in found.results)
        for network in NETWORKS
        if (row := published_row(published, structure, network))
    ]
    return markdown(MEANS, rows)


def scan_table(found: Findings, groups: Mapping[str, str]) -> str:
    """A row per scan and network of what is shown, the variants of that ensemble beside it."""
    shown = headline(found.results)
    besides = list(dict.fromkeys(b for _, e in _named(shown) for b in _beside(found, e)))
    titles = (title for b in besides for title in (f"F1, {b}", f"lesion F1, {b}"))
    rows: list[tuple[str, ...]] = []
    for network, ensemble in _named(shown):
        for scan in dict.fromkeys(r.scan for r in shown if r.network == network):
            own = found.only(ensemble=ensemble, network=network, scans=[scan])
            others = (
                found.only(ensemble=f"{ensemble}, {b}", network=network, scans=[scan])
                for b in besides
            )
            rows.append(
                (
                    scan,
                    groups.get(scan, ""),
                    NETWORKS.get(network, network),
                    *_overlap_of_scan(own),
                    *_lesions_of_scan(own),
                    *(cell for other in others for cell in _f1_of_scan(other)),
                )
            )
    volumes = ("lesions / reference", "volume / reference (ml)")
    return markdown((*BY_SCAN, *LESIONS, *volumes, *titles), rows)


def repeated_table(results: Sequence[Result]) -> str:
    """A row per network and person with several scans: how far apart the volumes lie."""
    rows = []
    for network, person, scans in _repeated(results):
        frame = frame_of([r for r in results if r.network == network and r.scan in scans])
        volumes = frame.groupby("scan", sort=False)[["volume_ml", "reference_volume_ml"]].mean()
        rows.append(
            (
                person,
                NETWORKS.get(network, network),
                ", ".join(str(scan) for scan in volumes.index),
                *(_listed(volumes[column]) for column in volumes),
                *(_apart(volumes[column]) for column in volumes),
            )
        )
    return markdown(PEOPLE, rows)


def _check(found: Findings, groups: Mapping[str, str]) -> None:
    """Every row of overlap has its row of lesions, and every scan its group."""
    scans = dict.fromkeys(row.scan for row in found.results)
    if groups and (lacking := [scan for scan in scans if scan not in groups]):
        raise UsageError(f"{lacking[0]} has no group: name it in the table of scans and groups")
    measured, told = (
        {(r.network, r.ensemble, r.repeat, r.scan) for r in rows}
        for rows in (found.results, found.lesions)
    )
    if unlike := sorted(measured ^ told):
        network, ensemble, _, scan = unlike[0]
        raise UsageError(
            f"results and lesions are not of the same run: only one of them has {scan} by "
            f"{network}, {ensemble}; gather both again"
        )


def _groups(found: Findings, groups: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """The scans of each group, where there are several, and then all scans."""
    scans = list(dict.fromkeys(row.scan for row in found.results))
    names = list(dict.fromkeys(groups[scan] for scan in scans)) if groups else []
    if len(names) > 1:
        for name in names:
            yield name, [scan for scan in scans if groups[scan] == name]
    yield ALL_SCANS, scans


def _named(results: Sequence[Result]) -> tuple[tuple[str, str], ...]:
    """Network and ensemble of rows, networks in the paper's order."""
    pairs = dict.fromkeys((row.network, row.ensemble) for row in results)
    order = in_order(network for network, _ in pairs)
    return tuple(pair for network in order for pair in pairs if pair[0] == network)


def _beside(found: Findings, ensemble: str) -> Iterator[str]:
    """What ends the names of an ensemble's variants."""
    for _, other in _named(found.results):
        if other.startswith(f"{ensemble}, "):
            yield other.removeprefix(f"{ensemble}, ")


def _means(own: Findings) -> Iterator[str]:
    """Cells of one row of means."""
    summary = summaries(own.results)[0]
    for spread in (summary.f1, summary.f2, summary.bacc, summary.rho_c):
        yield spread_cell(spread)
    yield spread_cell(summary.hd95_mm, digits=2)
    yield from lesion_cells(frame_of(own.lesions))


def _printed(row: Published) -> tuple[str, ...]:
    """Cells of one of the paper's rows, which tells no distances and no single lesions."""
    overlaps = ((row.f1, row.f1_sd), (row.f2, row.f2_sd), (row.bacc, row.bacc_sd))
    printed = tuple(f"{mean:.3f} ({sd:.2f})" for mean, sd in overlaps)
    return (*printed, f"{row.rho_c:.3f}", *[""] * (1 + len(LESIONS)))


def _overlap_of_scan(own: Findings) -> Iterator[str]:
    """Overlap of one scan, its mean over repeats."""
    frame = frame_of(own.results)
    for column, digits in (("f1", 3), ("f2", 3), ("bacc", 3), ("hd95_mm", 2)):
        yield _cell(frame[column].mean(), digits)


def _lesions_of_scan(own: Findings) -> Iterator[str]:
    """Lesions of one scan, their number and volume."""
    frame = frame_of(own.lesions)
    for column, digits in (("recall", 3), ("precision", 3), ("f1", 3)):
        yield _cell(frame[column].mean(), digits)
    yield _cell(frame["volume_difference_percent"].mean(), 1)
    mean = frame[["n_segmented", "n_reference", "volume_ml", "reference_volume_ml"]].mean()
    yield f"{mean['n_segmented']:.4g} / {mean['n_reference']:.4g}"
    yield f"{mean['volume_ml']:.2f} / {mean['reference_volume_ml']:.2f}"


def _f1_of_scan(other: Findings) -> tuple[str, str]:
    """F1 and lesion-wise F1 of a scan, unknown where the variant was not measured on it."""
    if not other.results:
        return UNKNOWN, UNKNOWN
    frames = frame_of(other.results), frame_of(other.lesions)
    return _cell(frames[0]["f1"].mean(), 3), _cell(frames[1]["f1"].mean(), 3)


def _repeated(results: Sequence[Result]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Network, person and scans of everyone who has several."""
    for network, _ in _named(results):
        rows = [row for row in results if row.network == network]
        for person in dict.fromkeys(row.subject for row in rows):
            scans = tuple(dict.fromkeys(row.scan for row in rows if row.subject == person))
            if len(scans) > 1:
                yield network, person, scans


def _listed(volumes_ml: "pd.Series[float]") -> str:
    """Volumes one after another."""
    return ", ".join(f"{volume:.2f}" for volume in volumes_ml)


def _apart(volumes_ml: "pd.Series[float]") -> str:
    """How far the volumes of one person reach apart, also in percent of their mean."""
    apart = float(np.ptp(volumes_ml.to_numpy()))
    mean = float(volumes_ml.mean())
    return f"{apart:.2f} ml ({100 * apart / mean:.1f} %)" if mean else f"{apart:.2f} ml"


def _cell(value: float, digits: int) -> str:
    """One number, or that it is not known."""
    return UNKNOWN if math.isnan(value) else f"{value:.{digits}f}"
