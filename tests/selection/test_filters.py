"""Labels and filter files choose; what they cannot mean is refused."""

import json
from pathlib import Path

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.selection.filters import EntityFilter, choose_participants, read_filters


def test_without_labels_everyone_is_chosen() -> None:
    assert choose_participants(["02", "01"], (), ()) == (("01", "02"), ())


def test_excluded_wins_over_wanted_and_unknown_is_told_apart() -> None:
    chosen, unknown = choose_participants(["01", "02", "03"], ("03", "9", "01", "03"), ("01",))
    assert (chosen, unknown) == (("03",), ("9",))


@pytest.mark.parametrize(
    ("allowed", "value", "accepts"),
    [
        (("01",), "01", True),
        (("1",), "01", True),
        (("a",), "A", False),
        (("01",), None, False),
        (("*",), "anything", True),
        (("*",), None, False),
        (("",), None, True),
        (("",), "x", False),
        (("", "x"), "x", True),
        (("x", "y"), "y", True),
    ],
)
def test_a_filter_lets_through_what_it_names(
    allowed: tuple[str, ...], value: str | None, *, accepts: bool
) -> None:
    assert EntityFilter("T1w", "run", allowed).accepts(value) is accepts


def write(tmp_path: Path, value: object) -> Path:
    file = tmp_path / "filter.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def test_a_filter_file_of_another_program_is_understood(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {"t1w": {"session": "01", "run": [1, 2], "acquisition": None}, "bold": {"echo": 1}},
    )
    assert read_filters(file, ["FLAIR", "T1w"]) == (
        EntityFilter("T1w", "session", ("01",)),
        EntityFilter("T1w", "run", ("1", "2")),
        EntityFilter("T1w", "acquisition", ("",)),
    )


@pytest.mark.parametrize("value", [[], {"T1w": "01"}, {"T1w": {"run": {"a": 1}}}])
def test_a_filter_file_of_another_shape_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match=r"filter\.json"):
        read_filters(write(tmp_path, value), ["T1w"])


@pytest.mark.parametrize("text", ["", "{", '{"T1w": }'])
def test_a_filter_file_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "filter.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be read"):
        read_filters(tmp_path / "filter.json", ["T1w"])
