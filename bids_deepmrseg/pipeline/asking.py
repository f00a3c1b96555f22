"""How a case asks the networks: those of its own process, or those of the run's workers."""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path
from typing import Protocol

from bids_deepmrseg.errors import DeepMRSegError, ResourceError
from bids_deepmrseg.records import Predicted, Prepared
from bids_deepmrseg.tasks import Task

KEPT_BYTES = 2 * 10**9  # of parameters on a device: those of all our tasks are a tenth of it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What the networks of one model are shown of one case.

    Attributes
    ----------
    prepared
        The whole scan, or every place of a region.
    model_folder
        Weights of the task.
    task
        What is segmented.
    fast
        Whether to run only the first network of the ensemble.
    """

    prepared: tuple[Prepared, ...]
    model_folder: Path
    task: Task
    fast: bool


@dataclass(frozen=True, slots=True, eq=False)
class NetworkAnswer:
    """What the networks say, in the order of what was shown, and which device they ran on."""

    predicted: tuple[Predicted, ...]
    device: str


class Networks(Protocol):
    """Whoever answers questions; errors are those of :func:`bids_deepmrseg.stages.segment`."""

    def ask(self, question: Question) -> NetworkAnswer:
        """Run the networks and wait for what they say."""


class OwnNetworks:
    """Networks in this process.

    Parameters
    ----------
    device
        Torch device.
    kept_bytes
        Parameters that stay loaded for the next question.
    """

    def __init__(self, device: str, *, kept_bytes: int = 0) -> None:
        # only processes that run networks import torch: the others start sooner and stay small
        from bids_deepmrseg.network.loaded import LoadedNetworks  # noqa: PLC0415 - see above
        from bids_deepmrseg.stages import segment  # noqa: PLC0415 - the same

        self._segment = segment.segment
        self._loaded = LoadedNetworks(device, kept_bytes=kept_bytes)
        self._device = device
        self._described = segment.describe_device(device)

    def ask(self, question: Question) -> NetworkAnswer:
        """Run the networks here."""
        predicted = tuple(
            self._segment(
                one,
                question.model_folder,
                question.task,
                device=self._device,
                fast=question.fast,
                networks=self._loaded,
            )
            for one in question.prepared
        )
        return NetworkAnswer(predicted, self._described)


class NetworksOfRun:
    """The networks of :class:`bids_deepmrseg.pipeline.workers.Workers`, asked from another process.

    Parameters
    ----------
    address
        Of the run that this process belongs to.
    name
        The case, as errors should call it.
    """

    def __init__(self, address: str, name: str) -> None:
        self._address = address
        self._name = name

    def ask(self, question: Question) -> NetworkAnswer:
        """Wait for a device, hand the question over and wait for its answer.

        Raises
        ------
        ResourceError
            If a device's memory did not suffice, its worker died, or the run has ended.
        """
        key = multiprocessing.current_process().authkey  # the run's: its processes inherit it
        try:
            with Client(socket_of(self._address), family="AF_UNIX", authkey=key) as connection:
                connection.send(self._name)
                connection.recv()  # a device is free: before, nobody else needs to hold the scan
                connection.send(question)
                answer: NetworkAnswer | DeepMRSegError = connection.recv()
        except (EOFError, OSError) as error:
            raise ResourceError(
                f"the run that {self._name} belongs to cannot be asked for its devices: {error!r}"
            ) from error
        if isinstance(answer, DeepMRSegError):
            raise answer
        return answer


Opener = Callable[[str], Networks]


def open_worker_networks(device: str) -> Networks:
    """The networks of a worker, which stay loaded."""
    return OwnNetworks(device, kept_bytes=KEPT_BYTES)


def socket_of(address: str) -> str:
    """Name of a socket in Linux's abstract namespace: no file, so no folder is too deep or full."""
    return f"\0{address}"
