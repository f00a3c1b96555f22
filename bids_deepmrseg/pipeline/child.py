"""The heavy part of a case, in a process of its own, so that its death is only that case's."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, TypeVarTuple

from bids_deepmrseg.errors import DeepMRSegError, ResourceError
from bids_deepmrseg.pipeline.handoff import load_provenance, load_segmented, save_segmented
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.stages.measure import brain_volume_mm3, doubts_of_brain
from bids_deepmrseg.stages.write import Provenance, UsedModel
from bids_deepmrseg.tasks import Task

if TYPE_CHECKING:
    from bids_deepmrseg.network.weights import ModelRecord

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
WATCH = "end-with-parent"
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
    with _limited_threads(n_threads):
        process.start()
    sender.close()
    try:
        answer: _Answer[Result] = receiver.recv()
    except EOFError:
        process.join()
        raise _death(name, process.exitcode or 0, memory_gb) from None
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
    answer: _Answer[Result]
    try:
        answer = _Answer(target(*arguments), None)
    except DeepMRSegError as error:
        answer = _Answer(None, error)
    except Exception as error:  # noqa: BLE001 - the parent is told, whatever it is
        answer = _Answer(None, _described(error))
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


def _described(error: Exception) -> DeepMRSegError:
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


def _death(name: str, exit_code: int, memory_gb: float) -> ResourceError:
    """What to say of a child that ended without an answer."""
    if exit_code >= 0:
        return ResourceError(f"the process of {name} ended with code {exit_code} and no answer")
    number = -exit_code
    killed = f"the process of {name} was killed by signal {number} ({signal.Signals(number).name})"
    if number != signal.SIGKILL:
        return ResourceError(killed)
    return ResourceError(
        f"{killed}; most likely memory ran out: about {memory_gb:.1f} GB are needed; "
        "give the machine, container or job more, or run fewer cases at a time (--n-procs)"
    )


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


@dataclass(frozen=True, slots=True)
class LocatorFiles:
    """What the task that shows where to look has left behind: labels, and what made them."""

    task: Task
    segmented_file: Path
    provenance_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRequest:
    """What the child is asked to do.

    Attributes
    ----------
    case
        The scans, and the task that reads them.
    model_folder
        Weights of the task.
    device
        ``cpu``, ``cuda`` or ``cuda:N``.
    fast
        Whether to run only the first network of the ensemble.
    keep_probabilities
        Whether to keep the probability of every label.
    file
        Where the answer is to be saved.
    locator
        For a task with a region, the answer of the task that it is located by.
    """

    case: Case
    model_folder: Path
    device: str
    fast: bool
    keep_probabilities: bool
    file: Path
    locator: LocatorFiles | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """The answer for a case, and what its sidecar has to tell of how it was come by."""

    segmented: Segmented
    n_islands_removed_voxels: int
    doubts: tuple[str, ...] = ()


def segment_case(request: SegmentRequest) -> Provenance:
    """Prepare, segment and restore a case, save the answer, and tell what made it."""
    # only children import torch: the processes that wait for them stay small
    from bids_deepmrseg.network.weights import read_record  # noqa: PLC0415 - see above

    record = read_record(request.model_folder)
    locator = request.locator
    found = _segment_whole(request) if locator is None else _segment_places(request, locator)
    brain_mm3 = brain_volume_mm3(found.segmented, request.case.task)
    save_segmented(replace(found.segmented, brain_volume_mm3=brain_mm3), request.file)
    return _provenance(request, record, found)


def _provenance(request: SegmentRequest, record: "ModelRecord", found: _Found) -> Provenance:
    """What made an answer: its own model, and what is known of those that it builds on."""
    task = request.case.task
    before = None if request.locator is None else load_provenance(request.locator.provenance_file)
    chain: tuple[UsedModel, ...] = ()
    if request.locator is not None and before is not None:
        chain = (UsedModel(request.locator.task.name, before.model_sha256), *before.located_by)
    brain = UsedModel(task.name, record.digest) if task.brain is not None else None
    return Provenance(
        code_version=version("bids-deepmrseg"),
        torch_version=version("torch"),
        model_sha256=record.digest,
        preprocessing=record.preprocessing,
        training_data=record.training_data,
        license=record.license,
        attribution=record.attribution,
        device=request.device,
        fast=request.fast,
        n_islands_removed_voxels=found.n_islands_removed_voxels,
        located_by=chain,
        brain_measured_by=brain or (before.brain_measured_by if before else None),
        doubts=(
            *(before.doubts if before else ()),
            *found.doubts,
            *doubts_of_brain(found.segmented, task),
        ),
    )


def _segment_whole(request: SegmentRequest) -> _Found:
    """Stages 2 to 4 on the whole brain."""
    from bids_deepmrseg.stages.prepare import prepare  # noqa: PLC0415 - as in segment_case
    from bids_deepmrseg.stages.restore import restore  # noqa: PLC0415 - the same
    from bids_deepmrseg.stages.segment import segment  # noqa: PLC0415 - the same

    task = request.case.task
    predicted = segment(
        prepare(request.case), request.model_folder, task, device=request.device, fast=request.fast
    )
    segmented = restore(predicted, task, keep_probabilities=request.keep_probabilities)
    return _Found(segmented, predicted.n_islands_removed_voxels)


def _segment_places(request: SegmentRequest, locator: LocatorFiles) -> _Found:
    """Stages 2 to 4 on the places that another task's labels show."""
    from bids_deepmrseg.stages.locate import check_found, locate  # noqa: PLC0415 - the same
    from bids_deepmrseg.stages.prepare import prepare_places  # noqa: PLC0415 - the same
    from bids_deepmrseg.stages.restore import restore_places  # noqa: PLC0415 - the same
    from bids_deepmrseg.stages.segment import segment  # noqa: PLC0415 - the same

    task = request.case.task
    shown = load_segmented(locator.segmented_file)
    located = locate(shown.shown, shown.grid, task, locator.task)
    predicted = tuple(
        segment(one, request.model_folder, task, device=request.device, fast=request.fast)
        for one in prepare_places(request.case, located)
    )
    segmented = restore_places(predicted, task, keep_probabilities=request.keep_probabilities)
    check_found(segmented, shown.shown, task, locator.task)
    return _Found(
        replace(segmented, brain_volume_mm3=shown.brain_volume_mm3),
        sum(one.n_islands_removed_voxels for one in predicted),
        tuple(doubt for one in located for doubt in one.doubts),
    )
