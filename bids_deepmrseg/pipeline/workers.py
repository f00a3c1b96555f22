"""The workers of a run, one for each device, and the queue of cases before them."""

import logging
import multiprocessing
import secrets
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from typing import Self

from bids_deepmrseg.pipeline.asking import Opener, socket_of
from bids_deepmrseg.pipeline.worker import Said, Worker

logger = logging.getLogger(__name__)

N_FAILURES_IN_A_ROW = 3  # after which a device gets no more cases, if there are others
RETRY_S = 0.1  # after a connection could not be made


class Workers:
    """One process for each device, and a socket at which the cases of the run wait for them.

    Parameters
    ----------
    devices
        A worker is started for each; a device may be named more than once.
    n_threads
        CPUs of each worker.
    opener
        Makes the networks of a worker, in its process.

    Notes
    -----
    Questions go through this process as they are, unread, in the order in which they come, to
    the device that has been free for longest; who waits keeps the scan to himself. Who asks has
    to know the key that only processes of this run inherit. A worker that dies fails the case
    that it had, and no other.
    """

    def __init__(self, devices: tuple[str, ...], *, n_threads: int, opener: Opener) -> None:
        self.address = f"deepmrseg-{secrets.token_hex(16)}"
        self._key = bytes(multiprocessing.current_process().authkey)
        self._changing = threading.Lock()
        self._is_closed = False
        self._waiting: deque[Future[Worker | None]] = deque()
        self._workers = [Worker(device, n_threads, opener) for device in devices]
        self._free = deque(self._workers)
        self._listener = Listener(socket_of(self.address), family="AF_UNIX", backlog=128)
        self._accepting = threading.Thread(target=self._accept, name="devices", daemon=True)
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_waiting(self) -> int:
        """Cases that are prepared and wait for a device."""
        return len(self._waiting)

    def close(self) -> None:
        """End all workers; cases that still wait are told that the run has ended."""
        with self._changing:
            self._is_closed = True
            for worker in self._workers:
                worker.end()
            while self._waiting:
                self._waiting.popleft().set_result(None)
        with suppress(OSError):  # only wakes the thread that listens
            Client(socket_of(self.address), family="AF_UNIX").close()
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        """Listen; a thread for each case that asks."""
        while not self._is_closed:
            try:
                asking = self._listener.accept()
            except OSError:
                time.sleep(RETRY_S)
                continue
            threading.Thread(target=self._attend, args=(asking,), daemon=True).start()

    def _attend(self, asking: Connection) -> None:
        """One case: wait for a free device, hand question and answer over."""
        with asking, suppress(EOFError, OSError, AuthenticationError):
            deliver_challenge(asking, self._key)
            answer_challenge(asking, self._key)
            name: str = asking.recv()
            worker = self._turn().result()
            if worker is None:
                return
            said: Said | None = None
            try:
                asking.send(worker.device)
                said = worker.answer(name, asking.recv_bytes())
            finally:
                self._give_back(worker, said)
            asking.send_bytes(said.content)

    def _turn(self) -> "Future[Worker | None]":
        """The worker that is free, or the one that will be; ``None`` when the run has ended."""
        turn: Future[Worker | None] = Future()
        with self._changing:
            if self._is_closed:
                turn.set_result(None)
            elif self._free:
                turn.set_result(self._free.popleft())
            else:
                self._waiting.append(turn)
        return turn

    def _give_back(self, worker: Worker, said: Said | None) -> None:
        """Let the next case have the device; an unsound process makes way for a fresh one."""
        with self._changing:
            if self._is_closed:
                return
            if said is not None:
                worker.n_failures = 0 if said.is_sound else worker.n_failures + 1
            if said is not None and not said.is_sound:
                worker.end()
                if worker.n_failures >= N_FAILURES_IN_A_ROW and len(self._workers) > 1:
                    self._workers.remove(worker)
                    logger.warning(
                        "%s failed %d times in a row and gets no more cases",
                        worker.device,
                        worker.n_failures,
                    )
                    return
                with suppress(OSError):  # tried again when it is its turn
                    worker.start()
            if self._waiting:
                self._waiting.popleft().set_result(worker)
            else:
                self._free.append(worker)
