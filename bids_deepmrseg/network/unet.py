"""The benchmark: UNet with batch normalisation (Ronneberger et al. 2015; paper, section 4)."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.blocks import ConvUnit, TransitionUp, require_multiple_of


def _double_conv(c_in: int, c_out: int, n_blocks: int) -> nn.Sequential:
    """Pairs of 3x3 convolutions, each followed by batch normalisation and ReLU."""
    widths = (c_in, *(c_out for _ in range(2 * n_blocks)))
    return nn.Sequential(*(ConvUnit(a, b) for a, b in pairwise(widths)))


class UNet(nn.Module):
    """UNet (arXiv:1505.04597), batch normalisation between convolution and ReLU.

    Parameters
    ----------
    architecture
        Widths, depth and pairs of convolutions per level; its transition kernels belong to
        DeepMRSeg and are not used: this network pools by maximum and goes up with kernel 2.

    Notes
    -----
    Shapes: ``(N, C, H, W)`` in, ``(N, L, H, W)`` logits out; ``H`` and ``W`` must be multiples
    of ``architecture.stride``. Convolutions are padded, so that the answer covers the whole slice.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.stride = architecture.stride
        widths, n_blocks = architecture.widths, architecture.blocks_per_level
        self.encoders = nn.ModuleList(
            _double_conv(c_in, c_out, n_blocks)
            for c_in, c_out in pairwise((architecture.n_channels, *widths))
        )
        shallower = list(pairwise(widths[::-1]))
        self.ups = nn.ModuleList(TransitionUp(deep, skip, kernel=2) for deep, skip in shallower)
        self.decoders = nn.ModuleList(
            _double_conv(2 * skip, skip, n_blocks) for _, skip in shallower
        )
        self.head = nn.Conv2d(widths[0], architecture.n_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits for a batch of slices, same height and width as the input."""
        require_multiple_of(self.stride, x)
        skips: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(x if level == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        for up, decoder, skip in zip(self.ups, self.decoders, skips[-2::-1], strict=True):
            x = decoder(up(x, skip))
        logits: Tensor = self.head(x)
        return logits
