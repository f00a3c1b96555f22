"""What fully describes a network, so that weights can say which one they belong to."""

from dataclasses import dataclass
from typing import Literal

from bids_deepmrseg.errors import WeightsError

Family = Literal["deepmrseg", "unet"]
KERNELS = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A 2-D network as data.

    Attributes
    ----------
    family
        ``deepmrseg`` (the paper's network) or ``unet`` (its benchmark).
    n_channels
        Images stacked per slice, ``C``.
    n_classes
        Output classes ``L``, background included.
    features
        Feature maps at full resolution, ``f``; a multiple of 4.
    depth
        Number of down-samplings.
    blocks_per_level
        ResInc blocks (or pairs of convolutions, for ``unet``) at each level.
    kernel_down, kernel_up
        Kernels of the transitions; the paper's are 1 and 1.
    """

    family: Family = "deepmrseg"
    n_channels: int
    n_classes: int
    features: int = 16
    depth: int = 4
    blocks_per_level: int = 1
    kernel_down: int = 1
    kernel_up: int = 1

    def __post_init__(self) -> None:
        if self.family not in ("deepmrseg", "unet"):
            raise WeightsError(f"unknown network family {self.family!r}; known: deepmrseg, unet")
        if self.features < 4 or self.features % 4:
            raise WeightsError(f"features must be a multiple of 4, got {self.features}")
        if self.n_channels < 1 or self.n_classes < 2 or self.depth < 1 or self.blocks_per_level < 1:
            raise WeightsError(f"no such network: {self}")
        if self.kernel_down not in KERNELS or self.kernel_up not in KERNELS:
            raise WeightsError("transition kernels must be 1 or 2")

    @property
    def stride(self) -> int:
        """Height and width of a slice must be multiples of this."""
        return int(2**self.depth)

    @property
    def widths(self) -> tuple[int, ...]:
        """Feature maps of each level, full resolution first."""
        return tuple(self.features * 2**level for level in range(self.depth + 1))
