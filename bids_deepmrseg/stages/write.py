"""Stage 6 of 8: labels, tables and sidecars of one case become BIDS-Derivatives files."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_deepmrseg.errors import InputDataError, OutputError
from bids_deepmrseg.files import ABSENT, JsonValue, read_json, write_json, write_tsv
from bids_deepmrseg.imaging.nifti import read_label_map, write_like
from bids_deepmrseg.records import Alignment, Case, Segmented, StructureMeasures
from bids_deepmrseg.settings import APP_NAME
from bids_deepmrseg.tasks import Task

logger = logging.getLogger(__name__)

COLUMNS_FILE = Path(__file__).parents[1] / "data" / "dseg_columns.json"
PROVENANCE_KEY = "DeepMRSeg"  # sidecars without this key were not written by this program
NIFTI_GZ = ".nii.gz"
BRAIN_LABEL = "brain"

# Where BIDS puts the entities that derivatives add, and the few of raw names that come later.
ENTITIES_AFTER_SPACE = ("split", "recording", "chunk")


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
        ``cpu``, ``cuda`` or ``cuda:N``.
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


def derivative_path(
    case: Case, *, suffix: str, extension: str, label: str | None = None, folder: str = "anat"
) -> Path:
    """Where a file of a case belongs, relative to the output folder.

    Parameters
    ----------
    case
        Its source entities are all kept, so that no two scans can share a name.
    suffix, extension
        Such as ``dseg`` and ``.nii.gz``.
    label
        Value of the ``label`` entity, for masks; ``desc`` then names the task.
    folder
        ``anat``, or ``figures``, which lies directly in the subject's folder.

    Returns
    -------
    Path
        Such as ``sub-01/ses-2/anat/sub-01_ses-2_run-1_space-T1w_seg-deepbrain_dseg.nii.gz``.
    """
    early = [pair for pair in case.entities if pair[0] not in ENTITIES_AFTER_SPACE]
    late = [pair for pair in case.entities if pair[0] in ENTITIES_AFTER_SPACE]
    named = [("seg", case.task.name)]
    if label is not None:  # BIDS has no masks with both seg and label
        named = [("label", label), ("desc", case.task.name)]
    entities = [*early, ("space", case.task.space), *late, *named]
    stem = "_".join(f"{key}-{value}" for key, value in entities)
    levels = ("sub", "ses") if folder == "anat" else ("sub",)
    folders = (f"{key}-{case.entity(key)}" for key in levels if case.entity(key))
    return Path(*folders, folder, f"{stem}_{suffix}{extension}")


def write_case(
    case: Case,
    segmented: Segmented,
    measures: tuple[StructureMeasures, ...],
    provenance: Provenance,
    output_dir: Path,
) -> Path:
    """Write label map, table and sidecar of a case; probabilities and a brain mask if it has any.

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
    if segmented.probabilities is not None:
        _write_probabilities(case, segmented, provenance, output_dir)
    if case.task.brain is not None:
        _write_brain_mask(case, segmented, provenance, output_dir)
    sidecar = _sidecar(case, provenance, f"{case.task.description}: label map and volumes")
    columns = read_json(COLUMNS_FILE)
    write_json(_sibling(output_dir, case, "dseg", ".json"), {**sidecar, "Manual": False, **columns})
    rows = [
        _row(one) | _brain_cells(one, segmented.brain_volume_mm3) | _quality_cells(one)
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
    _check_files_ours(_sibling(output_dir, case, suffix, ".json"), files)


def _check_files_ours(sidecar: Path, files: tuple[Path, ...]) -> None:
    """As :func:`_check_ours`, of one sidecar and what it belongs to."""
    there = [file for file in (sidecar, *files) if file.exists() or file.is_symlink()]
    if there and not (sidecar.is_file() and PROVENANCE_KEY in read_json(sidecar)):
        raise OutputError(
            f"{there[0]} exists and was not written by {APP_NAME} (its sidecar does not say so); "
            "it is left as it is: move it away, or choose another output folder"
        )


def _uri(case: Case, scan: Path) -> str:
    """BIDS URI of a scan."""
    try:
        return f"bids:raw:{scan.relative_to(case.bids_dir).as_posix()}"
    except ValueError as error:
        raise InputDataError(f"{scan} does not lie in the dataset {case.bids_dir}") from error


def _sidecar(case: Case, provenance: Provenance, description: str) -> dict[str, JsonValue]:
    """What every image of a case says of itself."""
    sources = [_uri(case, scan) for scan in case.scans]
    return {
        "Description": description,
        "Sources": sources,
        "SpatialReference": sources[0],
        PROVENANCE_KEY: {
            "Version": provenance.code_version,
            "Task": case.task.name,
            "Labels": case.task.atlas,
            "ModelSHA256": provenance.model_sha256,
            "ModelTrainingData": provenance.training_data,
            "ModelLicense": provenance.license,
            "ModelAttribution": provenance.attribution,
            "Preprocessing": provenance.preprocessing,
            "TorchVersion": provenance.torch_version,
            "Device": provenance.device,
            "Fast": provenance.fast,
            "IslandsRemovedVoxels": provenance.n_islands_removed_voxels,
            "LocatedBy": [_model(used) for used in provenance.located_by],
            "BrainMeasuredBy": _model(brain) if (brain := provenance.brain_measured_by) else None,
            "Doubts": list(provenance.doubts),
        },
    }


def _model(used: UsedModel) -> dict[str, JsonValue]:
    """What a sidecar says of another task that was run before."""
    return {"Task": used.task, "ModelSHA256": used.model_sha256}


def _write_brain_mask(
    case: Case, segmented: Segmented, provenance: Provenance, output_dir: Path
) -> None:
    """Write the brain as a mask of its own, under the name by which BIDS readers look for one."""
    mask, sidecar = (
        output_dir / derivative_path(case, suffix="mask", extension=ending, label=BRAIN_LABEL)
        for ending in (NIFTI_GZ, ".json")
    )
    _check_files_ours(sidecar, (mask,))
    told = _sidecar(case, provenance, "The brain: 1 where it is, 0 elsewhere")
    write_json(sidecar, {**told, "Type": "Brain"})
    inside = (segmented.dseg == case.task.brain).astype(np.uint8)
    write_like(case.scans[0], inside, mask, description=f"{APP_NAME} {case.task.name}")


def _write_probabilities(
    case: Case, segmented: Segmented, provenance: Provenance, output_dir: Path
) -> None:
    """Write one volume of probabilities per structure, background left out."""
    if segmented.probabilities is None:
        return
    _check_ours(output_dir, case, "probseg", (NIFTI_GZ,))
    sidecar = _sidecar(case, provenance, f"{case.task.description}: probability of each structure")
    names = [label.abbreviation for label in case.task.labels]
    write_json(_sibling(output_dir, case, "probseg", ".json"), {**sidecar, "LabelMap": names})
    write_like(
        case.scans[0],
        np.moveaxis(segmented.probabilities[1:], 0, -1).astype(np.float32),
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
