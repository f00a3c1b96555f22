"""Stage 6 of 8: labels, tables and sidecars of one case become BIDS-Derivatives files."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_deepmrseg.derivatives import (
    NIFTI_GZ,
    PROVENANCE_KEY,
    check_ours,
    derivative_path,
    lesion_details,
    raw_uri,
)
from bids_deepmrseg.errors import InputDataError, OutputError
from bids_deepmrseg.files import ABSENT, JsonValue, read_json, write_json, write_tsv
from bids_deepmrseg.imaging.lesions import Lesions
from bids_deepmrseg.imaging.nifti import read_label_map, write_like
from bids_deepmrseg.records import Alignment, Case, Segmented, StructureMeasures
from bids_deepmrseg.settings import APP_NAME
from bids_deepmrseg.tasks import Task

__all__ = (
    "NIFTI_GZ",
    "Provenance",
    "UsedModel",
    "check_written",
    "derivative_path",
    "sidecar_of",
    "write_case",
)

logger = logging.getLogger(__name__)

DATA = Path(__file__).parents[1] / "data"
COLUMNS_FILE = DATA / "dseg_columns.json"
LESION_COLUMNS_FILE = DATA / "dseg_lesion_columns.json"  # further ones, of tasks that find lesions
BRAIN_LABEL = "brain"


@dataclass(frozen=True, slots=True)
class UsedModel:
    """A task that others build on, and the digest over the weights that were run for it."""

    task: str
    model_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made a result, as its sidecar tells it.

    Attributes
    ----------
    code_version, torch_version
        Versions of this package and of torch.
    model_sha256
        Digest over all weights of the model.
    preprocessing
        Name of the preparation that scans went through.
    training_data, license, attribution
        What the weights learned from, and on which terms.
    device
        What the networks really ran on: ``cpu``, or a GPU such as ``cuda:1 (NVIDIA H200)``;
        several with commas between them.
    fast
        Whether only the first network of the ensemble was run.
    n_islands_removed_voxels
        Voxels of the model grid that lay in islands which cannot be right.
    located_by
        The task that showed where to look, then the one that showed that one, and so on; empty for
        tasks that look at the whole brain.
    brain_measured_by
        The task whose volume of the brain is told; ``None`` where none is.
    doubts
        Sentences on what was unusual on the way there, though not impossible.
    inputs
        Suffixes of the scans that were looked at, such as ``("FLAIR", "T1w")``, the first one's
        first; empty in what earlier versions left.
    registration
        How the second scan was laid upon the first; ``None`` where nothing was moved.
    bias_corrected
        Whether slow changes of brightness were taken out of the scans.
    brain_overlap
        Dice, 0 to 1, of the brains that the first and the second scan show on the first one's
        grid; ``None`` where there is no second one.
    """

    code_version: str
    torch_version: str
    model_sha256: str
    preprocessing: str
    training_data: str
    license: str
    attribution: str
    device: str
    fast: bool
    n_islands_removed_voxels: int
    located_by: tuple[UsedModel, ...] = ()
    brain_measured_by: UsedModel | None = None
    doubts: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    registration: Alignment | None = None
    bias_corrected: bool = False
    brain_overlap: float | None = None


def write_case(
    case: Case,
    segmented: Segmented,
    measures: tuple[StructureMeasures, ...],
    provenance: Provenance,
    output_dir: Path,
    *,
    lesions: Lesions | None = None,
) -> Path:
    """Write label map, table and sidecar of a case; probabilities and a brain mask if it has any.

    Parameters
    ----------
    case, segmented, measures, provenance
        What was segmented, the answer, how large it is, and what made it.
    output_dir
        The derivative dataset.
    lesions
        Those of the answer, for tasks that find lesions: their number and rule are told.

    Returns
    -------
    Path
        The label map, relative to ``output_dir``. It is written last, so that where it exists
        its table and sidecar exist too.

    Raises
    ------
    OutputError
        If a file that this program did not write is in the way, a file cannot be written, or
        it does not read back as it was written.
    """
    _check_values(case.task, segmented, measures)
    dseg = derivative_path(case, suffix="dseg", extension=NIFTI_GZ)
    _check_ours(output_dir, case, "dseg", (".tsv", NIFTI_GZ))
    told = sidecar_of(case, provenance)
    columns = read_json(COLUMNS_FILE)
    cells: dict[str, str] = {}
    if lesions is not None:
        brain_mm3 = segmented.brain_volume_mm3
        told = {**told, "Lesions": lesion_details(lesions, brain_mm3=brain_mm3)}
        columns = {**columns, **read_json(LESION_COLUMNS_FILE)}
        cells = _lesion_cells(lesions, inputs_of(case, provenance))
    if segmented.probabilities is not None:
        _write_probabilities(case, segmented, told, output_dir)
    if case.task.brain is not None:
        _write_brain_mask(case, segmented, told, output_dir)
    described = _described(told, f"{case.task.description}: label map and volumes")
    write_json(
        _sibling(output_dir, case, "dseg", ".json"), {**described, "Manual": False, **columns}
    )
    rows = [
        _row(one) | _brain_cells(one, segmented.brain_volume_mm3) | _quality_cells(one) | cells
        for one in measures
    ]
    write_tsv(_sibling(output_dir, case, "dseg", ".tsv"), tuple(columns), rows)
    dtype = np.uint8 if max(label.index for label in case.task.labels) < 256 else np.uint16
    labels = segmented.dseg.astype(dtype)
    write_like(case.scans[0], labels, output_dir / dseg, description=f"{APP_NAME} {case.task.name}")
    logger.debug("%s: wrote %s", case.name, dseg)
    return dseg


