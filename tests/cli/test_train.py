"""From labelled scans to a model folder that the app's stages run."""

import re
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.cli.train import main, parser, settings_from
from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.network.weights import read_record
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.taskfiles import TASK_FILE, find_tasks, read_task
from tests.makers import bids_path, make_case, make_task, task_toml
from tests.training.corpora import make_labelled

RECIPE = """
features = 8
depth = 2
kernel_up = 2
views = ["axial", "coronal"]
patch = [32, 32, 32]
batch_size = 4
steps_per_epoch = 25
n_epochs = 2
optimiser = "adamw"
peak_learning_rate = 1e-2
schedule = "one-cycle"
augmentation = "paper"
"""


def _command(folder: Path) -> list[str]:
    """Arguments of a small training, whose files are made in ``folder``."""
    make_labelled(folder / "labelled", ("sub-1", "sub-2", "sub-3"))
    (folder / "tiny.toml").write_text(task_toml(make_task()), encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    card = 'training_data = "made up"\nlicense = "CC0-1.0"\nattribution = "nobody"\n'
    (folder / "card.toml").write_text(card, encoding="utf-8")
    return [
        *(str(folder / name) for name in ("tiny.toml", "labelled", "run")),
        *("--recipe", str(folder / "recipe.toml"), "--data-card", str(folder / "card.toml")),
        *("--exclude", "3", "--precision", "fp32", "--device", "cpu", "--n-procs", "1"),
    ]


def test_labelled_scans_become_a_model_that_the_app_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = _command(tmp_path)
    assert main([*command, "--view", "axial"]) == 0
    assert not (tmp_path / "run" / "tiny" / "model.json").exists(), "one view is not the model yet"
    assert main(command) == 0
    assert "model folder" in capsys.readouterr().out
    folder = tmp_path / "run" / "tiny"
    record = read_record(folder)
    assert [member.view for member in record.members] == ["axial", "coronal"]
    assert record.license == "CC0-1.0"
    assert "tiny" in {task.name for task in find_tasks(tmp_path / "run")}
    case = make_case(tmp_path / "labelled", "sub-3_T1w.nii.gz")
    task = read_task(folder / TASK_FILE)
    predicted = segment(prepare(case), folder, task, device="cpu")
    np.testing.assert_allclose(predicted.probabilities.sum(axis=0), 1, atol=1e-4)
    assert set(np.unique(predicted.probabilities.argmax(axis=0))) == {0, 1, 2, 3}


def test_excluded_subjects_may_even_be_damaged(tmp_path: Path) -> None:
    command = _command(tmp_path)
    damaged = tmp_path / "labelled" / bids_path("sub-3_T1w.nii.gz")
    damaged.write_bytes(b"nothing")
    assert main([*command, "--view", "axial"]) == 0


def test_an_own_task_needs_no_head_maps_and_no_card() -> None:
    """The task file of the tests, whose sides are named, with all defaults."""
    settings = settings_from(parser().parse_args(["deepbrain", "labelled", "run"]))
    assert settings.recipe.name == "own-task"
    assert settings.recipe.n_synthetic == settings.recipe.n_surrounded == 0
    assert {settings.card.training_data, settings.card.license} == {"not stated"}
    assert settings.reference == "dseg"
    assert settings.precision in ("bf16", "fp32")


def test_the_task_file_may_choose_the_views(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text('views = ["sagittal"]\n' + task_toml(make_task()), encoding="utf-8")
    settings = settings_from(parser().parse_args([str(file), "labelled", "run"]))
    assert settings.views == settings.recipe.views == ("sagittal",)
    file.write_text('views = ["oblique"]\n' + task_toml(make_task()), encoding="utf-8")
    with pytest.raises(UsageError, match="views must be some of"):
        settings_from(parser().parse_args([str(file), "labelled", "run"]))


def test_a_label_of_one_side_is_not_learned_from_flipped_patches(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    text = re.sub(r"mirror = \d+", "", task_toml(make_task())).replace("Right", "Odd")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="has no mirror, but recipe own-task"):
        settings_from(parser().parse_args([str(file), "labelled", "run"]))
    recipe = tmp_path / "mine.toml"
    recipe.write_text("flipped = false\n", encoding="utf-8")
    arguments = [str(file), "labelled", "run", "--recipe", str(recipe)]
    assert not settings_from(parser().parse_args(arguments)).recipe.flipped


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--view", "sagittal"], "has no view sagittal"),
        (["--recipe", "soup"], "built in: any-head, any-place, brainmask, brainmask-again,"),
        (["--exclude", "1", "2", "3"], "no labelled scan of anyone"),
        (["--reference", "mask"], "a label map *_mask.nii.gz for each"),
        (["--device", "cuda:77"], "cuda:77 is not there"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], sentence: str
) -> None:
    assert main([*_command(tmp_path), *change]) != 0
    assert sentence in capsys.readouterr().err
