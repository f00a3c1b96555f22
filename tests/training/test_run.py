"""Laws of a training run: what it reads, what it refuses, and what its record says."""

from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import TrainingError, UsageError
from bids_deepmrseg.network.weights import read_record
from bids_deepmrseg.taskfiles import TASK_FILE, read_task
from bids_deepmrseg.tasks import Task
from bids_deepmrseg.training.recipe import Recipe, fit_recipe
from bids_deepmrseg.training.run import DataCard, Listener, TrainSettings, run_training
from tests.makers import make_task, task_toml
from tests.training.corpora import make_head_map

QUIET = Listener(lambda *_: None, lambda *_: None, lambda _: None, lambda _: None)
PAINTED = Recipe(
    name="painted",
    features=4,
    depth=2,
    kernel_up=2,
    patch=(16, 16, 16),
    batch_size=2,
    steps_per_epoch=2,
    n_epochs=1,
    optimiser="adamw",
    peak_learning_rate=5e-3,
    schedule="one-cycle",
    n_stripped=0,
    n_synthetic=1,
)


def make_brain() -> Task:
    """One label of several FreeSurfer numbers, with a landmark in it."""
    task = make_task("whole")
    brain = replace(task.labels[2], index=1, mirror=1, name="Brain", freesurfer=(2, 3, 17))
    part = replace(brain, index=2, mirror=2, name="Part", freesurfer=(17,), part_of=1)
    return replace(task, labels=(brain,), landmarks=(part,), brain=1)


def settings(folder: Path, task: Task, *, excluded_maps: tuple[str, ...] = ()) -> TrainSettings:
    """A training on painted heads; the folder of labelled scans does not even exist."""
    (folder / TASK_FILE).write_text(task_toml(task), encoding="utf-8")
    return TrainSettings(
        task=task,
        task_file=folder / TASK_FILE,
        recipe=PAINTED,
        views=PAINTED.views,
        start_dir=None,
        labelled_dir=folder / "absent",
        reference="dseg",
        head_maps_dir=folder / "maps",
        excluded=(),
        excluded_maps=excluded_maps,
        locator=None,
        corpus_dir=folder / "corpus",
        output_dir=folder / "run",
        card=DataCard(),
        seed=1,
        device="cpu",
        precision="fp32",
        compiled=False,
        n_procs=1,
    )


def test_painted_heads_alone_are_enough_and_excluded_maps_are_never_read(tmp_path: Path) -> None:
    for name in ("head-1_dseg.nii.gz", "head-17_dseg.nii.gz"):
        make_head_map(tmp_path / "maps" / name)
    for name in ("head-2_dseg.nii.gz", "head-3.nii.gz"):
        (tmp_path / "maps" / name).write_bytes(b"nothing that could be read")
    task = make_brain()
    folder = run_training(settings(tmp_path, task, excluded_maps=("head-2", "head-3")), QUIET)
    made = sorted(file.name for file in (tmp_path / "corpus").iterdir())
    assert made == ["synthetic_head-17_dseg_0.npz", "synthetic_head-1_dseg_0.npz"]
    record = read_record(folder)
    assert record.labels == ("1 Brain", "2 Part")
    assert record.members[0].architecture.n_classes == 3, "background, label and landmark"
    assert read_task(folder / TASK_FILE).landmarks[0].part_of == 1


def test_leaving_out_head_1_keeps_head_17_and_an_unknown_name_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("head-1_dseg.nii.gz", "head-17_dseg.nii.gz"):
        make_head_map(tmp_path / "maps" / name)
    run_training(settings(tmp_path, make_brain(), excluded_maps=("head-1", "head-8")), QUIET)
    made = [file.name for file in (tmp_path / "corpus").iterdir()]
    assert made == ["synthetic_head-17_dseg_0.npz"]
    assert "head-8 is to be left out, but is not in" in caplog.text
    assert "head-1 is to be left out" not in caplog.text


def test_no_map_to_learn_from_is_refused(tmp_path: Path) -> None:
    make_head_map(tmp_path / "maps" / "head-1_dseg.nii.gz")
    task = make_brain()
    with pytest.raises(TrainingError, match="holds no NIfTI label map to learn from"):
        run_training(settings(tmp_path, task, excluded_maps=("head-1",)), QUIET)
    with pytest.raises(TrainingError, match="needs whole-head label maps"):
        run_training(replace(settings(tmp_path, task), head_maps_dir=None), QUIET)


def test_labels_and_landmarks_need_numbers_in_head_maps(tmp_path: Path) -> None:
    make_head_map(tmp_path / "maps" / "head-1_dseg.nii.gz")
    task = make_brain()
    unknown = replace(task, landmarks=(replace(task.landmarks[0], freesurfer=()),))
    with pytest.raises(TrainingError, match="some labels have no FreeSurfer number"):
        run_training(settings(tmp_path, unknown), QUIET)


def test_heads_of_one_channel_are_not_taken_for_two(tmp_path: Path) -> None:
    two = replace(make_brain(), channels=("T1w", "FLAIR"))
    with pytest.raises(TrainingError, match="task whole has 2 channels"):
        run_training(settings(tmp_path, two), QUIET)


def test_a_landmark_of_one_side_is_not_learned_from_flipped_patches() -> None:
    task = make_brain()
    (part,) = task.landmarks
    one_sided = replace(task, landmarks=(replace(part, name="Left Part"),))
    with pytest.raises(UsageError, match="Left Part has no mirror, but recipe painted"):
        fit_recipe(PAINTED, one_sided)
    assert not fit_recipe(replace(PAINTED, flipped=False), one_sided).flipped
    assert fit_recipe(PAINTED, task).flipped