def check_written(case: Case, dseg: Path, output_dir: Path) -> None:
    """Open a label map again, and make sure that it holds nothing but the task's labels.

    Raises
    ------
    OutputError
        If it is not there, cannot be read, or holds other values.
    """
    try:
        labels, _ = read_label_map(output_dir / dseg)
    except InputDataError as error:
        raise OutputError(f"the label map of {case.name} does not read back: {error}") from error
    named = {0, *(label.index for label in case.task.labels)}
    if others := set(np.unique(labels).tolist()) - named:
        raise OutputError(f"{dseg} holds values that are no labels: {sorted(others)}")


def _sibling(output_dir: Path, case: Case, suffix: str, extension: str) -> Path:
    """A file of the case in the output folder."""
    return output_dir / derivative_path(case, suffix=suffix, extension=extension)


def _check_values(
    task: Task, segmented: Segmented, measures: tuple[StructureMeasures, ...]
) -> None:
    """Refuse labels and volumes that no reader could make sense of."""
    named = {0, *(label.index for label in task.labels)}
    if others := set(np.unique(segmented.dseg).tolist()) - named:
        raise OutputError(f"task {task.name}: the label map holds values without a name: {others}")
    for one in measures:
        if not math.isfinite(one.volume_mm3):
            raise OutputError(f"task {task.name}: the volume of {one.label.name} is not finite")


def _check_ours(output_dir: Path, case: Case, suffix: str, extensions: tuple[str, ...]) -> None:
    """Refuse to replace files whose sidecar does not say that this program wrote them."""
    files = tuple(_sibling(output_dir, case, suffix, extension) for extension in extensions)
    check_ours(_sibling(output_dir, case, suffix, ".json"), files)


def inputs_of(case: Case, provenance: Provenance) -> tuple[str, ...]:
    """Suffixes of the scans that were looked at; work folders of earlier versions tell none."""
    return provenance.inputs or case.channels


def sidecar_of(case: Case, provenance: Provenance) -> dict[str, JsonValue]:
    """What every image of a case says of itself, but for its description."""
    sources = [raw_uri(case, scan) for scan in case.scans]
    brain = provenance.brain_measured_by
    aligned = provenance.registration
    return {
        "Sources": sources,
        "SpatialReference": sources[0],
        PROVENANCE_KEY: {
            "Version": provenance.code_version,
            "Task": case.task.name,
            "Labels": case.task.atlas,
            "Inputs": list(inputs_of(case, provenance)),
            "ModelSHA256": provenance.model_sha256,
            "ModelTrainingData": provenance.training_data,
            "ModelLicense": provenance.license,
            "ModelAttribution": provenance.attribution,
            "Preprocessing": provenance.preprocessing,
            "Registration": None if aligned is None else _registration(aligned),
            "BrainOverlap": _rounded(provenance.brain_overlap),
            "BiasCorrected": provenance.bias_corrected,
            "TorchVersion": provenance.torch_version,
            "Device": provenance.device,
            "Fast": provenance.fast,
            "IslandsRemovedVoxels": provenance.n_islands_removed_voxels,
            "LocatedBy": [_model(used) for used in provenance.located_by],
            "BrainMeasuredBy": None if brain is None else {**_model(brain), "Scan": sources[0]},
            "Doubts": list(provenance.doubts),
        },
    }


def _described(told: Mapping[str, JsonValue], description: str) -> dict[str, JsonValue]:
    """A sidecar that begins with what the image shows."""
    return {"Description": description, **told}


def _model(used: UsedModel) -> dict[str, JsonValue]:
    """What a sidecar says of another task that was run before."""
    return {"Task": used.task, "ModelSHA256": used.model_sha256}


