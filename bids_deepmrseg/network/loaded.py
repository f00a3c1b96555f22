"""Networks on a device, ready to be run: verified when they are loaded, the last used ones kept."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from bids_deepmrseg.network.blocks import fold_normalisation
from bids_deepmrseg.network.record import ModelMember, verify_members
from bids_deepmrseg.network.weights import load_network

Key = tuple[Path, str]  # of a network: its file, and the digest that its record has


class LoadedNetworks:
    """The networks of one device.

    Parameters
    ----------
    device
        Torch device.
    kept_bytes
        Parameters that may stay loaded for the next call; 0 to keep none.
    """

    def __init__(self, device: str, *, kept_bytes: int = 0) -> None:
        if torch.device(device).type == "cuda":
            torch.cuda.set_device(device)  # else what names no device would take the first GPU, too
        self.device = device
        self._kept_bytes = kept_bytes
        self._verified: set[Key] = set()
        self._loaded: OrderedDict[Key, nn.Module] = OrderedDict()

    def verify(self, folder: Path, members: Sequence[ModelMember]) -> None:
        """Compare files with their digests, but for those whose networks are loaded.

        Raises
        ------
        WeightsError
            As :func:`bids_deepmrseg.network.record.verify`.
        """
        absent = [member for member in members if _key(folder, member) not in self._loaded]
        verify_members(folder, absent)
        self._verified.update(_key(folder, member) for member in absent)

    def get(self, folder: Path, member: ModelMember) -> nn.Module:
        """One verified network on the device, in evaluation mode.

        Raises
        ------
        WeightsError
            If the file is damaged, or does not fit its architecture.
        """
        key = _key(folder, member)
        network = self._loaded.pop(key, None)
        if network is None:
            if key not in self._verified:
                self.verify(folder, [member])
            self._verified.remove(key)  # it is good for one reading
            network = fold_normalisation(load_network(folder, member)).to(self.device)
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._loaded[key] = network
        self._forget_oldest()
        return network

    def _forget_oldest(self) -> None:
        """Let go of networks until the others may be kept."""
        while self._loaded and self._n_bytes() > self._kept_bytes:
            self._loaded.popitem(last=False)

    def _n_bytes(self) -> int:
        """Memory of all parameters that are loaded."""
        return sum(
            parameter.numel() * parameter.element_size()
            for network in self._loaded.values()
            for parameter in network.parameters()
        )


def _key(folder: Path, member: ModelMember) -> Key:
    """What tells networks apart: a file that is written anew has another digest."""
    return folder / member.file, member.sha256
