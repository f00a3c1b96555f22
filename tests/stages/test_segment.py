"""Laws of segmenting: which networks run over which slices, and what is never taken on trust."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bids_deepmrseg.errors import ResourceError, SegmentationError, WeightsError
from bids_deepmrseg.network import loaded as loaded_module
from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.loaded import LoadedNetworks
from bids_deepmrseg.network.weights import (
    SLICE_AXIS,
    VIEWS,
    ModelMember,
    View,
    load_network,
    read_record,
    sha256_of,
)
from bids_deepmrseg.records import Predicted, Prepared
from bids_deepmrseg.stages import segment as segment_module
from bids_deepmrseg.stages.prepare import prepare_volumes
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.stages.segment import (
    describe_device,
    predict_view,
    segment,
)
from bids_deepmrseg.tasks import Label, Task
from tests.imaging.test_grid import SIGNED_PERMUTATIONS, place
from tests.makers import make_grid, make_head, make_model_folder, make_task
from tests.stages.test_prepare import stored_as

TASK = make_task()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("models"), views=("axial", "sagittal"))


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    grid = make_grid()
    return prepare_volumes((make_head(grid),), grid, TASK)


@pytest.fixture(scope="module")
def predicted(prepared: Prepared, folder: Path) -> Predicted:
    return segment(prepared, folder, TASK, device="cpu")


def edit_record(folder: Path, **fields: object) -> None:
    file = folder / "model.json"
    table = json.loads(file.read_text(encoding="utf-8")) | fields
    file.write_text(json.dumps(table), encoding="utf-8")


class _SaysPlace(nn.Module):
    """A network that answers with the place in its slice: logits follow height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, 2, H, W)``: the class of one voxel says how the slice lies."""
        n, _, height, width = x.shape
        rows = torch.arange(height).reshape(1, 1, -1, 1).expand(n, 1, height, width)
        columns = torch.arange(width).reshape(1, 1, 1, -1).expand(n, 1, height, width)
        return torch.cat([rows, columns, x[:, :1]], dim=1).float().log()


def member(view: View, *, depth: int = 2) -> ModelMember:
    architecture = Architecture(n_channels=1, n_classes=3, features=4, depth=depth)
    return ModelMember(file="none", sha256="", view=view, architecture=architecture)


@pytest.mark.parametrize("view", VIEWS)
def test_slices_are_cut_across_the_axis_of_their_view(view: View) -> None:
    """The numbers of row, column and voxel come back at the voxel that they were read from."""
    channels = np.random.default_rng(0).uniform(1, 2, (1, 6, 7, 9)).astype(np.float32)
    answer = predict_view(_SaysPlace(), channels, member(view))
    assert answer.shape == (3, 6, 7, 9)
    rows, columns = (axis for axis in range(3) if axis != SLICE_AXIS[view])
    ijk = np.indices((6, 7, 9))
    truth = np.stack([ijk[rows], ijk[columns], channels[0]]).astype(float)
    np.testing.assert_allclose(answer, truth / truth.sum(axis=0), atol=1e-5)


def test_views_are_named_as_in_anatomy() -> None:
    """On a grid that runs right, anterior, superior, slices stack along these axes."""
    assert SLICE_AXIS == {"sagittal": 0, "coronal": 1, "axial": 2}


@pytest.mark.parametrize("shape", [(5, 6, 7), (8, 8, 8), (3, 13, 1)])
def test_padding_to_the_stride_is_cut_off_again(shape: tuple[int, int, int]) -> None:
    answer = predict_view(_SaysPlace(), np.ones((1, *shape), np.float32), member("axial", depth=3))
    assert answer.shape == (3, *shape)


def test_probabilities_are_a_distribution_on_the_model_grid(
    prepared: Prepared, predicted: Predicted
) -> None:
    assert predicted.probabilities.shape == (TASK.n_classes, *prepared.placement.model.shape)
    assert predicted.probabilities.dtype == np.float32
    assert predicted.probabilities.min() >= 0
    np.testing.assert_allclose(predicted.probabilities.sum(axis=0), 1, atol=1e-5)
    assert predicted.placement is prepared.placement


def test_the_ensemble_is_the_mean_of_its_networks(
    prepared: Prepared, predicted: Predicted, folder: Path
) -> None:
    members = read_record(folder).members
    assert len(members) == 2
    alone = [predict_view(load_network(folder, m), prepared.channels, m) for m in members]
    np.testing.assert_allclose(predicted.probabilities, (alone[0] + alone[1]) / 2, atol=1e-4)


def test_fast_runs_the_first_network_alone(prepared: Prepared, folder: Path) -> None:
    first = read_record(folder).members[0]
    fast = segment(prepared, folder, TASK, device="cpu", fast=True)
    alone = predict_view(load_network(folder, first), prepared.channels, first)
    np.testing.assert_allclose(fast.probabilities, alone, atol=1e-4)


def test_the_same_scan_gets_the_same_answer(
    prepared: Prepared, predicted: Predicted, folder: Path
) -> None:
    again = segment(prepared, folder, TASK, device="cpu")
    np.testing.assert_array_equal(again.probabilities, predicted.probabilities)


@pytest.mark.parametrize("rotation", SIGNED_PERMUTATIONS)
def test_all_48_storage_orders_get_the_same_labels_in_space(
    rotation: npt.NDArray[np.float64], predicted: Predicted, folder: Path
) -> None:
    ras = make_grid()
    expected = restore(predicted, TASK).dseg
    stored, grid = stored_as(make_head(ras), ras, rotation)
    made = prepare_volumes((stored,), grid, TASK)
    dseg = restore(segment(made, folder, TASK, device="cpu"), TASK).dseg
    assert dseg.shape == stored.shape
    expected_stored = place(grid, 4.0).turn.undo(expected)
    assert np.mean(dseg != expected_stored) < 1e-4


# mirror images


def mirrored(probabilities: npt.NDArray[np.float32], task: Task) -> npt.NDArray[np.float32]:
    """The same answer for a head whose right and left are exchanged."""
    return probabilities[list(task.mirror_classes), ::-1]


@pytest.mark.parametrize("views", [("axial",), ("axial", "coronal")])
def test_with_flips_the_mirror_image_gets_the_mirrored_answer(
    prepared: Prepared, tmp_path: Path, views: tuple[str, ...]
) -> None:
    folder = make_model_folder(tmp_path, views=views)
    flipped = replace(prepared, channels=np.ascontiguousarray(prepared.channels[:, ::-1]))
    answers = [segment(one, folder, TASK, device="cpu") for one in (prepared, flipped)]
    plain, plain_of_flipped = (answer.probabilities for answer in answers)
    assert np.abs(plain_of_flipped - mirrored(plain, TASK)).max() > 0.1
    edit_record(folder, flips=True)
    answers = [segment(one, folder, TASK, device="cpu") for one in (prepared, flipped)]
    both, both_of_flipped = (answer.probabilities for answer in answers)
    np.testing.assert_allclose(both_of_flipped, mirrored(both, TASK), atol=1e-5)
    average = (plain + mirrored(plain_of_flipped, TASK)) / 2
    np.testing.assert_allclose(both, average, atol=1e-5)
    fast = segment(prepared, folder, TASK, device="cpu", fast=True)
    edit_record(folder, flips=False)
    first = segment(prepared, folder, TASK, device="cpu", fast=True)
    np.testing.assert_array_equal(fast.probabilities, first.probabilities)


def test_sagittal_networks_see_no_mirror_image(prepared: Prepared, tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path, views=("sagittal",))
    without = segment(prepared, folder, TASK, device="cpu")
    edit_record(folder, flips=True)
    assert read_record(folder).flips
    answer = segment(prepared, folder, TASK, device="cpu")
    np.testing.assert_array_equal(answer.probabilities, without.probabilities)


# what is not taken on trust


def test_damaged_weights_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    with (folder / "axial.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    with pytest.raises(WeightsError, match="damaged"):
        segment(prepared, folder, TASK, device="cpu")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"task": "hippocampus"}, "trained for task hippocampus"),
        ({"labels": ["2 Right Blob", "1 Left Blob", "7 Middle Blob"]}, "with other labels"),
        ({"preprocessing": "by hand"}, "prepared by by hand"),
    ],
)
def test_weights_for_something_else_are_refused(
    prepared: Prepared, tmp_path: Path, fields: dict[str, object], sentence: str
) -> None:
    folder = make_model_folder(tmp_path)
    edit_record(folder, **fields)
    with pytest.raises(WeightsError, match=sentence):
        segment(prepared, folder, TASK, device="cpu")


def test_weights_with_another_number_of_classes_are_refused(
    prepared: Prepared, tmp_path: Path
) -> None:
    folder = make_model_folder(tmp_path)
    (row,) = json.loads((folder / "model.json").read_text(encoding="utf-8"))["members"]
    row["architecture"]["n_classes"] = 9
    edit_record(folder, members=[row])
    with pytest.raises(WeightsError, match="has 9 classes"):
        segment(prepared, folder, TASK, device="cpu")


def test_a_scan_in_which_nothing_is_found_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    shy = Prepared(np.zeros_like(prepared.channels), prepared.placement)
    answer = segment(prepared, folder, TASK, device="cpu")
    assert (answer.probabilities[1:] > 0.5).any()
    with pytest.raises(SegmentationError, match="none of the 3 structures of tiny"):
        segment(shy, only_background(folder), TASK, device="cpu")


def only_background(folder: Path) -> Path:
    """The same model folder, with a network that is sure of the background everywhere."""

    file = folder / "axial.safetensors"
    state = load_file(file)
    state["head.bias"] = torch.tensor([100.0, 0, 0, 0])
    save_file(state, file)
    (row,) = json.loads((folder / "model.json").read_text(encoding="utf-8"))["members"]
    edit_record(folder, members=[row | {"sha256": sha256_of(file)}])
    return folder


# memory


class _TooSmall(nn.Module):
    """A network on a device whose memory takes batches of a few slices only."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.network = _SaysPlace()
        self.largest = largest
        self.tried: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As its network, or a lack of memory."""
        self.tried.append(x.shape[0])
        if x.shape[0] > self.largest:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        logits: torch.Tensor = self.network(x)
        return logits


def test_batches_are_halved_until_memory_suffices() -> None:
    channels = np.random.default_rng(0).uniform(1, 2, (1, 6, 7, 9)).astype(np.float32)
    small = _TooSmall(1)
    answer = predict_view(small, channels, member("axial"))
    assert small.tried == [4, 2] + [1] * 9
    np.testing.assert_array_equal(answer, predict_view(_SaysPlace(), channels, member("axial")))


def test_memory_that_is_too_small_for_a_slice_is_told(
    prepared: Prepared, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedNetworks, "get", lambda *_: _TooSmall(0))
    with pytest.raises(ResourceError, match="memory of cpu did not suffice for tiny") as caught:
        segment(prepared, folder, TASK, device="cpu")
    assert "name another --device" in str(caught.value)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_the_size_of_batches_changes_nothing_but_rounding(
    prepared: Prepared,
    predicted: Predicted,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    monkeypatch.setattr(segment_module, "BATCH_SLICES", size)
    other = segment(prepared, folder, TASK, device="cpu")
    np.testing.assert_allclose(other.probabilities, predicted.probabilities, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives_and_the_same_each_time(
    prepared: Prepared, predicted: Predicted, folder: Path
) -> None:
    networks = LoadedNetworks("cuda:0", kept_bytes=10**9)
    first, again = (
        segment(prepared, folder, TASK, device="cuda:0", networks=networks) for _ in range(2)
    )
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    np.testing.assert_allclose(first.probabilities, predicted.probabilities, atol=1e-3)
    assert np.mean(restore(first, TASK).dseg != restore(predicted, TASK).dseg) < 1e-4
    assert describe_device("cuda:0") == f"cuda:0 ({torch.cuda.get_device_name(0)})"


# networks that stay loaded


def test_networks_that_stay_loaded_give_the_same_answer_and_are_read_once(
    prepared: Prepared, predicted: Predicted, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def load(folder: Path, member: ModelMember) -> nn.Module:
        read.append(member.file)
        return load_network(folder, member)

    monkeypatch.setattr(loaded_module, "load_network", load)
    networks = LoadedNetworks("cpu", kept_bytes=10**8)
    for _ in range(2):
        answer = segment(prepared, folder, TASK, device="cpu", networks=networks)
        np.testing.assert_array_equal(answer.probabilities, predicted.probabilities)
    assert read == ["axial.safetensors", "sagittal.safetensors"]


def test_certainty_is_told_of_single_answers_and_of_their_mean(
    prepared: Prepared, predicted: Predicted, folder: Path
) -> None:
    members = read_record(folder).members
    alone = [predict_view(load_network(folder, m), prepared.channels, m) for m in members]
    masks = [one.argmax(axis=0) for one in alone]
    fused = np.mean(alone, axis=0)
    for number, (label, found) in enumerate(zip(TASK.labels, predicted.certainties, strict=True)):
        one, other = (mask == number + 1 for mask in masks)
        p, m = fused[number + 1], fused.argmax(axis=0) == number + 1
        assert found.index == label.index
        assert found.agreement == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()))
        assert found.soft_dice == pytest.approx(2 * p[m].sum() / (p.sum() + m.sum()), rel=1e-4)
        assert 0 < found.border_entropy_bits <= 1


def test_one_network_agrees_with_nobody_but_knows_how_sure_it_is(
    prepared: Prepared, folder: Path
) -> None:
    for found in segment(prepared, folder, TASK, device="cpu", fast=True).certainties:
        assert np.isnan(found.agreement)
        assert 0 < found.soft_dice <= 1


def test_landmarks_count_as_what_they_are_part_of(tmp_path: Path, prepared: Prepared) -> None:
    """The certainty of a label is that of a task without landmarks that knows their sum."""
    left, right, middle = TASK.labels
    task = replace(
        TASK, labels=(replace(middle, mirror=7),), landmarks=tuple(_parts((left, right), of=7))
    )
    folder = make_model_folder(tmp_path, task, views=("axial", "sagittal"))
    edit_record(folder, labels=[f"{label.index} {label.name}" for label in task.told_apart])
    (found,) = segment(prepared, folder, task, device="cpu").certainties
    members = read_record(folder).members
    alone = [predict_view(load_network(folder, m), prepared.channels, m) for m in members]
    one, other = (p[1:].sum(axis=0) > p[0] for p in alone)
    assert found.index == 7
    assert found.agreement == pytest.approx(
        2 * (one & other).sum() / (one.sum() + other.sum()), rel=1e-4
    )


def _parts(labels: tuple[Label, ...], *, of: int) -> list[Label]:
    return [replace(label, part_of=of) for label in labels]
