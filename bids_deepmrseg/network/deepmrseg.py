"""The DeepMRSeg network (Doshi et al. 2019, arXiv:1907.02110, section 3.1 and figure 1)."""

from torch import Tensor, nn

from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.blocks import (
    ConvUnit,
    ResIncBlock,
    ResNetBlock,
    TransitionDown,
    TransitionUp,
    require_multiple_of,
)


def _resinc_level(features: int, n_blocks: int) -> nn.Sequential:
    """The ResInc blocks of one level."""
    return nn.Sequential(*(ResIncBlock(features) for _ in range(n_blocks)))


class DeepMRSeg(nn.Module):
    """UNet with ResNet and multi-branch ResInc blocks and learned down-sampling.

    Parameters
    ----------
    architecture
        Widths, depth, blocks and transition kernels.

    Notes
    -----
    Shapes: ``(N, C, H, W)`` in, ``(N, L, H, W)`` logits out; ``H`` and ``W`` must be multiples
    of ``architecture.stride``. The softmax of the paper is left to loss and inference.
    Where the paper leaves widths open, docs/decisions/0002 says what was chosen.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.stride = architecture.stride
        widths, n_blocks = architecture.widths, architecture.blocks_per_level
        self.projection = ConvUnit(architecture.n_channels, widths[0], kernel=1)
        self.pre_encoding = ResNetBlock(widths[0])
        self.downs = nn.ModuleList(
            TransitionDown(w, kernel=architecture.kernel_down) for w in widths[:-1]
        )
        self.encoders = nn.ModuleList(_resinc_level(w, n_blocks) for w in widths[1:])
        # below the deepest level, what comes up is already twice as wide as its own skip
        incoming = (widths[-1], *(2 * w for w in widths[-2:0:-1]))
        self.ups = nn.ModuleList(
            TransitionUp(c_in, c_skip, kernel=architecture.kernel_up)
            for c_in, c_skip in zip(incoming, widths[-2::-1], strict=True)
        )
        self.decoders = nn.ModuleList(_resinc_level(2 * w, n_blocks) for w in widths[-2::-1])
        self.post_decoding = ResNetBlock(2 * widths[0])
        self.head = nn.Conv2d(2 * widths[0], architecture.n_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits for a batch of slices, same height and width as the input."""
        require_multiple_of(self.stride, x)
        x = self.pre_encoding(self.projection(x))
        skips = [x]
        for down, encoder in zip(self.downs, self.encoders, strict=True):
            x = encoder(down(x))
            skips.append(x)
        for up, decoder, skip in zip(self.ups, self.decoders, skips[-2::-1], strict=True):
            x = decoder(up(x, skip))
        logits: Tensor = self.head(self.post_decoding(x))
        return logits
