"""Laws of augmentation."""

import dataclasses

import pytest
import torch

from bids_deepmrseg.network.weights import View
from bids_deepmrseg.training.augment import STRENGTHS, Draw, augment, draw_parameters
from bids_deepmrseg.training.recipe import Augmentation
from bids_deepmrseg.training.sampling import Slices

MIRROR = (0, 2, 1, 3)


def _slices() -> Slices:
    """Two slices with class 1 on the low rows and class 2 on the high rows."""
    classes = torch.zeros(2, 32, 32, dtype=torch.uint8)
    classes[:, 4:8, 10:14], classes[:, 24:28, 10:14] = 1, 2
    images = 0.5 + 0.25 * classes[:, None].float()
    return Slices(images, classes, torch.full((2, 2), 15.5))


def _nothing(n: int) -> Draw:
    """Parameters that change nothing."""
    return Draw(
        theta=torch.eye(2).expand(n, 2, 2),
        shift=torch.zeros(n, 2),
        flipped=torch.zeros(n, dtype=torch.bool),
        gain=torch.ones(n),
        offset=torch.zeros(n),
        slopes=torch.ones(n, 7),
        bias=torch.zeros(n, 1, 4, 4),
        noise=torch.zeros(n),
        coarse=torch.ones(n),
        ghost=torch.zeros(n),
    )


def _apply(draw: Draw, view: View = "axial") -> tuple[torch.Tensor, torch.Tensor]:
    return augment(
        _slices(),
        draw,
        patch=(32, 32),
        view=view,
        mirror_classes=MIRROR,
        generator=torch.Generator().manual_seed(0),
    )


def test_nothing_drawn_changes_nothing() -> None:
    images, classes = _apply(_nothing(2))
    torch.testing.assert_close(images, _slices().images, atol=1e-5, rtol=0)
    assert torch.equal(classes, _slices().classes.long())


@pytest.mark.parametrize("view", ["axial", "coronal"])
def test_a_flip_exchanges_the_names_of_left_and_right(view: View) -> None:
    flipped = dataclasses.replace(_nothing(2), flipped=torch.tensor([True, False]))
    images, classes = _apply(flipped, view)
    # class 1 stays on the low rows: the anatomy was mirrored and so were the names
    assert torch.equal(classes[0] == 1, (_slices().classes[0] == 2).flip(0))
    torch.testing.assert_close(images[0], _slices().images[0].flip(1), atol=1e-5, rtol=0)
    assert torch.equal(classes[1], _slices().classes[1].long())


def test_sagittal_slices_are_never_flipped() -> None:
    flipped = dataclasses.replace(_nothing(2), flipped=torch.tensor([True, True]))
    assert torch.equal(_apply(flipped, "sagittal")[1], _slices().classes.long())


def test_a_shift_moves_image_and_labels_together() -> None:
    shifted = dataclasses.replace(_nothing(2), shift=torch.full((2, 2), 3.0))
    images, classes = _apply(shifted)
    assert torch.equal(classes[:, :-3, :-3], _slices().classes[:, 3:, 3:].long())
    torch.testing.assert_close(
        images[:, :, :-3, :-3], _slices().images[:, :, 3:, 3:], atol=1e-5, rtol=0
    )


def test_contrast_curves_keep_the_order_of_intensities() -> None:
    generator = torch.Generator().manual_seed(3)
    drawn = draw_parameters(2, STRENGTHS["any-head"], generator)
    curved = dataclasses.replace(_nothing(2), slopes=drawn.slopes)
    images, classes = _apply(curved)
    for image, truth in zip(images[:, 0], classes, strict=True):
        means = [float(image[truth == c].mean()) for c in range(3)]
        assert means == sorted(means)
        assert means[0] < means[2]


@pytest.mark.parametrize("name", sorted(STRENGTHS))
def test_drawing_depends_on_its_generator_alone(name: Augmentation) -> None:
    strength = STRENGTHS[name]
    one = draw_parameters(4, strength, torch.Generator().manual_seed(5))
    other = draw_parameters(4, strength, torch.Generator().manual_seed(5))
    for field in dataclasses.fields(Draw):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name))


def test_results_stay_in_the_range_of_prepared_scans() -> None:
    drawn = draw_parameters(2, STRENGTHS["any-head"], torch.Generator().manual_seed(1))
    images, classes = _apply(drawn)
    assert images.isfinite().all()
    assert 0 <= float(images.min()) <= float(images.max()) <= 4
    assert set(classes.flatten().tolist()) <= {0, 1, 2, 3}


def test_no_slice_is_flipped_where_none_is_wanted() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = draw_parameters(200, STRENGTHS["place"], generator, flipped_share=0.0)
    assert not drawn.flipped.any()
    assert 60 < int(draw_parameters(200, STRENGTHS["place"], generator).flipped.sum()) < 140


def test_a_patch_beyond_the_slice_shows_air_there() -> None:
    images, classes = augment(
        _slices(),
        _nothing(2),
        patch=(64, 48),
        view="axial",
        mirror_classes=MIRROR,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(classes[:, 16:48, 8:40], _slices().classes.long())
    torch.testing.assert_close(images[:, :, 16:48, 8:40], _slices().images, atol=1e-5, rtol=0)
    assert float(images[:, :, :15].max()) == 0
    assert int(classes[:, :, 41:].max()) == 0
