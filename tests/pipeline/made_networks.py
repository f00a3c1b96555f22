"""Networks that do as they are told, for tests of the workers that hold them."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from bids_deepmrseg.errors import InputDataError, ResourceError
from bids_deepmrseg.pipeline.asking import NetworkAnswer, Question, open_worker_networks
from bids_deepmrseg.pipeline.worker import Worker
from bids_deepmrseg.pipeline.workers import Workers
from tests.makers import make_task

FOLDER = "MADE_NETWORKS_FOLDER"  # where networks of a whole run leave their marks
LIMIT_S = 240.0  # only a failure takes so long
TASK = make_task()


def told(order: str, folder: Path = Path()) -> Question:
    """A question that is an order: the name of the model folder says what is to be done."""
    return Question(prepared=(), model_folder=folder / order, task=TASK, fast=False)


def wait_for(condition: Callable[[], object], limit_s: float = LIMIT_S) -> bool:
    """Whether it comes true in time."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


def mark(folder: Path, name: str) -> None:
    """Leave an empty file: whoever looks for it finds it or not."""
    (folder / name).touch()


class Obedient:
    """Networks that answer with the number of their process, or fail as they are told to."""

    def __init__(self, device: str) -> None:
        self.device = device

    def ask(self, question: Question) -> NetworkAnswer:
        """Do what the model folder's name says."""
        order, folder = question.model_folder.name, question.model_folder.parent
        match order:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave":
                os._exit(3)
            case "refuse":
                raise InputDataError("the scan is empty; copy it again")
            case "stumble":
                raise KeyError("affine")
            case "starve":
                raise RuntimeError("CUDA error: out of memory")
            case "run short":
                raise ResourceError("the memory of cuda:0 did not suffice")
            case "wait":
                mark(folder, "waits")
                wait_for((folder / "go on").exists)
            case "meet":
                mark(folder, f"here-{os.getpid()}")
                assert wait_for(lambda: len(list(folder.glob("here-*"))) == 2)
        return NetworkAnswer((), f"{self.device} {os.getpid()}")


class Broken:
    """Networks of a device that cannot be opened."""

    def __init__(self, device: str) -> None:
        raise RuntimeError(f"CUDA error: {device} is busy or unavailable")

    def ask(self, question: Question) -> NetworkAnswer:
        """Never asked: there is no such device."""
        raise AssertionError(f"asked for {question.task.name} without a device")


class _OfRun:
    """The real networks of a worker, which first leave marks in the folder of the test."""

    def __init__(self, device: str) -> None:
        self.networks = open_worker_networks("cpu")
        self.device = device
        self.folder = Path(os.environ[FOLDER])

    def ask(self, question: Question) -> NetworkAnswer:
        """The real answer, by a device that has a name."""
        answer = self.networks.ask(question)
        return NetworkAnswer(answer.predicted, f"{self.device} (made up)")


class Named(_OfRun):
    """The real networks of a device that has a name."""


class DieOnce(_OfRun):
    """The first of all workers that is asked dies over it."""

    def ask(self, question: Question) -> NetworkAnswer:
        """Die, unless some worker did before."""
        with suppress(FileExistsError):
            (self.folder / "died").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().ask(question)


class WaitForMark(_OfRun):
    """The first question is answered when the test says so."""

    def ask(self, question: Question) -> NetworkAnswer:
        """Wait for the mark of the test."""
        mark(self.folder, f"asked-{time.monotonic_ns()}")
        if not wait_for((self.folder / "another is prepared").exists):
            raise ResourceError("nothing else was prepared while the device was busy")
        return super().ask(question)


class Meet(_OfRun):
    """Every question waits for another one that is asked of another worker at the same time."""

    def ask(self, question: Question) -> NetworkAnswer:
        """Wait for the question of the same number, and leave a mark."""
        number = len(list(self.folder.glob(f"met-*-{os.getpid()}")))
        mark(self.folder, f"met-{number}-{os.getpid()}")
        if not wait_for(lambda: len(list(self.folder.glob(f"met-{number}-*"))) == 2):
            raise ResourceError("no other worker was asked at the same time")
        return super().ask(question)


class LookAround(_OfRun):
    """Every question looks for a while whether another one is asked at the same time."""

    def ask(self, question: Question) -> NetworkAnswer:
        """Leave a mark that tells."""
        busy = f"busy-{os.getpid()}"
        mark(self.folder, busy)
        is_met = wait_for(lambda: len(list(self.folder.glob("busy-*"))) > 1, limit_s=3)
        mark(self.folder, f"{'met' if is_met else 'alone'}-{time.monotonic_ns()}")
        (self.folder / busy).unlink()
        return super().ask(question)


class MarkingWorkers(Workers):
    """Leave a mark when a case asks for a device while another one has it."""

    def _turn(self) -> "Future[Worker | None]":
        turn = super()._turn()
        if self.n_waiting:
            mark(Path(os.environ[FOLDER]), "another is prepared")
        return turn
