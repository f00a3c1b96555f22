"""Nipype's SLURM plugin, mended: a job that dies is one failed case, and others go on."""

import logging
import math
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype import Node
from nipype.pipeline.plugins import SLURMPlugin

from bids_deepmrseg.pipeline.handoff import StageNote, write_note

logger = logging.getLogger(__name__)

POLL_S = 5.0  # how often the queue is asked for; one question for all jobs
LATE_S = 60.0  # how long a result may take to be seen on a shared disk after its job completed
LOST_S = 5.0  # and after a job that did not complete
WAITING_GB = 0.4  # the process that waits for the one that segments
# what nipype and Python read when they start; given to jobs even where Slurm hands on nothing
EXPORTED = ("NIPYPE_CONFIG_DIR", "NIPYPE_NO_ET", "NO_ET", "PYTHONPATH")
MIB_PER_GB = 1e9 / 1024**2
TaskResult = dict[str, Any]


class SlurmError(RuntimeError):
    """A command of Slurm's failed; the message is what it said."""


def slurm(*command: str) -> str:
    """Run a command of Slurm's and return what it prints.

    Raises
    ------
    SlurmError
        If it is not there, or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - Slurm's own commands
    except OSError as error:
        raise SlurmError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise SlurmError(said or f"{command[0]} ended with code {done.returncode}")
    return done.stdout


@dataclass(slots=True)
class _Job:
    """A job that was handed in.

    Attributes
    ----------
    node
        What it runs.
    script
        Nipype's batch script; what the job prints lies beside it.
    submitted_s, gone_s
        When it was handed in, and since when the queue does not have it; by a monotonic clock.
    """

    node: Node
    script: Path
    submitted_s: float
    gone_s: float | None = None


class SlurmJobs(SLURMPlugin):
    """Runs each node as a job of Slurm's; takes the arguments of nipype's plugin, and ``poll_s``.

    Notes
    -----
    Nipype's own asks ``squeue`` for each job by itself, ends the whole run when one job dies or
    one is refused (and leaves the others in the queue), takes the result of an earlier run for
    that of a job that was cancelled before it began, asks for no memory, and breaks where a path
    has a space.
    """

    _template: str

    def __init__(self, plugin_args: dict[str, Any] | None = None) -> None:
        arguments = plugin_args or {}
        super().__init__(plugin_args=arguments)
        self._poll_s = float(arguments.get("poll_s", POLL_S))
        self._template = "\n".join((self._template.rstrip("\n"), *_exports()))
        self._jobs: dict[int, _Job] = {}
        self._refused: dict[int, TaskResult] = {}
        self._queued: frozenset[int] = frozenset()
        self._asked_s = -math.inf
        self._is_deaf = False

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:  # noqa: FBT001, FBT002 - nipype's signature
        """Hand in a job; one that Slurm refuses is a failed node, not the end of the run."""
        for left in Path(node.output_dir()).glob("result_*.pklz"):
            left.unlink()  # of an earlier run: nothing tells it from the one that is to come
        try:
            return int(super()._submit_job(node, updatehash=updatehash))
        except SlurmError as error:
            taskid = -1 - len(self._refused)
            sentence = f"Slurm did not take its job: {error}"
            self._refused[taskid] = _failed(node, sentence)
            return taskid

    def _submit_batchtask(self, scriptfile: str, node: Node) -> int:
        """Call sbatch; for what the user did not ask for, ask what the node needs."""
        script = Path(scriptfile)
        arguments = shlex.split(self._sbatch_args or "")
        asked = [*arguments, *_directives(self._template)]
        printed = str(script.with_suffix(".%j.out"))
        needs = _needs(node, asked, printed)
        command = ("sbatch", *arguments, *needs, f"--job-name={node.name}", str(script))
        found = re.search(self._jobid_re, self._patiently(command))
        if found is None:
            raise SlurmError("sbatch told no job's number")
        taskid = int(found[1])
        self._pending[taskid] = node.output_dir()
        self._jobs[taskid] = _Job(node, script, time.monotonic())
        return taskid

    def _patiently(self, command: tuple[str, ...]) -> str:
        """Run a command, and again when it fails, as often as nipype's arguments say."""
        for _ in range(self._max_tries):
            try:
                return slurm(*command)
            except SlurmError as error:
                logger.debug("sbatch: %s", error)
                time.sleep(self._retry_timeout)
        return slurm(*command)

    def _is_pending(self, taskid: int) -> bool:
        """Whether the queue has the job, by the latest answer since it was handed in."""
        if time.monotonic() - self._asked_s > self._poll_s:
            self._ask()
        return taskid in self._queued or self._jobs[taskid].submitted_s > self._asked_s

    def _ask(self) -> None:
        """Ask for all jobs at once; where Slurm does not answer, they are taken to live on."""
        asked_s = time.monotonic()
        listed = ",".join(map(str, self._jobs))
        try:
            answer = slurm("squeue", "--noheader", "--format=%A", f"--jobs={listed}")
        except SlurmError as error:
            if "Invalid job id" in str(error):  # the only one that was asked for is forgotten
                answer = ""
            else:
                if not self._is_deaf:
                    logger.warning("Slurm does not tell of its queue, asking on: %s", error)
                self._is_deaf = True
                self._asked_s = asked_s if self._queued else self._asked_s
                return
        self._is_deaf = False
        self._queued = frozenset(int(line) for line in answer.split())
        self._asked_s = asked_s

    def _get_result(self, taskid: int) -> TaskResult | None:
        """What a job left; ``None`` while it is queued, runs, or its result may still appear."""
        if taskid in self._refused:
            return self._refused[taskid]
        if self._is_pending(taskid):
            return None
        job = self._jobs[taskid]
        if any(Path(job.node.output_dir()).glob("result_*.pklz")):
            result: TaskResult = super()._get_result(taskid)
            return result
        now_s = time.monotonic()
        job.gone_s = job.gone_s or now_s
        if now_s - job.gone_s < LOST_S:
            return None
        told = _told_of(taskid)
        if told.get("JobState") in {None, "COMPLETED"} and now_s - job.gone_s < LATE_S:
            return None
        return _failed(job.node, _death(taskid, job, told))

    def _report_crash(self, node: Node, result: TaskResult | None = None) -> str:
        """Write a crash file; nipype fails at it where the traceback is one text."""
        if result is not None and isinstance(result["traceback"], str):
            result["traceback"] = result["traceback"].splitlines(keepends=True)
        return str(super()._report_crash(node, result=result))

    def _clear_task(self, taskid: int) -> None:
        """Forget a job that has ended."""
        if taskid not in self._refused:
            super()._clear_task(taskid)
            del self._jobs[taskid]

    def close(self) -> None:
        """Cancel what is still queued or runs: nobody waits for it any more."""
        if self._jobs:
            logger.warning("%d jobs of Slurm's are cancelled", len(self._jobs))
            try:
                slurm("scancel", *map(str, self._jobs))
            except SlurmError as error:
                logger.warning("they could not be cancelled: %s", error)


