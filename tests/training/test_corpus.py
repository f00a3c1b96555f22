"""Laws of the corpus: training sees what the app would see."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import TrainingError
from bids_deepmrseg.imaging.nifti import read_label_map, read_scan
from bids_deepmrseg.selection.labelled import find_labelled
from bids_deepmrseg.stages.prepare import prepare_volumes
from bids_deepmrseg.training.corpus import (
    GREY_LEVELS,
    Example,
    build_corpus,
    classes_of,
    load_corpus,
    make_variant,
    require_every_label,
)
from bids_deepmrseg.training.recipe import Recipe
from bids_deepmrseg.training.variants import plan_corpus
from tests.makers import bids_path, make_task, write_nifti
from tests.training.corpora import make_examples, make_head_map, make_labelled

TASK = make_task()
RECIPE = Recipe(name="tiny", n_stripped=2, n_surrounded=1, n_synthetic=1, synthetic_share=0.3)


@pytest.mark.parametrize("geometry", ["RAS", "LAS", "odd"])
def test_the_first_variant_is_the_scan_as_the_app_prepares_it(
    tmp_path: Path, geometry: str
) -> None:
    labelled = find_labelled(
        make_labelled(tmp_path / "labelled", ("sub-1",), geometry=geometry), TASK
    )
    variants = plan_corpus(labelled, (), Recipe(name="tiny"), seed=1)
    list(build_corpus(variants, TASK, (), tmp_path / "corpus", n_procs=1))
    example = load_corpus(variants, tmp_path / "corpus")[0]
    scan = read_scan(labelled[0].case.scans[0])
    prepared = prepare_volumes((scan.data,), scan.grid, TASK)
    shown = example.image / GREY_LEVELS
    assert shown.shape == prepared.channels.shape
    assert np.abs(shown - prepared.channels).max() <= 0.51 / GREY_LEVELS
    middles = [np.argwhere(example.classes == c).mean(axis=0)[0] for c in (1, 3, 2)]
    assert middles == sorted(middles), "left, middle and right lie in that order from the left"


def test_a_corpus_is_made_once_and_the_same_again(tmp_path: Path) -> None:
    labelled = find_labelled(make_labelled(tmp_path / "labelled", ("sub-1",)), TASK)
    maps = (make_head_map(tmp_path / "maps" / "head-1_dseg.nii.gz"),)
    variants = plan_corpus(labelled, maps, RECIPE, seed=1)
    assert [v.kind for v in variants] == ["stripped", "stripped", "surrounded", "synthetic"]
    numbers = ((17,), (53,), (4,))
    assert len(list(build_corpus(variants, TASK, numbers, tmp_path / "a", n_procs=1))) == 4
    assert list(build_corpus(variants, TASK, numbers, tmp_path / "a", n_procs=1)) == []
    list(build_corpus(variants, TASK, numbers, tmp_path / "b", n_procs=2))
    pairs = zip(
        load_corpus(variants, tmp_path / "a"), load_corpus(variants, tmp_path / "b"), strict=True
    )
    for one, other in pairs:
        assert np.array_equal(one.image, other.image), one.name
        assert np.array_equal(one.classes, other.classes), one.name
        assert one.classes.any(), one.name


@pytest.mark.parametrize("spacing_mm", [4.0, 6.0])
def test_every_variant_shows_the_person_in_its_size(tmp_path: Path, spacing_mm: float) -> None:
    """Scans of 4 mm, whatever the voxels of the task: warps change lengths by 12 % at most."""
    task = make_task(spacing_mm=spacing_mm)
    labelled = find_labelled(make_labelled(tmp_path / "labelled", ("sub-1",)), task)
    maps = (make_head_map(tmp_path / "maps" / "head-1_dseg.nii.gz"),)
    recipe = Recipe(name="tiny", n_stripped=3, n_surrounded=2)
    variants = plan_corpus(labelled, maps, recipe, seed=1)
    list(build_corpus(variants, task, ((17,), (53,), (4,)), tmp_path / "corpus", n_procs=1))
    first, *others = load_corpus(variants, tmp_path / "corpus")
    assert [other.kind for other in others] == ["stripped"] * 2 + ["surrounded"] * 2
    for other in others:
        ratio = np.count_nonzero(other.classes) / np.count_nonzero(first.classes)
        assert 0.85**3 < ratio < 1.15**3, other.name


def test_a_mask_is_the_one_label_of_its_task(tmp_path: Path) -> None:
    labelled_dir = make_labelled(tmp_path / "labelled", ("sub-1",))
    dseg = labelled_dir / bids_path("sub-1_dseg.nii.gz")
    values, grid = read_label_map(dseg)
    mask = np.where(values == TASK.labels[2].index, 255, 0).astype(np.uint8)
    write_nifti(labelled_dir / bids_path("sub-1_label-blob_mask.nii.gz"), mask, grid.affine)
    task = dataclasses.replace(TASK, labels=TASK.labels[2:])
    examples: list[Example] = []
    for ending in ("dseg", "mask"):
        found = find_labelled(labelled_dir, task, reference=ending)
        variants = plan_corpus(found, (), Recipe(name="tiny"), seed=1)
        list(build_corpus(variants, task, (), tmp_path / ending, n_procs=1))
        examples += load_corpus(variants, tmp_path / ending)
    assert examples[0].classes.any()
    assert np.array_equal(examples[0].classes, examples[1].classes)


def test_a_label_map_on_another_grid_is_refused(tmp_path: Path) -> None:
    labelled_dir = make_labelled(tmp_path / "labelled", ("sub-1",))
    dseg = labelled_dir / bids_path("sub-1_dseg.nii.gz")
    values, grid = read_label_map(dseg)
    write_nifti(dseg, values[1:].astype(np.uint8), grid.affine)
    (variant,) = plan_corpus(find_labelled(labelled_dir, TASK), (), Recipe(name="tiny"), seed=1)
    with pytest.raises(TrainingError, match=r"sub-1_dseg\.nii\.gz is not on the grid of its scans"):
        make_variant(variant, TASK, (), tmp_path)


def test_a_label_that_no_map_shows_is_named() -> None:
    examples = make_examples(TASK)
    require_every_label(examples, TASK)
    without = [
        dataclasses.replace(e, classes=np.where(e.classes == 3, 0, e.classes)) for e in examples
    ]
    require_every_label((without[0], examples[1]), TASK)
    with pytest.raises(TrainingError, match="no label map shows Middle Blob, whose index is 7"):
        require_every_label(tuple(without), TASK)


def test_label_numbers_become_classes_in_task_order() -> None:
    values = np.array([[0, 7, 2], [1, 99, 7]])
    assert classes_of(values, ((1,), (2,), (7,))).tolist() == [[0, 3, 2], [1, 0, 3]]


def test_a_class_may_have_many_numbers_and_what_comes_later_is_cut_out_of_it() -> None:
    values = np.array([[0, 10, 11], [12, 99, 49]])
    numbers = ((10, 11, 12, 49), (11,), (49, 50))
    assert classes_of(values, numbers).tolist() == [[0, 1, 2], [1, 0, 3]]
