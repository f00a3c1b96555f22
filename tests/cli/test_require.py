"""Tasks that were required fail where their scans lack; the plan shows which scans go together."""

import os
import shutil
from pathlib import Path

import pytest

from bids_deepmrseg.cli.app import choose_tasks, main
from bids_deepmrseg.cli.parser import read_command
from bids_deepmrseg.errors import UsageError, WeightsError
from bids_deepmrseg.stages.status import read_status
from bids_deepmrseg.taskfiles import BUILTIN_MODELS, TASK_FILE, WEIGHTS_RECORD_FILE
from bids_deepmrseg.tasks import Task
from tests.makers import make_task, task_toml
from tests.trees import make_tree


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """The built-in task on lesions and one on T1w scans, said to have weights: enough to plan."""
    models = tmp_path / "models"
    shutil.copytree(BUILTIN_MODELS / "wml", models / "wml")
    (models / "tiny").mkdir()
    (models / "tiny" / TASK_FILE).write_text(task_toml(make_task("tiny")), encoding="utf-8")
    for name in ("wml", "tiny"):
        (models / name / WEIGHTS_RECORD_FILE).write_text("{}", encoding="utf-8")
    return models


def command(tmp_path: Path, models_dir: Path, *flags: str) -> list[str]:
    start = [str(tmp_path / "bids"), str(tmp_path / "out"), "participant"]
    return [*start, "--n-procs", "1", "--device", "cpu", "--models-dir", str(models_dir), *flags]


def chosen(tmp_path: Path, models_dir: Path, *flags: str) -> tuple[Task, ...]:
    return choose_tasks(read_command(command(tmp_path, models_dir, *flags))[0])


def test_a_dry_run_shows_which_scans_go_together_and_what_runs_first(
    tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["sub-1_ses-2_FLAIR.nii", "sub-1_ses-2_T1w.nii", "sub-2_FLAIR.nii", "sub-3_T1w.nii"]
    make_tree(tmp_path / "bids", names)
    assert main(command(tmp_path, models_dir, "--task", "wml", "--dry-run")) == os.EX_OK
    _, *rows, last = (" ".join(row.split()) for row in capsys.readouterr().out.splitlines())
    first = "flairbrain on the FLAIR runs first"
    assert rows == [
        f"sub-1 ses-2 n/a wml sub-1_ses-2_FLAIR.nii sub-1_ses-2_T1w.nii run {first}",
        f"sub-2 n/a n/a wml sub-2_FLAIR.nii run FLAIR alone: no T1w in the session; {first}",
        "sub-3 n/a n/a wml n/a skipped no FLAIR scan, only T1w",
    ]
    assert last == "2 to run, 1 left out"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--require", "wlm"), "there is no task 'wlm' that --require could name; known tasks: "),
        (("--task", "tiny", "--require", "wml"), "--task asks for tiny only"),
    ],
)
def test_a_name_that_cannot_be_required_is_refused(
    tmp_path: Path, models_dir: Path, flags: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UsageError, match="wml") as caught:
        chosen(tmp_path, models_dir, *flags)
    assert sentence in str(caught.value)


def test_requiring_a_task_leaves_no_other_out(tmp_path: Path, models_dir: Path) -> None:
    names = {task.name for task in chosen(tmp_path, models_dir, "--require", "wml")}
    assert names >= {"wml", "tiny", "deepbrain"}
    one = chosen(tmp_path, models_dir, "--task", "wml", "--require", "wml")
    assert [task.name for task in one] == ["wml"]


def test_a_required_task_needs_weights(tmp_path: Path, models_dir: Path) -> None:
    (models_dir / "tiny" / WEIGHTS_RECORD_FILE).unlink()
    assert "tiny" not in {task.name for task in chosen(tmp_path, models_dir)}
    with pytest.raises(WeightsError, match="task tiny cannot run"):
        chosen(tmp_path, models_dir, "--require", "tiny")


def test_a_session_without_the_required_scan_is_a_failure(
    tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree(tmp_path / "bids", ["sub-1_ses-a_T1w.nii"])
    asked = command(tmp_path, models_dir, "--task", "wml")
    assert main(asked) == os.EX_NOINPUT
    assert main([*asked, "--require", "wml"]) == 1
    said = capsys.readouterr().err
    assert "skipped: sub-1/ses-a wml: no FLAIR scan, only T1w" in said
    assert "failed: sub-1/ses-a wml: no FLAIR scan, only T1w" in said
    assert "0 done, 0 skipped, 1 failed" in said
    statuses = [
        [one.status for one in read_status(file)]
        for file in sorted((tmp_path / "out").glob("logs/*/status.tsv"))
    ]
    assert sorted(statuses) == [["failed"], ["skipped"]]
