"""Stage 1 of 8: a BIDS dataset becomes a plan, the cases to run and what is left out, and why."""

import logging
import re
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bids.exceptions import BIDSValidationError
from bids.layout import BIDSFile, BIDSLayout, BIDSLayoutIndexer
from bids.layout.validation import validate_root
from sqlalchemy.exc import SQLAlchemyError

from bids_deepmrseg.errors import NothingToDoError, UsageError
from bids_deepmrseg.selection.filters import (
    EntityFilter,
    choose_participants,
    nearest,
    read_filters,
)
from bids_deepmrseg.selection.folders import describe_dataset, find_anat_folders, find_subjects
from bids_deepmrseg.selection.names import ENDINGS, listed, parse_name, why_unusable
from bids_deepmrseg.selection.pairs import Subject
from bids_deepmrseg.selection.plan import Plan, plan_subject, require_cases, row_of_unknown
from bids_deepmrseg.selection.scans import Scan, why_removed, without_twins
from bids_deepmrseg.selection.shards import describe_shard, take_part
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.tasks import Task

__all__ = ["Plan", "discover", "why_idle"]

logger = logging.getLogger(__name__)

DATABASE_FILE = "layout_index.sqlite"


def discover(settings: RunSettings, tasks: tuple[Task, ...]) -> Plan:
    """Find the scans to segment, and explain what is left out.

    Parameters
    ----------
    settings
        Dataset, labels and filters, and which shard of the participants this run takes.
    tasks
        What is to be segmented; every run of every session is taken for each.

    Returns
    -------
    Plan
        Possibly without a single case; what is left out then tells why.

    Raises
    ------
    UsageError
        If the folder is not a BIDS dataset, or the filter file cannot be used.
    NothingToDoError
        If the dataset has no subject, or none of those asked for.

    Notes
    -----
    A task with several channels pairs them within subject and session, never across sessions. Each
    scan of the first channel is a case: of FLAIR and T1w, every FLAIR. Of several candidates for
    another channel the one whose name shares most entities (``acq``, ``run`` ...) with it is
    taken, then the one with the fewest further entities, then the first by name. A scan of another
    channel may go with several. Where an optional channel has no scan, the case runs without;
    where a needed one has none, the session is ``skipped``, or ``failed`` if the task is one of
    ``settings.require``.
    """
    labels, unknown = _choose_subjects(settings)
    suffixes = sorted({channel for task in tasks for channel in task.channels})
    scans = _find_scans(settings, labels, suffixes)
    subjects = [
        Subject(label, find_anat_folders(settings.bids_dir, label), tuple(scans.get(label, ())))
        for label in labels
    ]
    plans = [plan_subject(settings, task, one) for task in tasks for one in subjects]
    rows = [row_of_unknown(task, label, settings.bids_dir) for task in tasks for label in unknown]
    return Plan(
        tuple(case for plan in plans for case in plan.cases),
        (*rows, *(row for plan in plans for row in plan.left_out)),
        tuple(row for plan in plans for row in plan.filtered),
        tuple(remark for plan in plans for remark in plan.remarks),
    )


def why_idle(plan: Plan, settings: RunSettings, tasks: tuple[Task, ...]) -> str | None:
    """Why there is nothing to do, if that is as it may be; ``None`` if there is something.

    A shard to which nothing falls is none to be worried about as long as other shards have work,
    so that is looked for in the whole dataset.

    Raises
    ------
    NothingToDoError
        If there is nothing to do in the whole dataset.
    """
    if settings.num_shards is None or plan.is_of_use:
        require_cases(plan, settings)
        return None
    whole = discover(replace(settings, num_shards=None, shard_index=None), tasks)
    require_cases(whole, settings)
    what = "has no scan that can be segmented" if plan.left_out else "has no participant"
    rest = f"the other shards have {len(whole.cases)} cases to run"
    return f"{describe_shard(settings)} {what}; {rest}"


