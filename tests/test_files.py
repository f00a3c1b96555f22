"""Files appear whole, and tables read back as they were written."""

from pathlib import Path

import pytest

from bids_deepmrseg.errors import InputDataError, OutputError
from bids_deepmrseg.files import read_json, read_tsv, write_json, write_text, write_tsv


def test_a_table_reads_back_as_it_was_written(tmp_path: Path) -> None:
    rows = ({"a": "1", "b": "two words"}, {"a": "2", "b": 'a "quoted" word'})
    write_tsv(tmp_path / "t.tsv", ("a", "b"), rows)
    assert read_tsv(tmp_path / "t.tsv") == (("a", "b"), rows)


def test_absent_and_empty_cells_are_na_and_line_breaks_become_blanks(tmp_path: Path) -> None:
    write_tsv(tmp_path / "t.tsv", ("a", "b", "c"), [{"a": "one\ntwo\tthree", "b": ""}])
    assert read_tsv(tmp_path / "t.tsv")[1] == ({"a": "one two three", "b": "n/a", "c": "n/a"},)


def test_a_table_with_windows_line_ends_and_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes("\ufeffparticipant_id\tage\r\nsub-1\t30\r\n".encode())
    assert read_tsv(tmp_path / "t.tsv")[1] == ({"participant_id": "sub-1", "age": "30"},)


def test_a_ragged_table_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a\tb\n1\n", encoding="utf-8")
    with pytest.raises(InputDataError, match=r"t\.tsv: a row has 1 cells, not 2"):
        read_tsv(tmp_path / "t.tsv")


def test_nothing_but_the_file_is_left_behind(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "f.txt", "one")
    write_text(tmp_path / "deep" / "f.txt", "two")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["f.txt"]
    assert (tmp_path / "deep" / "f.txt").read_text(encoding="utf-8") == "two"


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "file" / "below.txt", "text")


def test_json_must_be_an_object(tmp_path: Path) -> None:
    write_json(tmp_path / "f.json", [1])
    with pytest.raises(InputDataError, match="no JSON object"):
        read_json(tmp_path / "f.json")


def test_json_without_end_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('{"a": ', encoding="utf-8")
    with pytest.raises(InputDataError, match=r"f\.json is not readable JSON"):
        read_json(tmp_path / "f.json")
