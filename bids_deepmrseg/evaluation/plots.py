"""Figures of results as SVG: box plots, Bland-Altman plots of volumes, training curves."""

import math
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bids_deepmrseg.evaluation.logs import TrainingLog
from bids_deepmrseg.evaluation.results import Result
from bids_deepmrseg.evaluation.summary import NETWORKS, frame_of, headline, in_order
from bids_deepmrseg.files import write_text

# Colours of Okabe and Ito, told apart by colour-blind eyes; markers and dashes differ as well.
COLORS = {"unet": "#D55E00", "deepmrseg": "#0072B2"}
VIEW_COLORS = {"axial": "#0072B2", "coronal": "#D55E00", "sagittal": "#009E73", "": "#555555"}
MARKERS = {"unet": "^", "deepmrseg": "o"}
DASHES = {"unet": "--", "deepmrseg": "-"}
OTHER_COLOR, OTHER_MARKER = "#009E73", "s"

WIDTH_INCHES = 8.5
N_COLUMNS = 4  # panels side by side
LIMITS_SD = 1.96  # 95 % of differences, were they normal
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "bids_deepmrseg",  # or every rendering would name its parts anew
    "svg.fonttype": "none",  # text stays text: small files that can be searched
    "path.simplify": False,  # or dots, which are lines of no length, would be left out
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # of one width, one of them everywhere
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
BOX_METRICS = {"f1": "F1 (Dice)", "hd95_mm": "HD95 (mm)"}
TAG = re.compile(r"<[^<>]*>")  # what stands between tags is read by people
FURTHER_DIGITS = re.compile(r"(?<=\d\.\d\d)\d+")
CURVES = {"loss": "loss (sum of three terms)", "mean_f1": "mean F1 of training patches"}


def draw_boxes(results: Sequence[Result], file: Path) -> None:
    """Box plots of F1 and HD95, a row per structure, a box per network.

    Parameters
    ----------
    results
        Of any number of networks; of each, :func:`~.summary.headline` is shown, a scan's mean
        over repeats.
    file
        SVG to write; the same results give the same bytes with the same version of matplotlib.

    Notes
    -----
    Boxes are quartiles with the median, whiskers reach 1.5 times the box, every scan beyond them
    is a dot.
    """
    frame = frame_of(headline(results))
    names = list(dict.fromkeys(frame["structure"]))
    networks = in_order(frame["network"])
    with mpl.rc_context(STYLE):
        height = 1.1 + len(names) * (0.12 + 0.2 * len(networks))
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        panels = figure.subplots(1, len(BOX_METRICS), sharey=True, squeeze=False)[0]
        for panel, (metric, title) in zip(panels, BOX_METRICS.items(), strict=True):
            _boxes(panel, frame, metric, names, networks)
            panel.set(xlabel=title)
            panel.grid(axis="x", color="0.9")
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        _legend_below(figure, networks)
        save_figure(figure, file)


def draw_bland_altman(results: Sequence[Result], file: Path) -> None:
    """Bland-Altman plots of volumes, a panel per structure and network.

    Parameters
    ----------
    results
        As of :func:`draw_boxes`.
    file
        SVG to write.

    Notes
    -----
    Segmented less reference volume over the mean of both, in millilitres, with the mean
    difference (bias) and the limits of agreement, bias +- 1.96 sd (Bland and Altman 1986,
    doi:10.1016/S0140-6736(86)90837-8), also as numbers. The networks' panels of a structure have
    the same axes.
    """
    frame = frame_of(headline(results))
    by_scan = frame.groupby(["network", "structure", "scan"], sort=False, as_index=False)[
        ["volume_ml", "reference_volume_ml"]
    ].mean()
    networks = in_order(frame["network"])
    shown = [(name, n) for name in dict.fromkeys(frame["structure"]) for n in networks]
    n_rows = math.ceil(len(shown) / N_COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 0.7 + 2.0 * n_rows), layout="constrained")
        panels = list(figure.subplots(n_rows, N_COLUMNS, squeeze=False).flat)
        for number, (name, network) in enumerate(shown):
            rows = by_scan[(by_scan["structure"] == name) & (by_scan["network"] == network)]
            if behind := number % len(networks):
                panels[number].sharex(panels[number - behind])
                panels[number].sharey(panels[number - behind])
                panels[number].tick_params(labelleft=False)
            _bland_altman(panels[number], rows, network)
            panels[number].locator_params(nbins=4)
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        figure.supxlabel("mean of segmented and reference volume (ml)", fontsize=8)
        figure.supylabel("segmented less reference volume (ml)", fontsize=8)
        save_figure(figure, file)


