"""Laws of drawing slices."""

import dataclasses

import numpy as np
import pytest
import torch

from bids_deepmrseg.errors import TrainingError
from bids_deepmrseg.network.weights import SLICE_AXIS, VIEWS, View
from bids_deepmrseg.training.corpus import Example
from bids_deepmrseg.training.recipe import Centre
from bids_deepmrseg.training.sampling import Sampler, Volumes, gather_volumes
from tests.makers import make_task
from tests.training.corpora import make_examples

TASK = make_task()


def _volumes(examples: tuple[Example, ...] | None = None) -> Volumes:
    return gather_volumes(examples or make_examples(TASK), n_classes=TASK.n_classes, device="cpu")


def _sampler(
    view: View = "axial",
    *,
    volumes: Volumes | None = None,
    neighbours: int = 0,
    synthetic_share: float = 0.0,
    centred_on: Centre = "structure",
    near_structures: float = 0.85,
) -> Sampler:
    return Sampler(
        volumes or _volumes(), view, neighbours, synthetic_share, centred_on, near_structures
    )


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _numbered(*shapes: tuple[int, int, int]) -> tuple[Example, ...]:
    """Volumes whose voxels say at which place along each axis they lie, one channel per axis."""
    examples = []
    for number, shape in enumerate(shapes):
        image = (np.indices(shape) + 1).astype(np.uint8)
        classes = np.zeros(shape, np.uint8)
        classes[-1, -1, -1] = 1
        examples.append(Example(f"numbered{number}", "stripped", image, classes))
    return tuple(examples)


@pytest.mark.parametrize("view", VIEWS)
def test_slices_are_cut_along_their_view(view: View) -> None:
    sizes = {"axial": (32, 36), "coronal": (32, 30), "sagittal": (36, 30)}
    slices = _sampler(view, synthetic_share=0.5).draw(3, 64.0, _generator())
    assert slices.images.shape == (3, 1, *sizes[view])
    assert slices.classes.shape == (3, *sizes[view])


def test_labels_lie_on_their_intensities() -> None:
    slices = _sampler().draw(8, 1.0, _generator())
    for c in range(1, 4):
        shown = slices.images[:, 0][slices.classes == c]
        assert ((shown >= 60 + 20 * c) & (shown < 65 + 20 * c)).all()


def test_most_slices_show_a_structure_at_their_centre() -> None:
    slices = _sampler().draw(200, 1.0, _generator())
    rows, columns = slices.centres.long().unbind(1)
    centred = slices.classes[torch.arange(200), rows, columns] > 0
    assert 0.75 < float(centred.float().mean()) < 0.95


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_as_many_slices_go_through_structures_as_the_recipe_says(share: float) -> None:
    """Structures fill too little of the made volumes to be met often by chance."""
    slices = _sampler(near_structures=share).draw(300, 1.0, _generator())
    rows, columns = slices.centres.long().unbind(1)
    centred = slices.classes[torch.arange(300), rows, columns] > 0
    assert float(centred.float().mean()) == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize("view", VIEWS)
def test_patches_can_lie_in_the_middle_of_their_own_volume(view: View) -> None:
    small, large = (11, 13, 9), (32, 36, 30)
    sampler = _sampler(view, volumes=_volumes(_numbered(small, large)), centred_on="volume")
    centres = sampler.draw(40, 1.0, _generator()).centres
    in_plane = [axis for axis in range(3) if axis != SLICE_AXIS[view]]
    expected = {tuple((shape[axis] - 1) / 2 for axis in in_plane) for shape in (small, large)}
    assert {tuple(centre) for centre in centres.tolist()} == expected


def test_the_share_of_synthetic_heads_is_kept() -> None:
    sampler = _sampler(synthetic_share=0.3)
    generator = _generator()
    picked = [bool(sampler.volumes.synthetic[sampler.pick_volume(generator)]) for _ in range(600)]
    assert 0.24 < picked.count(True) / 600 < 0.36


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("neighbours", [0, 1, 2])
def test_neighbours_are_stacked_from_low_to_high_and_repeat_the_edge(
    view: View, neighbours: int
) -> None:
    shape = (5, 7, 6)
    sampler = _sampler(view, volumes=_volumes(_numbered(shape)), neighbours=neighbours)
    images = sampler.draw(400, 1.0, _generator()).images
    width = 1 + 2 * neighbours
    assert images.shape[1] == 3 * width
    along = images[:, SLICE_AXIS[view] :: 3]  # the channel that counts along the view
    places = along.flatten(2)
    assert torch.equal(places.amin(2), places.amax(2)), "a slice lies at one place"
    last = shape[SLICE_AXIS[view]]
    seen = set()
    for one in places[:, :, 0].int().tolist():
        middle = one[neighbours]
        offsets = range(-neighbours, neighbours + 1)
        assert one == [min(max(middle + offset, 1), last) for offset in offsets]
        seen.add(middle)
    assert {1, last} <= seen, "both edges were drawn"


@pytest.mark.parametrize("view", VIEWS)
def test_padding_is_never_drawn_from(view: View) -> None:
    shapes = ((5, 7, 6), (12, 4, 9))
    sampler = _sampler(view, volumes=_volumes(_numbered(*shapes)), neighbours=1)
    slices = sampler.draw(200, 1.0, _generator())
    assert (slices.images.flatten(2).amax(2) > 0).all(), "every slice shows its volume"
    owns = dict.fromkeys(shapes, 0)
    for image, centre in zip(slices.images, slices.centres, strict=True):
        shape = tuple(int(image[3 + axis].max()) for axis in range(3))
        in_plane = [axis for axis in range(3) if axis != SLICE_AXIS[view]]
        (own,) = [s for s in shapes if all(s[axis] == shape[axis] for axis in in_plane)]
        assert all(0 <= c < own[axis] for c, axis in zip(centre.tolist(), in_plane, strict=True))
        owns[own] += 1
    assert all(owns.values()), "both volumes were drawn"


def test_a_volume_without_any_structure_can_be_drawn() -> None:
    empty = [dataclasses.replace(e, classes=np.zeros_like(e.classes)) for e in make_examples(TASK)]
    slices = _sampler(volumes=_volumes(tuple(empty))).draw(4, 1.0, _generator())
    assert not slices.classes.any()


def test_drawing_depends_on_its_generator_alone() -> None:
    sampler = _sampler(neighbours=1, synthetic_share=0.4)
    one, other = (sampler.draw(6, 64.0, _generator(3)) for _ in range(2))
    for field in dataclasses.fields(one):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name
    assert not torch.equal(one.images, sampler.draw(6, 64.0, _generator(4)).images)


def test_the_corpus_lies_on_the_device_that_trains() -> None:
    """The meta device holds no numbers, but tells where every array was sent."""
    volumes = gather_volumes(make_examples(TASK), n_classes=TASK.n_classes, device="meta")
    assert volumes.images.device.type == volumes.classes.device.type == "meta"
    assert volumes.shapes.device.type == volumes.synthetic.device.type == "cpu"
    slices = _sampler(volumes=volumes, neighbours=1).draw(2, 64.0, _generator())
    assert slices.images.device.type == slices.classes.device.type == "meta"
    assert slices.images.shape == (2, 3, 32, 36)


def test_no_volume_is_no_corpus() -> None:
    with pytest.raises(TrainingError, match="no volume to train on"):
        gather_volumes((), n_classes=2, device="cpu")
