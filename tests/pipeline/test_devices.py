"""Runs on several devices, which are processes on the CPU here: the same answers, and no mess."""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.pipeline import devices
from bids_deepmrseg.pipeline.asking import Opener
from bids_deepmrseg.pipeline.child import run_in_child
from bids_deepmrseg.pipeline.devices import CUDA_GB, left_by_workers, needs_workers, workers_of
from bids_deepmrseg.pipeline.graph import run
from bids_deepmrseg.pipeline.handoff import load_segmented, save_provenance
from bids_deepmrseg.pipeline.plugin import PluginChoice
from bids_deepmrseg.pipeline.segmenting import LocatorFiles, SegmentRequest, segment_case
from bids_deepmrseg.pipeline.workflow import build_workflow, largest_gb, lesion_rule
from bids_deepmrseg.records import Case, Outcome, Segmented
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import MIN_MEMORY_GB, RunSettings
from bids_deepmrseg.stages.write import Provenance
from tests.lesion_models import make_hull_task, make_sessions, make_spot_case, make_spot_models
from tests.makers import make_case, make_dataset, make_model_folder, make_settings, open_nifti
from tests.pipeline import made_networks
from tests.pipeline.made_networks import DieOnce, LookAround, MarkingWorkers, Meet, WaitForMark
from tests.regions import make_dataset as make_dataset_with_blobs
from tests.regions import make_locator, make_models, make_region_task

SCANS = tuple(f"sub-0{number}_T1w.nii.gz" for number in range(1, 5))
SLURM = PluginChoice("SLURM", {})


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    return make_settings(tmp_path, device="cpu,cpu", n_procs=2)


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the made networks of a run leave their marks."""
    folder = tmp_path / "marks"
    folder.mkdir()
    monkeypatch.setenv(made_networks.FOLDER, str(folder))
    return folder


def use(monkeypatch: pytest.MonkeyPatch, opener: Opener) -> None:
    """Let the workers of runs have other networks."""
    monkeypatch.setattr(devices, "open_worker_networks", opener)


def run_scans(settings: RunSettings, n_scans: int) -> tuple[Outcome, ...]:
    make_model_folder(settings.models_dir or Path(), views=("axial", "coronal"))
    make_dataset(settings.bids_dir, SCANS[:n_scans])
    cases = tuple(make_case(settings.bids_dir, scan) for scan in SCANS[:n_scans])
    return run(Plan(cases, ()), settings)


# the same answers


def segmented_by(request: SegmentRequest, address: str | None) -> tuple[Segmented, Provenance]:
    """The answer of a case, by workers or in this process."""
    provenance = segment_case(replace(request, workers=address))
    return load_segmented(request.file), provenance


def check_same(one: Segmented, two: Segmented) -> None:
    """Bit for bit, in all that is handed on."""
    for field in ("dseg", "confidence", "probabilities", "landmarks"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field), err_msg=field)
    assert repr(one.certainties) == repr(two.certainties)  # nan is there, too
    assert one.brain_volume_mm3 == two.brain_volume_mm3
    if one.lesion_map is not None and two.lesion_map is not None:
        np.testing.assert_array_equal(one.lesion_map.probability, two.lesion_map.probability)


def locate_by(request: SegmentRequest, folder: Path) -> LocatorFiles:
    """Segment what shows another task where to look, and hand that on as the graph does."""
    file = folder / "provenance.json"
    save_provenance(segment_case(request), file)
    return LocatorFiles(request.case.task, request.model_folder, request.file, file)


def request_for(case: Case, models_dir: Path, folder: Path) -> SegmentRequest:
    return SegmentRequest(
        case=case,
        model_folder=models_dir / case.task.name,
        device="cpu",
        fast=False,
        keep_probabilities=True,
        file=folder / f"{case.task.name}.npz",
    )


def test_workers_give_bit_for_bit_what_the_process_of_a_case_gives(
    settings: RunSettings, tmp_path: Path
) -> None:
    """On a whole head, and on two places of a region that it shows."""
    make_models(tmp_path / "models")
    raw = make_dataset_with_blobs(settings.bids_dir, {SCANS[0]: "oblique"})
    part = make_case(raw, SCANS[0], task=make_region_task())
    whole = request_for(replace(part, task=make_locator()), tmp_path / "models", tmp_path)
    located = request_for(part, tmp_path / "models", tmp_path)
    located = replace(located, locator=locate_by(whole, tmp_path))
    with workers_of(settings, None) as address:
        for request in (whole, located):
            (one, told), (two, other) = (segmented_by(request, by) for by in (None, address))
            assert one.probabilities is not None
            check_same(one, two)
            assert told == other


def test_so_they_do_within_a_brain_with_two_scans(settings: RunSettings, tmp_path: Path) -> None:
    """For which two models are asked: that of the task, and that of the brain once more."""
    make_spot_models(tmp_path / "models")
    scans = {"sub-01_FLAIR.nii.gz": "RAS", "sub-01_T1w.nii.gz": "LIA"}
    make_sessions(settings.bids_dir, scans, shift_mm=9.0)
    spots = make_spot_case(settings.bids_dir, "sub-01")
    hull = replace(spots, task=make_hull_task(), scans=spots.scans[:1])
    request = replace(
        request_for(spots, tmp_path / "models", tmp_path),
        locator=locate_by(request_for(hull, tmp_path / "models", tmp_path), tmp_path),
        rule=lesion_rule(spots.task, settings),
    )
    with workers_of(settings, None) as address:
        (one, told), (two, other) = (segmented_by(request, by) for by in (None, address))
    check_same(one, two)
    assert told == other
    assert told.brain_overlap is not None


def test_runs_differ_in_nothing_but_the_name_of_the_device(
    settings: RunSettings, marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, as with a single CPU, so that nothing but the workers is other."""
    settings = replace(settings, n_procs=1, write_probabilities=True)
    single = replace(settings, device="cpu", output_dir=tmp_path / "x", work_dir=tmp_path / "y")
    assert [one.status for one in run_scans(single, 1)] == ["done"]
    use(monkeypatch, made_networks.Named)
    assert [one.status for one in run_scans(settings, 1)] == ["done"]
    written = sorted(single.output_dir.glob("sub-01/anat/*"))
    assert {"".join(file.suffixes) for file in written} == {".nii.gz", ".tsv", ".json"}
    for file in written:
        other = settings.output_dir / file.relative_to(single.output_dir)
        if file.suffix == ".gz":
            one, two = (np.asanyarray(open_nifti(which).dataobj) for which in (file, other))
            np.testing.assert_array_equal(one, two)
        else:
            text = other.read_text("utf-8")
            if file.suffix == ".json" and "Device" in text:
                assert text.count("cpu (made up)") == 1
            assert file.read_text("utf-8") == text.replace("cpu (made up)", "cpu")


