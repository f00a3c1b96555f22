"""Markdown tables from per-case results, put between their markers in a document."""

import math
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.metrics import concordance
from bids_deepmrseg.evaluation.results import Result
from bids_deepmrseg.network.weights import Metric

HEADER = ("structure", "BACC", "F1", "F2", "rho_c", "volume / reference (ml)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Means (standard deviations) over subjects, and rho_c of volumes over subjects."""

    name: str
    bacc: str
    f1: str
    f2: str
    rho_c: str
    volumes: str


def accuracy_table(results: tuple[Result, ...]) -> str:
    """A table like the paper's table 2: a row per structure, and their average.

    The average row's overlap is the mean over structures of each subject, then mean (standard
    deviation) over subjects; its rho_c is over all volumes of all structures together, as the
    paper's must be.
    """
    structures = list(dict.fromkeys(r.structure for r in results))
    rows = [_row(name, [r for r in results if r.structure == name]) for name in structures]
    rows.append(_average(results))
    lines = [HEADER, tuple("---" for _ in HEADER)]
    lines += [(r.name, r.bacc, r.f1, r.f2, r.rho_c, r.volumes) for r in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(values: list[float]) -> str:
    """Mean and standard deviation of what was measured."""
    known = [v for v in values if not math.isnan(v)]
    if not known:
        return "n/a"
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
    missing = f", {len(values) - len(known)} n/a" if len(known) < len(values) else ""
    return f"{np.mean(known):.3f} ({deviation:.3f}{missing})"


def _rho(results: list[Result]) -> str:
    """rho_c of segmented and reference volumes."""
    x = np.array([r.volume_ml for r in results])
    y = np.array([r.reference_volume_ml for r in results])
    return f"{concordance(x, y):.3f}"


def _volumes(results: list[Result]) -> str:
    """Mean volumes, segmented and reference."""
    segmented = np.mean([r.volume_ml for r in results])
    return f"{segmented:.2f} / {np.mean([r.reference_volume_ml for r in results]):.2f}"


def _row(name: str, results: list[Result]) -> Row:
    """One structure over subjects."""
    return Row(
        name=name,
        bacc=_spread([r.bacc for r in results]),
        f1=_spread([r.f1 for r in results]),
        f2=_spread([r.f2 for r in results]),
        rho_c=_rho(results),
        volumes=_volumes(results),
    )


def _average(results: tuple[Result, ...]) -> Row:
    """All structures together."""
    ordered = sorted(results, key=lambda r: (r.dataset, r.subject))
    subjects = [list(rows) for _, rows in groupby(ordered, key=lambda r: (r.dataset, r.subject))]

    return Row(
        name=f"**average of {len({r.structure for r in results})}**",
        bacc=_spread([float(np.nanmean([r.bacc for r in rows])) for rows in subjects]),
        f1=_spread([float(np.nanmean([r.f1 for r in rows])) for rows in subjects]),
        f2=_spread([float(np.nanmean([r.f2 for r in rows])) for rows in subjects]),
        rho_c=_rho(list(results)),
        volumes="",
    )


def summarise(results: tuple[Result, ...]) -> tuple[Metric, ...]:
    """The figures of the average row, for the weights' record.

    Overlaps are means over structures of each subject, then over subjects; rho_c is over all
    volumes together.
    """
    dataset = results[0].dataset
    n_subjects = len({r.subject for r in results})
    columns = {
        "BACC": [r.bacc for r in results],
        "F1": [r.f1 for r in results],
        "F2": [r.f2 for r in results],
    }
    means = [
        Metric(f"mean {name}, {dataset}, {n_subjects} scans", round(float(np.nanmean(values)), 4))
        for name, values in columns.items()
    ]
    x = np.array([r.volume_ml for r in results])
    y = np.array([r.reference_volume_ml for r in results])
    rho_c = Metric(f"rho_c, {dataset}, {n_subjects} scans", round(concordance(x, y), 4))
    return (*means, rho_c)


def subject_table(results: tuple[Result, ...]) -> str:
    """A row per subject: mean and lowest F1, and the structure that has it."""
    lines = ["| subject | mean F1 | lowest F1 |", "| --- | --- | --- |"]
    for subject in dict.fromkeys(r.subject for r in results):
        rows = [r for r in results if r.subject == subject]
        worst = min(rows, key=lambda r: r.f1)
        mean = float(np.nanmean([r.f1 for r in rows]))
        lines.append(f"| {subject} | {mean:.3f} | {worst.f1:.3f} ({worst.structure}) |")
    return "\n".join(lines)


def put_between_markers(document: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- begin name -->`` and ``<!-- end name -->``.

    Raises
    ------
    UsageError
        If the document lacks the markers.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UsageError(f"{document} has no place for {name}: add '{begin}' and '{end}'")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
