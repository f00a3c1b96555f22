"""Stage 8 of 8: results of all cases, failures included, become tables for the whole study."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bids_deepmrseg.derivatives import PROVENANCE_KEY
from bids_deepmrseg.errors import InputDataError, NothingToDoError
from bids_deepmrseg.files import (
    ABSENT,
    JsonValue,
    delete_partials,
    read_json,
    read_tsv,
    write_json,
    write_tsv,
)
from bids_deepmrseg.locks import Locks
from bids_deepmrseg.records import WORKED_ON

logger = logging.getLogger(__name__)

COLUMNS_FILE = Path(__file__).parents[1] / "data" / "group_columns.json"
URI_PREFIX = "bids:raw:"
PER_BRAIN = "_per_brain"
GROUP_PREFIX = "group_"
GROUP_FILES = "group files"  # the lock under which they are written

CASE_COLUMNS = ("participant_id", "session_id", "run_id", "source")
WIDE_COLUMNS = (
    *CASE_COLUMNS,
    "status",
    "reason",
    "n_touching_edge",
    "n_outside_adult_range",
    "n_flagged",
    "mean_predicted_dice",
    "mean_probability",
    "total_mm3",
    "brain_mm3",
)
LESION_COLUMNS = (
    "n_lesions",
    "lesion_threshold",
    "min_lesion_mm3",
    "n_removed",
    "removed_mm3",
    "inputs",
)
WIDE_LAST = ("model_sha256", "code_version")
LONG_COLUMNS = (
    *CASE_COLUMNS,
    "task",
    "status",
    "index",
    "name",
    "volume_mm3",
    "n_voxels",
    "brain_mm3",
    "fraction_of_brain",
    "mean_probability",
    "touches_edge",
    "in_adult_range",
    "predicted_dice",
    "flagged",
    "why_flagged",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One case of the study: where it stands, and its structures where it has any.

    Attributes
    ----------
    participant_id, session_id, run_id, source, task
        As in the status table.
    status, reason
        What is true of the case over all runs.
    structures
        Rows of its ``_dseg.tsv``; empty unless done.
    model_sha256, code_version
        What made the label map; ``n/a`` unless done.
    """

    participant_id: str
    session_id: str
    run_id: str
    source: str
    task: str
    status: str
    reason: str
    structures: tuple[Mapping[str, str], ...] = ()
    model_sha256: str = ABSENT
    code_version: str = ABSENT

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells cases apart: the scan, or without one whose it would have been."""
        if self.source != ABSENT:
            return (self.task, self.source)
        return (self.task, self.participant_id, self.session_id, self.run_id)

    @property
    def brain_mm3(self) -> str:
        """Volume of the brain as its table tells it; ``n/a`` where it does not."""
        return self.structures[0].get("brain_mm3", ABSENT) if self.structures else ABSENT

    @property
    def place(self) -> tuple[str, ...]:
        """Where its row stands in the tables."""
        return (self.task, self.participant_id, self.session_id, self.run_id, self.source)

    @property
    def cells(self) -> dict[str, str]:
        """The columns that every table begins with."""
        return {name: getattr(self, name) for name in (*CASE_COLUMNS, "task", "status", "reason")}


def aggregate(output_dir: Path) -> tuple[Path, ...]:
    """Write ``group_<task>.tsv`` for every task, ``group_volumes.tsv``, and their dictionaries.

    Parameters
    ----------
    output_dir
        Output folder of participant level runs.

    Returns
    -------
    tuple
        The tables, dictionaries left out.

    Raises
    ------
    NothingToDoError
        If no case was ever run into this folder.
    InputDataError
        If a result cannot be read.

    Notes
    -----
    Label maps that are there count as done, whatever a later run says; what it says is shown as
    the reason. Failed and skipped cases keep a row, with the reason of the newest run that named
    them. Tables are made anew from all results each time. Where the table of a case tells no volume
    of the brain, that which other tasks found in the same scan is taken.
    """
    if not output_dir.is_dir():
        raise NothingToDoError(f"{output_dir} is not there; run the participant level first")
    with Locks(output_dir) as locks, locks.held(GROUP_FILES):
        if locks.works:
            delete_partials(output_dir, lambda name: name.startswith(GROUP_PREFIX))
        return _aggregate(output_dir)


def _aggregate(output_dir: Path) -> tuple[Path, ...]:
    """The same, while no other group level is at it."""
    entries = _with_brain_volumes(sorted(_entries(output_dir), key=lambda entry: entry.place))
    if not entries:
        raise NothingToDoError(
            f"{output_dir} holds no result and no status table; run the participant level first"
        )
    tables = [
        _write_wide(output_dir, task, [entry for entry in entries if entry.task == task])
        for task in sorted({entry.task for entry in entries})
    ]
    return (*tables, _write_long(output_dir, entries))


def slug(name: str, ending: str = "_mm3") -> str:
    """Column name of a structure, such as ``left_accumbens_area_mm3``."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_") + ending


