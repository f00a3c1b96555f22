"""Make a BIDS dataset of one subject from the MNI152 T1 template that nilearn brings along."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.datasets import load_mni152_template

SUBJECT = "sub-mni152"
DESCRIPTION = {
    "Name": "The ICBM 2009a template as if it were a subject",
    "BIDSVersion": "1.10.0",
    "DatasetType": "raw",
    "ReferencesAndLinks": ["https://doi.org/10.1016/j.neuroimage.2010.07.033"],
}
README = """One subject: the MNI152 T1 template (ICBM 2009a, Fonov et al. 2011), 1 mm, no skull,
as nilearn carries it in its package. It is an average of many heads, no person's scan.
Made for a demonstration of bids-deepmrseg.
"""


def make_dataset(bids_dir: Path) -> Path:
    """Write the dataset and return its T1w scan, 8 bit, on the template's own 1 mm grid."""
    scan = bids_dir / SUBJECT / "anat" / f"{SUBJECT}_T1w.nii.gz"
    scan.parent.mkdir(parents=True, exist_ok=True)
    template = load_mni152_template(resolution=1)
    intensities = np.rint(255 * template.get_fdata()).astype(np.uint8)
    image = nib.Nifti1Image(intensities, template.affine)
    image.header.set_xyzt_units(xyz="mm")
    nib.save(image, scan)
    (bids_dir / "dataset_description.json").write_text(json.dumps(DESCRIPTION, indent=2), "utf-8")
    (bids_dir / "README").write_text(README, "utf-8")
    return scan


if __name__ == "__main__":
    print(f"made {make_dataset(Path(sys.argv[1]))}")
