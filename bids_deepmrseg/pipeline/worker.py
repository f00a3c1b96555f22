"""A process that holds a device and its networks, and answers one case after the other."""

import multiprocessing
import os
import pickle
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bids_deepmrseg.errors import DeepMRSegError, ResourceError
from bids_deepmrseg.pipeline.asking import NetworkAnswer, Networks, Opener, Question
from bids_deepmrseg.pipeline.child import LOOK_EVERY_S, end_with_parent, in_our_words
from bids_deepmrseg.pipeline.memory import MemoryWatch, become_first_victim

END_S = 10.0  # for a process to end that has closed its side of the pipe


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as its worker pickled it, and whether that worker may be asked again."""

    content: bytes
    is_sound: bool


class Worker:
    """A process that holds a device; started anew after each failure that is not a case's own."""

    def __init__(self, device: str, n_threads: int, opener: Opener) -> None:
        self.device = device
        self.n_failures = 0  # in a row
        self._arguments = (device, n_threads, opener)
        self.start()

    def start(self) -> None:
        """Start the process, which makes its device ready while scans are prepared."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, *self._arguments), name=f"worker-{self.device}", daemon=True
        )
        process.start()
        theirs.close()
        self._pipe, self._process = ours, process

    def answer(self, name: str, question: bytes) -> Said:
        """What the process says to a question, or how it died over it."""
        watch = MemoryWatch(self._process.pid)
        try:
            try:
                self._hand_over(question, watch)
            except (EOFError, OSError):  # it died while it had no case: nobody's fault
                self.end()
                self.start()
                watch = MemoryWatch(self._process.pid)
                self._hand_over(question, watch)
            is_sound: bool = self._hear(watch).recv()
            return Said(self._pipe.recv_bytes(), is_sound=is_sound)
        except (EOFError, OSError):
            self._process.join(END_S)
            death = _death(name, self.device, self._process.exitcode, watch)
            return Said(pickle.dumps(death), is_sound=False)

    def _hand_over(self, question: bytes, watch: MemoryWatch) -> None:
        """Send a question and wait until the process has it."""
        self._pipe.send_bytes(question)
        self._hear(watch).recv()

    def _hear(self, watch: MemoryWatch) -> Connection:
        """The pipe when there is something in it, or nobody at its other end."""
        while not self._pipe.poll(LOOK_EVERY_S):
            watch.look()
        return self._pipe

    def end(self) -> None:
        """Kill the process: it holds nothing to be saved, and may have inherited to be deaf."""
        self._process.kill()
        self._process.join()


def _work(pipe: Connection, device: str, n_threads: int, opener: Opener) -> None:
    """Body of a worker: answer questions until the run ends."""
    end_with_parent()
    become_first_victim()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the run ends its workers
    os.environ["OMP_NUM_THREADS"] = str(n_threads)  # torch reads it when it is imported
    networks: Networks | None = None
    with suppress(Exception):  # tried again, and told, when there is somebody to tell
        networks = opener(device)
    while True:
        try:
            question: Question = pipe.recv()
        except EOFError:
            return
        pipe.send(None)  # from here on, a death is the case's
        answer: NetworkAnswer | DeepMRSegError
        is_sound = True
        try:
            networks = networks or opener(device)
            answer = networks.ask(question)
        except DeepMRSegError as error:
            answer, is_sound = error, not isinstance(error, ResourceError)
        except Exception as error:  # noqa: BLE001 - the case is told, whatever it is
            answer, is_sound = _on_device(device, in_our_words(error)), False
        pipe.send(is_sound)
        pipe.send(answer)


def _on_device(device: str, error: DeepMRSegError) -> DeepMRSegError:
    """The same error with the name of its device before it."""
    named = type(error)(f"on {device}, {error}")
    for note in error.__notes__:
        named.add_note(note)
    return named


def _death(name: str, device: str, exit_code: int | None, watch: MemoryWatch) -> ResourceError:
    """What to say of a worker that ended while it had a case."""
    worker = f"the process that runs the networks on {device}"
    if exit_code is None or exit_code >= 0:
        return ResourceError(f"{worker} ended with code {exit_code} while it had {name}")
    number = -exit_code
    killed = f"{worker} was killed by signal {number} ({signal.Signals(number).name})"
    told = watch.tell() if number == signal.SIGKILL else ""
    return ResourceError(f"{killed} while it had {name}{told}")
