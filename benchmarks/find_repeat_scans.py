"""Print which subjects of a labelled dataset may be one person: distances of region volumes."""

import sys
from pathlib import Path

import numpy as np

from bids_deepmrseg.imaging.nifti import read_label_map

MIN_VOXELS = 200


def main(folder: Path) -> None:
    """List every subject with its nearest other one, nearest pairs first."""
    files = sorted(folder.rglob("anat/*_dseg.nii*"))
    maps = [read_label_map(file)[0] for file in files]
    n_labels = max(int(m.max()) for m in maps) + 1
    counts = np.array([np.bincount(m.ravel(), minlength=n_labels) for m in maps], dtype=float)
    logs = np.log(counts[:, (counts > MIN_VOXELS).all(axis=0)])
    scores = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    distances = np.sqrt(((scores[:, None] - scores[None]) ** 2).mean(axis=-1))
    np.fill_diagonal(distances, np.inf)
    for i in np.argsort(distances.min(axis=1)):
        nearest = int(distances[i].argmin())
        names = [files[n].name.split("_")[0] for n in (int(i), nearest)]
        print(f"{names[0]}\t{names[1]}\t{distances[i, nearest]:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
