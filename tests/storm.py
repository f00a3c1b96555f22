"""Many runs on one output folder at once, some of them killed, and what must hold of the rest."""

import gzip
import json
import random
import subprocess
import threading
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_deepmrseg.errors import DeepMRSegError
from bids_deepmrseg.files import read_tsv
from tests.commands import app, environment
from tests.makers import make_dataset, make_model_folder

EX_NOINPUT = 66  # of the group level while nobody has written anything yet
KILLED = -9
LOG_FILE = "run.log"  # grows line by line: who was killed early has said nothing
LAST_OF_PNG = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Storm:
    """Where a storm blows."""

    raw: Path
    models: Path
    out: Path
    participants: tuple[str, ...]

    def command(self, *labels: str, level: str = "participant") -> list[str]:
        """A run on some participants, or on all."""
        chosen = ("--participant-label", *labels) if labels else ()
        return app(self.raw, self.out, self.models, *chosen, "--omp-nthreads", "1", level=level)


@dataclass
class Told:
    """What runs said in the end."""

    exit_codes: Counter[int] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    def add(self, exit_code: int, messages: str, expected: tuple[int, ...]) -> None:
        """Note how a run ended; a complaint if it should not have ended so."""
        self.exit_codes[exit_code] += 1
        if exit_code not in expected or "Traceback" in messages:
            self.complaints.append(f"exit code {exit_code}: {messages}")


def make_storm(folder: Path, n_participants: int) -> Storm:
    """A dataset, models, and an output folder that nobody has made yet."""
    labels = tuple(f"{number:02}" for number in range(1, n_participants + 1))
    raw = make_dataset(
        folder / "bids", [f"sub-{label}_T1w.nii.gz" for label in labels], participants=True
    )
    make_model_folder(folder / "models")
    return Storm(raw, folder / "models", folder / "out", labels)


def overlapping(storm: Storm, n_runs: int) -> list[tuple[str, ...]]:
    """Labels for each run: everybody alone, then pairs, everybody again, and all at once."""
    alone = [(label,) for label in storm.participants]
    pairs = list(zip(storm.participants[::2], storm.participants[1::2], strict=False))
    return ([*alone, *pairs, (), *(alone * n_runs)])[:n_runs]


def blow(storm: Storm, n_runs: int, *, n_killed: int, latest_s: float, seed: int) -> Told:
    """Start runs at once, kill some at random moments, run the group level all the while."""
    told, chance = Told(), random.Random(seed)
    runs = [
        subprocess.Popen(
            storm.command(*labels), env=environment({}), stderr=subprocess.PIPE, text=True
        )
        for labels in overlapping(storm, n_runs)
    ]
    victims = chance.sample(runs, n_killed)
    for victim in victims:
        threading.Timer(chance.uniform(0, latest_s), victim.kill).start()
    over = threading.Event()
    gathering = threading.Thread(target=_gather, args=(storm, told, over))
    gathering.start()
    for run in runs:
        messages = run.communicate()[1]
        told.add(run.returncode, messages, (0, KILLED) if run in victims else (0,))
    over.set()
    gathering.join()
    return told


def _gather(storm: Storm, told: Told, over: threading.Event) -> None:
    """Run the group level again and again, and once when all is over."""
    is_last = False
    while not is_last:
        is_last = over.wait(0.5)
        group = subprocess.run(
            storm.command(level="group"),
            env=environment({}),
            capture_output=True,
            text=True,
            check=False,
        )
        told.add(group.returncode, group.stderr, (0, EX_NOINPUT))


def faults_of(storm: Storm) -> list[str]:
    """Files that are not whole; what killed writers left does not count here."""
    files = [file for file in storm.out.rglob("*") if file.is_file() and not _is_passing(file)]
    return [f"{file}: {fault}" for file in files if (fault := _fault(file)) is not None]


def _is_passing(file: Path) -> bool:
    """Whether a file is in the work folder, or hidden, as unfinished ones are."""
    return any(part.startswith(".") or part == "work" for part in file.parts[-6:])


def _fault(file: Path) -> str | None:
    """Why a file is not whole."""
    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".toml":
            tomllib.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".tsv" and not read_tsv(file)[1]:
            return "no row"
        elif file.suffix == ".gz":
            gzip.decompress(file.read_bytes())
            image = nib.load(file)
            np.asanyarray(image.dataobj)  # type: ignore[attr-defined] # it is a NIfTI image
        elif file.suffix == ".png" and not file.read_bytes().endswith(LAST_OF_PNG):
            return "cut off"
        elif file.name != LOG_FILE and not file.read_bytes():
            return "empty"
    except (OSError, EOFError, ValueError, DeepMRSegError) as error:
        return repr(error)
    return None


def left_over(storm: Storm) -> list[str]:
    """What no run should leave behind once nobody works any more."""
    hidden = [file for file in storm.out.rglob(".*") if file.name != ".bidsignore"]
    return sorted(str(one) for one in (*hidden, *storm.out.glob("work")))


def undone(storm: Storm) -> list[str]:
    """Participants without all their files, or that the tables do not name as done."""
    listed = {row["participant_id"] for row in read_tsv(storm.out / "participants.tsv")[1]}
    rows = read_tsv(storm.out / "group_tiny.tsv")[1]
    done = {row["participant_id"] for row in rows if row["status"] == "done"}
    names = [f"sub-{label}" for label in storm.participants]
    return [
        name
        for name in names
        if name not in listed & done or len(list((storm.out / name).rglob("*_dseg.*"))) != 4
    ]
