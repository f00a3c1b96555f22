"""A small study on a cluster: how the app is called for it, and what became of it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from bids_deepmrseg.files import read_tsv
from bids_deepmrseg.records import Outcome
from bids_deepmrseg.stages.status import read_status
from tests.engines.conftest import REPOSITORY
from tests.engines.slurm.cluster import LIMIT_S
from tests.makers import bids_path, write_nifti


def use_plugin(root: Path, arguments: str) -> tuple[str, ...]:
    """Flags that run the nodes as jobs."""
    file = root / "plugin.yml"
    file.write_text(f"plugin: SLURM\nplugin_args: {{poll_s: 0.5, {arguments}}}\n", "utf-8")
    return ("--use-plugin", str(file))


def command_of(root: Path, *flags: str, task: str = "tiny") -> tuple[str, ...]:
    """The app, for the participants of a dataset."""
    folders = (str(root / "bids"), str(root / "out"), "participant")
    models = ("--models-dir", str(root / "models")) if task == "tiny" else ()
    own = (*models, "--task", task, "-w", str(root / "work"))
    return (sys.executable, "-m", "bids_deepmrseg", *folders, *own, *flags)


def outcomes_of(root: Path) -> dict[str, Outcome]:
    """The latest run's table of status, by participant."""
    latest = max((root / "out" / "logs").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    return {one.participant_id: one for one in read_status(latest / "status.tsv")}


def log_of(root: Path) -> list[str]:
    """The logs of all runs."""
    return [file.read_text("utf-8") for file in (root / "out").glob("logs/*/run.log")]


def statuses(root: Path) -> list[str]:
    """What became of the participants, in their order."""
    return [one.status for _, one in sorted(outcomes_of(root).items())]


def damage(root: Path, name: str) -> None:
    scan = root / "bids" / bids_path(name)
    scan.write_bytes(scan.read_bytes()[:1000])


def make_huge(root: Path, name: str) -> None:
    """Put a scan in the place of another of which a copy with four bytes per voxel is 0.5 GB."""
    scan = root / "bids" / bids_path(name)
    scan.unlink()
    data = np.zeros((500, 500, 500), np.uint8)
    data[100:400, 100:400, 100:400] = 100
    affine = np.diag([0.4, 0.4, 0.4, 1.0])
    affine[:3, 3] = -100
    write_nifti(scan.with_name(scan.name.removesuffix(".gz")), data, affine)


def write_array(root: Path, *flags: str, task: str = "tiny") -> tuple[str, ...]:
    """Let the app write the scripts of an array job; the command that sends them."""
    scripts = root / "scripts"
    command = command_of(root, "--write-slurm-array", str(scripts), *flags, task=task)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, env=environment, check=True, timeout=LIMIT_S)
    return ("bash", str(scripts / "submit.sh"))


def statuses_of_group(root: Path) -> dict[str, str]:
    """By participant, what the table of the group level says."""
    rows = read_tsv(root / "out" / "group_tiny.tsv")[1]
    return dict(sorted((row["participant_id"], row["status"]) for row in rows))


def participants_of(root: Path) -> list[str]:
    """Participants of the output dataset, which are those with results."""
    return [row["participant_id"] for row in read_tsv(root / "out" / "participants.tsv")[1]]


def statuses_of_all_runs(root: Path) -> dict[str, list[str]]:
    """By participant, what became of it in each run that had it."""
    found: dict[str, list[str]] = {}
    for folder in sorted((root / "out" / "logs").iterdir()):
        for one in read_status(folder / "status.tsv"):
            found.setdefault(one.participant_id, []).append(one.status)
    return dict(sorted(found.items()))


def processes_of(root: Path) -> list[str]:
    """Command lines of all processes that have to do with a dataset."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(root) in line and int(file.parent.name) != os.getpid():
            found.append(line)
    return found
