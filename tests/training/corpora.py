"""Makers of small labelled datasets and corpora to train on."""

from pathlib import Path

import numpy as np

from bids_deepmrseg.tasks import Task
from bids_deepmrseg.training.corpus import Example
from bids_deepmrseg.training.variants import Kind
from tests.makers import bids_path, make_grid, make_head, write_nifti

BLOBS_MM = (  # index, centre, intensity
    (1, (-24.0, -2.0, -2.0), 200.0),
    (2, (24.0, -2.0, -2.0), 200.0),
    (7, (0.0, 0.0, 8.0), 50.0),
)


def make_labelled(root: Path, subjects: tuple[str, ...], *, geometry: str = "RAS") -> Path:
    """A labelled dataset: heads of ellipsoids with the three structures of the tiny task."""
    grid = make_grid(geometry)
    ijk = np.indices(grid.shape).reshape(3, -1)
    xyz_mm = (grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]).reshape(3, *grid.shape)
    dseg = np.zeros(grid.shape, np.uint8)
    for index, centre, _ in BLOBS_MM:
        distance = np.linalg.norm(xyz_mm - np.reshape(centre, (3, 1, 1, 1)), axis=0)
        dseg[distance < 14] = index
    for seed, subject in enumerate(subjects):
        head = make_head(grid, seed=seed)
        for index, _, intensity in BLOBS_MM:
            head[dseg == index] = intensity
        write_nifti(root / bids_path(f"{subject}_T1w.nii.gz"), head, grid.affine)
        write_nifti(root / bids_path(f"{subject}_dseg.nii.gz"), dseg, grid.affine)
    return root


def make_head_map(file: Path) -> Path:
    """A whole-head label map with FreeSurfer's numbers inside and others outside."""
    grid = make_grid()
    head = make_head(grid)
    label_map = np.zeros(grid.shape, np.uint16)
    label_map[head > 12] = 507
    for low, high, number in ((70, 105, 3), (105, 150, 2), (15, 30, 24)):
        inner = np.zeros(grid.shape, bool)
        inner[6:-6, 6:-6, 6:-6] = True
        label_map[(head > low) & (head <= high) & inner] = number
    label_map[20:24, 22:26, 18:22] = 17
    return write_nifti(file, label_map, grid.affine)


def make_examples(task: Task, *, n: int = 2) -> tuple[Example, ...]:
    """Prepared volumes in memory, half of them called synthetic."""
    generator = np.random.default_rng(0)
    examples = []
    for number in range(n):
        classes = np.zeros((32, 36, 30), np.uint8)
        for c in range(1, task.n_classes):
            classes[4 * c : 4 * c + 3, 14:20, 12:18] = c
        image = (60 + 20 * classes + generator.integers(0, 5, classes.shape)).astype(np.uint8)
        kind: Kind = "synthetic" if number % 2 else "stripped"
        examples.append(Example(f"example{number}", kind, image[None], classes))
    return tuple(examples)
