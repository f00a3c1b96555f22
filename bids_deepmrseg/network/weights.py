"""Load and save verified weights; their record travels with them. No pickles."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from bids_deepmrseg.errors import WeightsError
from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.build import build_network
from bids_deepmrseg.network.record import (
    RECORD_FILE,
    SLICE_AXIS,
    VIEWS,
    Metric,
    ModelMember,
    ModelRecord,
    View,
    label_lines,
    read_record,
    sha256_of,
    verify,
    write_record,
)

__all__ = (
    "RECORD_FILE",
    "SLICE_AXIS",
    "VIEWS",
    "Metric",
    "ModelMember",
    "ModelRecord",
    "View",
    "label_lines",
    "load_network",
    "read_record",
    "save_network",
    "sha256_of",
    "verify",
    "write_record",
)


def load_network(folder: Path, member: ModelMember) -> nn.Module:
    """Load one verified network, ready for inference on the CPU.

    Raises
    ------
    WeightsError
        If the file is not safetensors or does not fit its architecture.
    """
    network = build_network(member.architecture)
    try:
        network.load_state_dict(load_file(folder / member.file))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise WeightsError(
            f"weights {folder / member.file} do not fit their recorded architecture: {error}"
        ) from error
    return network.eval()


def save_network(
    folder: Path, network: nn.Module, view: View, architecture: Architecture, *, neighbours: int = 0
) -> ModelMember:
    """Write one network as ``<view>.safetensors`` and describe it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{view}.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    file.write_bytes(save(tensors))  # the library's own writer makes files for one user alone
    return ModelMember(
        file=file.name,
        sha256=sha256_of(file),
        view=view,
        architecture=architecture,
        neighbours=neighbours,
    )
