"""Lesions painted where there are none: into white matter of scans, and into painted heads."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from bids_deepmrseg.imaging.grid import Spacing
from bids_deepmrseg.training.deform import uniform
from bids_deepmrseg.training.synthesis import TISSUES, paint, t1w_means

WHITE_MATTER = (2, 41)  # of FreeSurfer's numbers, hemispheres only
MOST_LESIONS = 40
MEDIAN_RADIUS_MM = 2.2
RADIUS_SPREAD = 0.55  # of its logarithm
LARGEST_RADIUS_MM = 12.0
ROUGHNESS = 0.35  # how far a lesion's outline is from an ellipsoid's
SOFT_MM = 0.7  # over which its border fades
LESION_BRIGHTNESS = (1.22, 2.1)  # on FLAIR, over white matter
LESION_DARKNESS = (0.65, 1.0)  # on T1w
NO_FLUID = 0.6  # on FLAIR, over the brain's median
DARK_FLUID = 0.8  # on T1w
FLOW_BRIGHTNESS = (0.7, 1.9)
FROM_BRAIN_BORDER_MM = 6.0
FROM_LESIONS_MM = 3.0
ODD_FLAIR_SHARE = 0.15

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """FLAIR and T1w ``(I, J, K)`` float32 of one head, and where lesions are, uint8."""

    flair: Tensor
    t1w: Tensor
    classes: Tensor


def lesion_shares(white: Mask, spacing_mm: Spacing, generator: torch.Generator) -> Field:
    """How much of each voxel lesions take: a random number of rough ellipsoids in white matter.

    Parameters
    ----------
    white
        ``(I, J, K)``, where centres may lie.
    spacing_mm
        Edges of voxels. Thick slices are filled by the mean over their thickness.
    generator
        Source of every random choice.

    Returns
    -------
    ndarray
        ``(I, J, K)`` in 0 to 1.
    """
    shares = np.zeros(white.shape, dtype=np.float32)
    where = np.argwhere(white)
    n_lesions = round(MOST_LESIONS ** uniform(0, 1, generator))
    for _ in range(n_lesions if len(where) else 0):
        centre = where[int(torch.randint(len(where), (), generator=generator))]
        _add_lesion(shares, centre, spacing_mm, generator)
    return shares


def _add_lesion(
    shares: Field,
    centre: npt.NDArray[np.intp],
    spacing_mm: Spacing,
    generator: torch.Generator,
) -> None:
    """One rough ellipsoid around a voxel, where it takes more than what is there already."""
    spread = float(torch.randn((), generator=generator)) * RADIUS_SPREAD
    radius_mm = min(LARGEST_RADIUS_MM, MEDIAN_RADIUS_MM * float(np.exp(spread)))
    edges = np.array(spacing_mm)
    reach = np.ceil(2 * radius_mm / edges).astype(int) + 1
    low = np.maximum(0, centre - reach)
    high = np.minimum(shares.shape, centre + reach + 1)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    stretch = np.exp(0.25 * torch.randn(3, generator=generator).numpy())
    parts = np.maximum(1, np.rint(edges)).astype(int)  # a millimetre each
    lines = [
        (np.arange(a * n, b * n) + 0.5) / n - 0.5 - c
        for a, b, c, n in zip(low, high, centre, parts, strict=True)
    ]
    at = np.meshgrid(*(line * e for line, e in zip(lines, edges, strict=True)), indexing="ij")
    distance_mm = np.sqrt(sum((x / s) ** 2 for x, s in zip(at, stretch, strict=True)))
    rough = torch.randn(distance_mm.shape, generator=generator).numpy()
    smooth = ndimage.gaussian_filter(rough, 1 + radius_mm / 3)
    smooth /= max(float(smooth.std()), 1e-6)
    inside = 1 / (1 + np.exp((distance_mm - radius_mm * (1 + ROUGHNESS * smooth)) / SOFT_MM))
    fine = inside.reshape([n for a, b, p in zip(low, high, parts, strict=True) for n in (b - a, p)])
    shares[box] = np.maximum(shares[box], fine.mean(axis=(1, 3, 5)))


def add_lesions(
    channels: Field, classes: npt.NDArray[np.uint8], spacing_mm: Spacing, generator: torch.Generator
) -> tuple[Field, npt.NDArray[np.uint8]]:
    """Paint lesions into what looks like healthy white matter of a prepared scan.

    Parameters
    ----------
    channels
        ``(2, I, J, K)`` FLAIR and T1w, the brain's median 1, 0 outside of it.
    classes
        ``(I, J, K)``, 1 where there is a lesion already; none is painted near one.
    spacing_mm
        Edges of voxels.
    generator
        Source of every random choice.
    """
    flair, t1w = channels
    inner = ndimage.distance_transform_edt(flair > 0, sampling=spacing_mm) > FROM_BRAIN_BORDER_MM
    apart = ndimage.distance_transform_edt(classes == 0, sampling=spacing_mm) > FROM_LESIONS_MM
    bright = t1w > float(np.percentile(t1w[inner], 55)) if inner.any() else inner
    white = inner & apart & bright & (flair > 0.75) & (flair < 1.15)
    shares = lesion_shares(white, spacing_mm, generator) * (apart & (flair > NO_FLUID))
    brightness = uniform(*LESION_BRIGHTNESS, generator)
    darkness = uniform(*LESION_DARKNESS, generator)
    painted = np.stack(
        [flair + shares * (brightness - flair), t1w * (1 - shares * (1 - darkness))]
    ).astype(np.float32)
    return painted, np.where(shares > 0.5, 1, classes).astype(np.uint8)


def add_flow(channels: Field, spacing_mm: Spacing, generator: torch.Generator) -> Field:
    """Brighten fluid within the brain on FLAIR, as its pulsation does: bright, and no lesion.

    Parameters
    ----------
    channels
        ``(2, I, J, K)`` FLAIR and T1w, the brain's median 1, 0 outside of it.
    spacing_mm
        Edges of voxels.
    generator
        Source of every random choice.
    """
    flair, t1w = channels
    inner = ndimage.distance_transform_edt(flair > 0, sampling=spacing_mm) > FROM_BRAIN_BORDER_MM
    fluid = inner & (flair < NO_FLUID) & (t1w < DARK_FLUID)
    shares = lesion_shares(fluid, spacing_mm, generator) * fluid
    brightness = uniform(*FLOW_BRIGHTNESS, generator)
    return np.stack([flair + shares * np.maximum(0, brightness - flair), t1w]).astype(np.float32)


def paint_pair(label_map: Tensor, spacing_mm: Spacing, generator: torch.Generator) -> Pair:
    """FLAIR and T1w of a head with lesions, from a whole-head label map.

    Parameters
    ----------
    label_map
        ``(I, J, K)`` int64, FreeSurfer numbers inside and 500 and up outside of the brain.
    spacing_mm
        Edges of voxels.
    generator
        Source of every random choice.
    """
    white = np.isin(label_map.numpy(), WHITE_MATTER)
    tissue = np.isin(
        label_map.numpy(), [n for name, own in TISSUES if name != "fluid" for n in own]
    )
    shares = torch.from_numpy(lesion_shares(white, spacing_mm, generator) * tissue)
    on_flair, on_t1w = flair_means(generator), t1w_means(generator)
    bright = on_flair["white matter"] * uniform(*LESION_BRIGHTNESS, generator)
    dark = on_t1w["white matter"] * uniform(*LESION_DARKNESS, generator)
    return Pair(
        paint(label_map, generator, means=on_flair, over=(shares, bright)),
        paint(label_map, generator, means=on_t1w, over=(shares, dark)),
        (shares > 0.5).to(torch.uint8),
    )


def flair_means(generator: torch.Generator) -> dict[str, float]:
    """A mean intensity for each tissue, as FLAIR shows them: fluid dark, grey above white."""
    if uniform(0, 1, generator) < ODD_FLAIR_SHARE:
        means = {name: uniform(0.7, 1.2, generator) for name, _ in TISSUES}
        return means | {"white matter": 1.0, "fluid": uniform(0.1, 0.6, generator)}
    grey = uniform(0.98, 1.3, generator)
    means = {name: grey * uniform(0.9, 1.1, generator) for name, _ in TISSUES}
    means |= {"white matter": 1.0, "fluid": uniform(0.05, 0.45, generator)}
    return means | {"pallidum": uniform(0.75, 1.05, generator)}
