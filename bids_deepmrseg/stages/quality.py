"""After stage 5: how good each structure is likely to be, without a reference, and what is odd.

What is predicted stands on ``quality.json`` of the model folder, which ``deepmrseg-evaluate
calibrate`` makes from scans with references; without it only what the scan itself shows is told.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bids_deepmrseg.errors import WeightsError
from bids_deepmrseg.files import read_json, write_json
from bids_deepmrseg.records import Certainty, StructureMeasures
from bids_deepmrseg.taskfiles import SIDE
from bids_deepmrseg.tasks import Label, Range, Task

QUALITY_FILE = "quality.json"
MM3_PER_ML = 1000.0
FURTHEST_VOLUME = 6.0  # standard deviations, beyond which a volume gets no worse
LEFT = ("left", "lh", "l")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What the logit of the predicted Dice is the sum of, besides the offset of the structure.

    Attributes
    ----------
    agreement, soft_dice, border_entropy_bits
        Per unit of the figure; ``None`` for ``agreement`` where the model has one network.
    volume_deviation
        Per standard deviation between the log of the volume and its mean in the training data.
    """

    agreement: float | None
    soft_dice: float
    border_entropy_bits: float
    volume_deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is known of one structure, and of its mirror image.

    Attributes
    ----------
    index, name
        The label; of two mirrored ones that with the smaller index.
    offset
        Of the logit of the predicted Dice.
    log_volume_mean, log_volume_sd
        Of natural logarithms of volumes in millilitres, in the training data.
    volume_range
        Volumes within which nearly all training data lie.
    asymmetry_low, asymmetry_high
        As :attr:`StructureMeasures.asymmetry`, likewise; ``None`` where training data show one
        side only, or the structure has none.
    bad_below, flag_below
        True Dice below which a segmentation counts as bad, and predicted Dice below which it is
        flagged.
    """

    index: int
    name: str
    offset: float
    log_volume_mean: float
    log_volume_sd: float
    volume_range: Range
    asymmetry_low: float | None
    asymmetry_high: float | None
    bad_below: float
    flag_below: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How figures of certainty become a predicted Dice, for one model.

    Attributes
    ----------
    task
        What it segments.
    model_sha256
        Digest of the weights that it was made for.
    stands_on
        Sentence: people, scans, damages, and how well prediction and truth agree.
    weights, structures
        The prediction.
    case_bad_below, case_flag_below
        As for structures, of the mean over all of them.
    """

    task: str
    model_sha256: str
    stands_on: str
    weights: Weights
    structures: tuple[Expected, ...]
    case_bad_below: float
    case_flag_below: float

    def expected_of(self, label: Label) -> Expected | None:
        """What is known of a label or of its mirror image."""
        known = {one.index: one for one in self.structures}
        return known.get(canonical(label))


def canonical(label: Label) -> int:
    """The index under which a structure of two sides is known."""
    return min(label.index, label.mirror)


def volume_deviation(volume_ml: float, log_mean: float, log_sd: float) -> float:
    """How many standard deviations a volume's logarithm lies from its mean, either way."""
    if volume_ml <= 0:
        return FURTHEST_VOLUME
    return min(abs(math.log(volume_ml) - log_mean) / log_sd, FURTHEST_VOLUME)


def predict_dice(
    certainty: Certainty, volume_ml: float, weights: Weights, expected: Expected
) -> float:
    """The Dice that a structure is likely to have with a reference.

    Parameters
    ----------
    certainty
        Figures of the structure.
    volume_ml
        Its volume.
    weights, expected
        From the calibration.

    Returns
    -------
    float
        0 where nothing was found, for a structure that is in every head; ``nan`` where the figures
        that the calibration needs are not there, as when one network was run of several.
    """
    if volume_ml <= 0:
        return 0.0
    deviation = volume_deviation(volume_ml, expected.log_volume_mean, expected.log_volume_sd)
    by_agreement = 0.0 if weights.agreement is None else weights.agreement * certainty.agreement
    logit = (
        expected.offset
        + by_agreement
        + weights.soft_dice * certainty.soft_dice
        + weights.border_entropy_bits * certainty.border_entropy_bits
        + weights.volume_deviation * deviation
    )
    return 0.5 * (1 + math.tanh(logit / 2))  # the same as 1 / (1 + exp(-x)), for any x


def judge(
    measures: tuple[StructureMeasures, ...],
    certainties: tuple[Certainty, ...],
    calibration: Calibration | None,
    *,
    may_be_none: bool = False,
) -> tuple[StructureMeasures, ...]:
    """Tell how good each structure is likely to be, and flag what should be looked at.

    Parameters
    ----------
    measures
        All structures of a case.
    certainties
        What the networks said of them.
    calibration
        Of the model; ``None`` where it has none.
    may_be_none
        Whether heads without the structure are nothing unusual, as without lesions.

    Returns
    -------
    tuple
        The same measures with agreement, predicted Dice, asymmetry and flags.
    """
    said = {one.index: one for one in certainties}
    volumes = {one.label.index: one.volume_mm3 for one in measures}
    judged = []
    for one in measures:
        certainty = said.get(one.label.index)
        expected = calibration.expected_of(one.label) if calibration else None
        told = one if certainty is None else _with_certainty(one, certainty)
        told = replace(told, asymmetry=asymmetry(one.label, volumes))
        if calibration is not None and expected is not None:
            told = _with_prediction(told, certainty, calibration.weights, expected)
        judged.append(replace(told, flags=tuple(_flags(told, expected, may_be_none=may_be_none))))
    return tuple(judged)


