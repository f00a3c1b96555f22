"""Which scans of a session go together, and what is said where one is lacking."""

from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.selection.folders import (
    AnatFolder,
    describe_folder,
    find_elsewhere,
)
from bids_deepmrseg.selection.names import SIDECARS, listed
from bids_deepmrseg.selection.scans import Scan
from bids_deepmrseg.tasks import Task


@dataclass(frozen=True, slots=True)
class Subject:
    """One participant: its label, its folders of structural scans and its usable scans."""

    label: str
    folders: tuple[AnatFolder, ...]
    scans: tuple[Scan, ...]

    def of_suffix(self, suffix: str) -> list[Scan]:
        """Its scans of one suffix, sorted by name."""
        return [scan for scan in self.scans if scan.name.suffix == suffix]

    def in_folder(self, folder: AnatFolder) -> list[Scan]:
        """Its scans in one of its folders, sorted by name."""
        return [scan for scan in self.scans if scan.path.parent == folder.path]


@dataclass(frozen=True, slots=True)
class Group:
    """The scans of a session that go together for one task.

    Attributes
    ----------
    scans
        In the order of the task's channels, up to the first one that has no scan.
    n_candidates
        For each of them, the number of scans among which it was chosen.
    """

    scans: tuple[Scan, ...]
    n_candidates: tuple[int, ...]


def find_partners(first: Scan, subject: Subject, task: Task) -> Group:
    """Scans of a task's further channels that go with one of its first.

    Parameters
    ----------
    first
        Of the task's first channel.
    subject
        Its participant.
    task
        Gives the channels.

    Notes
    -----
    Candidates are what the session has and nothing leaves out. Taken is the one whose name shares
    most entities with that of ``first`` (of ``run-1`` and ``run-01`` both are the same); of several
    the one with the fewest further entities, so that a scan with contrast agent does not come
    before a plain one; then the first by name.
    """
    scans, n_candidates = [first], [1]
    for channel in task.channels[1:]:
        candidates = [
            scan
            for scan in subject.of_suffix(channel)
            if scan.removed_by is None and scan.session == first.session
        ]
        if not candidates:
            break
        scans.append(max(candidates, key=lambda scan: (first.n_shared(scan), -scan.n_entities)))
        n_candidates.append(len(candidates))
    return Group(tuple(scans), tuple(n_candidates))


def describe_group(group: Group, subject: Subject, task: Task, root: Path) -> str:
    """What users should know of the scans of a case, in words; empty for the plainest case."""
    there = task.channels[: len(group.scans)]
    said = [
        f"{channel} chosen by name from {n}"
        for channel, n in zip(there, group.n_candidates, strict=True)
        if n > 1
    ]
    if len(there) < len(task.channels):
        lacking = task.channels[len(there)]
        why = explain_partner(subject, lacking, group.scans[0].session, root)
        said.append(f"{' and '.join(there)} alone: no {lacking} in the session{why}")
    return "; ".join(said)


def explain_partner(subject: Subject, suffix: str, session: str | None, root: Path) -> str:
    """Why a session that has a task's first scan lacks another: a colon and reasons, or nothing."""
    removed = [
        f"{scan.removed_by} leaves out {scan.path.name}"
        for scan in subject.of_suffix(suffix)
        if scan.session == session
    ]
    others = [
        f"{name} is there"
        for folder in subject.folders
        if folder.session == session
        for name in _other_images(subject, folder)
    ]
    astray = find_elsewhere(root / f"sub-{subject.label}", suffix)
    misplaced = [f"{path.relative_to(root).as_posix()} lies in no anat folder" for path in astray]
    sessions = {scan.session for scan in subject.of_suffix(suffix)} - {session, None}
    away = [f"ses-{one} has one, but sessions are not mixed" for one in sorted(map(str, sessions))]
    why = removed or [*others, *misplaced, *away]
    return f": {listed(why, limit=3)}" if why else ""


def explain_first(subject: Subject, folder: AnatFolder, task: Task) -> str:
    """Why a session is passed over that lacks a task's first scan: short, if it has another."""
    suffixes = {scan.name.suffix for scan in subject.in_folder(folder)}
    present = [channel for channel in task.channels if channel in suffixes]
    if not present:
        return f"no {task.space} scan: {describe_folder(folder)}"
    others = listed(_other_images(subject, folder))
    only = f"no {task.space} scan, only {' and '.join(present)}"
    return f"{only}; {others} cannot be used as one" if others else only


def _other_images(subject: Subject, folder: AnatFolder) -> list[str]:
    """Names of what lies in a folder and is neither a usable scan nor a sidecar."""
    usable = {scan.path.name for scan in subject.in_folder(folder)}
    return [
        name
        for name in folder.names
        if name not in usable and not name.lower().endswith(SIDECARS) and not name.startswith(".")
    ]
