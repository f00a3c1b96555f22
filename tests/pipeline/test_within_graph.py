"""A task within a brain: its graph gives what the stages give, whichever scans are there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.imaging.lesions import LesionRule, find_lesions
from bids_deepmrseg.pipeline.graph import run
from bids_deepmrseg.pipeline.handoff import load_provenance, load_segmented
from bids_deepmrseg.pipeline.needs import estimate_memory_gb
from bids_deepmrseg.pipeline.workflow import build_workflow, lesion_rule
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.align import align
from bids_deepmrseg.stages.prepare import prepare
from bids_deepmrseg.stages.restore import restore
from bids_deepmrseg.stages.segment import segment
from bids_deepmrseg.stages.within import prepare_within, restore_within
from bids_deepmrseg.stages.write import Provenance
from tests.lesion_models import (
    make_hull_task,
    make_sessions,
    make_spot_case,
    make_spot_models,
    make_spot_task,
    make_spots,
)
from tests.makers import make_case, make_grid, make_settings, open_nifti

SCANS = {"sub-01_FLAIR.nii.gz": "RAS", "sub-01_T1w.nii.gz": "LIA"}


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    make_spot_models(tmp_path / "models")
    return make_settings(tmp_path)


def left_behind(settings: RunSettings, node: str) -> tuple[Segmented, Provenance]:
    """What a segmenting node has handed on."""
    (file,) = settings.work_dir.rglob(f"{node}/segmented.npz")
    return load_segmented(file), load_provenance(file.with_name("provenance.json"))


def plainly(case: Case, settings: RunSettings) -> Segmented:
    """The stages one after another, in this process."""
    models, hull = settings.models_dir, make_hull_task()
    assert models is not None
    first = replace(case, task=hull, scans=case.scans[:1])
    shown = restore(segment(prepare(first), models / "hull", hull, device="cpu"), hull)
    brain = shown.dseg == 1
    aligned = align(case, brain, registration=settings.registration)
    prepared = prepare_within(aligned.volumes, aligned.grid, brain, case.task)
    predicted = segment(prepared, models / "spots", case.task, device="cpu")
    rule = lesion_rule(case.task, settings)
    assert rule is not None
    return restore_within(predicted, rule)


def test_the_graph_gives_voxel_for_voxel_what_the_stages_give(settings: RunSettings) -> None:
    """The T1w lies elsewhere by its header, so that it has to be registered."""
    make_sessions(settings.bids_dir, SCANS, shift_mm=9.0)
    case = make_spot_case(settings.bids_dir, "sub-01")
    (outcome,) = run(Plan((case,), ()), settings)
    assert (outcome.status, outcome.reason) == ("done", "n/a")
    assert not list(settings.output_dir.rglob("*hull*"))
    labels = np.asanyarray(open_nifti(settings.output_dir / outcome.dseg).dataobj)
    plain = plainly(case, settings)
    np.testing.assert_array_equal(labels, plain.dseg)
    np.testing.assert_array_equal(labels > 0, make_spots(make_grid("RAS")))
    _check_handed_on(settings, plain)


def _check_handed_on(settings: RunSettings, plain: Segmented) -> None:
    """The map of lesions, what the brain measures, and how the scans were laid upon each other."""
    segmented, provenance = left_behind(settings, "spots_sub-01_segment")
    hull, _ = left_behind(settings, "hull_sub-01_FLAIR_segment")
    assert segmented.lesion_map is not None
    assert plain.lesion_map is not None
    assert segmented.lesion_map.rule == LesionRule(threshold=0.5, smallest_mm3=100.0)
    np.testing.assert_array_equal(segmented.lesion_map.probability, plain.lesion_map.probability)
    lesions = find_lesions(
        segmented.lesion_map.probability, segmented.grid, segmented.lesion_map.rule
    )
    np.testing.assert_array_equal(lesions.mask, segmented.dseg > 0)
    assert len(lesions.lesions) == 2
    assert segmented.probabilities is None
    assert segmented.brain_volume_mm3 == pytest.approx(np.count_nonzero(hull.dseg) * 4.0**3)
    assert provenance.inputs == ("FLAIR", "T1w")
    assert [used.task for used in provenance.located_by] == ["hull"]
    assert provenance.registration is not None
    assert provenance.registration.moved_mm == pytest.approx(9, abs=1.5)
    assert np.shape(provenance.registration.matrix) == (4, 4)
    assert provenance.brain_overlap is not None
    assert provenance.brain_overlap > 0.9
    assert not provenance.bias_corrected
    assert provenance.doubts == ()


def test_a_flair_alone_is_enough_and_that_is_told(settings: RunSettings) -> None:
    make_sessions(settings.bids_dir, {"sub-01_FLAIR.nii.gz": "RAS"})
    case = make_spot_case(settings.bids_dir, "sub-01", alone=True)
    asked = replace(settings, write_probabilities=True, bias_correction=True, min_lesion_mm3=5000.0)
    (outcome,) = run(Plan((case,), ()), asked)
    assert outcome.status == "done"
    segmented, provenance = left_behind(asked, "spots_sub-01_segment")
    assert segmented.probabilities is not None
    assert segmented.lesion_map is not None
    assert segmented.lesion_map.rule == LesionRule(threshold=0.5, smallest_mm3=5000.0)
    assert 5000 <= np.count_nonzero(segmented.dseg) * 64 < 8000  # the larger one only
    assert provenance.inputs == ("FLAIR",)
    assert (provenance.registration, provenance.brain_overlap) == (None, None)
    assert provenance.bias_corrected
    assert any(
        "no T1w scan: lesions were looked for in the FLAIR alone" in d for d in provenance.doubts
    )


def test_brains_of_flair_and_t1w_of_one_name_are_two_nodes(
    settings: RunSettings, tmp_path: Path
) -> None:
    make_sessions(settings.bids_dir, SCANS)
    spots = make_spot_case(settings.bids_dir, "sub-01")
    hull = make_case(settings.bids_dir, "sub-01_T1w.nii.gz", task=make_hull_task())
    graph = build_workflow((spots, hull), settings, tmp_path / "notes")
    names = [name for name in graph.list_node_names() if name.endswith("segment")]
    assert sorted(names) == [
        "hull_sub-01_FLAIR_segment",
        "hull_sub-01_segment",
        "spots_sub-01_segment",
    ]
    of_flair, of_t1w = (graph.get_node(name).inputs.scans for name in sorted(names)[:2])
    assert (of_flair, of_t1w) == ([str(spots.scans[0])], [str(spots.scans[1])])


def test_what_is_asked_for_counts_for_tasks_within_a_brain_only(
    settings: RunSettings, tmp_path: Path
) -> None:
    make_sessions(settings.bids_dir, SCANS)
    spots = make_spot_case(settings.bids_dir, "sub-01")
    changes: list[dict[str, bool | float]] = [
        {},
        {"registration": False},
        {"bias_correction": True},
        {"lesion_threshold": 0.3},
        {"min_lesion_mm3": 7.0},
    ]
    hashes: dict[str, set[str]] = {
        "spots_sub-01_segment": set(),
        "hull_sub-01_FLAIR_segment": set(),
    }
    for change in changes:
        asked = replace(settings, **change)  # type: ignore[arg-type] # of the settings' own types
        graph = build_workflow((spots,), asked, tmp_path / "notes")
        for name, found in hashes.items():
            found.add(graph.get_node(name).inputs.get_hashval()[1])
    assert [len(found) for found in hashes.values()] == [len(changes), 1]


def test_a_brain_that_cannot_be_found_is_told_of_the_flair(
    settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    make_sessions(settings.bids_dir, SCANS)
    case = make_spot_case(settings.bids_dir, "sub-01")
    case.scans[0].write_bytes(b"")
    (outcome,) = run(Plan((case,), ()), settings)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("hull, which finds the brain in the FLAIR for spots, failed: ")
    assert "sub-01/anat/sub-01_FLAIR.nii.gz is empty" in outcome.reason
    assert "sub-01_FLAIR hull: segment failed" in caplog.text


def test_grids_that_differ_are_refused_without_registration(settings: RunSettings) -> None:
    make_sessions(settings.bids_dir, SCANS)
    case = make_spot_case(settings.bids_dir, "sub-01")
    (outcome,) = run(Plan((case,), ()), replace(settings, registration=False))
    assert outcome.status == "failed"
    assert "leave --no-registration away" in outcome.reason


def test_memory_counts_every_scan(settings: RunSettings) -> None:
    make_sessions(settings.bids_dir, SCANS)
    both = make_spot_case(settings.bids_dir, "sub-01")
    alone = make_spot_case(settings.bids_dir, "sub-01", alone=True)
    fine = replace(both, task=replace(make_spot_task(), spacing_mm=1.0))
    need_gb = [estimate_memory_gb(case, keep_probabilities=False) for case in (alone, both, fine)]
    assert need_gb == sorted(set(need_gb))
    assert estimate_memory_gb(both, keep_probabilities=True) > need_gb[1]
