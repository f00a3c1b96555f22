"""Figure of quality: predicted against true Dice, as SVG."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_deepmrseg.evaluation.calibration import Predicted, correlation
from bids_deepmrseg.evaluation.plots import STYLE, VIEW_COLORS, WIDTH_INCHES, save_figure

UNDAMAGED_COLOR, DAMAGED_COLOR = VIEW_COLORS["axial"], VIEW_COLORS["coronal"]


def draw_predictions(
    structures: Sequence[Predicted], cases: Sequence[Predicted], file: Path
) -> None:
    """Scatter plots of predicted and true Dice: of structures, and of means of cases.

    Parameters
    ----------
    structures, cases
        Of people whom the prediction did not see.
    file
        SVG to write.

    Notes
    -----
    On the line prediction and truth are the same. Damaged scans are triangles.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 4.6), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for panel, predicted, title in (
            (panels[0], structures, "structures"),
            (panels[1], cases, "means of cases"),
        ):
            _scatter(panel, predicted)
            r, rho = correlation(predicted)
            panel.set_title(f"{title}: r = {r:.3f}, rho = {rho:.3f}, n = {len(predicted)}")
            panel.set(xlabel="predicted Dice", aspect="equal")
        panels[0].set(ylabel="true Dice")
        panels[0].legend(loc="upper left", frameon=False)
        save_figure(figure, file)


def _scatter(panel: Axes, predicted: Sequence[Predicted]) -> None:
    """Undamaged and damaged scans, and the line of equality."""
    panel.plot([0, 1], [0, 1], color="0.6", lw=0.6)
    for is_damaged, color, marker, label in (
        (True, DAMAGED_COLOR, "^", "damaged scans"),
        (False, UNDAMAGED_COLOR, "o", "scans as they are"),
    ):
        shown = [p for p in predicted if p.row.is_damaged is is_damaged]
        panel.plot(
            [p.dice for p in shown],
            [p.row.dice for p in shown],
            ls="",
            marker=marker,
            ms=3.5,
            mew=0.6,
            mfc="none",
            color=color,
            label=label,
        )
