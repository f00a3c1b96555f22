"""What a table of changes says, in words and Markdown: by structure, by damage, and what failed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from bids_deepmrseg.evaluation.changes import DONE, FAILED, UNDAMAGED, YES, Change
from bids_deepmrseg.evaluation.damage import DAMAGES, STORED
from bids_deepmrseg.evaluation.tables import UNKNOWN, markdown

Key = TypeVar("Key")

LARGEST_MEDIAN = 0.05  # of volume: what the project asks of each structure
EXACT = frozenset(damage.name for damage in DAMAGES if damage.is_exact)
BY_STRUCTURE = (
    "task",
    "structure",
    "median change of volume",
    "90th percentile",
    "largest",
    "median Dice",
    "failed",
)
BY_DAMAGE = (
    "task",
    "damage",
    "scans",
    "median change of volume",
    "with its sign",
    "median Dice",
    "lowest Dice",
    "Dice of the way there and back",
    "failed",
)


def robustness_text(changes: Sequence[Change]) -> str:
    """Sentences and tables on one file of changes."""
    damaged = [change for change in changes if change.damage != UNDAMAGED]
    above = (
        "By structure, over scans and damages, without signs. Storage orders and oblique "
        "affines are left out here, for they change nothing and would lower the medians:"
    )
    return "\n\n".join(
        [
            "\n".join(f"- {line}" for line in _sentences(changes, damaged)),
            above,
            _by_structure(inexact(damaged)),
            "By damage, over structures and scans:",
            _by_damage(damaged),
            _failures(changes),
        ]
    )


def inexact(changes: Iterable[Change]) -> list[Change]:
    """Changes by damages that may change an answer at all."""
    return [c for c in changes if c.damage not in EXACT and c.damage != UNDAMAGED]


def grouped(changes: Iterable[Change], key: Callable[[Change], Key]) -> dict[Key, list[Change]]:
    """Changes by a key, in the order in which the keys come."""
    groups: dict[Key, list[Change]] = {}
    for change in changes:
        groups.setdefault(key(change), []).append(change)
    return groups


def shown_damage(change: Change) -> str:
    """What a row or a panel calls a damage; storage orders are one."""
    return f"{STORED} another order" if change.damage == STORED else change.title


def _sentences(changes: Sequence[Change], damaged: Sequence[Change]) -> Iterator[str]:
    """What was done, and how the project's two bars stand."""
    scans = list(dict.fromkeys(change.scan for change in changes))
    n_versions = len({(change.scan, change.title) for change in damaged})
    tasks = ", ".join(dict.fromkeys(change.task for change in changes))
    yield (
        f"Scans: {', '.join(scans)}; {n_versions} damaged versions of them in all; tasks: {tasks}."
    )
    of_structures = grouped(_done(inexact(damaged)), lambda c: f"{c.structure} ({c.task})")
    above = [name for name, rows in of_structures.items() if not _typical(rows) < LARGEST_MEDIAN]
    if of_structures:
        yield (
            f"Median change of volume below {LARGEST_MEDIAN:.0%}: "
            f"{len(of_structures) - len(above)} of {len(of_structures)} structures"
            + (f"; not {', '.join(above)}." if above else ".")
        )
    orders = grouped(
        (c for c in damaged if c.damage == STORED), lambda c: f"{c.severity} of {c.scan}"
    )
    other = [name for name, rows in orders.items() if any(c.same != YES for c in rows)]
    if orders:
        yield (
            "Storage orders that leave every voxel of every label as it was: "
            f"{len(orders) - len(other)} of {len(orders)}"
            + (f"; not {', '.join(other)}." if other else ".")
        )


def _by_structure(damaged: Sequence[Change]) -> str:
    """A row per structure."""
    rows = []
    for (task, name), all_rows in grouped(damaged, lambda c: (c.task, c.structure)).items():
        done = _done(all_rows)
        cells = (UNKNOWN,) * 4
        if done:
            worst = max(done, key=lambda c: abs(c.change))
            cells = (
                f"{_typical(done):.1%}",
                f"{np.percentile([abs(c.change) for c in done], 90):.1%}",
                f"{worst.change:+.1%} ({worst.title}, {worst.scan})",
                _middle([c.dice for c in done]),
            )
        rows.append((task, name, *cells, str(sum(c.status == FAILED for c in all_rows))))
    return markdown(BY_STRUCTURE, rows)


def _by_damage(damaged: Sequence[Change]) -> str:
    """A row per task and damage."""
    rows = []
    for (task, title), all_rows in grouped(damaged, lambda c: (c.task, shown_damage(c))).items():
        done = _done(all_rows)
        cells = (UNKNOWN,) * 5
        if done:
            cells = (
                f"{_typical(done):.1%}",
                f"{np.median([c.change for c in done]):+.1%}",
                _middle([c.dice for c in done]),
                f"{min(c.dice for c in done):.3f}",
                _middle([c.trip_dice for c in done]),
            )
        n_scans = str(len({c.scan for c in all_rows}))
        n_failed = str(len({(c.scan, c.title) for c in all_rows if c.status == FAILED}))
        rows.append((task, title, n_scans, *cells, n_failed))
    return markdown(BY_DAMAGE, rows)


def _failures(changes: Sequence[Change]) -> str:
    """Every answer that was refused, once, with the sentence that the app gives."""
    refused = grouped(
        (c for c in changes if c.status == FAILED), lambda c: (c.scan, c.title, c.reason)
    )
    if not refused:
        return "No scan was refused."
    lines = [
        f"- {scan}, {title}, {', '.join(dict.fromkeys(c.task for c in rows))}: {reason}"
        for (scan, title, reason), rows in refused.items()
    ]
    return "Refused, with the app's sentence:\n\n" + "\n".join(lines)


def _done(changes: Iterable[Change]) -> list[Change]:
    """Changes of structures that the scan as it is shows, where an answer was given."""
    return [c for c in changes if c.status == DONE and c.undamaged_ml > 0]


def _typical(changes: Iterable[Change]) -> float:
    """Median change of volume without its sign."""
    return float(np.median([abs(change.change) for change in changes]))


def _middle(values: Sequence[float]) -> str:
    """Median as a cell."""
    return f"{np.median(values):.3f}"
