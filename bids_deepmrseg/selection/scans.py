"""Usable scans, each with the label or filter that leaves it out, if any does."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.selection.filters import EntityFilter, is_same
from bids_deepmrseg.selection.names import ScanName, split_ending

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A scan that could be used.

    Attributes
    ----------
    path
        Relative to the dataset's root.
    name
        The file name taken apart.
    removed_by
        The label or filter that leaves it out; ``None`` if nothing does.
    """

    path: Path
    name: ScanName
    removed_by: str | None = None

    @property
    def subject(self) -> str:
        """Label of the participant, as the folder has it."""
        return self.path.parts[0].removeprefix("sub-")

    @property
    def session(self) -> str | None:
        """Label of the session."""
        return self.name.entity("ses")

    def n_shared(self, other: "Scan") -> int:
        """Number of entities on which both scans agree; numbers may have leading zeros."""
        mine = dict(self.name.entities)
        return sum(key in mine and is_same(mine[key], value) for key, value in other.name.entities)

    @property
    def n_entities(self) -> int:
        """Number of entities in its name."""
        return len(self.name.entities)


def is_session_wanted(session: str | None, wanted: Collection[str]) -> bool:
    """Whether ``--session-label`` lets a session through; without labels all are."""
    return not wanted or session in wanted


def why_removed(
    name: ScanName,
    tags: Mapping[str, str],
    sessions: Collection[str],
    filters: Sequence[EntityFilter],
) -> str | None:
    """The label or filter that leaves a scan out, or ``None``.

    Parameters
    ----------
    name
        The file name taken apart.
    tags
        Its entities as pybids spells them.
    sessions
        Session labels asked for; empty for all.
    filters
        Those of the filter file, of any suffix.
    """
    if not is_session_wanted(name.entity("ses"), sessions):
        return f"--session-label {' '.join(sessions)}"
    for one in filters:
        if one.suffix == name.suffix and not one.accepts(tags.get(one.entity)):
            return f"--bids-filter-file ({one})"
    return None


def without_twins(paths: Collection[Path]) -> list[Path]:
    """Sorted paths; of a scan that is there compressed and not, only the compressed file."""
    chosen: dict[Path, Path] = {}
    for path in sorted(paths, key=lambda path: path.name.endswith(".gz")):
        stem = path.with_name(split_ending(path.name)[0])
        if stem in chosen:
            logger.warning("%s is passed over: %s is there too", chosen[stem], path)
        chosen[stem] = path
    return sorted(chosen.values())
