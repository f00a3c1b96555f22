"""A task that another one locates: its graph gives what the stages give, and failures are told."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.files import read_json, read_tsv
from bids_deepmrseg.pipeline.graph import run
from bids_deepmrseg.pipeline.needs import estimate_memory_gb
from bids_deepmrseg.pipeline.workflow import batches, build_workflow
from bids_deepmrseg.records import Case
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.locate import locate
from bids_deepmrseg.stages.measure import measure
from bids_deepmrseg.stages.prepare import prepare, prepare_places
from bids_deepmrseg.stages.restore import restore, restore_places
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.stages.write import NIFTI_GZ
from tests.makers import make_case, make_grid, make_settings, open_nifti
from tests.regions import make_dataset, make_locator, make_models, make_region_task, make_truth

SCANS = {"sub-01_T1w.nii.gz": "oblique", "sub-02_T1w.nii.gz": "LAS"}
TASKS = (make_locator(), make_region_task())


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    make_models(tmp_path / "models")
    return make_settings(tmp_path)


def cases_of(settings: RunSettings, *, located_only: bool = False) -> tuple[Case, ...]:
    """Cases in the order of discovery: task by task."""
    tasks = TASKS[1:] if located_only else TASKS
    return tuple(make_case(settings.bids_dir, scan, task=task) for task in tasks for scan in SCANS)


def labels_in(file: Path) -> np.ndarray:
    return np.asanyarray(open_nifti(file).dataobj)


def test_the_locator_is_segmented_once_whether_or_not_it_is_asked_for(
    settings: RunSettings, tmp_path: Path
) -> None:
    make_dataset(settings.bids_dir, SCANS)
    both = build_workflow(cases_of(settings), settings, tmp_path / "notes")
    alone = build_workflow(cases_of(settings, located_only=True), settings, tmp_path / "notes")
    stages = ("measure", "segment", "write")
    names = [f"part_{scan[:6]}_{stage}" for scan in SCANS for stage in stages]
    wanted = [f"tiny_{scan[:6]}_{stage}" for scan in SCANS for stage in stages]
    assert sorted(both.list_node_names()) == sorted(names + wanted)
    assert sorted(alone.list_node_names()) == sorted(
        [*names, "tiny_sub-01_segment", "tiny_sub-02_segment"]
    )
    one, two = (graph.get_node("tiny_sub-01_segment").inputs for graph in (both, alone))
    assert one.get_hashval()[1] == two.get_hashval()[1]


def test_a_case_shares_its_graph_with_the_one_that_locates_it(settings: RunSettings) -> None:
    make_dataset(settings.bids_dir, SCANS)
    tiny1, tiny2, part1, part2 = cases_of(settings)
    assert batches((tiny1, tiny2, part1, part2), settings) == ((tiny1, part1), (tiny2, part2))


def test_memory_of_a_place_is_less_than_that_of_a_head(settings: RunSettings) -> None:
    make_dataset(settings.bids_dir, SCANS)
    tiny, _, part, _ = cases_of(settings)
    need_gb = [estimate_memory_gb(case, keep_probabilities=False) for case in (part, tiny)]
    assert need_gb == sorted(need_gb)
    assert estimate_memory_gb(part, keep_probabilities=True) > need_gb[0]


def test_the_graph_gives_voxel_for_voxel_what_the_stages_give(settings: RunSettings) -> None:
    """Only the located task is asked for; nothing of the locator is written."""
    make_dataset(settings.bids_dir, SCANS)
    cases = cases_of(settings, located_only=True)
    outcomes = run(Plan(cases, ()), replace(settings, write_probabilities=True))
    assert [one.status for one in outcomes] == ["done", "done"]
    assert not list(settings.output_dir.rglob("*seg-tiny*"))
    for case, outcome, geometry in zip(cases, outcomes, SCANS.values(), strict=True):
        models = settings.models_dir
        assert models is not None
        whole = replace(case, task=TASKS[0])
        shown = restore(segment(prepare(whole), models / "tiny", TASKS[0], device="cpu"), TASKS[0])
        located = locate(shown.dseg, shown.grid, TASKS[1], TASKS[0])
        plain = restore_places(
            tuple(
                segment(one, models / "part", TASKS[1], device="cpu")
                for one in prepare_places(case, located)
            ),
            TASKS[1],
            keep_probabilities=True,
        )
        file = settings.output_dir / outcome.dseg
        np.testing.assert_array_equal(labels_in(file), plain.dseg)
        truth, _ = make_truth(make_grid(geometry))
        np.testing.assert_array_equal(labels_in(file), truth)
        assert plain.probabilities is not None
        probseg = labels_in(file.with_name(file.name.replace("dseg", "probseg")))
        np.testing.assert_array_equal(np.moveaxis(probseg, -1, 0), plain.probabilities[1:])
        table = read_tsv(Path(str(file).replace(NIFTI_GZ, ".tsv")))[1]
        assert [row["n_voxels"] for row in table] == [
            str(one.n_voxels) for one in measure(plain, TASKS[1])
        ]
        assert [row["name"] for row in table] == [label.name for label in TASKS[1].labels]
        provenance = read_json(Path(str(file).replace(NIFTI_GZ, ".json")))["DeepMRSeg"]
        assert isinstance(provenance, dict)
        (used,) = provenance["LocatedBy"]
        assert isinstance(used, dict)
        assert used["Task"] == "tiny"
        assert used["ModelSHA256"] != provenance["ModelSHA256"]
        assert (provenance["Doubts"], provenance["BrainMeasuredBy"]) == ([], None)


def test_what_the_locator_cannot_do_is_told_of_the_case(
    settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """One scan is empty, so that the locator fails; in the other it does not find one side."""
    make_dataset(settings.bids_dir, SCANS, one_sided=("sub-02_T1w.nii.gz",))
    cases = cases_of(settings)
    cases[0].scans[0].write_bytes(b"")
    with caplog.at_level(logging.INFO):
        outcomes = run(Plan(cases, ()), replace(settings, clean_workdir=True))
    tiny1, tiny2, part1, part2 = outcomes
    assert [one.status for one in outcomes] == ["failed", "done", "failed", "failed"]
    assert part1.reason == f"tiny, which shows where part is, failed: {tiny1.reason}"
    assert "sub-01/anat/sub-01_T1w.nii.gz is empty" in tiny1.reason
    assert tiny2.reason == "n/a"
    assert part2.reason == (
        "Right Blob of tiny, around which part is segmented, was not found; look at the scan"
    )
    assert len(list(settings.output_dir.rglob("*_dseg.nii.gz"))) == 1
    assert "part: segment failed" in caplog.text
    assert caplog.text.count("sub-01_T1w tiny: segment failed") == 1
    assert not list((settings.work_dir).rglob("*_segment"))


def test_a_rerun_takes_the_locators_labels_over_and_new_ones_count(
    settings: RunSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_dataset(settings.bids_dir, SCANS)
    case = cases_of(settings, located_only=True)[:1]
    assert run(Plan(case, ()), settings)[0].status == "done"
    with caplog.at_level(logging.INFO):
        run(Plan(case, ()), replace(settings, run_id="20260102-000000_a"))
    assert "sub-01_T1w tiny: segment taken over from the work folder" in caplog.text
    assert "sub-01_T1w part: segment taken over from the work folder" in caplog.text
    caplog.clear()
    for file in (tmp_path / "models" / "tiny").iterdir():
        file.write_bytes(file.read_bytes())
    with caplog.at_level(logging.INFO):
        run(Plan(case, ()), replace(settings, run_id="20260103-000000_a"))
    assert "sub-01_T1w tiny: segment done" in caplog.text
    assert "sub-01_T1w part: segment done" in caplog.text


def test_a_doubt_is_logged_and_kept_in_the_sidecar(
    settings: RunSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_dataset(settings.bids_dir, SCANS)
    file = tmp_path / "models" / "tiny" / "task.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text.replace("adult_range_ml = [1.0, 50.0]", "adult_range_ml = [30, 50]"), encoding="utf-8"
    )
    with caplog.at_level(logging.WARNING):
        (outcome,) = run(Plan(cases_of(settings, located_only=True)[:1], ()), settings)
    sentence = "adults have 30 to 50 ml: look at the picture"
    assert outcome.status == "done"
    assert sentence in caplog.text
    sidecar = read_json(settings.output_dir / outcome.dseg.replace(NIFTI_GZ, ".json"))
    assert isinstance(sidecar["DeepMRSeg"], dict)
    assert sentence in str(sidecar["DeepMRSeg"]["Doubts"])
