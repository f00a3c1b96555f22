"""Laws of what is kept of an answer: one cluster, both halves of a structure, no islands."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.build import build_network
from bids_deepmrseg.network.weights import read_record, save_network, write_record
from bids_deepmrseg.records import Predicted, Prepared
from bids_deepmrseg.stages.segment import segment, tidy
from bids_deepmrseg.tasks import Task
from tests.imaging.test_grid import place
from tests.makers import make_grid, make_model_folder, make_task
from tests.regions import make_region_task

TASK = make_task()


def one_cluster(folder: Path, *, island: bool) -> Predicted:
    """What becomes of a lump, with or without a small one far away, that a network reports."""
    task = replace(TASK, one_cluster=True)
    (folder / "task.toml").unlink()
    placement = place(make_grid(), 4.0)
    channels = np.zeros((1, *placement.model.shape), np.float32)
    channels[0, 18:24, 20:26, 18:23] = 1
    if island:
        channels[0, 2:4, 2:4, 2:4] = 1
    return segment(Prepared(channels, placement), says_brightness(folder, task), task, device="cpu")


def says_brightness(folder: Path, task: Task) -> Path:
    """The same model folder, with a network whose first label is what is bright."""

    record = read_record(folder)
    architecture = Architecture(
        family="unet", n_channels=1, n_classes=task.n_classes, features=4, depth=1
    )
    network = build_network(architecture).eval()
    for name, parameter in network.named_parameters():
        if not name.endswith("1.weight"):
            nn.init.zeros_(parameter)
    first, second = (network.get_submodule(f"decoders.0.{n}.0") for n in (0, 1))
    for layer in (network.get_submodule("encoders.0.0.0"), network.get_submodule("encoders.0.1.0")):
        layer.get_parameter("weight").data[0, 0, 1, 1] = 1
    first.get_parameter("weight").data[0, 4, 1, 1] = 1
    second.get_parameter("weight").data[0, 0, 1, 1] = 1
    head = network.get_submodule("head")
    head.get_parameter("weight").data[1, 0] = 40
    head.get_parameter("bias").data[:] = torch.tensor([20.0, 0, -50, -50])
    member = save_network(folder, network, "axial", architecture)
    write_record(folder, replace(record, members=(member,)))
    return folder


def test_an_island_far_from_the_cluster_goes_to_the_background(tmp_path: Path) -> None:
    alone = one_cluster(make_model_folder(tmp_path / "a"), island=False)
    both = one_cluster(make_model_folder(tmp_path / "b"), island=True)
    assert alone.n_islands_removed_voxels == 0
    assert both.n_islands_removed_voxels == 8
    np.testing.assert_array_equal(both.probabilities, alone.probabilities)
    found = alone.probabilities.argmax(axis=0) == 1
    assert found.sum() == 6 * 6 * 5
    np.testing.assert_allclose(both.probabilities.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(("one_cluster", "n_removed"), [(True, 8), (False, 35)])
def test_labels_of_a_place_that_do_not_touch_are_kept_where_the_task_says_so(
    *, one_cluster: bool, n_removed: int
) -> None:
    task = replace(make_region_task(), one_cluster=one_cluster, spacing_mm=1.0)
    labels = np.zeros((30, 20, 20), np.uint8)
    labels[4:8, 4:8, 4:8] = 1
    labels[10:13, 4:7, 4:7] = 2  # two voxels from the first label
    labels[27:29, 17:19, 17:19] = 2  # an island
    probabilities = np.eye(3, dtype=np.float32)[:, labels]
    assert tidy(probabilities, task) == n_removed
    assert (probabilities.argmax(axis=0) == 2).sum() == 35 - n_removed
    assert (probabilities.argmax(axis=0) == 1).sum() == 64


@pytest.mark.parametrize(("small", "n_kept"), [((4, 4, 2), 1), ((1, 2, 2), 0)])
def test_a_structure_in_two_halves_keeps_both_but_not_flecks(
    small: tuple[int, int, int], n_kept: int
) -> None:
    task = replace(make_region_task(), one_cluster=True, spacing_mm=1.0)
    labels = np.zeros((30, 20, 20), np.uint8)
    labels[4:8, 4:8, 4:8] = 1
    i, j, k = small
    labels[10 : 10 + i, 4 : 4 + j, 4 : 4 + k] = 1  # two voxels away
    probabilities = np.eye(2, dtype=np.float32)[:, labels]
    assert tidy(probabilities, task) == (1 - n_kept) * i * j * k
    assert (probabilities.argmax(axis=0) == 1).sum() == 64 + n_kept * i * j * k
