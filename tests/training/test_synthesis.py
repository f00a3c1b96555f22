"""Laws of synthetic heads."""

from pathlib import Path

import numpy as np
import torch

from bids_deepmrseg.imaging.nifti import read_label_map
from bids_deepmrseg.training.deform import random_field, thicken, warp
from bids_deepmrseg.training.synthesis import deface, paint, strip, surround
from tests.training.corpora import make_head_map


def _map(tmp_path: Path) -> torch.Tensor:
    return torch.from_numpy(read_label_map(make_head_map(tmp_path / "m.nii.gz"))[0]).long()


def test_the_same_tissue_has_the_same_brightness_everywhere(tmp_path: Path) -> None:
    label_map = _map(tmp_path)
    image = paint(label_map, torch.Generator().manual_seed(0))
    white, left = image[label_map == 2], image[label_map == 2][::2]
    assert abs(float(white.median() - left.median())) < 0.02
    assert image.shape == label_map.shape
    assert image.isfinite().all()


def test_air_is_dark(tmp_path: Path) -> None:
    label_map = _map(tmp_path)
    for seed in range(5):
        image = paint(label_map, torch.Generator().manual_seed(seed))
        assert float(image[label_map == 0].median()) < 0.12


def test_patches_lie_around_the_brain_only() -> None:
    label_map = torch.full((40, 40, 40), 507)
    label_map[:, 16:32] = 2
    outside, brain = label_map == 507, label_map == 2
    brain[:, [16, 17, 30, 31]] = outside[:, [15, 14, 32, 33]] = False  # blurred into each other
    n_patchy = 0
    for seed in range(16):
        image = paint(label_map, torch.Generator().manual_seed(seed))
        assert float(image[brain].std() / image[brain].mean()) < 0.2
        n_patchy += float(image[outside].std()) > 0.1
    assert 6 <= n_patchy < 16


def test_stripping_leaves_no_head(tmp_path: Path) -> None:
    label_map = _map(tmp_path)
    generator = torch.Generator().manual_seed(0)
    image = strip(paint(label_map, generator), label_map, generator)
    corner = image[:4, :4, :4]
    assert float(corner.abs().max()) == 0
    assert float((image[label_map == 2] > 0).float().mean()) > 0.99


def test_the_brain_inside_a_synthetic_head_is_the_real_one(tmp_path: Path) -> None:
    label_map = _map(tmp_path)
    brain = torch.where((label_map == 2) | (label_map == 3), 80.0 + label_map, 0.0)
    image, first = surround(brain, label_map, torch.Generator().manual_seed(0))
    i, j, k = (slice(int(f), int(f) + n) for f, n in zip(first, brain.shape, strict=True))
    inside = image[i, j, k][brain > 0]
    ratio = inside / brain[brain > 0]
    assert float(ratio.std() / ratio.mean()) < 1e-5
    outside = image.clone()
    outside[i, j, k][brain > 0] = 0
    assert float((outside > 0.1).float().mean()) > 0.05, "there is a head around it"


def test_defacing_blanks_the_front_below_and_nothing_above() -> None:
    image = deface(torch.ones(20, 40, 40), torch.Generator().manual_seed(0))
    assert float(image[:, -1, 0].max()) == 0
    assert float(image[:, :, 20:].min()) == 1


def test_a_field_moves_image_and_labels_alike() -> None:
    labels = torch.zeros(40, 44, 36, dtype=torch.uint8)
    labels[10:28, 12:30, 10:24] = 1
    field = random_field((40, 44, 36), torch.Generator().manual_seed(4))
    image = warp(labels.float(), field, labels=False)
    moved = warp(labels, field, labels=True)
    disagree = ((image > 0.5) != (moved > 0)).float().sum() / (moved > 0).sum()
    assert float(disagree) < 0.1
    assert set(moved.flatten().tolist()) == {0, 1}


def test_thick_slices_keep_the_mean_and_lose_detail() -> None:
    rough = torch.rand(24, 24, 24, generator=torch.Generator().manual_seed(0))
    smooth = thicken(rough, 2, 4.0)
    assert abs(float(smooth.mean() - rough.mean())) < 0.01
    along = np.diff(smooth.numpy(), axis=2).std()
    assert along < 0.5 * np.diff(rough.numpy(), axis=2).std()
