"""How much of a brain mask's outline survives a coarser grid, and how large brains are.

    python benchmarks/brain_grids.py LABEL_MAP...

For whole-head or whole-brain label maps (values from 500 and 24, fluid, do not count as brain):
volume, and Dice of the mask with itself after averaging to cubic voxels, interpolating back and
cutting at one half. Behind docs/decisions/0011.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.imaging.grid import Grid, plan_resampling, to_ras
from bids_deepmrseg.imaging.nifti import read_label_map

SPACINGS_MM = (1.5, 2.0, 3.0)
FLUID = 24
OUTSIDE = 500


def main(files: list[str]) -> None:
    """One line per label map."""
    print("label_map", "brain_ml", *(f"dice_{mm:g}mm" for mm in SPACINGS_MM), sep="\t")
    for file in files:
        values, grid = read_label_map(Path(file))
        turned, turn = to_ras((values > 0) & (values < OUTSIDE) & (values != FLUID), grid)
        dice = [f"{_survives(turned, turn.turned, mm):.3f}" for mm in SPACINGS_MM]
        volume_ml = turned.sum() * grid.voxel_volume_mm3 / 1000
        print(Path(file).name.partition(".")[0], f"{volume_ml:.0f}", *dice, sep="\t", flush=True)


def _survives(mask: npt.NDArray[np.bool_], grid: Grid, spacing_mm: float) -> float:
    """Dice of a mask with itself after a round trip."""
    there = plan_resampling(grid, spacing_mm)
    back = there.undo(there.apply(mask.astype(np.float32))) > 0.5
    return float(2 * (mask & back).sum() / (mask.sum() + back.sum()))


if __name__ == "__main__":
    main(sys.argv[1:])
