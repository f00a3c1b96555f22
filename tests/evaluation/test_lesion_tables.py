"""Tables of lesions: means over scans, counts over all, and the rule that made them."""

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.lesion_tables import (
    lesion_scan_table,
    lesion_size_table,
    lesion_text,
)
from tests.evaluation.made import cells, make_lesion_result

SMALL = "below 0.1 ml"
RESULTS = (
    make_lesion_result("sub-01", 3, 4, n_true=4, n_segmented=8, volume_ml=12),
    make_lesion_result("sub-01", 0, 0, n_true=1, n_segmented=2, size=SMALL, reference_ml=0),
    make_lesion_result("sub-02", 6, 6, n_true=6, n_segmented=6, volume_ml=9),
    make_lesion_result("sub-02", 1, 2, n_true=1, n_segmented=1, size=SMALL, volume_ml=10),
)


def test_a_class_has_counts_over_all_and_means_over_scans() -> None:
    network, found, true, recall, precision, f1, difference = cells(lesion_size_table(RESULTS))[
        "**all**"
    ]
    assert network == "DeepMRSeg"
    assert (found, true) == ("9 / 10", "10 / 14")
    assert recall == "0.875 (0.177)"  # 3/4 and 1; of all lesions together it would be 0.9
    assert precision == "0.750 (0.354)"
    assert f1 == "0.800 (0.283)"  # 0.6 and 1
    assert difference == "15.0 (7.1)"  # 12 and 9 ml of 10


def test_what_was_not_measured_is_left_out_and_said() -> None:
    row = cells(lesion_size_table(RESULTS))[SMALL]
    assert row[1:] == [
        "1 / 2",
        "2 / 3",
        "0.500, 1 n/a",
        "0.750 (0.354)",
        "0.667, 1 n/a",
        "0.0, 1 n/a",
    ]


def test_a_scan_has_a_row_for_lesions_of_every_size() -> None:
    rows = cells(lesion_scan_table(RESULTS))
    assert rows == {
        "sub-01": ["DeepMRSeg", "8 / 4", "0.750", "0.500", "0.600", "20.0", "12.00 / 10.00"],
        "sub-02": ["DeepMRSeg", "6 / 6", "1.000", "1.000", "1.000", "10.0", "9.00 / 10.00"],
    }


def test_a_scan_counts_once_however_often_it_was_repeated() -> None:
    again = make_lesion_result("sub-01", 1, 4, n_true=4, n_segmented=5, repeat=2, volume_ml=8)
    table = cells(lesion_size_table((*RESULTS, again)))
    assert table["**all**"][1] == "10 / 14"
    assert table["**all**"][3] == "0.750 (0.354)"  # 1/2 and 1
    assert cells(lesion_scan_table((*RESULTS, again)))["sub-01"][1] == "6.5 / 4"


def test_networks_stand_below_each_other_in_the_order_of_the_paper() -> None:
    unet = make_lesion_result("sub-01", 1, 4, n_true=1, n_segmented=1, network="unet")
    lines = lesion_size_table((*RESULTS, unet)).splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == ["UNet", "DeepMRSeg", "DeepMRSeg"]


def test_the_text_tells_the_rule_and_shows_all_views_only() -> None:
    axial = make_lesion_result("sub-01", 0, 4, n_true=0, n_segmented=9, ensemble="axial")
    text = lesion_text((axial, *RESULTS))
    assert text == lesion_text(RESULTS)
    assert text.startswith("2 scans of 2 subjects. A lesion of the reference is found")
    assert "where any of its voxels lie in the other mask" in text
    assert lesion_size_table(RESULTS) in text
    assert lesion_scan_table(RESULTS) in text


def test_a_share_of_voxels_is_told() -> None:
    asked = make_lesion_result("sub-01", 3, 4, n_true=4, n_segmented=8, least_share=0.1)
    assert "where at least 10 % of its voxels lie in the other mask" in lesion_text((asked,))
    with pytest.raises(UsageError, match="one rule, not by 2"):
        lesion_text((asked, *RESULTS))


def test_no_results_make_no_table() -> None:
    with pytest.raises(UsageError, match="one rule, not by 0"):
        lesion_text(())
