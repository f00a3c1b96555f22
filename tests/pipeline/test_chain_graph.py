"""Tasks that locate each other in a chain: each runs once, and what the first finds reaches all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.evaluation.whole import Models, segment_scan
from bids_deepmrseg.files import read_json, read_tsv
from bids_deepmrseg.pipeline.graph import run
from bids_deepmrseg.pipeline.handoff import locating_chain
from bids_deepmrseg.pipeline.workflow import batches, build_workflow
from bids_deepmrseg.records import Case, Outcome
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.aggregate import aggregate
from bids_deepmrseg.stages.write import NIFTI_GZ
from tests.makers import make_case, make_grid, make_settings, open_nifti
from tests.regions import make_chain, make_chain_models, make_dataset, make_truth

SCANS = {"sub-01_T1w.nii.gz": "LAS", "sub-02_T1w.nii.gz": "RAS"}
WHOLE, SIDE, PART = make_chain()


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    make_chain_models(tmp_path / "models")
    return make_settings(tmp_path)


def cases_of(settings: RunSettings, *names: str) -> tuple[Case, ...]:
    """Cases in the order of discovery: task by task."""
    tasks = [task for task in (PART, SIDE, WHOLE) if task.name in names]
    return tuple(make_case(settings.bids_dir, scan, task=task) for task in tasks for scan in SCANS)


def labels_of(settings: RunSettings, outcome: Outcome) -> np.ndarray:
    return np.asanyarray(open_nifti(settings.output_dir / outcome.dseg).dataobj)


def test_a_chain_is_followed_to_its_root(settings: RunSettings) -> None:
    part, *_ = cases_of(settings, "part")
    chain = locating_chain(part, settings.models_dir)
    assert [one.task for one in chain] == [SIDE, WHOLE]
    assert {one.scans for one in chain} == {part.scans}
    assert locating_chain(chain[-1], settings.models_dir) == ()


def test_every_task_of_a_chain_is_segmented_once_whoever_needs_it(
    settings: RunSettings, tmp_path: Path
) -> None:
    make_dataset(settings.bids_dir, SCANS)
    graph = build_workflow(cases_of(settings, "part", "whole"), settings, tmp_path / "notes")
    assert sorted(graph.list_node_names()) == sorted(
        [
            *(
                f"{name}_sub-0{number}_{stage}"
                for name in ("part", "whole")
                for number in (1, 2)
                for stage in ("measure", "segment", "write")
            ),
            "side_sub-01_segment",
            "side_sub-02_segment",
        ]
    )


def test_cases_of_one_root_share_a_graph(settings: RunSettings) -> None:
    part1, part2, side1, side2, whole1, whole2 = cases_of(settings, "part", "side", "whole")
    everything = (part1, part2, side1, side2, whole1, whole2)
    assert batches(everything, settings) == ((part1, side1, whole1), (part2, side2, whole2))
    assert batches((part1, part2, side2), settings) == ((part1,), (part2, side2))


def test_the_graph_of_a_chain_gives_voxel_for_voxel_what_the_stages_give(
    settings: RunSettings,
) -> None:
    """The first and the last of three are asked for; the second is not written."""
    make_dataset(settings.bids_dir, SCANS)
    part, _, whole, _ = cases_of(settings, "part", "whole")
    outcomes = run(Plan((part, whole), ()), settings)
    assert [(one.status, one.reason) for one in outcomes] == [("done", "n/a")] * 2
    assert not list(settings.output_dir.rglob("*seg-side*"))
    found = segment_scan(part, Models(models_dir=settings.models_dir, device="cpu"))
    np.testing.assert_array_equal(labels_of(settings, outcomes[0]), found[2].dseg)
    np.testing.assert_array_equal(labels_of(settings, outcomes[1]), found[0].dseg)
    truth, blobs = make_truth(make_grid("LAS"))
    np.testing.assert_array_equal(found[2].dseg, truth)
    np.testing.assert_array_equal(found[1].dseg, blobs)
    _check_brain(settings, outcomes, found[0].dseg)
    _check_provenance(settings, outcomes)


def _check_brain(settings: RunSettings, outcomes: tuple[Outcome, ...], whole: np.ndarray) -> None:
    """No landmark is shown to users, and every table tells the volume of the brain."""
    assert np.unique(whole).tolist() == [0, 1]
    (mask,) = settings.output_dir.rglob("*_label-brain_desc-whole_mask.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(open_nifti(mask).dataobj), whole)
    brain_mm3 = np.count_nonzero(whole) * 4.0**3
    for outcome in outcomes:
        rows = read_tsv(settings.output_dir / outcome.dseg.replace(NIFTI_GZ, ".tsv"))[1]
        assert {row["brain_mm3"] for row in rows} == {f"{brain_mm3:.3f}"}
    aggregate(settings.output_dir)
    (row,) = read_tsv(settings.output_dir / "group_part.tsv")[1]
    assert row["brain_mm3"] == f"{brain_mm3:.3f}"
    raw_mm3, fraction = row["left_front_blob_mm3"], row["left_front_blob_per_brain"]
    assert float(fraction) == pytest.approx(float(raw_mm3) / brain_mm3, abs=1e-8)
    columns, (row,) = read_tsv(settings.output_dir / "group_whole.tsv")
    assert row["brain_mm3"] == f"{brain_mm3:.3f}"
    assert [column for column in columns if "brain" in column] == ["brain_mm3"]


def _check_provenance(settings: RunSettings, outcomes: tuple[Outcome, ...]) -> None:
    """The sidecar names every model of the chain."""
    part, whole = (
        read_json(settings.output_dir / one.dseg.replace(NIFTI_GZ, ".json"))["DeepMRSeg"]
        for one in outcomes
    )
    assert isinstance(part, dict)
    assert isinstance(whole, dict)
    digests = dict[str, str]()
    for name in ("side", "whole"):
        record = settings.models_dir / name / "model.json" if settings.models_dir else Path()
        digests[name] = record_digest(record)
    assert part["LocatedBy"] == [
        {"Task": "side", "ModelSHA256": digests["side"]},
        {"Task": "whole", "ModelSHA256": digests["whole"]},
    ]
    by_whole = {"Task": "whole", "ModelSHA256": digests["whole"]}
    by_whole["Scan"] = "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
    assert part["BrainMeasuredBy"] == whole["BrainMeasuredBy"] == by_whole
    assert whole["LocatedBy"] == []
    assert whole["ModelSHA256"] == digests["whole"]


def record_digest(file: Path) -> str:
    """Digest of the weights that a record names."""
    from bids_deepmrseg.network.weights import read_record  # noqa: PLC0415 - needs torch

    return read_record(file.parent).digest


def test_what_failed_first_is_told_of_every_task_behind_it(settings: RunSettings) -> None:
    """One scan is empty, so that the root fails; in the other it does not find one side."""
    make_dataset(settings.bids_dir, SCANS, one_sided=("sub-02_T1w.nii.gz",))
    cases = cases_of(settings, "part", "whole")
    cases[0].scans[0].write_bytes(b"")
    outcomes = run(Plan(cases, ()), replace(settings, clean_workdir=True))
    part1, part2, whole1, whole2 = outcomes
    assert [one.status for one in outcomes] == ["failed", "failed", "failed", "done"]
    assert "sub-01/anat/sub-01_T1w.nii.gz is empty" in whole1.reason
    assert part1.reason == (
        "side, which shows where part is, failed: whole, which shows where side is, failed: "
        f"{whole1.reason}"
    )
    assert whole2.reason == "n/a"
    assert part2.reason == (
        "side, which shows where part is, failed: Right Blob of whole, around which side is "
        "segmented, was not found; look at the scan"
    )
    assert not list((settings.work_dir).rglob("*_segment"))
