"""Laws of the training loop."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

from bids_deepmrseg.errors import TrainingError
from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.build import build_network
from bids_deepmrseg.network.weights import VIEWS, View, save_network
from bids_deepmrseg.training.loop import EpochLog, TrainJob, learning_rate, make_batch, train
from bids_deepmrseg.training.recipe import Recipe, read_recipe
from bids_deepmrseg.training.sampling import Sampler, gather_volumes
from tests.makers import make_task
from tests.training.corpora import make_examples

TASK = make_task()
RECIPE = Recipe(
    name="tiny",
    features=4,
    depth=2,
    kernel_up=2,
    patch=(16, 16, 16),
    batch_size=4,
    steps_per_epoch=6,
    n_epochs=4,
    optimiser="adamw",
    peak_learning_rate=5e-3,
    schedule="one-cycle",
    augmentation="any-head",
)


class StopAfter:
    """A listener that dies after some epochs, as a killed process does."""

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs
        self.rows: list[EpochLog] = []

    def __call__(self, log: EpochLog) -> None:
        self.rows.append(log)
        if len(self.rows) == self.n_epochs:
            raise KeyboardInterrupt


def _job(folder: Path, *, seed: int = 1, recipe: Recipe = RECIPE) -> TrainJob:
    volumes = gather_volumes(make_examples(TASK), n_classes=TASK.n_classes, device="cpu")
    sampler = Sampler(volumes, "axial", recipe.neighbours, 0.2, recipe.centred_on)
    return TrainJob(
        recipe=recipe,
        architecture=Architecture(
            n_channels=1 + 2 * recipe.neighbours, n_classes=4, features=4, depth=2, kernel_up=2
        ),
        sampler=sampler,
        mirror_classes=TASK.mirror_classes,
        seed=seed,
        device="cpu",
        precision="fp32",
        compiled=False,
        folder=folder,
    )


def _train(job: TrainJob, n_epochs: int = 99) -> dict[str, torch.Tensor]:
    """Weights after training, or after being stopped."""
    try:
        return train(job, on_step=lambda _: None, on_epoch=StopAfter(n_epochs)).state_dict()
    except KeyboardInterrupt:
        return {}


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = _train(_job(tmp_path / "whole"))
    assert _train(_job(tmp_path / "killed"), n_epochs=2) == {}
    resumed = _train(_job(tmp_path / "killed"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    logs = [(tmp_path / run / "log.tsv").read_text().splitlines() for run in ("whole", "killed")]
    without_time = [[row.split("\t")[:-1] for row in log] for log in logs]
    assert without_time[0] == without_time[1]
    assert len(logs[0]) == 1 + RECIPE.n_epochs


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = _train(_job(tmp_path))
    steps: list[int] = []
    again = train(_job(tmp_path), on_step=steps.append, on_epoch=StopAfter(99)).state_dict()
    assert steps == []
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_another_seed_gives_other_weights_and_is_refused_the_checkpoint(tmp_path: Path) -> None:
    one, other = _train(_job(tmp_path / "a")), _train(_job(tmp_path / "b", seed=2))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(TrainingError, match="another recipe or seed"):
        _train(_job(tmp_path / "a", seed=2))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, n_epochs=12)
    _train(_job(tmp_path, recipe=recipe))
    with (tmp_path / "log.tsv").open(encoding="utf-8") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream, delimiter="\t")]
    assert losses[-1] < 0.8 * losses[0]


def test_a_batch_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    job = _job(tmp_path)
    make_batch(job, 3)
    one, other = make_batch(job, 7), make_batch(_job(tmp_path), 7)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], make_batch(job, 8)[0])


@pytest.mark.parametrize("view", VIEWS)
def test_a_batch_has_the_patch_of_its_view_and_the_neighbours_as_channels(
    tmp_path: Path, view: View
) -> None:
    recipe = dataclasses.replace(RECIPE, neighbours=1, patch=(16, 32, 64), centred_on="volume")
    job = _job(tmp_path, recipe=recipe)
    job = dataclasses.replace(job, sampler=dataclasses.replace(job.sampler, view=view))
    images, classes = make_batch(job, 0)
    sides = {"axial": (16, 32), "coronal": (16, 64), "sagittal": (32, 64)}[view]
    assert images.shape == (4, 3, *sides)
    assert classes.shape == (4, *sides)


def test_patches_may_be_larger_than_every_volume(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, patch=(64, 64, 64), n_epochs=1, steps_per_epoch=2)
    images, classes = make_batch(_job(tmp_path, recipe=recipe), 0)
    assert images.shape[-2:] == (64, 64)
    assert classes.any()
    assert all(t.isfinite().all() for t in _train(_job(tmp_path, recipe=recipe)).values())


def test_a_recipe_without_flips_never_exchanges_left_and_right(tmp_path: Path) -> None:
    """Class 1 lies on lower rows than class 2 in every volume."""
    gentle = dataclasses.replace(RECIPE, patch=(32, 32, 32), augmentation="place")
    gentle = dataclasses.replace(gentle, batch_size=16, centred_on="volume")
    orders: dict[bool, set[bool]] = {}
    for flipped in (True, False):
        job = _job(tmp_path, recipe=dataclasses.replace(gentle, flipped=flipped))
        # without exchanged names a flip shows as the order of the classes
        job = dataclasses.replace(job, mirror_classes=(0, 1, 2, 3))
        batches = [make_batch(job, step)[1] for step in range(4)]
        orders[flipped] = {
            bool(rows(one, 1) < rows(one, 2))
            for batch in batches
            for one in batch
            if (one == 1).any() and (one == 2).any()
        }
    assert orders == {True: {True, False}, False: {True}}


def rows(classes: torch.Tensor, number: int) -> float:
    """Mean row of a class."""
    return float(torch.nonzero(classes == number)[:, 0].float().mean())


def test_the_paper_s_schedule_decays_by_two_percent_each_epoch() -> None:
    recipe = read_recipe("paper")
    assert learning_rate(recipe, 0) == 0.05
    assert learning_rate(recipe, recipe.steps_per_epoch - 1) == 0.05
    assert learning_rate(recipe, 2 * recipe.steps_per_epoch) == pytest.approx(0.05 * 0.98**2)


def test_one_cycle_rises_for_a_tenth_and_ends_near_zero() -> None:
    rates = [learning_rate(RECIPE, step) for step in range(RECIPE.n_steps)]
    assert max(rates) == pytest.approx(RECIPE.peak_learning_rate, rel=0.05)
    assert rates.index(max(rates)) <= 0.2 * len(rates)
    assert rates[-1] < 0.05 * RECIPE.peak_learning_rate


def test_training_can_start_from_a_trained_network(tmp_path: Path) -> None:
    first = _job(tmp_path / "first")
    trained = build_network(first.architecture)
    trained.load_state_dict(_train(first))
    member = save_network(tmp_path / "model", trained, "axial", first.architecture)
    further = dataclasses.replace(
        _job(tmp_path / "further"), start=tmp_path / "model" / member.file
    )
    _train(further, n_epochs=1)
    logs = [
        (tmp_path / run / "log.tsv").read_text().splitlines()[1] for run in ("first", "further")
    ]
    at_first, then = (float(row.split("\t")[3]) for row in logs)
    assert then < at_first, "the first epoch of further training starts where training ended"
    with pytest.raises(TrainingError, match="another recipe or seed"):
        _train(_job(tmp_path / "further"))


def test_weights_of_another_architecture_are_no_start(tmp_path: Path) -> None:
    other = Architecture(n_channels=1, n_classes=4, features=8, depth=2)
    member = save_network(tmp_path / "model", build_network(other), "axial", other)
    job = dataclasses.replace(_job(tmp_path / "run"), start=tmp_path / "model" / member.file)
    with pytest.raises(TrainingError, match="do not fit"):
        _train(job)
