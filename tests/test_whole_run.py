"""From a dataset to tables, as users run it: one run of the command, and the laws that it keeps."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.cli.app import main
from bids_deepmrseg.files import read_json, read_tsv
from bids_deepmrseg.records import Outcome
from bids_deepmrseg.stages.status import read_status
from tests.makers import (
    bids_path,
    make_dataset,
    make_grid,
    make_head,
    make_model_folder,
    make_task,
    open_nifti,
    write_nifti,
)

GOOD = {
    "sub-01_ses-1_run-1_T1w.nii.gz": "RAS",
    "sub-01_ses-1_run-2_T1w.nii.gz": "oblique",
    "sub-01_ses-2_T1w.nii": "LPS",
    "sub-02_acq-thick_T1w.nii.gz": "anisotropic",
    "sub-02_T1w.nii.gz": "LAS",
    "sub-03_T1w.nii": "odd",
}
BAD = {
    "sub-11_T1w.nii.gz": "truncated or damaged",
    "sub-12_T1w.nii.gz": "4 dimensions",
    "sub-13_T1w.nii.gz": "NaN",
}


@dataclass(frozen=True)
class Finished:
    """A participant level run and the group level behind it."""

    raw: Path
    out: Path
    exit_codes: tuple[int, int]
    outcomes: tuple[Outcome, ...]


def make_bad_scans(raw: Path) -> None:
    """A truncated scan, a series of volumes, and one with a voxel that is no number."""
    truncated, series, not_a_number = (raw / bids_path(name) for name in BAD)
    truncated.write_bytes(truncated.read_bytes()[:2000])
    grid = make_grid()
    head = make_head(grid)
    write_nifti(series, np.stack([head, head], axis=-1), grid.affine)
    head[3, 4, 5] = np.nan
    write_nifti(not_a_number, head, grid.affine)


def command(
    raw: Path, out: Path, models: Path, *flags: str, level: str = "participant"
) -> list[str]:
    """Arguments of the command."""
    return [str(raw), str(out), level, "--models-dir", str(models), "--task", "tiny", *flags]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run over good and bad scans, two processes, with probabilities."""
    folder = tmp_path_factory.mktemp("whole")
    raw = make_dataset(folder / "bids", GOOD | dict.fromkeys(BAD, "RAS"), participants=True)
    make_bad_scans(raw)
    make_model_folder(folder / "models", make_task(indices=(1, 2, 300)))
    out = folder / "out"
    flags = ("--write-probabilities", "--n-procs", "2", "--omp-nthreads", "1", "--mem-gb", "8")
    participant = main(command(raw, out, folder / "models", *flags))
    group = main(command(raw, out, folder / "models", level="group"))
    (log_dir,) = (out / "logs").iterdir()
    return Finished(raw, out, (participant, group), read_status(log_dir / "status.tsv"))


def dseg_of(finished: Finished, name: str) -> Path:
    """The label map of a scan."""
    source = bids_path(name).as_posix()
    (outcome,) = (one for one in finished.outcomes if one.source == source)
    return finished.out / outcome.dseg


def test_every_scan_has_a_row_and_bad_ones_stop_no_other(finished: Finished) -> None:
    statuses = {Path(one.source).name: one.status for one in finished.outcomes}
    assert statuses == dict.fromkeys(GOOD, "done") | dict.fromkeys(BAD, "failed")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_scan_is_told_in_a_sentence_that_names_it(finished: Finished, name: str) -> None:
    source = bids_path(name).as_posix()
    (outcome,) = (one for one in finished.outcomes if one.source == source)
    assert source in outcome.reason
    assert BAD[name] in outcome.reason
    assert "Traceback" not in outcome.reason


def test_exit_code_and_status_table_tell_the_same(finished: Finished) -> None:
    assert finished.exit_codes == (1, 0)


@pytest.mark.parametrize("name", GOOD)
def test_shape_and_affine_of_a_label_map_equal_its_scans(finished: Finished, name: str) -> None:
    scan, image = open_nifti(finished.raw / bids_path(name)), open_nifti(dseg_of(finished, name))
    assert image.shape == scan.shape
    np.testing.assert_array_equal(image.affine, scan.affine)
    for form in ("qform_code", "sform_code"):
        assert image.header[form] == scan.header[form]
    assert set(np.unique(np.asanyarray(image.dataobj)).tolist()) <= {0, 1, 2, 300}


