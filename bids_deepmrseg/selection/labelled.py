"""Scans with labels to learn from or to compare with: a raw dataset and its label maps."""

import logging
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.records import Case
from bids_deepmrseg.selection.names import (
    DERIVED,
    ENDINGS,
    ScanName,
    listed,
    parse_name,
    split_ending,
)
from bids_deepmrseg.selection.references import find_label_maps, parse_reference, why_not_wanted
from bids_deepmrseg.selection.scans import without_twins
from bids_deepmrseg.tasks import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledScan:
    """One scan of a person, with what it should be segmented into.

    Attributes
    ----------
    subject
        The person, with ``sub-``; training and test folds are made of persons.
    stem
        Tells the scans of a person apart, such as ``sub-01_run-2``.
    case
        Scans in channel order, without optional ones that are not there; the first one's grid is
        that of the reference.
    reference
        Label map.
    """

    subject: str
    stem: str
    case: Case
    reference: Path


def find_labelled(
    folder: Path,
    task: Task,
    *,
    subjects: tuple[str, ...] = (),
    excluded: tuple[str, ...] = (),
    reference: str = "dseg",
) -> tuple[LabelledScan, ...]:
    """Labelled scans of a dataset, wherever below its root the label maps are.

    Parameters
    ----------
    folder
        Root of a dataset: ``sub-*[/ses-*]/anat`` folders with the scans, and label maps beside
        them or below ``derivatives/``.
    task
        Names the scans' suffixes, and which of them a person may lack.
    subjects
        Only these (with ``sub-``); all where empty.
    excluded
        Never these, such as a test fold.
    reference
        Suffix of the label maps, and entities that their names must have, in any order: ``dseg``,
        ``mask``, ``label-lesion_mask``, ``desc-manual_dseg``.

    Returns
    -------
    tuple
        One for each scan that has a label map, in the order of the maps' paths. Maps whose names
        tell that they are a program's (``seg-``) or on a template's grid (``space-``) are taken
        only where ``reference`` names that entity: nobody should learn from results by accident.

    Raises
    ------
    UsageError
        If nothing is found, a subject that was asked for is not there, it is unclear which scan
        a label map belongs to, or a scan has two.
    """
    wanted = parse_reference(reference)
    for subject in excluded:
        if not (folder / subject).is_dir():
            logger.warning("%s is to be left out, but is not in %s", subject, folder)
    found: dict[Path, LabelledScan] = {}
    passed_over: list[str] = []
    for file, name in find_label_maps(folder, wanted.suffix):
        subject = f"sub-{name.entity('sub')}"
        if subject in excluded or (subjects and subject not in subjects):
            continue
        why = why_not_wanted(name, wanted, task)
        scans = () if why else _scans_of(folder, task, name, file)
        if why or len(scans) < len(task.needed):
            why = why or f"there is no {task.needed[len(scans)]} scan for it"
            passed_over.append(f"{file.relative_to(folder)} is passed over: {why}")
            continue
        labelled = _labelled(folder, task, scans, file)
        if other := found.get(scans[0]):
            raise UsageError(_two_maps(scans[0], other.reference, file, folder))
        found[scans[0]] = labelled
    missing = set(subjects) - {scan.subject for scan in found.values()}
    if missing or not found:
        raise UsageError(_nothing(folder, task, reference, sorted(missing), passed_over))
    for sentence in passed_over:
        logger.warning("%s", sentence)
    return tuple(found.values())


def _two_maps(scan: Path, one: Path, other: Path, folder: Path) -> str:
    """The sentence about two label maps of one scan."""
    return (
        f"{scan.name} has two label maps, {one.relative_to(folder)} and "
        f"{other.relative_to(folder)}; say which by an entity that only one of them has, such as "
        "--reference desc-manual_dseg, or remove one"
    )


def _nothing(
    folder: Path, task: Task, reference: str, missing: list[str], passed_over: list[str]
) -> str:
    """The sentence about labelled scans that are not there."""
    seen = f"; {listed(passed_over, limit=3)}" if passed_over else ""
    return (
        f"{folder} has no labelled scan of {', '.join(missing) or 'anyone'}: it needs "
        f"{' and '.join(task.needed)} scans in sub-*/anat, and a label map "
        f"*_{reference}.nii.gz for each, beside them or below derivatives/{seen}"
    )


def _labelled(folder: Path, task: Task, scans: tuple[Path, ...], reference: Path) -> LabelledScan:
    """The record of scans and their label map."""
    name = parse_name(scans[0].name)
    entities = () if name is None else name.entities
    case = Case(task=task, bids_dir=folder, scans=scans, entities=entities)
    own = tuple((k, v) for k, v in entities if k not in DERIVED)
    stem = "_".join(f"{key}-{value}" for key, value in own)
    return LabelledScan(
        subject=f"sub-{case.entity('sub')}", stem=stem, case=case, reference=reference
    )


def _scans_of(folder: Path, task: Task, labels: ScanName, reference: Path) -> tuple[Path, ...]:
    """Scans of the first channels, in order, up to the first that is not there."""
    scans: list[Path] = []
    for suffix in task.channels:
        scan = _matching(folder, labels, suffix, reference)
        if scan is None:
            break
        scans.append(scan)
    return tuple(scans)


def _matching(folder: Path, labels: ScanName, suffix: str, reference: Path) -> Path | None:
    """The scan of a suffix that a label map was drawn on, ``None`` if there is none.

    Scans of the same subject and session match if no entity that both names have differs; among
    several, the one that shares most, then the one that says least besides.
    """
    wanted = {k: v for k, v in labels.entities if k not in DERIVED}
    candidates = []
    files = folder.joinpath(*labels.folders).glob(f"*_{suffix}.nii*")
    for scan in without_twins([f for f in files if split_ending(f.name)[1] in ENDINGS]):
        name = parse_name(scan.name)
        own = dict(name.entities) if name else {"sub": ""}
        acquired = {k: v for k, v in own.items() if k not in DERIVED}
        if all(wanted.get(key, value) == value for key, value in acquired.items()):
            candidates.append((len(acquired.keys() & wanted.keys()), -len(own), scan))
    best = [c for c in candidates if c[:2] == max(candidates)[:2]]
    if len(best) > 1:
        raise UsageError(
            f"{reference} could belong to {best[0][2].name} or {best[1][2].name}; "
            "give label maps the entities of their scans"
        )
    return best[0][2] if best else None
