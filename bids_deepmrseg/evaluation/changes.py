"""What damages to a scan change in its segmentation: a row per structure."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.evaluation.rows import read_records, write_records

UNDAMAGED = "none"
DONE, FAILED = "done", "failed"
YES, NO = "true", "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One structure of one scan after one damage.

    Attributes
    ----------
    task
        Name of the task.
    scan
        Name of the scan.
    damage, severity
        As of :class:`~.damage.Damage`; ``none`` and ``n/a`` for the scan as it is.
    status, reason
        ``done``, or ``failed`` and the sentence that says why.
    index, structure
        The label.
    volume_ml
        On the damaged grid; ``nan`` where the scan failed.
    undamaged_ml
        Of the same structure of the scan as it is.
    change
        ``volume_ml / undamaged_ml - 1``.
    dice
        Of the answer, brought back to the undamaged grid, with the undamaged answer.
    trip_dice
        Of the undamaged answer, taken to the damaged grid and back, with itself: what bringing
        answers back costs alone.
    same
        ``true`` or ``false``: whether the answer brought back is the undamaged one, voxel for
        voxel.
    """

    task: str
    scan: str
    damage: str
    severity: str
    status: str
    reason: str
    index: int
    structure: str
    volume_ml: float
    undamaged_ml: float
    change: float
    dice: float
    trip_dice: float
    same: str

    @property
    def title(self) -> str:
        """Name and severity of the damage."""
        return f"{self.damage} {self.severity}".removesuffix(" n/a")


def write_changes(changes: Iterable[Change], file: Path) -> None:
    """Write a row per structure as TSV."""
    write_records(changes, Change, file)


def read_changes(file: Path) -> tuple[Change, ...]:
    """Read the rows back; raises InputDataError where the file holds none."""
    return read_records(file, Change)
