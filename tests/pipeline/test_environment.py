"""The work folder keeps libraries from the home folder; only what is ours is ever deleted."""

import os
from pathlib import Path

import pytest

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.pipeline.environment import (
    WORKFLOW_NAME,
    clean_work_dir,
    open_work_dir,
)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the variables back that the app sets."""
    for variable in ("NO_ET", "NIPYPE_NO_ET", "NIPYPE_CONFIG_DIR", "MPLCONFIGDIR", "LOGNAME"):
        monkeypatch.setenv(variable, "before")


def test_nipype_neither_calls_home_nor_writes_there(tmp_path: Path) -> None:
    open_work_dir(tmp_path, "run")
    config = Path(os.environ["NIPYPE_CONFIG_DIR"])
    assert config.is_relative_to(tmp_path / WORKFLOW_NAME)
    assert "check_version = false" in (config / "nipype.cfg").read_text(encoding="utf-8")
    assert (os.environ["NO_ET"], os.environ["NIPYPE_NO_ET"]) == ("1", "1")


def test_what_the_user_chose_for_matplotlib_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_work_dir(tmp_path, "run")
    assert os.environ["MPLCONFIGDIR"] == "before"
    monkeypatch.delenv("MPLCONFIGDIR")
    open_work_dir(tmp_path, "run")
    assert Path(os.environ["MPLCONFIGDIR"]).is_relative_to(tmp_path)


def test_a_login_name_is_there_even_in_a_bare_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOGNAME")
    open_work_dir(tmp_path, "run")
    assert os.environ["LOGNAME"]


def test_a_work_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        open_work_dir(tmp_path / "file", "run")


def fill(work: Path, run_id: str, *nodes: str) -> None:
    (open_work_dir(work, run_id) / "note.json").write_text("{}", encoding="utf-8")
    for node in nodes:
        (work / WORKFLOW_NAME / node).mkdir()
        (work / WORKFLOW_NAME / node / "result").write_text("", encoding="utf-8")


def test_cleaning_deletes_all_that_a_lone_run_made(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    fill(tmp_path, "run", "a_segment", "a_write")
    clean_work_dir(tmp_path, "run", ("a_segment", "a_write", "never_made"))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_cleaning_spares_nodes_and_notes_of_other_runs(tmp_path: Path) -> None:
    fill(tmp_path, "run", "a_segment")
    fill(tmp_path, "other", "b_segment")
    clean_work_dir(tmp_path, "run", ("a_segment",))
    root = tmp_path / WORKFLOW_NAME
    assert {child.name for child in root.iterdir()} == {"runs", "b_segment"}
    assert [child.name for child in (root / "runs").iterdir()] == ["other"]
    assert list((root / "runs" / "other").rglob("note.json"))


def test_cleaning_spares_what_was_put_among_our_folders(tmp_path: Path) -> None:
    fill(tmp_path, "run", "a_segment")
    (tmp_path / WORKFLOW_NAME / "thesis.txt").write_text("keep", encoding="utf-8")
    clean_work_dir(tmp_path, "run", ("a_segment",))
    assert (tmp_path / WORKFLOW_NAME / "thesis.txt").is_file()
