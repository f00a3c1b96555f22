"""Tables say means over scans, leave out what was not measured, and have the paper beside them."""

import math

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.paired import compare_networks
from bids_deepmrseg.evaluation.published import published_for
from bids_deepmrseg.evaluation.tables import (
    accuracy_table,
    ensemble_table,
    paired_table,
    rho_c_of_structures,
    subject_table,
    summarise,
)
from tests.evaluation.made import cells, make_result

RESULTS = (
    make_result("sub-01", "Left Blob", 0.8, volume_ml=1),
    make_result("sub-01", "Right Blob", 0.4, volume_ml=2),
    make_result("sub-02", "Left Blob", 0.6, volume_ml=3, hd95_mm=4.0),
    make_result("sub-02", "Right Blob", math.nan, volume_ml=4, hd95_mm=math.nan),
)
HIPPOCAMPUS = tuple(
    make_result(f"sub-{n}", f"Left {part} Hippocampus", 0.8 + n / 100, network=network, volume_ml=n)
    for network in ("deepmrseg", "unet")
    for n in (1, 2, 3)
    for part in ("Anterior", "Posterior")
)


def test_a_structure_has_mean_and_deviation_over_scans() -> None:
    network, bacc, f1, _, rho_c, hd95, asd, volumes = cells(accuracy_table(RESULTS))["Left Blob"]
    assert network == "DeepMRSeg"
    assert f1 == bacc == "0.700 (0.141)"
    assert rho_c == "1.000"
    assert (hd95, asd) == ("3.00 (1.41)", "1.50 (0.71)")
    assert volumes == "2.00 / 2.00"


def test_what_was_not_measured_is_left_out_and_said() -> None:
    row = cells(accuracy_table(RESULTS))["Right Blob"]
    assert row[2] == "0.400, 1 n/a"
    assert row[5] == "2.00, 1 n/a"


def test_the_average_is_over_scans_of_their_means() -> None:
    """0.6 of the first, 0.6 of the second, although one of them misses a structure."""
    average = cells(accuracy_table(RESULTS))["**average of 2**"]
    assert average[2] == "0.600 (0.000), 1 n/a"
    assert average[-1] == ""  # a mean volume of different structures says nothing


def test_all_rows_have_as_many_cells_as_the_header() -> None:
    lines = accuracy_table(HIPPOCAMPUS, published_for("hippocampus")).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 3 * 4


def test_the_papers_rows_stand_below_ours_unet_first() -> None:
    lines = accuracy_table(HIPPOCAMPUS, published_for("hippocampus")).splitlines()
    sources = [line.split("|")[2].strip() for line in lines[2:6]]
    assert sources == ["UNet", "UNet, paper", "DeepMRSeg", "DeepMRSeg, paper"]
    assert (
        "| Left Anterior Hippocampus | DeepMRSeg, paper | 0.925 (0.03) | 0.869 (0.04)" in lines[5]
    )
    assert "| **average of 2** | DeepMRSeg, paper |" in lines[-1]
    assert lines[-1].count("0.786") == 1


def test_the_mean_of_the_structures_rho_c_is_said_with_the_papers() -> None:
    sentence = rho_c_of_structures(HIPPOCAMPUS, published_for("hippocampus"))
    assert "UNet 1.000, UNet in the paper 0.695" in sentence  # (0.765 + 0.624) / 2
    assert "DeepMRSeg in the paper 0.767" in sentence


def test_ensembles_have_a_row_each() -> None:
    axial = make_result("sub-01", "Left Blob", 0.5, ensemble="axial")
    lines = ensemble_table((axial, *RESULTS)).splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == ["axial", "all views"]
    assert "0.500" in lines[0]
    assert "0.600 (0.000)" in lines[1]


def test_only_all_views_together_are_shown_where_there_are_others() -> None:
    axial = make_result("sub-01", "Left Blob", 0.1, ensemble="axial")
    assert accuracy_table((axial, *RESULTS)) == accuracy_table(RESULTS)


def test_a_scan_is_named_with_its_worst_structure() -> None:
    rows = cells(subject_table(RESULTS))
    assert rows["sub-01"] == ["DeepMRSeg", "0.600", "0.400 (Right Blob)"]
    assert rows["sub-02"] == ["DeepMRSeg", "0.600", "0.600 (Left Blob)"]


def test_the_lowest_scans_come_first() -> None:
    lines = subject_table(HIPPOCAMPUS, n_lowest=2).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["sub-1", "sub-2"] * 2


def test_a_clear_difference_is_bold_and_no_difference_is_no_test() -> None:
    results = tuple(
        make_result(f"sub-{n:02}", "Blob", f1, network=network, volume_ml=n)
        for n in range(1, 21)
        for network, f1 in (("deepmrseg", 0.9), ("unet", 0.9 - n / 1000))
    )
    row = cells(paired_table(compare_networks(results, "deepmrseg", "unet")))["Blob"]
    people, _, f1, _, hd95, *_ = row
    assert people == "20"
    assert f1 == "**+0.0105, p < 0.001**"
    assert hd95 == "n/a"


def test_a_models_record_gets_means_of_its_own_results_only() -> None:
    values = {m.name: m.value for m in summarise(RESULTS[:3])}
    assert values["mean F1, made, 2 scans"] == 0.6
    assert values["rho_c, made, 2 scans"] == 1
    with pytest.raises(UsageError, match="several networks"):
        summarise(HIPPOCAMPUS)
