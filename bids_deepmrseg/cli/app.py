"""``bids-deepmrseg``: flags become settings, settings become one call, outcomes an exit code."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bids_deepmrseg.cli.parser import DEFAULT_WORK_FOLDER, PROG, parse, read_command
from bids_deepmrseg.cli.slurm_flags import WRITE
from bids_deepmrseg.errors import DeepMRSegError, FileSystemError, UsageError, WeightsError
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.taskfiles import find_locator, find_model_folder, find_tasks, has_weights
from bids_deepmrseg.tasks import Task

logger = logging.getLogger(__name__)

EX_SOME_FAILED = 1
EX_INTERRUPTED = 130  # what shells report after Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run the app.

    Parameters
    ----------
    argv
        Arguments without the program's name; ``None`` for those of the process.

    Returns
    -------
    int
        0 if every case is done or skipped, 1 if a case failed, and the exit code of the error's
        class if the run could not start.
    """
    try:
        with _disk_in_words():
            return _do(sys.argv[1:] if argv is None else argv)
    except DeepMRSegError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        return EX_INTERRUPTED


def _do(given: Sequence[str]) -> int:
    """Do what the flags ask for."""
    if parse(given)[WRITE] is not None:
        return _write_array(given)
    settings, device = read_command(given)
    if settings.analysis_level == "group":
        return _group(settings)
    return _print_plan(settings) if settings.dry_run else _participant(settings, device)


@contextlib.contextmanager
def _disk_in_words() -> Iterator[None]:
    """Make a sentence of what the file system refuses where nobody had a better one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        told = f"{error.filename}: {error.strerror}, for user {os.geteuid()}"
        raise FileSystemError(f"{told}; check its permissions and the disk") from error


def entry() -> None:
    """Run the app and end the process with its exit code."""
    sys.exit(main())


def choose_tasks(settings: RunSettings) -> tuple[Task, ...]:
    """The tasks asked for, or all that have weights.

    Raises
    ------
    UsageError
        If there is no task of a name that was asked for, one is required that is not to run, or
        the task that would show it where to look cannot do so.
    WeightsError
        If a task that was asked for, or one of those that locate it, has no weights.
    """
    tasks = {task.name: task for task in find_tasks(settings.models_dir)}
    _check_names(settings, tuple(tasks))
    lacking = {name: _without_weights(tasks[name], settings) for name in settings.tasks or tasks}
    able = tuple(tasks[name] for name, folders in lacking.items() if not folders)
    asked = settings.tasks or settings.require or (() if able else tuple(tasks))
    for name in asked:
        if folders := lacking[name]:
            raise WeightsError(f"task {name} cannot run: there are no weights in {folders[0]}")
    return able


def _check_names(settings: RunSettings, known: tuple[str, ...]) -> None:
    """Refuse names that no task has, and required tasks that would not run."""
    for flag, names in (("", settings.tasks), (" that --require could name", settings.require)):
        if unknown := [name for name in names if name not in known]:
            raise UsageError(
                f"there is no task {unknown[0]!r}{flag}; known tasks: {', '.join(known)}"
            )
    left_out = [name for name in settings.require if settings.tasks and name not in settings.tasks]
    if left_out:
        raise UsageError(
            f"--require names {left_out[0]}, but --task asks for {', '.join(settings.tasks)} only; "
            "name it there too, or leave --task away"
        )


def _without_weights(task: Task, settings: RunSettings) -> tuple[Path, ...]:
    """Model folders that a task needs and that hold no weights."""
    needed: list[Task] = []
    further: Task | None = task
    while further is not None:
        needed.append(further)
        further = find_locator(further, settings.models_dir)
    folders = (find_model_folder(one, settings.models_dir) for one in needed)
    return tuple(folder for folder in folders if not has_weights(folder))


def _write_array(argv: Sequence[str]) -> int:
    """Write the scripts of an array job, and say what to do with them."""
    from bids_deepmrseg.cli.runlog import logging_to
    from bids_deepmrseg.pipeline.environment import name_home
    from bids_deepmrseg.stages.describe import check_ours

    name_home()
    from bids_deepmrseg.cli.slurm import read_array, write_array

    array = read_array(argv)
    check_ours(array.settings.output_dir)
    with logging_to(None, verbosity=array.settings.verbosity):
        for line in write_array(array, choose_tasks(array.settings)):
            print(line)
    return os.EX_OK


def _group(settings: RunSettings) -> int:
    """Gather the tables of all participants."""
    from bids_deepmrseg.cli.runlog import logging_to
    from bids_deepmrseg.stages.aggregate import aggregate

    if settings.dry_run:
        raise UsageError("--dry-run tells of scans; it goes with the participant level only")
    with logging_to(None, verbosity=settings.verbosity):
        for table in aggregate(settings.output_dir):
            print(table)
    return os.EX_OK


def _print_plan(settings: RunSettings) -> int:
    """Print what would run and why the rest is left out; write nothing."""
    from bids_deepmrseg.cli.runlog import logging_to
    from bids_deepmrseg.pipeline.environment import name_home
    from bids_deepmrseg.selection.plan import PLAN_COLUMNS

    name_home()
    from bids_deepmrseg.stages.discover import discover, why_idle

    tasks = choose_tasks(settings)
    with logging_to(None, verbosity=settings.verbosity):
        plan = discover(settings, tasks)
    rows = [PLAN_COLUMNS, *plan.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(f"{len(plan.cases)} to run, {len(plan.left_out) + len(plan.filtered)} left out")
    if idle := why_idle(plan, settings, tasks):
        print(idle)
    return os.EX_OK


def _participant(settings: RunSettings, device: str) -> int:
    """Segment scans; from the first look at the dataset on, errors also go to the log file."""
    from bids_deepmrseg.cli.runlog import logging_to
    from bids_deepmrseg.stages.describe import check_ours
    from bids_deepmrseg.stages.segment import pick_devices

    tasks = choose_tasks(settings)
    settings = replace(settings, device=",".join(pick_devices(device)))
    check_ours(settings.output_dir)
    with logging_to(settings.log_dir, verbosity=settings.verbosity):
        try:
            with _disk_in_words():
                return _segment_all(settings, tasks)
        except DeepMRSegError as error:
            logger.error("%s", error)  # noqa: TRY400 - the sentence says it; a traceback hides it
            return error.exit_code


def _segment_all(settings: RunSettings, tasks: tuple[Task, ...]) -> int:
    """Discover, run, report."""
    from bids_deepmrseg.cli.outcomes import report
    from bids_deepmrseg.cli.runlog import write_run_files
    from bids_deepmrseg.pipeline.environment import run_folder

    write_run_files(settings)
    with contextlib.ExitStack() as at_end:
        if settings.work_dir == settings.output_dir / DEFAULT_WORK_FOLDER:
            at_end.callback(_delete_empty, settings.work_dir)
        at_end.enter_context(run_folder(settings.work_dir, settings.run_id))
        # libraries look for places to write to when they are imported
        from bids_deepmrseg.pipeline.graph import run
        from bids_deepmrseg.stages.discover import discover, why_idle

        plan = discover(settings, tasks)
        logger.info("cases to run: %d, on %s", len(plan.cases), settings.device)
        for remark in plan.remarks:
            logger.info("%s: %s", remark.case.name, remark.sentence)
        outcomes = run(plan, settings)
    report(outcomes, settings)
    if idle := why_idle(plan, settings, tasks):
        logger.info("%s", idle)
    failed = any(one.status == "failed" for one in outcomes)
    return EX_SOME_FAILED if failed else os.EX_OK


def _delete_empty(folder: Path) -> None:
    """Delete a folder unless something is in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()
