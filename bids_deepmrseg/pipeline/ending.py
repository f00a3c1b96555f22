"""A run that is told to end, as at a cluster's time limit, still tells what became of its cases."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class RunEndedError(BaseException):
    """SIGTERM came; no failure of a node, so that nipype does not take it for one."""


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM raise :class:`RunEndedError` in the main thread rather than end the process.

    Notes
    -----
    Slurm sends it at the time limit and when a job is cancelled or preempted, half a minute
    (``KillWait``) before it kills; ``docker stop`` sends it ten seconds before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only there can signals be handled
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """Raise, once: what follows is not to be interrupted again."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise RunEndedError(
        "the run was told to end (SIGTERM), as at a time limit or when a job is cancelled; the "
        "same command goes on where it stopped"
    )


def end_children() -> None:
    """End all processes that this one has started; theirs end with them."""
    for child in multiprocessing.active_children():
        child.terminate()