def draw_curves(logs: Sequence[TrainingLog], file: Path) -> None:
    """Training curves: loss and F1 by epoch, a thin line per network.

    Parameters
    ----------
    logs
        Of one task. Colours tell views apart, dashes the UNet from DeepMRSeg.
    file
        SVG to write.
    """
    kinds = sorted({(log.family, log.view) for log in logs})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 3.2), layout="constrained")
        panels = figure.subplots(1, len(CURVES))
        for log in logs:
            for panel, values in zip(panels, (log.loss, log.mean_f1), strict=True):
                panel.plot(
                    log.epochs, values, lw=0.8, alpha=0.8, **_line_style(log.family, log.view)
                )
        for panel, title in zip(panels, CURVES.values(), strict=True):
            panel.set(xlabel="epoch", ylabel=title)
            panel.grid(color="0.9")
        handles = [
            Line2D([], [], label=f"{NETWORKS[family]} {view}".strip(), **_line_style(family, view))
            for family, view in kinds
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
        save_figure(figure, file)


def _line_style(family: str, view: str) -> dict[str, Any]:
    """Colour and dashes of a network's curve."""
    return {"color": VIEW_COLORS[view], "linestyle": DASHES[family]}


def _boxes(
    panel: Axes, frame: pd.DataFrame, metric: str, names: Sequence[str], networks: Sequence[str]
) -> None:
    """Horizontal boxes of one metric, networks of a structure below one another."""
    width = 0.8 / len(networks)
    for number, network in enumerate(networks):
        values = [
            rows.groupby("scan")[metric].mean().dropna().to_numpy()
            for rows in (
                frame[(frame["network"] == network) & (frame["structure"] == name)]
                for name in names
            )
        ]
        color = COLORS.get(network, OTHER_COLOR)
        panel.boxplot(
            values,
            positions=np.arange(len(names)) + (number - (len(networks) - 1) / 2) * width,
            orientation="horizontal",
            widths=0.8 * width,
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": f"{color}40", "edgecolor": color, "linewidth": 0.8},
            medianprops={"color": color, "linewidth": 1.6},
            whiskerprops={"color": color, "linewidth": 0.8},
            capprops={"color": color, "linewidth": 0.8},
            flierprops=_dots(network),
        )


def _bland_altman(panel: Axes, rows: pd.DataFrame, network: str) -> None:
    """Dots, bias and limits of one structure and network."""
    color = COLORS.get(network, OTHER_COLOR)
    ours, theirs = (rows[c].to_numpy(np.float64) for c in ("volume_ml", "reference_volume_ml"))
    low, bias, high = limits_of_agreement(ours, theirs)
    panel.axhline(0, color="0.6", lw=0.6)
    panel.axhline(bias, color=color, lw=1.2)
    for limit in (low, high):
        panel.axhline(limit, color=color, lw=0.9, ls="--")
    _scatter(panel, (ours + theirs) / 2, ours - theirs, color)
    title = (
        rows["structure"].iloc[0],
        NETWORKS.get(network, network),
        f"{bias:+.3f} ({low:+.3f} to {high:+.3f})",
    )
    panel.set_title("\n".join(title), fontsize=7)


def _scatter(
    panel: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], color: str
) -> None:
    """Round dots as one path of lines without length: a third of the file that markers make."""
    gap = np.full_like(x, math.nan)
    panel.plot(
        np.stack([x, x, gap], axis=1).ravel(),
        np.stack([y, y, gap], axis=1).ravel(),
        color=color,
        alpha=0.6,
        lw=2.4,
        solid_capstyle="round",
    )


def limits_of_agreement(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]
) -> tuple[float, float, float]:
    """Bias less 1.96 sd, bias, and bias plus 1.96 sd of the differences; for two pairs or more."""
    difference = ours - theirs
    bias, reach = float(difference.mean()), LIMITS_SD * float(difference.std(ddof=1))
    return bias - reach, bias, bias + reach


def _dots(network: str) -> dict[str, Any]:
    """How single scans of a network are drawn."""
    color = COLORS.get(network, OTHER_COLOR)
    return {
        "marker": MARKERS.get(network, OTHER_MARKER),
        "markersize": 2.5,
        "markerfacecolor": "none",
        "markeredgecolor": color,
        "markeredgewidth": 0.6,
    }


def _legend_below(figure: Figure, networks: Iterable[str]) -> None:
    """Names of the networks under all panels."""
    handles = [
        Line2D([], [], color=COLORS.get(n, OTHER_COLOR), label=NETWORKS.get(n, n), **_dots(n))
        for n in networks
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def save_figure(figure: Figure, file: Path) -> None:
    """Write SVG without a date and with coordinates of 0.01 points, whole or not at all."""
    stream = BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue().decode("utf-8")
    short = TAG.sub(lambda tag: FURTHER_DIGITS.sub("", tag[0]), text)
    write_text(file, "\n".join(line.strip() for line in short.splitlines()) + "\n")
