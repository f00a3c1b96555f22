"""Locks keep others out, end with their holder, and leave nothing behind."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bids_deepmrseg.locks import FILE_NAME, FOLDER_NAME, Locks


def test_a_name_is_held_by_one_until_it_is_given_back(tmp_path: Path) -> None:
    with Locks(tmp_path) as one, Locks(tmp_path) as other:
        assert one.works
        assert one.take("a")
        assert one.take("a")
        assert not other.take("a")
        assert other.take("b")
        one.give_back("a")
        assert other.take("a")


def test_leaving_gives_everything_back(tmp_path: Path) -> None:
    with Locks(tmp_path) as one:
        with Locks(tmp_path) as other:
            assert other.take("a")
        assert one.take("a")


def test_the_last_who_leaves_takes_the_folder_away(tmp_path: Path) -> None:
    with Locks(tmp_path):
        with Locks(tmp_path):
            pass
        assert (tmp_path / FOLDER_NAME / FILE_NAME).is_file()
    assert list(tmp_path.iterdir()) == []


def test_what_others_say_of_themselves_stays(tmp_path: Path) -> None:
    with Locks(tmp_path) as locks:
        (locks.folder / "note").write_text("", encoding="utf-8")
    assert [one.name for one in (tmp_path / FOLDER_NAME).iterdir()] == ["note"]


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time; from bids_deepmrseg.locks import Locks\n"
        "with Locks(pathlib.Path(sys.argv[1])) as locks:\n"
        "    print(locks.take('a'), flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with Locks(tmp_path) as locks:
        assert not locks.take("a")
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
        assert locks.take("a")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_does_not_go_on_holding_through_its_children(tmp_path: Path) -> None:
    """Workers of a pool that was forked outlive their parent."""
    script = (
        "import os, pathlib, sys, time; from bids_deepmrseg.locks import Locks\n"
        "with Locks(pathlib.Path(sys.argv[1])) as locks:\n"
        "    locks.take('a'); child = os.fork()\n"
        "    if not child: print(os.getpid(), flush=True)\n"
        "    time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    orphan = int(holder.stdout.readline())
    try:
        with Locks(tmp_path) as locks:
            assert not locks.take("a")
            holder.kill()
            holder.wait()
            assert locks.take("a")
    finally:
        os.kill(orphan, signal.SIGKILL)
        holder.stdout.close()


def test_many_who_come_and_go_never_hold_the_same_name(tmp_path: Path) -> None:
    """Each adds one to a number, while the file for locks is made and taken away all the time."""
    script = (
        "import pathlib, sys; from bids_deepmrseg.locks import Locks\n"
        "folder = pathlib.Path(sys.argv[1]); number = folder / 'number'\n"
        "for _ in range(250):\n"
        "    with Locks(folder) as locks, locks.held('number'):\n"
        "        number.write_text(str(int(number.read_text()) + 1))\n"
    )
    (tmp_path / "number").write_text("0", encoding="utf-8")
    adders = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [adder.communicate()[1] for adder in adders] == [b""] * 4
    assert (tmp_path / "number").read_text(encoding="utf-8") == "1000"
    assert [one.name for one in tmp_path.iterdir()] == ["number"]


def test_who_opens_what_is_just_taken_away_opens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two would hold the same name, each in a file of its own."""
    opened: list[int] = []
    really_open = os.open

    def open_too_early(path: Path, flags: int, mode: int) -> int:
        opened.append(really_open(path, flags, mode))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(os, "open", open_too_early)
    with Locks(tmp_path) as one, Locks(tmp_path) as other:
        assert len(opened) == 3
        assert one.take("a")
        assert not other.take("a")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EINVAL])
def test_where_nothing_can_be_locked_everything_is_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(descriptor: int, command: int, request: bytes) -> bytes:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with Locks(tmp_path) as one, Locks(tmp_path) as other:
        assert not one.works
        assert one.take("a")
        assert other.take("a")
        with one.held("b"), other.held("b"):
            pass
    if code != errno.ENOLCK:  # which may pass: others may hold locks in the file
        assert list(tmp_path.iterdir()) == []


def test_who_waits_for_too_long_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bids_deepmrseg.locks.PATIENCE_S", 0.1)
    with Locks(tmp_path) as one, Locks(tmp_path) as other, one.held("a"):
        with other.held("a"):
            assert "goes on without waiting" in caplog.text
        assert not other.take("a")
