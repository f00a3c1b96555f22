"""Rigid registration of two scans of one head, and transform files: the room of SimpleITK."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name under which its users know it

from bids_deepmrseg.errors import InputDataError, OutputError
from bids_deepmrseg.files import make_folder, partial_name
from bids_deepmrseg.imaging import agreement
from bids_deepmrseg.imaging.alignment import Mask
from bids_deepmrseg.imaging.grid import Affine, Grid
from bids_deepmrseg.imaging.nifti import Scan
from bids_deepmrseg.imaging.refine import refined
from bids_deepmrseg.imaging.registration import Pair, Registration, Start, judged

# scanner millimetres run to the right and front in NIfTI, to the left and back in ITK
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
BINS = 32
SEED = 1
REFINED_BY = 20_000  # places; with more of them the summit does not lie elsewhere
MIN_SHRUNK_VOXELS = 8  # an axis is not averaged below this: thick slices stay as they are


@dataclass(frozen=True, slots=True)
class Level:
    """One step from coarse to fine: voxels averaged to ``spacing_mm``, places, steps in mm."""

    spacing_mm: float
    samples: int
    first_step_mm: float
    last_step_mm: float


LEVELS = (
    Level(8.0, 20_000, 4.0, 0.05),
    Level(4.0, 30_000, 2.0, 0.05),
    Level(2.0, 100_000, 1.0, 0.01),
)
STEP_RELAXATION = 0.8  # half, as is usual, stops up to 4 mm away on slices of 3 mm
MAX_ITERATIONS = 200


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Where a search ended: its transform, and whether it ended by itself."""

    transform: sitk.Euler3DTransform
    start: Start
    converged: bool

    @property
    def matrix(self) -> Affine:
        """RAS+ millimetres of the fixed scan to those of the moving one."""
        return _matrix_of(self.transform)


def register_rigid(
    fixed: Scan,
    moving: Scan,
    *,
    fixed_mask: Mask | None = None,
    moving_mask: Mask | None = None,
) -> Registration:
    """Find the rigid movement by which one scan of a head lies upon another.

    Parameters
    ----------
    fixed
        The scan that stays, the FLAIR. Thick slices, whole and stripped heads are welcome.
    moving
        The scan that is moved onto it, the T1w, on whatever grid.
    fixed_mask, moving_mask
        ``(I, J, K)``, the brains on the scans' own grids, for the overlap by which the result is
        judged; the heads, told from air by brightness, where they are not given. The search itself
        does not use them.

    Returns
    -------
    Registration
        The same for the same scans on any number of cores.

    Raises
    ------
    InputDataError
        If the scans cannot be brought to overlap at all.

    Notes
    -----
    Mutual information after Mattes et al. 2003 (doi:10.1109/TMI.2003.809072) in SimpleITK, steepest
    descent from coarse to fine. Averaging is per axis and in millimetres: in the plane of thick
    slices, and never across them. The search sets out from the header's coordinates, from the
    centres of the fields of view and from those of the heads; what then shares most information is
    followed. Where that ends, or at the header's coordinates if the scans agree more by those, the
    information of :mod:`bids_deepmrseg.imaging.agreement` itself is followed to its summit, for
    Mattes' may stop 3 mm away from it on slices of 7 mm. The header is believed where the movement
    is smaller than registrations are off by, or agrees less.
    """
    heads = agreement.head_mask(fixed), agreement.head_mask(moving)
    pair = Pair(
        agreement.clipped(fixed, heads[0]),
        agreement.clipped(moving, heads[1]),
        heads[0] if fixed_mask is None else fixed_mask,
        heads[1] if moving_mask is None else moving_mask,
    )
    points = agreement.sample_points(heads[0], fixed.grid)
    information = agreement.information_by(pair.fixed, pair.moving, points)
    found = _searched(pair, heads, information)
    ends: list[tuple[Start, Affine]] = [("header", np.eye(4)), (found.start, found.matrix)]
    start, matrix = max(ends, key=lambda end: information(end[1]))
    roughly = agreement.information_by(pair.fixed, pair.moving, points[:REFINED_BY])
    matrix = refined(roughly, matrix, agreement.centre_mm(heads[0], fixed.grid))
    metrics = information(np.eye(4)), information(matrix)
    return judged(pair, matrix, start, metrics, converged=found.converged)


def _searched(
    pair: Pair, heads: tuple[Mask, Mask], information: Callable[[Affine], float]
) -> _Found:
    """Coarse searches from every start, and the best of them followed to the finest level."""
    coarse = [
        found
        for start, transform in _starts(pair.fixed.grid, pair.moving.grid, heads)
        if (found := _search(pair, transform, start, LEVELS[0])) is not None
    ]
    if not coarse:
        raise InputDataError(
            "the two scans cannot be registered: from no start does one show what the other "
            "shows; look at both, and at the coordinates in their headers"
        )
    found = max(coarse, key=lambda each: information(each.matrix))
    for level in LEVELS[1:]:
        found = _search(pair, found.transform, found.start, level) or found
    return found


