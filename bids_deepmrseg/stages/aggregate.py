"""Stage 8 of 8: results of all cases, failures included, become tables for the whole study."""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bids_deepmrseg.entries import CASE_COLUMNS, Entry, read_entries
from bids_deepmrseg.errors import NothingToDoError
from bids_deepmrseg.files import (
    ABSENT,
    JsonValue,
    delete_partials,
    read_json,
    write_json,
    write_tsv,
)
from bids_deepmrseg.locks import Locks

logger = logging.getLogger(__name__)

COLUMNS_FILE = Path(__file__).parents[1] / "data" / "group_columns.json"
PER_BRAIN = "_per_brain"
GROUP_PREFIX = "group_"
GROUP_FILES = "group files"  # the lock under which they are written

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
    entries = read_entries(output_dir)
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
