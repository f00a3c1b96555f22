"""Synthetic heads: intensities for whole-head label maps, and heads around stripped brains."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bids_deepmrseg.training.deform import blur, uniform

OUTSIDE = 500  # label maps number skull, scalp and the rest of the head from here on
TISSUES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("white matter", (2, 41, 7, 46, 77, 85, 251, 252, 253, 254, 255)),
    ("cortex", (3, 42)),
    ("cerebellar cortex", (8, 47)),
    ("fluid", (4, 5, 14, 15, 24, 43, 44, 72, 30, 62)),
    ("thalamus", (10, 49)),
    ("caudate", (11, 50)),
    ("putamen", (12, 51)),
    ("pallidum", (13, 52)),
    ("hippocampus", (17, 53)),
    ("amygdala", (18, 54)),
    ("accumbens", (26, 58)),
    ("brain stem", (16, 28, 60)),
)
# between grey (0) and white matter (1) on a T1w scan: the range that each tissue is drawn from
T1W_WHITENESS = {
    "cortex": (-0.1, 0.1),
    "cerebellar cortex": (-0.1, 0.2),
    "thalamus": (0.15, 0.75),
    "caudate": (-0.1, 0.25),
    "putamen": (-0.05, 0.4),
    "pallidum": (0.45, 1.05),
    "hippocampus": (-0.1, 0.2),
    "amygdala": (-0.1, 0.15),
    "accumbens": (-0.1, 0.3),
    "brain stem": (0.4, 1.0),
}
RANDOM_CONTRAST_SHARE = 0.2
STRIPPED_SHARE = 0.25
DEFACED_SHARE = 0.25
MOTTLED_SHARE = 0.7
PATCH_VOXELS = (5.0, 14.0)
PATCH_LEVELS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A head to learn from: image ``(I, J, K)`` float32 and classes ``(I, J, K)`` uint8."""

    image: Tensor
    classes: Tensor


def t1w_means(generator: torch.Generator) -> dict[str, float]:
    """A mean intensity for each tissue, white matter near 1; mostly as T1w scans show them."""
    if uniform(0, 1, generator) < RANDOM_CONTRAST_SHARE:
        return {name: uniform(0.1, 1.3, generator) for name, _ in TISSUES}
    grey = uniform(0.55, 0.94, generator)
    means = {"white matter": 1.0, "fluid": uniform(0.1, 0.45, generator) * grey / 0.7}
    for name, (low, high) in T1W_WHITENESS.items():
        means[name] = grey + (1 - grey) * uniform(low, high, generator)
    return means


def _lookup(n_values: int, generator: torch.Generator, means: Mapping[str, float] | None) -> Tensor:
    """Mean intensity of every value of a whole-head label map."""
    table = torch.full((n_values,), uniform(0.6, 1.0, generator))
    table[0] = uniform(0, 0.06, generator)
    for value in range(OUTSIDE, n_values):
        table[value] = 2.2 * uniform(0, 1, generator) ** 1.5
    means = t1w_means(generator) if means is None else means
    for name, values in TISSUES:
        for value in values:
            table[value] = means[name]
    return table


