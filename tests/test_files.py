"""Files appear whole, and tables read back as they were written."""

import os
import threading
from pathlib import Path

import pytest

from bids_deepmrseg.errors import InputDataError, OutputError
from bids_deepmrseg.files import (
    delete_partials,
    make_folder,
    partial_name,
    read_json,
    read_tsv,
    write_json,
    write_once,
    write_text,
    write_tsv,
)


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


def test_what_would_be_the_same_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    write_json(file, {"a": "ü"})
    os.utime(file, (1, 1))
    before = file.stat()
    write_json(file, {"a": "ü"})
    assert (file.stat().st_ino, file.stat().st_mtime) == (before.st_ino, 1)
    write_json(file, {"a": "u"})
    assert file.stat().st_mtime > 1


def test_a_file_that_is_written_once_is_never_replaced(tmp_path: Path) -> None:
    write_once(tmp_path / "new" / "f.txt", "ours")
    write_once(tmp_path / "new" / "f.txt", "again")
    assert (tmp_path / "new" / "f.txt").read_text(encoding="utf-8") == "ours"
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    write_once(tmp_path / "dangling", "ours")
    assert not (tmp_path / "nowhere").exists()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["f.txt"]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_who_write_a_file_once_one_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Also where the file system knows no links."""
    if not links:

        def refuse(source: Path, target: Path) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    for attempt in range(20):
        file, together = tmp_path / str(attempt), threading.Barrier(8)
        said: list[str] = []

        def write(name: str, file: Path = file, together: threading.Barrier = together) -> None:
            together.wait()
            write_once(file, name)
            said.append(file.read_text(encoding="utf-8"))  # noqa: B023 - joined before the next

        threads = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(said) - {""}) == 1
    assert not list(tmp_path.glob(".*"))


def test_only_unfinished_files_that_belong_are_deleted(tmp_path: Path) -> None:
    ours, others = partial_name(tmp_path / "a.json"), partial_name(tmp_path / "b.json")
    for file in (ours, others, tmp_path / ".a.json", tmp_path / "a.json"):
        file.write_text("{", encoding="utf-8")
    delete_partials(tmp_path, lambda name: name == "a.json")
    assert {file.name for file in tmp_path.iterdir()} == {others.name, ".a.json", "a.json"}
    delete_partials(tmp_path / "not there", bool)


def test_a_folder_is_made_while_others_take_empty_ones_away(tmp_path: Path) -> None:
    done = threading.Event()

    def take_away() -> None:
        while not done.is_set():
            for folder in (tmp_path / "a" / "b", tmp_path / "a"):
                try:
                    folder.rmdir()
                except OSError:
                    continue

    taker = threading.Thread(target=take_away)
    taker.start()
    try:
        for number in range(300):
            make_folder(tmp_path / "a" / "b" / str(number) / "c")
    finally:
        done.set()
        taker.join()


def test_a_file_in_the_way_of_a_folder_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
