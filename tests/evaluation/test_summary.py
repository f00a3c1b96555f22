"""Repeats are averaged within a scan, scans are what means and deviations are over."""

import math

import pytest

from bids_deepmrseg.evaluation.summary import AVERAGE, headline, in_order, summaries
from tests.evaluation.made import make_result


def test_a_scan_counts_once_however_often_it_was_repeated() -> None:
    results = (
        make_result("sub-01", "Blob", 0.6, repeat=1, volume_ml=1),
        make_result("sub-01", "Blob", 0.8, repeat=2, volume_ml=1),
        make_result("sub-02", "Blob", 0.9, repeat=1, volume_ml=2),
        make_result("sub-02", "Blob", 0.9, repeat=2, volume_ml=3, reference_volume_ml=2),
    )
    blob, average = summaries(results)
    assert (blob.f1.n, blob.n_scans) == (2, 2)
    assert blob.f1.mean == pytest.approx((0.7 + 0.9) / 2)
    assert blob.f1.sd == pytest.approx(0.2 / math.sqrt(2))
    assert average.f1 == blob.f1


def test_rho_c_is_of_each_repeat_then_over_repeats() -> None:
    volumes = ((1, 1.0, 1.0), (1, 2.0, 2.0), (2, 1.0, 2.0), (2, 2.0, 3.0))
    results = [
        make_result(f"sub-{i % 2}", "Blob", 0.5, repeat=r, volume_ml=v, reference_volume_ml=ref)
        for i, (r, v, ref) in enumerate(volumes)
    ]
    blob, _ = summaries(results)
    # second repeat: variances 1/4, covariance 1/4, means 1 apart: 2 (1/4) / (1/4 + 1/4 + 1) = 1/3
    assert blob.rho_c.n == 2
    assert blob.rho_c.mean == pytest.approx((1 + 1 / 3) / 2)
    assert blob.rho_c.sd == pytest.approx((1 - 1 / 3) / math.sqrt(2))


def test_rho_c_of_the_average_is_over_all_volumes_together() -> None:
    pairs = {"Small": ((1.0, 1.2), (1.1, 0.9)), "Large": ((9.0, 9.3), (9.4, 9.1))}
    results = [
        make_result(f"sub-{n}", name, 0.9, volume_ml=v, reference_volume_ml=ref)
        for name, volumes in pairs.items()
        for n, (v, ref) in enumerate(volumes)
    ]
    *structures, average = summaries(results)
    assert average.name == AVERAGE
    assert average.rho_c.mean > 0.99 > max(s.rho_c.mean for s in structures)


def test_two_scans_of_a_person_are_two_scans() -> None:
    results = [make_result("sub-01", "Blob", 0.6 + n / 10, scan=f"sub-01_run-{n}") for n in (1, 2)]
    assert summaries(results)[0].f1.n == 2


def test_what_is_missing_in_one_repeat_is_counted() -> None:
    results = [
        make_result("sub-01", "Blob", 0.0, repeat=1, hd95_mm=math.nan),
        make_result("sub-01", "Blob", 0.5, repeat=2, hd95_mm=3.0),
    ]
    blob, _ = summaries(results)
    assert (blob.hd95_mm.mean, blob.hd95_mm.n, blob.hd95_mm.n_missing) == (3.0, 1, 1)
    assert blob.f1.n_missing == 0


def test_each_network_is_shown_by_all_its_views_or_else_by_its_first() -> None:
    results = (
        make_result("sub-01", "Blob", 0.1, ensemble="axial"),
        make_result("sub-01", "Blob", 0.2),
        make_result("sub-01", "Blob", 0.3, ensemble="all views, flips"),
        make_result("sub-01", "Blob", 0.4, network="unet", ensemble="coronal"),
        make_result("sub-01", "Blob", 0.5, network="unet", ensemble="sagittal"),
    )
    assert [r.f1 for r in headline(results)] == [0.2, 0.4]


def test_networks_stand_in_the_papers_order() -> None:
    assert in_order(["other", "deepmrseg", "unet", "other"]) == ("unet", "deepmrseg", "other")


def test_concordance_of_one_scan_is_unknown_and_not_in_the_mean() -> None:
    blob, _ = summaries([make_result("sub-01", "Blob", 0.5)])
    assert blob.rho_c.n == 0
    assert math.isnan(blob.rho_c.mean)


def test_networks_are_shown_by_an_ensemble_that_both_have() -> None:
    wide = [
        ("deepmrseg", "axial", 0.1),
        ("deepmrseg", "sagittal", 0.2),
        ("deepmrseg", "all views", 0.3),
    ]
    narrow = [("unet", "sagittal", 0.4)]
    results = [
        make_result("sub-01", "Blob", f1, network=network, ensemble=ensemble)
        for network, ensemble, f1 in (*wide, *narrow)
    ]
    assert [r.f1 for r in headline(results)] == [0.2, 0.4]
    assert [r.f1 for r in headline(results[:3])] == [0.3]
    apart = [make_result("sub-01", "Blob", 0.5, network="other", ensemble="coronal"), *results[:2]]
    assert [r.f1 for r in headline(apart)] == [0.5, 0.1]


def test_mirror_images_come_before_one_view_and_before_variants() -> None:
    results = [
        make_result("sub-01", "Blob", f1, ensemble=ensemble)
        for ensemble, f1 in (("axial", 0.1), ("axial, flips", 0.2), ("axial, flips, N4", 0.3))
    ]
    assert [r.f1 for r in headline(results)] == [0.2]
