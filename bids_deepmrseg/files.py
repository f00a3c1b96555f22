"""Text, JSON and TSV files that appear whole or not at all, whoever else writes them."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from bids_deepmrseg.errors import InputDataError, OutputError

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
ABSENT = "n/a"


ATTEMPTS = 20
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.(.+)")


def partial_name(file: Path) -> Path:
    """A name beside ``file`` for what is not whole yet, distinct on every machine."""
    return file.with_name(f".{uuid4().hex}.{file.name}")


def delete_partials(folder: Path, belongs: Callable[[str], bool]) -> None:
    """Delete what writers that were killed have left behind.

    Parameters
    ----------
    folder
        Where to look, not below.
    belongs
        Told the name that a file should have got; true where nobody else can be writing it now.
    """
    with suppress(OSError):
        for file in list(folder.glob(".*")):
            found = PARTIAL.fullmatch(file.name)
            if found is not None and belongs(found[1]):
                file.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, even while others delete the ones that are empty.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError, FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    folder.mkdir(parents=True, exist_ok=True)


def may_be_read(folder: Path) -> bool:
    """Whether this process may list a folder and open what lies in it.

    Raises
    ------
    OSError
        If it is no folder.

    Notes
    -----
    Tried, not asked for: ``os.access`` answers for the real user without the capabilities that a
    container's process may have.
    """
    try:
        next(folder.iterdir(), None)
        (folder / "..").stat()
    except PermissionError:
        return False
    return True


def write_text(file: Path, text: str) -> None:
    """Replace a file in one step, so that no reader ever sees half of it.

    What holds that text already is left as it is, so that its date tells when it changed.

    Raises
    ------
    OutputError
        If the folder cannot be made or the file cannot be written.
    """
    if _holds(file, text):
        return
    partial = partial_name(file)
    try:
        make_folder(file.parent)
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{file} cannot be written: {error}") from error


def _holds(file: Path, text: str) -> bool:
    """Whether a file is there and holds nothing but that text."""
    try:
        return file.read_bytes() == text.encode()
    except OSError:
        return False


def write_once(file: Path, text: str) -> None:
    """Write a file unless there is one: it is never replaced, whoever made it and whenever.

    Raises
    ------
    OutputError
        If the folder cannot be made or the file cannot be written.
    """
    if file.exists() or file.is_symlink():
        return
    partial = partial_name(file)
    try:
        make_folder(file.parent)
        partial.write_text(text, encoding="utf-8")
        with suppress(FileExistsError):
            _name_once(partial, file, text)
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _name_once(partial: Path, file: Path, text: str) -> None:
    """Give a file its name unless it is taken; where links are unknown, write it a second time."""
    try:
        os.link(partial, file)
    except FileExistsError:
        raise
    except OSError:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)


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
