"""A run that is told to end, as at a cluster's time limit, still tells what became of its cases."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

TOLD_TO_END = (
    "the run was told to end (SIGTERM), as at a time limit or when a job is cancelled; the same "
    "command goes on where it stopped"
)


class RunEndedError(BaseException):
    """SIGTERM came; no failure of a node, so that nipype does not take it for one."""


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM raise :class:`RunEndedError` in the main thread rather than end the process.

    Notes
    -----
    Slurm sends it at the time limit and when a job is cancelled or preempted, half a minute
    (``KillWait``) before it kills; ``docker stop`` sends it ten seconds before. Where nipype runs
    the node in this process, it makes an ordinary error of it, or passes it over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only there can signals be handled
        return
    told = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what follows is not interrupted again
        told.set()
        raise RunEndedError(TOLD_TO_END)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Exception as error:
        if told.is_set():
            raise RunEndedError(TOLD_TO_END) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if told.is_set():
        raise RunEndedError(TOLD_TO_END)


def end_children() -> None:
    """End all processes that this one has started; theirs end with them."""
    for child in multiprocessing.active_children():
        child.terminate()
