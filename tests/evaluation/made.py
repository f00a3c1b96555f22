"""Rows of results as tests need them."""

from bids_deepmrseg.evaluation.lesion_results import LesionResult
from bids_deepmrseg.evaluation.lesionwise import LesionCounts, volume_difference_percent
from bids_deepmrseg.evaluation.results import Fold, Identity, Result

IDENTITY = Identity(
    dataset="made",
    network="deepmrseg",
    ensemble="all views",
    repeat=1,
    fold=1,
    subject="sub-01",
    scan="sub-01",
)


def make_result(
    subject: str,
    structure: str,
    f1: float,
    *,
    volume_ml: float = 1.0,
    reference_volume_ml: float | None = None,
    network: str = "deepmrseg",
    ensemble: str = "all views",
    repeat: int = 1,
    scan: str | None = None,
    hd95_mm: float = 2.0,
) -> Result:
    return Result(
        dataset="made",
        network=network,
        ensemble=ensemble,
        repeat=repeat,
        fold=1,
        subject=subject,
        scan=scan or subject,
        structure=structure,
        f1=f1,
        f2=f1,
        bacc=f1,
        hd95_mm=hd95_mm,
        asd_mm=hd95_mm / 2,
        volume_ml=volume_ml,
        reference_volume_ml=volume_ml if reference_volume_ml is None else reference_volume_ml,
    )


def make_lesion_result(
    subject: str,
    n_found: int,
    n_reference: int,
    *,
    n_true: int,
    n_segmented: int,
    volume_ml: float = 10.0,
    reference_ml: float = 10.0,
    size: str = "all",
    least_share: float = 0.0,
    network: str = "deepmrseg",
    ensemble: str = "all views",
    repeat: int = 1,
) -> LesionResult:
    counts = LesionCounts(
        n_reference=n_reference, n_found=n_found, n_segmented=n_segmented, n_true=n_true
    )
    return LesionResult(
        dataset="made",
        network=network,
        ensemble=ensemble,
        repeat=repeat,
        fold=1,
        subject=subject,
        scan=subject,
        size=size,
        least_share=least_share,
        n_reference=n_reference,
        n_found=n_found,
        n_segmented=n_segmented,
        n_true=n_true,
        recall=counts.recall,
        precision=counts.precision,
        f1=counts.f1,
        volume_ml=volume_ml,
        reference_volume_ml=reference_ml,
        volume_difference_percent=volume_difference_percent(volume_ml, reference_ml),
    )


def make_fold(network: str = "deepmrseg", *, repeat: int = 1, fold: int = 1) -> Fold:
    return Fold(
        dataset="made",
        network=network,
        view="axial",
        repeat=repeat,
        fold=fold,
        n_training_scans=6,
        n_test_scans=2,
        n_epochs=30,
        n_steps=900,
        n_parameters=123456,
        training_s=61.5,
        recipe="manual-outlines",
        seed=7,
    )


def cells(table: str) -> dict[str, list[str]]:
    """Rows of a markdown table by their first cell."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows[2:]}
