"""A function in a process of its own, so that its death is only that of one case."""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar, TypeVarTuple

from bids_deepmrseg.errors import DeepMRSegError, ResourceError
from bids_deepmrseg.pipeline.memory import MemoryWatch, become_first_victim

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
WATCH = "end-with-parent"
LOOK_EVERY_S = 0.1
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class _Answer(Generic[Result]):
    """What a child says before it ends: a value, or why there is none."""

    value: Result | None
    error: DeepMRSegError | None


def run_in_child(
    target: Callable[[*Arguments], Result],
    *arguments: *Arguments,
    name: str,
    n_threads: int,
    memory_gb: float,
) -> Result:
    """Call a function in a fresh process and wait for what it returns.

    Parameters
    ----------
    target
        A function of a module, so that another process can import it.
    arguments
        What it is called with; must be picklable, as its result.
    name
        The case, as errors should call it.
    n_threads
        Threads that numerical libraries may use.
    memory_gb
        What the call is expected to need, for the sentence about its death.

    Raises
    ------
    DeepMRSegError
        The function's own error; other exceptions come as a plain ``DeepMRSegError`` with their
        traceback as a note.
    ResourceError
        If memory did not suffice, or the process was killed.

    Notes
    -----
    The process is spawned, not forked: torch's threads and CUDA do not survive a fork. It ends
    when its parent ends, however that happens.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, target, arguments), daemon=True)
    with _limited_threads(n_threads), _main_unseen():
        process.start()
    sender.close()
    watch = MemoryWatch(process.pid)
    try:
        while not receiver.poll(LOOK_EVERY_S):
            watch.look()
        answer: _Answer[Result] = receiver.recv()
    except (EOFError, OSError):  # it ended before its answer, or amid it
        process.join()
        raise death(name, process.exitcode or 0, memory_gb, watch) from None
    finally:
        receiver.close()
        process.terminate()
        process.join()
        process.close()
    if answer.error is not None:
        raise answer.error
    return answer.value  # type: ignore[return-value] # without an error this is the result


def _child(
    sender: Connection, target: Callable[[*Arguments], Result], arguments: tuple[*Arguments]
) -> None:
    """Body of the child: call, answer, end."""
    end_with_parent()
    become_first_victim()
    answer: _Answer[Result]
    try:
        answer = _Answer(target(*arguments), None)
    except DeepMRSegError as error:
        answer = _Answer(None, error)
    except Exception as error:  # noqa: BLE001 - the parent is told, whatever it is
        answer = _Answer(None, in_our_words(error))
    sender.send(answer)
    sender.close()


def end_with_parent() -> None:
    """Let this process end as soon as its parent is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is None or any(one.name == WATCH for one in threading.enumerate()):
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name=WATCH, daemon=True).start()


def in_our_words(error: Exception) -> DeepMRSegError:
    """An exception that is not ours, in our words, with its traceback as a note."""
    text = str(error).strip().partition("\n")[0]
    described: DeepMRSegError
    if isinstance(error, MemoryError) or any(words in text.lower() for words in OUT_OF_MEMORY):
        described = ResourceError(
            f"there was not enough memory ({text or 'MemoryError'}); give more, or run fewer cases "
            "at a time (--n-procs)"
        )
    else:
        described = DeepMRSegError(f"an unexpected {type(error).__name__} stopped it: {text}")
    described.add_note("".join(traceback.format_exception(error)))
    return described


def death(name: str, exit_code: int, memory_gb: float, watch: MemoryWatch) -> ResourceError:
    """What to say of a process that ended without an answer.

    Parameters
    ----------
    name
        The case.
    exit_code
        Of the process; that of a signal is negative.
    memory_gb
        What the case was expected to need.
    watch
        What was seen of its memory.
    """
    if exit_code >= 0:
        return ResourceError(f"the process of {name} ended with code {exit_code} and no answer")
    number = -exit_code
    killed = f"the process of {name} was killed by signal {number} ({signal.Signals(number).name})"
    if number != signal.SIGKILL:
        return ResourceError(killed)
    return ResourceError(f"{killed}{watch.tell(needed_gb=memory_gb)}")


@contextmanager
def _limited_threads(n_threads: int) -> Iterator[None]:
    """Environment for children: libraries read their number of threads when they are loaded."""
    before = {variable: os.environ.get(variable) for variable in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable)
            else:
                os.environ[variable] = value


@contextmanager
def _main_unseen() -> Iterator[None]:
    """Keep children from running this process's script, as spawned ones do unless it guards itself.

    The scripts that nipype's plugins for clusters write do not: the child would be a second job.
    """
    main = sys.modules["__main__"]
    file, spec = vars(main).pop("__file__", None), main.__spec__
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file