def _entries(output_dir: Path) -> Iterator[Entry]:
    """Every case, once: results first, then what has none."""
    latest = _latest_outcomes(output_dir)
    results = {entry.identity: entry for entry in _results(output_dir)}
    for identity, entry in results.items():
        said = latest.get(identity, entry)
        if said.status == "done" or said.reason.startswith(WORKED_ON):
            yield entry
        else:
            reason = f"an earlier result; in the latest run it {said.status}: {said.reason}"
            yield replace(entry, reason=reason)
    with_scan = [entry for entry in (*results.values(), *latest.values()) if entry.source != ABSENT]
    for identity, entry in latest.items():
        if identity not in results and not any(_supersedes(other, entry) for other in with_scan):
            yield entry if entry.status != "done" else _gone(entry)


def _with_brain_volumes(entries: list[Entry]) -> list[Entry]:
    """The same cases, told the volume of the brain that other tasks found in the same scan."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry.brain_mm3 != ABSENT:
            found.setdefault(entry.source, set()).add(entry.brain_mm3)
    agreed = {source: volumes.pop() for source, volumes in found.items() if len(volumes) == 1}
    return [
        replace(entry, structures=_divided(entry.structures, agreed[entry.source]))
        if entry.brain_mm3 == ABSENT and entry.source in agreed
        else entry
        for entry in entries
    ]


def _divided(
    structures: tuple[Mapping[str, str], ...], brain_mm3: str
) -> tuple[Mapping[str, str], ...]:
    """Rows of structures whose volumes are set against that of the brain."""
    whole = float(brain_mm3)
    return tuple(
        {
            **one,
            "brain_mm3": brain_mm3,
            "fraction_of_brain": f"{float(one['volume_mm3']) / whole:.8f}" if whole else ABSENT,
        }
        for one in structures
    )


def _supersedes(other: Entry, entry: Entry) -> bool:
    """Whether a scan was found for what another run had found no scan for."""
    return (
        entry.source == ABSENT
        and (other.task, other.participant_id) == (entry.task, entry.participant_id)
        and entry.session_id in (ABSENT, other.session_id)
    )


def _gone(entry: Entry) -> Entry:
    """A case that was done but whose label map is not there any more."""
    reason = "its label map or the sidecar of it was there after the run, and is not any more"
    return replace(entry, status="failed", reason=reason)


def _latest_outcomes(output_dir: Path) -> dict[tuple[str, ...], Entry]:
    """What the newest run that named a case says of it; run folders sort by their start."""
    latest: dict[tuple[str, ...], Entry] = {}
    for file in sorted(output_dir.glob("logs/*/status.tsv")):
        for row in read_tsv(file)[1]:
            entry = _outcome(row, file)
            if not entry.reason.startswith(WORKED_ON):
                latest[entry.identity] = entry
            else:
                latest.setdefault(entry.identity, entry)
    return latest


def _outcome(row: Mapping[str, str], file: Path) -> Entry:
    """One row of a status table."""
    try:
        return Entry(
            participant_id=row["participant_id"],
            session_id=row["session_id"],
            run_id=row["run_id"],
            source=row["source"],
            task=row["task"],
            status=row["status"],
            reason=row["reason"],
        )
    except KeyError as error:
        raise InputDataError(f"{file} is no status table: it lacks {error}") from error


def _results(output_dir: Path) -> Iterator[Entry]:
    """Every label map of this program that is there with its table and its sidecar.

    Those with a ``desc`` tell a result in another way, such as every lesion by its number.
    """
    for sidecar in sorted(output_dir.glob("sub-*/**/anat/*_dseg.json")):
        if "_desc-" in sidecar.name:
            continue
        table, image = (sidecar.with_suffix(ending) for ending in (".tsv", ".nii.gz"))
        description = read_json(sidecar)
        provenance = description.get(PROVENANCE_KEY)
        if isinstance(provenance, Mapping) and table.is_file() and image.is_file():
            yield _result(sidecar, description, provenance, read_tsv(table)[1])


def _result(
    sidecar: Path,
    description: Mapping[str, JsonValue],
    provenance: Mapping[str, JsonValue],
    structures: tuple[dict[str, str], ...],
) -> Entry:
    """One label map as its sidecar and its table tell it."""
    sources = description.get("Sources")
    if not isinstance(sources, list) or not sources:
        raise InputDataError(f"{sidecar} does not say which scan was segmented; run it again")
    source = str(sources[0]).removeprefix(URI_PREFIX)
    entities = dict(re.findall(r"(sub|ses|run)-([0-9A-Za-z+]+)_", Path(source).name))
    participant, session, run = (
        f"{key}-{entities[key]}" if key in entities else ABSENT for key in ("sub", "ses", "run")
    )
    return Entry(
        participant_id=participant,
        session_id=session,
        run_id=run,
        source=source,
        task=str(provenance.get("Task")),
        status="done",
        reason=ABSENT,
        structures=structures,
        model_sha256=str(provenance.get("ModelSHA256")),
        code_version=str(provenance.get("Version")),
    )


def _write_wide(output_dir: Path, task: str, entries: list[Entry]) -> Path:
    """One row per case of a task, one column per structure."""
    found = [one for entry in entries for one in entry.structures]
    names = {_column(one): one["name"] for one in found if not _is_brain(one)}
    parts = {slug(one["name"], PER_BRAIN): one["name"] for one in found if _is_divided(one)}
    of_lesions = LESION_COLUMNS if any("n_lesions" in one for one in found) else ()
    columns = (*WIDE_COLUMNS, *names, *parts, *of_lesions, *WIDE_LAST)
    file = output_dir / f"group_{task}.tsv"
    write_tsv(file, columns, [_wide_row(entry) for entry in entries])
    volumes: dict[str, JsonValue] = {
        column: {"Description": f"Volume of the {name}", "Units": "mm^3"}
        for column, name in names.items()
    }
    fractions: dict[str, JsonValue] = {
        column: {"Description": f"Volume of the {name} over brain_mm3"}
        for column, name in parts.items()
    }
    _write_dictionary(file, columns, {**volumes, **fractions})
    logger.info("%s: %d rows", file.name, len(entries))
    return file


def _wide_row(entry: Entry) -> dict[str, str]:
    """One case as a row; without a label map all measures are absent."""
    row = {**entry.cells, "model_sha256": entry.model_sha256, "code_version": entry.code_version}
    if not entry.structures:
        return row
    row |= {_column(one): one["volume_mm3"] for one in entry.structures}
    row |= {
        slug(one["name"], PER_BRAIN): one["fraction_of_brain"]
        for one in entry.structures
        if _is_divided(one)
    }
    row |= {column: entry.structures[0].get(column, ABSENT) for column in LESION_COLUMNS}
    row["brain_mm3"] = entry.brain_mm3
    row["n_touching_edge"] = str(_count(entry, "touches_edge", "true"))
    row["n_outside_adult_range"] = str(_count(entry, "in_adult_range", "false"))
    row["total_mm3"] = f"{sum(float(one['volume_mm3']) for one in entry.structures):.3f}"
    row["mean_probability"] = _mean_probability(entry)
    return row | _quality_of(entry)


def _column(structure: Mapping[str, str]) -> str:
    """Column of a structure's volume; with its index where a column of that name is there."""
    column = slug(structure["name"])
    return (
        column if column not in WIDE_COLUMNS else slug(f"{structure['name']} {structure['index']}")
    )


