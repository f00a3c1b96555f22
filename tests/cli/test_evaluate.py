"""From labelled scans and a model to tables in a document."""

from pathlib import Path

import pytest

from bids_deepmrseg.cli.evaluate import main
from bids_deepmrseg.evaluation.results import read_results
from bids_deepmrseg.evaluation.thresholds import write_at_rules
from bids_deepmrseg.network.weights import read_record
from tests.evaluation.test_threshold_choice import THREE_FOLDS
from tests.makers import make_model_folder
from tests.training.corpora import make_labelled


def _run(tmp_path: Path, *more: str) -> int:
    make_labelled(tmp_path / "labelled", ("sub-1", "sub-2"), geometry="LAS")
    make_model_folder(tmp_path / "models")
    return main(
        [
            *("run", "tiny", str(tmp_path / "labelled"), str(tmp_path / "tiny_made.tsv")),
            *("--models-dir", str(tmp_path / "models"), "--device", "cpu", *more),
        ]
    )


def test_results_have_a_row_per_subject_and_structure(tmp_path: Path) -> None:
    assert _run(tmp_path) == 0
    results = read_results(tmp_path / "tiny_made.tsv")
    assert [(r.subject, r.structure) for r in results] == [
        (subject, name)
        for subject in ("sub-1", "sub-2")
        for name in ("Left Blob", "Right Blob", "Middle Blob")
    ]
    assert all(0 <= r.f1 <= 1 and r.reference_volume_ml > 5 for r in results)


def test_only_the_subjects_asked_for_are_measured(tmp_path: Path) -> None:
    assert _run(tmp_path, "--subjects", "2") == 0
    assert {r.subject for r in read_results(tmp_path / "tiny_made.tsv")} == {"sub-2"}


def test_a_subject_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, "--subjects", "2", "9") != 0
    assert "sub-9" in capsys.readouterr().err


def test_rendering_replaces_what_stands_between_the_markers(tmp_path: Path) -> None:
    assert _run(tmp_path) == 0
    document = tmp_path / "accuracy.md"
    document.write_text(
        "before\n<!-- begin tiny_made -->\nstale\n<!-- end tiny_made -->\nafter\n", encoding="utf-8"
    )
    for _ in range(2):
        assert main(["render", str(tmp_path / "tiny_made.tsv"), "--into", str(document)]) == 0
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- begin tiny_made -->\n- DeepMRSeg: 1 repeat")
    assert text.endswith("<!-- end tiny_made -->\nafter\n")
    assert "| Left Blob | DeepMRSeg |" in text
    assert "stale" not in text


def test_without_a_document_the_tables_are_printed_and_nothing_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path) == 0
    capsys.readouterr()
    assert main(["render", str(tmp_path / "tiny_made.tsv")]) == 0
    assert "| Left Blob | DeepMRSeg |" in capsys.readouterr().out
    assert not (tmp_path / "figures").exists()


def test_a_document_without_the_place_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path) == 0
    (tmp_path / "empty.md").write_text("nothing\n", encoding="utf-8")
    command = ["render", str(tmp_path / "tiny_made.tsv"), "--into", str(tmp_path / "empty.md")]
    assert main(command) != 0
    assert "<!-- begin tiny_made -->" in capsys.readouterr().err


def test_measured_figures_go_into_the_weights_record(tmp_path: Path) -> None:
    assert _run(tmp_path) == 0
    folder, results = tmp_path / "models" / "tiny", tmp_path / "tiny_made.tsv"
    before = read_record(folder)
    assert main(["record", str(results), "--model", str(folder)]) == 0
    after = read_record(folder)
    assert after.members == before.members
    f1 = [m.value for m in after.metrics if m.name == "mean F1, tiny_made, 2 scans"]
    rows = read_results(results)
    assert f1 == [pytest.approx(sum(r.f1 for r in rows) / len(rows), abs=1e-3)]


def test_thresholds_are_chosen_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_at_rules(THREE_FOLDS, tmp_path / "made_thresholds.tsv")
    assert main(["thresholds", str(tmp_path / "made_thresholds.tsv")]) == 0
    assert "at least 0.6, 0 mm3, chosen on all folds" in capsys.readouterr().out
    assert main(["thresholds", str(tmp_path / "absent.tsv")]) != 0
    assert "absent.tsv" in capsys.readouterr().err
