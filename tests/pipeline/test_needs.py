"""What jobs ask for is what was measured, and enough for every scan that was."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_deepmrseg.files import read_tsv
from bids_deepmrseg.pipeline.needs import (
    NEEDS_FILE,
    estimate_cpu_s,
    estimate_memory_gb,
    find_locators,
    read_needs,
)
from bids_deepmrseg.records import Case
from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, find_tasks, read_task

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = REPOSITORY / "docs" / "benchmarks" / "needs.tsv"
ROWS = [row for row in read_tsv(TABLE)[1] if row["tasks"] != "start"]
SUFFIXES = {"flairbrain": ("FLAIR", "T1w"), "wml": ("FLAIR", "T1w")}


def name_of(row: dict[str, str]) -> str:
    kept = " with probabilities" if row["probabilities"] == "yes" else ""
    side = f"{row['n_cases']} cases of {row['n_threads']} threads{kept}"
    return f"{row['tasks']} on {row['scan']}, {side}"


def cases_of(row: dict[str, str], folder: Path) -> list[Case]:
    """The cases of a measured run, on scans of the same grids that hold nothing."""
    scans = []
    for number, (voxels, spacing) in enumerate(
        zip(row["voxels"].split(), row["spacing_mm"].split(), strict=True)
    ):
        file = folder / f"{number}.nii"
        header = nib.Nifti1Header()
        header.set_data_shape([int(n) for n in voxels.split("x")])
        header.set_data_dtype(np.uint8)
        affine = np.diag([*(float(mm) for mm in spacing.split("x")), 1.0])
        header.set_sform(affine, code=1)
        with file.open("wb") as stream:
            header.write_to(stream)
            stream.truncate(int(header["vox_offset"]) + int(np.prod(header.get_data_shape())))
        scans.append(file)
    tasks = [read_task(find_named_model_folder(name) / TASK_FILE) for name in row["tasks"].split()]
    return [
        Case(
            task=task,
            bids_dir=folder,
            scans=tuple(scans[: len(task.channels)]),
            entities=(("sub", "1"),),
        )
        for task in tasks
    ]


def test_the_needs_are_those_of_the_table() -> None:
    made = subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks" / "render_needs.py", TABLE],
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == NEEDS_FILE.read_text(encoding="utf-8")


def test_every_shipped_task_was_measured() -> None:
    assert {task.name for task in find_tasks(None)} == set(read_needs().segmented)


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_the_memory_of_a_case_is_enough_for_every_measured_run(
    tmp_path: Path, row: dict[str, str]
) -> None:
    keep = row["probabilities"] == "yes"
    cases = cases_of(row, tmp_path)
    locators = find_locators([case.task for case in cases], None)
    estimate_gb = max(
        estimate_memory_gb(one, keep_probabilities=keep and one is case)
        for case in cases
        for one in (case, *locators.of(case))
    )
    n_cases, n_threads = int(row["n_cases"]), int(row["n_threads"])
    run_gb = read_needs().run_gb(n_cases * n_threads)
    assert float(row["process_gb"]) <= estimate_gb
    assert float(row["tree_gb"]) <= n_cases * estimate_gb + run_gb


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=name_of(row))
        for row in ROWS
        if row["n_threads"] == row["n_cases"] == "1" and row["probabilities"] == "no"
    ],
)
def test_the_time_of_a_case_is_enough_for_every_measured_run(
    tmp_path: Path, row: dict[str, str]
) -> None:
    cases = cases_of(row, tmp_path)
    locators = find_locators([case.task for case in cases], None)
    expected_s = read_needs().start_s + estimate_cpu_s(cases, locators)
    assert 0.9 * float(row["cpu_s"]) <= expected_s <= 2 * float(row["cpu_s"])


def test_the_time_grows_with_scans_and_tasks(tmp_path: Path) -> None:
    row = {"voxels": "100x100x100", "spacing_mm": "2x2x2", "tasks": "brainmask deepbrain"}
    (tmp_path / "large").mkdir()
    small = cases_of(row, tmp_path)
    large = cases_of({**row, "voxels": "400x400x400"}, tmp_path / "large")
    locators = find_locators([case.task for case in small], None)
    brain, both, bigger = (estimate_cpu_s(cases, locators) for cases in (small[:1], small, large))
    assert brain < both < bigger


def test_threads_of_one_case_gain_less_than_cases_side_by_side() -> None:
    needs = read_needs()
    assert needs.efficiency(1) == 1
    speeds = [n * needs.efficiency(n) for n in (1, 2, 4, 8)]
    assert speeds == sorted(speeds)
    assert needs.efficiency(8) < needs.efficiency(2) < 1
