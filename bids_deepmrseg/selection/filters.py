"""Which participants and scans a run was asked for: labels, and the entity filter file."""

import difflib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.errors import UsageError

ANY = "*"  # in a filter file: the entity must be there, whatever its value
ABSENT = ""  # stands for null, which in a filter file means: the entity must be absent


def nearest(word: str, known: Collection[str], *, n: int = 1) -> list[str]:
    """The known words most like a word, best first."""
    return difflib.get_close_matches(word, known, n=n, cutoff=0)


def choose_participants(
    known: Sequence[str], wanted: Collection[str], excluded: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Participants to look at, and wanted ones that are not there.

    Parameters
    ----------
    known
        Labels of the dataset, without ``sub-``.
    wanted
        Labels asked for; empty for all.
    excluded
        Labels to leave out, also if they are wanted.
    """
    asked = [label for label in dict.fromkeys(wanted or known) if label not in excluded]
    there = set(known)
    return (
        tuple(sorted(label for label in asked if label in there)),
        tuple(label for label in asked if label not in there),
    )


@dataclass(frozen=True, slots=True)
class EntityFilter:
    """What one entity of the scans of one suffix must be.

    Attributes
    ----------
    suffix
        Such as ``T1w``.
    entity
        Name as pybids spells it, such as ``session`` or ``acquisition``.
    allowed
        Values that are let through, or :data:`ANY`, or :data:`ABSENT`.
    """

    suffix: str
    entity: str
    allowed: tuple[str, ...]

    def accepts(self, value: str | None) -> bool:
        """Whether a scan with that value of the entity is let through; ``1`` is ``01``."""
        if value is None:
            return ABSENT in self.allowed
        return ANY in self.allowed or any(is_same(value, one) for one in self.allowed)

    def __str__(self) -> str:
        spelt = " or ".join(value or "absent" for value in self.allowed)
        return f"{self.suffix} {self.entity}={spelt}"


def is_same(value: str, other: str) -> bool:
    """Whether two values are equal as text or as numbers."""
    if value.isdecimal() and other.isdecimal():
        return int(value) == int(other)
    return value == other


def read_filters(file: Path, suffixes: Collection[str]) -> tuple[EntityFilter, ...]:
    """Read a filter file.

    Parameters
    ----------
    file
        JSON such as ``{"T1w": {"session": "01", "acquisition": null, "run": [1, 2]}}``. Keys are
        suffixes in upper or lower case; ``"*"`` lets every value through, ``null`` none.
    suffixes
        Those of interest; the file may name others, for other programs, which are passed over.

    Raises
    ------
    UsageError
        If the file is not such a JSON file.
    """
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--bids-filter-file {file} cannot be read: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise UsageError(
            f"--bids-filter-file {file} must map suffixes to entities, such as "
            '{"T1w": {"session": "01"}}'
        )
    spelling = {suffix.lower(): suffix for suffix in suffixes}
    return tuple(
        EntityFilter(spelling[key.lower()], entity, _allowed(value, entity, file))
        for key, row in table.items()
        if key.lower() in spelling
        for entity, value in row.items()
    )


def _allowed(value: object, entity: str, file: Path) -> tuple[str, ...]:
    """The values that one entry of the file lets through."""
    values = value if isinstance(value, list) else [value]
    if not all(one is None or isinstance(one, str | int) for one in values):
        raise UsageError(
            f"--bids-filter-file {file}: {value!r} cannot be a value of {entity!r}; give text, a "
            'whole number, null, "*", or a list of these'
        )
    return tuple(ABSENT if one is None else str(one) for one in values)
