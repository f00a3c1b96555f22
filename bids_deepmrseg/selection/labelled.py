"""Scans with labels to learn from or to compare with: a raw dataset and its label maps."""

from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.records import Case
from bids_deepmrseg.selection.names import DERIVED, ScanName, parse_name
from bids_deepmrseg.tasks import Task


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
        Scans in channel order; the first one's grid is that of the reference.
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
        Names the scans' suffixes.
    subjects
        Only these (with ``sub-``); all where empty.
    excluded
        Never these, such as a test fold.
    reference
        How names of label maps end, before ``.nii``: ``dseg``, ``mask``, ``label-lesion_mask``.

    Raises
    ------
    UsageError
        If nothing is found, a subject that was asked for is not there, or it is unclear which
        scan a label map belongs to.
    """
    found = []
    for file in sorted(folder.rglob(f"*_{reference}.nii*")):
        name = parse_name(file.name)
        subject = f"sub-{name.entity('sub')}" if name else ""
        if name is None or subject in excluded or (subjects and subject not in subjects):
            continue
        scans = [_matching(folder, name, suffix, file) for suffix in task.channels]
        known = tuple(scan for scan in scans if scan is not None)
        if len(known) == len(scans):
            found.append(_labelled(folder, task, known, file))
    missing = set(subjects) - {scan.subject for scan in found}
    if missing or not found:
        wanted = ", ".join(sorted(missing)) or "anyone"
        raise UsageError(
            f"{folder} has no labelled scan of {wanted}: it needs "
            f"{' and '.join(task.channels)} scans in sub-*/anat, and a label map "
            f"*_{reference}.nii.gz for each, beside them or below derivatives/"
        )
    return tuple(found)


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


def _matching(folder: Path, labels: ScanName, suffix: str, reference: Path) -> Path | None:
    """The scan of a suffix that a label map was drawn on, ``None`` if there is none.

    Scans of the same subject and session match if no entity that both names have differs; among
    several, the one that shares most.
    """
    wanted = {k: v for k, v in labels.entities if k not in DERIVED}
    candidates = []
    for scan in sorted(folder.joinpath(*labels.folders).glob(f"*_{suffix}.nii*")):
        name = parse_name(scan.name)
        own = {k: v for k, v in name.entities if k not in DERIVED} if name else {"sub": ""}
        if all(wanted.get(key, value) == value for key, value in own.items()):
            candidates.append((len(own.keys() & wanted.keys()), -len(own), scan))
    best = [c for c in candidates if c[:2] == max(candidates)[:2]]
    if len(best) > 1:
        raise UsageError(
            f"{reference} could belong to {best[0][2].name} or {best[1][2].name}; "
            "give label maps the entities of their scans"
        )
    return best[0][2] if best else None
