"""Whether the brain is found in a FLAIR as well as in the T1w of the same session.

    python benchmarks/brain_on_flair.py DATASET [DATASET ...] [--task brainmask]

Every `*_FLAIR.nii.gz` of the datasets that has a T1w of the same name is segmented by flairbrain,
or by another task, and that T1w by brainmask; scans are taken to lie where their headers say. Told
are, for both, the overlap with `*_desc-brain_mask.nii.gz` and the share of
`*_label-lesion_mask.nii.gz` that lies in the mask grown as tasks within a brain grow it, where such
a mask stands beside the FLAIR; and the volumes.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_deepmrseg.evaluation.metrics import overlap
from bids_deepmrseg.evaluation.whole import Models, segment_scan
from bids_deepmrseg.imaging.alignment import Mask, resample_onto
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.nifti import read_label_map
from bids_deepmrseg.records import Case
from bids_deepmrseg.stages.within import near_brain
from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task

FLAIR = "_FLAIR.nii.gz"
COLUMNS = (
    "scan slice_mm flair_dice t1w_dice between_dice flair_ml t1w_ml flair_by_t1w "
    "lesion_voxels flair_lesions_within t1w_lesions_within"
)


@dataclass(frozen=True, slots=True, eq=False)
class Brain:
    """What is found in one scan."""

    mask: Mask
    grid: Grid

    @property
    def volume_ml(self) -> float:
        """Volume of the mask."""
        return float(self.mask.sum()) * self.grid.voxel_volume_mm3 / 1000

    def on(self, grid: Grid) -> "Brain":
        """The same brain on another grid of the same scanner space."""
        if self.grid.matches(grid):
            return Brain(self.mask, grid)
        there = resample_onto(self.mask.astype(np.float32), self.grid, grid, np.eye(4))
        return Brain(there > 0.5, grid)


def find_brain(file: Path, name: str) -> Brain:
    """Run a task on a scan of any contrast."""
    task = read_task(find_named_model_folder(name) / TASK_FILE)
    case = Case(task=task, bids_dir=file.parent, scans=(file,), entities=(("sub", "x"),))
    segmented = segment_scan(case, Models(models_dir=None, device="cpu"))[-1]
    return Brain(segmented.dseg == task.brain, segmented.grid)


def dice(brain: Brain, reference: Mask | None) -> float:
    """Overlap with a mask on the brain's own grid; ``nan`` where there is none."""
    return math.nan if reference is None else overlap(brain.mask, reference).f1


def share_within(brain: Brain, lesions: Mask | None) -> float:
    """Share of the lesions' voxels in the brain or near it; ``nan`` where there are none."""
    if lesions is None or not lesions.any():
        return math.nan
    return float(near_brain(brain.mask, brain.grid.spacing_mm)[lesions].mean())


def mask_beside(flair: Path, ending: str) -> Mask | None:
    """A mask on the FLAIR's grid, ``None`` where there is none."""
    file = flair.with_name(flair.name.replace("_desc-brain", "").replace(FLAIR, ending))
    return read_label_map(file)[0] > 0 if file.is_file() else None


def row(flair: Path, t1w: Path, task: str) -> str:
    """One line of the table."""
    by_flair, by_t1w = find_brain(flair, task), find_brain(t1w, "brainmask")
    there = by_t1w.on(by_flair.grid)
    reference = mask_beside(flair, "_desc-brain_mask.nii.gz")
    lesions = mask_beside(flair, "_label-lesion_mask.nii.gz")
    both = (by_flair, there)
    figures = (
        ("%.1f", max(by_flair.grid.spacing_mm)),
        *(("%.3f", dice(one, reference)) for one in both),
        ("%.3f", dice(by_flair, there.mask)),
        *(("%.0f", one.volume_ml) for one in (by_flair, by_t1w)),
        ("%.3f", by_flair.volume_ml / by_t1w.volume_ml),
        ("%.0f", math.nan if lesions is None else int(lesions.sum())),
        *(("%.4f", share_within(one, lesions)) for one in both),
    )
    cells = ("n/a" if math.isnan(figure) else form % figure for form, figure in figures)
    return "\t".join((flair.name.removesuffix(FLAIR), *cells))


def main() -> None:
    """Print one line per pair."""
    parser = argparse.ArgumentParser(description="folders of datasets; see the script's head")
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--task", default="flairbrain", help="that looks at the FLAIR")
    asked = parser.parse_args()
    print(*COLUMNS.split(), sep="\t", flush=True)
    for dataset in asked.datasets:
        for flair in sorted(dataset.glob(f"sub-*/**/anat/*{FLAIR}")):
            t1w = flair.with_name(flair.name.replace(FLAIR, "_T1w.nii.gz"))
            if t1w.is_file():
                print(row(flair, t1w, asked.task), flush=True)


if __name__ == "__main__":
    main()
