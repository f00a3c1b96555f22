"""Laws of a corpus of places: whole scans and painted heads give one example for each place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.imaging.nifti import read_scan
from bids_deepmrseg.selection.labelled import find_labelled
from bids_deepmrseg.stages.locate import locate
from bids_deepmrseg.stages.prepare import prepare_places
from bids_deepmrseg.training.corpus import (
    GREY_LEVELS,
    Example,
    build_corpus,
    load_corpus,
)
from bids_deepmrseg.training.recipe import Recipe
from bids_deepmrseg.training.sampling import gather_volumes
from bids_deepmrseg.training.variants import Variant, plan_corpus
from tests.makers import bids_path, make_grid, write_nifti
from tests.regions import make_dataset, make_locator, make_region_task, make_truth
from tests.training.corpora import make_head_map

SCAN = "sub-01_T1w.nii.gz"
NUMBERS = ((17,), (18,), (53,), (54,))
RECIPE = Recipe(name="tiny", n_stripped=2, n_surrounded=1, n_synthetic=2, synthetic_share=0.3)
LOCATOR = make_locator()
CROPS = make_region_task()
assert CROPS.region is not None
TASK = replace(CROPS, region=replace(CROPS.region, trained_on="scans"))


def make_labelled(root: Path, *, geometry: str = "RAS") -> Path:
    """A whole scan with the labels of both places."""
    make_dataset(root, {SCAN: geometry})
    grid = make_grid(geometry)
    truth, _ = make_truth(grid)
    write_nifti(root / bids_path("sub-01_dseg.nii.gz"), truth, grid.affine)
    return root


def make_map(folder: Path) -> Path:
    """A whole-head label map with the four labels in FreeSurfer's numbers."""
    file = make_head_map(folder / "head-1_dseg.nii.gz")
    grid = make_grid()
    values = read_scan(file).data.astype(np.uint16)
    values[values == 17] = 3
    truth, _ = make_truth(grid)
    for label, (number,) in zip(TASK.labels, NUMBERS, strict=True):
        values[truth == label.index] = number
    return write_nifti(file, values, grid.affine)


def plan(folder: Path, *, geometry: str = "RAS", seed: int = 1) -> tuple[Variant, ...]:
    """A variant of every kind."""
    if not (folder / "labelled").exists():
        make_labelled(folder / "labelled", geometry=geometry)
    labelled = find_labelled(folder / "labelled", TASK)
    return plan_corpus(labelled, (make_map(folder / "maps"),), RECIPE, seed=seed)


def build(variants: tuple[Variant, ...], folder: Path, n_procs: int = 1) -> tuple[Example, ...]:
    made = build_corpus(variants, TASK, NUMBERS, folder, locator=LOCATOR, n_procs=n_procs)
    assert len(list(made)) == len(variants)
    return load_corpus(variants, folder)


def test_every_variant_gives_an_example_for_each_place(tmp_path: Path) -> None:
    variants = plan(tmp_path)
    assert [v.kind for v in variants] == ["stripped"] * 2 + ["surrounded"] + ["synthetic"] * 2
    examples = build(variants, tmp_path / "corpus")
    assert [e.name for e in examples] == [v.stem for v in variants for _ in range(2)]
    for example in examples:
        assert example.image.shape == (1, *example.classes.shape)
        assert set(np.unique(example.classes)) == {0, 1, 2}, example.name
        assert not example.classes[[0, -1]].any(), "the margin shows no label"
    volumes = gather_volumes(examples, n_classes=TASK.n_classes, device="cpu")
    assert len(volumes.images) == 2 * len(variants)
    assert int(volumes.synthetic.sum()) == 4


def test_the_same_seed_gives_the_same_places_and_another_gives_others(tmp_path: Path) -> None:
    variants = plan(tmp_path)
    one, other = build(variants, tmp_path / "a"), build(variants, tmp_path / "b", n_procs=2)
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.image, b.image), a.name
        assert np.array_equal(a.classes, b.classes), a.name
    last = build(plan(tmp_path, seed=2)[-1:], tmp_path / "c")
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(one[-2:], last, strict=True))


@pytest.mark.parametrize("geometry", ["RAS", "LAS", "oblique"])
def test_the_first_variant_is_each_place_as_the_app_shows_it(tmp_path: Path, geometry: str) -> None:
    variants = plan(tmp_path, geometry=geometry)[:1]
    grid = make_grid(geometry)
    truth, blobs = make_truth(grid)
    located = locate(blobs, grid, TASK, LOCATOR)
    assert variants[0].scan is not None
    prepared = prepare_places(variants[0].scan.case, located)
    examples = build(variants, tmp_path / "corpus")
    for example, shown, indices in zip(examples, prepared, ((11, 12), (13, 14)), strict=True):
        assert np.abs(example.image / GREY_LEVELS - shown.channels).max() <= 0.51 / GREY_LEVELS
        assert [np.count_nonzero(example.classes == c) for c in (1, 2)] == [
            np.count_nonzero(truth == index) for index in indices
        ]
