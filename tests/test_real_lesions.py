"""The shipped lesion networks on real FLAIR scans: every session completes, or is skipped."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from bids_deepmrseg.cli.app import main
from bids_deepmrseg.imaging.nifti import read_grid, read_label_map
from bids_deepmrseg.imaging.register import read_transform

pytestmark = [pytest.mark.weights, pytest.mark.slow]

N_FLAIR = 5
N_WITHOUT = 4


@pytest.fixture(scope="session")
def lesions(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What participant and group level write for the raw dataset."""
    out = tmp_path_factory.mktemp("lesions")
    command = [str(shared_data / "rawbids"), str(out)]
    options = ["--n-procs", "1", "--omp-nthreads", "1", "--device", "cpu", "--fast"]
    assert main([*command, "participant", "--task", "wml", *options]) == 0
    assert main([*command, "group"]) == 0
    return out


def _table(derivatives: Path) -> pd.DataFrame:
    return pd.read_csv(derivatives / "group_wml.tsv", sep="\t")


def test_every_flair_is_done_and_everyone_else_is_skipped(lesions: Path) -> None:
    table = _table(lesions)
    assert (table["status"] == "done").sum() == N_FLAIR
    skipped = table[table["status"] == "skipped"]
    assert len(skipped) == N_WITHOUT
    assert skipped["reason"].str.startswith("no FLAIR scan").all()
    assert set(table["inputs"].dropna()) == {"FLAIR+T1w"}


def test_lesions_lie_on_the_grid_of_the_flair_and_are_counted_there(
    lesions: Path, shared_data: Path
) -> None:
    table = _table(lesions).set_index("participant_id")
    for file in sorted(lesions.rglob("*_seg-wml_dseg.nii.gz")):
        name = file.name.partition("_space-")[0] + "_FLAIR.nii.gz"
        scan = shared_data / "rawbids" / file.relative_to(lesions).parent / name
        dseg, grid = read_label_map(file)
        assert grid.matches(read_grid(scan)), name
        numbered, _ = read_label_map(Path(str(file).replace("_dseg", "_desc-lesions_dseg")))
        assert np.array_equal(numbered > 0, dseg == 1), name
        volume_mm3 = (dseg == 1).sum() * grid.voxel_volume_mm3
        row = table.loc[file.name.partition("_")[0]]
        assert row["total_mm3"] == pytest.approx(volume_mm3, abs=0.01)
        assert row["n_lesions"] == numbered.max() == ndimage.label(dseg, np.ones((3, 3, 3)))[1]
        assert 750e3 < row["brain_mm3"] < 1800e3, name


def test_the_t1w_was_laid_upon_the_flair_and_how_is_written(lesions: Path) -> None:
    files = sorted(lesions.rglob("*_from-T1w_to-FLAIR_mode-image_xfm.txt"))
    assert len(files) == N_FLAIR
    for file in files:
        matrix = read_transform(file)
        told = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        sidecar = next(file.parent.glob("*_seg-wml_dseg.json")).read_text(encoding="utf-8")
        registration = json.loads(sidecar)["DeepMRSeg"]["Registration"]
        assert np.allclose(matrix, registration["FixedToMovingMm"], atol=1e-6)
        assert registration["MutualInformationAfter"] >= registration["MutualInformationBefore"]
        assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
        assert "DeepMRSeg" in told
