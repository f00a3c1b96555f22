"""Which patches make a batch: slices of one view, mostly around the structures."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bids_deepmrseg.errors import TrainingError
from bids_deepmrseg.network.weights import SLICE_AXIS, View
from bids_deepmrseg.training.corpus import Example
from bids_deepmrseg.training.recipe import Centre


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """Whole slices and where in each a patch is to be centred.

    Attributes
    ----------
    images
        ``(N, C, H, W)`` float32, tissue near 1; with neighbours, their channels from low to high.
    classes
        ``(N, H, W)`` uint8.
    centres
        ``(N, 2)`` row and column of the patch centre, voxels.
    """

    images: Tensor
    classes: Tensor
    centres: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Volumes:
    """A corpus as two arrays on the device that trains, so that no batch has to travel.

    Attributes
    ----------
    images
        ``(V, C, I, J, K)`` uint8, smaller volumes padded with zeros at their far ends.
    classes
        ``(V, I, J, K)`` uint8.
    shapes
        ``(V, 3)`` extent of each volume before padding.
    synthetic
        ``(V,)`` whether a volume was synthesised, on the CPU.
    positions
        For every volume and class, ``(n, 3)`` indices of some voxels of that class, on the CPU.
    """

    images: Tensor
    classes: Tensor
    shapes: Tensor
    synthetic: Tensor
    positions: tuple[tuple[Tensor, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Draws slices of one view from a corpus; every draw depends on its generator alone.

    Attributes
    ----------
    volumes
        The corpus.
    view
        Slice direction.
    neighbours
        Slices on each side that are stacked with the one drawn.
    synthetic_share
        Chance that a slice comes from a synthetic head.
    centred_on
        Whether patches lie around the voxel that was drawn or in the middle of the volume.
    near_structures
        Share of the slices that go through a voxel of a structure.
    """

    volumes: Volumes
    view: View
    neighbours: int
    synthetic_share: float
    centred_on: Centre
    near_structures: float = 0.85

    def draw(self, n_slices: int, grey_levels: float, generator: torch.Generator) -> Slices:
        """Draw ``n_slices`` slices with their patch centres."""
        drawn = [self._pick(generator) for _ in range(n_slices)]
        numbers = torch.tensor([number for number, _ in drawn])
        at = torch.stack([voxel for _, voxel in drawn])
        images, classes = self._cut(numbers, at)
        middle = (self.volumes.shapes[numbers] - 1) / 2
        centres = at.float() if self.centred_on == "structure" else middle
        in_plane = [axis for axis in range(3) if axis != SLICE_AXIS[self.view]]
        return Slices(images.float() / grey_levels, classes, centres[:, in_plane])

    def _cut(self, numbers: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """The slices through voxels ``at`` of volumes ``numbers``, where the corpus lies."""
        axis = SLICE_AXIS[self.view]
        device = self.volumes.images.device
        last = self.volumes.shapes[numbers, axis] - 1
        beside = [
            torch.minimum((at[:, axis] + offset).clamp(min=0), last).to(device)
            for offset in range(-self.neighbours, self.neighbours + 1)
        ]
        chosen = numbers.to(device)
        by_slice = self.volumes.images.movedim(axis + 2, 1)
        images = torch.cat([by_slice[chosen, index] for index in beside], dim=1)
        return images, self.volumes.classes.movedim(axis + 1, 1)[chosen, beside[self.neighbours]]

    def _pick(self, generator: torch.Generator) -> tuple[int, Tensor]:
        """Number of a volume, and a voxel of it: of a random class, or any."""
        number = self.pick_volume(generator)
        near = float(torch.rand((), generator=generator)) < self.near_structures
        present = [p for p in self.volumes.positions[number] if len(p)]
        if near and present:
            voxels = present[int(torch.randint(len(present), (), generator=generator))]
            return number, voxels[int(torch.randint(len(voxels), (), generator=generator))].long()
        shape = self.volumes.shapes[number].tolist()
        return number, torch.tensor([int(torch.randint(n, (), generator=generator)) for n in shape])

    def pick_volume(self, generator: torch.Generator) -> int:
        """Number of a volume: first whether synthetic, then any of that sort."""
        wanted = float(torch.rand((), generator=generator)) < self.synthetic_share
        n_synthetic = int(self.volumes.synthetic.sum())
        choose = wanted if 0 < n_synthetic < len(self.volumes.synthetic) else n_synthetic > 0
        among = torch.nonzero(self.volumes.synthetic == choose).flatten()
        return int(among[int(torch.randint(len(among), (), generator=generator))])


def gather_volumes(examples: tuple[Example, ...], *, n_classes: int, device: str) -> Volumes:
    """Bring a corpus to the device that trains, padded to one shape.

    Raises
    ------
    TrainingError
        If there is no volume.
    """
    if not examples:
        raise TrainingError("there is no volume to train on")
    shapes = np.array([example.classes.shape for example in examples])
    full = tuple(int(n) for n in shapes.max(axis=0))
    n_channels = examples[0].image.shape[0]
    images = np.zeros((len(examples), n_channels, *full), dtype=np.uint8)
    classes = np.zeros((len(examples), *full), dtype=np.uint8)
    for number, example in enumerate(examples):
        i, j, k = example.classes.shape
        images[number, :, :i, :j, :k] = example.image
        classes[number, :i, :j, :k] = example.classes
    return Volumes(
        torch.from_numpy(images).to(device),
        torch.from_numpy(classes).to(device),
        torch.from_numpy(shapes),
        torch.tensor([example.kind == "synthetic" for example in examples]),
        tuple(tuple(_some_voxels(e.classes, c) for c in range(1, n_classes)) for e in examples),
    )


def _some_voxels(classes: npt.NDArray[np.uint8], number: int) -> Tensor:
    """At most a thousand voxels of one class, evenly spread over it."""
    voxels = np.argwhere(classes == number).astype(np.int16)
    return torch.from_numpy(np.ascontiguousarray(voxels[:: max(1, len(voxels) // 1000)]))
