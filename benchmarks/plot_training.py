"""Draw training curves from the logs of ``deepmrseg-train``: loss and F1 of each view by epoch.

Usage: python benchmarks/plot_training.py CURVES.png RUN/training/*/log.tsv
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

COLUMNS = {"loss": "loss (sum of three terms)", "mean_f1": "mean F1 of training patches"}


def main(picture: Path, logs: list[Path]) -> None:
    """One panel per column, one line per log."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    panels = figure.subplots(1, len(COLUMNS))
    for log in logs:
        rows = pd.read_csv(log, sep="\t")
        name = log.parent.name if log.stem == "log" else log.stem
        for panel, (column, title) in zip(panels, COLUMNS.items(), strict=True):
            panel.plot(rows["epoch"], rows[column], label=name)
            panel.set(xlabel="epoch", title=title)
            panel.legend()
    figure.savefig(picture, dpi=120)
    print(f"curves of {len(logs)} logs: {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
