"""Scans of a case come to one grid, and what is known of that is told and written."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import GeometryError, OutputError
from bids_deepmrseg.files import read_json
from bids_deepmrseg.imaging.register import read_transform
from bids_deepmrseg.records import Alignment, Case
from bids_deepmrseg.stages.align import (
    Aligned,
    align,
    doubts_of_inputs,
    doubts_of_overlap,
    recorded,
    write_alignment,
)
from tests.lesion_models import make_sessions, make_spot_case
from tests.makers import make_grid, open_nifti

XFM = "sub-01_ses-2_from-T1w_to-FLAIR_mode-image_xfm"
MOVED = Alignment(
    moving="T1w",
    fixed="FLAIR",
    matrix=(
        (1.0, 0.0, 0.0, 9.0),
        (0.0, 1.0, 0.0, 0.0),
        (0.0, 0.0, 1.0, -2.0),
        (0.0, 0.0, 0.0, 1.0),
    ),
    start="heads",
    metric_before=0.3,
    metric_after=0.8,
    overlap_before=0.7,
    overlap_after=0.95,
    covered=1.0,
    moved_mm=9.2,
    turned_deg=0.0,
    doubt=None,
)


@dataclass(frozen=True)
class Made:
    """What a provenance says."""

    registration: Alignment | None
    code_version: str = "0.4.0"


def case_of(folder: Path, geometries: tuple[str, str], *, shift_mm: float = 0.0) -> Case:
    names = (f"sub-01_ses-2_{suffix}.nii.gz" for suffix in ("FLAIR", "T1w"))
    make_sessions(folder, dict(zip(names, geometries, strict=True)), shift_mm=shift_mm)
    return make_spot_case(folder, "sub-01_ses-2")


def brain_of(case: Case) -> np.ndarray:
    return np.asanyarray(open_nifti(case.scans[0]).dataobj) > 60


def test_without_registration_scans_on_one_grid_are_taken_as_they_are(tmp_path: Path) -> None:
    case = case_of(tmp_path, ("LAS", "LAS"))
    aligned = align(case, brain_of(case), registration=False)
    for volume, file in zip(aligned.present, case.scans, strict=True):
        np.testing.assert_array_equal(volume, np.asanyarray(open_nifti(file).dataobj))
    assert (aligned.registrations, aligned.doubts) == ((), ())
    assert recorded(case, aligned) is None


def test_without_registration_scans_on_two_grids_are_refused(tmp_path: Path) -> None:
    case = case_of(tmp_path, ("RAS", "LAS"))
    with pytest.raises(GeometryError, match=r"T1w\.nii\.gz is not on the grid of .*FLAIR\.nii\.gz"):
        align(case, brain_of(case), registration=False)


def test_a_scan_from_elsewhere_is_laid_upon_the_first_and_that_is_recorded(tmp_path: Path) -> None:
    case = case_of(tmp_path, ("RAS", "LIA"), shift_mm=9.0)
    aligned = align(case, brain_of(case))
    flair, t1w = aligned.present
    assert flair.shape == t1w.shape == make_grid("RAS").shape
    assert np.mean((t1w > 60) == (flair > 60)) > 0.95
    found = recorded(case, aligned)
    assert found is not None
    assert (found.moving, found.fixed) == ("T1w", "FLAIR")
    assert found.matrix[0][3] == pytest.approx(9, abs=1.5)
    assert found.overlap_after > max(found.overlap_before, 0.95)


def test_what_a_scan_does_not_show_is_not_compared(tmp_path: Path) -> None:
    case = case_of(tmp_path, ("RAS", "RAS"), shift_mm=60.0)
    grid = make_grid("RAS")
    seen = np.zeros(grid.shape, bool)
    seen[:20] = True
    aligned = Aligned((), grid, (), (), seen)
    one = brain_of(case)
    other = one.copy()
    other[20:] = False
    assert aligned.overlap(one, other) == 1
    assert replace(aligned, seen=None).overlap(one, other) < 0.8
    assert aligned.overlap(np.zeros_like(one), np.zeros_like(one)) == 0


def test_brightness_is_evened_where_that_is_asked_for(tmp_path: Path) -> None:
    case = case_of(tmp_path, ("RAS", "RAS"))
    brain = brain_of(case)
    plain = align(case, brain, registration=False)
    evened = align(case, brain, registration=False, bias_correction=True)
    for before, after in zip(plain.present, evened.present, strict=True):
        ratio = after[brain] / before[brain]
        assert 0 < np.abs(ratio - 1).max() < 0.5


def test_a_flair_alone_has_an_empty_channel_and_a_doubt(tmp_path: Path) -> None:
    both = case_of(tmp_path, ("RAS", "RAS"))
    alone = replace(both, scans=both.scans[:1])
    aligned = align(alone, brain_of(alone))
    assert [volume is None for volume in aligned.volumes] == [False, True]
    (doubt,) = doubts_of_inputs(alone)
    assert doubt == (
        "no T1w scan: lesions were looked for in the FLAIR alone, which is less accurate "
        "(docs/accuracy.md)"
    )
    assert doubts_of_inputs(both) == ()


def test_brains_that_do_not_meet_are_a_doubt(tmp_path: Path) -> None:
    case = make_spot_case(tmp_path, "sub-01")
    assert doubts_of_overlap(case, None) == doubts_of_overlap(case, 0.97) == ()
    (doubt,) = doubts_of_overlap(case, 0.412)
    assert "in the FLAIR and in the T1w laid upon it overlap by a Dice of 0.41 only" in doubt


def test_the_movement_is_written_for_other_programs(tmp_path: Path) -> None:
    case = make_spot_case(tmp_path / "bids", "sub-01_ses-2")
    out = tmp_path / "out"
    file = write_alignment(case, Made(MOVED), out)
    assert file == Path("sub-01/ses-2/anat") / f"{XFM}.txt"
    np.testing.assert_allclose(read_transform(out / file), MOVED.matrix, atol=1e-12)
    sidecar = read_json((out / file).with_suffix(".json"))
    assert sidecar["Sources"] == [
        f"bids:raw:sub-01/ses-2/anat/sub-01_ses-2_{suffix}.nii.gz" for suffix in ("FLAIR", "T1w")
    ]
    told = sidecar["DeepMRSeg"]
    assert isinstance(told, dict)
    assert (told["MovedMm"], told["MutualInformationAfter"], told["Doubt"]) == (9.2, 0.8, None)
    assert write_alignment(case, Made(MOVED), out) == file


def test_a_movement_of_an_earlier_run_does_not_outlive_it(tmp_path: Path) -> None:
    case = make_spot_case(tmp_path / "bids", "sub-01_ses-2")
    assert write_alignment(case, Made(MOVED), tmp_path) is not None
    assert write_alignment(case, Made(None), tmp_path) is None
    assert not list(tmp_path.rglob("*_xfm.*"))


@pytest.mark.parametrize("ending", [".txt", ".json"])
def test_somebody_elses_transform_is_left_as_it_is(tmp_path: Path, ending: str) -> None:
    case = make_spot_case(tmp_path / "bids", "sub-01_ses-2")
    file = tmp_path / "sub-01" / "ses-2" / "anat" / f"{XFM}{ending}"
    file.parent.mkdir(parents=True)
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match="was not written by deepmrseg"):
        write_alignment(case, Made(MOVED), tmp_path)
    assert write_alignment(case, Made(None), tmp_path) is None
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    assert file.read_text(encoding="utf-8") == "{}"
