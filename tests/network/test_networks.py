"""The contract that the paper's network and its benchmark keep alike."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bids_deepmrseg.errors import GeometryError, WeightsError
from bids_deepmrseg.network.architecture import Architecture, Family
from bids_deepmrseg.network.blocks import (
    ConvUnit,
    ResIncBlock,
    ResNetBlock,
    TransitionDown,
    TransitionUp,
    fold_normalisation,
)
from bids_deepmrseg.network.build import build_network, measure_cost

SMALL = Architecture(n_channels=1, n_classes=3, features=4, depth=2)
PAPER = Architecture(n_channels=2, n_classes=2, features=8, depth=3, blocks_per_level=2)
ARCHITECTURES = {
    "small": SMALL,
    "paper": PAPER,
    "kernel 2": replace(SMALL, kernel_down=2, kernel_up=2),
    "one way down": replace(SMALL, depth=1, n_classes=15),
    "UNet": replace(SMALL, family="unet"),
    "UNet, deeper": replace(PAPER, family="unet"),
}


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=list(ARCHITECTURES.values()), ids=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    chosen: Architecture = request.param
    return chosen


@pytest.fixture
def network(architecture: Architecture) -> nn.Module:
    return build_network(architecture)


def slices(
    architecture: Architecture, n: int = 2, *, height: int = 2, width: int = 3
) -> torch.Tensor:
    """``n`` random slices of so many strides."""
    side = architecture.stride
    return torch.randn(n, architecture.n_channels, height * side, width * side)


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_logits_have_a_class_per_label_and_the_shape_of_their_slice(
    architecture: Architecture, network: nn.Module
) -> None:
    for height, width in ((2, 2), (3, 4), (5, 2)):
        x = slices(architecture, n=3, height=height, width=width)
        assert network(x).shape == (3, architecture.n_classes, *x.shape[2:])


def test_every_parameter_learns(architecture: Architecture, network: nn.Module) -> None:
    network(slices(architecture, n=4)).square().mean().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None] == []
    assert [name for name, grad in gradients.items() if grad is not None and not grad.any()] == []


def test_slices_do_not_see_each_other(architecture: Architecture, network: nn.Module) -> None:
    """In evaluation mode a slice's logits do not depend on its batch mates."""
    network.eval()
    x = slices(architecture, n=3)
    with torch.inference_mode():
        together, alone = network(x)[1:2], network(x[1:2])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_in_training_mode_normalisation_is_over_the_batch(
    architecture: Architecture, network: nn.Module
) -> None:
    x = slices(architecture, n=3)
    assert not torch.allclose(network(x)[1:2], network(x[1:2]), atol=1e-3)


@pytest.mark.parametrize("odd", [(1, 0), (0, 1), (1, 1)])
def test_a_slice_that_cannot_be_halved_evenly_is_refused(
    architecture: Architecture, network: nn.Module, odd: tuple[int, int]
) -> None:
    side = 2 * architecture.stride
    x = torch.zeros(1, architecture.n_channels, side + odd[0], side + odd[1])
    with pytest.raises(GeometryError, match=f"multiples of {architecture.stride}"):
        network(x)


def test_state_survives_save_and_load(
    tmp_path: Path, architecture: Architecture, network: nn.Module
) -> None:
    x = slices(architecture, n=4)
    network(x)  # moves the running statistics away from where they start
    save_file(network.state_dict(), tmp_path / "axial.safetensors")
    other = build_network(architecture)
    other.load_state_dict(load_file(tmp_path / "axial.safetensors"))
    with torch.inference_mode():
        torch.testing.assert_close(other.eval()(x), network.eval()(x), rtol=0, atol=0)


def test_folding_the_normalisation_changes_no_answer(
    architecture: Architecture, network: nn.Module
) -> None:
    x = slices(architecture, n=4)
    for _ in range(3):
        network(x)
    with torch.inference_mode():
        plain = network.eval()(x)
        folded = fold_normalisation(network)(x)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def test_the_network_sees_beyond_its_neighbourhood(
    architecture: Architecture, network: nn.Module
) -> None:
    """A voxel reaches another one that lies a whole stride away, by way of the deepest level."""
    network.eval()
    x = slices(architecture, n=1, height=4, width=4)
    changed = x.clone()
    changed[..., 0, 0] += 10
    with torch.inference_mode():
        difference = (network(changed) - network(x)).abs()
    assert difference[..., architecture.stride, architecture.stride].max() > 0


