"""What the voxels of label maps and masks mean."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.selection.references import read_reference
from tests.makers import make_grid, make_task, write_nifti
from tests.regions import make_region_task

TASK = make_task()
LESION = replace(TASK, labels=(replace(TASK.labels[2], index=7, mirror=7),))
GRID = make_grid("LPS")


def write(folder: Path, name: str, *values: float, dtype: type = np.float32) -> Path:
    """A map that is 0 but for its first voxels."""
    data: npt.NDArray[np.generic] = np.zeros(GRID.shape, dtype)
    data.reshape(-1)[: len(values)] = values
    return write_nifti(folder / name, data, GRID.affine)


@pytest.mark.parametrize("value", [1, 7, 255])
def test_the_value_of_a_mask_means_the_one_label(tmp_path: Path, value: int) -> None:
    file = write(tmp_path, "sub-1_label-lesion_mask.nii.gz", value, 0, value, dtype=np.uint8)
    values, grid = read_reference(file, LESION)
    assert values.reshape(-1)[:4].tolist() == [7, 0, 7, 0]
    assert grid.matches(GRID)


def test_an_empty_mask_is_a_mask(tmp_path: Path) -> None:
    assert not read_reference(write(tmp_path, "sub-1_mask.nii.gz"), LESION)[0].any()


def test_label_maps_keep_their_numbers(tmp_path: Path) -> None:
    values, _ = read_reference(write(tmp_path, "sub-1_dseg.nii.gz", 1, 2, 99), LESION)
    assert values.reshape(-1)[:4].tolist() == [1, 2, 99, 0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((0.2, 0.9), "probabilities need a threshold first"),
        ((1, 2), "holds the values 1, 2 besides 0"),
        ((-1, 0), "holds the value -1"),
    ],
)
def test_what_is_no_mask_is_refused(
    tmp_path: Path, values: tuple[float, ...], sentence: str
) -> None:
    with pytest.raises(InputDataError, match=sentence):
        read_reference(write(tmp_path, "sub-1_mask.nii.gz", *values), LESION)


def test_a_mask_cannot_show_several_labels(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="is a mask, and the task tiny has 3 labels"):
        read_reference(write(tmp_path, "sub-1_mask.nii.gz", 1), TASK)


def test_landmarks_do_not_count_as_labels_of_a_mask(tmp_path: Path) -> None:
    (label,) = LESION.labels
    part = replace(label, index=8, mirror=8, part_of=7)
    file = write(tmp_path, "sub-1_mask.nii.gz", 1)
    assert read_reference(file, replace(LESION, landmarks=(part,)))[0].reshape(-1)[0] == 7


def test_a_mask_of_a_whole_scan_does_not_say_which_place_it_is(tmp_path: Path) -> None:
    task = make_region_task()
    assert task.region is not None
    left, right = task.region.places
    places = (replace(left, labels=(11,)), replace(right, labels=(13,)))
    crops = replace(task, labels=task.labels[::2], region=replace(task.region, places=places))
    assert crops.region is not None
    file = write(tmp_path, "sub-1_mask.nii.gz", 1)
    assert read_reference(file, crops)[0].reshape(-1)[0] == 11
    scans = replace(crops, region=replace(crops.region, trained_on="scans"))
    with pytest.raises(InputDataError, match="is a mask, and the task part has 2 labels"):
        read_reference(file, scans)
