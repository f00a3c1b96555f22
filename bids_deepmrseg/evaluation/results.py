"""What an evaluation found: a row per structure of a scan, and a row per network trained for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.evaluation.rows import read_records, write_records

ALL_VIEWS = "all views"
FLIPPED = ", flips"  # behind the name of an ensemble that also sees mirror images
ALL_VIEWS_FLIPPED = f"{ALL_VIEWS}{FLIPPED}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which segmentation of which scan a row is about.

    Attributes
    ----------
    dataset
        What was measured, such as ``hippocampus_crossval``.
    network
        Family of the networks, such as ``deepmrseg`` or ``unet``.
    ensemble
        Whose probabilities were averaged: a view, ``all views``, or ``all views, flips``.
    repeat, fold
        From 1. A model that was trained once is fold 1 of repeat 1.
    subject
        The person, ``sub-XX``: the unit of folds and of tests.
    scan
        Names one of several scans of a person, such as ``sub-01_run-1``; else as ``subject``.
    """

    dataset: str
    network: str
    ensemble: str
    repeat: int
    fold: int
    subject: str
    scan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Identity):
    """How one structure of one scan came out.

    Attributes
    ----------
    structure
        Name of the label.
    f1, f2, bacc
        Overlap; ``nan`` where neither segmentation nor reference has the structure.
    hd95_mm, asd_mm
        Distances between the surfaces; ``nan`` also where only one of the two has it.
    volume_ml, reference_volume_ml
        Millilitres; 0 where there is no voxel.
    """

    structure: str
    f1: float
    f2: float
    bacc: float
    hd95_mm: float
    asd_mm: float
    volume_ml: float
    reference_volume_ml: float

    @property
    def is_missed(self) -> bool:
        """Whether only one of segmentation and reference has the structure."""
        return (self.volume_ml > 0) != (self.reference_volume_ml > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One network trained for an evaluation, and what it took.

    Attributes
    ----------
    dataset, network, view, repeat, fold
        As of the results that it is behind; ``view`` is its slice direction.
    n_training_scans, n_test_scans
        Scans it learned from, and scans it was measured on.
    n_epochs, n_steps, n_parameters
        Length of the training, and learnable numbers of the network.
    training_s
        Wall time of the training in seconds.
    recipe
        Name of the training recipe.
    seed
        Of its weights and batches.
    """

    dataset: str
    network: str
    view: str
    repeat: int
    fold: int
    n_training_scans: int
    n_test_scans: int
    n_epochs: int
    n_steps: int
    n_parameters: int
    training_s: float
    recipe: str
    seed: int


def write_results(results: Iterable[Result], file: Path) -> None:
    """Write per-case results as TSV."""
    write_records(results, Result, file)


def read_results(file: Path) -> tuple[Result, ...]:
    """Read per-case results back; raises InputDataError where the file holds none."""
    return read_records(file, Result)


def write_folds(folds: Iterable[Fold], file: Path) -> None:
    """Write a row per trained network as TSV."""
    write_records(folds, Fold, file)


def read_folds(file: Path) -> tuple[Fold, ...]:
    """Read the rows of trained networks back; raises InputDataError where the file holds none."""
    return read_records(file, Fold)
