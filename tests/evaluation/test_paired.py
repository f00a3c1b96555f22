"""A person counts once, only common scans count, and many questions cost certainty."""

import math

import pytest
from scipy import stats

from bids_deepmrseg.evaluation.paired import Paired, compare_networks, holm
from bids_deepmrseg.evaluation.results import Result
from tests.evaluation.made import make_result


def both(
    subject: str,
    ours: float,
    theirs: float,
    *,
    scan: str | None = None,
    repeat: int = 1,
    structure: str = "Blob",
) -> list[Result]:
    return [
        make_result(subject, structure, f1, network=network, scan=scan, repeat=repeat)
        for network, f1 in (("deepmrseg", ours), ("unet", theirs))
    ]


def f1_of(results: list[Result], structure: str = "Blob") -> Paired:
    tests = compare_networks(results, "deepmrseg", "unet")
    (found,) = (t for t in tests if (t.structure, t.metric) == (structure, "f1"))
    return found


def test_differences_are_first_less_second() -> None:
    found = f1_of(both("sub-01", 0.9, 0.8) + both("sub-02", 0.7, 0.4) + both("sub-03", 0.5, 0.5))
    assert found.median_difference == pytest.approx(0.1)
    assert found.n_people == 3


def test_a_persons_scans_and_repeats_are_averaged_first() -> None:
    results = (
        both("sub-01", 0.9, 0.8, scan="sub-01_run-1")
        + both("sub-01", 0.7, 0.4, scan="sub-01_run-2", repeat=1)
        + both("sub-01", 0.7, 0.4, scan="sub-01_run-2", repeat=2)
        + both("sub-02", 0.5, 0.4)
    )
    found = f1_of(results)
    assert found.n_people == 2
    assert found.median_difference == pytest.approx(((0.1 + 0.3 + 0.3) / 3 + 0.1) / 2)


def test_a_scan_of_only_one_network_is_left_out() -> None:
    results = both("sub-01", 0.9, 0.8) + both("sub-02", 0.1, 0.8)[:1]
    assert f1_of(results).n_people == 1


def test_what_one_network_missed_is_no_pair_of_distances() -> None:
    results = both("sub-01", 0.9, 0.8) + both("sub-02", 0.9, 0.8)
    missed = make_result("sub-03", "Blob", 0, network="unet", hd95_mm=math.nan, volume_ml=0)
    seen = make_result("sub-03", "Blob", 0.5)
    tests = compare_networks([*results, missed, seen], "deepmrseg", "unet")
    n_people = {t.metric: t.n_people for t in tests if t.structure == "Blob"}
    assert (n_people["f1"], n_people["hd95_mm"]) == (3, 2)


def test_p_is_wilcoxons_times_the_number_of_tests_for_the_smallest() -> None:
    differences = [0.01 * n for n in range(1, 11)]
    results = [r for n, d in enumerate(differences) for r in both(f"sub-{n}", 0.5 + d, 0.5)]
    # f1, f2 and bacc differ: three tests, all alike
    raw = stats.wilcoxon(differences).pvalue
    assert f1_of(results).p == pytest.approx(3 * raw)


def test_the_average_is_over_structures_and_one_more_question() -> None:
    differences = [0.01 * n for n in range(1, 11)]
    one = [r for n, d in enumerate(differences) for r in both(f"sub-{n}", 0.5 + d, 0.5)]
    two = [r for n in range(10) for r in both(f"sub-{n}", 0.5, 0.5, structure="Other")]
    average = f1_of(one + two, "average")
    assert average.median_difference == pytest.approx(0.055 / 2)
    assert average.p == pytest.approx(6 * stats.wilcoxon(differences).pvalue)
    assert {t.structure for t in compare_networks(one, "deepmrseg", "unet")} == {"Blob"}


def test_where_nothing_differs_nothing_is_tested() -> None:
    found = f1_of(both("sub-01", 0.5, 0.5) + both("sub-02", 0.5, 0.5))
    assert found.median_difference == 0
    assert math.isnan(found.p)


def test_holm_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.5, math.nan, 0.6]) == pytest.approx((1.0, math.nan, 1.0), nan_ok=True)
    assert holm([]) == ()
