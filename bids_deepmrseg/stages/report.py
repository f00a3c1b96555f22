"""Stage 7 of 8: one picture of the labels over the scan, to be looked at before it is believed."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import make_folder, partial_name
from bids_deepmrseg.imaging.grid import Crop, Grid, crop_to, to_ras
from bids_deepmrseg.imaging.lesions import slice_axis_of
from bids_deepmrseg.imaging.nifti import read_scan
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.tasks import Task

logger = logging.getLogger(__name__)

N_COLUMNS = 7
INCHES_PER_TILE = 2.6
INCHES_OF_TEXT = 1.5  # heading, titles of tiles and legend
MM3_PER_ML = 1000.0
N_WARNINGS = 3
LONGEST_WARNING = 160  # characters
WARNING_COLOR = "#FFB000"
DOTS_PER_INCH = 100
FILL_OPACITY = 0.3
OUTLINE_POINTS = 0.8
BRIGHTEST_PERCENTILE = 99.9
MARGIN_MM = 25.0  # shown around the structures at most
MARGIN_PART = 0.2  # of their greatest extent, so that small structures are shown large
CAPTION = "neurological view: in axial and coronal slices the left of the picture is left (L)"
MOST_LESION_ROWS = 3  # of slices as acquired; a row across each other plane follows
BACKGROUND_PART = 0.1  # of the brightest voxels; air lies below
FULL_PART = 0.05  # of the fullest slice: emptier ones, at the edge of a head, are cut off
WHITE_OVER_TISSUE = 2.2  # so that fat does not leave the brain dark
EMPTY_MARGIN = 0.12  # of the slices of a head without lesions, at either end: they show no brain


@dataclass(frozen=True, slots=True)
class Plane:
    """A direction of slicing; axes are those of a RAS+ array."""

    name: str
    normal: int
    rightwards: int
    upwards: int
    marks: tuple[str, str]  # what lies at the left and at the right of the picture


PLANES = (
    Plane("axial", 2, 0, 1, ("L", "R")),
    Plane("coronal", 1, 0, 2, ("L", "R")),
    Plane("sagittal", 0, 1, 2, ("P", "A")),
)


@dataclass(frozen=True, slots=True)
class Row:
    """Slices of one plane that are drawn side by side."""

    plane: Plane
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What is drawn: grey values in 0 to 1, labels, and their grid, cut to what is of interest."""

    grey: npt.NDArray[np.float32]  # (I, J, K), RAS+
    dseg: npt.NDArray[np.uint16]  # (I, J, K)
    grid: Grid


def draw_case(
    case: Case, segmented: Segmented, file: Path, *, warnings: Sequence[str] = ()
) -> None:
    """Draw axial, coronal and sagittal slices through the structures into a PNG file.

    Parameters
    ----------
    case
        Its first scan is shown in grey, its task gives names and colours.
    segmented
        Labels on the grid of that scan.
    file
        Where to write; it appears whole or not at all.
    warnings
        Sentences on what is doubtful, for the heading; of many the first few are shown.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Notes
    -----
    The scan is turned without interpolation, so that voxels are drawn as they are, in their true
    proportions. Slices are spread evenly over those that hold a label. The brain as a whole is
    drawn as an outline in the uncut scan, so that what was left out of it can be seen too.
    Lesions are drawn as outlines in the whole head, in up to 21 of the slices that were acquired
    and hold any, each once; without lesions, slices are spread over the head.
    """
    heading = [case.name, CAPTION, *_totals(segmented), *_shown(warnings)]
    color = WARNING_COLOR if warnings else "white"
    figure = _draw(_view(case, segmented), case.task, "\n".join(heading), color)
    partial = partial_name(file)
    try:
        make_folder(file.parent)
        figure.savefig(partial, dpi=DOTS_PER_INCH, format="png", metadata={"Title": case.name})
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{file} cannot be written: {error}") from error
    logger.debug("%s: drew %s", case.name, file.name)


def _view(case: Case, segmented: Segmented) -> View:
    """The scan and its labels, turned to RAS+ and cut to the structures, or the head."""
    scan = read_scan(case.scans[0])
    grey, turn = to_ras(scan.data, scan.grid)
    dseg, _ = to_ras(segmented.dseg, segmented.grid)
    if case.task.lesions is not None:
        crop = _around_head(grey, dseg)
    elif case.task.brain is not None:
        crop = _whole(dseg.shape)
    else:
        crop = _crop(dseg, turn.turned.spacing_mm)
    cut = crop.apply(grey).astype(np.float32)
    shift = np.eye(4)
    shift[:3, 3] = crop.start
    i, j, k = cut.shape
    return View(
        grey=_shades(cut, case.task),
        dseg=crop.apply(dseg).astype(np.uint16),
        grid=Grid((i, j, k), turn.turned.affine @ shift),
    )


