"""What the logs of ``deepmrseg-train`` say: how far a network came, and how long it took."""

from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.files import read_tsv

# training_<task>_<whatever tells networks apart>.tsv, of a cross-validation with _fold-<F>
PREFIX = "training_"
FAMILIES = ("unet", "deepmrseg")
VIEWS = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLog:
    """One network's training, a value per epoch.

    Attributes
    ----------
    task
        What it learned, from the file's name.
    name
        What tells it apart from other networks of the task, from the file's name.
    epochs
        Numbers of the epochs.
    loss
        Mean over an epoch of the sum of the three terms.
    mean_f1
        Mean F1 of training patches over structures, in 0 to 1.
    n_steps
        Batches learned from in all.
    training_s
        Wall time in seconds.
    """

    task: str
    name: str
    epochs: tuple[int, ...]
    loss: tuple[float, ...]
    mean_f1: tuple[float, ...]
    n_steps: int
    training_s: float

    @property
    def is_of_fold(self) -> bool:
        """Whether the network was trained for one fold of a cross-validation."""
        return any(part.startswith("fold-") for part in self.name.split("_"))

    @property
    def dataset(self) -> str:
        """The cross-validation that it belongs to: what its name says before the network."""
        parts = self.name.split("_")
        known = [i for i, part in enumerate(parts) if part in FAMILIES]
        return "_".join([self.task, *parts[: known[0] if known else len(parts)]])

    @property
    def family(self) -> str:
        """``unet`` where the name says so, else ``deepmrseg``."""
        return next((f for f in FAMILIES if f in self.name.split("_")), FAMILIES[-1])

    @property
    def view(self) -> str:
        """Slice direction where the name tells it, else nothing."""
        return next((v for v in VIEWS if v in self.name.split("_")), "")


def is_log(file: Path) -> bool:
    """Whether a file is a training log by its name."""
    return file.name.startswith(PREFIX)


def read_log(file: Path) -> TrainingLog:
    """Read a log that was kept as ``training_<task>_<name>.tsv``.

    Raises
    ------
    InputDataError
        If it is empty or lacks a column.
    """
    _, rows = read_tsv(file)
    task, _, name = file.stem.removeprefix(PREFIX).partition("_")
    try:
        return TrainingLog(
            task=task,
            name=name,
            epochs=tuple(int(row["epoch"]) for row in rows),
            loss=tuple(float(row["loss"]) for row in rows),
            mean_f1=tuple(float(row["mean_f1"]) for row in rows),
            n_steps=int(rows[-1]["step"]),
            training_s=float(rows[-1]["elapsed_s"]),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise InputDataError(f"{file} is no log of a training: {error!r}") from error
