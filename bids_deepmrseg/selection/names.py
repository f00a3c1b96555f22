"""What the name and place of a scan say, and why a file that looks like one cannot be used."""

import re
from dataclasses import dataclass
from pathlib import PurePath

ENDINGS = (".nii.gz", ".nii")
SIDECARS = (".json", ".tsv", ".txt", ".bval", ".bvec", ".html", ".png", ".svg")

# Entities of results, not of scans as acquired; our own results add some of them.
DERIVED = frozenset({"space", "res", "den", "label", "seg", "desc", "atlas", "hemi"})


@dataclass(frozen=True, slots=True)
class ScanName:
    """A BIDS file name taken apart.

    Attributes
    ----------
    entities
        Key and value of every part, as spelt and in the order of the name.
    suffix
        What is measured, such as ``T1w``.
    """

    entities: tuple[tuple[str, str], ...]
    suffix: str

    def entity(self, key: str) -> str | None:
        """Value of one entity, ``None`` where absent."""
        return dict(self.entities).get(key)

    @property
    def folders(self) -> tuple[str, ...]:
        """Where BIDS puts a structural scan of this name, below the dataset's root."""
        levels = ((key, self.entity(key)) for key in ("sub", "ses"))
        return (*(f"{key}-{value}" for key, value in levels if value is not None), "anat")


def split_ending(name: str) -> tuple[str, str]:
    """A file name before and from its ending, where ``.nii.gz`` is one ending."""
    for ending in ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    stem, dot, rest = name.partition(".")
    return stem, dot + rest


def parse_name(name: str) -> ScanName | None:
    """Take a file name apart; ``None`` if a part of it is not ``key-value``."""
    *parts, suffix = split_ending(name)[0].split("_")
    pairs = [re.fullmatch(r"([a-zA-Z]+)-([0-9A-Za-z+]+)", part) for part in parts]
    entities = tuple((pair[1], pair[2]) for pair in pairs if pair is not None)
    if len(entities) < len(parts) or len(dict(entities)) < len(parts):
        return None
    return ScanName(entities, suffix)


def looks_like(name: str, suffix: str) -> bool:
    """Whether a file may have been meant as an image of that suffix, however it is spelt."""
    if name.startswith(".") or name.lower().endswith(SIDECARS):
        return False
    return re.search(rf"(^|[^a-z0-9]){suffix}([^a-z0-9]|$)", name, re.IGNORECASE) is not None


def why_unusable(path: PurePath, suffix: str) -> str | None:
    """Why a file cannot be taken as a scan of that suffix, or ``None`` if it can.

    Parameters
    ----------
    path
        The file, relative to the dataset's root.
    suffix
        Such as ``T1w``.
    """
    stem, ending = split_ending(path.name)
    spelt = stem.rpartition("_")[2]
    name = parse_name(path.name)
    if ending not in ENDINGS:
        return f"it ends in {ending or 'nothing'}; only {' and '.join(ENDINGS)} are read"
    if spelt != suffix:
        same = spelt.lower() == suffix.lower()
        return f"{'the suffix' if same else 'its last part'} must be {suffix}, not {spelt}"
    if name is None:
        return "a part of its name is not key-value"
    if not name.entities or name.entities[0][0] != "sub":
        return "its name must begin with sub-"
    if path.parts[:-1] != name.folders:
        return f"a file of this name belongs in {'/'.join(name.folders)}/"
    return _why_no_scan(name)


def _why_no_scan(name: ScanName) -> str | None:
    """Why a well-placed image is none that a network could segment."""
    if derived := [key for key, _ in name.entities if key in DERIVED]:
        return f"{', '.join(derived)} in its name makes it a derivative, not a scan as acquired"
    part = name.entity("part")
    if part not in (None, "mag"):
        return f"part-{part} shows no anatomy; only magnitude images are segmented"
    return None


def listed(names: list[str], *, limit: int = 5) -> str:
    """Names for a sentence; after ``limit`` of them only how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
