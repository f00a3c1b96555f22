"""The paper's loss: cross-entropy, squared error and soft IoU (arXiv:1907.02110, section 3.7)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

IOU_SMOOTHING = 1.0  # voxels; keeps classes that are absent from a batch finite


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """The three terms of the loss, scalars that carry gradients."""

    cross_entropy: Tensor
    squared_error: Tensor
    soft_iou: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum, equal weights."""
        return self.cross_entropy + self.squared_error + self.soft_iou


def segmentation_loss(logits: Tensor, labels: Tensor) -> Loss:
    """Compare logits with labels.

    Parameters
    ----------
    logits
        ``(N, L, H, W)``, any floating type; computed in float32.
    labels
        ``(N, H, W)`` int64 classes.

    Returns
    -------
    Loss
        Squared error and IoU lie between softmax probabilities and one-hot labels; the IoU is
        taken over the batch for each class, averaged over classes, and subtracted from one.
    """
    logits = logits.float()
    probabilities = logits.softmax(dim=1)
    one_hot = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
    both = (probabilities * one_hot).sum(dim=(0, 2, 3))
    either = (probabilities + one_hot).sum(dim=(0, 2, 3)) - both
    iou = (both + IOU_SMOOTHING) / (either + IOU_SMOOTHING)
    return Loss(
        functional.cross_entropy(logits, labels),
        functional.mse_loss(probabilities, one_hot),
        1 - iou.mean(),
    )
