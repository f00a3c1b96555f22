"""Flat records as BIDS tables: a column per field, a row per record, ``n/a`` for ``nan``."""

import math
from collections.abc import Iterable
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.files import ABSENT, read_tsv, write_tsv

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)
else:
    Record = TypeVar("Record")

Cell = str | int | float


def columns_of(kind: "type[DataclassInstance]") -> tuple[str, ...]:
    """Names of a record's fields, in their order."""
    return tuple(field.name for field in fields(kind))


def write_records(records: Iterable[Record], kind: type[Record], file: Path) -> None:
    """Write records as TSV, floats with five significant digits.

    Parameters
    ----------
    records
        All of one kind; fields are text, whole numbers or floats.
    kind
        Their class, which names the columns where there is no record.
    file
        Replaced in one step.
    """
    columns = columns_of(kind)
    rows = (dict(zip(columns, map(_text, astuple(record)), strict=True)) for record in records)
    write_tsv(file, columns, rows)


def read_records(file: Path, kind: type[Record]) -> tuple[Record, ...]:
    """Read records back.

    Raises
    ------
    InputDataError
        If the file cannot be read, its columns are not the record's, or a number is none.
    """
    columns, rows = read_tsv(file)
    if columns != columns_of(kind):
        raise InputDataError(
            f"{file} is no table of {kind.__name__.lower()}s: its columns are "
            f"{', '.join(columns) or 'none'}, not {', '.join(columns_of(kind))}; make it again"
        )
    types = {field.name: field.type for field in fields(kind)}
    try:
        return tuple(
            kind(**{name: _value(text, types[name]) for name, text in row.items()}) for row in rows
        )
    except ValueError as error:
        raise InputDataError(f"{file} holds what is no number: {error}") from error


def _text(value: Cell) -> str:
    """One cell of a table."""
    if isinstance(value, float):
        return ABSENT if math.isnan(value) else f"{value:.5g}"
    return str(value)


def _value(text: str, kind: object) -> Cell:
    """One cell as a field of a record."""
    if kind is float:
        return math.nan if text == ABSENT else float(text)
    return int(text) if kind is int else text
