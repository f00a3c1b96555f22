"""Laws of the paper's loss."""

import math

import pytest
import torch

from bids_deepmrseg.training.losses import segmentation_loss


def test_a_certain_and_right_answer_costs_nothing() -> None:
    labels = torch.randint(3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = 100.0 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert float(segmentation_loss(logits, labels).total) == pytest.approx(0, abs=1e-5)


def test_terms_equal_their_formulas_for_an_undecided_network() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    loss = segmentation_loss(torch.zeros(1, 2, 4, 4), labels)
    assert float(loss.cross_entropy) == pytest.approx(math.log(2))
    assert float(loss.squared_error) == pytest.approx(0.25)
    # class 0: (8 + 1) / (16 + 1); class 1, absent: (0 + 1) / (8 + 1)
    assert float(loss.soft_iou) == pytest.approx(1 - (9 / 17 + 1 / 9) / 2)
    total = loss.cross_entropy + loss.squared_error + loss.soft_iou
    assert float(loss.total) == pytest.approx(float(total))


def test_every_term_sends_gradients() -> None:
    labels = torch.randint(3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    for term in ("cross_entropy", "squared_error", "soft_iou"):
        logits = torch.zeros(2, 3, 8, 8, requires_grad=True)
        torch.autograd.backward(getattr(segmentation_loss(logits, labels), term))
        assert logits.grad is not None
        assert logits.grad.abs().sum() > 0
