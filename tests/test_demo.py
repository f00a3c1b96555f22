"""The demonstration's FLAIR is what its sidecar says, and what was painted is told beside finds."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.files import write_tsv
from bids_deepmrseg.imaging.nifti import read_scan
from tests.lesion_cases import make_lesion_case, write_found
from tests.makers import make_dataset

DEMO = Path(__file__).resolve().parents[1] / "docs" / "demo"
needs_nilearn = pytest.mark.skipif(
    find_spec("nilearn") is None, reason="the demonstration needs nilearn, of the extra demo"
)


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the demonstration's scripts, as make runs it."""
    command = [sys.executable, str(DEMO / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset that the demonstration makes."""
    folder = tmp_path_factory.mktemp("demo") / "bids"
    made = run("make_dataset.py", str(folder))
    assert made.returncode == 0, made.stderr
    return folder


@needs_nilearn
@pytest.mark.slow
def test_six_lesions_are_bright_where_the_sidecar_says_and_nowhere_else(demo: Path) -> None:
    anat = demo / "sub-mni152" / "anat"
    flair = read_scan(anat / "sub-mni152_FLAIR.nii.gz")
    painted = json.loads((anat / "sub-mni152_FLAIR.json").read_text("utf-8"))["PaintedLesions"]
    volumes = [one["VolumeMm3"] for one in painted]
    assert volumes == sorted(volumes, reverse=True)
    assert len(set(volumes)) == 6
    tissue = float(np.median(flair.data[flair.data > 300]))
    far = np.ones(flair.grid.shape, dtype=bool)
    ijk = np.indices(flair.grid.shape).reshape(3, -1)
    xyz_mm = flair.grid.affine[:3, :3] @ ijk + flair.grid.affine[:3, 3:]
    for one in painted:
        away_mm = np.linalg.norm(xyz_mm - np.reshape(one["CentreMm"], (3, 1)), axis=0)
        near = away_mm.reshape(flair.grid.shape) < 6
        assert flair.data[near].max() > 1.2 * tissue
        far &= away_mm.reshape(flair.grid.shape) > 16
    assert np.percentile(flair.data[far], 99.99) < 1.4 * tissue


@needs_nilearn
@pytest.mark.slow
def test_slices_are_thick_tilted_and_the_dataset_says_that_it_is_simulated(demo: Path) -> None:
    flair = read_scan(demo / "sub-mni152" / "anat" / "sub-mni152_FLAIR.nii.gz")
    assert flair.grid.spacing_mm == pytest.approx((1, 1, 5), abs=1e-5)
    assert abs(flair.grid.affine[1, 2]) > 0.1
    assert "SIMULATED" in (demo / "README").read_text("utf-8")
    sidecar = json.loads(next(demo.rglob("*_FLAIR.json")).read_text("utf-8"))
    assert sidecar["Description"].startswith("Simulated")


@needs_nilearn
@pytest.mark.slow
def test_the_dataset_is_bids_without_an_error(demo: Path) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    answer = subprocess.run(
        [validator, str(demo), "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(answer.stdout)["issues"]["issues"]
    assert [one for one in issues if one["severity"] == "error"] == []


def make_finished(folder: Path) -> Path:
    """An output folder in which lesions were found, one of them where one was painted."""
    name = "sub-01_FLAIR.nii.gz"
    raw = make_dataset(folder / "bids", {name: "anisotropic"})
    case = make_lesion_case(raw, name, with_t1w=False)
    _, dseg = write_found(case, folder / "out")
    x, y, z, _ = read_scan(case.scans[0]).grid.affine @ [21, 31, 8.5, 1]
    painted = [
        {"CentreMm": [x + 2, y - 2, z], "VolumeMm3": 1234.0},
        {"CentreMm": [x - 60, y, z], "VolumeMm3": 80.0},
    ]
    sidecar = case.scans[0].with_name("sub-01_FLAIR.json")
    sidecar.write_text(json.dumps({"PaintedLesions": painted}), encoding="utf-8")
    description = {"DatasetLinks": {"raw": "../bids"}}
    (folder / "out" / "dataset_description.json").write_text(json.dumps(description), "utf-8")
    columns = ("task", "status", "name", "volume_mm3", "brain_mm3", "fraction_of_brain")
    cells = ("spots", "done", "Spot", "1100", "1100000", "0.001")
    rows = [dict(zip(columns, cells, strict=True))]
    for table in ("group_spots.tsv", "group_volumes.tsv"):
        write_tsv(folder / "out" / table, columns, rows)
    return dseg


def test_painted_and_found_volumes_stand_side_by_side(tmp_path: Path) -> None:
    make_finished(tmp_path)
    told = run("show_results.py", str(tmp_path / "out"))
    assert told.returncode == 0, told.stderr
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["1", "1.23", "ml", "0.90", "ml"] in lines
    assert ["2", "0.08", "ml", "nothing"] in lines
    assert "elsewhere, where none is: 1, 0.20 ml" in told.stdout
    assert told.stdout.count("Volumes in the MNI152 template") == 1


def test_a_demonstration_without_its_label_map_is_said_to_have_failed(tmp_path: Path) -> None:
    make_finished(tmp_path).unlink()
    told = run("show_results.py", str(tmp_path / "out"))
    assert told.returncode == 1
    assert "the demonstration failed" in told.stderr
