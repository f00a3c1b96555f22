"""Nipype's MultiProc plugin, mended: when a worker is killed, the cases go on without it."""

import logging
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from traceback import format_exception
from typing import Any

from nipype import Node
from nipype.pipeline.plugins import MultiProcPlugin
from nipype.pipeline.plugins.multiproc import process_initializer, run_node

from bids_deepmrseg.pipeline.handoff import StageNote, write_note

logger = logging.getLogger(__name__)

TWICE = (
    "the process that ran it was killed, and once more when it ran by itself; most likely memory "
    "ran out: give the machine, container or job more"
)

TaskResult = dict[str, Any]


class LastingPool(MultiProcPlugin):
    """Runs nodes in processes of this machine, as MultiProc does, and outlives their deaths.

    Notes
    -----
    When a worker is killed, Python ends all workers of its pool, and nipype waits for ever or ends
    with every other case lost. Here the pool is made anew, and each node that was under way runs
    again, once, in a process for it alone: the one that is killed again then fails by itself.
    """

    pool: ProcessPoolExecutor

    def __init__(self, plugin_args: dict[str, Any] | None = None) -> None:
        super().__init__(plugin_args=plugin_args)
        self._nodes: dict[int, tuple[Node, bool]] = {}
        self._lost: set[int] = set()
        self._alone: dict[int, ProcessPoolExecutor] = {}

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:  # noqa: FBT001, FBT002 - nipype's signature
        """Hand a node to the pool, which may have broken since the last one."""
        self._taskid += 1
        self._nodes[self._taskid] = (node, updatehash)
        try:
            self._submit(self.pool, self._taskid)
        except BrokenProcessPool:
            self._renew()
            self._submit(self.pool, self._taskid)
        return int(self._taskid)

    def _submit(self, pool: ProcessPoolExecutor, taskid: int) -> None:
        """Let a pool run a node."""
        node, updatehash = self._nodes[taskid]
        future = pool.submit(run_node, node, updatehash, taskid)
        self._task_obj[taskid] = future
        future.add_done_callback(partial(self._on_done, taskid))

    def _on_done(self, taskid: int, future: "Future[TaskResult]") -> None:
        """Keep what a node gave, or that its worker is no more; runs in a thread of the pool."""
        try:
            result = future.result()
        except (BrokenProcessPool, CancelledError):
            self._lost.add(taskid)
        except Exception as error:  # noqa: BLE001 - nipype would wait for ever
            self._taskresult[taskid] = _failure(format_exception(error))
        else:
            self._taskresult[taskid] = result

    def _get_result(self, taskid: int) -> TaskResult | None:
        """What a node gave; ``None`` while it runs, or runs again."""
        if taskid in self._lost:
            self._lost.discard(taskid)
            if taskid in self._alone:
                self._taskresult[taskid] = self._give_up(taskid)
            else:
                self._run_alone(taskid)
        result: TaskResult | None = self._taskresult.get(taskid)
        return result

    def _run_alone(self, taskid: int) -> None:
        """Run a node again in a process for it alone."""
        node, _ = self._nodes[taskid]
        logger.warning(
            "a process was killed, most likely for memory; %s runs again, by itself", node.name
        )
        self._alone[taskid] = self._make_pool(1)
        self._submit(self._alone[taskid], taskid)

    def _give_up(self, taskid: int) -> TaskResult:
        """Note that a node was killed a second time."""
        node, _ = self._nodes[taskid]
        notes_dir = Path(node.interface.inputs.notes_dir)
        write_note(notes_dir, node.interface.inputs.note_name, StageNote(0.0, TWICE))
        return _failure([f"{TWICE}\n"])

    def _clear_task(self, taskid: int) -> None:
        """Forget a node that has ended."""
        super()._clear_task(taskid)
        del self._nodes[taskid]
        if taskid in self._alone:
            self._alone.pop(taskid).shutdown(wait=False)

    def _renew(self) -> None:
        """Put a whole pool in the place of a broken one."""
        self.pool.shutdown(wait=False)
        self.pool = self._make_pool(self.processors)

    def _make_pool(self, n_workers: int) -> ProcessPoolExecutor:
        """A pool like nipype's own."""
        return ProcessPoolExecutor(
            max_workers=n_workers,
            initializer=process_initializer,
            initargs=(self._cwd,),
            mp_context=get_context(self.plugin_args.get("mp_context")),
        )

    def close(self) -> None:
        """Let go of all processes, whatever they are at."""
        for pool in (self.pool, *self._alone.values()):
            pool.shutdown(wait=True, cancel_futures=True)


def _failure(traceback: list[str]) -> TaskResult:
    """A node's result as nipype tells of failures."""
    return {"result": None, "traceback": traceback}