def segment_and_look(request: SegmentRequest) -> tuple[str, bool]:
    """The device that was used, and whether this process had to import torch."""
    return segment_case(request).device, "torch" in sys.modules


@pytest.mark.parametrize(("has_workers", "imports"), [(True, False), (False, True)])
def test_a_case_imports_torch_only_where_it_has_no_worker(
    settings: RunSettings, tmp_path: Path, *, has_workers: bool, imports: bool
) -> None:
    model_folder = make_model_folder(tmp_path / "models")
    case = make_case(make_dataset(settings.bids_dir, SCANS[:1]), SCANS[0])
    with workers_of(settings, None) as address:
        request = SegmentRequest(
            case=case,
            model_folder=model_folder,
            device="cpu",
            fast=False,
            keep_probabilities=False,
            file=tmp_path / "answer.npz",
            workers=address if has_workers else None,
        )
        looked = run_in_child(segment_and_look, request, name=case.name, n_threads=1, memory_gb=1.0)
    assert looked == ("cpu", imports)


# cases and devices


def test_all_devices_are_used_at_the_same_time_and_evenly(
    settings: RunSettings, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Meet)
    outcomes = run_scans(settings, 4)
    assert [one.status for one in outcomes] == ["done"] * 4
    per_worker = Counter(mark.name.rpartition("-")[2] for mark in marks.glob("met-*"))
    assert sorted(per_worker.values()) == [2, 2]