# the paper's blocks


@pytest.mark.parametrize("features", [16, 32, 64, 256])
def test_resinc_needs_less_than_a_third_of_resnets_parameters(features: int) -> None:
    assert n_parameters(ResIncBlock(features)) < n_parameters(ResNetBlock(features)) / 3


def test_resinc_has_branches_of_no_one_two_and_three_convolutions() -> None:
    kernels = [
        [m.kernel_size for m in branch.modules() if isinstance(m, nn.Conv2d)]
        for branch in ResIncBlock(16).branches
    ]
    assert kernels == [[(1, 1)] + b * [(3, 3)] for b in range(4)]


@pytest.mark.parametrize("block_class", [ResNetBlock, ResIncBlock])
def test_a_block_that_learned_nothing_hands_on_what_is_positive(
    block_class: type[ResNetBlock] | type[ResIncBlock],
) -> None:
    block = block_class(8).eval()
    for unit in block.modules():
        if isinstance(unit, ConvUnit):
            nn.init.zeros_(unit.get_submodule("0").get_parameter("weight"))
    x = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize("kernel", [1, 2])
def test_the_way_down_halves_sides_and_doubles_features(kernel: int) -> None:
    assert TransitionDown(8, kernel=kernel)(torch.randn(2, 8, 6, 10)).shape == (2, 16, 3, 5)


@pytest.mark.parametrize("kernel", [1, 2])
def test_the_way_up_keeps_the_skip_as_it_came(kernel: int) -> None:
    skip = torch.randn(1, 4, 6, 10)
    joined = TransitionUp(16, 4, kernel=kernel)(torch.randn(1, 16, 3, 5), skip)
    assert joined.shape == (1, 8, 6, 10)
    torch.testing.assert_close(joined[:, 4:], skip)


def test_kernel_1_writes_one_voxel_in_four_and_kernel_2_all() -> None:
    """Why the kernel is a field of the architecture, docs/decisions/0002."""
    x, skip = torch.randn(1, 16, 3, 5), torch.zeros(1, 4, 6, 10)
    for kernel, share in ((1, 0.25), (2, 1.0)):
        transition = TransitionUp(16, 4, kernel=kernel)
        nn.init.zeros_(transition.up.get_parameter("bias"))
        written = transition(x, skip)[:, :4] != 0
        assert written.float().mean().item() == pytest.approx(share)


# the architecture record and its cost


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"features": 6}, "multiple of 4"),
        ({"features": 0}, "multiple of 4"),
        ({"n_channels": 0}, "no such network"),
        ({"n_classes": 1}, "no such network"),
        ({"depth": 0}, "no such network"),
        ({"blocks_per_level": 0}, "no such network"),
        ({"kernel_down": 3}, "must be 1 or 2"),
        ({"kernel_up": 0}, "must be 1 or 2"),
    ],
)
def test_an_impossible_architecture_is_refused(change: dict[str, int], sentence: str) -> None:
    fields = {"n_channels": 1, "n_classes": 3, **change}
    with pytest.raises(WeightsError, match=sentence):
        Architecture(**fields)  # type: ignore[arg-type]


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(WeightsError, match="known: deepmrseg, unet"):
        Architecture(family="vnet", n_channels=1, n_classes=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["deepmrseg", "unet"])
def test_cost_counts_parameters_and_grows_with_the_slice(family: Family) -> None:
    architecture = replace(SMALL, family=family)
    small, large = measure_cost(architecture, side=32), measure_cost(architecture, side=64)
    assert small.n_parameters == n_parameters(build_network(architecture))
    assert large.n_parameters == small.n_parameters
    assert large.gflop_per_slice == pytest.approx(4 * small.gflop_per_slice)


def test_a_multiplication_and_an_addition_are_two_operations() -> None:
    """The last layer of one more class costs 2 x features x voxels more."""
    costs = [measure_cost(replace(SMALL, n_classes=n), side=16).gflop_per_slice for n in (3, 4)]
    assert 1e9 * (costs[1] - costs[0]) == pytest.approx(2 * (2 * SMALL.features) * 16 * 16)