def _starts(
    fixed: Grid, moving: Grid, heads: tuple[Mask, Mask]
) -> Iterator[tuple[Start, sitk.Euler3DTransform]]:
    """Movements to set out from, all of them shifts, turning about the middle of the fixed head."""
    centre = agreement.centre_mm(heads[0], fixed)
    shifts: dict[Start, np.ndarray[tuple[int], np.dtype[np.float64]]] = {
        "header": np.zeros(3),
        "fields": agreement.middle_mm(moving) - agreement.middle_mm(fixed),
        "heads": agreement.centre_mm(heads[1], moving) - centre,
    }
    flip = RAS_TO_LPS[:3, :3]
    for start, shift in shifts.items():
        transform = sitk.Euler3DTransform()
        transform.SetCenter((flip @ centre).tolist())
        transform.SetTranslation((flip @ shift).tolist())
        yield start, transform


def _search(
    pair: Pair, transform: sitk.Euler3DTransform, start: Start, level: Level
) -> _Found | None:
    """Follow the information uphill at one level; ``None`` where the scans do not meet."""
    fixed = averaged(image_of(pair.fixed), level.spacing_mm)
    moving = averaged(image_of(pair.moving), level.spacing_mm)
    found = sitk.Euler3DTransform(transform)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in another order end elsewhere by a hair
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    share = level.samples / fixed.GetNumberOfPixels()
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        level.first_step_mm, level.last_step_mm, MAX_ITERATIONS, STEP_RELAXATION
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(found, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # ITK's only word for: too few points of one lie within the other
        return None
    return _Found(found, start, method.GetOptimizerIteration() < MAX_ITERATIONS)


def image_of(scan: Scan) -> sitk.Image:
    """The scan as SimpleITK holds it."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(scan.data.T))
    affine = RAS_TO_LPS @ scan.grid.affine
    spacing = np.array(scan.grid.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def averaged(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Whole voxels averaged along each axis while the mean spans no more than ``spacing_mm``."""
    factors = [
        min(int(spacing_mm / spacing + 0.01), size // MIN_SHRUNK_VOXELS) or 1
        for spacing, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    averaged: sitk.Image = sitk.BinShrink(image, factors)
    return averaged


def write_transform(matrix: Affine, file: Path) -> Path:
    """Write a movement as an ITK text transform, for ITK, ANTs and 3D Slicer.

    Parameters
    ----------
    matrix
        :attr:`Registration.matrix`, points of the FLAIR to points of the T1w, RAS+ millimetres. In
        the file it stands in ITK's millimetres, which run to the left, back and top.
    file
        Ends in ``.txt``, in BIDS ``*_from-T1w_to-FLAIR_mode-image_xfm.txt``: from and to name the
        image's way, which is opposite to the points'. ``antsApplyTransforms -i T1w -r FLAIR -t``
        takes it as it is. The file appears whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    lps = RAS_TO_LPS @ matrix @ RAS_TO_LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    partial = partial_name(file)
    try:
        make_folder(file.parent)
        sitk.WriteTransform(transform, str(partial))
        partial.replace(file)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{file} cannot be written: {error}") from error
    return file


def read_transform(file: Path) -> Affine:
    """Read a linear ITK transform file, whoever wrote it.

    Returns
    -------
    ndarray
        ``(4, 4)`` as in :attr:`Registration.matrix`.

    Raises
    ------
    InputDataError
        If the file is missing, no transform, or one that bends.
    """
    if not file.is_file():
        raise InputDataError(f"{file} does not exist")
    try:
        transform = sitk.ReadTransform(str(file))
    except RuntimeError as error:
        raise InputDataError(f"{file} is not an ITK transform file") from error
    if not transform.IsLinear() or transform.GetDimension() != 3:
        raise InputDataError(f"{file} does not hold one linear movement of three dimensions")
    return _matrix_of(transform)


def _matrix_of(transform: sitk.Transform) -> Affine:
    """A linear ITK transform as a matrix in RAS+ millimetres."""
    corners = np.vstack([np.zeros(3), np.eye(3)])
    mapped = np.array([transform.TransformPoint(corner.tolist()) for corner in corners])
    lps = np.eye(4)
    lps[:3, 3] = mapped[0]
    lps[:3, :3] = (mapped[1:] - mapped[0]).T
    matrix: Affine = RAS_TO_LPS @ lps @ RAS_TO_LPS
    return matrix
