"""Laws of devices: those that torch sees are named, chosen, or refused in words."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.stages.segment import describe_device, pick_device, pick_devices


@pytest.fixture
def see_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets torch say that it sees so many GPUs, whatever is there."""

    def see(n_gpus: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)

    return see


@pytest.mark.parametrize(
    ("n_gpus", "asked", "devices"),
    [
        (0, "auto", ("cpu",)),
        (0, "cpu", ("cpu",)),
        (0, "cpu,cpu", ("cpu", "cpu")),
        (1, "auto", ("cuda:0",)),
        (3, "auto", ("cuda:0", "cuda:1", "cuda:2")),
        (3, "cuda", ("cuda:0", "cuda:1", "cuda:2")),
        (3, "cpu", ("cpu",)),
        (3, "cuda:2", ("cuda:2",)),
        (3, "cuda:2,cuda:0", ("cuda:2", "cuda:0")),
        (1, "cuda:0,cuda:0", ("cuda:0", "cuda:0")),
    ],
)
def test_devices_are_those_that_torch_sees(
    see_gpus: Callable[[int], None], n_gpus: int, asked: str, devices: tuple[str, ...]
) -> None:
    see_gpus(n_gpus)
    assert pick_devices(asked) == devices
    if "," not in asked:
        assert pick_device(asked) == devices[0]


@pytest.mark.parametrize(
    "asked", ["gpu", "cuda:x", "cuda:-1", "", "mps", "cpu,", "auto,cpu", "cuda,cuda:1"]
)
def test_an_unknown_device_is_refused(see_gpus: Callable[[int], None], asked: str) -> None:
    see_gpus(2)
    with pytest.raises(UsageError, match="--device is auto, cpu, cuda, cuda:N or several such as"):
        pick_devices(asked)


def test_gpus_and_the_cpu_are_not_mixed(see_gpus: Callable[[int], None]) -> None:
    see_gpus(2)
    with pytest.raises(UsageError, match="cuda:0,cpu names GPUs and the CPU; name one kind"):
        pick_devices("cuda:0,cpu")


@pytest.mark.parametrize("asked", ["cuda:2", "cuda:0,cuda:2"])
def test_a_gpu_that_is_not_there_is_refused_with_what_torch_sees(
    see_gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    see_gpus(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    with pytest.raises(UsageError) as caught:
        pick_devices(asked)
    assert "--device cuda:2 is not there; torch sees 2 CUDA devices" in str(caught.value)
    assert "CUDA_VISIBLE_DEVICES is '5,6'" in str(caught.value)


def test_no_gpu_is_seen_where_none_is_made_visible() -> None:
    """In a process of its own, for torch looks at the variable once."""
    script = (
        "from bids_deepmrseg.stages.segment import pick_devices\n"
        "print(pick_devices('auto'))\n"
        "pick_devices('cuda')\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stdout == "('cpu',)\n"
    assert "UsageError: --device cuda:0 is not there; torch sees 0 CUDA devices" in ended.stderr
    assert "CUDA_VISIBLE_DEVICES is ''" in ended.stderr


def test_what_runs_on_one_device_takes_no_list() -> None:
    with pytest.raises(UsageError, match="this runs on one device"):
        pick_device("cpu,cpu")


def test_the_cpu_needs_no_name() -> None:
    assert describe_device("cpu") == "cpu"
