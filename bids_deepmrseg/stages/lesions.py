"""Stage 6 of 8, of tasks that find lesions: mask, map, table and what their sidecars tell."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bids_deepmrseg.derivatives import MM3_DIGITS, LesionFiles, lesion_details
from bids_deepmrseg.files import ABSENT, JsonValue, read_json, write_json, write_tsv
from bids_deepmrseg.imaging.lesions import Lesion, Lesions, find_lesions
from bids_deepmrseg.imaging.nifti import write_like
from bids_deepmrseg.records import Segmented
from bids_deepmrseg.settings import APP_NAME

COLUMNS_FILE = Path(__file__).parents[1] / "data" / "lesion_columns.json"
LESION_MAPPING = 7  # of the common table of BIDS


def lesions_of(segmented: Segmented) -> Lesions | None:
    """Find the lesions of a map once more, by its own rule; ``None`` of tasks that find none.

    They are those of ``segmented.dseg``, now told one by one.
    """
    found = segmented.lesion_map
    return None if found is None else find_lesions(found.probability, segmented.grid, found.rule)


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
    write_json(files.mask_sidecar, {"Description": everywhere, **shared, "Type": "Lesion"})
    mask = lesions.mask.astype(np.uint8)
    write_like(scan, mask, files.mask, description=f"{APP_NAME} lesions")
    columns = read_json(COLUMNS_FILE)
    numbered = {"Description": "Lesions: every one by its number, largest first", **shared}
    write_json(files.label_sidecar, {**numbered, "Manual": False, **columns})
    write_tsv(files.table, tuple(columns), lesion_rows(lesions))
    labels = lesions.label_map.astype(np.min_scalar_type(len(lesions.lesions)))
    write_like(scan, labels, files.label_map, description=f"{APP_NAME} lesions by number")


def lesion_rows(lesions: Lesions) -> tuple[dict[str, str], ...]:
    """A row of the table per lesion, largest first."""
    return tuple(_row(lesion) for lesion in lesions.lesions)


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
