"""Weights are what their record says, bit for bit, or they are not used."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bids_deepmrseg.errors import WeightsError
from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.build import build_network
from bids_deepmrseg.network.weights import (
    RECORD_FILE,
    Metric,
    load_network,
    read_record,
    save_network,
    sha256_of,
    verify,
    write_record,
)
from bids_deepmrseg.taskfiles import BUILTIN_MODELS, find_model_folders, find_tasks
from tests.makers import make_model_folder

SHIPPED = [folder for folder in find_model_folders() if (folder / RECORD_FILE).exists()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model_folder(tmp_path, views=("axial", "sagittal"))


def edit_record(folder: Path, **fields: object) -> None:
    file = folder / RECORD_FILE
    table = json.loads(file.read_text(encoding="utf-8")) | fields
    file.write_text(json.dumps(table), encoding="utf-8")


def test_a_record_reads_back_equal(folder: Path) -> None:
    record = replace(read_record(folder), metrics=(Metric("mean F1, none of the scans", 0.25),))
    write_record(folder, record)
    assert read_record(folder) == record
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_network_comes_back_ready_for_inference(tmp_path: Path) -> None:
    architecture = Architecture(n_channels=1, n_classes=3, features=4, depth=1)
    network = build_network(architecture)
    x = torch.randn(2, 1, 8, 8)
    network(x)
    member = save_network(tmp_path, network, "coronal", architecture)
    loaded = load_network(tmp_path, member)
    assert not loaded.training
    assert member.file == "coronal.safetensors"
    assert member.sha256 == sha256_of(tmp_path / member.file)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), network.eval()(x), rtol=0, atol=0)


def test_whole_weights_are_let_through(folder: Path) -> None:
    record = read_record(folder)
    assert [member.view for member in record.members] == ["axial", "sagittal"]
    verify(folder, record)


@pytest.mark.parametrize("place", [0, 60, -1])
def test_a_single_flipped_bit_is_found(folder: Path, place: int) -> None:
    file = folder / "sagittal.safetensors"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"sagittal\.safetensors are damaged"):
        verify(folder, read_record(folder))


def test_cut_off_weights_are_found(folder: Path) -> None:
    file = folder / "axial.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="damaged"):
        verify(folder, read_record(folder))


def test_absent_weights_are_found(folder: Path) -> None:
    (folder / "axial.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"axial\.safetensors are absent"):
        verify(folder, read_record(folder))


def test_a_record_without_networks_is_refused(folder: Path) -> None:
    edit_record(folder, members=[])
    with pytest.raises(WeightsError, match="lists no network"):
        verify(folder, read_record(folder))


def test_an_absent_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.json cannot be read"):
        read_record(tmp_path)


@pytest.mark.parametrize("field", ["task", "labels", "members", "license", "preprocessing"])
def test_a_record_that_lacks_a_field_is_refused(folder: Path, field: str) -> None:
    file = folder / RECORD_FILE
    table = json.loads(file.read_text(encoding="utf-8"))
    del table[field]
    file.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(WeightsError, match=field):
        read_record(folder)


def test_a_record_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / RECORD_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_record(folder)


def test_an_unknown_view_is_refused(folder: Path) -> None:
    (member, *_) = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))["members"]
    edit_record(folder, members=[member | {"view": "diagonal"}])
    with pytest.raises(WeightsError, match="unknown view 'diagonal'"):
        read_record(folder)


@pytest.mark.parametrize("architecture", [{"depth": 0}, {"wings": 2}, {"features": "many"}])
def test_an_impossible_architecture_is_refused(
    folder: Path, architecture: dict[str, object]
) -> None:
    (member, *_) = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))["members"]
    edit_record(folder, members=[member | {"architecture": member["architecture"] | architecture}])
    with pytest.raises(WeightsError):
        read_record(folder)


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    member = read_record(folder).members[0]
    deeper = replace(member, architecture=replace(member.architecture, depth=2))
    with pytest.raises(WeightsError, match="do not fit their recorded architecture"):
        load_network(folder, deeper)


def test_a_pickle_is_never_loaded(folder: Path, tmp_path: Path) -> None:
    """Loading a pickle runs what is in it; even one with the right digest is refused."""
    trap, sprung = folder / "axial.safetensors", tmp_path / "sprung"
    torch.save(_Trap(sprung), trap)
    member = replace(read_record(folder).members[0], sha256=sha256_of(trap))
    with pytest.raises(WeightsError, match="do not fit"):
        load_network(folder, member)
    assert not sprung.exists()


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.file,)


def test_the_digest_names_the_set_of_weights(folder: Path, tmp_path: Path) -> None:
    record = read_record(folder)
    other = read_record(make_model_folder(tmp_path / "other", views=("axial", "sagittal"), seed=5))
    assert len(record.digest) == 64
    assert record.digest != other.digest
    assert replace(record, members=record.members[::-1]).digest != record.digest
    assert replace(record, attribution="somebody else").digest == record.digest


@pytest.mark.weights
@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_weights_are_whole_and_say_whom_they_owe(folder: Path) -> None:
    record = read_record(folder)
    verify(folder, record)
    task = next(task for task in find_tasks() if task.name == folder.name)
    assert record.task == task.name
    assert record.labels == tuple(f"{label.index} {label.name}" for label in task.told_apart)
    assert record.license
    assert record.attribution
    assert record.metrics
    for member in record.members:
        assert member.architecture.n_classes == task.n_classes
        load_network(folder, member)
    assert sum((folder / member.file).stat().st_size for member in record.members) < 32e6


def test_weights_are_as_readable_as_any_other_file(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    modes = {file.name: file.stat().st_mode for file in folder.iterdir()}
    assert modes["axial.safetensors"] == modes["task.toml"]


@pytest.mark.weights
def test_every_builtin_task_has_weights() -> None:
    with_task = {file.parent.name for file in BUILTIN_MODELS.glob("*/task.toml")}
    assert with_task == {folder.name for folder in SHIPPED}
