"""Cases outlive the processes that run them, and one that kills its process twice fails alone."""

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from nipype import Function, Node, Workflow

from bids_deepmrseg.pipeline.graph import run
from bids_deepmrseg.pipeline.handoff import read_note
from bids_deepmrseg.pipeline.pool import LastingPool
from bids_deepmrseg.selection.plan import Plan
from tests.makers import make_case, make_dataset, make_model_folder, make_settings

LIMIT_S = 60


def work(folder: str, name: str, deaths: int, notes_dir: str, note_name: str) -> str:
    """Wait for the other node to begin; die as often as asked for, then end well."""
    import os  # noqa: PLC0415 - nipype runs the text of this function, and nothing around it
    import signal  # noqa: PLC0415 - the same
    import time  # noqa: PLC0415 - the same
    from pathlib import Path  # noqa: PLC0415 - the same

    begun = Path(folder)
    tries = len(list(begun.glob(f"{name}.*")))
    (begun / f"{name}.{tries}").touch()
    while not all(any(begun.glob(f"{one}.*")) for one in ("frail", "sound")):
        time.sleep(0.02)
    if tries < deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def node_of(folder: Path, name: str, *, deaths: int) -> Node:
    inputs = ["folder", "name", "deaths", "notes_dir", "note_name"]
    node = Node(Function(inputs, ["done"], work), name=name)
    node.inputs.trait_set(folder=str(folder), name=name, deaths=deaths)
    node.inputs.trait_set(notes_dir=str(folder / "notes"), note_name=name)
    return node


@pytest.mark.parametrize("deaths", [1, 2])
def test_nodes_go_on_when_a_worker_is_killed(
    tmp_path: Path, deaths: int, caplog: pytest.LogCaptureFixture
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    told: list[tuple[str, str]] = []

    def tell(node: Any, status: str) -> None:  # noqa: ANN401 - nipype's nodes are untyped
        told.append((node.name, status))

    after = node_of(begun, "after", deaths=0)
    workflow = Workflow("wf", base_dir=str(tmp_path))
    workflow.config["execution"] = {
        "crashdump_dir": str(tmp_path / "crashes"),
        "crashfile_format": "txt",
        "poll_sleep_duration": "0.05",
    }
    sound = node_of(begun, "sound", deaths=0)
    workflow.add_nodes([node_of(begun, "frail", deaths=deaths)])
    workflow.connect(sound, "done", after, "name")
    plugin = LastingPool(
        plugin_args={"n_procs": 2, "mp_context": "forkserver", "status_callback": tell}
    )
    try:
        if deaths > 1:
            with pytest.raises(RuntimeError, match="was killed, and once more"):
                workflow.run(plugin=plugin)
        else:
            workflow.run(plugin=plugin)
    finally:
        plugin.close()

    assert ("sound", "end") in told
    assert ("after", "end") in told
    assert ("frail", "end" if deaths == 1 else "exception") in told
    assert "runs again, by itself" in caplog.text
    note = read_note(begun / "notes", "frail")
    if deaths == 1:
        assert note is None
    else:
        assert note is not None
        assert "most likely memory ran out" in (note.error or "")
        assert list((tmp_path / "crashes").glob("crash-*frail*.txt"))


def children_of(process: int) -> list[int]:
    """Direct children of a process."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text(encoding="ascii").split()]


def kill_a_worker() -> None:
    """Kill one of the processes that wait for children which segment."""
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        for parent in (os.getpid(), *children_of(os.getpid())):
            for worker in children_of(parent):
                if is_waiting(worker):
                    os.kill(worker, signal.SIGKILL)
                    return
        time.sleep(0.05)


def is_waiting(process: int) -> bool:
    """Whether a process has a child that segments, and is not this one."""
    try:
        lines = [Path(f"/proc/{one}/cmdline").read_bytes() for one in children_of(process)]
    except OSError:
        return False
    return process != os.getpid() and any(b"spawn_main" in line for line in lines)


def test_no_case_is_lost_with_a_worker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"sub-{n}_T1w.nii.gz" for n in range(1, 3)]
    make_dataset(tmp_path / "bids", names)
    make_model_folder(tmp_path / "models")
    settings = make_settings(tmp_path, n_procs=2)
    plan = Plan(tuple(make_case(settings.bids_dir, name) for name in names), ())
    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    with caplog.at_level(logging.WARNING):
        outcomes = run(plan, settings)
    killer.join()
    assert "a process was killed" in caplog.text
    assert [one.status for one in outcomes] == ["done"] * 2
