"""Simulate a FLAIR scan with painted lesions from the tissue maps of the MNI152 template."""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nilearn.datasets import (
    load_mni152_brain_mask,
    load_mni152_gm_template,
    load_mni152_wm_template,
)
from scipy import ndimage

Volume = npt.NDArray[np.float64]

FLUID, WHITE, GREY, LESION = 110.0, 470.0, 550.0, 820.0  # as FLAIR scans show them, more or less
BLUR_MM = 0.8
NOISE = 14.0
SHAPE = (190, 224, 34)
SPACING_MM = (1.0, 1.0, 5.0)
SLICE_TILT_DEG = 7.0  # of the slices, as planned by a radiographer
MOVED_MM = (3.0, -5.0, 4.0)  # of the head, between the T1w and this scan
TURNED_DEG = (3.0, -2.0, 4.0)  # the same, about R, A and S
SAMPLES_PER_SLICE = 5  # a thick slice is a mean over its thickness
SEED = 2010

# centre in the template's millimetres and radius: deep in white matter on both sides
PAINTED = (
    ((-26.0, -8.0, 34.0), 7.5),
    ((25.0, -26.0, 32.0), 6.0),
    ((24.0, 28.0, 14.0), 5.0),
    ((-30.0, -56.0, 18.0), 4.0),
    ((27.0, 6.0, 32.0), 3.2),
    ((-20.0, 24.0, 30.0), 2.5),
)
WHAT = (
    "Simulated: no scanner made it and it shows nobody. Tissue maps of the MNI152 template (ICBM "
    "2009a) in the contrast of a FLAIR, blurred, cut into thick slices and made noisy; six "
    "balls in white matter were painted bright as lesions are"
)


@dataclass(frozen=True)
class Painted:
    """A lesion that was painted: where it lies in the FLAIR's scanner space, and its volume."""

    centre_mm: tuple[float, float, float]
    volume_mm3: float


def contrast(affine: Volume, shape: tuple[int, ...]) -> tuple[Volume, list[float]]:
    """The template as a FLAIR shows it, 1 mm, with lesions; and the lesions' volumes in mm3."""
    grey, white, brain = (
        load(resolution=1).get_fdata()
        for load in (load_mni152_gm_template, load_mni152_wm_template, load_mni152_brain_mask)
    )
    fluid = np.clip(brain - grey - white, 0, 1)
    total = np.maximum(grey + white + fluid, 1)
    shown = (GREY * grey + WHITE * white + FLUID * fluid) / total * brain
    ijk = np.indices(shape).reshape(3, -1)
    xyz_mm = (affine[:3, :3] @ ijk + affine[:3, 3:]).reshape(3, *shape)
    volumes = []
    for centre_mm, radius_mm in PAINTED:
        away_mm2 = ((xyz_mm - np.reshape(centre_mm, (3, 1, 1, 1))) ** 2).sum(axis=0)
        inside = away_mm2 <= radius_mm**2
        shown[inside] = LESION
        volumes.append(float(inside.sum() * abs(np.linalg.det(affine[:3, :3]))))
    blurred: Volume = ndimage.gaussian_filter(shown, BLUR_MM)
    return blurred, volumes


def turned(degrees: tuple[float, float, float]) -> Volume:
    """A rotation about R, then A, then S."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        one, other = [a for a in range(3) if a != axis]
        step = np.eye(3)
        step[[one, other], [one, other]] = np.cos(angle)
        step[one, other], step[other, one] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def pose() -> Volume:
    """From the template's millimetres, in which the T1w lies, to the FLAIR's scanner space."""
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = turned(TURNED_DEG), MOVED_MM
    return moved


def flair_affine() -> Volume:
    """Axial slices, tilted a little, around a head that lies where the template does."""
    affine = np.eye(4)
    affine[:3, :3] = turned((SLICE_TILT_DEG, 0, 0)) @ np.diag(SPACING_MM)
    affine[:3, 3] = np.array([0, -18, 12]) - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return affine


def sliced(shown: Volume, affine: Volume) -> Volume:
    """What slices of the moved head show: each a mean over its thickness."""
    to_template = np.linalg.inv(affine) @ np.linalg.inv(pose()) @ flair_affine()
    slices = np.zeros(SHAPE)
    for offset in (np.arange(SAMPLES_PER_SLICE) + 0.5) / SAMPLES_PER_SLICE - 0.5:
        within = to_template @ np.array(
            [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, offset], [0, 0, 0, 1]]
        )
        slices += ndimage.affine_transform(
            shown, within[:3, :3], within[:3, 3], output_shape=SHAPE, order=1
        )
    return slices / SAMPLES_PER_SLICE


def write_flair(template: nib.Nifti1Image, file: Path) -> list[Painted]:
    """Write the scan, and beside it a sidecar that says what it is and what was painted."""
    affine = np.asarray(template.affine, dtype=np.float64)
    shown, volumes_mm3 = contrast(affine, template.shape)
    clean = sliced(shown, affine)
    rng = np.random.default_rng(SEED)
    noisy = np.hypot(clean + rng.normal(0, NOISE, SHAPE), rng.normal(0, NOISE, SHAPE))
    scan = np.rint(noisy * (clean > 1)).astype(np.int16)  # the template has no skull, nor has this
    image = nib.Nifti1Image(scan, flair_affine())
    image.header.set_xyzt_units(xyz="mm")
    nib.save(image, file)
    painted = []
    for (centre_mm, _), volume_mm3 in zip(PAINTED, volumes_mm3, strict=True):
        x, y, z = (pose() @ [*centre_mm, 1])[:3].round(2).tolist()
        painted.append(Painted((x, y, z), volume_mm3))
    told = [{"CentreMm": list(one.centre_mm), "VolumeMm3": one.volume_mm3} for one in painted]
    sidecar = {"Description": WHAT, "PaintedLesions": told}
    file.with_name(file.name.replace(".nii.gz", ".json")).write_text(
        json.dumps(sidecar, indent=2), "utf-8"
    )
    return painted
