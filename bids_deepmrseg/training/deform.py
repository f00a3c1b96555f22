"""Random but smooth changes of a head's shape and resolution, for images and labels alike."""

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

MAX_ROTATION = 0.22  # radians, about each axis
MAX_SCALE = 0.12
MAX_SHEAR = 0.05
MAX_SHIFT_VOXELS = 6.0
BEND_VOXELS = 2.0  # standard deviation of the elastic displacement
BEND_KNOTS = 7


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One number between ``low`` and ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def random_field(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Where each output voxel is taken from: ``(1, I, J, K, 3)``, as ``grid_sample`` wants it.

    Rotation, scaling, shear and shift of the whole, and a smooth elastic displacement.
    """
    angles = (torch.rand(3, generator=generator) * 2 - 1) * MAX_ROTATION
    matrix = torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3), angles.expand(3, 3)))
    scales = 1 + (torch.rand(3, generator=generator) * 2 - 1) * MAX_SCALE
    shears = (torch.rand(3, 3, generator=generator) * 2 - 1).triu(1) * MAX_SHEAR
    matrix = matrix @ (torch.eye(3) + shears) @ torch.diag(scales)
    half = torch.tensor([(n - 1) / 2 for n in shape[::-1]])
    shift = (torch.rand(3, generator=generator) * 2 - 1) * MAX_SHIFT_VOXELS / half
    theta = torch.cat([matrix * half[None] / half[:, None], shift[:, None]], dim=1)
    field = functional.affine_grid(theta[None], [1, 1, *shape], align_corners=True)
    knots = torch.randn(1, 3, BEND_KNOTS, BEND_KNOTS, BEND_KNOTS, generator=generator)
    bend = functional.interpolate(knots, size=shape, mode="trilinear", align_corners=True)
    return field + bend.movedim(1, -1) * (BEND_VOXELS / half)


def warp(volume: Tensor, field: Tensor, *, labels: bool) -> Tensor:
    """Take a ``(I, J, K)`` volume along a field; labels by nearest neighbour, the rest linearly."""
    mode = "nearest" if labels else "bilinear"
    warped = functional.grid_sample(
        volume[None, None].float(), field, mode=mode, padding_mode="zeros", align_corners=True
    )
    return warped[0, 0].to(volume.dtype)


def thicken(volume: Tensor, axis: int, thickness_voxels: float) -> Tensor:
    """What a scan with thick slices along ``axis`` shows, interpolated back to the same grid."""
    shape = list(volume.shape)
    thick = shape.copy()
    thick[axis] = max(4, round(shape[axis] / thickness_voxels))
    coarse = functional.interpolate(volume[None, None], size=thick, mode="area")
    return functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=False)[0, 0]


def blur(volume: Tensor, sigma_voxels: float) -> Tensor:
    """Gaussian smoothing of a ``(I, J, K)`` volume."""
    return torch.from_numpy(ndimage.gaussian_filter(volume.numpy(), sigma_voxels, truncate=3.0))
