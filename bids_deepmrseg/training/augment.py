"""Random changes of a batch: drawing the parameters is kept apart from applying them."""

from dataclasses import dataclass, fields, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from bids_deepmrseg.imaging.head import BRIGHTEST
from bids_deepmrseg.network.weights import View
from bids_deepmrseg.training.recipe import Augmentation
from bids_deepmrseg.training.sampling import Slices

CURVE_KNOTS = (0.0, 0.3, 0.6, 0.8, 1.0, 1.2, 1.6)  # intensities where a contrast curve may bend
BIAS_KNOTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """How far parameters may go; a rotation in radians, lengths in voxels, the rest relative.

    ``apart`` is the standard deviation of how far further sequences lie from the first, ``ghost``
    the most that a ghost takes of the brightness, in ``ghost_share`` of the slices.
    """

    rotation: float
    scale: float
    shear: float
    shift: float
    gain: float
    offset: float
    bend: float
    bias: float
    noise: float
    coarse_share: float
    apart: float = 0
    ghost: float = 0
    ghost_share: float = 0


STRENGTHS: dict[Augmentation, Strength] = {
    "paper": Strength(
        rotation=0.2,
        scale=0,
        shear=0,
        shift=10,
        gain=0.2,
        offset=0.1,
        bend=0,
        bias=0,
        noise=0,
        coarse_share=0,
    ),
    "place": Strength(
        rotation=0.2,
        scale=0.1,
        shear=0.05,
        shift=4,
        gain=0.12,
        offset=0.03,
        bend=0.15,
        bias=0.08,
        noise=0.04,
        coarse_share=0.08,
    ),
    "any-place": Strength(
        rotation=0.2,
        scale=0.1,
        shear=0.1,
        shift=4,
        gain=0.2,
        offset=0.05,
        bend=0.4,
        bias=0.12,
        noise=0.06,
        coarse_share=0.35,
    ),
    "any-head": Strength(
        rotation=0.2,
        scale=0.1,
        shear=0.1,
        shift=20,
        gain=0.2,
        offset=0.05,
        bend=0.4,
        bias=0.12,
        noise=0.06,
        coarse_share=0.15,
    ),
    "lesions": Strength(
        rotation=0.25,
        scale=0.15,
        shear=0.08,
        shift=16,
        gain=0.12,
        offset=0.03,
        bend=0.2,
        bias=0.1,
        noise=0.05,
        coarse_share=0.15,
        apart=0.6,
        ghost=0.2,
        ghost_share=0.1,
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Parameters for each slice of a batch of ``N``.

    Attributes
    ----------
    theta
        ``(N, 2, 2)`` rotation, scale and shear of the patch grid.
    shift
        ``(N, 2)`` of the patch centre, voxels.
    flipped
        ``(N,)`` whether left and right are exchanged.
    gain, offset
        ``(N,)`` brightness and contrast.
    slopes
        ``(N, B)`` of a monotone contrast curve between its knots.
    bias
        ``(N, 1, 4, 4)`` logarithm of a smooth field.
    noise
        ``(N,)`` standard deviation.
    coarse
        ``(N,)`` down-sampling of the rows, 1 for none.
    ghost
        ``(N,)`` part of the brightness that a shifted image adds, 0 for none.
    """

    theta: Tensor
    shift: Tensor
    flipped: Tensor
    gain: Tensor
    offset: Tensor
    slopes: Tensor
    bias: Tensor
    noise: Tensor
    coarse: Tensor
    ghost: Tensor

    def to(self, device: torch.device) -> "Draw":
        """The same parameters where the slices are."""
        return Draw(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def draw_parameters(
    n: int, strength: Strength, generator: torch.Generator, *, flipped_share: float = 0.5
) -> Draw:
    """Draw the parameters of a batch of ``n`` slices."""

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    angle = between(-strength.rotation, strength.rotation, n)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    stretch = torch.diag_embed(1 + between(-strength.scale, strength.scale, n, 2))
    stretch[:, 0, 1] = between(-strength.shear, strength.shear, n)
    coarse = torch.where(
        between(0, 1, n) < strength.coarse_share, between(1.5, 4, n), torch.ones(n)
    )
    draw = Draw(
        theta=rotation @ stretch,
        shift=between(-strength.shift, strength.shift, n, 2),
        flipped=between(0, 1, n) < flipped_share,
        gain=1 + between(-strength.gain, strength.gain, n),
        offset=between(-strength.offset, strength.offset, n),
        slopes=torch.exp(strength.bend * normal(n, len(CURVE_KNOTS))),
        bias=strength.bias * normal(n, 1, BIAS_KNOTS, BIAS_KNOTS),
        noise=between(0, strength.noise, n),
        coarse=coarse,
        ghost=torch.zeros(n),
    )
    if not strength.ghost_share:
        return draw  # without another random number: the batches of older recipes stay the same
    is_haunted = between(0, 1, n) < strength.ghost_share
    return replace(draw, ghost=is_haunted * between(0, strength.ghost, n))


def draw_further(
    first: Draw, strength: Strength, generator: torch.Generator, *, absent_share: float
) -> Draw:
    """Parameters of another sequence of the same slices.

    Parameters
    ----------
    first
        Of the first sequence: both turn and stretch alike, and lie a little apart.
    strength, generator
        As for :func:`draw_parameters`.
    absent_share
        Part of the slices where the sequence is not shown at all.
    """
    n = len(first.gain)
    own = draw_parameters(n, strength, generator)
    is_absent = torch.rand(n, generator=generator) < absent_share
    return replace(
        own,
        theta=first.theta,
        shift=first.shift + strength.apart * torch.randn(n, 2, generator=generator),
        flipped=first.flipped,
        gain=torch.where(is_absent, torch.zeros(n), own.gain),
    )


def augment(
    slices: Slices,
    draw: Draw,
    *,
    patch: tuple[int, int],
    view: View,
    mirror_classes: tuple[int, ...],
    generator: torch.Generator,
    further: tuple[Draw, ...] = (),
) -> tuple[Tensor, Tensor]:
    """Cut patches out of slices and change them as drawn.

    Parameters
    ----------
    slices
        Whole slices with patch centres.
    draw
        Parameters of each slice.
    patch
        Height and width of the result.
    view
        Left/right is a flip of the rows in axial and coronal slices; sagittal slices show one
        side, so nothing is flipped there.
    mirror_classes
        For every class, the class of the other side: flipped labels change their names.
    generator
        Source of the noise, on the device of the slices.
    further
        Parameters of the second and further sequences of slices that have several.

    Returns
    -------
    tuple
        ``(N, C, h, w)`` float32 images and ``(N, h, w)`` int64 classes.
    """
    draw = draw.to(slices.images.device)
    grid = _patch_grid(slices, draw, patch)
    images = _cut(slices, draw, further, patch)
    shown = functional.grid_sample(
        slices.classes[:, None].float(), grid, mode="nearest", align_corners=True
    )
    classes = shown[:, 0].long()
    if view != "sagittal":
        flip = draw.flipped
        images[flip] = images[flip].flip(2)
        classes[flip] = torch.tensor(mirror_classes, device=flip.device)[classes[flip].flip(1)]
    changed = torch.empty_like(images)
    n_sequences = 1 + len(further)
    for number, own in enumerate((draw, *further)):  # neighbours' sequences alternate
        of_sequence = images[:, number::n_sequences]
        changed[:, number::n_sequences] = _recolour(of_sequence, own.to(images.device), generator)
    return changed, classes


def _cut(slices: Slices, draw: Draw, further: tuple[Draw, ...], patch: tuple[int, int]) -> Tensor:
    """Patches of every sequence, each where its own parameters say."""
    n_sequences = 1 + len(further)
    n, n_channels = slices.images.shape[:2]
    images = torch.empty((n, n_channels, *patch), device=slices.images.device)
    for number, own in enumerate((draw, *further)):
        grid = _patch_grid(slices, own.to(slices.images.device), patch)
        shown = slices.images[:, number::n_sequences]
        images[:, number::n_sequences] = functional.grid_sample(
            shown, grid, mode="bilinear", align_corners=True
        )
    return images


def _patch_grid(slices: Slices, draw: Draw, patch: tuple[int, int]) -> Tensor:
    """Sampling positions ``(N, h, w, 2)`` in the -1 to 1 of ``grid_sample`` (column, row)."""
    n_rows, n_columns = slices.classes.shape[1:]
    device = draw.theta.device
    rows = torch.arange(patch[0], device=device) - (patch[0] - 1) / 2
    columns = torch.arange(patch[1], device=device) - (patch[1] - 1) / 2
    offsets = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
    turned = torch.einsum("nab,hwb->nhwa", draw.theta, offsets)
    at = turned + (slices.centres.to(device) + draw.shift)[:, None, None]
    scaled = at / torch.tensor([n_rows - 1, n_columns - 1], device=device) * 2 - 1
    return scaled.flip(-1)


def _recolour(images: Tensor, draw: Draw, generator: torch.Generator) -> Tensor:
    """Contrast curve, bias field, coarse rows, noise, gain and offset; air stays dark."""
    column = (slice(None), None, None, None)
    knots = (*CURVE_KNOTS, BRIGHTEST)
    curved = sum(
        draw.slopes[:, i, None, None, None] * (images - low).clamp(0, high - low)
        for i, (low, high) in enumerate(pairwise(knots))
    )
    widths = torch.tensor([b - a for a, b in pairwise(CURVE_KNOTS)], device=images.device)
    at_one = (draw.slopes[:, :4] * widths[:4]).sum(1)
    curved = torch.as_tensor(curved) / at_one[column]
    size = (images.shape[2], images.shape[3])
    field = functional.interpolate(draw.bias, size=size, mode="bicubic", align_corners=True)
    curved = _haunt(_coarsen(curved * field.exp(), draw.coarse), draw.ghost)
    grain = torch.randn(images.shape, generator=generator, device=images.device)
    noise = draw.noise[column] * grain
    changed = draw.gain[column] * (curved + draw.offset[column] * (images > 0) + noise)
    return changed.clamp(0, BRIGHTEST)


def _haunt(images: Tensor, ghost: Tensor) -> Tensor:
    """Add a faint copy, shifted by half the patch, to some slices, as motion and flow do."""
    for number in torch.nonzero(ghost > 0).flatten().tolist():
        axis = 1 + number % 2
        shifted = images[number].roll(images.shape[axis + 1] // 2, dims=axis)
        images[number] = images[number] + ghost[number] * shifted
    return images


def _coarsen(images: Tensor, coarse: Tensor) -> Tensor:
    """Average rows or columns in some slices, then interpolate back: thick voxels in the plane."""
    for number in torch.nonzero(coarse > 1).flatten().tolist():
        height, width = images.shape[2:]
        across = number % 2 == 0
        small = (
            (round(height / float(coarse[number])), width)
            if across
            else (height, round(width / float(coarse[number])))
        )
        thick = functional.interpolate(images[number : number + 1], size=small, mode="area")
        images[number] = functional.interpolate(thick, size=(height, width), mode="bilinear")[0]
    return images
