"""Paint whole-head label maps that no network learned from into a labelled BIDS dataset.

Each map becomes one subject (``head-05_dseg.nii.gz`` is ``sub-05``) with five runs of new random
intensities, T1-weighted, 1 mm, and the map beside each as ``_dseg`` in FreeSurfer's numbers:

1. a whole head;
2. its outside stripped away, and part of the fluid around the brain with it;
3. defaced;
4. with a bias field of 40 % and noise of 5 %;
5. with slices of 4 mm.

The painter is the one that training uses (training/synthesis.py), so that people are new to a
network, but the way in which they look is not: results on real scans can be worse.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from bids_deepmrseg.evaluation.degraded import add_bias, add_noise, deface, thicken_slices
from bids_deepmrseg.evaluation.moved import Field
from bids_deepmrseg.imaging.grid import Grid, crop_to, to_ras
from bids_deepmrseg.imaging.nifti import Scan, read_label_map, write_like, write_scan
from bids_deepmrseg.training.corpus import HEAD_HEIGHT_VOXELS, HEAD_MARGIN_VOXELS
from bids_deepmrseg.training.synthesis import paint, strip

SEED = 20
WHITE, CORTEX, FLUID = (2, 41), (3, 42), (4, 43, 24)
RUNS = ("whole", "stripped", "defaced", "bias and noise", "thick slices")
AS_SCANNERS_COUNT = 400.0  # intensity of white matter


def read_head(file: Path) -> tuple[torch.Tensor, Grid]:
    """A label map turned to RAS+ and cut below the throat, as training cuts it."""
    values, grid = read_label_map(file)
    turned, turn = to_ras(values, grid)
    i, j, k = crop_to(turned > 0, margin=HEAD_MARGIN_VOXELS).slices
    above_neck = slice(max(k.start, k.stop - HEAD_HEIGHT_VOXELS), k.stop)
    cut = np.ascontiguousarray(turned[i, j, above_neck])
    shift = np.eye(4)
    shift[:3, 3] = (i.start, j.start, above_neck.start)
    n_i, n_j, n_k = cut.shape
    return torch.from_numpy(cut).long(), Grid((n_i, n_j, n_k), turn.turned.affine @ shift)


def paint_t1w(label_map: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random intensities, drawn again until white matter is brighter than grey, grey than fluid.

    The painter also makes other contrasts, one head in five, for networks to learn from.
    """
    masks = [torch.isin(label_map, torch.tensor(numbers)) for numbers in (WHITE, CORTEX, FLUID)]
    while True:
        image = paint(label_map, generator)
        white, grey, fluid = (float(image[mask].median()) for mask in masks)
        if white > 1.05 * grey > 1.05 * fluid:
            return image


def paint_run(run: str, label_map: torch.Tensor, grid: Grid, seed: int) -> Field:
    """One scan of a head."""
    generator = torch.Generator().manual_seed(seed)
    image = paint_t1w(label_map, generator)
    if run == "stripped":
        image = strip(image, label_map, generator)
    data: Field = (AS_SCANNERS_COUNT * image.clamp(min=0)).numpy()
    if run == "defaced":
        return deface(data, grid)
    if run == "bias and noise":
        return add_noise(add_bias(data, 40.0, seed), 5.0, seed)
    if run == "thick slices":
        return thicken_slices(data, grid, 4.0)
    return data


def make_dataset(maps: list[Path], dataset: Path) -> int:
    """Paint every run of every map; the number of scans."""
    description = {"Name": "Painted whole heads", "BIDSVersion": "1.10.0"}
    dataset.mkdir(parents=True, exist_ok=True)
    (dataset / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n")
    for file in maps:
        number = "".join(letter for letter in file.name.split("_")[0] if letter.isdigit())
        label_map, grid = read_head(file)
        for run, name in enumerate(RUNS, start=1):
            stem = dataset / f"sub-{number}" / "anat" / f"sub-{number}_run-{run}"
            data = paint_run(name, label_map, grid, seed=SEED + 100 * int(number) + run)
            scan = write_scan(Scan(data, grid), stem.with_name(f"{stem.name}_T1w.nii.gz"))
            labels = label_map.numpy().astype(np.int16)
            write_like(scan, labels, stem.with_name(f"{stem.name}_dseg.nii.gz"))
            print(f"{scan.name}: {name}", flush=True)
    return len(maps) * len(RUNS)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: make_synthetic_heads.py MAP [MAP ...] DATASET")
    made = make_dataset([Path(name) for name in sys.argv[1:-1]], Path(sys.argv[-1]))
    print(f"{made} scans in {sys.argv[-1]}")
