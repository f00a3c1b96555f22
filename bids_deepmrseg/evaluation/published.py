"""The paper's own numbers (Doshi et al. 2019, arXiv:1907.02110, tables 1 to 3), to stand beside."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bids_deepmrseg.evaluation.rows import read_records

PAPER_TABLES = Path(__file__).resolve().parents[1] / "data" / "paper_tables.tsv"
SIDES = ("Left ", "Right ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One row of the paper for one network, structures named as our label tables name them.

    Attributes
    ----------
    table
        Number of the table in the paper.
    task
        Our task of the same structures and the same kind of data.
    structure
        Without side where the paper does not tell sides apart; ``average`` for its last row.
    network
        ``unet`` or ``deepmrseg``.
    bacc, f1, f2
        Means over subjects; their deviations end in ``_sd``.
    rho_c
        Of volumes over subjects.
    """

    table: int
    task: str
    structure: str
    network: str
    bacc: float
    bacc_sd: float
    f1: float
    f1_sd: float
    f2: float
    f2_sd: float
    rho_c: float


@cache
def published_for(task: str) -> tuple[Published, ...]:
    """The paper's rows for one task, none where it has none."""
    return tuple(row for row in read_records(PAPER_TABLES, Published) if row.task == task)


def published_row(rows: tuple[Published, ...], structure: str, network: str) -> Published | None:
    """The paper's row of a structure: by its full name, or else by its name without a side."""
    of_network = {row.structure: row for row in rows if row.network == network}
    for side in ("", *SIDES):
        if found := of_network.get(structure.removeprefix(side)):
            return found
    return None
