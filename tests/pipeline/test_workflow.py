"""Graphs are built right before anything runs."""

from pathlib import Path

import pytest
from nipype.pipeline.plugins import LinearPlugin, MultiProcPlugin

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.pipeline.needs import UNKNOWN_MEMORY_GB, estimate_memory_gb
from bids_deepmrseg.pipeline.plugin import PluginChoice
from bids_deepmrseg.pipeline.workflow import (
    batches,
    build_workflow,
    make_plugin,
)
from bids_deepmrseg.records import Case
from bids_deepmrseg.settings import RunSettings
from tests.makers import make_case, make_dataset, make_model_folder, make_settings, make_task

SCANS = ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz")


def settings_of(folder: Path, *, n_procs: int = 1, device: str = "cpu") -> RunSettings:
    return make_settings(folder, n_procs=n_procs, omp_nthreads=n_procs, device=device)


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Case, ...]:
    make_model_folder(tmp_path / "models")
    bids_dir = make_dataset(tmp_path / "bids", SCANS)
    return tuple(make_case(bids_dir, scan) for scan in SCANS)


def ignore(node: object, status: str) -> None:
    """What nipype calls when nobody listens."""


def test_each_case_has_three_nodes_and_knows_of_no_other(
    tmp_path: Path, cases: tuple[Case, ...]
) -> None:
    workflow = build_workflow(cases, settings_of(tmp_path), tmp_path / "notes")
    assert sorted(workflow.list_node_names()) == [
        f"tiny_sub-0{number}_{stage}"
        for number in (1, 2)
        for stage in ("measure", "segment", "write")
    ]


def test_weights_and_scans_are_inputs_so_that_new_ones_are_seen(
    tmp_path: Path, cases: tuple[Case, ...]
) -> None:
    workflow = build_workflow(cases, settings_of(tmp_path), tmp_path / "notes")
    node = workflow.get_node("tiny_sub-01_segment")
    before = node.inputs.get_hashval()[1]
    assert {Path(file).name for file in node.inputs.model_files} == {
        "axial.safetensors",
        "model.json",
        "task.toml",
    }
    for file in (Path(node.inputs.model_files[0]), cases[0].scans[0]):
        file.write_bytes(file.read_bytes() + b"more")
        after = node.inputs.get_hashval()[1]
        assert after != before
        before = after


def test_folders_of_notes_and_resources_do_not_make_work_be_done_again(
    tmp_path: Path, cases: tuple[Case, ...]
) -> None:
    one = build_workflow(cases, settings_of(tmp_path), tmp_path / "notes1")
    two = build_workflow(cases, settings_of(tmp_path, n_procs=4), tmp_path / "notes2")
    first, second = (graph.get_node("tiny_sub-01_segment").inputs for graph in (one, two))
    assert first.get_hashval()[1] == second.get_hashval()[1]


@pytest.mark.parametrize(("device", "takes"), [("cpu", False), ("cuda:1", True)])
def test_nodes_take_gpu_slots_on_gpus_only(
    tmp_path: Path, cases: tuple[Case, ...], device: str, takes: bool
) -> None:
    settings = settings_of(tmp_path, device=device)
    workflow = build_workflow(cases, settings, tmp_path / "notes")
    assert workflow.get_node("tiny_sub-01_segment").is_gpu_node() is takes
    assert not workflow.get_node("tiny_sub-01_write").is_gpu_node()


def test_memory_grows_with_scan_classes_and_probabilities(tmp_path: Path) -> None:
    bids_dir = make_dataset(
        tmp_path, {"sub-01_T1w.nii.gz": "RAS", "sub-02_T1w.nii.gz": "anisotropic"}
    )
    small, large = (make_case(bids_dir, f"sub-0{number}_T1w.nii.gz") for number in (1, 2))
    fine = make_case(bids_dir, "sub-01_T1w.nii.gz", task=make_task(spacing_mm=1.0))
    need_gb = [estimate_memory_gb(case, keep_probabilities=False) for case in (small, large, fine)]
    assert need_gb == sorted(need_gb)
    assert estimate_memory_gb(small, keep_probabilities=True) > need_gb[0]


def test_a_scan_that_cannot_be_read_gets_a_default_and_fails_later(tmp_path: Path) -> None:
    case = make_case(tmp_path, "sub-01_T1w.nii.gz")
    assert estimate_memory_gb(case, keep_probabilities=False) == UNKNOWN_MEMORY_GB


def test_one_process_finishes_each_case_before_the_next(
    tmp_path: Path, cases: tuple[Case, ...]
) -> None:
    assert batches(cases, settings_of(tmp_path)) == ((cases[0],), (cases[1],))
    assert batches(cases, settings_of(tmp_path, n_procs=2)) == (cases,)


def test_the_plugin_suits_the_number_of_processes(tmp_path: Path) -> None:
    assert isinstance(make_plugin(settings_of(tmp_path), None, ignore), LinearPlugin)
    plugin = make_plugin(settings_of(tmp_path, n_procs=2), None, ignore)
    assert isinstance(plugin, MultiProcPlugin)
    assert (plugin.processors, plugin.memory_gb, plugin.raise_insufficient) == (2, 8.0, False)
    plugin.pool.shutdown()


def test_the_users_plugin_gets_its_arguments(tmp_path: Path) -> None:
    choice = PluginChoice("MultiProc", {"n_procs": 3, "memory_gb": 5})
    plugin = make_plugin(settings_of(tmp_path), choice, ignore)
    assert (plugin.processors, plugin.memory_gb) == (3, 5)
    assert plugin.plugin_args["mp_context"] == "spawn"
    plugin.pool.shutdown()


def test_a_plugin_that_nipype_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no plugin 'Cloud'"):
        make_plugin(settings_of(tmp_path), PluginChoice("Cloud", {}), ignore)
