"""Results as files: how they are named, whose files are left alone, what is told of lesions."""

from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.errors import InputDataError, OutputError
from bids_deepmrseg.files import JsonValue, read_json
from bids_deepmrseg.imaging.lesions import AtThreshold, Lesions
from bids_deepmrseg.records import Case
from bids_deepmrseg.settings import APP_NAME

PROVENANCE_KEY = "DeepMRSeg"  # sidecars without this key were not written by this program
NIFTI_GZ = ".nii.gz"
LESION_LABEL = "L"  # as BIDS abbreviates lesions
EVERY_LESION = "lesions"  # desc of the label map that numbers them
MM3_DIGITS = 3

# Where BIDS puts the entities that derivatives add, and the few of raw names that come later.
ENTITIES_AFTER_SPACE = ("split", "recording", "chunk")


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionFiles:
    """Where the lesions of one scan are written.

    Attributes
    ----------
    mask, mask_sidecar
        1 in every lesion, and what is told of it.
    label_map, label_sidecar, table
        Every lesion by its number, what is told of that, and a row per lesion.
    """

    mask: Path
    mask_sidecar: Path
    label_map: Path
    label_sidecar: Path
    table: Path


def derivative_path(
    case: Case,
    *,
    suffix: str,
    extension: str,
    label: str | None = None,
    desc: str | None = None,
    folder: str = "anat",
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
    desc
        Value of the ``desc`` entity of other files, where a task writes several of a suffix.
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
    elif desc is not None:
        named.append(("desc", desc))
    entities = [*early, ("space", case.task.space), *late, *named]
    stem = "_".join(f"{key}-{value}" for key, value in entities)
    levels = ("sub", "ses") if folder == "anat" else ("sub",)
    folders = (f"{key}-{case.entity(key)}" for key in levels if case.entity(key))
    return Path(*folders, folder, f"{stem}_{suffix}{extension}")


def lesion_files(case: Case, output_dir: Path) -> LesionFiles:
    """Where the lesions of a case are written, once it is sure that nobody else wrote there.

    Raises
    ------
    OutputError
        If a file that this program did not write is in the way of any result of the case.
    """
    dseg, dseg_sidecar, dseg_table = (
        output_dir / derivative_path(case, suffix="dseg", extension=ending)
        for ending in (NIFTI_GZ, ".json", ".tsv")
    )
    mask, mask_sidecar = (
        output_dir / derivative_path(case, suffix="mask", extension=ending, label=LESION_LABEL)
        for ending in (NIFTI_GZ, ".json")
    )
    label_map, label_sidecar, table = (
        output_dir / derivative_path(case, suffix="dseg", extension=ending, desc=EVERY_LESION)
        for ending in (NIFTI_GZ, ".json", ".tsv")
    )
    check_ours(dseg_sidecar, (dseg, dseg_table))
    check_ours(mask_sidecar, (mask,))
    check_ours(label_sidecar, (label_map, table))
    return LesionFiles(
        mask=mask,
        mask_sidecar=mask_sidecar,
        label_map=label_map,
        label_sidecar=label_sidecar,
        table=table,
    )


def is_ours(sidecar: Path) -> bool:
    """Whether a sidecar is there and says that this program wrote it."""
    return sidecar.is_file() and PROVENANCE_KEY in read_json(sidecar)


def check_ours(sidecar: Path, files: tuple[Path, ...]) -> None:
    """Refuse to replace files whose sidecar does not say that this program wrote them.

    Parameters
    ----------
    sidecar
        What the files would be told by.
    files
        What it belongs to.

    Raises
    ------
    OutputError
        If any of them is there and somebody else's.
    """
    there = [file for file in (sidecar, *files) if file.exists() or file.is_symlink()]
    if there and not is_ours(sidecar):
        raise OutputError(
            f"{there[0]} exists and was not written by {APP_NAME} (its sidecar does not say so); "
            "it is left as it is: move it away, or choose another output folder"
        )


def raw_uri(case: Case, scan: Path) -> str:
    """BIDS URI of a scan.

    Raises
    ------
    InputDataError
        If it does not lie in the case's dataset.
    """
    try:
        return f"bids:raw:{scan.relative_to(case.bids_dir).as_posix()}"
    except ValueError as error:
        raise InputDataError(f"{scan} does not lie in the dataset {case.bids_dir}") from error


def lesion_details(lesions: Lesions, *, brain_mm3: float | None = None) -> dict[str, JsonValue]:
    """What sidecars tell of a scan's lesions: rule, totals, what was removed, other thresholds.

    Parameters
    ----------
    lesions
        As found.
    brain_mm3
        Volume of the brain; without it, or where it is 0, there is no fraction.
    """
    rule = lesions.rule
    fraction = lesions.volume_mm3 / brain_mm3 if brain_mm3 else None
    return {
        "Threshold": rule.threshold,
        "MinLesionMm3": rule.smallest_mm3,
        "Connectivity": 26,
        "PeriventricularMm": rule.periventricular_mm,
        "VentriclesKnown": lesions.ventricles_known,
        "SliceAxis": "ijk"[lesions.slice_axis],
        "Count": len(lesions.lesions),
        "VolumeMm3": round(lesions.volume_mm3, MM3_DIGITS),
        "BrainMm3": None if brain_mm3 is None else round(brain_mm3, MM3_DIGITS),
        "FractionOfBrain": None if fraction is None else round(fraction, 8),
        "RemovedCount": lesions.n_removed,
        "RemovedMm3": round(lesions.removed_mm3, MM3_DIGITS),
        "VolumeByThreshold": [_point(at) for at in lesions.curve],
    }


def _point(at: AtThreshold) -> dict[str, JsonValue]:
    """One threshold of the curve."""
    return {
        "Threshold": at.threshold,
        "Count": at.n_lesions,
        "VolumeMm3": round(at.volume_mm3, MM3_DIGITS),
        "RemovedCount": at.n_removed,
        "RemovedMm3": round(at.removed_mm3, MM3_DIGITS),
    }
