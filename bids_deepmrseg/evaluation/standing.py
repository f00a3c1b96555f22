"""What a table stands on, in words: repeats, folds, people, epochs and seconds of training."""

from collections.abc import Sequence
from statistics import median

from bids_deepmrseg.evaluation.logs import TrainingLog
from bids_deepmrseg.evaluation.results import Fold, Result
from bids_deepmrseg.evaluation.summary import NETWORKS, headline, in_order


def standing(
    results: Sequence[Result], folds: Sequence[Fold] = (), logs: Sequence[TrainingLog] = ()
) -> str:
    """Sentences to stand above the tables of one file of results.

    Parameters
    ----------
    results
        All rows of the file.
    folds
        The networks trained for it, where it is a cross-validation.
    logs
        Trainings of the model, where it was trained once and not for this.
    """
    lines = [_measured(results, network) for network in in_order(r.network for r in results)]
    if folds:
        lines += [_trained(folds, network) for network in in_order(f.network for f in folds)]
    elif logs:
        lines.append(_logged(logs))
    else:
        lines.append("How its networks were trained was not recorded beside the results.")
    return "\n".join(f"- {line}" for line in lines)


def _measured(results: Sequence[Result], network: str) -> str:
    """Repeats, folds, people and scans of one network, and what it missed altogether."""
    rows = [r for r in results if r.network == network]
    folds_of = {repeat: {r.fold for r in rows if r.repeat == repeat} for repeat in _repeats(rows)}
    most = max(len(folds) for folds in folds_of.values())
    partly = [repeat for repeat, folds in folds_of.items() if len(folds) < most]
    unfinished = f" (repeat {', '.join(map(str, partly))}: fewer folds)" if partly else ""
    shown = [r for r in headline(results) if r.network == network]
    n_missed = sum(r.is_missed for r in shown)
    missed = f" missed {_count(n_missed, 'structure')} of {len(shown)};" if n_missed else ""
    return (
        f"{NETWORKS.get(network, network)}: {_count(len(folds_of), 'repeat')} of "
        f"{_count(most, 'fold')}{unfinished}; {_count(len({r.subject for r in rows}), 'person')}, "
        f"{_count(len({r.scan for r in rows}), 'scan')};{missed} shown: {shown[0].ensemble}."
    )


def _trained(folds: Sequence[Fold], network: str) -> str:
    """Length of the trainings of one kind of network."""
    rows = [f for f in folds if f.network == network]
    views = ", ".join(dict.fromkeys(f.view for f in rows))
    recipes = ", ".join(dict.fromkeys(f.recipe for f in rows))
    seconds = [f.training_s for f in rows]
    return (
        f"{NETWORKS.get(network, network)} was trained {_count(len(rows), 'time')} ({views}; "
        f"recipe {recipes}; {_range([f.n_parameters for f in rows])} parameters; "
        f"{_range([f.n_training_scans for f in rows])} training scans), each time "
        f"{_range([f.n_epochs for f in rows])} epochs, {_range([f.n_steps for f in rows])} steps "
        f"and {_range([round(s) for s in seconds])} s (median {median(seconds):,.0f} s); "
        f"{sum(seconds):,.0f} s in all."
    )


def _logged(logs: Sequence[TrainingLog]) -> str:
    """Length of the trainings behind a model that was trained once."""
    parts = (
        f"{log.name.replace('_', ' ')} {_count(len(log.epochs), 'epoch')}, {log.n_steps:,} steps, "
        f"{log.training_s:,.0f} s"
        for log in logs
    )
    return f"Trainings behind the model: {'; '.join(parts)}."


def _repeats(results: Sequence[Result]) -> list[int]:
    """Numbers of the repeats, in order."""
    return sorted({r.repeat for r in results})


def _range(values: Sequence[int]) -> str:
    """One number where all are the same, else lowest and highest."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _count(n: int, of_what: str) -> str:
    """A number and its noun."""
    plural = {"person": "people"}.get(of_what, f"{of_what}s")
    return f"{n} {of_what if n == 1 else plural}"
