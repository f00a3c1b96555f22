"""From how many random displacements a T1w comes back onto its FLAIR, and how near.

    python benchmarks/registration.py FLAIR T1W [FLAIR T1W ...]

The T1w's affine is moved by a random rigid displacement, up to 20 mm and 15 degrees about the
middle of the head, and the pair is registered. Told is the mean displacement, over the brain where
`*_desc-brain_mask.nii.gz` stands beside the FLAIR and over the head otherwise, against two truths:
what the undisplaced pair is registered by (``again``), and the headers as they are (``header``),
which are the truth only where both scans are on one grid. Asked for are 19 of 20 within 1.5 mm.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from bids_deepmrseg.imaging.agreement import centre_mm, head_mask
from bids_deepmrseg.imaging.alignment import (
    Mask,
    mask_points,
    mean_displacement_mm,
    rigid_about,
)
from bids_deepmrseg.imaging.grid import Affine, Grid
from bids_deepmrseg.imaging.nifti import Scan, read_label_map, read_scan
from bids_deepmrseg.imaging.register import register_rigid
from bids_deepmrseg.imaging.registration import Registration

MAX_SHIFT_MM = 20.0
MAX_ANGLE_DEG = 15.0
BAR_MM = 1.5
COLUMNS = (
    "pair n mask moved_mm turned_deg mi_before mi_after dice_before dice_after again_within "
    "again_median_mm again_max_mm header_within header_median_mm header_max_mm n_doubts cpu_s doubt"
)


@dataclass(frozen=True, slots=True)
class Return:
    """One displacement: how far from both truths it was brought, and any doubt."""

    again_mm: float
    header_mm: float
    doubt: str | None


def displacements(centre: npt.NDArray[np.float64], n: int, *, seed: int) -> Iterator[Affine]:
    """Random rigid matrices: direction, distance, axis and angle each uniform."""
    generator = np.random.default_rng(seed)
    for _ in range(n):
        direction, axis = (v / np.linalg.norm(v) for v in generator.normal(size=(2, 3)))
        share_mm, share_deg = generator.uniform(size=2)
        turn = Rotation.from_rotvec(axis * np.deg2rad(MAX_ANGLE_DEG) * share_deg).as_matrix()
        yield rigid_about(centre, turn, direction * MAX_SHIFT_MM * share_mm)


def judged_over(flair: Path, scan: Scan) -> tuple[Mask, str]:
    """The brain's mask beside the FLAIR, or else the head's, and what it is called."""
    name = flair.name.replace("_desc-brain", "").replace("_FLAIR", "_desc-brain_mask")
    beside = flair.with_name(name)
    if beside.is_file():
        return read_label_map(beside)[0] > 0, "brain"
    return head_mask(scan), "head"


def bring_back(
    flair: Scan, t1w: Scan, mask: Mask, as_is: Registration, displacement: Affine
) -> Return:
    """Move the T1w, register it, and measure how far from both truths it ends."""
    points = mask_points(mask, flair.grid)[::20]
    away = Scan(t1w.data, Grid(t1w.grid.shape, displacement @ t1w.grid.affine))
    found = register_rigid(flair, away)
    return Return(
        mean_displacement_mm(found.matrix, displacement @ as_is.matrix, points),
        mean_displacement_mm(found.matrix, displacement, points),
        found.doubt,
    )


def row(name: str, mask: str, as_is: Registration, returns: list[Return], cpu_s: float) -> str:
    """One line of the table."""
    again = np.array([r.again_mm for r in returns])
    header = np.array([r.header_mm for r in returns])
    cells = [name, len(returns), mask, f"{as_is.moved_mm:.2f}", f"{as_is.turned_deg:.2f}"]
    cells += [f"{as_is.metric_before:.3f}", f"{as_is.metric_after:.3f}"]
    cells += [f"{as_is.overlap_before:.3f}", f"{as_is.overlap_after:.3f}"]
    for apart in (again, header):
        cells += [int((apart <= BAR_MM).sum()), f"{np.median(apart):.2f}", f"{apart.max():.2f}"]
    cells += [sum(r.doubt is not None for r in returns), f"{cpu_s:.1f}", as_is.doubt or "-"]
    return "\t".join(map(str, cells))


def main() -> None:
    """Print one line per pair."""
    parser = argparse.ArgumentParser(description="FLAIR and T1w in turn; see the script's head")
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--displacements", type=int, default=20)
    parser.add_argument("--each", action="store_true", help="tell of each on stderr")
    asked = parser.parse_args()
    print(*COLUMNS.split(), sep="\t", flush=True)
    pairs = zip(asked.scans[::2], asked.scans[1::2], strict=True)
    for seed, (flair_file, t1w_file) in enumerate(pairs):
        flair, t1w = read_scan(flair_file), read_scan(t1w_file)
        mask, called = judged_over(flair_file, flair)
        started = time.process_time()
        as_is = register_rigid(flair, t1w)
        middle = centre_mm(head_mask(flair), flair.grid)
        returns: list[Return] = []
        for displacement in displacements(middle, asked.displacements, seed=seed):
            each = bring_back(flair, t1w, mask, as_is, displacement)
            returns.append(each)
            if asked.each:
                line = f"\t{each.again_mm:.2f}\t{each.header_mm:.2f}\t{each.doubt or '-'}"
                print(line, file=sys.stderr, flush=True)
        cpu_s = (time.process_time() - started) / (1 + len(returns))
        name = flair_file.name.partition("_FLAIR")[0]
        print(row(name, called, as_is, returns, cpu_s), flush=True)


if __name__ == "__main__":
    main()
