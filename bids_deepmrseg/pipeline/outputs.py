"""Stages 6 and 7 in their order: everything that is written of one case."""

from collections.abc import Sequence
from pathlib import Path

from bids_deepmrseg.derivatives import derivative_path, lesion_files
from bids_deepmrseg.records import Case, Segmented, StructureMeasures
from bids_deepmrseg.stages.align import write_alignment
from bids_deepmrseg.stages.lesions import lesions_of, write_lesions
from bids_deepmrseg.stages.report import draw_case
from bids_deepmrseg.stages.write import Provenance, sidecar_of, write_case


def write_outputs(
    case: Case,
    segmented: Segmented,
    measures: tuple[StructureMeasures, ...],
    provenance: Provenance,
    output_dir: Path,
    *,
    warnings: Sequence[str] = (),
) -> Path:
    """Write and draw the results of a case, the label map after all files that belong to it.

    Parameters
    ----------
    case, segmented, measures, provenance
        What was segmented, the answer, how large it is, and what made it.
    output_dir
        The derivative dataset.
    warnings
        Sentences that the picture begins with.

    Returns
    -------
    Path
        The label map, relative to ``output_dir``.

    Raises
    ------
    OutputError
        If a file that this program did not write is in the way, a file cannot be written, or
        it does not read back as it was written.
    """
    lesions = lesions_of(segmented)
    if lesions is not None:
        files = lesion_files(case, output_dir)
        told = sidecar_of(case, provenance)
        brain_mm3 = segmented.brain_volume_mm3
        write_lesions(lesions, case.scans[0], files, told=told, brain_mm3=brain_mm3)
    write_alignment(case, provenance, output_dir)
    dseg = write_case(case, segmented, measures, provenance, output_dir, lesions=lesions)
    picture = derivative_path(case, suffix="dseg", extension=".png", folder="figures")
    draw_case(case, segmented, output_dir / picture, warnings=warnings)
    return dseg
