"""Networks that stay loaded: each is verified when it is read, and memory has a bound."""

from pathlib import Path

import pytest
import torch

from bids_deepmrseg.errors import WeightsError
from bids_deepmrseg.network.loaded import LoadedNetworks
from bids_deepmrseg.network.record import ModelMember, read_record
from tests.makers import make_model_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model_folder(tmp_path, views=("axial", "coronal"))


@pytest.fixture
def members(folder: Path) -> tuple[ModelMember, ...]:
    return read_record(folder).members


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def size_of(networks: LoadedNetworks, folder: Path, member: ModelMember) -> int:
    parameters = networks.get(folder, member).parameters()
    return sum(one.numel() * one.element_size() for one in parameters)


def test_a_network_is_kept_and_ready(folder: Path, members: tuple[ModelMember, ...]) -> None:
    networks = LoadedNetworks("cpu", kept_bytes=10**8)
    network = networks.get(folder, members[0])
    assert networks.get(folder, members[0]) is network
    assert networks.get(folder, members[1]) is not network
    assert not network.training
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())
    assert any(
        one.is_contiguous(memory_format=torch.channels_last)
        for one in network.parameters()
        if one.ndim == 4 and one.shape[1] > 1
    )


def test_what_was_used_longest_ago_goes_first(
    folder: Path, members: tuple[ModelMember, ...]
) -> None:
    first, second = members
    n_bytes = size_of(LoadedNetworks("cpu"), folder, first)
    networks = LoadedNetworks("cpu", kept_bytes=n_bytes + n_bytes // 2)
    one = networks.get(folder, first)
    assert networks.get(folder, first) is one
    two = networks.get(folder, second)
    assert networks.get(folder, second) is two
    assert networks.get(folder, first) is not one


def test_nothing_is_kept_where_nothing_may_be(
    folder: Path, members: tuple[ModelMember, ...]
) -> None:
    networks = LoadedNetworks("cpu")
    assert networks.get(folder, members[0]) is not networks.get(folder, members[0])


def test_damage_is_seen_when_a_file_is_read_and_matters_not_while_it_is_loaded(
    folder: Path, members: tuple[ModelMember, ...]
) -> None:
    kept, forgetful = LoadedNetworks("cpu", kept_bytes=10**8), LoadedNetworks("cpu")
    for networks in (kept, forgetful):
        networks.verify(folder, members)
        networks.get(folder, members[0])
    damage(folder / members[0].file)
    kept.verify(folder, members)
    kept.get(folder, members[0])
    for ask in (
        lambda: forgetful.get(folder, members[0]),
        lambda: forgetful.verify(folder, members),
        lambda: LoadedNetworks("cpu").verify(folder, members),
    ):
        with pytest.raises(WeightsError, match="are damaged"):
            ask()


def test_new_weights_of_the_same_name_are_read(tmp_path: Path, folder: Path) -> None:
    networks = LoadedNetworks("cpu", kept_bytes=10**8)
    old = networks.get(folder, read_record(folder).members[0])
    make_model_folder(tmp_path, views=("axial", "coronal"), seed=5)
    (member, _) = read_record(folder).members
    networks.verify(folder, [member])
    assert networks.get(folder, member) is not old
