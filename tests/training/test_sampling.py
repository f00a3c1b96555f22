"""Laws of drawing slices."""

import torch

from bids_deepmrseg.network.weights import View
from bids_deepmrseg.training.sampling import make_sampler
from tests.makers import make_task
from tests.training.corpora import make_examples

TASK = make_task()


def test_slices_are_cut_along_their_view() -> None:
    examples = make_examples(TASK)
    sizes: dict[View, tuple[int, int]] = {
        "axial": (32, 48),
        "coronal": (32, 32),
        "sagittal": (48, 32),
    }
    for view, size in sizes.items():
        sampler = make_sampler(
            examples,
            view,
            n_classes=4,
            stride=16,
            synthetic_share=0.5,
        )
        slices = sampler.draw(3, 64.0, torch.Generator().manual_seed(0))
        assert slices.images.shape == (3, 1, *size)
        assert slices.classes.shape == (3, *size)


def test_labels_lie_on_their_intensities() -> None:
    sampler = make_sampler(
        make_examples(TASK), "axial", n_classes=4, stride=16, synthetic_share=0.0
    )
    slices = sampler.draw(8, 1.0, torch.Generator().manual_seed(0))
    for c in range(1, 4):
        shown = slices.images[:, 0][slices.classes == c]
        assert ((shown >= 60 + 20 * c) & (shown < 65 + 20 * c)).all()


def test_most_slices_show_a_structure_at_their_centre() -> None:
    sampler = make_sampler(
        make_examples(TASK), "axial", n_classes=4, stride=16, synthetic_share=0.0
    )
    slices = sampler.draw(200, 1.0, torch.Generator().manual_seed(0))
    rows, columns = slices.centres.long().unbind(1)
    centred = slices.classes[torch.arange(200), rows, columns] > 0
    assert 0.75 < float(centred.float().mean()) < 0.95


def test_the_share_of_synthetic_heads_is_kept() -> None:
    examples = make_examples(TASK)
    sampler = make_sampler(examples, "axial", n_classes=4, stride=16, synthetic_share=0.3)
    generator = torch.Generator().manual_seed(0)
    picked = [examples[sampler.pick_example(generator)].kind for _ in range(600)]
    assert 0.24 < picked.count("synthetic") / 600 < 0.36
