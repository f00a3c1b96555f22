"""What is measured of lesions on folds is what the app would say of the same scans."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.compare import Compared, evaluate
from bids_deepmrseg.evaluation.lesion_ensembles import (
    MeasuredLesions,
    measure_lesions,
    variants_of,
)
from bids_deepmrseg.evaluation.results import Identity
from bids_deepmrseg.evaluation.whole import Models, segment_scan
from bids_deepmrseg.selection.labelled import LabelledScan, find_labelled
from tests.evaluation.lesion_made import (
    LESIONS_MM,
    make_lesion_dataset,
    make_lesion_models,
    make_lesion_task,
)
from tests.makers import make_task

TASK = make_lesion_task()
WHO = Identity(
    dataset="made-up", network="unet", ensemble="", repeat=1, fold=2, subject="", scan=""
)


@dataclass(frozen=True)
class Made:
    """Two scans, of which the second has no T1w, and what was measured on them."""

    scans: tuple[LabelledScan, ...]
    folder: Path
    models: Models
    measured: MeasuredLesions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("lesions")
    folder = make_lesion_models(root / "models", TASK)
    make_lesion_dataset(root / "labelled", ("sub-1", "sub-2"), without_t1w=("sub-2",))
    scans = find_labelled(root / "labelled", TASK, reference="label-lesion_mask")
    models = Models(models_dir=root / "models", device="cpu")
    return Made(scans, folder, models, measure_lesions(scans, folder, WHO, models))


def test_every_variant_of_every_ensemble_is_measured(made: Made) -> None:
    variants = ("", ", FLAIR alone", ", N4")
    wanted = [
        (scan, f"{ensemble}{variant}")
        for scan, own in (("sub-1", variants), ("sub-2", ("", ", N4")))
        for variant in own
        for ensemble in ("axial", "axial, flips")
    ]
    assert [(r.scan, r.ensemble) for r in made.measured.results] == wanted
    assert [(r.scan, r.ensemble) for r in made.measured.lesions if r.size == "all"] == wanted
    assert {(r.fold, r.network, r.structure) for r in made.measured.results} == {
        (2, "unet", "Spot")
    }


def test_spots_are_found_by_the_plain_ensemble(made: Made) -> None:
    for row in made.measured.results:
        if "N4" not in row.ensemble:
            assert row.f1 > 0.8, row.ensemble
    counts = {(r.scan, r.ensemble): r for r in made.measured.lesions if r.size == "all"}
    assert counts["sub-1", "axial, flips"].n_found == counts["sub-1", "axial"].n_reference
    assert counts["sub-1", "axial"].n_reference == len(LESIONS_MM)


def test_flips_are_what_the_app_says(made: Made) -> None:
    for scan in made.scans:
        *_, segmented = segment_scan(scan.case, made.models)
        (row,) = (
            r for r in made.measured.results if (r.scan, r.ensemble) == (scan.stem, "axial, flips")
        )
        voxel_ml = segmented.grid.voxel_volume_mm3 / 1000
        assert row.volume_ml == pytest.approx(np.sum(segmented.dseg == 1) * voxel_ml)
        assert segmented.brain_volume_mm3 is not None
        assert segmented.lesion_map is not None
        assert segmented.lesion_map.rule.smallest_mm3 == 40


def test_the_defaults_are_one_of_the_rules(made: Made) -> None:
    at_rules = [r for r in made.measured.at_rules if (r.threshold, r.smallest_mm3) == (0.5, 40)]
    assert [(r.scan, r.ensemble) for r in at_rules] == [
        ("sub-1", "axial, flips"),
        ("sub-2", "axial, flips"),
    ]
    plain = [r for r in made.measured.results if r.ensemble == "axial, flips"]
    lesions = [r for r in made.measured.lesions if (r.ensemble, r.size) == ("axial, flips", "all")]
    for row, found, of_lesions in zip(at_rules, plain, lesions, strict=True):
        assert (row.f1, row.volume_ml) == pytest.approx((found.f1, found.volume_ml))
        assert row.lesion_f1 == pytest.approx(of_lesions.f1)


def test_without_variants_scans_are_seen_as_they_are(made: Made) -> None:
    again = measure_lesions(made.scans[1:], made.folder, WHO, made.models, variants=False)
    assert again.results == tuple(
        r for r in made.measured.results if r.scan == "sub-2" and "N4" not in r.ensemble
    )


def test_a_model_is_evaluated_with_its_lesions(made: Made) -> None:
    found: Compared = evaluate(
        made.scans[1:],
        made.folder,
        dataset="made",
        freesurfer=False,
        models=made.models,
        on_scan=lambda _: None,
    )
    (row,) = found.results
    (flipped,) = (
        r for r in made.measured.results if (r.scan, r.ensemble) == ("sub-2", "axial, flips")
    )
    assert (row.f1, row.volume_ml) == (flipped.f1, flipped.volume_ml)
    assert len(found.lesions) == 4


def test_only_needed_channels_are_left_where_others_are_left_out(made: Made) -> None:
    both, one, corrected = variants_of(made.scans[0].case)
    assert [v.case.channels for v in (both, one, corrected)] == [
        ("FLAIR", "T1w"),
        ("FLAIR",),
        ("FLAIR", "T1w"),
    ]
    assert [v.bias_correction for v in (both, one, corrected)] == [False, False, True]


def test_tasks_of_other_structures_are_refused(made: Made) -> None:
    scan = replace(made.scans[0], case=replace(made.scans[0].case, task=make_task()))
    with pytest.raises(UsageError, match="tiny finds no lesions"):
        measure_lesions((scan,), made.folder, WHO, made.models)
