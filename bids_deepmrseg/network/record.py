"""What is known of a model's weights: its record is read, written and compared. Without torch."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bids_deepmrseg.errors import WeightsError
from bids_deepmrseg.network.architecture import Architecture

RECORD_FILE = "model.json"
View = Literal["axial", "coronal", "sagittal"]
VIEWS: tuple[View, ...] = ("axial", "coronal", "sagittal")
SLICE_AXIS: dict[View, int] = {"sagittal": 0, "coronal": 1, "axial": 2}  # of (I, J, K), RAS+


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMember:
    """One network of a task's ensemble: its file, digest, slice direction and architecture.

    ``neighbours`` slices on each side are stacked, from low to high, with the one that is
    segmented; the architecture's ``n_channels`` counts all of them.
    """

    file: str
    sha256: str
    view: View
    architecture: Architecture
    neighbours: int = 0


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured figure, such as ``mean F1, six held-out scans``."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """What is known about the weights of one task.

    Attributes
    ----------
    task
        Name of the task.
    labels
        ``index name`` of every class in network order, background left out; compared with the
        task file at load, so that no label can change its meaning.
    preprocessing
        Name of the preparation that the networks were trained behind.
    members
        The networks whose probabilities are averaged.
    training_data, license, attribution
        What the weights learned from, and on which terms.
    code_version
        Version of this package that trained them.
    metrics
        Measured figures.
    flips
        Whether axial and coronal networks, which then learned from both, also see the mirror image
        of what is segmented.
    """

    task: str
    labels: tuple[str, ...]
    preprocessing: str
    members: tuple[ModelMember, ...]
    training_data: str
    license: str
    attribution: str
    code_version: str
    metrics: tuple[Metric, ...] = ()
    flips: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of all members: names this set of weights."""
        joined = "".join(member.sha256 for member in self.members)
        return hashlib.sha256(joined.encode("ascii")).hexdigest()


def read_record(folder: Path) -> ModelRecord:
    """Read ``model.json`` of a model folder.

    Raises
    ------
    WeightsError
        If it is absent, not JSON, or lacks a field.
    """
    file = folder / RECORD_FILE
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        members = tuple(
            ModelMember(
                file=str(row["file"]),
                sha256=str(row["sha256"]),
                view=_view(row["view"]),
                architecture=Architecture(**row["architecture"]),
                neighbours=int(row.get("neighbours", 0)),
            )
            for row in table["members"]
        )
        return ModelRecord(
            task=str(table["task"]),
            labels=tuple(table["labels"]),
            preprocessing=str(table["preprocessing"]),
            members=members,
            training_data=str(table["training_data"]),
            license=str(table["license"]),
            attribution=str(table["attribution"]),
            code_version=str(table["code_version"]),
            metrics=tuple(Metric(str(m["name"]), float(m["value"])) for m in table["metrics"]),
            flips=bool(table.get("flips", False)),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"the weights' record {file} cannot be read ({error!r}); install the weights again"
        ) from error


def _view(name: str) -> View:
    """The slice direction of that name."""
    for view in VIEWS:
        if view == name:
            return view
    raise ValueError(f"unknown view {name!r}")


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(folder: Path, record: ModelRecord) -> None:
    """Compare every weights file with its recorded digest.

    Raises
    ------
    WeightsError
        If a file is absent or differs by a single bit.
    """
    if not record.members:
        raise WeightsError(f"{folder / RECORD_FILE} lists no network")
    verify_members(folder, record.members)


def verify_members(folder: Path, members: Sequence[ModelMember]) -> None:
    """As :func:`verify`, for some of a model's networks."""
    for member in members:
        file = folder / member.file
        if not file.is_file():
            raise WeightsError(f"weights {file} are absent; install the package again")
        if (found := sha256_of(file)) != member.sha256:
            raise WeightsError(
                f"weights {file} are damaged: their SHA-256 is {found[:12]}..., recorded is "
                f"{member.sha256[:12]}...; install them again"
            )


def write_record(folder: Path, record: ModelRecord) -> Path:
    """Write ``model.json`` beside the weights that it describes."""
    file = folder / RECORD_FILE
    file.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    return file


def label_lines(labels: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    """The labels of a record: ``index name``, in network order."""
    return tuple(f"{index} {name}" for index, name in labels)
