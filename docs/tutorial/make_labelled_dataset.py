"""Make a small labelled BIDS dataset: brains bent out of the MNI152 template, with ventricles."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage

N_SUBJECTS = 8
SPACING_MM = 3
LEFT, RIGHT = 1, 2
PIPELINE = "derivatives/outlines"
BOX_MM = ((-38, 38), (-52, 36), (-12, 32))  # where the lateral ventricles lie in MNI space
DARK = 0.45  # of the template's brightest voxel: fluid lies below
README = """Eight made-up brains: the MNI152 T1 template (ICBM 2009a, Fonov et al. 2011), as nilearn
carries it in its package, on 3 mm voxels, bent and recoloured at random. They are no person's
scans. derivatives/outlines holds what the template shows of the lateral ventricles, bent alike.
Made for a tutorial of bids-deepmrseg.
"""

Volume = npt.NDArray[np.float64]


def ventricles(template: Volume, brain: npt.NDArray[np.bool_], affine: Volume) -> list[Volume]:
    """Left and right lateral ventricle of the template: its dark voxels deep in the brain."""
    ijk = np.indices(template.shape).reshape(3, -1)
    xyz_mm = (affine[:3, :3] @ ijk + affine[:3, 3:]).reshape(3, *template.shape)
    deep = ndimage.binary_erosion(brain, iterations=4)
    box = np.logical_and.reduce(
        [(low < x) & (x < high) for (low, high), x in zip(BOX_MM, xyz_mm, strict=True)]
    )
    dark, _ = ndimage.label(deep & box & (template < DARK * template.max()))
    fluid = dark == np.bincount(dark.flat)[1:].argmax() + 1
    return [(fluid & side).astype(float) for side in (xyz_mm[0] < 0, xyz_mm[0] > 0)]


def bend(shape: tuple[int, ...], rng: np.random.Generator) -> Volume:
    """Where each voxel of a new brain comes from: turned, stretched and bent, in voxels."""
    middle = (np.array(shape) - 1) / 2
    angles = rng.normal(0, 0.05, 3)
    turn = np.eye(3) + np.cross(np.eye(3), angles)
    stretch = np.diag(rng.uniform(0.93, 1.07, 3))
    ijk = np.indices(shape).reshape(3, -1)
    placed = ((turn @ stretch) @ (ijk - middle[:, None]) + middle[:, None]).reshape(3, *shape)
    waves = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 5) for _ in range(3)])
    bent: Volume = placed + 1.2 * waves / waves.std()
    return bent


def recolour(brain: Volume, rng: np.random.Generator) -> Volume:
    """Another contrast, uneven brightness and noise; what was 0 stays near 0."""
    uneven = ndimage.gaussian_filter(rng.normal(size=brain.shape), 12)
    changed = brain ** rng.uniform(0.7, 1.5) * np.exp(0.1 * uneven / uneven.std())
    noisy = changed + rng.normal(0, 0.02, brain.shape) * (brain > 0)
    shown: Volume = np.clip(noisy, 0, None) * rng.uniform(200, 1500)
    return shown


def write(file: Path, data: npt.NDArray[np.generic], affine: Volume) -> None:
    """Write NIfTI."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units(xyz="mm")
    nib.save(image, file)


def make_dataset(root: Path, n_subjects: int = N_SUBJECTS) -> None:
    """Write scans and label maps of all subjects; every second one is stored from right to left."""
    image = load_mni152_template(resolution=SPACING_MM)
    mask = load_mni152_brain_mask(resolution=SPACING_MM)
    template = np.asarray(image.get_fdata())
    sides = ventricles(template, np.asarray(mask.get_fdata()) > 0, image.affine)
    for number in range(1, n_subjects + 1):
        rng = np.random.default_rng(number)
        source = bend(template.shape, rng)
        scan = recolour(ndimage.map_coordinates(template / template.max(), source, order=1), rng)
        dseg = np.zeros(template.shape, np.uint8)
        for index, side in zip((LEFT, RIGHT), sides, strict=True):
            dseg[ndimage.map_coordinates(side, source, order=1) > 0.5] = index
        affine = image.affine
        if number % 2 == 0:
            scan, dseg = scan[::-1], dseg[::-1]
            affine = affine @ np.diag([-1.0, 1, 1, 1])
            affine[:3, 3] = (image.affine @ [template.shape[0] - 1, 0, 0, 1])[:3]
        name = f"sub-{number:02d}"
        write(root / name / "anat" / f"{name}_T1w.nii.gz", np.rint(scan).astype(np.int16), affine)
        labels = root / PIPELINE / name / "anat" / f"{name}_desc-outlines_dseg.nii.gz"
        write(labels, dseg, affine)
    describe(root, "raw")
    describe(root / PIPELINE, "derivative")
    (root / "README").write_text(README, "utf-8")


def describe(folder: Path, kind: str) -> None:
    """Write ``dataset_description.json``."""
    description: dict[str, object] = {
        "Name": "Bent templates with lateral ventricles",
        "BIDSVersion": "1.10.0",
        "DatasetType": kind,
        "ReferencesAndLinks": ["https://doi.org/10.1016/j.neuroimage.2010.07.033"],
    }
    if kind == "derivative":
        description["GeneratedBy"] = [{"Name": "docs/tutorial/make_labelled_dataset.py"}]
    (folder / "dataset_description.json").write_text(json.dumps(description, indent=2), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_labelled_dataset.py DATASET")
    make_dataset(Path(sys.argv[1]))
    print(f"made {N_SUBJECTS} labelled scans in {sys.argv[1]}")
