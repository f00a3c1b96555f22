"""Which run works on what: no two at the same time on the same scan and task, or in one folder."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bids_deepmrseg.derivatives import NIFTI_GZ, derivative_path
from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import delete_partials, write_text
from bids_deepmrseg.locks import Locks
from bids_deepmrseg.pipeline.environment import WORKFLOW_NAME
from bids_deepmrseg.pipeline.handoff import locating_chain, node_name
from bids_deepmrseg.records import WORKED_ON, Case
from bids_deepmrseg.settings import RunSettings

logger = logging.getLogger(__name__)

LIFE = "run "  # before the name of a run: the lock that it holds as long as it lives
RECORD = ".txt"


@dataclass(frozen=True, slots=True)
class CaseClaims:
    """Cases of a run, by what other runs leave to it.

    Attributes
    ----------
    shared
        Those that it works on in the work folder, where a later run finds what is done.
    apart
        Those in whose folders there another run works, such as one of another task that is located
        by the same one: they get folders of their own.
    taken
        Those that another run works on, with a sentence that names it.
    """

    shared: tuple[Case, ...]
    apart: tuple[Case, ...]
    taken: tuple[tuple[Case, str], ...]


@contextmanager
def claim_cases(cases: tuple[Case, ...], settings: RunSettings) -> Iterator[CaseClaims]:
    """Keep other runs from the cases that this one works on, until it ends or dies.

    Files that runs which were killed had begun to write among the results of these cases are
    deleted.

    Parameters
    ----------
    cases
        What is to be run.
    settings
        Output and work folder, and the name of the run.
    """
    results = [_result(case) for case in cases]
    root = settings.work_dir.absolute() / WORKFLOW_NAME
    with _claimed(settings.output_dir.absolute(), results, settings.run_id) as in_output:
        taken = {
            case: _sentence(in_output.others[result])
            for case, result in zip(cases, results, strict=True)
            if result in in_output.others
        }
        mine = {case: _folders(case, settings) for case in cases if case not in taken}
        if in_output.works:
            _delete_unfinished(tuple(mine), in_output.ended, settings)
        folders = [name for names in mine.values() for name in names]
        with _claimed(root, folders, settings.run_id) as in_work:
            shared = tuple(case for case in mine if in_work.others.keys().isdisjoint(mine[case]))
            apart = tuple(case for case in mine if case not in shared)
            if apart:
                logger.info(
                    "cases with work folders of their own, for other runs use theirs: %d",
                    len(apart),
                )
            yield CaseClaims(shared, apart, tuple(taken.items()))


def _result(case: Case) -> str:
    """What is written last of a case; no two cases share it."""
    return derivative_path(case, suffix="dseg", extension=NIFTI_GZ).as_posix()


def _sentence(run_id: str) -> str:
    """Why a case is left to another run."""
    return f"{WORKED_ON} (logs/{run_id})" if run_id else WORKED_ON


def _folders(case: Case, settings: RunSettings) -> tuple[str, ...]:
    """What a case is segmented in, and what it is located in."""
    chain = (case, *locating_chain(case, settings.models_dir))
    return tuple(node_name(one, "segment") for one in chain)


def _delete_unfinished(
    cases: tuple[Case, ...], ended: tuple[str, ...], settings: RunSettings
) -> None:
    """Delete files that killed runs had begun to write: those of our cases, and in their logs."""
    for case in cases:
        for folder in ("anat", "figures"):
            result = derivative_path(case, suffix="dseg", extension=NIFTI_GZ, folder=folder)
            delete_partials(settings.output_dir / result.parent, partial(_is_of, case))
    for run_id in ended:
        delete_partials(settings.log_dir.with_name(run_id), lambda _: True)


def _is_of(case: Case, name: str) -> bool:
    """Whether a file is one of the results of a case, going by its name."""
    first = derivative_path(case, suffix="", extension="").name.partition("_space-")[0]
    if name.startswith(f"{case.stem}_from-"):
        return len(case.task.channels) > 1
    task = case.task.name
    named = f"_seg-{task}_" in name or f"_desc-{task}_" in name
    return name.startswith(f"{first}_space-") and named


@dataclass(frozen=True, slots=True)
class _Claims:
    """What became of the wish to have some names for oneself.

    Attributes
    ----------
    works
        Whether the file system knows locks; without them everything is granted.
    others
        Names that other runs hold, each with the run's name, empty where that cannot be told.
    ended
        Runs that were killed: they hold nothing any more.
    """

    works: bool
    others: Mapping[str, str]
    ended: tuple[str, ...] = ()


@contextmanager
def _claimed(folder: Path, names: Iterable[str], run_id: str) -> Iterator[_Claims]:
    """Hold those of the names in a folder that no other run holds."""
    wanted = tuple(dict.fromkeys(names))
    with Locks(folder) as locks:
        if not locks.works:
            logger.warning(
                "no file can be locked in %s: see to it that no two runs work on the same scans at "
                "once",
                folder,
            )
            yield _Claims(works=False, others={})
            return
        locks.take(LIFE + run_id)
        record = locks.folder / (run_id + RECORD)
        try:
            ended = tuple(_bury(locks, run_id))
            _write_record(record, wanted)
            held = frozenset(name for name in wanted if not locks.take(name))
            if held:
                _write_record(record, tuple(name for name in wanted if name not in held))
            yield _Claims(works=True, others=_holders(locks, held, run_id), ended=ended)
        finally:
            with suppress(OSError):
                record.unlink()


def _write_record(record: Path, names: tuple[str, ...]) -> None:
    """Let others know who holds what: locks themselves do not tell."""
    with suppress(OutputError):
        write_text(record, "\n".join(names) + "\n")


def _bury(locks: Locks, run_id: str) -> Iterator[str]:
    """Names of the runs that have ended without a word; their records are deleted."""
    for record in sorted(locks.folder.glob(f"*{RECORD}")):
        if record.stem != run_id and locks.take(LIFE + record.stem):
            record.unlink(missing_ok=True)
            locks.give_back(LIFE + record.stem)
            yield record.stem


def _holders(locks: Locks, held: frozenset[str], run_id: str) -> dict[str, str]:
    """For each name the run that holds it, the earliest of those that say so."""
    holders = dict.fromkeys(held, "")
    for record in sorted(locks.folder.glob(f"*{RECORD}"), reverse=True) if held else ():
        with suppress(OSError):
            names = record.read_text(encoding="utf-8").splitlines()
            if record.stem != run_id:
                holders.update(dict.fromkeys(held.intersection(names), record.stem))
    return holders
