"""Records on their way from node to node: files that read back as exactly what was saved."""

import math
import time
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import JsonValue, read_json, write_json
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.lesions import LesionRule
from bids_deepmrseg.records import (
    Alignment,
    Case,
    Certainty,
    LesionMap,
    Segmented,
    StructureMeasures,
)
from bids_deepmrseg.stages.write import Provenance, UsedModel
from bids_deepmrseg.taskfiles import find_locator
from bids_deepmrseg.tasks import Task

FIGURES = ("agreement", "soft_dice", "border_entropy_bits", "predicted_dice", "asymmetry")
STAGES = ("segment", "measure", "write")


def node_name(case: Case, stage: str) -> str:
    """Name of the node, and of its folder in the work folder; nipype wants word characters.

    A scan that is not what the task was made for, such as a FLAIR in which the brain is looked
    for, has its suffix in the name: the T1w of the session may have the same stem.
    """
    stem = case.stem if case.suffix == case.task.space else f"{case.stem}_{case.suffix}"
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)
    return f"{case.task.name}_{kept}_{stage}"


def locating_case(case: Case, models_dir: Path | None) -> Case | None:
    """The first scan for the task that shows where to look; ``None`` where there is no such task.

    Its node has the name that it has when the user asks for that task too, so that it runs once.
    """
    locator = find_locator(case.task, models_dir)
    if locator is None:
        return None
    return replace(case, task=locator, scans=case.scans[: len(locator.channels)])


def locating_chain(case: Case, models_dir: Path | None) -> tuple[Case, ...]:
    """The case that locates a case, then the one that locates that one, and so on."""
    locator = locating_case(case, models_dir)
    return () if locator is None else (locator, *locating_chain(locator, models_dir))


def save_segmented(segmented: Segmented, file: Path) -> None:
    """Save labels, confidence, grid and, where there are any, landmarks and probabilities.

    Of lesions, the map of their probability and the rule are saved too.
    """
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "dseg": segmented.dseg,
        "confidence": segmented.confidence,
        "affine": segmented.grid.affine,
    }
    if segmented.probabilities is not None:
        arrays["probabilities"] = segmented.probabilities
    if segmented.landmarks is not None:
        arrays["landmarks"] = segmented.landmarks
    if segmented.brain_volume_mm3 is not None:
        arrays["brain_volume_mm3"] = np.array(segmented.brain_volume_mm3)
    if segmented.certainties:
        arrays["certainties"] = np.array([astuple(one) for one in segmented.certainties])
    if segmented.lesion_map is not None:
        arrays["lesion_probability"] = segmented.lesion_map.probability
        arrays["lesion_rule"] = np.array(astuple(segmented.lesion_map.rule))
    np.savez_compressed(file, allow_pickle=False, **arrays)


def load_segmented(file: Path) -> Segmented:
    """Load what :func:`save_segmented` saved."""
    with np.load(file, allow_pickle=False) as arrays:
        dseg = arrays["dseg"]
        i, j, k = dseg.shape
        brain = arrays.get("brain_volume_mm3")
        return Segmented(
            dseg=dseg,
            confidence=arrays["confidence"],
            grid=Grid((i, j, k), arrays["affine"]),
            probabilities=arrays.get("probabilities"),
            landmarks=arrays.get("landmarks"),
            brain_volume_mm3=None if brain is None else float(brain),
            certainties=tuple(_certainty(row) for row in arrays.get("certainties", ())),
            lesion_map=_lesion_map(arrays.get("lesion_probability"), arrays.get("lesion_rule")),
        )


def _lesion_map(
    probability: npt.NDArray[np.float16] | None, rule: npt.NDArray[np.float64] | None
) -> LesionMap | None:
    """Lesions from their map and the numbers of their rule, in the order of its record."""
    if probability is None or rule is None:
        return None
    threshold, smallest_mm3, periventricular_mm = (float(number) for number in rule)
    return LesionMap(
        probability,
        LesionRule(
            threshold=threshold, smallest_mm3=smallest_mm3, periventricular_mm=periventricular_mm
        ),
    )


def _certainty(row: npt.NDArray[np.float64]) -> Certainty:
    """One label's figures from a row of numbers in the order of their record."""
    index, agreement, soft_dice, border_entropy_bits = (float(value) for value in row)
    return Certainty(
        index=int(index),
        agreement=agreement,
        soft_dice=soft_dice,
        border_entropy_bits=border_entropy_bits,
    )


