"""Laws of cross-validation: who is tested by whom, and what pieces add up to."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.lesion_results import read_lesion_results, write_lesion_results
from bids_deepmrseg.evaluation.results import (
    ALL_VIEWS,
    ALL_VIEWS_FLIPPED,
    read_folds,
    read_results,
    write_folds,
    write_results,
)
from bids_deepmrseg.evaluation.thresholds import read_at_rules, write_at_rules
from bids_deepmrseg.network.weights import View, read_record
from bids_deepmrseg.taskfiles import TASK_FILE
from bids_deepmrseg.training.crossval import Protocol, make_splits, merge_runs, run_protocol
from bids_deepmrseg.training.recipe import Recipe
from bids_deepmrseg.training.run import DataCard, Listener, TrainSettings
from tests.evaluation.made import make_fold, make_lesion_result, make_result
from tests.evaluation.test_threshold_choice import THREE_FOLDS
from tests.makers import make_task, task_toml
from tests.training.corpora import make_labelled

TASK = make_task()
PEOPLE = tuple(f"sub-{n}" for n in range(1, 5))
RECIPE = Recipe(
    name="tiny",
    features=4,
    depth=2,
    kernel_up=2,
    views=("axial", "coronal"),
    neighbours=1,
    patch=(16, 16, 16),
    batch_size=2,
    steps_per_epoch=2,
    n_epochs=2,
    optimiser="adamw",
    peak_learning_rate=5e-3,
    schedule="one-cycle",
)
QUIET = Listener(lambda *_: None, lambda *_: None, lambda _: None, lambda _: None)


@given(
    n=st.integers(2, 40), n_folds=st.integers(2, 6), repeat=st.integers(1, 20), seed=st.integers(0)
)
def test_everyone_is_tested_once_in_each_repeat(
    n: int, n_folds: int, repeat: int, seed: int
) -> None:
    people = tuple(f"sub-{i:02d}" for i in range(n))
    if n < n_folds:
        with pytest.raises(UsageError, match="cannot be parted"):
            make_splits(people, n_folds=n_folds, repeat=repeat, seed=seed)
        return
    splits = make_splits(people, n_folds=n_folds, repeat=repeat, seed=seed)
    tested = [name for split in splits for name in split.test]
    assert sorted(tested) == sorted(people)
    sizes = [len(split.test) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    assert splits == make_splits(people[::-1], n_folds=n_folds, repeat=repeat, seed=seed)


def test_repeats_are_other_shuffles() -> None:
    people = tuple(f"sub-{i:02d}" for i in range(20))
    first, second = (make_splits(people, n_folds=4, repeat=r, seed=1) for r in (1, 2))
    assert [s.test for s in first] != [s.test for s in second]


def test_one_person_under_two_names_stays_in_one_fold() -> None:
    people = tuple(f"sub-{i}" for i in range(9))
    groups = (("sub-1", "sub-5"), ("sub-0", "sub-7"))
    for repeat in range(1, 15):
        for split in make_splits(people, n_folds=3, repeat=repeat, seed=0, groups=groups):
            for group in groups:
                assert len(set(group) & set(split.test)) in (0, 2)
    with pytest.raises(UsageError, match="sub-99"):
        make_splits(people, n_folds=3, repeat=1, seed=0, groups=(("sub-1", "sub-99"),))


def _protocol(
    root: Path, *, output: str = "runs", views: tuple[View, ...] | None = None
) -> Protocol:
    labelled = root / "labelled"
    if not labelled.exists():
        make_labelled(labelled, PEOPLE)
        (root / TASK_FILE).write_text(task_toml(TASK), encoding="utf-8")
    training = TrainSettings(
        task=TASK,
        task_file=root / TASK_FILE,
        recipe=RECIPE,
        views=views or RECIPE.views,
        start_dir=None,
        labelled_dir=labelled,
        reference="dseg",
        head_maps_dir=None,
        excluded=(),
        excluded_maps=(),
        locator=None,
        corpus_dir=root / "corpus",
        output_dir=root / output,
        card=DataCard("made-up heads", "CC0", "nobody"),
        seed=1,
        device="cpu",
        precision="fp32",
        compiled=False,
        n_procs=1,
    )
    return Protocol(
        training=training,
        networks=("deepmrseg", "unet"),
        n_folds=2,
        repeats=(1,),
        folds=(1, 2),
        groups=(),
        dataset="tiny_crossval",
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole protocol was run in one go."""
    root = tmp_path_factory.mktemp("crossval")
    folders = tuple(run_protocol(_protocol(root), QUIET))
    assert len(folders) == 4
    return root


def test_each_scan_is_measured_by_networks_that_never_saw_it(whole: Path) -> None:
    tables = merge_runs((whole / "runs",), whole / "results", "tiny_crossval")
    rows = read_results(tables[0])
    for network in ("deepmrseg", "unet"):
        mine = [r for r in rows if r.network == network and r.ensemble == ALL_VIEWS]
        assert sorted({r.subject for r in mine}) == sorted(PEOPLE)
        assert len(mine) == len(PEOPLE) * len(TASK.labels)
    splits = make_splits(PEOPLE, n_folds=2, repeat=1, seed=1)
    for row in rows:
        assert row.subject in splits[row.fold - 1].test
    ensembles = {r.ensemble for r in rows}
    assert ensembles == {"axial", "coronal", ALL_VIEWS, ALL_VIEWS_FLIPPED}