def _crop(dseg: npt.NDArray[np.generic], spacing_mm: tuple[float, float, float]) -> Crop:
    """The structures with a margin, or all of it where there are none."""
    filled = np.asarray(dseg) > 0
    if not filled.any():
        return _whole(dseg.shape)
    tight = crop_to(filled, margin=0)
    sizes = zip(tight.start, tight.stop, spacing_mm, strict=True)
    margin_mm = min(MARGIN_MM, MARGIN_PART * max((b - a) * mm for a, b, mm in sizes))
    margins = [max(1, round(margin_mm / mm)) for mm in spacing_mm]
    i0, j0, k0 = (max(0, a - m) for a, m in zip(tight.start, margins, strict=True))
    i1, j1, k1 = (min(n, b + m) for b, m, n in zip(tight.stop, margins, dseg.shape, strict=True))
    return Crop(tight.full, (i0, j0, k0), (i1, j1, k1))


def _around_head(grey: npt.NDArray[np.float32], dseg: npt.NDArray[np.uint16]) -> Crop:
    """The slices across each axis that show more than air and its ghosts, or hold a label."""
    brighter = grey > BACKGROUND_PART * float(np.percentile(grey, BRIGHTEST_PERCENTILE))
    bounds = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        counts = brighter.sum(axis=others)
        filled = np.flatnonzero((counts >= FULL_PART * counts.max()) | dseg.any(axis=others))
        bounds.append((int(filled[0]), int(filled[-1]) + 1))
    (i0, i1), (j0, j1), (k0, k1) = bounds
    return Crop(_whole(brighter.shape).full, (i0, j0, k0), (i1, j1, k1))


