"""Which patches make a batch: slices of one view, mostly around the structures."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bids_deepmrseg.errors import TrainingError
from bids_deepmrseg.network.weights import SLICE_AXIS, View
from bids_deepmrseg.training.corpus import Example

NEAR_STRUCTURE_SHARE = 0.85


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """Whole slices and where in each a patch is to be centred.

    Attributes
    ----------
    images
        ``(N, C, H, W)`` float32, tissue near 1.
    classes
        ``(N, H, W)`` uint8.
    centres
        ``(N, 2)`` row and column of the patch centre, voxels.
    """

    images: Tensor
    classes: Tensor
    centres: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Draws slices of one view from a corpus; every draw depends on its generator alone.

    Attributes
    ----------
    examples
        The corpus.
    view
        Slice direction.
    size
        ``(H, W)`` that every slice is padded or cut to.
    synthetic_share
        Chance that a slice comes from a synthetic head.
    positions
        For every example and class, ``(n, 3)`` voxel indices of some voxels of that class.
    """

    examples: tuple[Example, ...]
    view: View
    size: tuple[int, int]
    synthetic_share: float
    positions: tuple[tuple[npt.NDArray[np.int16], ...], ...]

    def draw(self, n_slices: int, grey_levels: float, generator: torch.Generator) -> Slices:
        """Draw ``n_slices`` slices with their patch centres."""
        drawn = [self._one(generator) for _ in range(n_slices)]
        images = torch.from_numpy(np.stack([image for image, _, _ in drawn])).float()
        classes = torch.from_numpy(np.stack([c for _, c, _ in drawn]))
        centres = torch.tensor([centre for _, _, centre in drawn], dtype=torch.float32)
        return Slices(images / grey_levels, classes, centres)

    def _one(
        self, generator: torch.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], tuple[int, int]]:
        """One slice: image ``(C, H, W)``, classes ``(H, W)`` and patch centre."""
        number = self.pick_example(generator)
        example = self.examples[number]
        at = self._pick_voxel(number, generator)
        axis = SLICE_AXIS[self.view]
        image = _fit(np.take(example.image, at[axis], axis=axis + 1), self.size)
        classes = _fit(np.take(example.classes, at[axis], axis=axis), self.size)
        row, column = (int(at[a]) for a in range(3) if a != axis)
        return image, classes, (row, column)

    def pick_example(self, generator: torch.Generator) -> int:
        """Number of an example: first whether synthetic, then any of that sort."""
        synthetic = [i for i, e in enumerate(self.examples) if e.kind == "synthetic"]
        real = [i for i, e in enumerate(self.examples) if e.kind != "synthetic"]
        wanted = float(torch.rand((), generator=generator)) < self.synthetic_share
        among = synthetic if (wanted and synthetic) or not real else real
        return among[int(torch.randint(len(among), (), generator=generator))]

    def _pick_voxel(self, number: int, generator: torch.Generator) -> npt.NDArray[np.int64]:
        """A voxel of a random class, or any voxel of the volume."""
        shape = self.examples[number].classes.shape
        near = float(torch.rand((), generator=generator)) < NEAR_STRUCTURE_SHARE
        present = [p for p in self.positions[number] if len(p)]
        if near and present:
            voxels = present[int(torch.randint(len(present), (), generator=generator))]
            row = int(torch.randint(len(voxels), (), generator=generator))
            return np.array(voxels[row], dtype=np.int64)
        return np.array([int(torch.randint(n, (), generator=generator)) for n in shape])


def make_sampler(
    examples: tuple[Example, ...],
    view: View,
    *,
    n_classes: int,
    stride: int,
    synthetic_share: float,
) -> Sampler:
    """Index a corpus for drawing slices of one view."""
    if not examples:
        raise TrainingError("there is no volume to train on")
    axis = SLICE_AXIS[view]
    sides = [[n for a, n in enumerate(e.classes.shape) if a != axis] for e in examples]
    height, width = (max(s[i] for s in sides) for i in range(2))
    size = (height + -height % stride, width + -width % stride)
    positions = tuple(
        tuple(_some_voxels(e.classes, c) for c in range(1, n_classes)) for e in examples
    )
    return Sampler(examples, view, size, synthetic_share, positions)


def _some_voxels(classes: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.int16]:
    """At most a thousand voxels of one class, evenly spread over it."""
    voxels = np.argwhere(classes == number).astype(np.int16)
    return voxels[:: max(1, len(voxels) // 1000)]


def _fit(plane: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Pad the last two axes with zeros to ``size``."""
    after = [(0, 0)] * (plane.ndim - 2) + [
        (0, n - have) for n, have in zip(size, plane.shape[-2:], strict=True)
    ]
    return np.pad(plane, after)