def save_measures(measures: tuple[StructureMeasures, ...], file: Path) -> None:
    """Save measures by the index of their label; JSON has no ``nan``, so that becomes null."""
    table: dict[str, JsonValue] = {
        str(one.label.index): {
            "n_voxels": one.n_voxels,
            "volume_mm3": one.volume_mm3,
            "mean_probability": one.mean_probability
            if math.isfinite(one.mean_probability)
            else None,
            "touches_edge": one.touches_edge,
            "in_adult_range": one.in_adult_range,
            "fraction_of_brain": one.fraction_of_brain,
            "in_training_range": one.in_training_range,
            "flags": list(one.flags),
            **{name: _finite(getattr(one, name)) for name in FIGURES},
        }
        for one in measures
    }
    write_json(file, table)


def _finite(value: float) -> float | None:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else None


def load_measures(file: Path, task: Task) -> tuple[StructureMeasures, ...]:
    """Load what :func:`save_measures` saved, in the order of the task's labels."""
    table = read_json(file)
    loaded = []
    for label in task.labels:
        row = table[str(label.index)]
        if not isinstance(row, dict):
            raise OutputError(f"{file} holds no measures of {label.name}; clean the work folder")
        mean_probability = row["mean_probability"]
        loaded.append(
            StructureMeasures(
                label=label,
                n_voxels=row["n_voxels"],
                volume_mm3=row["volume_mm3"],
                mean_probability=math.nan if mean_probability is None else mean_probability,
                touches_edge=row["touches_edge"],
                in_adult_range=row["in_adult_range"],
                fraction_of_brain=row.get("fraction_of_brain"),  # earlier versions had none
                in_training_range=row.get("in_training_range"),
                flags=tuple(row.get("flags", ())),
                **{name: _number(row.get(name)) for name in FIGURES},
            )
        )
    return tuple(loaded)


def _number(value: float | None) -> float:
    """A number of JSON, ``nan`` where it was none."""
    return math.nan if value is None else value


def save_provenance(provenance: Provenance, file: Path) -> None:
    """Save what made a result."""
    write_json(file, asdict(provenance))


def load_provenance(file: Path) -> Provenance:
    """Load what :func:`save_provenance` saved."""
    fields: dict[str, Any] = dict(read_json(file))
    located_by = _located_by(fields)
    brain = fields.pop("brain_measured_by", None)
    doubts = tuple(fields.pop("doubts", ()))  # work folders of earlier versions have none
    inputs = tuple(fields.pop("inputs", ()))  # nor these
    registration = fields.pop("registration", None)
    return Provenance(
        **fields,
        located_by=located_by,
        brain_measured_by=None if brain is None else UsedModel(**brain),
        doubts=doubts,
        inputs=inputs,
        registration=None if registration is None else _alignment(registration),
    )


def _alignment(table: dict[str, Any]) -> Alignment:
    """How a scan was laid upon another, from what was saved of it."""
    return Alignment(**{**table, "matrix": tuple(tuple(row) for row in table["matrix"])})


def _located_by(fields: dict[str, Any]) -> tuple[UsedModel, ...]:
    """Take the chain of locators out of what was saved."""
    chain = fields.pop("located_by", None) or ()
    digest = fields.pop("locator_sha256", None)
    if isinstance(chain, str):  # as versions before 0.3 left it in work folders
        return (UsedModel(chain, str(digest)),)
    return tuple(UsedModel(**used) for used in chain)


@dataclass(frozen=True, slots=True)
class StageNote:
    """What a node leaves behind: how long it took, its error's sentence, and doubts, if any."""

    duration_s: float
    error: str | None
    doubts: tuple[str, ...] = ()


def note_file(folder: Path, name: str) -> Path:
    """Where the node of that name leaves its note."""
    return folder / f"{name}.json"


def read_note(folder: Path, name: str) -> StageNote | None:
    """The note of a node; ``None`` if it left none: it was not run, or it was killed."""
    file = note_file(folder, name)
    if not file.is_file():
        return None
    table = read_json(file)
    duration_s, error, doubts = table["duration_s"], table["error"], table["doubts"]
    if not (
        isinstance(duration_s, float) and isinstance(error, str | None) and isinstance(doubts, list)
    ):
        raise OutputError(f"{file} is no note of a node; clean the work folder")
    return StageNote(duration_s, error, tuple(str(doubt) for doubt in doubts))


def write_note(folder: Path, name: str, note: StageNote) -> None:
    """Leave the note of a node, or of one that can no longer do so itself."""
    write_json(note_file(folder, name), {**asdict(note), "doubts": list(note.doubts)})


class Noted:
    """While it is entered a node works; when it is left, the note is written, come what may."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._started_s = 0.0
        self._doubts: list[str] = []

    def __enter__(self) -> Self:
        self._started_s = time.monotonic()
        return self

    def doubt(self, sentence: str) -> None:
        """Note what the user should know of a result that is there."""
        self._doubts.append(sentence)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        duration_s = time.monotonic() - self._started_s
        sentence = None if error is None else str(error) or type(error).__name__
        write_note(self._folder, self._name, StageNote(duration_s, sentence, tuple(self._doubts)))
