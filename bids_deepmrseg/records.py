"""What passes from stage to stage, in the order it happens: the app's storyboard."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.imaging.grid import Grid, Placement
from bids_deepmrseg.imaging.head import PREPROCESSING
from bids_deepmrseg.imaging.lesions import LesionRule
from bids_deepmrseg.tasks import Label, Place, Task

Status = Literal["done", "skipped", "failed"]
Rows = tuple[tuple[float, ...], ...]
WORKED_ON = "another run is working on it"  # why a case is skipped, not what is wrong with it
UNTOLD = "the run has not told what became of it"  # it goes on still, or was killed outright
PLACE_PREPROCESSING = "place-1"  # as imaging.head.PREPROCESSING, for tasks with a region
BRAIN_PREPROCESSING = "within-brain-1"  # the same, for tasks within a brain


def preprocessing_of(task: Task) -> str:
    """Name of the preparation that a task's networks are trained behind."""
    if task.within is not None:
        return BRAIN_PREPROCESSING
    return PREPROCESSING if task.region is None else PLACE_PREPROCESSING


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """discover -> prepare: one task on the scans of one subject, session and run.

    Attributes
    ----------
    task
        What is to be segmented.
    bids_dir
        Root of the input dataset.
    scans
        One file per channel of the task, in channel order; the first defines the native grid.
        Optional channels that are not there are left out, from the last on.
    entities
        BIDS entities of the first scan as in its name, such as ``(("sub", "01"), ("run", "2"))``.
    """

    task: Task
    bids_dir: Path
    scans: tuple[Path, ...]
    entities: tuple[tuple[str, str], ...]

    @property
    def channels(self) -> tuple[str, ...]:
        """Suffixes of the scans that are there."""
        return self.task.channels[: len(self.scans)]

    def entity(self, key: str) -> str | None:
        """Value of one entity (``sub``, ``ses``, ``acq``, ``run`` ...), ``None`` where absent."""
        return dict(self.entities).get(key)

    @property
    def stem(self) -> str:
        """Name of the first scan without suffix and ending, such as ``sub-01_ses-2_run-1``."""
        return "_".join(f"{key}-{value}" for key, value in self.entities)

    @property
    def suffix(self) -> str:
        """What the first scan is, by its name: ``FLAIR`` where a brain is looked for in one."""
        name = self.scans[0].name.partition(".")[0]
        return name.rpartition("_")[2] if name.startswith(f"{self.stem}_") else self.task.space

    @property
    def name(self) -> str:
        """What logs call this case, such as ``sub-01_run-1_T1w deepbrain``."""
        return f"{self.stem}_{self.suffix} {self.task.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """align -> write: how a scan was laid upon the first one of its case, as sidecars tell it.

    Attributes
    ----------
    moving, fixed
        Suffixes of the scan that was moved, ``T1w``, and of the first one, ``FLAIR``.
    matrix
        Four rows of four: points of the fixed scan to those of the moving one, as in
        :class:`bids_deepmrseg.imaging.registration.Registration`, which says what the figures are.
    start, metric_before, metric_after, overlap_before, overlap_after, covered, moved_mm, turned_deg
        As there.
    doubt
        Why the result should be looked at, a sentence; ``None`` where nothing is doubtful.
    """

    moving: str
    fixed: str
    matrix: Rows
    start: str
    metric_before: float
    metric_after: float
    overlap_before: float
    overlap_after: float
    covered: float
    moved_mm: float
    turned_deg: float
    doubt: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """locate -> prepare: where one place of a task's region lies in a scan."""

    place: Place
    placement: Placement
    doubts: tuple[str, ...]  # sentences on what is unusual there and may still be right


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """prepare -> segment: what the network sees."""

    channels: npt.NDArray[np.float32]  # (C, I, J, K), RAS+, brain tissue near 1
    placement: Placement  # how to get back
    place: Place | None = None  # that it was cut to; without one, the task's network labels hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """segment -> restore -> measure: how far the networks agree on one label, on the model grid.

    Attributes
    ----------
    index
        Of the label.
    agreement
        Mean Dice between the answers of single networks of different views; ``nan`` where there
        is one network only, or none shows the label.
    soft_dice
        Dice that the label's mask would have if the fused probabilities were right.
    border_entropy_bits
        Mean binary entropy of the fused probability at the mask's border, 0 to 1; ``nan`` where
        there is no such voxel.
    """

    index: int
    agreement: float
    soft_dice: float
    border_entropy_bits: float


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """segment -> restore: what the networks say, still on the model grid."""

    probabilities: npt.NDArray[np.float32]  # (L, I, J, K), sums to 1 over L
    placement: Placement
    n_islands_removed_voxels: int  # model voxels taken from islands that cannot be right
    place: Place | None = None  # as in Prepared
    certainties: tuple[Certainty, ...] = ()  # in the order of the labels


@dataclass(frozen=True, slots=True, eq=False)
class LesionMap:
    """restore -> measure, write: how likely each native voxel is lesion, and what counts as one."""

    probability: npt.NDArray[np.float16]  # (I, J, K)
    rule: LesionRule


@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """restore -> measure, write, report: the answer, voxel for voxel on the input."""

    dseg: npt.NDArray[np.uint16]  # (I, J, K), label indices
    confidence: npt.NDArray[np.float32]  # (I, J, K), probability of the label that won
    grid: Grid  # native
    probabilities: npt.NDArray[np.float16] | None  # (L, I, J, K) native, only on request
    landmarks: npt.NDArray[np.uint16] | None = None  # (I, J, K), of tasks that have any
    brain_volume_mm3: float | None = None  # of this scan, where the brain was segmented before
    certainties: tuple[Certainty, ...] = ()  # in the order of the labels
    lesion_map: LesionMap | None = None  # of tasks that find lesions; dseg is where it finds any

    @property
    def shown(self) -> npt.NDArray[np.uint16]:
        """What other tasks are located by: landmarks where there are any, else the labels."""
        return self.dseg if self.landmarks is None else self.landmarks


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureMeasures:
    """measure -> write, aggregate: one structure of one case.

    Attributes
    ----------
    label
        The structure.
    n_voxels
        Voxels of that label on the native grid.
    volume_mm3
        ``n_voxels`` times the volume of a voxel; 0.0 where none was found.
    mean_probability
        Mean probability over the structure's voxels; ``nan`` where it has none.
    touches_edge
        Whether the structure reaches the edge of the field of view and may be cut.
    in_adult_range
        Whether the volume lies in the label's published adult range; ``None`` without one.
    fraction_of_brain
        ``volume_mm3`` over the volume of the brain; ``None`` for the brain itself, and where the
        brain was not measured.
    agreement, soft_dice, border_entropy_bits
        As in :class:`Certainty`.
    predicted_dice
        Dice that the structure is likely to have with a reference; ``nan`` without calibration.
    in_training_range
        Whether training data have such volumes; ``None`` without calibration.
    asymmetry
        ``2 (L - R) / (L + R)`` of the volumes of both sides; ``nan`` where there are no two.
    flags
        Why the structure should be looked at; empty where nothing is doubtful.
    """

    label: Label
    n_voxels: int
    volume_mm3: float
    mean_probability: float
    touches_edge: bool
    in_adult_range: bool | None
    fraction_of_brain: float | None = None
    agreement: float = math.nan
    soft_dice: float = math.nan
    border_entropy_bits: float = math.nan
    predicted_dice: float = math.nan
    in_training_range: bool | None = None
    asymmetry: float = math.nan
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """graph -> status table, aggregate: what became of one case.

    Attributes
    ----------
    participant_id, session_id, run_id
        BIDS labels with prefix (``sub-01``, ``ses-2``, ``run-1``); ``n/a`` where absent.
    source
        First scan, relative to the dataset root; ``n/a`` where there is none.
    task
        Name of the task.
    status
        ``done``, ``skipped`` or ``failed``.
    reason
        One sentence, ``n/a`` for done.
    dseg
        Label map, relative to the output folder; ``n/a`` unless done.
    duration_s
        Wall time of the case.
    """

    participant_id: str
    session_id: str
    run_id: str
    source: str
    task: str
    status: Status
    reason: str
    dseg: str
    duration_s: float
