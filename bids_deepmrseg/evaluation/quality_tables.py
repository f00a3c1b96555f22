"""Markdown on how well figures of quality tell good segmentations from bad ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.evaluation.calibration import (
    WORSE_BY,
    Predicted,
    Reference,
    best_margin,
    correlation,
    known_rows,
    of_cases,
    predict_held_out,
    references_of,
    references_of_results,
)
from bids_deepmrseg.evaluation.judged import Judged, read_judged
from bids_deepmrseg.evaluation.results import read_results
from bids_deepmrseg.evaluation.tables import markdown
from bids_deepmrseg.files import ABSENT
from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task
from bids_deepmrseg.tasks import Task

QUALITY = "_quality"  # ends the names of such tables: <task>_quality.tsv
CROSSVAL = "_crossval"  # and of the one beside it that has the volumes of all training data
FAILED_BELOW = 0.5  # true Dice; such failures alone make any correlation high
ALL = "all structures"
CASES = "mean of a case"
MERIT = (
    "structure",
    "rows",
    "r",
    "rho",
    "r, undamaged",
    "r, damaged",
    "r, Dice from 0.5",
    "bad: Dice below",
    "flagged: predicted below",
    "bad ones flagged",
    "good ones flagged",
)
DAMAGES = ("damage", "scans", "median Dice", "median predicted", "bad cases", "flagged cases")


@dataclass(frozen=True, slots=True, eq=False)
class Studied:
    """Everything that the table of one task's judged scans holds.

    Attributes
    ----------
    task
        What was segmented.
    rows
        Every row of the table.
    references
        Volumes of training data.
    structures, cases
        What people's structures and cases were predicted to be by a fit to all other people.
    """

    task: Task
    rows: tuple[Judged, ...]
    references: tuple[Reference, ...]
    structures: tuple[Predicted, ...]
    cases: tuple[Predicted, ...]


def study(file: Path, *, folder: Path | None = None) -> Studied:
    """Predict every person of a table by all the others.

    Parameters
    ----------
    file
        ``<task>_quality.tsv``, or a part of it. Where ``<task>_crossval.tsv`` lies beside it, usual
        volumes are those of all scans in there; else of the scans in the table.
    folder
        Model folder of the task; that of the package where ``None``.

    Raises
    ------
    InputDataError
        If the table holds nothing, or several tasks.
    UsageError
        If it holds too few people.
    """
    rows = read_judged(file)
    names = sorted({row.task for row in rows})
    if len(names) != 1:
        raise InputDataError(f"{file} is about {', '.join(names) or 'no task'}, not about one task")
    task = read_task((folder or find_named_model_folder(names[0])) / TASK_FILE)
    beside = file.with_name(f"{task.name}{CROSSVAL}.tsv")
    references = (
        references_of_results(read_results(beside), task)
        if beside.is_file()
        else references_of(rows)
    )
    structures = predict_held_out(known_rows(rows), references, task)
    return Studied(task, rows, references, structures, of_cases(structures))


def stands_on(studied: Studied) -> str:
    """One sentence on people, scans and damages, and how far prediction and truth agree."""
    pearson, spearman = correlation(studied.structures)
    cases = {row.case for row in studied.rows}
    damaged = {row.case for row in studied.rows if row.is_damaged}
    refused = {row.case for row in studied.rows if row.is_refused}
    people = {row.subject for row in studied.rows}
    volumes = f"usual volumes are those of {len(studied.references)} scans"
    return (
        f"{len(people)} people, {len(cases)} scans, {len(damaged)} of them damaged; {len(refused)} "
        f"were refused by the app itself and are left out; predicted and true Dice of people whom "
        f"the fit did not see correlate with r = {pearson:.3f} (Spearman {spearman:.3f}); {volumes}"
    )


def quality_text(studied: Studied) -> str:
    """Both tables of a task, each with its sentence."""
    above = (
        f"{stands_on(studied)}. Every person was predicted by a fit to all the others, and flagged "
        "at a threshold that was chosen without them; r is Pearson's, rho Spearman's correlation. "
        f"Bad is a Dice more than {WORSE_BY:g} below the median of undamaged scans."
    )
    by_damage = "By damage, means over the structures of a case:"
    return "\n\n".join([above, _merit_table(studied), by_damage, _damage_table(studied)])


def _merit_table(studied: Studied) -> str:
    """A row per structure, then over all of them, then of cases."""
    names = list(dict.fromkeys(p.row.structure for p in studied.structures))
    margin = best_margin(studied.structures)
    rows = [
        _merit(name, [p for p in studied.structures if p.row.structure == name], margin)
        for name in names
    ]
    rows.append(_merit(ALL, studied.structures, margin))
    rows.append(_merit(CASES, studied.cases, best_margin(studied.cases)))
    return markdown(MERIT, rows)


def _merit(name: str, predicted: Sequence[Predicted], margin: float) -> tuple[str, ...]:
    """How well one structure is told."""
    parts = (
        predicted,
        [p for p in predicted if not p.row.is_damaged],
        [p for p in predicted if p.row.is_damaged],
        [p for p in predicted if p.row.dice >= FAILED_BELOW],
    )
    (r, rho), (r_undamaged, _), (r_damaged, _), (r_found, _) = (correlation(part) for part in parts)
    bad, good = ([p for p in predicted if p.is_bad is wanted] for wanted in (True, False))
    limits = sorted({p.bad_below for p in predicted})
    shown = f"{limits[0]:.2f}" if limits[-1] - limits[0] < 0.1 else "its own"
    flag = f"{median(limits) + margin:.2f}" if shown != "its own" else "its own"
    return (
        name,
        str(len(predicted)),
        *(_number(value) for value in (r, rho, r_undamaged, r_damaged, r_found)),
        shown,
        flag,
        f"{sum(p.is_flagged for p in bad)} of {len(bad)}",
        f"{sum(p.is_flagged for p in good)} of {len(good)}",
    )


def _damage_table(studied: Studied) -> str:
    """A row per damage, worst last."""
    by_damage: dict[str, list[Predicted]] = {}
    for case in studied.cases:
        title = f"{case.row.damage} {case.row.severity}".replace(ABSENT, "").strip()
        by_damage.setdefault(title, []).append(case)
    ordered = sorted(by_damage.items(), key=lambda item: -median(p.row.dice for p in item[1]))
    return markdown(
        DAMAGES,
        [
            (
                title,
                str(len(cases)),
                f"{median(p.row.dice for p in cases):.3f}",
                f"{median(p.dice for p in cases):.3f}",
                str(sum(p.is_bad for p in cases)),
                str(sum(p.is_flagged for p in cases)),
            )
            for title, cases in ordered
        ],
    )


def _number(value: float) -> str:
    """A correlation, or that there is none."""
    return f"{value:.3f}" if value == value else ABSENT  # noqa: PLR0124 - nan differs from itself
