"""Laws of measuring what each part of an ensemble adds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.evaluation.ensembles import compare_ensembles
from bids_deepmrseg.evaluation.results import ALL_VIEWS, ALL_VIEWS_FLIPPED, Identity, Result
from bids_deepmrseg.evaluation.whole import Models
from bids_deepmrseg.imaging.nifti import read_label_map
from bids_deepmrseg.network.weights import read_record, write_record
from bids_deepmrseg.selection.labelled import find_labelled
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.stages.segment import segment
from tests.makers import make_model_folder, make_task, open_nifti, write_nifti
from tests.training.corpora import make_labelled

TASK = make_task()
MODELS = Models(models_dir=None, device="cpu")
WHO = Identity(
    dataset="made-up", network="deepmrseg", ensemble="", repeat=2, fold=3, subject="", scan=""
)


def _compare(tmp_path: Path, *, views: tuple[str, ...]) -> dict[str, list[Result]]:
    folder = make_model_folder(tmp_path / "models", TASK, views=views)
    scans = find_labelled(make_labelled(tmp_path / "labelled", ("sub-1", "sub-2")), TASK)
    rows: dict[str, list[Result]] = {}
    for row in compare_ensembles(scans, folder, WHO, MODELS):
        rows.setdefault(row.ensemble, []).append(row)
    return rows


def test_every_ensemble_has_every_structure_of_every_scan(tmp_path: Path) -> None:
    rows = _compare(tmp_path, views=("axial", "sagittal"))
    assert list(rows) == ["axial", "sagittal", ALL_VIEWS, ALL_VIEWS_FLIPPED]
    wanted = [(s, label.name) for s in ("sub-1", "sub-2") for label in TASK.labels]
    for of_one in rows.values():
        assert [(r.subject, r.structure) for r in of_one] == wanted
        assert {(r.repeat, r.fold, r.network) for r in of_one} == {(2, 3, "deepmrseg")}


@pytest.mark.parametrize(("ensemble", "flips"), [(ALL_VIEWS, False), (ALL_VIEWS_FLIPPED, True)])
def test_ensembles_are_what_the_app_computes(tmp_path: Path, ensemble: str, flips: bool) -> None:
    rows = _compare(tmp_path, views=("axial", "coronal", "sagittal"))
    folder = tmp_path / "models" / TASK.name
    write_record(folder, replace(read_record(folder), flips=flips))
    for scan in find_labelled(tmp_path / "labelled", TASK):
        predicted = segment(prepare(scan.case), folder, TASK, device="cpu")
        dseg = restore(predicted, TASK).dseg
        voxel_ml = read_label_map(scan.reference)[1].voxel_volume_mm3 / 1000
        for label in TASK.labels:
            (row,) = (
                r for r in rows[ensemble] if r.subject == scan.subject and r.structure == label.name
            )
            assert row.volume_ml == pytest.approx(np.sum(dseg == label.index) * voxel_ml)


def test_one_sagittal_network_has_no_mirror_image(tmp_path: Path) -> None:
    assert list(_compare(tmp_path, views=("sagittal",))) == ["sagittal"]


def test_a_reference_on_another_grid_is_refused(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "models", TASK)
    scans = find_labelled(make_labelled(tmp_path / "labelled", ("sub-1",)), TASK)
    image = open_nifti(scans[0].reference)
    write_nifti(scans[0].reference, np.asanyarray(image.dataobj)[:-1], image.affine)
    with pytest.raises(InputDataError, match="not on the grid"):
        list(compare_ensembles(scans, folder, WHO, MODELS))