def _choose_subjects(settings: RunSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Participants to look at, and those asked for that are not there, of this run's shard.

    What is wrong with the whole selection is an error in every shard; what is only to be known
    of it is told by the first.
    """
    root = settings.bids_dir
    if not root.is_dir():
        raise UsageError(
            f"the dataset {root} is not a folder that this program can see; check the path, and in "
            "a container that it is mounted (docker -v, apptainer -B)"
        )
    known = find_subjects(root)
    if not known:
        raise NothingToDoError(f"{root} has no sub-* folder, {describe_dataset(root)}")
    excluded = settings.exclude_participant_labels
    for label in () if settings.shard_index else sorted(set(excluded) - set(known)):
        logger.warning("--exclude-participant-label %s: there is no sub-%s", label, label)
    chosen, unknown = choose_participants(known, settings.participant_labels, excluded)
    if not chosen:
        wanted = listed([f"sub-{label}" for label in settings.participant_labels])
        raise NothingToDoError(
            f"{root} holds none of the participants asked for ({wanted or 'all are excluded'}); "
            f"it has {listed([f'sub-{label}' for label in known])}"
        )
    mine = set(take_part((*chosen, *unknown), settings))
    return (
        tuple(label for label in chosen if label in mine),
        tuple(label for label in unknown if label in mine),
    )


def _find_scans(
    settings: RunSettings, labels: Sequence[str], suffixes: Sequence[str]
) -> dict[str, list[Scan]]:
    """The usable scans of every participant, by label, sorted by name."""
    try:
        validate_root(settings.bids_dir, validate=not settings.skip_bids_validation)
    except BIDSValidationError as error:
        raise UsageError(
            f"{settings.bids_dir} is not a BIDS dataset: {str(error).splitlines()[0]} "
            "Add what is missing, or go on without with --skip-bids-validation"
        ) from error
    layout = _open_layout(settings, labels, suffixes)
    filters = _read_filters(settings, suffixes, layout)
    files = _query(layout, settings, suffixes)
    scans: dict[str, list[Scan]] = {}
    for path in without_twins(files):
        name = parse_name(path.name)
        if name is None:
            continue
        entities = files[path].get_entities() if filters else {}
        tags = {key: str(value) for key, value in entities.items()}
        removed_by = why_removed(name, tags, settings.session_labels, filters)
        scan = Scan(path=path, name=name, removed_by=removed_by)
        scans.setdefault(scan.subject, []).append(scan)
    return scans


def _read_filters(
    settings: RunSettings, suffixes: Sequence[str], layout: BIDSLayout
) -> tuple[EntityFilter, ...]:
    """The filters of the filter file, all of them on entities that file names can have."""
    if settings.bids_filter_file is None:
        return ()
    filters = read_filters(settings.bids_filter_file, suffixes)
    known = list(layout.get_entities())
    for one in filters:
        if one.entity not in known:
            raise UsageError(
                f"--bids-filter-file {settings.bids_filter_file} names the entity {one.entity!r}, "
                f"which no file name can have; the nearest is {nearest(one.entity, known)[0]!r}"
            )
    return filters


def _query(
    layout: BIDSLayout, settings: RunSettings, suffixes: Sequence[str]
) -> dict[Path, BIDSFile]:
    """Indexed files that can be used, by path relative to the dataset's root."""
    files = layout.get(
        datatype="anat", suffix=list(suffixes), extension=list(ENDINGS), invalid_filters="allow"
    )
    by_path = {Path(file.path).relative_to(layout.root): file for file in files}
    return {path: file for path, file in by_path.items() if _is_usable(path, suffixes, settings)}


def _open_layout(
    settings: RunSettings, labels: Sequence[str], suffixes: Sequence[str]
) -> BIDSLayout:
    """An index that holds at least the structural scans of the participants.

    A shard uses a saved index, but makes none: all shards would then index the whole dataset.
    """
    folder = settings.bids_database_dir
    if folder is None:
        return _index(settings, labels)
    saved = _open_saved(folder)
    if saved is None or Path(saved.root) != settings.bids_dir.absolute():
        may_replace = saved is None
        logger.warning("%s holds no index of this dataset; it is indexed now", folder)
    elif changes := _changes(saved, settings, labels, suffixes):
        may_replace = all(Path(file).parent.name == "anat" for file in saved.files)
        logger.warning(
            "the index in %s is out of date (%d scans came or went, such as %s); the dataset is "
            "indexed anew",
            folder,
            len(changes),
            changes[0],
        )
    else:
        return saved
    if settings.num_shards is not None:
        return _index(settings, labels)
    layout = _index(settings, find_subjects(settings.bids_dir))
    if may_replace and not settings.dry_run:
        _save(layout, folder)
    return layout


def _index(settings: RunSettings, labels: Sequence[str]) -> BIDSLayout:
    """Index the structural scans of some participants, and nothing else."""
    ignore = (
        rf"^/(?!sub-({'|'.join(map(re.escape, labels))})(/|$))",
        r"^/sub-[^/]+/(?!(anat|ses-[^/]+)(/|$))",
        r"^/sub-[^/]+/ses-[^/]+/(?!anat(/|$))",
        r"/anat/(?!.*\.nii(\.gz)?$)",
    )
    indexer = BIDSLayoutIndexer(
        validate=False, ignore=[re.compile(one) for one in ignore], index_metadata=False
    )
    return BIDSLayout(settings.bids_dir, validate=False, indexer=indexer)


def _open_saved(folder: Path) -> BIDSLayout | None:
    """The index that was saved in a folder; ``None`` where there is none that can be read."""
    if not (folder / DATABASE_FILE).is_file():
        return None
    try:
        return BIDSLayout(database_path=folder, validate=False)
    except (SQLAlchemyError, ValueError) as error:
        logger.warning("the index in %s cannot be used: %s", folder, str(error).splitlines()[0])
        return None


def _changes(
    saved: BIDSLayout, settings: RunSettings, labels: Sequence[str], suffixes: Sequence[str]
) -> list[Path]:
    """Scans of the participants that are only on the disk, or only in the index."""
    on_disk = {
        folder.path / name
        for label in labels
        for folder in find_anat_folders(settings.bids_dir, label)
        for name in folder.names
        if _is_usable(folder.path / name, suffixes, settings)
    }
    roots = {f"sub-{label}" for label in labels}
    indexed = {path for path in _query(saved, settings, suffixes) if path.parts[0] in roots}
    return sorted(on_disk ^ indexed)


def _save(layout: BIDSLayout, folder: Path) -> None:
    """Save an index in one step, so that other jobs never see half of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            layout.save(partial, replace_connection=False)
            Path(partial, DATABASE_FILE).replace(folder / DATABASE_FILE)
    except (OSError, sqlite3.Error) as error:
        logger.warning("the index cannot be saved in %s (%s); the run goes on", folder, error)


def _is_usable(path: Path, suffixes: Sequence[str], settings: RunSettings) -> bool:
    """Whether a file is a scan of one of the suffixes."""
    skip = settings.skip_bids_validation
    return any(why_unusable(path, suffix, skip_validation=skip) is None for suffix in suffixes)
