"""From an architecture record to a network, and what that network costs."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.deepmrseg import DeepMRSeg
from bids_deepmrseg.network.unet import UNet

FAMILIES: dict[str, type[DeepMRSeg] | type[UNet]] = {"deepmrseg": DeepMRSeg, "unet": UNet}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs: learnable parameters, and 1e9 floating point operations per slice."""

    n_parameters: int
    gflop_per_slice: float


def build_network(architecture: Architecture) -> nn.Module:
    """A network with fresh random weights, as ``architecture`` describes it."""
    return FAMILIES[architecture.family](architecture)


def measure_cost(architecture: Architecture, *, side: int = 256) -> Cost:
    """Count parameters and operations for one slice of ``side`` x ``side`` voxels.

    Parameters
    ----------
    architecture
        The network to count.
    side
        Height and width in voxels, a multiple of ``architecture.stride``.

    Returns
    -------
    Cost
        A multiplication and an addition count as two operations.
    """
    network = build_network(architecture).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(torch.zeros(1, architecture.n_channels, side, side))
    n_parameters = sum(p.numel() for p in network.parameters())
    return Cost(n_parameters, counter.get_total_flops() / 1e9)