def _shades(cut: npt.NDArray[np.float32], task: Task) -> npt.NDArray[np.float32]:
    """Grey values in 0 to 1; where lesions are to be seen, white is for what outshines tissue."""
    darkest, brightest = np.percentile(cut, (1, BRIGHTEST_PERCENTILE))
    if task.lesions is not None:
        core = cut[tuple(slice(n // 4, n - n // 4) for n in cut.shape)]
        seen = core[core > BACKGROUND_PART * np.percentile(core, BRIGHTEST_PERCENTILE)]
        white = WHITE_OVER_TISSUE * float(np.median(seen)) if seen.size else brightest
        brightest = min(brightest, white)
    scaled = (cut - darkest) / max(brightest - darkest, 1e-6)
    shades: npt.NDArray[np.float32] = scaled.clip(0, 1).astype(np.float32)
    return shades


def _whole(shape: tuple[int, ...]) -> Crop:
    """The crop that cuts nothing."""
    n_i, n_j, n_k = shape
    return Crop((n_i, n_j, n_k), (0, 0, 0), (n_i, n_j, n_k))


def _draw(view: View, task: Task, heading: str, color: str) -> Figure:
    """A figure with rows of slices and the names of the structures below."""
    rows = _rows(view, task)
    heights = [_aspect(view, row.plane) for row in rows]
    size = (N_COLUMNS * INCHES_PER_TILE, sum(heights) * INCHES_PER_TILE + INCHES_OF_TEXT)
    figure = Figure(figsize=size, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    tiles = figure.subplots(len(rows), N_COLUMNS, squeeze=False, height_ratios=heights)
    for tile in tiles.flat:
        tile.set_axis_off()  # the last row of slices may not fill the figure's width
    for row, drawn in zip(rows, tiles, strict=True):
        for tile, index in zip(drawn, row.indices, strict=False):
            _draw_slice(tile, view, row.plane, index, task)
    figure.suptitle(heading, color=color, fontsize=11)
    figure.legend(
        handles=[Patch(color=label.color, label=label.name) for label in task.labels],
        loc="outside lower center",
        ncols=N_COLUMNS,
        fontsize=8,
        facecolor="black",
        edgecolor="none",
        labelcolor="white",
    )
    return figure


def _rows(view: View, task: Task) -> list[Row]:
    """Which slices are drawn: a row per plane, of lesions more of those that were acquired."""
    if task.lesions is None:
        return [Row(plane, _slices(view.dseg, plane.normal)) for plane in PLANES]
    acquired = slice_axis_of(view.grid)
    rows = []
    for plane in sorted(PLANES, key=lambda plane: plane.normal != acquired):
        n_most = N_COLUMNS * (MOST_LESION_ROWS if plane.normal == acquired else 1)
        indices = _each_once(view.dseg, plane.normal, n_most)
        starts = range(0, len(indices), N_COLUMNS)
        rows += [Row(plane, indices[start : start + N_COLUMNS]) for start in starts]
    return rows


def _totals(segmented: Segmented) -> list[str]:
    """Volume of all lesions and the rule that found them; nothing of tasks that find none."""
    if segmented.lesion_map is None:
        return []
    rule = segmented.lesion_map.rule
    volume_ml = np.count_nonzero(segmented.dseg) * segmented.grid.voxel_volume_mm3 / MM3_PER_ML
    counted = (
        f"probability {rule.threshold:g} or more, in pieces of {rule.smallest_mm3:g} mm3 or more"
    )
    return [f"{volume_ml:.2f} ml of lesions: {counted}"]


def _shown(warnings: Sequence[str]) -> list[str]:
    """The first warnings, and how many more there are."""
    n_more = len(warnings) - N_WARNINGS
    more = [f"and {n_more} more, see the table"] if n_more > 0 else []
    return [*(shorten(one, LONGEST_WARNING) for one in warnings[:N_WARNINGS]), *more]


def _aspect(view: View, plane: Plane) -> float:
    """Height of a slice for a width of 1, both in millimetres."""
    sizes_mm = np.array(view.grid.shape) * view.grid.spacing_mm
    return float(sizes_mm[plane.upwards] / sizes_mm[plane.rightwards])


def _slices(dseg: npt.NDArray[np.uint16], axis: int) -> tuple[int, ...]:
    """Indices along ``axis``, spread evenly over the slices that hold a label."""
    candidates = _candidates(dseg, axis)
    at = np.linspace(0.05, 0.95, N_COLUMNS) * (len(candidates) - 1)
    return tuple(int(candidates[round(position)]) for position in at)


def _each_once(dseg: npt.NDArray[np.uint16], axis: int, n_most: int) -> tuple[int, ...]:
    """All slices that hold a label, or ``n_most`` of them, spread evenly."""
    candidates = _candidates(dseg, axis)
    if len(candidates) <= n_most:
        return tuple(candidates.tolist())
    margin = 0.0 if dseg.any() else EMPTY_MARGIN
    at = np.linspace(margin, 1 - margin, n_most) * (len(candidates) - 1)
    return tuple(candidates[np.rint(at).astype(int)].tolist())


def _candidates(dseg: npt.NDArray[np.uint16], axis: int) -> npt.NDArray[np.intp]:
    """Indices of the slices that hold a label; of all of them where none does."""
    filled = np.flatnonzero(dseg.any(axis=tuple(a for a in range(3) if a != axis)))
    return filled if filled.size else np.arange(dseg.shape[axis])


def _draw_slice(tile: Axes, view: View, plane: Plane, index: int, task: Task) -> None:
    """One slice: grey values, translucent labels with outlines, and which side is which."""
    spacing_mm = view.grid.spacing_mm
    aspect = spacing_mm[plane.upwards] / spacing_mm[plane.rightwards]
    grey = view.grey.take(index, axis=plane.normal).T
    dseg = view.dseg.take(index, axis=plane.normal).T
    tile.imshow(grey, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=aspect)
    overlay = np.zeros((*dseg.shape, 4))
    for label in task.labels:
        mask = dseg == label.index
        if mask.any():
            only_outlined = label.index == task.brain or task.lesions is not None
            opacity = 0.0 if only_outlined else FILL_OPACITY
            overlay[mask] = (*to_rgb(label.color), opacity)
            _outline(tile, mask, label.color)
    tile.imshow(overlay, origin="lower", aspect=aspect, interpolation="nearest")
    position_mm = view.grid.affine[:3, :3] @ _centre(view, plane, index) + view.grid.affine[:3, 3]
    tile.set_title(
        f"{'xyz'[plane.normal]} {position_mm[plane.normal]:.0f} mm", color="white", fontsize=8
    )
    for x, mark in zip((0.04, 0.96), plane.marks, strict=True):
        text = tile.text(x, 0.04, mark, transform=tile.transAxes, ha="center", fontsize=9)
        text.set(color="yellow", path_effects=[Stroke(linewidth=2, foreground="black"), Normal()])


def _outline(tile: Axes, mask: npt.NDArray[np.bool_], color: str) -> None:
    """The outline of one structure; a frame of zeros closes it at the picture's edge."""
    framed = np.pad(mask.astype(float), 1)
    rows, columns = np.arange(-1, framed.shape[0] - 1), np.arange(-1, framed.shape[1] - 1)
    tile.contour(columns, rows, framed, levels=[0.5], colors=[color], linewidths=OUTLINE_POINTS)
    tile.set_xlim(-0.5, mask.shape[1] - 0.5)
    tile.set_ylim(-0.5, mask.shape[0] - 0.5)


def _centre(view: View, plane: Plane, index: int) -> npt.NDArray[np.float64]:
    """Voxel index ``ijk`` of the middle of a slice."""
    middle = (np.array(view.grid.shape) - 1) / 2
    middle[plane.normal] = index
    return middle
