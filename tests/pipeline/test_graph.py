"""The graph gives what the stages give; what happens to one case stays with that case."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import read_json, read_tsv
from bids_deepmrseg.pipeline.graph import run
from bids_deepmrseg.pipeline.segmenting import SegmentRequest, segment_case
from bids_deepmrseg.records import Case, Outcome
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.measure import measure
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.quality import judge, read_calibration
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.stages.status import read_status
from bids_deepmrseg.stages.write import write_case
from tests.makers import (
    make_case,
    make_dataset,
    make_model_folder,
    make_scan,
    make_settings,
    open_nifti,
)


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    make_model_folder(tmp_path / "models", views=("axial", "coronal"))
    return make_settings(tmp_path)


def plan_of(settings: RunSettings, scans: dict[str, str]) -> Plan:
    make_dataset(settings.bids_dir, scans)
    return Plan(tuple(make_case(settings.bids_dir, scan) for scan in scans), ())


def written_by_stages(case: Case, settings: RunSettings, folder: Path) -> Path:
    """The label map that the stages give without nipype."""
    model = folder / "models" / "tiny"
    predicted = segment(prepare(case), model, case.task, device="cpu")
    segmented = restore(predicted, case.task, keep_probabilities=True)
    request = SegmentRequest(
        case=case,
        model_folder=model,
        device="cpu",
        fast=False,
        keep_probabilities=True,
        file=folder / "again.npz",
    )
    provenance = segment_case(request)
    plain = folder / "plain"
    measures = judge(measure(segmented, case.task), segmented.certainties, read_calibration(model))
    return plain / write_case(case, segmented, measures, provenance, plain)


@pytest.mark.parametrize("geometry", ["oblique", "odd"])
def test_the_graph_gives_voxel_for_voxel_what_the_stages_give(
    settings: RunSettings, tmp_path: Path, geometry: str
) -> None:
    plan = plan_of(settings, {"sub-01_ses-1_T1w.nii.gz": geometry})
    (outcome,) = run(plan, replace(settings, write_probabilities=True))
    graph = settings.output_dir / outcome.dseg
    plain = written_by_stages(plan.cases[0], settings, tmp_path)
    for suffix in ("dseg", "probseg"):
        one, two = (
            open_nifti(file.with_name(file.name.replace("dseg", suffix))) for file in (graph, plain)
        )
        np.testing.assert_array_equal(np.asanyarray(one.dataobj), np.asanyarray(two.dataobj))
        np.testing.assert_array_equal(one.affine, two.affine)
    assert np.unique(np.asanyarray(open_nifti(graph).dataobj)).size == 4
    for ending in (".tsv", ".json"):
        one_text, two_text = (
            Path(str(file).replace(".nii.gz", ending)).read_bytes() for file in (graph, plain)
        )
        assert one_text == two_text


def test_a_finished_case_is_taken_over_and_a_failed_one_is_tried_again(
    settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_of(settings, {"sub-01_T1w.nii.gz": "RAS", "sub-02_T1w.nii.gz": "LAS"})
    bad = plan.cases[0].scans[0]
    bad.write_bytes(bad.read_bytes()[:1000])
    first = run(plan, settings)
    assert [one.status for one in first] == ["failed", "done"]
    assert "sub-01/anat/sub-01_T1w.nii.gz is truncated or damaged" in first[0].reason
    assert str(settings.bids_dir) not in first[0].reason
    assert list(settings.log_dir.glob("crash-*sub-01_segment*.txt"))

    make_scan(bad, geometry="RAS")
    (settings.output_dir / first[1].dseg).unlink()
    again = replace(settings, run_id="20260102-000000_a")
    with caplog.at_level(logging.INFO):
        second = run(plan, again)
    assert [one.status for one in second] == ["done", "done"]
    assert "sub-02_T1w tiny: segment taken over from the work folder" in caplog.text
    assert "sub-01_T1w tiny: segment done in" in caplog.text
    assert (settings.output_dir / first[1].dseg).is_file()
    assert read_status(again.log_dir / "status.tsv") == tuple(
        replace(one, duration_s=round(one.duration_s, 1)) for one in second
    )


def test_other_weights_make_another_answer(settings: RunSettings, tmp_path: Path) -> None:
    plan = plan_of(settings, {"sub-01_T1w.nii.gz": "RAS"})
    digests = []
    for seed in (1, 2):
        folder = make_model_folder(tmp_path / "models", seed=seed)
        (outcome,) = run(plan, settings)
        sidecar = str(settings.output_dir / outcome.dseg).replace(".nii.gz", ".json")
        provenance = read_json(Path(sidecar))["DeepMRSeg"]
        assert isinstance(provenance, dict)
        digests.append(provenance["ModelSHA256"])
        assert folder.is_dir()
    assert digests[0] != digests[1]


def kill_the_first_child() -> None:
    """Wait until this process has a child, and kill it as the kernel does when memory is out."""
    end_s = time.monotonic() + 60
    while not (children := multiprocessing.active_children()) and time.monotonic() < end_s:
        time.sleep(0.02)
    for child in children[:1]:
        if child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)


def test_a_child_that_is_killed_fails_its_own_case_only(settings: RunSettings) -> None:
    plan = plan_of(settings, {"sub-01_T1w.nii.gz": "RAS", "sub-02_T1w.nii.gz": "RAS"})
    killer = threading.Thread(target=kill_the_first_child)
    killer.start()
    killed, other = run(plan, settings)
    killer.join()
    assert (killed.status, killed.dseg) == ("failed", "n/a")
    assert "sub-01_T1w tiny was killed by signal 9 (SIGKILL)" in killed.reason
    assert "GB are needed" in killed.reason
    assert other.status == "done"


def test_damaged_weights_are_named(settings: RunSettings, tmp_path: Path) -> None:
    plan = plan_of(settings, {"sub-01_T1w.nii.gz": "RAS"})
    weights = tmp_path / "models" / "tiny" / "axial.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (outcome,) = run(plan, settings)
    assert outcome.status == "failed"
    assert "axial.safetensors are damaged" in outcome.reason


def test_the_first_crash_stops_the_run_where_that_is_asked_for(settings: RunSettings) -> None:
    plan = plan_of(settings, {"sub-01_T1w.nii.gz": "RAS", "sub-02_T1w.nii.gz": "RAS"})
    plan.cases[0].scans[0].write_bytes(b"")
    first, second = run(plan, replace(settings, stop_on_first_crash=True))
    assert (first.status, second.status) == ("failed", "skipped")
    assert "--stop-on-first-crash" in second.reason


def test_a_file_in_the_way_fails_the_case_and_is_left_alone(settings: RunSettings) -> None:
    plan = plan_of(settings, {"sub-01_T1w.nii.gz": "RAS"})
    theirs = settings.output_dir / "sub-01" / "anat" / "sub-01_space-T1w_seg-tiny_dseg.nii.gz"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"drawn by hand")
    (outcome,) = run(plan, settings)
    assert outcome.status == "failed"
    assert "was not written by deepmrseg" in outcome.reason
    assert theirs.read_bytes() == b"drawn by hand"


def test_a_clean_run_leaves_nothing_of_its_own_in_the_work_folder(settings: RunSettings) -> None:
    plan = plan_of(settings, {"sub-01_T1w.nii.gz": "RAS"})
    settings.work_dir.mkdir()
    (settings.work_dir / "mine.txt").write_text("keep", encoding="utf-8")
    (outcome,) = run(plan, replace(settings, clean_workdir=True))
    assert outcome.status == "done"
    assert [file.name for file in settings.work_dir.iterdir()] == ["mine.txt"]


def test_what_was_left_out_has_a_row_even_if_nothing_runs(settings: RunSettings) -> None:
    make_dataset(settings.bids_dir, [])
    left_out = Outcome(
        participant_id="sub-09",
        session_id="n/a",
        run_id="n/a",
        source="n/a",
        task="tiny",
        status="skipped",
        reason="no T1w",
        dseg="n/a",
        duration_s=0.0,
    )
    assert run(Plan((), (left_out,)), settings) == (left_out,)
    assert read_status(settings.log_dir / "status.tsv") == (left_out,)


def test_the_users_plugin_runs_the_nodes(settings: RunSettings, tmp_path: Path) -> None:
    plan = plan_of(settings, {"sub-01_T1w.nii.gz": "RAS", "sub-02_T1w.nii.gz": "RAS"})
    choice = tmp_path / "plugin.yml"
    choice.write_text(
        "plugin: MultiProc\nplugin_args: {n_procs: 2, memory_gb: 8, mp_context: forkserver}\n",
        encoding="utf-8",
    )
    outcomes = run(plan, replace(settings, use_plugin=choice))
    assert [one.status for one in outcomes] == ["done", "done"]
    participants = read_tsv(settings.output_dir / "participants.tsv")[1]
    assert [row["participant_id"] for row in participants] == ["sub-01", "sub-02"]


def test_an_output_folder_of_somebody_else_is_refused_before_anything_runs(
    settings: RunSettings,
) -> None:
    plan = plan_of(settings, {"sub-01_T1w.nii.gz": "RAS"})
    settings.output_dir.mkdir()
    (settings.output_dir / "dataset_description.json").write_text('{"Name": "x"}', encoding="utf-8")
    with pytest.raises(OutputError, match="another dataset"):
        run(plan, settings)
    assert [file.name for file in settings.output_dir.iterdir()] == ["dataset_description.json"]
