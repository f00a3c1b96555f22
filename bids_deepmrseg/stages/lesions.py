"""Stage 6 of 8, of tasks that find lesions: mask, map, table and what their sidecars tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_deepmrseg.files import ABSENT, JsonValue, read_json, write_json, write_tsv
from bids_deepmrseg.imaging.lesions import AtThreshold, Lesion, Lesions
from bids_deepmrseg.imaging.nifti import write_like
from bids_deepmrseg.settings import APP_NAME

COLUMNS_FILE = Path(__file__).parents[1] / "data" / "lesion_columns.json"
LESION_MAPPING = 7  # of the common table of BIDS
MM3_DIGITS = 3


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


def write_lesions(
    lesions: Lesions,
    scan: Path,
    files: LesionFiles,
    *,
    told: Mapping[str, JsonValue],
    brain_mm3: float | None = None,
) -> None:
    """Write everything on the lesions of a scan; a scan without any gets empty maps and no row.

    Parameters
    ----------
    lesions
        On the grid of ``scan``.
    scan
        The NIfTI file whose grid and transforms the maps get.
    files
        What to write. The label map comes last: where it exists everything else does too.
    told
        What the sidecar of every image of the case says: sources, space and provenance.
    brain_mm3
        Volume of the brain, where it was measured.

    Raises
    ------
    GeometryError
        If the lesions are not on the scan's grid.
    OutputError
        If a file cannot be written, or does not read back as it was written.
    """
    shared = {**told, "Lesions": lesion_details(lesions, brain_mm3=brain_mm3)}
    everywhere = "Lesions: 1 where one is, 0 elsewhere"
    write_json(files.mask_sidecar, {**shared, "Description": everywhere, "Type": "Lesion"})
    mask = lesions.mask.astype(np.uint8)
    write_like(scan, mask, files.mask, description=f"{APP_NAME} lesions")
    columns = read_json(COLUMNS_FILE)
    numbered = "Lesions: every one by its number, largest first"
    write_json(files.label_sidecar, {**shared, "Description": numbered, "Manual": False, **columns})
    write_tsv(files.table, tuple(columns), lesion_rows(lesions))
    labels = lesions.label_map.astype(np.min_scalar_type(len(lesions.lesions)))
    write_like(scan, labels, files.label_map, description=f"{APP_NAME} lesions by number")


def lesion_rows(lesions: Lesions) -> tuple[dict[str, str], ...]:
    """A row of the table per lesion, largest first."""
    return tuple(_row(lesion) for lesion in lesions.lesions)


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


def _row(lesion: Lesion) -> dict[str, str]:
    """One lesion as cells of the table."""
    distance_mm = lesion.ventricle_distance_mm
    return {
        "index": str(lesion.index),
        "name": f"Lesion {lesion.index}",
        "mapping": str(LESION_MAPPING),
        "volume_mm3": f"{lesion.volume_mm3:.{MM3_DIGITS}f}",
        "n_voxels": str(lesion.n_voxels),
        **{
            f"{axis}_mm": f"{at_mm:.2f}"
            for axis, at_mm in zip("xyz", lesion.centroid_mm, strict=True)
        },
        "n_slices": str(lesion.n_slices),
        "mean_probability": f"{lesion.mean_probability:.4f}",
        "ventricle_distance_mm": ABSENT if distance_mm is None else f"{distance_mm:.2f}",
        "zone": lesion.zone or ABSENT,
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
