"""Tables say means over subjects, leave out what was not measured, and go where they belong."""

import math
from pathlib import Path

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.tables import accuracy_table, put_between_markers, subject_table
from tests.evaluation.made import make_result

RESULTS = (
    make_result("sub-01", "Left Blob", 0.8, volume_ml=1),
    make_result("sub-01", "Right Blob", 0.4, volume_ml=2),
    make_result("sub-02", "Left Blob", 0.6, volume_ml=3),
    make_result("sub-02", "Right Blob", math.nan, volume_ml=4),
)


def cells(table: str) -> dict[str, list[str]]:
    """Rows of a markdown table by their first cell."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows[2:]}


def test_a_structure_has_mean_and_deviation_over_subjects() -> None:
    bacc, f1, _, rho_c, volumes = cells(accuracy_table(RESULTS))["Left Blob"]
    assert f1 == bacc == "0.700 (0.141)"
    assert rho_c == "1.000"
    assert volumes == "2.00 / 2.00"


def test_what_was_not_measured_is_left_out_and_said() -> None:
    assert cells(accuracy_table(RESULTS))["Right Blob"][1] == "0.400 (nan, 1 n/a)"


def test_the_average_is_over_subjects_of_their_means() -> None:
    """0.6 of the first, 0.6 of the second, although one of them misses a structure."""
    average = cells(accuracy_table(RESULTS))["**average of 2**"]
    assert average[1] == "0.600 (0.000)"


def test_all_rows_have_as_many_cells_as_the_header() -> None:
    lines = accuracy_table(RESULTS).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 2 + 1


def test_a_subject_is_named_with_its_worst_structure() -> None:
    rows = cells(subject_table(RESULTS[:2]))
    assert rows["sub-01"] == ["0.600", "0.400 (Right Blob)"]


def test_a_table_goes_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "accuracy.md"
    document.write_text("a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n", encoding="utf-8")
    put_between_markers(document, "x", "new")
    put_between_markers(document, "x", "newer")
    assert document.read_text(encoding="utf-8") == (
        "a\n<!-- begin x -->\nnewer\n<!-- end x -->\nb\n"
    )


def test_a_document_without_the_place_is_left_as_it_was(tmp_path: Path) -> None:
    document = tmp_path / "accuracy.md"
    document.write_text("<!-- begin x -->\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no place for x"):
        put_between_markers(document, "x", "new")
    assert document.read_text(encoding="utf-8") == "<!-- begin x -->\n"
