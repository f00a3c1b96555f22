"""What averaging the networks of several folds adds, on scans that none of them saw.

Usage: fold_ensembles.py TASK DATASET RESULTS.tsv RUNS RUNS

The two folders of runs are cross-validations, or pieces, of the same data by other shuffles. A
scan that was tested in both was seen by neither network; it is segmented by each alone and by
both. Views that both have are used.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_deepmrseg.evaluation.compare import compare_scan
from bids_deepmrseg.evaluation.ensembles import Network, load_networks
from bids_deepmrseg.evaluation.results import Identity, Result, read_results, write_results
from bids_deepmrseg.evaluation.tables import ensemble_table
from bids_deepmrseg.records import Predicted
from bids_deepmrseg.selection.labelled import LabelledScan, find_labelled
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.stages.segment import tidy
from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task
from bids_deepmrseg.tasks import Task


def tested_by(runs: Path, task: Task) -> dict[str, Path]:
    """The model folder that each scan was tested with."""
    return {
        row.scan: file.parent / task.name
        for file in sorted(runs.glob("deepmrseg/*/results.tsv"))
        for row in read_results(file)
    }


def compare(scan: LabelledScan, models: tuple[Path, Path], dataset: str) -> Iterator[Result]:
    """Rows of one scan: each model alone, and both."""
    first, second = (load_networks(model, "cpu") for model in models)
    views = {n.view for n in first} & {n.view for n in second}
    prepared = prepare(scan.case)
    teams: dict[str, list[Network]] = {
        "one fold": [n for n in first if n.view in views],
        "one fold of the other shuffle": [n for n in second if n.view in views],
    }
    teams["both"] = [network for team in tuple(teams.values()) for network in team]
    for name, team in teams.items():
        probabilities = np.mean([n.predict(prepared.channels) for n in team], axis=0)
        n_removed = tidy(probabilities, scan.case.task)
        predicted = Predicted(probabilities, prepared.placement, n_removed)
        identity = Identity(
            dataset=dataset,
            network="deepmrseg",
            ensemble=f"{', '.join(sorted(views))}: {name}",
            repeat=1,
            fold=1,
            subject=scan.subject,
            scan=scan.stem,
        )
        yield from compare_scan(scan, restore(predicted, scan.case.task), identity)


def main(name: str, dataset: Path, results: Path, one: Path, other: Path) -> None:
    """Compare, write the rows and print their means."""
    task = read_task(find_named_model_folder(name) / TASK_FILE)
    first, second = tested_by(one, task), tested_by(other, task)
    rows = [
        replace(row, dataset=results.stem)
        for scan in find_labelled(dataset, task)
        if scan.stem in first and scan.stem in second
        for row in compare(scan, (first[scan.stem], second[scan.stem]), results.stem)
    ]
    write_results(rows, results)
    print(ensemble_table(rows))


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    task_name, *paths = sys.argv[1:]
    main(task_name, *(Path(path) for path in paths))
