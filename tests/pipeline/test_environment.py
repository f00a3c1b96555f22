"""The work folder takes what libraries write; only what is ours is ever deleted."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.pipeline.environment import (
    LIBRARY_FOLDERS,
    NO_HOME,
    RUNS_FOLDER,
    USERS_FOLDERS,
    WORKFLOW_NAME,
    clean_work_dir,
    name_home,
    passing_folder,
    run_folder,
)
from tests.commands import closed


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give back what the app sets, and what Python remembers of it."""
    for variable in (*LIBRARY_FOLDERS, *USERS_FOLDERS, "NO_ET", "NIPYPE_NO_ET", "LOGNAME"):
        monkeypatch.setenv(variable, "before")
    yield
    tempfile.tempdir = None


def test_nipype_neither_calls_home_nor_writes_there(tmp_path: Path) -> None:
    with run_folder(tmp_path, "run") as folder:
        config = Path(os.environ["NIPYPE_CONFIG_DIR"])
        assert config.is_relative_to(folder)
        assert "check_version = false" in (config / "nipype.cfg").read_text(encoding="utf-8")
        assert (os.environ["NO_ET"], os.environ["NIPYPE_NO_ET"]) == ("1", "1")


@pytest.mark.parametrize("variable", LIBRARY_FOLDERS)
def test_caches_of_libraries_are_the_runs_whatever_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    with run_folder(tmp_path, "run") as folder:
        assert Path(os.environ[variable]).is_relative_to(folder)
    assert os.environ[variable] == str(tmp_path)


@pytest.mark.parametrize("variable", USERS_FOLDERS)
@pytest.mark.parametrize("value", [None, "", "/no/such/folder", "/dev/null", "relative"])
def test_a_home_or_scratch_that_cannot_be_written_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with run_folder(tmp_path, "run") as folder:
        assert Path(os.environ[variable]).is_relative_to(folder)
        assert Path(os.environ[variable]).is_dir()
    assert os.environ.get(variable) == value


def test_a_home_that_may_not_be_entered_is_left_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "of-another-user"))
    name_home()
    assert os.environ["HOME"] == str(tmp_path / "of-another-user")
    with closed(tmp_path):
        name_home()
    assert os.environ["HOME"] == NO_HOME


@pytest.mark.parametrize("variable", USERS_FOLDERS)
def test_a_home_or_scratch_that_can_be_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv(variable, str(tmp_path / "mine"))
    with run_folder(tmp_path, "run"):
        assert os.environ[variable] == str(tmp_path / "mine")


def test_temporary_files_go_to_the_run_and_then_where_they_went_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR")
    tempfile.tempdir = None
    before = tempfile.gettempdir()
    with run_folder(tmp_path, "run") as folder:
        assert Path(tempfile.gettempdir()).is_relative_to(folder)
    assert tempfile.gettempdir() == before


def test_a_login_name_is_there_even_in_a_bare_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOGNAME")
    with run_folder(tmp_path, "run"):
        assert os.environ["LOGNAME"]


def test_who_enters_a_second_time_changes_nothing(tmp_path: Path) -> None:
    with run_folder(tmp_path, "run") as outer:
        with run_folder(tmp_path, "run") as inner:
            assert inner == outer
        assert (outer / "notes").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_work_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"), run_folder(tmp_path / "file", "r"):
        pass


def fill(work: Path, *nodes: str) -> None:
    for node in nodes:
        (work / WORKFLOW_NAME / node).mkdir(parents=True)
        (work / WORKFLOW_NAME / node / "result").write_text("", encoding="utf-8")


def test_all_that_a_lone_run_made_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with run_folder(tmp_path, "run") as folder:
        (folder / "notes" / "note.json").write_text("{}", encoding="utf-8")
        fill(tmp_path, "a_segment", "a_write")
        clean_work_dir(tmp_path, ("a_segment", "a_write", "never_made"))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_what_a_cluster_plugin_left_of_our_nodes_is_deleted_too(tmp_path: Path) -> None:
    fill(tmp_path, "a_segment", "batch")
    batch = tmp_path / WORKFLOW_NAME / "batch"
    ours = batch / f"node_20260101_000000_{WORKFLOW_NAME}_a_segment.pklz"
    others = batch / f"node_20260101_000000_{WORKFLOW_NAME}_b_segment.pklz"
    for file in (ours, others):
        file.write_text("", encoding="utf-8")
    clean_work_dir(tmp_path, ("a_segment",))
    assert {file.name for file in batch.iterdir()} == {others.name, "result"}


def test_nodes_and_notes_of_other_runs_are_spared(tmp_path: Path) -> None:
    with run_folder(tmp_path, "other") as other:
        with run_folder(tmp_path, "run"):
            fill(tmp_path, "a_segment", "b_segment")
            clean_work_dir(tmp_path, ("a_segment",))
        root = tmp_path / WORKFLOW_NAME
        assert (root / "b_segment" / "result").is_file()
        assert not (root / "a_segment").exists()
        assert [child.name for child in (root / RUNS_FOLDER).iterdir()] == ["other"]
        assert (other / "notes").is_dir()


def test_what_was_put_among_our_folders_is_spared(tmp_path: Path) -> None:
    with run_folder(tmp_path, "run"):
        (tmp_path / WORKFLOW_NAME / "thesis.txt").write_text("keep", encoding="utf-8")
    assert (tmp_path / WORKFLOW_NAME / "thesis.txt").is_file()


def test_the_folder_of_a_killed_run_is_deleted_by_the_next(tmp_path: Path) -> None:
    killed = (
        "import os, pathlib, sys; from bids_deepmrseg.pipeline.environment import run_folder\n"
        "with run_folder(pathlib.Path(sys.argv[1]), 'killed'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False)
    assert (tmp_path / WORKFLOW_NAME / RUNS_FOLDER / "killed").is_dir()
    old = tmp_path / WORKFLOW_NAME / RUNS_FOLDER / "of-an-earlier-version" / "notes"
    old.mkdir(parents=True)
    with run_folder(tmp_path, "run"):
        pass
    assert [one.name for one in old.parents[1].iterdir()] == ["of-an-earlier-version"]


def test_runs_that_come_and_go_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Empty folders are taken away by some while others make theirs in them."""
    script = (
        "import pathlib, sys; from bids_deepmrseg.pipeline.environment import run_folder\n"
        "for n in range(150):\n"
        "    with run_folder(pathlib.Path(sys.argv[1]), sys.argv[2] + str(n)): pass\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "work")]
    runs = [
        subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in "abcd"
    ]
    assert [run.communicate()[1] for run in runs] == [""] * 4
    assert not any((tmp_path / "work").iterdir())


def test_programs_without_a_work_folder_leave_nothing_beside_their_results(tmp_path: Path) -> None:
    with passing_folder(tmp_path / "not" / "there" / "yet"):
        assert Path(os.environ["XDG_CACHE_HOME"]).is_relative_to(tmp_path)
        assert Path(tempfile.gettempdir()).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert os.environ["XDG_CACHE_HOME"] == "before"


def test_what_only_prints_goes_on_where_nothing_can_be_written() -> None:
    with passing_folder(Path("/proc/self")):
        assert os.environ["XDG_CACHE_HOME"] == "before"
