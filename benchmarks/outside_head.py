"""How many voxels of each brain mask lie outside the head that the scan shows.

Usage: outside_head.py RAW DERIVATIVES

DERIVATIVES is what the task brainmask made of RAW. The head is what is brighter than a tenth of
the scan's bright tissue, closed over gaps of eight voxels and filled slice by slice. In a stripped
scan, where all else is 0, that is the outline of what was left.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_deepmrseg.imaging.nifti import read_label_map, read_scan

TISSUE_SHARE = 0.1  # of the 95th percentile of what is not 0
GAP_VOXELS = 8
ENDING = "_space-T1w_seg-brainmask_dseg.nii.gz"


def head_of(intensities: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """The head in a scan ``(I, J, K)``."""
    bright = np.percentile(intensities[intensities > 0], 95)
    seen = np.pad(intensities > TISSUE_SHARE * bright, GAP_VOXELS)
    closed = ndimage.binary_closing(seen, iterations=GAP_VOXELS // 2)
    i, j, k = (slice(GAP_VOXELS, -GAP_VOXELS) for _ in range(3))
    filled = [ndimage.binary_fill_holes(one) for one in np.moveaxis(closed[i, j, k], 2, 0)]
    return np.stack(filled, axis=2)


def main(raw: Path, derivatives: Path) -> None:
    """Print a line for each scan."""
    for file in sorted(derivatives.rglob(f"*{ENDING}")):
        scan = raw / file.relative_to(derivatives).with_name(
            file.name.replace(ENDING, "_T1w.nii.gz")
        )
        brain = read_label_map(file)[0] > 0
        outside = brain & ~head_of(read_scan(scan).data)
        print(f"{scan.name}\t{int(outside.sum())} of {int(brain.sum())} voxels outside", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
