"""Runs the cases of a plan; whatever happens to one, it becomes an outcome and the others go on."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bids_deepmrseg.errors import DeepMRSegError
from bids_deepmrseg.files import ABSENT
from bids_deepmrseg.pipeline.claims import CaseClaims, claim_cases
from bids_deepmrseg.pipeline.devices import left_by_workers, workers_of
from bids_deepmrseg.pipeline.ending import RunEndedError, ending_in_order
from bids_deepmrseg.pipeline.environment import NOTES_FOLDER, clean_work_dir, run_folder
from bids_deepmrseg.pipeline.handoff import (
    STAGES,
    locating_case,
    locating_chain,
    node_name,
    read_note,
)
from bids_deepmrseg.pipeline.plugin import read_plugin
from bids_deepmrseg.records import UNTOLD, Case, Outcome, Status
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.describe import write_citations, write_dataset_files
from bids_deepmrseg.stages.status import write_status
from bids_deepmrseg.stages.write import NIFTI_GZ, check_written, derivative_path

logger = logging.getLogger(__name__)

APART = "apart"  # work folder of cases in whose usual folders another run works


@dataclass(frozen=True, slots=True)
class _Stop:
    """Why a graph ended before its end, and whether the whole run was told to."""

    sentence: str
    is_for_good: bool = False


def run(plan: Plan, settings: RunSettings) -> tuple[Outcome, ...]:
    """Run every case of a plan, and write what became of each to ``status.tsv``.

    Parameters
    ----------
    plan
        Cases to run, and what was left out and why.
    settings
        Folders, resources, device.

    Returns
    -------
    tuple
        One outcome per case, in the order of the plan, then those of what was left out. ``done``
        means that the label map is there, was read back, and holds the task's labels only.

    Raises
    ------
    OutputError
        If output or work folder cannot be written, or the output is another program's dataset.
    UsageError
        If ``--use-plugin`` names no usable plugin.
    """
    code_version = version("bids-deepmrseg")
    _describe_output(settings, code_version)
    write_citations(settings.log_dir, code_version=code_version)
    cases = tuple(_absolute(case) for case in plan.cases)
    with (
        run_folder(settings.work_dir, settings.run_id) as folder,
        claim_cases(cases, settings) as claims,
    ):
        write_status((*_untold(cases, claims), *plan.left_out), settings.log_dir)
        outcomes, stop = _run_cases(cases, claims, settings, folder)
        _describe_output(settings, code_version)
        write_status((*outcomes, *plan.left_out), settings.log_dir)
        if settings.clean_workdir and not (stop and stop.is_for_good):
            clean_work_dir(settings.work_dir, tuple(_nodes(claims.shared, settings)))
    return (*outcomes, *plan.left_out)


def _untold(cases: tuple[Case, ...], claims: CaseClaims) -> Iterator[Outcome]:
    """What the table says of a run that is killed outright: it cannot say it itself any more."""
    taken = dict(claims.taken)
    reason = f"{UNTOLD}: if it is not under way any more, it was killed; run the same command again"
    for case in cases:
        yield (
            _row(case, "skipped", taken[case]) if case in taken else _row(case, "failed", reason)
        )


def _run_cases(
    cases: tuple[Case, ...], claims: CaseClaims, settings: RunSettings, folder: Path
) -> tuple[tuple[Outcome, ...], _Stop | None]:
    """Run the cases that no other run works on; what became of each, in their order."""
    notes_dir = folder / NOTES_FOLDER
    elsewhere = replace(settings, work_dir=folder / APART)
    both = ((claims.shared, settings), (claims.apart, elsewhere))
    parts = [(some, of) for some, of in both if some]
    stop = _run_nodes(parts, settings, notes_dir) if parts else None
    taken = dict(claims.taken)
    outcomes = (
        _row(case, "skipped", taken[case])
        if case in taken
        else _outcome(case, settings, notes_dir, stop)
        for case in cases
    )
    return tuple(outcomes), stop


def _describe_output(settings: RunSettings, code_version: str) -> None:
    """Write the shared files of the output dataset."""
    write_dataset_files(
        settings.bids_dir.absolute(),
        settings.output_dir.absolute(),
        code_version=code_version,
        work_dir=settings.work_dir,
    )


def _absolute(case: Case) -> Case:
    """The same case for nodes, which work in folders of their own."""
    scans = tuple(scan.absolute() for scan in case.scans)
    return replace(case, bids_dir=case.bids_dir.absolute(), scans=scans)


def _nodes(cases: tuple[Case, ...], settings: RunSettings) -> dict[str, tuple[Case, str]]:
    """Case and stage of every node of the run, those that only locate places included."""
    nodes = {node_name(case, stage): (case, stage) for case in cases for stage in STAGES}
    for case in cases:
        for locator in locating_chain(case, settings.models_dir):
            nodes.setdefault(node_name(locator, "segment"), (locator, "segment"))
    return nodes


def _run_nodes(
    parts: list[tuple[tuple[Case, ...], RunSettings]], settings: RunSettings, notes_dir: Path
) -> _Stop | None:
    """Run the nipype graphs; the last line of the first thing that went wrong, if anything did.

    The parts of the run are cases with the settings that hold for them: their work folders differ.
    """
    # nipype reads its environment when it is imported, so that has to wait until here
    from bids_deepmrseg.pipeline import workflow as nipype_side  # noqa: PLC0415 - see above

    choice = None if settings.use_plugin is None else read_plugin(settings.use_plugin)
    all_cases = tuple(case for cases, _ in parts for case in cases)
    progress = _progress(_nodes(all_cases, settings), notes_dir)
    batches = [(batch, of) for cases, of in parts for batch in nipype_side.batches(cases, of)]
    stop: _Stop | None = None
    with workers_of(settings, choice) as workers:
        for batch, of in batches:
            workflow = nipype_side.build_workflow(batch, of, notes_dir, workers)
            left = left_by_workers(settings, workers, nipype_side.largest_gb(workflow))
            plugin = nipype_side.make_plugin(left, choice, progress)
            try:
                with ending_in_order():
                    nipype_side.execute(workflow, plugin, verbosity=settings.verbosity)
            except RunEndedError as ended:
                logger.error("%s", ended)  # noqa: TRY400 - the sentence says it all
                return _Stop(str(ended), is_for_good=True)
            except Exception as error:
                logger.debug("nipype ended with an error", exc_info=True)
                sentence = str(error).strip().rpartition("\n")[2]
                stop = stop or _Stop(sentence or type(error).__name__)
                if settings.stop_on_first_crash:
                    break
    return stop


def _progress(nodes: dict[str, tuple[Case, str]], notes_dir: Path) -> Callable[[Any, str], None]:
    """What nipype calls when a node starts and ends: one line per case and stage."""
    failed: set[str] = set()

    def report(node: Any, status: str) -> None:  # noqa: ANN401 - nipype's nodes are untyped
        case, stage = nodes[node.name]
        if status == "start" or case.name in failed:
            return
        note = read_note(notes_dir, node.name)
        if status == "exception":
            failed.add(case.name)
            sentence = None if note is None else note.error
            logger.error("%s: %s failed: %s", case.name, stage, sentence or "see its crash file")
        elif note is None:
            logger.info("%s: %s taken over from the work folder", case.name, stage)
        else:
            logger.info("%s: %s done in %.1f s", case.name, stage, note.duration_s)
            for doubt in note.doubts:
                logger.warning("%s: %s", case.name, doubt)

    return report


def _outcome(case: Case, settings: RunSettings, notes_dir: Path, stop: _Stop | None) -> Outcome:
    """What became of a case: what its nodes noted, checked against what is on the disk."""
    notes = [read_note(notes_dir, node_name(case, stage)) for stage in STAGES]
    errors = [note.error for note in notes if note is not None and note.error is not None]
    errors += _errors_of_locator(case, settings, notes_dir)
    dseg = derivative_path(case, suffix="dseg", extension=NIFTI_GZ)
    status: Status = "failed"
    if errors:
        reason = errors[0]
    elif notes[-1] is not None:
        status, reason = _checked(case, dseg, settings.output_dir)
    elif settings.stop_on_first_crash and stop is not None and not stop.is_for_good:
        status = "skipped"
        reason = "not run: another case failed before, and --stop-on-first-crash was given"
    else:
        why = "no node told why" if stop is None else stop.sentence
        reason = f"it ended without a result: {why}; see the log folder"
    duration_s = sum(note.duration_s for note in notes if note is not None)
    return _row(case, status, reason, duration_s)


def _row(case: Case, status: Status, reason: str, duration_s: float = 0.0) -> Outcome:
    """The outcome of a case that was looked at, not looked for."""
    dseg = derivative_path(case, suffix="dseg", extension=NIFTI_GZ)
    return Outcome(
        participant_id=_labelled(case, "sub"),
        session_id=_labelled(case, "ses"),
        run_id=_labelled(case, "run"),
        source=case.scans[0].relative_to(case.bids_dir).as_posix(),
        task=case.task.name,
        status=status,
        reason=" ".join(reason.replace(f"{case.bids_dir}{os.sep}", "").split()),
        dseg=dseg.as_posix() if status == "done" else ABSENT,
        duration_s=duration_s,
    )


def _errors_of_locator(case: Case, settings: RunSettings, notes_dir: Path) -> list[str]:
    """Why the task that shows where to look could not show it: its own fault, or its locator's."""
    locator = locating_case(case, settings.models_dir)
    if locator is None:
        return []
    note = read_note(notes_dir, node_name(locator, "segment"))
    if note is None:
        reasons = _errors_of_locator(locator, settings, notes_dir)
    else:
        reasons = [] if note.error is None else [note.error]
    shows = f"which shows where {case.task.name} is"
    if case.task.within is not None:
        shows = f"which finds the brain in the {locator.suffix} for {case.task.name}"
    begin = f"{locator.task.name}, {shows}, failed: "
    return [begin + reason for reason in reasons]


def _checked(case: Case, dseg: Path, output_dir: Path) -> tuple[Status, str]:
    """Whether what was said to be written is there."""
    try:
        check_written(case, dseg, output_dir)
    except DeepMRSegError as error:
        return "failed", str(error)
    return "done", ABSENT


def _labelled(case: Case, key: str) -> str:
    """An entity with its prefix, ``n/a`` where the scan's name has none."""
    value = case.entity(key)
    return ABSENT if value is None else f"{key}-{value}"