def _registration(aligned: Alignment) -> dict[str, JsonValue]:
    """How a scan was laid upon the first one, and how well."""
    return {
        "Moving": aligned.moving,
        "Fixed": aligned.fixed,
        "FixedToMovingMm": [list(row) for row in aligned.matrix],
        "StartedFrom": aligned.start,
        "MutualInformationBefore": _rounded(aligned.metric_before),
        "MutualInformationAfter": _rounded(aligned.metric_after),
        "OverlapBefore": _rounded(aligned.overlap_before),
        "OverlapAfter": _rounded(aligned.overlap_after),
        "Covered": _rounded(aligned.covered),
        "MovedMm": _rounded(aligned.moved_mm),
        "TurnedDeg": _rounded(aligned.turned_deg),
        "Doubt": aligned.doubt,
    }


def _rounded(figure: float | None) -> float | None:
    """A figure with four decimals; JSON knows no other than finite ones."""
    return None if figure is None or not math.isfinite(figure) else round(figure, 4)


def _write_brain_mask(
    case: Case, segmented: Segmented, told: Mapping[str, JsonValue], output_dir: Path
) -> None:
    """Write the brain as a mask of its own, under the name by which BIDS readers look for one."""
    mask, sidecar = (
        output_dir / derivative_path(case, suffix="mask", extension=ending, label=BRAIN_LABEL)
        for ending in (NIFTI_GZ, ".json")
    )
    check_ours(sidecar, (mask,))
    described = _described(told, "The brain: 1 where it is, 0 elsewhere")
    write_json(sidecar, {**described, "Type": "Brain"})
    inside = (segmented.dseg == case.task.brain).astype(np.uint8)
    write_like(case.scans[0], inside, mask, description=f"{APP_NAME} {case.task.name}")


def _write_probabilities(
    case: Case, segmented: Segmented, told: Mapping[str, JsonValue], output_dir: Path
) -> None:
    """Write one volume of probabilities per structure, background left out; of lesions the map."""
    if segmented.probabilities is None:
        return
    _check_ours(output_dir, case, "probseg", (NIFTI_GZ,))
    described = _described(told, f"{case.task.description}: probability of each structure")
    names = [label.abbreviation for label in case.task.labels]
    write_json(_sibling(output_dir, case, "probseg", ".json"), {**described, "LabelMap": names})
    maps = np.moveaxis(segmented.probabilities[1:], 0, -1)
    if segmented.lesion_map is not None:
        maps = segmented.lesion_map.probability
    write_like(
        case.scans[0],
        maps.astype(np.float32),
        _sibling(output_dir, case, "probseg", NIFTI_GZ),
        description=f"{APP_NAME} {case.task.name}",
    )


def _row(one: StructureMeasures) -> dict[str, str]:
    """One structure as cells of the table."""
    label = one.label
    known = math.isfinite(one.mean_probability)
    return {
        "index": str(label.index),
        "name": label.name,
        "abbreviation": label.abbreviation,
        "color": label.color,
        "mapping": str(label.mapping),
        "volume_mm3": f"{one.volume_mm3:.3f}",
        "n_voxels": str(one.n_voxels),
        "mean_probability": f"{one.mean_probability:.4f}" if known else ABSENT,
        "touches_edge": _yes_or_no(one.touches_edge),
        "in_adult_range": _yes_or_no(one.in_adult_range),
    }


def _brain_cells(one: StructureMeasures, brain_mm3: float | None) -> dict[str, str]:
    """The volume of the brain, and a structure's part of it, as cells of the table."""
    fraction = one.fraction_of_brain
    return {
        "brain_mm3": ABSENT if brain_mm3 is None else f"{brain_mm3:.3f}",
        "fraction_of_brain": ABSENT if fraction is None else f"{fraction:.8f}",
    }


def _lesion_cells(lesions: Lesions, inputs: tuple[str, ...]) -> dict[str, str]:
    """What the lesions of a scan are together, and by which rule, as cells of the table."""
    return {
        "n_lesions": str(len(lesions.lesions)),
        "lesion_threshold": f"{lesions.rule.threshold:g}",
        "min_lesion_mm3": f"{lesions.rule.smallest_mm3:g}",
        "n_removed": str(lesions.n_removed),
        "removed_mm3": f"{lesions.removed_mm3:.3f}",
        "inputs": "+".join(inputs),
    }


def _quality_cells(one: StructureMeasures) -> dict[str, str]:
    """What is likely of a structure's quality, and what is doubtful, as cells of the table."""
    figures = {
        "agreement": one.agreement,
        "soft_dice": one.soft_dice,
        "border_entropy_bits": one.border_entropy_bits,
        "predicted_dice": one.predicted_dice,
        "asymmetry": one.asymmetry,
    }
    return {
        **{name: f"{x:.4f}" if math.isfinite(x) else ABSENT for name, x in figures.items()},
        "in_training_range": _yes_or_no(one.in_training_range),
        "flagged": _yes_or_no(bool(one.flags)),
        "why_flagged": "; ".join(one.flags) or ABSENT,
    }


def _yes_or_no(answer: bool | None) -> str:  # noqa: FBT001 - it is the only argument
    """A truth value as BIDS tables spell it."""
    return ABSENT if answer is None else str(answer).lower()
