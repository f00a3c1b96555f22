"""What Slurm says and does to jobs becomes what is said of cases; commands stand in for a cluster.

A real one runs in tests/engines/test_slurm.py.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
from nipype import Function, Node, Workflow

from bids_deepmrseg.pipeline.handoff import read_note
from bids_deepmrseg.pipeline.jobs import SlurmJobs

COMMANDS = {
    # numbers jobs, keeps what was asked for, and runs the script unless its name says otherwise
    "sbatch": """
for script; do :; done
n=$(($(find . -name 'job-*' | wc -l) + 1))
case "$*" in
  *refused*) echo "sbatch: error: invalid account" >&2; exit 1 ;;
  *vanishing*) echo "half a word" > "${script%.sh}.$n.out" ;;
  *) setsid bash "$script" > "job-$n.out" 2>&1 & echo $! > "pid-$n" ;;
esac
printf '%s\\n' "$@" > "job-$n"
echo "Submitted batch job $n"
""",
    # fails at first, as a controller that is busy
    "squeue": """
[ -f asked ] || { touch asked; echo "slurm_load_jobs error: Socket timed out" >&2; exit 1; }
for file in pid-*; do
  ! kill -0 "$(cat "$file")" 2> /dev/null || echo "${file#pid-}"
done
""",
    "scontrol": 'echo "JobId=$4 JobState=TIMEOUT Reason=TimeLimit TimeLimit=00:10:00"',
    "scancel": 'echo "$@" > cancelled; for job; do kill -- "-$(cat "pid-$job")"; done',
}


def double(number: int, notes_dir: str, note_name: str) -> int:
    """Twice the number."""
    return 2 * number


def wait_long(number: int, notes_dir: str, note_name: str) -> int:
    """Outlast the test, unless it is cancelled."""
    import time  # noqa: PLC0415 - nipype runs the text of this function, and nothing around it

    time.sleep(60)
    return number


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a cluster's commands; its name has a space."""
    programs, cluster = tmp_path / "bin", tmp_path / "a cluster"
    programs.mkdir()
    cluster.mkdir()
    for name, text in COMMANDS.items():
        (programs / name).write_text(f"#!/bin/bash\ncd '{cluster}'\n{text.strip()}\n", "utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return cluster


def node_of(folder: Path, name: str, function: Any = double) -> Node:  # noqa: ANN401 - a function
    node = Node(
        Function(["number", "notes_dir", "note_name"], ["number"], function), name=name, mem_gb=1.5
    )
    node.inputs.trait_set(number=21, notes_dir=str(folder / "notes"), note_name=name)
    return node


def run_nodes(folder: Path, nodes: list[Node], **arguments: object) -> list[tuple[str, str]]:
    """Run nodes as jobs, and return what was told of each."""
    told: list[tuple[str, str]] = []

    def tell(node: Any, status: str) -> None:  # noqa: ANN401 - nipype's nodes are untyped
        told.append((node.name, status))

    workflow = Workflow("bids_deepmrseg_wf", base_dir=str(folder / "work"))
    workflow.config["execution"] = {
        "crashdump_dir": str(folder / "crashes"),
        "crashfile_format": "txt",
        "poll_sleep_duration": "0.1",
        "stop_on_first_crash": "true" if arguments.pop("stop", False) else "false",
    }
    workflow.add_nodes(nodes)
    plugin = SlurmJobs(
        plugin_args={"poll_s": 0.2, "retry_timeout": 0, "status_callback": tell, **arguments}
    )
    try:
        workflow.run(plugin=plugin)
    except RuntimeError as error:
        told.append(("run", str(error)))
    finally:
        plugin.close()
    return told


def asked_of(folder: Path, number: int) -> list[str]:
    """Arguments with which a job was handed in."""
    return (folder / f"job-{number}").read_text(encoding="utf-8").splitlines()


def test_jobs_that_vanish_or_are_refused_fail_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("good", "vanishing", "refused")
    with caplog.at_level(logging.WARNING):
        told = run_nodes(folder, [node_of(folder, name) for name in names])
    assert {("good", "end"), ("vanishing", "exception"), ("refused", "exception")} <= set(told)
    assert "Slurm does not tell of its queue, asking on: slurm_load_jobs error" in caplog.text

    assert read_note(folder / "notes", "good") is None
    vanished, refused = (read_note(folder / "notes", name) for name in names[1:])
    assert vanished is not None
    assert vanished.error is not None
    assert "ended without a result (TIMEOUT): its time of 00:10:00 was up" in vanished.error
    assert vanished.error.endswith("; it said last: half a word")
    assert refused is not None
    assert refused.error == "Slurm did not take its job: sbatch: error: invalid account"
    assert len(list((folder / "crashes").glob("crash-*.txt"))) == 2
    assert not (folder / "cancelled").exists()


def test_a_node_asks_for_what_it_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIPYPE_CONFIG_DIR", "a folder")
    run_nodes(folder, [node_of(folder, "good")])
    asked = asked_of(folder, 1)
    assert "--mem=1812M" in asked  # 1.5 GB, and 0.4 GB for the process that waits
    assert "--cpus-per-task=1" in asked
    assert "--job-name=good" in asked
    (printed,) = (one for one in asked if one.startswith("--output="))
    assert printed.startswith(f"--output={folder}/work/bids_deepmrseg_wf/batch/")
    script = Path(asked[-1]).read_text(encoding="utf-8")
    assert "export NIPYPE_CONFIG_DIR='a folder'\n" in script


@pytest.mark.parametrize(
    "arguments",
    [
        {"sbatch_args": "--mem-per-cpu 3G -c 2 -o 'my jobs.txt'"},
        {"template": "#!/bin/bash\n#SBATCH --mem=3G -c2 # ours\n#SBATCH --output=my.txt\n"},
    ],
)
def test_what_the_user_asks_for_is_left_as_it_is(folder: Path, arguments: dict[str, str]) -> None:
    run_nodes(folder, [node_of(folder, "good")], **arguments)
    asked = asked_of(folder, 1)
    for flag in ("--mem=", "--cpus-per-task=", "--output="):
        assert not [one for one in asked if one.startswith(flag)]
    if "sbatch_args" in arguments:
        assert asked[:6] == ["--mem-per-cpu", "3G", "-c", "2", "-o", "my jobs.txt"]


def test_what_is_left_when_a_run_ends_early_is_cancelled(folder: Path) -> None:
    nodes = [node_of(folder, "refused"), node_of(folder, "long", wait_long)]
    told = run_nodes(folder, nodes, stop=True)
    assert told[-1][0] == "run"
    assert (folder / "cancelled").read_text(encoding="utf-8").split() == ["1"]


def test_a_result_of_an_earlier_run_is_not_taken_for_that_of_a_job(folder: Path) -> None:
    node = node_of(folder, "vanishing")
    left = folder / "work" / "bids_deepmrseg_wf" / "vanishing" / "result_vanishing.pklz"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of an earlier run")
    told = run_nodes(folder, [node])
    assert ("vanishing", "exception") in told
    assert ("vanishing", "end") not in told
