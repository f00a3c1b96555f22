"""The building blocks of DeepMRSeg (Doshi et al. 2019, arXiv:1907.02110, sections 3.2 to 3.6)."""

from torch import Tensor, nn
from torch import cat as concatenate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bids_deepmrseg.errors import GeometryError

RESINC_BRANCHES = 4


def require_multiple_of(stride: int, x: Tensor) -> None:
    """Refuse slices that the down-samplings of a network would not halve evenly.

    Raises
    ------
    GeometryError
        If the last two sizes of ``x``, ``(..., H, W)``, are not multiples of ``stride``.
    """
    height, width = x.shape[-2:]
    if height % stride or width % stride:
        raise GeometryError(
            f"a slice of {height} x {width} voxels does not fit this network; "
            f"pad both sides to multiples of {stride}"
        )


class ConvUnit(nn.Sequential):
    """Convolution, batch normalisation and, unless switched off, ReLU.

    Parameters
    ----------
    c_in, c_out
        Feature maps in and out.
    kernel
        Side of the square kernel; odd kernels at stride 1 keep height and width.
    stride
        Step of the kernel; 2 halves height and width.
    activated
        Whether a ReLU follows the normalisation.
    """

    def __init__(
        self, c_in: int, c_out: int, *, kernel: int = 3, stride: int = 1, activated: bool = True
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        layers: list[nn.Module] = [
            nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, bias=False),
            nn.BatchNorm2d(c_out),
        ]
        if activated:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class ResNetBlock(nn.Module):
    """Two 3x3 convolutions around an identity shortcut (section 3.3, figure 2.A).

    Shapes: ``(N, C, H, W)`` in and out.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ConvUnit(features, features), ConvUnit(features, features, activated=False)
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Add the learned residual to ``x``."""
        activated: Tensor = self.activation(x + self.residual(x))
        return activated


class ResIncBlock(nn.Module):
    """Four branches of growing depth, weighted by a 1x1 convolution (section 3.4, figure 2.B).

    Every branch reduces ``C`` to ``C / 4`` by a 1x1 convolution; branch ``b`` then has ``b``
    convolutions of 3x3, b = 0, 1, 2, 3. Shapes: ``(N, C, H, W)`` in and out.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        narrow = features // RESINC_BRANCHES
        self.branches = nn.ModuleList(
            nn.Sequential(
                ConvUnit(features, narrow, kernel=1), *(ConvUnit(narrow, narrow) for _ in range(b))
            )
            for b in range(RESINC_BRANCHES)
        )
        self.weighting = ConvUnit(narrow * RESINC_BRANCHES, features, kernel=1, activated=False)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Add the weighted branches to ``x``."""
        branches = concatenate([branch(x) for branch in self.branches], dim=1)
        activated: Tensor = self.activation(x + self.weighting(branches))
        return activated


class TransitionDown(ConvUnit):
    """Learned down-sampling that doubles the features (section 3.5); replaces max-pooling.

    Shapes: ``(N, C, H, W)`` in, ``(N, 2 C, H / 2, W / 2)`` out. The paper's kernel is 1.
    """

    def __init__(self, features: int, *, kernel: int) -> None:
        super().__init__(features, 2 * features, kernel=kernel, stride=2)


class TransitionUp(nn.Module):
    """Learned up-sampling, joined to the encoder's features (section 3.6).

    Shapes: ``(N, C, H, W)`` and a skip of ``(N, S, 2 H, 2 W)`` in, ``(N, 2 S, 2 H, 2 W)`` out.

    Notes
    -----
    With kernel 1, the paper's, three voxels in four receive the bias alone; docs/decisions/0002.
    """

    def __init__(self, c_in: int, c_skip: int, *, kernel: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(c_in, c_skip, kernel, stride=2, output_padding=2 - kernel)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Bring ``x`` to the resolution of ``skip`` and concatenate both."""
        return concatenate([self.up(x), skip], dim=1)


def fold_normalisation(network: nn.Module) -> nn.Module:
    """Multiply every batch normalisation into the convolution before it, in place.

    For a network in evaluation mode: the answer is the same up to rounding, and a third of the
    passes over memory is saved.
    """
    for unit in network.modules():
        if isinstance(unit, ConvUnit):
            convolution, normalisation = unit[0], unit[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                unit[0] = fuse_conv_bn_eval(convolution, normalisation)
                unit[1] = nn.Identity()
    return network