def test_no_more_cases_are_under_way_than_memory_allows(
    settings: RunSettings, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers leave memory for one node at a time, so that none meets another."""
    use(monkeypatch, LookAround)
    outcomes = run_scans(replace(settings, memory_gb=2.5), 2)
    assert [one.status for one in outcomes] == ["done"] * 2
    assert len(list(marks.glob("alone-*"))) == 2
    assert not list(marks.glob("met-*"))


def test_another_case_is_prepared_while_the_only_device_is_busy(
    settings: RunSettings, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device answers its first question only when a second case asks for its turn."""
    use(monkeypatch, WaitForMark)
    monkeypatch.setattr(devices, "Workers", MarkingWorkers)
    monkeypatch.setattr(devices, "needs_workers", lambda *_: True)
    outcomes = run_scans(replace(settings, device="cpu"), 2)
    assert [(one.status, one.reason) for one in outcomes] == [("done", "n/a")] * 2


def test_a_worker_that_dies_fails_one_case_and_the_others_go_on(
    settings: RunSettings, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, DieOnce)
    outcomes = run_scans(settings, 3)
    assert sorted(one.status for one in outcomes) == ["done", "done", "failed"]
    (failed,) = (one for one in outcomes if one.status == "failed")
    sentence = "the process that runs the networks on cpu was killed by signal 9 (SIGKILL)"
    assert sentence in failed.reason
    assert f"while it had {failed.participant_id}_T1w tiny" in failed.reason


# what has workers


@pytest.mark.parametrize(
    ("device", "choice", "has"),
    [
        ("cpu", None, False),
        ("cpu,cpu", None, True),
        ("cuda:0", None, True),
        ("cuda:0,cuda:1", PluginChoice("MultiProc", {}), True),
        ("cuda:0,cuda:1", SLURM, False),
        ("cpu", SLURM, False),
    ],
)
def test_gpus_and_lists_have_workers_where_nodes_can_reach_them(
    settings: RunSettings, device: str, choice: PluginChoice | None, *, has: bool
) -> None:
    assert needs_workers(replace(settings, device=device), choice) is has


def test_nodes_that_may_be_elsewhere_run_their_networks_on_the_first_device(
    settings: RunSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_model_folder(tmp_path / "models")
    case = make_case(make_dataset(settings.bids_dir, SCANS[:1]), SCANS[0])
    settings = replace(settings, device="cuda:1,cuda:0")
    with workers_of(settings, SLURM) as address:
        assert address is None
        workflow = build_workflow((case,), settings, tmp_path / "notes", address)
    assert "each runs its networks itself, on cuda:1" in caplog.text
    node = workflow.get_node("tiny_sub-01_segment")
    assert (node.inputs.device, node.inputs.torch_device) == ("cuda", "cuda:1")
    assert node.is_gpu_node()


def test_fewer_cpus_than_devices_are_told(
    settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with workers_of(replace(settings, n_procs=1), None) as address:
        assert address is not None
    assert "1 CPUs (--n-procs) keep no more than 1 of 2 devices busy" in caplog.text


def test_nodes_with_workers_are_ordinary_and_take_over_what_single_processes_left(
    settings: RunSettings, tmp_path: Path
) -> None:
    make_model_folder(tmp_path / "models")
    case = make_case(make_dataset(settings.bids_dir, SCANS[:1]), SCANS[0])
    settings = replace(settings, n_procs=4, omp_nthreads=4)
    nodes = []
    for device, address in (("cpu", None), ("cpu,cpu", "here"), ("cuda:1", "here")):
        own = replace(settings, device=device)
        workflow = build_workflow((case,), own, tmp_path / "notes", address)
        nodes.append(workflow.get_node("tiny_sub-01_segment"))
    assert [node.n_procs for node in nodes] == [4, 1, 1]
    assert not any(node.is_gpu_node() for node in nodes)
    alone, together, gpu = (node.inputs.get_hashval()[1] for node in nodes)
    assert alone == together != gpu


def test_workers_take_their_memory_from_that_of_the_nodes(
    settings: RunSettings, tmp_path: Path
) -> None:
    make_model_folder(tmp_path / "models")
    case = make_case(make_dataset(settings.bids_dir, SCANS[:1]), SCANS[0])
    workflow = build_workflow((case,), settings, tmp_path / "notes")
    case_gb = workflow.get_node("tiny_sub-01_segment").mem_gb
    assert largest_gb(workflow) == case_gb
    settings = replace(settings, memory_gb=20)
    assert left_by_workers(settings, None, case_gb) == settings
    assert left_by_workers(settings, "here", 3.0).memory_gb == 20 - 2 * 3.0
    gpus = replace(settings, device="cuda:0,cuda:1,cuda:2")
    assert left_by_workers(gpus, "here", 3.0).memory_gb == 20 - 3 * (3.0 + CUDA_GB)
    assert left_by_workers(gpus, "here", 30.0).memory_gb == MIN_MEMORY_GB


# nothing is left behind


def session_of(leader: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text("utf-8").rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("ending", ["itself", "Ctrl-C", "SIGKILL"])
def test_no_process_is_left_however_a_run_ends(
    settings: RunSettings, marks: Path, tmp_path: Path, ending: str
) -> None:
    """But for the run that ends by itself, networks wait for a mark that nobody makes."""
    make_model_folder(tmp_path / "models")
    make_dataset(settings.bids_dir, SCANS[:2])
    script = tmp_path / "run.py"
    script.write_text(
        "import signal, sys\n"
        "from bids_deepmrseg.cli.app import main\n"
        "from bids_deepmrseg.pipeline import devices\n"
        "from tests.pipeline.made_networks import WaitForMark\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's & ignores it
        "    devices.open_worker_networks = WaitForMark\n"
        "    sys.exit(main(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    if ending == "itself":
        (marks / "another is prepared").touch()
    folders = [str(settings.bids_dir), str(settings.output_dir), "participant", "--task", "tiny"]
    flags = ["--models-dir", str(tmp_path / "models"), "--device", "cpu,cpu", "--n-procs", "2"]
    command = [sys.executable, str(script), *folders, *flags]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    ) as started:
        assert made_networks.wait_for(lambda: len(list(marks.glob("asked-*"))) == 2)
        if ending == "Ctrl-C":
            os.killpg(started.pid, signal.SIGINT)
        elif ending == "SIGKILL":
            started.kill()
        code = started.wait(made_networks.LIMIT_S)
    assert code == {"itself": 0, "Ctrl-C": 130, "SIGKILL": -signal.SIGKILL}[ending]
    assert made_networks.wait_for(lambda: not session_of(started.pid))
