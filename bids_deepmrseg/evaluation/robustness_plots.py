"""Figure of robustness: how far each damage moves volumes, as SVG."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bids_deepmrseg.evaluation.changes import DONE, Change
from bids_deepmrseg.evaluation.plots import STYLE, VIEW_COLORS, WIDTH_INCHES, save_figure
from bids_deepmrseg.evaluation.robustness_tables import (
    LARGEST_MEDIAN,
    grouped,
    inexact,
    shown_damage,
)

FARTHEST_PERCENT = 30.0  # dots beyond are drawn at the edge
BOX_COLOR = VIEW_COLORS["axial"]


def draw_changes(changes: Sequence[Change], file: Path) -> None:
    """Box plots of signed changes of volume, a row per damage, a panel per task.

    Parameters
    ----------
    changes
        Rows of one file; storage orders and oblique affines are left out.
    file
        SVG to write.

    Notes
    -----
    A box is over structures and scans: quartiles with the median, whiskers to 1.5 times the box.
    Grey is the range that the project asks medians to lie in. Changes beyond 30 % are drawn there.
    """
    done = [c for c in inexact(changes) if c.status == DONE and c.undamaged_ml > 0]
    by_task = grouped(done, lambda c: c.task)
    titles = list(grouped(done, shown_damage))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 1.0 + 0.24 * len(titles)), layout="constrained")
        panels = figure.subplots(1, len(by_task), sharey=True, squeeze=False)[0]
        for panel, (task, rows) in zip(panels, by_task.items(), strict=True):
            by_damage = grouped(rows, shown_damage)
            values = [[_within(c.change) for c in by_damage.get(title, [])] for title in titles]
            panel.axvspan(-100 * LARGEST_MEDIAN, 100 * LARGEST_MEDIAN, color="0.93", lw=0)
            panel.axvline(0, color="0.6", lw=0.6)
            panel.boxplot(
                values,
                positions=range(len(titles)),
                orientation="horizontal",
                widths=0.6,
                manage_ticks=False,
                patch_artist=True,
                boxprops={"facecolor": f"{BOX_COLOR}40", "edgecolor": BOX_COLOR, "linewidth": 0.8},
                medianprops={"color": BOX_COLOR, "linewidth": 1.6},
                whiskerprops={"color": BOX_COLOR, "linewidth": 0.8},
                capprops={"color": BOX_COLOR, "linewidth": 0.8},
                flierprops={"marker": "o", "markersize": 2.5, "markeredgecolor": BOX_COLOR},
            )
            panel.set_title(task)
            panel.set_xlim(-FARTHEST_PERCENT - 2, FARTHEST_PERCENT + 2)
        panels[0].set_yticks(range(len(titles)), titles)
        panels[0].invert_yaxis()
        figure.supxlabel("change of volume (%)", fontsize=8)
        save_figure(figure, file)


def _within(change: float) -> float:
    """A change in percent, at most at the edge of the panel."""
    return max(-FARTHEST_PERCENT, min(FARTHEST_PERCENT, 100 * change))