def _exports() -> list[str]:
    """Lines of a batch script that set the same variables as here."""
    return [
        f"export {name}={shlex.quote(os.environ[name])}" for name in EXPORTED if name in os.environ
    ]


def _directives(template: str) -> list[str]:
    """What a batch script's own head asks for."""
    lines = re.findall(r"^#SBATCH\s+(.*)$", template, re.MULTILINE)
    return [argument for line in lines for argument in shlex.split(line, comments=True)]


def _needs(node: Node, asked: Iterable[str], printed: str) -> list[str]:
    """Arguments of sbatch for what was not asked for: memory, threads, where to print."""
    memory_mib = math.ceil((node.mem_gb + WAITING_GB) * MIB_PER_GB)
    needs = {
        ("--mem", "--mem-per-cpu", "--mem-per-gpu"): f"--mem={memory_mib}M",
        ("-c", "--cpus-per-task", "--cpus-per-gpu"): f"--cpus-per-task={node.n_procs}",
        ("-o", "--output"): f"--output={printed}",
    }
    return [
        need for flags, need in needs.items() if not any(_is_one_of(flags, one) for one in asked)
    ]


def _is_one_of(flags: tuple[str, ...], argument: str) -> bool:
    """Whether an argument of sbatch is one of the flags, with its value or before it."""
    return any(
        argument == flag or argument.startswith(f"{flag}=" if flag.startswith("--") else flag)
        for flag in flags
    )


def _told_of(taskid: int) -> dict[str, str]:
    """What Slurm still tells of an ended job, by its own names; empty where it forgot it."""
    try:
        answer = slurm("scontrol", "--oneliner", "show", "job", str(taskid))
    except SlurmError:
        return {}
    return dict(re.findall(r"(\w+)=(\S*)", answer))


def _death(taskid: int, job: _Job, told: dict[str, str]) -> str:
    """What to say of a job that left no result."""
    state = told.get("JobState", "")
    memory, limit = told.get("MinMemoryNode") or told.get("MinMemoryCPU"), told.get("TimeLimit")
    sentence = f"its Slurm job {taskid} ended without a result ({state or 'nobody tells why'})"
    if state == "OUT_OF_MEMORY":
        sentence += f": memory ran out, about {job.node.mem_gb + WAITING_GB:.1f} GB are needed"
        sentence += f" and it had {memory}; ask for more, with --mem in sbatch_args"
    elif state == "TIMEOUT":
        sentence += f": its time of {limit} was up; ask for more, with --time in sbatch_args"
    printed = _last_line(job.script.with_suffix(f".{taskid}.out"))
    return f"{sentence}; it said last: {printed}" if printed else sentence


def _last_line(file: Path) -> str:
    """The end of what a job printed; empty where there is nothing."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
    except OSError:
        return ""


def _failed(node: Node, sentence: str) -> TaskResult:
    """Note why a node failed that could not do so itself, and tell nipype."""
    inputs = node.interface.inputs
    write_note(Path(inputs.notes_dir), inputs.note_name, StageNote(0.0, sentence))
    return {"result": None, "traceback": [f"{sentence}\n"], "hostname": "unknown"}