def _is_brain(structure: Mapping[str, str]) -> bool:
    """Whether the column ``brain_mm3`` tells this structure's volume already."""
    told = structure.get("brain_mm3", ABSENT)
    return slug(structure["name"]) == "brain_mm3" and told == structure["volume_mm3"]


def _is_divided(structure: Mapping[str, str]) -> bool:
    """Whether a volume is told as a part of that of the brain; the brain's own never is."""
    return structure.get("fraction_of_brain", ABSENT) != ABSENT


def _count(entry: Entry, column: str, value: str) -> int:
    """Number of structures with that value."""
    return sum(one[column] == value for one in entry.structures)


def _quality_of(entry: Entry) -> dict[str, str]:
    """Flags and predicted Dice of a case; tables of earlier versions have neither."""
    flagged = [one.get("flagged", ABSENT) for one in entry.structures]
    predicted = [one.get("predicted_dice", ABSENT) for one in entry.structures]
    return {
        "n_flagged": ABSENT if ABSENT in flagged else str(flagged.count("true")),
        "mean_predicted_dice": ABSENT
        if ABSENT in predicted
        else f"{sum(map(float, predicted)) / len(predicted):.4f}",
    }


def _mean_probability(entry: Entry) -> str:
    """Mean over the voxels of all structures."""
    found = [one for one in entry.structures if one["mean_probability"] != ABSENT]
    n_voxels = sum(int(one["n_voxels"]) for one in found)
    summed = sum(int(one["n_voxels"]) * float(one["mean_probability"]) for one in found)
    return f"{summed / n_voxels:.4f}" if n_voxels else ABSENT


def _write_long(output_dir: Path, entries: Iterable[Entry]) -> Path:
    """One row per case and structure; a case without a label map has one row."""
    file = output_dir / "group_volumes.tsv"
    rows = [{**entry.cells, **one} for entry in entries for one in entry.structures or ({},)]
    write_tsv(file, LONG_COLUMNS, rows)
    _write_dictionary(file, LONG_COLUMNS, {})
    return file


def _write_dictionary(
    table: Path, columns: tuple[str, ...], volumes: Mapping[str, JsonValue]
) -> None:
    """Explain every column of a table beside it."""
    known = {**read_json(COLUMNS_FILE), **volumes}
    write_json(table.with_suffix(".json"), {column: known[column] for column in columns})
