"""What lies in the folders of a dataset, seen by a plain look at the disk."""

import os
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.files import may_be_read
from bids_deepmrseg.selection.names import listed, looks_like


@dataclass(frozen=True, slots=True)
class AnatFolder:
    """One folder of structural scans.

    Attributes
    ----------
    path
        Relative to the dataset's root.
    session
        Label without ``ses-``; ``None`` where the subject has no sessions.
    names
        Names of what lies in it, sorted.
    """

    path: Path
    session: str | None
    names: tuple[str, ...]


def find_subjects(bids_dir: Path) -> tuple[str, ...]:
    """Labels of the subject folders, without ``sub-``, sorted."""
    folders = (path for path in bids_dir.glob("sub-*") if path.is_dir())
    return tuple(sorted(path.name.removeprefix("sub-") for path in folders))


def find_anat_folders(bids_dir: Path, subject: str) -> tuple[AnatFolder, ...]:
    """The folders of structural scans of one subject; folders that may not be read look empty."""
    root = bids_dir / f"sub-{subject}"
    paths = [*root.glob("anat"), *sorted(root.glob("ses-*/anat"))]
    return tuple(
        AnatFolder(
            path.relative_to(bids_dir),
            None if path.parent == root else path.parent.name.removeprefix("ses-"),
            tuple(sorted(entry.name for entry in path.glob("*"))),
        )
        for path in paths
    )


def describe_subject(bids_dir: Path, subject: str, suffix: str) -> str:
    """What is there of a subject that has no usable scan, in words."""
    root = bids_dir / f"sub-{subject}"
    if not may_be_read(root):
        return f"sub-{subject}/ may not be read by this user"
    if elsewhere := find_elsewhere(root, suffix):
        files = listed([path.relative_to(bids_dir).as_posix() for path in elsewhere])
        return f"{files} would have to lie in an anat folder"
    if folders := find_anat_folders(bids_dir, subject):
        return "; ".join(describe_folder(folder) for folder in folders)
    there = sorted(path.name for path in root.glob("*"))
    return f"sub-{subject}/ has no anat folder; it holds {listed(there) or 'nothing'}"


def describe_folder(folder: AnatFolder) -> str:
    """What lies in a folder, in words."""
    return f"{folder.path.as_posix()} holds {listed(list(folder.names)) or 'nothing'}"


def find_elsewhere(root: Path, suffix: str) -> list[Path]:
    """Files below a subject's folder, outside ``anat``, that may have been meant as scans."""
    return sorted(
        Path(folder, name)
        for folder, _, names in os.walk(root)
        if Path(folder).name != "anat"
        for name in names
        if looks_like(name, suffix)
    )


def describe_dataset(bids_dir: Path) -> str:
    """What lies in a folder that has no subjects, in words."""
    entries = sorted(path for path in bids_dir.glob("*") if not path.name.startswith("."))
    if within := [path.name for path in entries if (path / "dataset_description.json").is_file()]:
        return f"but there is a dataset in its subfolder {listed(within)}: give that one"
    if unprefixed := [path.name for path in entries if any(path.glob("**/anat"))]:
        return f"but {listed(unprefixed)} without the prefix sub-: rename as BIDS asks"
    names = listed([path.name for path in entries])
    return f"it holds {names}" if names else "it is empty; in a container, is it mounted?"
