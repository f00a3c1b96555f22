"""Lesions as connected pieces of a probability map: how many, how large, and where.

A voxel is lesion where its probability reaches the threshold. Voxels that touch by a face, an edge
or a corner belong to one lesion. Lesions smaller than the rule's smallest volume are left out, and
how many and how large they were is kept. Everything is on the grid of the map; nothing is
interpolated, so that thick slices count as they were acquired.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import GeometryError, SegmentationError, UsageError
from bids_deepmrseg.imaging.distance import gaps_mm
from bids_deepmrseg.imaging.grid import AFFINE_TOLERANCE_MM, Crop, Grid, crop_to
from bids_deepmrseg.imaging.pieces import (
    Labels,
    Mask,
    Pieces,
    fewest_voxels_of,
    find_pieces,
)

logger = logging.getLogger(__name__)

Probability = npt.NDArray[np.floating]
Zone = Literal["periventricular", "deep"]
Axis = Literal[0, 1, 2]

CURVE_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PERIVENTRICULAR_MM = 10.0
PROBABILITY_TOLERANCE = 1e-3  # half precision, and sums of interpolation weights
THICKER_BY = 1.1  # slices are told from rows and columns by being at least this much thicker


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionRule:
    """What counts as a lesion.

    Attributes
    ----------
    threshold
        Least probability of a lesion's voxel, above 0 and at most 1.
    smallest_mm3
        Least volume of a lesion; 0 keeps single voxels.
    periventricular_mm
        A lesion whose nearest voxel lies no further from the ventricles is periventricular, any
        other one deep.

    Notes
    -----
    10 mm is the distance by which voxels are commonly told apart (DeCarli et al. 2005,
    doi:10.1161/01.STR.0000150668.58689.f2; Griffanti et al. 2018,
    doi:10.1016/j.neuroimage.2017.03.024). Here a whole lesion has one class, that of its nearest
    voxel, so that one which reaches from the ventricles far into white matter is periventricular.
    """

    threshold: float
    smallest_mm3: float
    periventricular_mm: float = PERIVENTRICULAR_MM

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise UsageError(f"a lesion threshold lies above 0 and at most 1, not {self.threshold}")
        if not 0 <= self.smallest_mm3 < float("inf"):
            raise UsageError(f"a smallest lesion has 0 mm3 or more, not {self.smallest_mm3}")
        if not 0 <= self.periventricular_mm < float("inf"):
            raise UsageError(f"a distance is 0 mm or more, not {self.periventricular_mm}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One lesion.

    Attributes
    ----------
    index
        Its value in the label map, 1 for the largest.
    n_voxels, volume_mm3
        Voxels, and that many times the volume of a voxel.
    centroid_mm
        Mean of its voxels' centres, every voxel counting alike, in scanner space (RAS+).
    n_slices
        Acquired slices in which it has a voxel.
    mean_probability
        Over its voxels.
    ventricle_distance_mm
        From its nearest voxel to the nearest of the ventricles, from edge to edge: 0 where they
        touch or overlap. ``None`` where the ventricles are not known.
    zone
        By that distance; ``None`` with it.
    """

    index: int
    n_voxels: int
    volume_mm3: float
    centroid_mm: tuple[float, float, float]
    n_slices: int
    mean_probability: float
    ventricle_distance_mm: float | None = None
    zone: Zone | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AtThreshold:
    """What the rule would give at another threshold, and what it would leave out."""

    threshold: float
    n_lesions: int
    volume_mm3: float
    n_removed: int
    removed_mm3: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesions:
    """All lesions of one scan.

    Attributes
    ----------
    rule
        By which they were found.
    grid
        Of the probability map.
    label_map
        ``(I, J, K)``: 0 outside, a lesion's index in its voxels.
    lesions
        Largest first, as numbered in the label map.
    n_removed, removed_mm3
        Pieces that were smaller than the rule asks for, and their volume together.
    slice_axis
        Array axis along which slices were counted.
    ventricles_known
        Whether distances to the ventricles could be measured.
    curve
        The same rule at other thresholds.
    """

    rule: LesionRule
    grid: Grid
    label_map: Labels
    lesions: tuple[Lesion, ...]
    n_removed: int
    removed_mm3: float
    slice_axis: Axis
    ventricles_known: bool
    curve: tuple[AtThreshold, ...]

    @property
    def mask(self) -> Mask:
        """Where there is a lesion."""
        return self.label_map > 0

    @property
    def volume_mm3(self) -> float:
        """Volume of all lesions together; 0.0 where none was found."""
        return sum((lesion.volume_mm3 for lesion in self.lesions), 0.0)


