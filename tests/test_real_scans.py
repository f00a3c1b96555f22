"""The shipped weights on real scans: every case completes, every label is in the right place."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import ndimage

from bids_deepmrseg.cli.app import main
from bids_deepmrseg.evaluation.whole import Models, segment_scan
from bids_deepmrseg.imaging.nifti import read_grid, read_label_map, read_scan
from bids_deepmrseg.records import Case
from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task
from bids_deepmrseg.tasks import Task

pytestmark = [pytest.mark.weights, pytest.mark.slow]

N_SCANS = 9
CLEAR = ("forrest", "pumi", "stripped01", "stripped02")


@pytest.fixture(scope="session")
def task() -> Task:
    """The built-in deepbrain task."""
    return read_task(find_named_model_folder("deepbrain") / TASK_FILE)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of all runs, so that no scan is segmented twice."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def derivatives(shared_data: Path, work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What participant and group level write for the raw dataset."""
    out = tmp_path_factory.mktemp("derivatives")
    command = [str(shared_data / "rawbids"), str(out)]
    options = ["-w", str(work), "--n-procs", "2", "--omp-nthreads", "1", "--device", "cpu"]
    assert main([*command, "participant", "--task", "deepbrain", *options]) == 0
    assert main([*command, "group"]) == 0
    return out


@pytest.fixture(scope="session")
def hippocampi(
    shared_data: Path, derivatives: Path, work: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Hippocampi of the scans with enough contrast, after their deep structures were found."""
    assert derivatives.is_dir()
    out = tmp_path_factory.mktemp("hippocampi")
    options = ["-w", str(work), "--n-procs", "2", "--omp-nthreads", "1", "--device", "cpu"]
    command = [str(shared_data / "rawbids"), str(out), "participant", "--task", "hippocampus"]
    assert main([*command, *options, "--participant-label", *CLEAR]) == 0
    return out


def _sides_mm(dseg: npt.NDArray[np.int32], affine: npt.NDArray[np.float64], index: int) -> float:
    """Mean position of a label from left (negative) to right, in scanner millimetres."""
    middle = np.argwhere(dseg == index).mean(axis=0)
    return float((affine @ np.append(middle, 1))[0])


def _segmented(scan: Path, task: Task) -> npt.NDArray[np.uint16]:
    """The label map of one scan, by the plain stages, the brain first."""
    case = Case(task=task, bids_dir=scan.parents[2], scans=(scan,), entities=(("sub", "x"),))
    return segment_scan(case, Models(models_dir=None, device="cpu"))[-1].dseg


def test_every_scan_is_done_and_has_a_row(derivatives: Path) -> None:
    table = pd.read_csv(derivatives / "group_deepbrain.tsv", sep="\t")
    assert len(table) == N_SCANS
    assert set(table["status"]) == {"done"}


def test_label_maps_lie_on_the_grid_of_their_scans(derivatives: Path, shared_data: Path) -> None:
    maps = sorted(derivatives.rglob("*_dseg.nii.gz"))
    assert len(maps) == N_SCANS
    for file in maps:
        relative = file.relative_to(derivatives)
        name = file.name.partition("_space-")[0] + "_T1w.nii.gz"
        scan = read_grid(shared_data / "rawbids" / relative.parent / name)
        grid = read_grid(file)
        assert grid.shape == scan.shape, file.name
        assert np.array_equal(grid.affine, scan.affine), file.name


def test_left_is_left_and_volumes_are_those_of_adults(derivatives: Path, task: Task) -> None:
    for file in sorted(derivatives.rglob("*_dseg.nii.gz")):
        dseg, grid = read_label_map(file)
        for label in task.labels:
            volume_ml = (dseg == label.index).sum() * grid.voxel_volume_mm3 / 1000
            assert label.adult_range is not None
            assert label.adult_range.low_ml <= volume_ml <= label.adult_range.high_ml, (
                f"{file.name}: {label.name} {volume_ml:.2f} ml"
            )
            if label.name.startswith("Left"):
                left = _sides_mm(dseg, grid.affine, label.index)
                right = _sides_mm(dseg, grid.affine, label.mirror)
                assert left + 8 < right, f"{file.name}: {label.name}"


def test_stripped_scans_have_no_label_outside_the_brain(
    derivatives: Path, shared_data: Path
) -> None:
    for subject in ("sub-stripped01", "sub-stripped02"):
        scan = read_scan(shared_data / "rawbids" / subject / "anat" / f"{subject}_T1w.nii.gz")
        dseg, _ = read_label_map(next((derivatives / subject).rglob("*_dseg.nii.gz")))
        brain = ndimage.binary_closing(scan.data > 0, iterations=2)
        assert not ((dseg > 0) & ~brain).any(), subject


@pytest.mark.parametrize("subject", ["sub-0002", "sub-0003", "sub-0004"])
def test_whole_heads_have_no_label_outside_the_brain(
    shared_data: Path, task: Task, subject: str
) -> None:
    anat = shared_data / "asegheads" / subject / "anat"
    aseg, _ = read_label_map(anat / f"{subject}_desc-aseg_dseg.nii.gz")
    # automatic labels leave out the fluid between gyri
    brain = ndimage.binary_closing(np.pad(aseg > 0, 12), iterations=10)[12:-12, 12:-12, 12:-12]
    dseg = _segmented(anat / f"{subject}_T1w.nii.gz", task)
    assert (dseg > 0).any()
    assert not ((dseg > 0) & ~brain).any()


def test_each_half_of_each_hippocampus_is_on_its_side_and_its_end(hippocampi: Path) -> None:
    maps = sorted(hippocampi.rglob("*_seg-hippocampus_dseg.nii.gz"))
    assert len(maps) == len(CLEAR)
    for file in maps:
        dseg, grid = read_label_map(file)
        assert set(np.unique(dseg)) == {0, 1, 2, 3, 4}, file.name
        at_mm = {
            index: (grid.affine @ np.append(np.argwhere(dseg == index).mean(axis=0), 1))[:3]
            for index in range(1, 5)
        }
        for anterior, posterior in ((1, 2), (3, 4)):
            assert at_mm[anterior][1] > at_mm[posterior][1] + 8, file.name
            assert at_mm[anterior][2] < at_mm[posterior][2], file.name
        assert at_mm[1][0] + 30 < at_mm[3][0], f"{file.name}: left is left"
        volumes_ml = [(dseg == i).sum() * grid.voxel_volume_mm3 / 1000 for i in range(1, 5)]
        assert min(volumes_ml) > 1, file.name
        assert max(volumes_ml) < 3, file.name


def test_both_tasks_agree_about_where_hippocampi_are(hippocampi: Path, derivatives: Path) -> None:
    for file in sorted(hippocampi.rglob("*_seg-hippocampus_dseg.nii.gz")):
        name = file.name.replace("seg-hippocampus", "seg-deepbrain")
        parts, _ = read_label_map(file)
        whole, _ = read_label_map(derivatives / file.relative_to(hippocampi).with_name(name))
        for labels, index in (((1, 2), 48), ((3, 4), 47)):
            one, other = np.isin(parts, labels), whole == index
            assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.7, file.name