@pytest.mark.parametrize("name", GOOD)
def test_volumes_of_the_table_are_those_of_the_label_map(finished: Finished, name: str) -> None:
    image = open_nifti(dseg_of(finished, name))
    labels = np.asanyarray(image.dataobj)
    voxel_mm3 = abs(np.linalg.det(image.affine[:3, :3]))
    for row in read_tsv(Path(str(dseg_of(finished, name)).replace(".nii.gz", ".tsv")))[1]:
        n_voxels = np.count_nonzero(labels == int(row["index"]))
        assert int(row["n_voxels"]) == n_voxels
        assert float(row["volume_mm3"]) == pytest.approx(n_voxels * voxel_mm3, abs=1e-3)


def test_every_uri_of_every_sidecar_resolves(finished: Finished) -> None:
    links = read_json(finished.out / "dataset_description.json")["DatasetLinks"]
    assert isinstance(links, dict)
    raw = finished.out / str(links["raw"])
    uris = []
    for sidecar in finished.out.rglob("anat/*.json"):
        content = read_json(sidecar)
        assert isinstance(content["Sources"], list)
        uris += [*content["Sources"], content["SpatialReference"]]
    assert len(uris) == 4 * len(GOOD)
    for uri in uris:
        assert isinstance(uri, str)
        assert (raw / uri.removeprefix("bids:raw:")).is_file(), uri


def test_the_output_is_bids_without_an_error_or_a_warning(finished: Finished) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    answer = subprocess.run(
        [validator, str(finished.out), "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(answer.stdout)["issues"]["issues"]
    assert [(one["code"], one.get("location"), one["severity"]) for one in issues] == []
    assert answer.returncode == 0


def test_the_group_table_has_a_row_per_scan_with_reasons(finished: Finished) -> None:
    _, rows = read_tsv(finished.out / "group_tiny.tsv")
    assert {Path(row["source"]).name for row in rows} == GOOD.keys() | BAD.keys()
    for row in rows:
        failed = Path(row["source"]).name in BAD
        assert row["status"] == ("failed" if failed else "done")
        assert (row["left_blob_mm3"] == "n/a") is failed


def test_every_label_map_has_a_picture(finished: Finished) -> None:
    assert len(list(finished.out.glob("sub-*/figures/*.png"))) == len(GOOD)


def test_only_participants_with_results_are_listed_with_what_is_known(finished: Finished) -> None:
    columns, rows = read_tsv(finished.out / "participants.tsv")
    assert columns == ("participant_id", "age", "sex")
    assert [row["participant_id"] for row in rows] == ["sub-01", "sub-02", "sub-03"]


def test_the_input_dataset_is_untouched(finished: Finished, tmp_path: Path) -> None:
    fresh = make_dataset(tmp_path / "fresh", GOOD | dict.fromkeys(BAD, "RAS"), participants=True)
    make_bad_scans(fresh)
    before, after = (
        {file.relative_to(root) for file in root.rglob("*")} for root in (fresh, finished.raw)
    )
    assert after == before


def test_nothing_that_the_app_wrote_names_a_folder_of_this_machine(finished: Finished) -> None:
    shared = [
        file
        for file in finished.out.rglob("*")
        if file.suffix in {".json", ".tsv", ".md"} and "logs" not in file.parts
    ]
    assert shared
    for file in shared:
        assert str(finished.raw.parent) not in file.read_text(encoding="utf-8"), file


def test_two_runs_at_the_same_time_into_one_folder_both_succeed(tmp_path: Path) -> None:
    scans = ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz")
    raw = make_dataset(tmp_path / "bids", scans)
    make_model_folder(tmp_path / "models")
    out = tmp_path / "out"
    bare = {**os.environ, "HOME": str(tmp_path / "no" / "home")}
    runs = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from bids_deepmrseg.cli.app import entry; entry()",
                *command(raw, out, tmp_path / "models", "--participant-label", label),
            ],
            env=bare,
            stderr=subprocess.PIPE,
            text=True,
        )
        for label in ("01", "sub-02")
    ]
    messages = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], messages
    assert not (tmp_path / "no").exists()
    listed = [row["participant_id"] for row in read_tsv(out / "participants.tsv")[1]]
    assert listed == ["sub-01", "sub-02"]
    assert len(list((out / "logs").iterdir())) == 2
    assert main(command(raw, out, tmp_path / "models", level="group")) == 0
    assert [row["status"] for row in read_tsv(out / "group_tiny.tsv")[1]] == ["done", "done"]
