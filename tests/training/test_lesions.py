"""Laws of painted lesions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bids_deepmrseg.imaging.nifti import read_label_map
from bids_deepmrseg.training.lesions import add_flow, add_lesions, lesion_shares, paint_pair
from tests.training.corpora import make_head_map

WHITE = np.zeros((40, 48, 30), dtype=bool)
WHITE[10:30, 10:38, 8:22] = True


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _scan() -> tuple[np.ndarray, np.ndarray]:
    """A brain of grey matter around white, and one lesion."""
    flair = np.where(WHITE, 1.0, 1.1).astype(np.float32)
    t1w = np.where(WHITE, 1.2, 0.9).astype(np.float32)
    classes = np.zeros(WHITE.shape, dtype=np.uint8)
    classes[12:15, 12:15, 10:12] = 1
    flair[classes > 0] = 1.7
    return np.stack([flair, t1w]), classes


def test_lesions_are_painted_where_there_is_white_matter_only() -> None:
    for seed in range(6):
        shares = lesion_shares(WHITE, (1, 1, 1), _generator(seed))
        assert 0 < shares.max() <= 1
        assert shares.shape == WHITE.shape
    assert not lesion_shares(np.zeros_like(WHITE), (1, 1, 1), _generator(0)).any()


def test_lesions_have_their_size_in_millimetres_whatever_the_slices() -> None:
    def volumes_mm3(spacing_mm: tuple[float, float, float]) -> list[float]:
        middle = np.zeros((60, 60, round(60 / spacing_mm[2])), dtype=bool)
        middle[tuple(n // 2 for n in middle.shape)] = True
        drawn = (lesion_shares(middle, spacing_mm, _generator(seed)) for seed in range(30))
        return [float(one.sum() * np.prod(spacing_mm)) for one in drawn]

    fine, thick = np.median(volumes_mm3((1, 1, 1))), np.median(volumes_mm3((1, 1, 6)))
    assert thick == pytest.approx(fine, rel=0.35)
    assert 20 < fine < 2000


def test_added_lesions_are_bright_on_flair_and_not_bright_on_t1w() -> None:
    channels, classes = _scan()
    n_new = 0
    for seed in range(8):
        painted, painted_classes = add_lesions(channels, classes, (1, 1, 1), _generator(seed))
        new = (painted_classes == 1) & (classes == 0)
        n_new += int(new.sum())
        assert (painted[0][new] > channels[0][new]).all()
        assert (painted[1][new] <= channels[1][new]).all()
        assert (painted_classes[classes == 1] == 1).all()  # what was labelled stays so
        assert np.array_equal(painted[:, classes == 1], channels[:, classes == 1])
    assert n_new > 100


def test_nothing_is_painted_where_no_white_matter_is_seen() -> None:
    channels, classes = _scan()
    dark = channels * np.array([0.3, 1])[:, None, None, None].astype(np.float32)
    painted, painted_classes = add_lesions(dark, classes, (1, 1, 1), _generator(1))
    assert np.array_equal(painted_classes, classes)
    assert np.array_equal(painted, dark)


def test_a_painted_pair_shows_its_lesions(tmp_path: Path) -> None:
    label_map = torch.from_numpy(read_label_map(make_head_map(tmp_path / "m.nii.gz"))[0]).long()
    shown = 0
    for seed in range(8):
        pair = paint_pair(label_map, (1, 1, 1), _generator(seed))
        lesion = pair.classes == 1
        white = (label_map == 2) & ~lesion
        assert ((label_map[lesion] > 0) & (label_map[lesion] < 500)).all()
        if lesion.sum() > 50:
            shown += 1
            assert pair.flair[lesion].median() > pair.flair[white].median()
    assert shown >= 3


def test_a_pair_depends_on_its_seed_alone(tmp_path: Path) -> None:
    label_map = torch.from_numpy(read_label_map(make_head_map(tmp_path / "m.nii.gz"))[0]).long()
    one, again = (paint_pair(label_map, (1, 1, 1), _generator(3)) for _ in range(2))
    assert torch.equal(one.flair, again.flair)
    assert torch.equal(one.t1w, again.t1w)
    assert torch.equal(one.classes, again.classes)


def test_flow_brightens_fluid_alone_and_leaves_the_t1w_as_it_is() -> None:
    channels, _ = _scan()
    fluid = np.zeros(WHITE.shape, dtype=bool)
    fluid[18:22, 20:28, 12:18] = True
    channels[0][fluid], channels[1][fluid] = 0.3, 0.4
    n_bright = 0
    for seed in range(6):
        shown = add_flow(channels, (1, 1, 1), _generator(seed))
        assert np.array_equal(shown[:, ~fluid], channels[:, ~fluid])
        assert np.array_equal(shown[1], channels[1])
        n_bright += int((shown[0][fluid] > 0.6).sum())
    assert n_bright > 50
