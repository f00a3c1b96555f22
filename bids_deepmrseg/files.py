"""Text, JSON and TSV files that appear whole or not at all, whoever else writes them."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from bids_deepmrseg.errors import InputDataError, OutputError

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
ABSENT = "n/a"


def partial_name(file: Path) -> Path:
    """A name beside ``file`` for what is not whole yet, distinct on every machine."""
    return file.with_name(f".{uuid4().hex}.{file.name}")


def write_text(file: Path, text: str) -> None:
    """Replace a file in one step, so that no reader ever sees half of it.

    Raises
    ------
    OutputError
        If the folder cannot be made or the file cannot be written.
    """
    partial = partial_name(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{file} cannot be written: {error}") from error


def write_json(file: Path, value: JsonValue) -> None:
    """Write indented JSON; numbers that are not finite are refused by the standard library."""
    write_text(file, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(file: Path) -> dict[str, JsonValue]:
    """Read a JSON object.

    Raises
    ------
    InputDataError
        If the file is no JSON object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputDataError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputDataError(f"{file} holds no JSON object")
    return value


def write_tsv(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write a BIDS table; what a row lacks is ``n/a``, line breaks and tabs become blanks."""
    lines = ["\t".join(columns)]
    for row in rows:
        cells = (" ".join(row.get(column, "").split()) or ABSENT for column in columns)
        lines.append("\t".join(cells))
    write_text(file, "\n".join(lines) + "\n")


def read_tsv(file: Path) -> tuple[tuple[str, ...], tuple[dict[str, str], ...]]:
    """Read a table: its columns, and one mapping per row.

    Raises
    ------
    InputDataError
        If it cannot be read, or a row has another number of cells than there are columns.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            table = [row for row in csv.reader(stream, "excel-tab", quoting=csv.QUOTE_NONE) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise InputDataError(f"{file} is not a readable table: {error}") from error
    columns = tuple(table[0]) if table else ()
    for row in table[1:]:
        if len(row) != len(columns):
            raise InputDataError(f"{file}: a row has {len(row)} cells, not {len(columns)}: {row}")
    return columns, tuple(dict(zip(columns, row, strict=True)) for row in table[1:])