def test_networks_are_described_and_their_logs_kept(whole: Path) -> None:
    tables = merge_runs((whole / "runs",), whole / "results", "tiny_crossval")
    folds = read_folds(tables[1])
    assert {(f.network, f.view, f.fold) for f in folds} == {
        (n, v, f) for n in ("deepmrseg", "unet") for v in RECIPE.views for f in (1, 2)
    }
    assert {(f.n_training_scans, f.n_test_scans, f.n_epochs, f.n_steps) for f in folds} == {
        (2, 2, 2, 4)
    }
    assert len(tables) == 2 + len(folds)
    assert all(log.is_file() for log in tables[2:])
    unet, own = (
        read_record(whole / "runs" / n / "repeat-1_fold-1" / TASK.name).members[0]
        for n in ("unet", "deepmrseg")
    )
    assert unet.architecture.family == "unet"
    assert own.architecture.n_channels == 3
    assert own.neighbours == 1


def test_pieces_made_apart_are_the_whole(whole: Path) -> None:
    for view in RECIPE.views:
        for fold in (1, 2):
            piece = _protocol(whole, output="pieces", views=(view,))
            tuple(run_protocol(replace(piece, folds=(fold,), networks=("unet",)), QUIET))
    assert not list((whole / "pieces").glob("*/*/results.tsv"))
    rest = replace(_protocol(whole, output="pieces"), networks=("unet",))
    tuple(run_protocol(rest, QUIET))
    pieces = merge_runs((whole / "pieces",), whole / "from_pieces", "tiny_crossval")
    one_go = merge_runs((whole / "runs",), whole / "results", "tiny_crossval")
    assert read_results(pieces[0]) == tuple(
        r for r in read_results(one_go[0]) if r.network == "unet"
    )


def test_a_finished_fold_is_not_made_again(whole: Path) -> None:
    files = sorted((whole / "runs").rglob("*.t*"))
    before = [file.stat().st_mtime_ns for file in files]
    tuple(run_protocol(_protocol(whole), QUIET))
    assert [file.stat().st_mtime_ns for file in files] == before


def test_scans_of_one_person_count_as_one_person(whole: Path) -> None:
    paired = replace(_protocol(whole, output="paired"), groups=(("sub-4", "sub-2"),), folds=(1,))
    (folder,) = run_protocol(replace(paired, networks=("unet",)), QUIET)
    rows = read_results(folder / "results.tsv")
    tested = {(row.subject, row.scan) for row in rows}
    splits = make_splits(PEOPLE, n_folds=2, repeat=1, seed=1, groups=paired.groups)
    names = {"sub-4": "sub-2"}
    assert tested == {(names.get(name, name), name) for name in splits[0].test}


def test_a_second_recipe_starts_each_fold_from_networks_that_saw_the_same_people(
    whole: Path,
) -> None:
    further = replace(
        _protocol(whole, output="further"), start_runs=whole / "runs", networks=("unet",)
    )
    still = replace(RECIPE, name="still", peak_learning_rate=0.0, weight_decay=0.0)
    further = replace(further, training=replace(further.training, recipe=still))
    for folder in run_protocol(further, QUIET):
        start = whole / "runs" / "unet" / folder.name / TASK.name / "axial.safetensors"
        before, after = load_file(start), load_file(folder / TASK.name / "axial.safetensors")
        weights = [name for name in before if name.endswith("weight")]
        assert all(torch.equal(before[name], after[name]) for name in weights)
    other = replace(further, groups=(("sub-1", "sub-2"),), folds=(1,))
    elsewhere = replace(other, training=replace(other.training, output_dir=whole / "elsewhere"))
    tests = {s.test for s in make_splits(PEOPLE, n_folds=2, repeat=1, seed=1)}
    assert (
        make_splits(PEOPLE, n_folds=2, repeat=1, seed=1, groups=other.groups)[0].test not in tests
    )
    with pytest.raises(UsageError, match="other people"):
        tuple(run_protocol(elsewhere, QUIET))


def test_the_same_fold_twice_is_refused(whole: Path) -> None:
    with pytest.raises(UsageError, match="more than one"):
        merge_runs((whole / "runs", whole / "runs"), whole / "results", "tiny_crossval")
    with pytest.raises(UsageError, match="no finished fold"):
        merge_runs((whole / "labelled",), whole / "results", "tiny_crossval")


def test_lesions_and_thresholds_of_all_folds_are_gathered(tmp_path: Path) -> None:
    for fold in (1, 2):
        folder = tmp_path / "runs" / "deepmrseg" / f"repeat-1_fold-{fold}"
        write_results((make_result(f"sub-{fold}", "Spot", 0.5),), folder / "results.tsv")
        write_folds((make_fold(fold=fold),), folder / "networks.tsv")
        found = make_lesion_result(f"sub-{fold}", 1, 2, n_true=1, n_segmented=1)
        write_lesion_results((found,), folder / "lesions.tsv")
        write_at_rules(THREE_FOLDS[fold - 1 : fold], folder / "thresholds.tsv")
    tables = merge_runs((tmp_path / "runs",), tmp_path / "results", "spots_crossval")
    endings = ("", "_folds", "_lesions", "_thresholds")
    assert [file.name for file in tables] == [f"spots_crossval{end}.tsv" for end in endings]
    rows = read_lesion_results(tables[2])
    assert [(r.dataset, r.scan) for r in rows] == [
        ("spots_crossval", "sub-1"),
        ("spots_crossval", "sub-2"),
    ]
    assert [(r.dataset, r.fold) for r in read_at_rules(tables[3])] == [
        ("spots_crossval", 1),
        ("spots_crossval", 2),
    ]
