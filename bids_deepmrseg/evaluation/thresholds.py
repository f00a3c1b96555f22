"""What other rules of a lesion would give: a map of probability compared at many thresholds."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.evaluation.lesionwise import MM3_PER_ML, LesionCounts
from bids_deepmrseg.evaluation.metrics import Mask, Overlap
from bids_deepmrseg.evaluation.results import Identity
from bids_deepmrseg.evaluation.rows import read_records, write_records
from bids_deepmrseg.imaging.grid import Crop, Grid, crop_to
from bids_deepmrseg.imaging.pieces import Counts, Pieces, fewest_voxels_of, find_pieces

AT_RULES = "_thresholds"  # ends the names of their files, which stand beside the results
THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(2, 19))  # 0.1 to 0.9
SMALLEST_MM3 = (0.0, 5.0, 10.0, 20.0, 40.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRule(Identity):
    """How the lesions of one scan come out by one rule.

    Attributes
    ----------
    threshold, smallest_mm3
        The rule, see :class:`~bids_deepmrseg.imaging.lesions.LesionRule`.
    f1
        Overlap, voxel by voxel.
    lesion_f1
        Of lesions of every size, as of :mod:`~.lesionwise`.
    volume_ml, reference_volume_ml
        Millilitres; 0 where there is no lesion.
    """

    threshold: float
    smallest_mm3: float
    f1: float
    lesion_f1: float
    volume_ml: float
    reference_volume_ml: float


@dataclass(frozen=True, slots=True, eq=False)
class _Met:
    """The pieces at one threshold against the lesions of a reference.

    Attributes
    ----------
    n_voxels, n_shared
        Voxels of each piece, largest piece first, and those of them in the reference.
    first
        For each lesion of the reference, the number of the largest piece that it shares a voxel
        with, from 1; one more than there are pieces where none does.
    n_reference_voxels
        Of all lesions together.
    """

    n_voxels: Counts
    n_shared: Counts
    first: Counts
    n_reference_voxels: int


def compare_rules(
    probability: npt.NDArray[np.floating],
    reference: Mask,
    grid: Grid,
    identity: Identity,
    *,
    thresholds: tuple[float, ...] = THRESHOLDS,
    smallest_mm3: tuple[float, ...] = SMALLEST_MM3,
) -> Iterator[AtRule]:
    """Compare the lesions of a map with a reference by every pair of threshold and least volume.

    Parameters
    ----------
    probability
        ``(I, J, K)`` on ``grid``.
    reference
        ``(I, J, K)``, taken as it is: no lesion of it is too small.
    grid
        Native lattice.
    identity
        What the rows say that they are about.
    thresholds, smallest_mm3
        Of the rules.

    Raises
    ------
    GeometryError
        If the shapes differ.
    """
    if not probability.shape == reference.shape == grid.shape:
        raise GeometryError(
            f"a map of {probability.shape} cannot be compared with a mask of {reference.shape}"
        )
    box = _box((probability >= min(thresholds)) | reference)
    inner, wanted = box.apply(probability), find_pieces(box.apply(reference))
    for threshold in thresholds:
        met = _meet(find_pieces(inner >= threshold), wanted)
        for least_mm3 in smallest_mm3:
            yield _at(met, threshold, least_mm3, grid, identity)


def write_at_rules(rows: Iterable[AtRule], file: Path) -> None:
    """Write rows as TSV."""
    write_records(rows, AtRule, file)


def read_at_rules(file: Path) -> tuple[AtRule, ...]:
    """Read rows back; raises InputDataError where the file holds none."""
    return read_records(file, AtRule)


def _box(shown: Mask) -> Crop:
    """The smallest box around a mask; all of an empty one."""
    if shown.any():
        return crop_to(shown, margin=0)
    n_i, n_j, n_k = shown.shape
    return Crop((n_i, n_j, n_k), (0, 0, 0), (n_i, n_j, n_k))


def _meet(pieces: Pieces, wanted: Pieces) -> _Met:
    """Which pieces and lesions share voxels; every pair is looked at once."""
    shared = (pieces.labels > 0) & (wanted.labels > 0)
    numbers, lesions = pieces.labels[shared], wanted.labels[shared] - 1
    first = np.full(len(wanted), len(pieces) + 1, dtype=np.int64)
    np.minimum.at(first, lesions, numbers)
    return _Met(
        n_voxels=pieces.n_voxels,
        n_shared=np.bincount(numbers, minlength=len(pieces) + 1)[1:],
        first=first,
        n_reference_voxels=int(wanted.n_voxels.sum()),
    )


def _at(met: _Met, threshold: float, smallest_mm3: float, grid: Grid, identity: Identity) -> AtRule:
    """One rule: the pieces that are large enough come first, so that sums over them do."""
    voxel_mm3 = grid.voxel_volume_mm3
    n = int(np.count_nonzero(met.n_voxels >= fewest_voxels_of(smallest_mm3, voxel_mm3)))
    n_segmented, n_both = int(met.n_voxels[:n].sum()), int(met.n_shared[:n].sum())
    voxels = Overlap(n_both, n_segmented - n_both, met.n_reference_voxels - n_both, 0)
    lesions = LesionCounts(
        n_reference=len(met.first),
        n_found=int(np.count_nonzero(met.first <= n)),
        n_segmented=n,
        n_true=int(np.count_nonzero(met.n_shared[:n])),
    )
    return AtRule(
        **asdict(identity),
        threshold=threshold,
        smallest_mm3=smallest_mm3,
        f1=voxels.f1,
        lesion_f1=lesions.f1,
        volume_ml=n_segmented * voxel_mm3 / MM3_PER_ML,
        reference_volume_ml=met.n_reference_voxels * voxel_mm3 / MM3_PER_ML,
    )
