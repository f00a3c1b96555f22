"""What is handed from node to node reads back as exactly what was saved."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.imaging.lesions import LesionRule
from bids_deepmrseg.pipeline.handoff import (
    Noted,
    load_measures,
    load_provenance,
    load_segmented,
    node_name,
    read_note,
    save_measures,
    save_provenance,
    save_segmented,
)
from bids_deepmrseg.records import Certainty, LesionMap
from bids_deepmrseg.stages.measure import measure
from bids_deepmrseg.stages.quality import judge
from bids_deepmrseg.stages.write import Provenance, UsedModel
from tests.makers import make_case, make_grid, make_segmented, make_task
from tests.stages.test_align import MOVED


@pytest.mark.parametrize("probabilities", [True, False])
def test_labels_confidence_grid_and_probabilities_come_back(
    tmp_path: Path, probabilities: bool
) -> None:
    segmented = make_segmented(make_grid("odd"), make_task(), probabilities=probabilities)
    save_segmented(segmented, tmp_path / "s.npz")
    back = load_segmented(tmp_path / "s.npz")
    np.testing.assert_array_equal(back.dseg, segmented.dseg)
    np.testing.assert_array_equal(back.confidence, segmented.confidence)
    np.testing.assert_array_equal(back.grid.affine, segmented.grid.affine)
    assert (str(back.dseg.dtype), str(back.confidence.dtype)) == ("uint16", "float32")
    assert (back.probabilities is None) is not probabilities
    if segmented.probabilities is not None:
        np.testing.assert_array_equal(back.probabilities, segmented.probabilities)


def test_landmarks_and_the_volume_of_the_brain_come_back(tmp_path: Path) -> None:
    segmented = make_segmented(make_grid("odd"), make_task())
    save_segmented(segmented, tmp_path / "s.npz")
    bare = load_segmented(tmp_path / "s.npz")
    assert (bare.landmarks, bare.brain_volume_mm3) == (None, None)
    np.testing.assert_array_equal(bare.shown, segmented.dseg)
    landmarks = np.where(segmented.dseg == 2, 9, 0).astype(np.uint16)
    told = replace(segmented, landmarks=landmarks, brain_volume_mm3=1234.5678901)
    save_segmented(told, tmp_path / "s.npz")
    back = load_segmented(tmp_path / "s.npz")
    np.testing.assert_array_equal(back.dseg, segmented.dseg)
    np.testing.assert_array_equal(back.shown, landmarks)
    assert str(back.shown.dtype) == "uint16"
    assert back.brain_volume_mm3 == 1234.5678901


def test_lesions_can_be_found_again_from_what_comes_back(tmp_path: Path) -> None:
    segmented = make_segmented(make_grid("odd"), make_task())
    save_segmented(segmented, tmp_path / "s.npz")
    assert load_segmented(tmp_path / "s.npz").lesion_map is None
    probability = np.linspace(0, 1, segmented.dseg.size, dtype=np.float16)
    rule = LesionRule(threshold=0.35, smallest_mm3=12.5, periventricular_mm=8.0)
    lesion_map = LesionMap(probability.reshape(segmented.grid.shape), rule)
    save_segmented(replace(segmented, lesion_map=lesion_map), tmp_path / "s.npz")
    back = load_segmented(tmp_path / "s.npz").lesion_map
    assert back is not None
    assert back.rule == rule
    assert str(back.probability.dtype) == "float16"
    np.testing.assert_array_equal(back.probability, lesion_map.probability)


def test_certainties_and_flags_come_back(tmp_path: Path) -> None:
    task = make_task()
    certainties = (
        Certainty(index=1, agreement=0.1, soft_dice=0.9, border_entropy_bits=0.3),
        Certainty(index=2, agreement=0.5, soft_dice=0.0, border_entropy_bits=0.2),
    )
    segmented = replace(make_segmented(make_grid(), task), certainties=certainties)
    save_segmented(segmented, tmp_path / "s.npz")
    assert load_segmented(tmp_path / "s.npz").certainties == certainties
    judged = judge(measure(segmented, task), certainties, None)
    flagged = replace(judged[0], predicted_dice=0.4, in_training_range=False, flags=("a", "b"))
    save_measures((flagged, *judged[1:]), tmp_path / "m.json")
    left, right, middle = load_measures(tmp_path / "m.json", task)
    assert left == flagged
    assert (right.agreement, right.asymmetry) == (0.5, judged[1].asymmetry)
    assert math.isnan(middle.agreement)


def test_measures_come_back_also_of_a_structure_without_voxels(tmp_path: Path) -> None:
    task = make_task()
    segmented = replace(make_segmented(make_grid(), task), brain_volume_mm3=1e5)
    segmented.dseg[segmented.dseg == 2] = 0
    measures = measure(segmented, task)
    save_measures(measures, tmp_path / "m.json")
    left, right, middle = load_measures(tmp_path / "m.json", task)
    assert (left, middle) == (measures[0], measures[2])
    assert left.fraction_of_brain == pytest.approx(0.02048)
    assert right.fraction_of_brain == 0.0
    assert math.isnan(right.mean_probability)
    assert replace(right, mean_probability=0) == replace(measures[1], mean_probability=0)


def test_provenance_comes_back(tmp_path: Path) -> None:
    provenance = Provenance(
        code_version="0.1.0",
        torch_version="2.0",
        model_sha256="ab",
        preprocessing="p",
        training_data="none",
        license="CC0-1.0",
        attribution="Nobody",
        device="cuda:1",
        fast=True,
        n_islands_removed_voxels=5,
        located_by=(UsedModel("tiny", "cd"), UsedModel("whole", "ef")),
        brain_measured_by=UsedModel("whole", "ef"),
        doubts=("it is small",),
        inputs=("FLAIR", "T1w"),
        registration=MOVED,
        bias_corrected=True,
        brain_overlap=0.953,
    )
    save_provenance(provenance, tmp_path / "p.json")
    assert load_provenance(tmp_path / "p.json") == provenance


def test_provenance_that_an_earlier_version_left_in_a_work_folder_is_taken_over(
    tmp_path: Path,
) -> None:
    earlier = {
        **dict.fromkeys(("code_version", "torch_version", "model_sha256", "preprocessing"), "x"),
        **dict.fromkeys(("training_data", "license", "attribution", "device"), "x"),
        "fast": False,
        "n_islands_removed_voxels": 0,
    }
    (tmp_path / "p.json").write_text(json.dumps(earlier), encoding="utf-8")
    back = load_provenance(tmp_path / "p.json")
    assert (back.model_sha256, back.located_by, back.doubts) == ("x", (), ())
    located = {**earlier, "located_by": "tiny", "locator_sha256": "cd", "doubts": ["it is small"]}
    (tmp_path / "p.json").write_text(json.dumps(located), encoding="utf-8")
    back = load_provenance(tmp_path / "p.json")
    assert (back.located_by, back.doubts) == ((UsedModel("tiny", "cd"),), ("it is small",))
    assert back.brain_measured_by is None
    assert (back.inputs, back.registration, back.bias_corrected) == ((), None, False)
    assert back.brain_overlap is None


def test_a_node_that_works_notes_its_duration(tmp_path: Path) -> None:
    with Noted(tmp_path, "node"):
        pass
    note = read_note(tmp_path, "node")
    assert note is not None
    assert note.duration_s >= 0
    assert note.error is None


def test_a_node_that_fails_notes_its_sentence_and_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no affine"), Noted(tmp_path, "node"):
        raise ValueError("no affine")
    note = read_note(tmp_path, "node")
    assert note is not None
    assert note.error == "no affine"
    assert note.doubts == ()


def test_a_node_notes_what_is_doubtful(tmp_path: Path) -> None:
    with Noted(tmp_path, "node") as noted:
        noted.doubt("it is small")
    note = read_note(tmp_path, "node")
    assert note is not None
    assert (note.error, note.doubts) == (None, ("it is small",))


def test_a_node_that_was_never_run_has_no_note(tmp_path: Path) -> None:
    assert read_note(tmp_path, "node") is None


def test_node_names_differ_between_cases_tasks_and_stages(tmp_path: Path) -> None:
    names = {
        node_name(make_case(tmp_path, scan, task=make_task(task)), stage)
        for scan in ("sub-1_run-1_T1w.nii", "sub-1_run-2_T1w.nii", "sub-1_acq-run1_T1w.nii")
        for task in ("tiny", "other")
        for stage in ("segment", "measure", "write")
    }
    assert len(names) == 18


def test_another_scan_of_the_same_name_has_nodes_of_its_own(tmp_path: Path) -> None:
    case = make_case(tmp_path, "sub-1_run-1_T1w.nii")
    flair = replace(case, scans=(case.scans[0].with_name("sub-1_run-1_FLAIR.nii"),))
    assert node_name(case, "segment") == "tiny_sub-1_run-1_segment"
    assert node_name(flair, "segment") == "tiny_sub-1_run-1_FLAIR_segment"
    assert (case.name, flair.name) == ("sub-1_run-1_T1w tiny", "sub-1_run-1_FLAIR tiny")
