"""What the name and place of a scan say, and why a file that looks like one cannot be used."""

import re
from dataclasses import dataclass
from pathlib import PurePath

from bids_validator import BIDSValidator

ENDINGS = (".nii.gz", ".nii")
SIDECARS = (".json", ".tsv", ".txt", ".bval", ".bvec", ".html", ".png", ".svg")

BIDS_NAMES = BIDSValidator()
NOT_BIDS = (
    "its name is not valid BIDS (an entity, or the order of entities); "
    "--skip-bids-validation takes it as it is"
)

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
    lower = name.lower()
    if lower.startswith(".") or lower.endswith(SIDECARS):
        return False
    meant = {suffix.lower(), suffix.lower().removesuffix("w")}
    return not meant.isdisjoint(re.split(r"[_.]", lower))


def why_unusable(path: PurePath, suffix: str, *, skip_validation: bool) -> str | None:
    """Why a file cannot be taken as a scan of that suffix, or ``None`` if it can.

    Parameters
    ----------
    path
        The file, relative to the dataset's root.
    suffix
        Such as ``T1w``.
    skip_validation
        Whether to take names that are not valid BIDS, as long as they can be understood.
    """
    name = parse_name(path.name)
    if why := _why_misspelt(path.name, suffix):
        return why
    if name is None:
        return "a part of its name is not key-value"
    if not name.entities or name.entities[0][0] != "sub":
        return "its name must begin with sub-"
    if path.parts[:-1] != name.folders:
        return f"a file of this name belongs in {'/'.join(name.folders)}/"
    if why := _why_no_scan(name):
        return why
    is_valid = skip_validation or BIDS_NAMES.is_bids(f"/{path.as_posix()}")
    return None if is_valid else NOT_BIDS


def _why_misspelt(file_name: str, suffix: str) -> str | None:
    """What is wrong with the end of a name."""
    stem, ending = split_ending(file_name)
    spelt = stem.rpartition("_")[2]
    if ending not in ENDINGS:
        return f"it ends in {ending or 'nothing'}; only {' and '.join(ENDINGS)} are read"
    return (
        None if spelt == suffix else f"its name must end in _{suffix}{ending}, not {spelt}{ending}"
    )


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