def _with_certainty(one: StructureMeasures, certainty: Certainty) -> StructureMeasures:
    """A structure with what the networks said of it."""
    return replace(
        one,
        agreement=certainty.agreement,
        soft_dice=certainty.soft_dice,
        border_entropy_bits=certainty.border_entropy_bits,
    )


def _with_prediction(
    one: StructureMeasures, certainty: Certainty | None, weights: Weights, expected: Expected
) -> StructureMeasures:
    """A structure with what the calibration makes of it."""
    volume_ml = one.volume_mm3 / MM3_PER_ML
    predicted = (
        math.nan if certainty is None else predict_dice(certainty, volume_ml, weights, expected)
    )
    low_ml, high_ml = expected.volume_range.low_ml, expected.volume_range.high_ml
    return replace(one, predicted_dice=predicted, in_training_range=low_ml <= volume_ml <= high_ml)


def asymmetry(label: Label, volumes: dict[int, float]) -> float:
    """``2 (L - R) / (L + R)`` of a structure's volumes, the same for both sides.

    Parameters
    ----------
    label
        One of the two sides, told by the words ``left`` and ``right`` in its name.
    volumes
        By label index, in any unit.

    Returns
    -------
    float
        -2 to 2, above 0 where the left is larger; ``nan`` for midline structures, where names do
        not tell the side, and where neither side was found.
    """
    side = SIDE.search(label.name)
    if label.mirror == label.index or side is None or label.mirror not in volumes:
        return math.nan
    own, other = volumes[label.index], volumes[label.mirror]
    left, right = (own, other) if side[0].casefold() in LEFT else (other, own)
    return 2 * (left - right) / (left + right) if left + right else math.nan


def _flags(
    one: StructureMeasures, expected: Expected | None, *, may_be_none: bool
) -> Iterator[str]:
    """Sentences on why a structure should be looked at."""
    if not one.n_voxels and not may_be_none:
        yield "nothing was found"
    if expected is not None:
        yield from _flags_of_calibration(one, expected)
    if one.touches_edge:
        yield "it reaches the edge of the field of view"
    if one.in_adult_range is False:
        yield "its volume lies outside the bounds for adults"


def _flags_of_calibration(one: StructureMeasures, expected: Expected) -> Iterator[str]:
    """Those that training data are needed for."""
    if one.predicted_dice < expected.flag_below:
        yield f"predicted Dice {one.predicted_dice:.3f} is below {expected.flag_below:.3f}"
    if one.in_training_range is False:
        low, high = expected.volume_range.low_ml, expected.volume_range.high_ml
        yield f"volume outside of {low:.2f} to {high:.2f} ml, which training data have"
    low_side, high_side = expected.asymmetry_low, expected.asymmetry_high
    if low_side is None or high_side is None or math.isnan(one.asymmetry):
        return
    if not low_side <= one.asymmetry <= high_side:
        limits = f"{low_side:+.2f} to {high_side:+.2f}"
        yield f"left/right asymmetry {one.asymmetry:+.2f}, training data have {limits}"


def mean_predicted_dice(measures: tuple[StructureMeasures, ...]) -> float:
    """Mean over the structures of a case; ``nan`` where any of them has no prediction."""
    return sum(one.predicted_dice for one in measures) / len(measures) if measures else math.nan


def doubts_of_quality(
    measures: tuple[StructureMeasures, ...],
    task: Task,
    calibration: Calibration | None,
    model_sha256: str,
) -> tuple[str, ...]:
    """Sentences for log and report on a case that should be looked at.

    Parameters
    ----------
    measures
        As :func:`judge` made them.
    task, calibration
        What was segmented, and what is known of the model's quality.
    model_sha256
        Digest of the weights that were run; a calibration of others is told of.
    """
    doubts = []
    if calibration is not None and calibration.model_sha256 != model_sha256:
        doubts.append(
            f"predicted Dice is not to be trusted: {QUALITY_FILE} of {task.name} was made for "
            "other weights; make it again with deepmrseg-evaluate calibrate"
        )
    mean = mean_predicted_dice(measures)
    if calibration is not None and mean < calibration.case_flag_below:
        doubts.append(
            f"{task.name}: predicted Dice {mean:.3f} (mean over structures) is below "
            f"{calibration.case_flag_below:.3f}: look at the picture before using it"
        )
    flagged = [one for one in measures if one.flags]
    doubts += [f"{one.label.name}: {'; '.join(one.flags)}" for one in flagged]
    return tuple(doubts)


def write_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write ``quality.json`` into a model folder."""
    file = folder / QUALITY_FILE
    write_json(file, asdict(calibration))
    return file


def read_calibration(folder: Path) -> Calibration | None:
    """Read ``quality.json`` of a model folder; ``None`` where there is none.

    Raises
    ------
    WeightsError
        If it is there and cannot be understood.
    """
    file = folder / QUALITY_FILE
    if not file.is_file():
        return None
    table: dict[str, Any] = dict(read_json(file))
    try:
        return Calibration(
            task=str(table["task"]),
            model_sha256=str(table["model_sha256"]),
            stands_on=str(table["stands_on"]),
            weights=Weights(**table["weights"]),
            structures=tuple(_expected(row) for row in table["structures"]),
            case_bad_below=float(table["case_bad_below"]),
            case_flag_below=float(table["case_flag_below"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{file} is no calibration of a model ({error!r}); make it again with "
            "deepmrseg-evaluate calibrate, or remove it"
        ) from error


def _expected(row: dict[str, Any]) -> Expected:
    """One structure from its JSON object."""
    return Expected(**{**row, "volume_range": Range(**row["volume_range"])})