def find_lesions(
    probability: Probability,
    grid: Grid,
    rule: LesionRule,
    *,
    ventricles: Mask | None = None,
    slice_axis: Axis | None = None,
) -> Lesions:
    """Find, number and measure the lesions of a probability map.

    Parameters
    ----------
    probability
        ``(I, J, K)``, 0 to 1, on ``grid``.
    grid
        Of the scan on which lesions are told; may be oblique, and its voxels of any proportions.
    rule
        What counts.
    ventricles
        ``(I, J, K)`` on the same grid, without which distances are not known; an empty mask counts
        as none. Which ventricles these are is the caller's choice: the rule of 10 mm is meant for
        the lateral ones.
    slice_axis
        Array axis along which slices were acquired; :func:`slice_axis_of` the grid without it.

    Raises
    ------
    GeometryError
        If map or ventricles are not on the grid.
    SegmentationError
        If the map holds what is no probability.
    """
    _check(probability, grid, ventricles)
    axis = slice_axis_of(grid) if slice_axis is None else slice_axis
    fewest = fewest_voxels_of(rule.smallest_mm3, grid.voxel_volume_mm3)
    pieces = _pieces_at(probability, rule.threshold, fewest)
    lesions = tuple(_measured(pieces, probability, grid, axis))
    ventricles_known = ventricles is not None and bool(ventricles.any())
    if ventricles is not None and ventricles_known:
        distances_mm = _distances_mm(pieces, ventricles, grid)
        lesions = tuple(
            replace(lesion, ventricle_distance_mm=distance, zone=_zone(distance, rule))
            for lesion, distance in zip(lesions, distances_mm, strict=True)
        )
    removed_mm3 = pieces.n_removed_voxels * grid.voxel_volume_mm3
    if pieces.n_removed:
        logger.info(
            "%d pieces below %g mm3 are no lesions by the rule: %.1f mm3 together",
            pieces.n_removed,
            rule.smallest_mm3,
            removed_mm3,
        )
    return Lesions(
        rule=rule,
        grid=grid,
        label_map=pieces.labels,
        lesions=lesions,
        n_removed=pieces.n_removed,
        removed_mm3=removed_mm3,
        slice_axis=axis,
        ventricles_known=ventricles_known,
        curve=volume_curve(probability, grid, smallest_mm3=rule.smallest_mm3),
    )


def volume_curve(
    probability: Probability,
    grid: Grid,
    *,
    smallest_mm3: float,
    thresholds: tuple[float, ...] = CURVE_THRESHOLDS,
) -> tuple[AtThreshold, ...]:
    """Counts and volumes at several thresholds, each after the same removal of small pieces.

    Volumes never grow with the threshold; counts may, where a lesion falls apart.
    """
    voxel_mm3 = grid.voxel_volume_mm3
    fewest = fewest_voxels_of(smallest_mm3, voxel_mm3)
    inner = _around(probability, min(thresholds)).apply(probability)
    curve = []
    for threshold in thresholds:
        pieces = find_pieces(inner >= threshold, fewest_voxels=fewest)
        curve.append(
            AtThreshold(
                threshold=threshold,
                n_lesions=len(pieces),
                volume_mm3=float(pieces.n_voxels.sum() * voxel_mm3),
                n_removed=pieces.n_removed,
                removed_mm3=pieces.n_removed_voxels * voxel_mm3,
            )
        )
    return tuple(curve)


