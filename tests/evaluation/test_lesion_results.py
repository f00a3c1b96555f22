"""Rows on lesions read back as they were written."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.evaluation.lesion_results import read_lesion_results, write_lesion_results
from bids_deepmrseg.evaluation.results import write_results
from tests.evaluation.made import make_lesion_result, make_result

COLUMNS = [
    "dataset",
    "network",
    "ensemble",
    "repeat",
    "fold",
    "subject",
    "scan",
    "size",
    "least_share",
    "n_reference",
    "n_found",
    "n_segmented",
    "n_true",
    "recall",
    "precision",
    "f1",
    "volume_ml",
    "reference_volume_ml",
    "volume_difference_percent",
]


def test_results_read_back(tmp_path: Path) -> None:
    file = tmp_path / "new" / "lesions.tsv"
    one = make_lesion_result("sub-01", 3, 4, n_true=6, n_segmented=8)
    other = replace(one, size="below 0.1 ml", least_share=0.1, volume_ml=0.000125)
    write_lesion_results((one, other), file)
    assert read_lesion_results(file) == (one, other)
    assert file.read_text(encoding="utf-8").splitlines()[0].split("\t") == COLUMNS


def test_what_was_not_measured_is_na_in_the_file_and_nan_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "lesions.tsv"
    write_lesion_results((make_lesion_result("sub-01", 0, 0, n_true=0, n_segmented=2),), file)
    assert "\tn/a\t0\t" in file.read_text(encoding="utf-8")
    (row,) = read_lesion_results(file)
    assert math.isnan(row.recall)
    assert row.precision == 0


def test_another_table_is_no_table_of_lesions(tmp_path: Path) -> None:
    file = tmp_path / "results.tsv"
    write_results((make_result("sub-01", "Lesion", 0.7),), file)
    with pytest.raises(InputDataError, match=r"results\.tsv is no table of lesionresults"):
        read_lesion_results(file)
