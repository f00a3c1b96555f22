"""Lay out the Decathlon's hippocampus crops as a BIDS dataset with persons and label maps.

The Decathlon (Task04) numbers crops, not persons. Crops 2 k - 1 and 2 k are the two sides of
one scan (docs/decisions/0008): here they become runs 1 and 2 of one subject, so that folds by
subject keep them together. Images and labels are copied as they are.
"""

import json
import re
import shutil
import sys
from pathlib import Path


def lay_out(decathlon: Path, dataset: Path) -> int:
    """Copy every crop that has labels; the number of crops."""
    description = {"Name": "Decathlon Task04 hippocampus crops", "BIDSVersion": "1.10.0"}
    dataset.mkdir(parents=True, exist_ok=True)
    (dataset / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n")
    images = "images" if (decathlon / "images").is_dir() else "imagesTr"
    labels = decathlon / images.replace("images", "labels")
    crops = sorted((decathlon / images).glob("hippocampus_*.nii.gz"))
    for image in crops:
        number = int(re.findall(r"\d+", image.name)[0])
        person, run = (number + 1) // 2, (number + 1) % 2 + 1
        anat = dataset / f"sub-{person:03d}" / "anat"
        anat.mkdir(parents=True, exist_ok=True)
        stem = f"sub-{person:03d}_run-{run}"
        shutil.copyfile(image, anat / f"{stem}_T1w.nii.gz")
        shutil.copyfile(labels / image.name, anat / f"{stem}_dseg.nii.gz")
    return len(crops)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: make_hippocampus_dataset.py DECATHLON DATASET")
    print(f"{lay_out(Path(sys.argv[1]), Path(sys.argv[2]))} crops laid out in {sys.argv[2]}")
