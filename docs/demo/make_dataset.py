"""Make a BIDS dataset of one subject from the MNI152 template that nilearn brings along."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.datasets import load_mni152_template
from simulate_flair import write_flair

SUBJECT = "sub-mni152"
DESCRIPTION = {
    "Name": "The ICBM 2009a template as if it were a subject",
    "BIDSVersion": "1.10.0",
    "DatasetType": "raw",
    "ReferencesAndLinks": ["https://doi.org/10.1016/j.neuroimage.2010.07.033"],
}
README = """One subject. Its T1w is the MNI152 T1 template (ICBM 2009a, Fonov et al. 2011), 1 mm, no
skull, as nilearn carries it in its package. It is an average of many heads, no person's scan.

Its FLAIR is SIMULATED from the tissue maps of the same template, in slices of 5 mm, of a head
that moved a little since. Six lesions were PAINTED into its white matter: where, and how large,
stands in the JSON file beside it. What a program finds in it says nothing on how well it does in
patients.

Made for a demonstration of bids-deepmrseg.
"""


def make_dataset(bids_dir: Path) -> tuple[Path, Path]:
    """Write the dataset; return its T1w, 8 bit on the template's 1 mm grid, and its FLAIR."""
    anat = bids_dir / SUBJECT / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    t1w, flair = (anat / f"{SUBJECT}_{suffix}.nii.gz" for suffix in ("T1w", "FLAIR"))
    template = load_mni152_template(resolution=1)
    intensities = np.rint(255 * template.get_fdata()).astype(np.uint8)
    image = nib.Nifti1Image(intensities, template.affine)
    image.header.set_xyzt_units(xyz="mm")
    nib.save(image, t1w)
    write_flair(template, flair)
    (bids_dir / "dataset_description.json").write_text(json.dumps(DESCRIPTION, indent=2), "utf-8")
    (bids_dir / "README").write_text(README, "utf-8")
    return t1w, flair


if __name__ == "__main__":
    t1w, flair = make_dataset(Path(sys.argv[1]))
    print(f"made {t1w}\nsimulated, with painted lesions, {flair}")