def _texture(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Tissue is not flat: smooth noise of unit variance."""
    rough = torch.randn(shape, generator=generator)
    return rough + 1.5 * blur(rough, 1.2) / 0.15


def _mottle(image: Tensor, around: Tensor, generator: torch.Generator) -> Tensor:
    """Patches of random intensity in what lies around a brain.

    Label maps have a few numbers for all of it, but below the skull muscles, marrow, glands and
    fat lie side by side, many of them as bright as a brain.
    """
    if uniform(0, 1, generator) > MOTTLED_SHARE:
        return image
    size = uniform(*PATCH_VOXELS, generator)
    knots = torch.rand([max(2, round(n / size)) for n in image.shape], generator=generator)
    smooth = functional.interpolate(knots[None, None], size=image.shape, mode="trilinear")[0, 0]
    levels = 1.6 * torch.rand(PATCH_LEVELS, generator=generator)
    # the middle of what interpolated random numbers reach, in as many steps as there are levels
    step = ((smooth - 0.2) / 0.6 * PATCH_LEVELS).long().clamp(0, PATCH_LEVELS - 1)
    strength = uniform(0.2, 1, generator)
    return torch.where(around, (1 - strength) * image + strength * levels[step], image)


def paint(
    label_map: Tensor,
    generator: torch.Generator,
    *,
    means: Mapping[str, float] | None = None,
    over: tuple[Tensor, float] | None = None,
) -> Tensor:
    """Random intensities for a whole-head label map.

    Parameters
    ----------
    label_map
        ``(I, J, K)`` int64, FreeSurfer numbers inside and 500 and up outside of the brain.
    generator
        Source of every random choice.
    means
        Intensity of each of :data:`TISSUES`; drawn, mostly as T1w scans show them, where not given.
    over
        What is painted over the tissues: how much of each voxel it takes, ``(I, J, K)`` in 0 to 1,
        and its intensity.

    Returns
    -------
    Tensor
        ``(I, J, K)`` float32, white matter near 1, with tissue texture and partial volume.
    """
    n_values = int(label_map.max()) + 1 if label_map.max() > OUTSIDE else OUTSIDE
    values = _lookup(n_values, generator, means)
    image = _mottle(values[label_map], label_map >= OUTSIDE, generator)
    if over is not None:
        image = image + over[0] * (over[1] - image)
    image = image * (1 + uniform(0.005, 0.03, generator) * _texture(image.shape, generator))
    return blur(image, uniform(0.45, 0.85, generator))


def strip(image: Tensor, label_map: Tensor, generator: torch.Generator) -> Tensor:
    """Remove what a skull-stripping tool would: the outside, and part of the fluid around it."""
    brain = (label_map > 0) & (label_map < OUTSIDE) & (label_map != 24)
    margin = blur(brain.float(), uniform(0.8, 2.5, generator))
    return image * (margin > uniform(0.05, 0.4, generator))


def deface(image: Tensor, generator: torch.Generator) -> Tensor:
    """Blank what lies in front of and below a slanting plane, as defacing tools do."""
    n_i, n_j, n_k = image.shape
    front = torch.arange(n_j)[:, None] / n_j - uniform(0.62, 0.75, generator)
    low = uniform(0.3, 0.45, generator) - torch.arange(n_k)[None, :] / n_k
    face = (front + uniform(0.5, 1.2, generator) * low > 0) & (low > 0)
    return image * ~face.expand(n_i, n_j, n_k)


def surround(brain: Tensor, head_map: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put a real stripped brain into the painted surroundings of another person's head.

    Parameters
    ----------
    brain
        ``(I, J, K)`` stripped scan, 0 outside, R A S axes, 1 mm.
    head_map
        ``(A, B, C)`` whole-head label map of the same orientation and spacing.
    generator
        Source of every random choice.

    Returns
    -------
    tuple
        The image on a grid enlarged to the whole head, and the index of the brain's first voxel
        in it. The head is stretched so that its brain fits the real one along each axis.
    """
    inside = (head_map > 0) & (head_map < OUTSIDE) & (head_map != 24)
    real = blur((brain > 0).float(), 1.0) > 0.5
    lines, first = [], []
    for axis in range(3):
        at, spread = _spread(real, axis)
        at_head, spread_head = _spread(inside, axis)
        zoom = spread_head / spread
        before = int(min(90.0, at_head / zoom)) - int(at)
        before = max(0, before)
        length = brain.shape[axis] + 2 * before
        line = ((torch.arange(length) - before - at) * zoom + at_head).round().long()
        lines.append(line.clamp(0, head_map.shape[axis] - 1))
        first.append(before)
    around = head_map[lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]]
    image = paint(around, generator)
    gap = (around > 0) & (around < OUTSIDE)
    image[gap] = (
        uniform(0.05, 0.5, generator) + 0.05 * torch.randn(int(gap.sum()), generator=generator)
    ).clamp(min=0)
    image = blur(image, 0.6)
    box = tuple(slice(f, f + n) for f, n in zip(first, brain.shape, strict=True))
    scaled = brain / brain[brain > 0].median() * uniform(0.75, 0.95, generator)
    image[box] = torch.where(brain > 0, scaled, image[box])
    return image, torch.tensor(first)


def _spread(mask: Tensor, axis: int) -> tuple[float, float]:
    """Mean and standard deviation of a mask's voxel positions along one axis."""
    counts = mask.sum(dim=[a for a in range(3) if a != axis]).double()
    position = torch.arange(len(counts)).double()
    mean = float((counts * position).sum() / counts.sum())
    return mean, float(((counts * (position - mean) ** 2).sum() / counts.sum()).sqrt())
