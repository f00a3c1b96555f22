"""The app's own stages against labels: a perfect reference scores 1, a strange one is refused."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import InputDataError, UsageError
from bids_deepmrseg.evaluation.compare import (
    compare_maps,
    evaluate,
    reference_numbers,
)
from bids_deepmrseg.evaluation.results import Result
from bids_deepmrseg.evaluation.whole import Models
from bids_deepmrseg.imaging.nifti import read_scan, write_like
from bids_deepmrseg.selection.labelled import LabelledScan, find_labelled
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.stages.segment import segment
from tests.evaluation.made import IDENTITY
from tests.makers import bids_path, make_dataset, make_model_folder, make_task

TASK = make_task()
SCANS = {"sub-01_T1w.nii.gz": "LAS", "sub-02_T1w.nii.gz": "oblique"}


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two scans, each with a label map of zeros beside it."""
    raw = make_dataset(tmp_path / "labelled", SCANS)
    for name in SCANS:
        scan = raw / bids_path(name)
        nothing = np.zeros(read_scan(scan).grid.shape, np.uint8)
        write_like(scan, nothing, scan.with_name(name.replace("_T1w", "_dseg")))
    return raw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model_folder(tmp_path / "models")


def run(
    scans: tuple[LabelledScan, ...], folder: Path, on_scan: Callable[[str], None]
) -> tuple[Result, ...]:
    return evaluate(
        scans,
        folder,
        dataset="made",
        freesurfer=False,
        models=Models(models_dir=None, device="cpu"),
        on_scan=on_scan,
    ).results


def test_the_apps_own_answer_as_reference_scores_1(labelled: Path, folder: Path) -> None:
    cases = find_labelled(labelled, TASK)
    for labelled_case in cases:
        case = labelled_case.case
        answer = restore(segment(prepare(case), folder, TASK, device="cpu"), TASK)
        write_like(case.scans[0], answer.dseg, labelled_case.reference)
    told: list[str] = []
    results = run(cases, folder, told.append)
    assert told == ["sub-01", "sub-02"]
    assert len(results) == 2 * len(TASK.labels)
    for result in results:
        assert (result.f1, result.f2, result.bacc) == (1, 1, 1)
        assert (result.hd95_mm, result.asd_mm) == (0, 0)
        assert (result.network, result.ensemble) == ("deepmrseg", "axial")
        assert (result.repeat, result.fold, result.scan) == (1, 1, result.subject)
        assert result.volume_ml == pytest.approx(result.reference_volume_ml)
        assert result.volume_ml > 0


def test_a_reference_on_another_grid_is_refused(labelled: Path, folder: Path) -> None:
    cases = find_labelled(labelled, TASK)
    other = replace(cases[0], reference=cases[1].reference)
    with pytest.raises(InputDataError, match="is not on the grid of"):
        run((other,), folder, print)


def test_maps_are_compared_label_by_label() -> None:
    dseg = np.zeros((4, 4, 4), int)
    reference = np.zeros((4, 4, 4), int)
    dseg[0], reference[0] = 1, 1
    dseg[1, :2], reference[1] = 2, 2
    left, right, middle = compare_maps(
        dseg, reference, (1.0, 2.0, 4.0), TASK.labels, replace(IDENTITY, fold=3)
    )
    assert (left.f1, left.structure) == (1, "Left Blob")
    assert (left.fold, left.subject, left.network) == (3, "sub-01", "deepmrseg")
    assert left.hd95_mm == left.asd_mm == 0
    assert right.f1 == pytest.approx(2 * 8 / (8 + 16))
    assert right.volume_ml == pytest.approx(8 * 0.008)
    assert right.reference_volume_ml == pytest.approx(16 * 0.008)
    assert right.hd95_mm == pytest.approx(4.0)  # two rows of 2 mm are left out
    assert math.isnan(middle.f1)
    assert math.isnan(middle.hd95_mm)


def test_freesurfer_numbers_are_looked_up_and_asked_for() -> None:
    label = replace(TASK.labels[0], freesurfer=(17, 53))
    assert reference_numbers(label, freesurfer=True) == (17, 53)
    assert reference_numbers(label, freesurfer=False) == (label.index,)
    with pytest.raises(UsageError, match="Right Blob has no FreeSurfer number"):
        reference_numbers(TASK.labels[1], freesurfer=True)
