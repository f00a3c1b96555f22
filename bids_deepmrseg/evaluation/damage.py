"""The damages that scans are given to see what the networks make of them, by name and severity."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.degraded import (
    Mask,
    add_bias,
    add_ghosts,
    add_noise,
    blur,
    change_gamma,
    deface,
    invert,
    strip,
    thicken_slices,
)
from bids_deepmrseg.evaluation.moved import (
    STORAGE_ORDERS,
    Damaged,
    Field,
    cut_off,
    resample,
    rotate_affine,
    rotate_head,
    stays,
    store_as,
)
from bids_deepmrseg.imaging.grid import Grid

STRIPPING_MARGIN_MM = 2.0
STORED = "stored as"


@dataclass(frozen=True, slots=True, eq=False)
class Scanned:
    """What is damaged: ``(I, J, K)`` intensities, lattice, and where the brain is, if known."""

    data: Field
    grid: Grid
    brain: Mask | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """One way to damage a scan.

    Attributes
    ----------
    name, severity
        What tables call it, such as ``noise`` and ``3 %``; severities of one name are ordered.
    make
        Does it, from the scan and a seed.
    needs_brain
        Whether the scan must come with a brain mask.
    is_exact
        Whether no interpolation is done to the scan's voxels, so that nothing may change.
    """

    name: str
    severity: str
    make: Callable[[Scanned, int], Damaged]
    needs_brain: bool = False
    is_exact: bool = False

    @property
    def title(self) -> str:
        """Name and severity."""
        return f"{self.name} {self.severity}".strip()

    def seed_for(self, scan: str) -> int:
        """A seed that depends on the scan's and the damage's names alone."""
        return zlib.crc32(f"{scan} {self.title}".encode())

    def do(self, data: Field, grid: Grid, *, seed: int, brain: Mask | None = None) -> Damaged:
        """Damage a scan.

        Parameters
        ----------
        data, grid
            ``(I, J, K)`` float32 intensities and their lattice.
        seed
            Of random damages; the same seed gives the same damage.
        brain
            ``(I, J, K)`` mask, for stripping.

        Raises
        ------
        UsageError
            If a mask is needed and there is none.
        GeometryError
            If the scan does not allow it.
        """
        return self.make(Scanned(data, grid, brain), seed)


def _shown(name: str, severity: str, change: Callable[[Scanned, int], Field]) -> Damage:
    """A damage that leaves the lattice alone."""
    return Damage(name, severity, lambda scan, seed: stays(change(scan, seed), scan.grid))


def noise(percent: float) -> Damage:
    """Noise in percent of the tissue intensity."""
    return _shown("noise", f"{percent:g} %", lambda s, seed: add_noise(s.data, percent, seed))


def bias(percent: float) -> Damage:
    """Bias field whose range over the head is ``percent``."""
    return _shown("bias field", f"{percent:g} %", lambda s, seed: add_bias(s.data, percent, seed))


def gamma(exponent: float) -> Damage:
    """Intensities to a power."""
    return _shown("gamma", f"{exponent:g}", lambda s, _: change_gamma(s.data, exponent))


def blurred(fwhm_mm: float) -> Damage:
    """Gaussian smoothing."""
    return _shown("blur", f"{fwhm_mm:g} mm", lambda s, _: blur(s.data, s.grid, fwhm_mm))


def thick_slices(thickness_mm: float) -> Damage:
    """Thick slices on the old lattice."""
    return _shown(
        "thick slices",
        f"{thickness_mm:g} mm",
        lambda s, _: thicken_slices(s.data, s.grid, thickness_mm),
    )


def ghosts(amplitude_mm: float) -> Damage:
    """Ghosts of a nodding head."""
    return _shown(
        "motion ghosts",
        f"{amplitude_mm:g} mm",
        lambda s, seed: add_ghosts(s.data, s.grid, amplitude_mm, seed),
    )


def cut(side: str, amount_mm: float) -> Damage:
    """A slab of the head outside of the field of view."""
    return Damage(
        "cut off",
        f"{side} {amount_mm:g} mm",
        lambda s, _: cut_off(s.data, s.grid, side, amount_mm),
    )


def resampled(spacing_mm: float) -> Damage:
    """Cubic voxels of another size."""
    return Damage(
        "resampled", f"{spacing_mm:g} mm", lambda s, _: resample(s.data, s.grid, spacing_mm)
    )


def stored(orientation: str) -> Damage:
    """Another storage order."""
    return Damage(
        STORED, orientation, lambda s, _: store_as(s.data, s.grid, orientation), is_exact=True
    )


def rotated(nod_deg: float, tilt_deg: float, turn_deg: float) -> Damage:
    """The head rotated, in voxels that are interpolated."""
    angles = (nod_deg, tilt_deg, turn_deg)
    return Damage("rotated", _degrees(angles), lambda s, _: rotate_head(s.data, s.grid, angles))


def oblique(nod_deg: float, tilt_deg: float, turn_deg: float) -> Damage:
    """The lattice rotated, by its affine alone."""
    angles = (nod_deg, tilt_deg, turn_deg)
    return Damage(
        "oblique affine",
        _degrees(angles),
        lambda s, _: rotate_affine(s.data, s.grid, angles),
        is_exact=True,
    )


def _degrees(angles_deg: tuple[float, float, float]) -> str:
    """Angles about R, A and S that are not zero."""
    named = zip("RAS", angles_deg, strict=True)
    return " ".join(f"{letter} {angle:+g}°" for letter, angle in named if angle)


def _stripped(scan: Scanned, seed: int) -> Damaged:
    """Without what is outside of the brain."""
    del seed
    if scan.brain is None:
        raise UsageError("stripping a scan needs a brain mask, and none was given")
    return stays(strip(scan.data, scan.grid, scan.brain, STRIPPING_MARGIN_MM), scan.grid)


DEFACED = _shown("defaced", "", lambda s, _: deface(s.data, s.grid))
STRIPPED = Damage("stripped", f"{STRIPPING_MARGIN_MM:g} mm", _stripped, needs_brain=True)
INVERTED = _shown("inverted contrast", "", lambda s, _: invert(s.data))

DAMAGES: tuple[Damage, ...] = (
    *(resampled(spacing_mm) for spacing_mm in (0.8, 1.2, 2.0)),
    *(
        rotated(*(sign * 15.0 * (a == axis) for a in range(3)))
        for axis in range(3)
        for sign in (1, -1)
    ),
    rotated(10.0, 10.0, 10.0),
    oblique(15.0, 10.0, 5.0),
    bias(40.0),
    noise(3.0),
    gamma(0.7),
    gamma(1.4),
    DEFACED,
    STRIPPED,
    *(stored(orientation) for orientation in STORAGE_ORDERS),
)
"""What robustness is measured on: scans that are as good, or nearly, as the undamaged one."""

CALIBRATION: tuple[Damage, ...] = (
    noise(3.0),
    noise(6.0),
    noise(10.0),
    ghosts(1.0),
    ghosts(3.0),
    bias(40.0),
    bias(80.0),
    thick_slices(3.0),
    thick_slices(6.0),
    cut("S", 40.0),
    cut("L", 50.0),
    INVERTED,
    blurred(3.0),
    blurred(6.0),
    gamma(0.5),
    gamma(2.0),
)
"""What quality figures are calibrated on: from harmless to useless, on lattices as scanned."""
