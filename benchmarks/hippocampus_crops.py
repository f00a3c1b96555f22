"""What the Decathlon's hippocampus crops show: which belong to one scan, which way they run.

Usage: hippocampus_crops.py DECATHLON, the folder with images/ and labels/ (or imagesTr/, labelsTr/)

Grey values of a scan are whole multiples of one step, whatever it was scaled by, so two crops with
the same step come from the same scan; integer images (step 1) say nothing and are left out.
"""

import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.imaging.nifti import read_label_map, read_scan

SAME_STEP = 1e-3  # relative; float32 noise is far below


@dataclass(frozen=True, slots=True)
class CropFacts:
    """One crop: its number, grey step, size, margins and the way from posterior to anterior.

    ``beyond_plane`` is the part of the labels on the wrong side of the best coronal border.
    """

    number: int
    step: float
    shape: tuple[int, ...]
    below: npt.NDArray[np.integer]
    above: npt.NDArray[np.integer]
    forward: npt.NDArray[np.floating]
    beyond_plane: float


def read_crop(image: Path, label: Path) -> CropFacts:
    """Measure one crop; all are 1 mm, axes R, A, S."""
    values = np.unique(read_scan(image).data.astype(np.float64))
    apart = np.diff(values)
    labels = read_label_map(label)[0]
    voxels = np.argwhere(labels > 0)
    anterior, posterior = (np.argwhere(labels == c).mean(0) for c in (1, 2))
    return CropFacts(
        number=int(re.findall(r"\d+", image.name)[0]),
        step=float(apart[apart > 1e-6 * values[-1]].min()),
        shape=labels.shape,
        below=voxels.min(0),
        above=np.array(labels.shape) - 1 - voxels.max(0),
        forward=anterior - posterior,
        beyond_plane=_beyond_plane(labels),
    )


def _beyond_plane(labels: npt.NDArray[np.integer]) -> float:
    """Part of all labelled voxels that a coronal plane puts on the wrong side, at best."""
    before = np.cumsum((labels == 1).sum(axis=(0, 2)))
    behind = np.cumsum((labels == 2).sum(axis=(0, 2)))
    return float((before + behind[-1] - behind).min() / np.count_nonzero(labels))


def pair_lines(crops: list[CropFacts]) -> list[str]:
    """How many neighbours in number share their step, odd or even number first."""
    by_number = {c.number: c for c in crops if abs(c.step - round(c.step)) > SAME_STEP}
    counts: Counter[tuple[bool, bool]] = Counter()
    for number, crop in by_number.items():
        other = by_number.get(number + 1)
        if other is not None:
            alike = abs(crop.step / other.step - 1) < SAME_STEP
            counts[number % 2 == 1, alike] += 1
    return [
        f"{'odd' if odd else 'even'} number and the next: {counts[odd, True]} pairs with the same "
        f"grey step, {counts[odd, False]} without"
        for odd in (True, False)
    ]


def main(decathlon: Path) -> None:
    """Print the facts."""
    folder = "images" if (decathlon / "images").is_dir() else "imagesTr"
    files = sorted((decathlon / folder).glob("hippocampus_*.nii.gz"))
    crops = [read_crop(f, decathlon / folder.replace("images", "labels") / f.name) for f in files]
    print(f"{len(crops)} crops of {len({(c.number + 1) // 2 for c in crops})} persons")
    print("\n".join(pair_lines(crops)))
    forward = np.array([c.forward for c in crops])
    for axis, name in enumerate("RAS"):
        up = float((forward[:, axis] > 0).mean())
        print(
            f"anterior minus posterior along {name}: mean {forward[:, axis].mean():.1f} mm, "
            f"sd {forward[:, axis].std():.1f}, positive in {up:.0%}"
        )
    beyond = np.array([c.beyond_plane for c in crops])
    print(
        f"a coronal plane parts anterior and posterior exactly in {(beyond == 0).mean():.0%}; "
        f"95th percentile of voxels beyond it {np.percentile(beyond, 95):.1%}"
    )
    shapes = np.array([c.shape for c in crops])
    print("size, min median max:", shapes.min(0), np.median(shapes, 0), shapes.max(0))
    print("margin below the labels, median:", np.median([c.below for c in crops], 0))
    print("margin above the labels, median:", np.median([c.above for c in crops], 0))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
