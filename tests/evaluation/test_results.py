"""Results and folds read back as they were written; other tables are refused by name."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.evaluation.results import (
    read_folds,
    read_results,
    write_folds,
    write_results,
)
from tests.evaluation.made import make_fold, make_result

COLUMNS = [
    "dataset",
    "network",
    "ensemble",
    "repeat",
    "fold",
    "subject",
    "scan",
    "structure",
    "f1",
    "f2",
    "bacc",
    "hd95_mm",
    "asd_mm",
    "volume_ml",
    "reference_volume_ml",
]


def test_results_read_back(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.tsv"
    result = make_result("sub-01", "Left Blob", 0.875, scan="sub-01_run-2", hd95_mm=1.5)
    write_results((result, replace(result, repeat=2)), file)
    assert read_results(file) == (result, replace(result, repeat=2))
    assert file.read_text(encoding="utf-8").splitlines()[0].split("\t") == COLUMNS


def test_what_was_not_measured_is_na_in_the_file_and_nan_in_memory(tmp_path: Path) -> None:
    result = make_result("sub-01", "Left Blob", math.nan)
    write_results((result,), tmp_path / "results.tsv")
    assert "\tn/a\t" in (tmp_path / "results.tsv").read_text(encoding="utf-8")
    assert math.isnan(read_results(tmp_path / "results.tsv")[0].f1)


def test_small_volumes_keep_their_digits(tmp_path: Path) -> None:
    result = make_result("sub-01", "Left Blob", 0.5, volume_ml=0.000125)
    write_results((result,), tmp_path / "results.tsv")
    assert read_results(tmp_path / "results.tsv")[0].volume_ml == 0.000125


@pytest.mark.parametrize(
    ("volume_ml", "reference_volume_ml", "missed"),
    [(0, 1, True), (1, 0, True), (0, 0, False), (1, 2, False)],
)
def test_a_structure_is_missed_where_only_one_has_it(
    volume_ml: float, reference_volume_ml: float, missed: bool
) -> None:
    result = make_result(
        "sub-01", "Blob", 0, volume_ml=volume_ml, reference_volume_ml=reference_volume_ml
    )
    assert result.is_missed is missed


def test_folds_read_back(tmp_path: Path) -> None:
    folds = (make_fold(), make_fold("unet", repeat=2, fold=3))
    write_folds(folds, tmp_path / "folds.tsv")
    assert read_folds(tmp_path / "folds.tsv") == folds


@pytest.mark.parametrize("text", ["dataset\tsubject\nmade\tsub-01\n", "", None])
def test_another_table_is_no_table_of_results(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "results.tsv"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(InputDataError, match=r"results\.tsv is no"):
        read_results(file)


def test_a_cell_that_is_no_number_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.tsv"
    write_results((make_result("sub-01", "Left Blob", 0.5),), file)
    file.write_text(file.read_text("utf-8").replace("0.5", "half"), encoding="utf-8")
    with pytest.raises(InputDataError, match="holds what is no number"):
        read_results(file)
