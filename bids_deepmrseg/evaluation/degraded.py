"""Damages that change what voxels show, from noise to a missing face."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.evaluation.moved import Field, foreground_of, head_extent
from bids_deepmrseg.imaging.grid import Grid, to_ras

Mask = npt.NDArray[np.bool_]

FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
BIAS_KNOTS = 4  # per axis; the field changes over several centimetres, as coils' do
LINES_PER_CYCLE = 6.0  # a nod takes six lines of k-space: its ghosts lie a sixth of the view apart
BRIGHT_PERCENTILE = 99.0
BROW_BELOW_VERTEX_MM = 85.0  # where the cutting plane meets the forehead
FACE_SLOPE = 0.75  # mm down for each mm back


def tissue_intensity(data: Field) -> float:
    """Median intensity of what is brighter than air: what percentages of noise refer to."""
    shown = data[foreground_of(data)]
    if not shown.size:
        raise GeometryError("the scan shows nothing that could be damaged")
    return float(np.median(shown))


def add_noise(data: Field, percent: float, seed: int) -> Field:
    """Thermal noise of a magnitude image.

    Parameters
    ----------
    data
        ``(I, J, K)`` intensities.
    percent
        Standard deviation of the Gaussian noise in both channels, in percent of the tissue
        intensity; where the signal is well above it, that is the deviation of the image.
    seed
        Of the random numbers.

    Notes
    -----
    The magnitude of a complex signal with Gaussian noise, Rician as scanners' images are
    (Gudbjartsson and Patz 1995, doi:10.1002/mrm.1910340618). Air that was blanked gets it too.
    """
    random = np.random.default_rng(seed)
    sd = percent / 100 * tissue_intensity(data)
    real = data + sd * random.standard_normal(data.shape, dtype=np.float32)
    imaginary = sd * random.standard_normal(data.shape, dtype=np.float32)
    noisy: Field = np.hypot(real, imaginary).astype(np.float32)
    return noisy


def add_bias(data: Field, percent: float, seed: int) -> Field:
    """Uneven coil sensitivity.

    Parameters
    ----------
    data
        ``(I, J, K)`` intensities.
    percent
        Range of the factor over the head: 40 makes it 0.8 to 1.2.
    seed
        Of the smooth random field.
    """
    random = np.random.default_rng(seed)
    field = random.standard_normal((BIAS_KNOTS,) * 3).astype(np.float32)
    for axis, n in enumerate(data.shape):
        at = np.linspace(0, BIAS_KNOTS - 1, n)
        bend = ndimage.spline_filter1d(np.eye(BIAS_KNOTS), axis=0, mode="mirror")
        weights = np.stack(
            [ndimage.map_coordinates(c, [at], mode="mirror", prefilter=False) for c in bend.T], 1
        )
        field = np.moveaxis(np.tensordot(weights.astype(np.float32), field, (1, axis)), 0, axis)
    shown = field[foreground_of(data)]
    low, high = float(shown.min()), float(shown.max())
    share = np.clip((field - low) / (high - low), 0, 1)
    uneven: Field = (data * (1 + percent / 100 * (share - 0.5))).astype(np.float32)
    return uneven


def change_gamma(data: Field, gamma: float) -> Field:
    """Intensities, as shares of the 99th percentile, raised to ``gamma``; above 1 darkens."""
    dark = float(data.min())
    bright = float(np.percentile(data, BRIGHT_PERCENTILE)) - dark
    return (dark + bright * ((data - dark) / bright) ** gamma).astype(np.float32)


def invert(data: Field) -> Field:
    """Bright tissue dark and dark tissue bright, air staying dark, as if T2-weighted."""
    foreground = foreground_of(data)
    bright = float(np.percentile(data[foreground], BRIGHT_PERCENTILE))
    inverted = np.clip(1.1 * bright - data, 0, None)
    return np.where(foreground, inverted, data).astype(np.float32)


def blur(data: Field, grid: Grid, fwhm_mm: float) -> Field:
    """Gaussian smoothing of ``fwhm_mm`` full width at half maximum."""
    sigmas = fwhm_mm / FWHM_PER_SIGMA / np.array(grid.spacing_mm)
    return np.asarray(ndimage.gaussian_filter(data, sigmas), dtype=np.float32)


def thicken_slices(data: Field, grid: Grid, thickness_mm: float) -> Field:
    """Slices of ``thickness_mm`` across the foot-head axis, interpolated back to the old lattice.

    Each thick slice is the mean over its slab; between their middles the scan is interpolated
    linearly, as viewers and scanners do.
    """
    axis = _axis_along(grid, "S")
    n = data.shape[axis]
    n_thick = max(2, round(n * grid.spacing_mm[axis] / thickness_mm))
    edges = np.linspace(0, n, n_thick + 1)
    below = np.arange(n)
    overlap = np.minimum(edges[1:, None], below + 1) - np.maximum(edges[:-1, None], below)
    weights = np.clip(overlap, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    middles = (edges[1:] + edges[:-1]) / 2 - 0.5
    between = np.stack([np.interp(below, middles, row) for row in np.eye(n_thick)], axis=1)
    product = np.tensordot((between @ weights).astype(np.float32), data, (1, axis))
    return np.ascontiguousarray(np.moveaxis(product, 0, axis), dtype=np.float32)


def add_ghosts(data: Field, grid: Grid, amplitude_mm: float, seed: int) -> Field:
    """Ghosts of a head that nods to and fro while lines of k-space are read.

    Parameters
    ----------
    data, grid
        A scan.
    amplitude_mm
        Largest shift along the back-front axis, which is taken as the phase direction.
    seed
        Of the phase of the nodding.

    Notes
    -----
    Each line gets the phase that a shift of the head gives it; the magnitude is returned.
    """
    axis = _axis_along(grid, "A")
    n = data.shape[axis]
    start = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    lines = np.fft.fftfreq(n)
    when = np.argsort(np.argsort(lines))  # lines are read from one end of k-space to the other
    shift = (
        amplitude_mm / grid.spacing_mm[axis] * np.sin(2 * np.pi * when / LINES_PER_CYCLE + start)
    )
    phase = np.exp(-2j * np.pi * lines * shift).astype(np.complex64)
    spectrum = np.fft.fft(data, axis=axis) * phase.reshape(
        [-1 if a == axis else 1 for a in range(3)]
    )
    return np.abs(np.fft.ifft(spectrum, axis=axis)).astype(np.float32)


def _axis_along(grid: Grid, letter: str) -> int:
    """The array axis that runs most nearly along R, A or S, either way."""
    directions = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    return int(np.abs(directions["RAS".index(letter)]).argmax())


def deface(data: Field, grid: Grid) -> Field:
    """Blank the face: what lies in front of and below a plane from the brow down to the throat.

    The plane meets the forehead 85 mm below the vertex and falls 3 mm for every 4 mm backwards, so
    that frontal and temporal lobes stay.
    """
    turned, turn = to_ras(data, grid)
    spacing_mm = turn.turned.spacing_mm
    top = list(head_extent(turned))[2][1]
    below_mm = (top - np.arange(turned.shape[2])) * spacing_mm[2]
    at_brow = foreground_of(turned)[:, :, (below_mm > 30) & (below_mm < 70)].sum(axis=(0, 2))
    if not at_brow.any():
        raise GeometryError("the scan shows no forehead, so its face cannot be found")
    front = int(np.flatnonzero(at_brow > 0.05 * at_brow.max())[-1])
    behind_mm = (front - np.arange(turned.shape[1])) * spacing_mm[1]
    face = below_mm[None, :] > BROW_BELOW_VERTEX_MM + FACE_SLOPE * behind_mm[:, None]
    blanked = np.where(face[None], min(0.0, float(data.min())), turned)
    return np.ascontiguousarray(turn.undo(blanked.astype(np.float32)))


def strip(data: Field, grid: Grid, brain: Mask, margin_mm: float) -> Field:
    """Blank what lies further than ``margin_mm`` outside of the brain, as stripping tools do.

    Parameters
    ----------
    data, grid
        A scan.
    brain
        ``(I, J, K)`` mask on its grid.
    margin_mm
        What is kept around the mask.

    Raises
    ------
    GeometryError
        If the mask is empty or not on the grid.
    """
    if brain.shape != data.shape or not brain.any():
        raise GeometryError(f"a brain mask {brain.shape} that shows nothing cannot strip a scan")
    away_mm = ndimage.distance_transform_edt(~brain, sampling=grid.spacing_mm)
    return np.where(away_mm <= margin_mm, data, 0).astype(np.float32)
