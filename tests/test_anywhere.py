"""The app runs where nothing can be written but the output folder, and writes nowhere else."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bids_deepmrseg.files import read_tsv
from tests.commands import NOBODY, ONE_THREAD, REPOSITORY, app, environment
from tests.makers import make_dataset, make_model_folder

OOM_SCORE = "/proc/self/oom_score_adj"  # no file: tells the kernel whom to kill first
ALLOWED = ("/dev/null", "/dev/shm/", "/dev/tty", OOM_SCORE)

# imported by every Python process that finds it: tells of each file opened to be written
RECORDER = """
import os, sys
record = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
PATHS = {"os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.remove": 1,
         "os.rmdir": 1, "os.truncate": 1, "socket.bind": 2, "sqlite3.connect": 1}

def tell(event, arguments):
    if event == "open":
        path, _, flags = arguments
        paths = [path] if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else []
    else:
        paths = arguments[:PATHS.get(event, 0)]
        if event in ("os.mkdir", "os.remove", "os.rmdir") and arguments[-1] != -1:
            paths = []  # below a folder that is open: what was above it has been told
    for path in paths:
        if isinstance(path, (str, bytes, os.PathLike)) and os.fspath(path) != ":memory:":
            os.write(record, os.path.abspath(os.fsdecode(path)).encode() + b"\\n")

sys.addaudithook(tell)
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Dataset and models."""
    folder = tmp_path_factory.mktemp("inputs")
    raw = make_dataset(folder / "bids", ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"))
    make_model_folder(folder / "models")
    return raw, folder / "models"


def test_nothing_is_written_outside_the_output_folder(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(RECORDER, encoding="utf-8")
    (tmp_path / "home").mkdir()
    record, out = tmp_path / "record", tmp_path / "out"
    changes = {
        "HOME": str(tmp_path / "home"),
        "MPLCONFIGDIR": None,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ONE_THREAD['PYTHONPATH']}",
        "RECORD": str(record),
        "TMPDIR": None,
        "XDG_CACHE_HOME": None,
    }
    for command in (
        app(*inputs[:1], out, inputs[1], "--dry-run"),
        app(*inputs[:1], out, inputs[1], "--n-procs", "2", "--omp-nthreads", "1"),
        app(*inputs[:1], out, inputs[1], level="group"),
    ):
        subprocess.run(command, env=environment(changes), check=True, capture_output=True)
    written = record.read_text(encoding="utf-8").splitlines()
    assert sum(line.endswith("_dseg.tsv") for line in written) >= 2, "the recorder saw the workers"
    ours = (str(out), str(record), *ALLOWED)
    assert [line for line in written if not line.startswith(ours)] == []
    assert list((tmp_path / "home").iterdir()) == []
    assert {file.name for file in out.iterdir() if file.name.startswith((".", "work"))} == {
        ".bidsignore"
    }


# $1: the one folder that can be written; the rest: the command. Reading is free of permissions,
# as in an image, since interpreter and test data may lie where only root may look.
SANDBOX = f"""
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro /
for folder in /tmp /var/tmp /root; do
  if mountpoint -q "$folder"; then mount -o remount,bind,ro "$folder"; fi
done
shift
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \\
  --bounding-set=-all,+dac_read_search --inh-caps=-all,+dac_read_search \\
  --ambient-caps=-all,+dac_read_search "$@"
"""


def in_sandbox(
    writable: Path, command: list[str], variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user whom nobody knows, without network, everything else read-only."""
    unshared = ["unshare", "--mount", "--net", "--propagation", "private"]
    inside = ["bash", "-c", SANDBOX, "bash", str(writable), *command]
    return subprocess.run(
        [*unshared, *inside], env=variables, capture_output=True, text=True, check=False
    )


@pytest.fixture
def sandboxed_out() -> Iterator[Path]:
    """An output folder of nobody's, where sandboxes can be made; a skip elsewhere."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root may make a sandbox of read-only mounts")
    if missing := [tool for tool in ("unshare", "setpriv", "mount") if not shutil.which(tool)]:
        pytest.skip(f"not installed: {missing[0]}")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        out = Path(folder)
        os.chown(out, NOBODY, NOBODY)
        probe = in_sandbox(out, ["mkdir", str(out / "probe")], dict(os.environ))
        if probe.returncode != 0:
            pytest.skip(f"no sandbox can be made here: {probe.stderr.strip()}")
        (out / "probe").rmdir()
        yield out


@pytest.mark.slow
@pytest.mark.parametrize(
    "home", [{}, {"HOME": ""}, {"HOME": "/no/such/home", "TMPDIR": "/tmp", "XDG_CACHE_HOME": "/"}]
)
def test_an_unknown_user_without_home_network_or_tmp_gets_results(
    inputs: tuple[Path, Path], sandboxed_out: Path, home: dict[str, str]
) -> None:
    raw, models = inputs
    variables = {**ONE_THREAD, "PATH": os.environ["PATH"], **home}
    n_procs = "1" if home else "2"
    for command, expected in (
        (app(raw, sandboxed_out, models, "--dry-run"), "2 to run, 0 left out"),
        (app(raw, sandboxed_out, models, "--n-procs", n_procs, "--omp-nthreads", "1"), ""),
        (app(raw, sandboxed_out, models, level="group"), "group_tiny.tsv"),
        (
            app(
                raw, sandboxed_out, models, "--write-slurm-array", str(sandboxed_out / "logs/jobs")
            ),
            "submit.sh",
        ),
    ):
        finished = in_sandbox(sandboxed_out, command, variables)
        assert finished.returncode == 0, finished.stderr
        assert expected in finished.stdout
    (log_dir,) = (file.parent for file in sandboxed_out.glob("logs/*/run.log"))
    assert [row["status"] for row in read_tsv(log_dir / "status.tsv")[1]] == ["done", "done"]
    written = list(sandboxed_out.rglob("*"))
    assert {(file.stat().st_uid, file.stat().st_gid) for file in written} == {(NOBODY, NOBODY)}
    assert [file.name for file in written if file.name.startswith(".")] == [".bidsignore"]
    assert not (sandboxed_out / "work").exists()


@pytest.mark.slow
def test_evaluation_needs_no_home_and_no_tmp(
    sandboxed_out: Path,
) -> None:
    """Figures are drawn, the first thing for which libraries want to keep something."""
    names = ("hippocampus_crossval.tsv", "hippocampus_crossval_folds.tsv")
    for name in names:
        shutil.copy(REPOSITORY / "docs" / "results" / name, sandboxed_out)
    document = sandboxed_out / "document.md"
    marks = "<!-- begin hippocampus_crossval -->\n<!-- end hippocampus_crossval -->\n"
    document.write_text(marks, encoding="utf-8")
    os.chown(document, NOBODY, NOBODY)
    tables = [str(sandboxed_out / name) for name in names]
    command = [sys.executable, "-m", "bids_deepmrseg.cli.evaluate", "render", *tables]
    variables = {**ONE_THREAD, "PATH": os.environ["PATH"]}
    finished = in_sandbox(sandboxed_out, [*command, "--into", str(document)], variables)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert list((sandboxed_out / "figures").iterdir())
    assert len(document.read_text(encoding="utf-8")) > len(marks)
    assert [one for one in sandboxed_out.iterdir() if one.name.startswith(".")] == []
