"""What a segmentation said of its own quality, beside how good it was: a row per structure."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.evaluation.rows import read_records, write_records
from bids_deepmrseg.files import ABSENT

UNDAMAGED = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One structure of one scan, as scanned or damaged, by networks that never saw the person.

    Attributes
    ----------
    task, repeat, fold
        Whose networks they were.
    subject, scan
        As in results: the person, and which of their scans.
    damage, severity
        ``none`` and ``n/a`` for the scan as it is.
    index, structure
        The label.
    agreement, soft_dice, border_entropy_bits
        As in :class:`~bids_deepmrseg.records.Certainty`; ``nan`` where the scan was refused.
    dice
        With the reference; 0 where the scan was refused, ``nan`` where neither shows the structure.
    volume_ml, reference_volume_ml
        Millilitres.
    refused
        Why the app refused to segment the scan; ``n/a`` where it did not.
    """

    task: str
    repeat: int
    fold: int
    subject: str
    scan: str
    damage: str
    severity: str
    index: int
    structure: str
    agreement: float
    soft_dice: float
    border_entropy_bits: float
    dice: float
    volume_ml: float
    reference_volume_ml: float
    refused: str

    @property
    def case(self) -> tuple[str, ...]:
        """What tells one damaged scan of one fold from others."""
        return (str(self.repeat), str(self.fold), self.scan, self.damage, self.severity)

    @property
    def is_damaged(self) -> bool:
        """Whether the scan was made worse than it was."""
        return self.damage != UNDAMAGED

    @property
    def is_refused(self) -> bool:
        """Whether the app itself said that it cannot segment the scan."""
        return self.refused != ABSENT


def write_judged(rows: Iterable[Judged], file: Path) -> None:
    """Write rows as TSV."""
    write_records(rows, Judged, file)


def read_judged(file: Path) -> tuple[Judged, ...]:
    """Read rows back; raises InputDataError where the file holds none."""
    return read_records(file, Judged)