def slice_axis_of(grid: Grid) -> Axis:
    """The array axis along which slices were most likely acquired.

    The one with the thickest voxels where they are clearly thicker than along any other; else, as
    in scans without slices, the one nearest to foot-head, along which brains are usually shown.
    """
    order = np.argsort(grid.spacing_mm)
    second, thickest = (grid.spacing_mm[axis] for axis in order[1:])
    directions = np.abs(grid.affine[2, :3]) / np.array(grid.spacing_mm)
    axis = int(order[-1] if thickest >= THICKER_BY * second else directions.argmax())
    return 0 if axis == 0 else 1 if axis == 1 else 2


def _check(probability: Probability, grid: Grid, ventricles: Mask | None) -> None:
    """Refuse what is on another grid or no probability."""
    if probability.shape != grid.shape:
        raise GeometryError(f"map {probability.shape} is not on its grid {grid.shape}")
    if ventricles is not None and ventricles.shape != grid.shape:
        raise GeometryError(f"ventricles {ventricles.shape} are not on the grid {grid.shape}")
    low, high = float(probability.min()), float(probability.max())
    if not (low >= -PROBABILITY_TOLERANCE and high <= 1 + PROBABILITY_TOLERANCE):
        raise SegmentationError(
            f"the map of lesions holds values from {low:g} to {high:g}, which are no probabilities"
        )


def _around(probability: Probability, threshold: float) -> Crop:
    """The box that holds all voxels of a threshold; everything where there is none."""
    mask = probability >= threshold
    if mask.any():
        return crop_to(mask, margin=0)
    n_i, n_j, n_k = mask.shape
    return Crop((n_i, n_j, n_k), (0, 0, 0), (n_i, n_j, n_k))


def _pieces_at(probability: Probability, threshold: float, fewest_voxels: int) -> Pieces:
    """Pieces at one threshold."""
    box = _around(probability, threshold)
    found = find_pieces(box.apply(probability) >= threshold, fewest_voxels=fewest_voxels)
    return replace(found, labels=box.undo(found.labels))


def _measured(
    pieces: Pieces, probability: Probability, grid: Grid, slice_axis: Axis
) -> Iterator[Lesion]:
    """Every lesion, by sums over all voxels at once."""
    voxels = np.argwhere(pieces.labels > 0)
    number = pieces.labels[tuple(voxels.T)] - 1
    n = pieces.n_voxels
    sums = np.stack([np.bincount(number, voxels[:, axis], len(n)) for axis in range(3)], axis=1)
    centres = (sums / n[:, None]) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    certain = np.bincount(number, probability[tuple(voxels.T)].astype(np.float64), len(n)) / n
    in_slices = np.unique(np.stack([number, voxels[:, slice_axis]]), axis=1)[0]
    n_slices = np.bincount(in_slices, minlength=len(n))
    for i, (x, y, z) in enumerate(centres.tolist()):
        yield Lesion(
            index=i + 1,
            n_voxels=int(n[i]),
            volume_mm3=float(n[i] * grid.voxel_volume_mm3),
            centroid_mm=(x, y, z),
            n_slices=int(n_slices[i]),
            mean_probability=float(certain[i]),
        )


def _distances_mm(pieces: Pieces, ventricles: Mask, grid: Grid) -> list[float]:
    """Distance of every lesion's nearest voxel to the ventricles."""
    voxels = np.argwhere(pieces.labels > 0)
    nearest = np.full(len(pieces), np.inf)
    np.minimum.at(nearest, pieces.labels[tuple(voxels.T)] - 1, gaps_mm(voxels, ventricles, grid))
    return [float(distance) for distance in nearest]


def _zone(distance_mm: float, rule: LesionRule) -> Zone:
    """Which side of the rule's distance a lesion lies on."""
    is_near = distance_mm <= rule.periventricular_mm + AFFINE_TOLERANCE_MM
    return "periventricular" if is_near else "deep"
