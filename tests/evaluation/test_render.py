"""What files become in a document is told by their names, and never by half."""

from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import InputDataError, UsageError
from bids_deepmrseg.evaluation.lesion_results import write_lesion_results
from bids_deepmrseg.evaluation.render import Figure, Section, put_into, render
from bids_deepmrseg.evaluation.results import Result, write_folds, write_results
from bids_deepmrseg.evaluation.thresholds import write_at_rules
from tests.evaluation.made import make_fold, make_result
from tests.evaluation.test_lesion_sections import FLIPS, GROUPS, make_findings
from tests.evaluation.test_logs import TEXT
from tests.evaluation.test_threshold_choice import THREE_FOLDS

OF_FOLD = "gentle_crossval_unet_axial_repeat-1_fold-2"
PLAIN = tuple(make_result(f"sub-{n}", "Blob", 0.5 + n / 100, volume_ml=1 + n) for n in range(6))
BOTH = tuple(
    replace(r, structure=structure, network=network, ensemble=ensemble, f1=r.f1 + gain)
    for r in PLAIN
    for structure in ("Left Blob", "Right Blob")
    for network, gain in (("unet", 0), ("deepmrseg", 0.01))
    for ensemble in ("axial", "all views")
)


def write(folder: Path, name: str, results: tuple[Result, ...] = PLAIN) -> Path:
    write_results(results, folder / f"{name}.tsv")
    return folder / f"{name}.tsv"


def test_a_plain_evaluation_has_every_scan_and_the_trainings_behind_it(tmp_path: Path) -> None:
    log = tmp_path / "training_made_axial.tsv"
    log.write_text(TEXT, encoding="utf-8")
    section, curves = render([log, write(tmp_path, "made_heldout")], draw=False)
    assert section.name == "made_heldout"
    assert "Trainings behind the model: axial 2 epochs, 300 steps, 121 s" in section.text
    assert section.text.count("| sub-") == len(PLAIN)
    assert "paper" not in section.text
    assert curves.name == "training_made"
    assert "average" not in section.text  # of one structure


def test_a_cross_validation_has_folds_tests_ensembles_and_lowest_scans(tmp_path: Path) -> None:
    results = write(tmp_path, "hippocampus_crossval", BOTH)
    write_folds((make_fold(), make_fold("unet")), tmp_path / "hippocampus_crossval_folds.tsv")
    (section,) = render(sorted(tmp_path.glob("*.tsv")), draw=False)
    assert section.name == results.stem
    assert "UNet was trained 1 time" in section.text
    assert "Wilcoxon" in section.text
    assert "| UNet | axial |" in section.text
    assert "| **average of 2** | DeepMRSeg, paper | 0.922 (0.02) |" in section.text
    assert section.text.count("| sub-") == 2 * 5


def test_figures_are_drawn_beside_the_results_and_linked_from_the_document(tmp_path: Path) -> None:
    log = tmp_path / "docs" / "results" / "training_made_axial.tsv"
    results = write(log.parent, "made_heldout")
    log.write_text(TEXT, encoding="utf-8")
    document = tmp_path / "docs" / "accuracy.md"
    names = ("made_heldout", "training_made")
    document.write_text("".join(f"<!-- begin {n} -->\n<!-- end {n} -->\n" for n in names))
    put_into(document, render([results, log], draw=True))
    text = document.read_text(encoding="utf-8")
    figures = ("made_heldout_boxes", "made_heldout_volumes", "training_made")
    for name in figures:
        assert f"](results/figures/{name}.svg)" in text
        assert (log.parent / "figures" / f"{name}.svg").is_file()


def test_trainings_of_folds_stand_by_themselves(tmp_path: Path) -> None:
    logs = [tmp_path / f"training_made_{part}.tsv" for part in ("unet_axial", OF_FOLD)]
    for log in logs:
        log.write_text(TEXT, encoding="utf-8")
    sections = render([*logs, write(tmp_path, "made_heldout")], draw=False)
    assert [s.name for s in sections] == [
        "made_heldout",
        "training_made",
        "training_made_gentle_crossval",
    ]
    assert "fold-2" not in sections[0].text


def test_too_few_scans_are_not_drawn(tmp_path: Path) -> None:
    (section,) = render([write(tmp_path, "made_heldout", PLAIN[:4])], draw=True)
    assert section.figures == ()
    assert not (tmp_path / "figures").exists()


def test_a_cross_validation_without_its_folds_is_refused(tmp_path: Path) -> None:
    results = write(tmp_path, "made_crossval")
    with pytest.raises(UsageError, match=r"needs made_crossval_folds\.tsv"):
        render([results], draw=False)


def test_folds_without_their_results_are_refused(tmp_path: Path) -> None:
    write_folds((make_fold(),), tmp_path / "made_crossval_folds.tsv")
    with pytest.raises(UsageError, match=r"made_crossval_folds\.tsv came without"):
        render([tmp_path / "made_crossval_folds.tsv"], draw=False)


def test_a_file_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="holds no result"):
        render([write(tmp_path, "made_heldout", ())], draw=False)


def test_a_section_goes_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "accuracy.md"
    document.write_text("a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n", encoding="utf-8")
    picture = Figure(title="t", file=tmp_path / "results" / "x.svg")
    for text in ("new", "newer"):
        put_into(document, [Section(name="x", text=text, figures=(picture,))])
    assert document.read_text(encoding="utf-8") == (
        "a\n<!-- begin x -->\nnewer\n\n![t](results/x.svg)\n<!-- end x -->\nb\n"
    )


def test_a_document_without_the_place_is_left_as_it_was(tmp_path: Path) -> None:
    document = tmp_path / "accuracy.md"
    before = "<!-- begin y -->\n<!-- end y -->\n<!-- begin x -->\n"
    document.write_text(before, encoding="utf-8")
    sections = [Section(name=name, text="new", figures=()) for name in ("y", "x")]
    with pytest.raises(UsageError, match="no place for x"):
        put_into(document, sections)
    assert document.read_text(encoding="utf-8") == before


def test_lesions_stand_with_their_results_and_thresholds_by_themselves(tmp_path: Path) -> None:
    results, lesions = make_findings("axial", FLIPS)
    files = [write(tmp_path, "wml_crossval", results)]
    write_folds((make_fold(),), tmp_path / "wml_crossval_folds.tsv")
    write_lesion_results(lesions, tmp_path / "wml_crossval_lesions.tsv")
    groups = "".join(f"{scan}\t{group}\n" for scan, group in GROUPS.items())
    (tmp_path / "wml_crossval_scans.tsv").write_text(f"scan\tgroup\n{groups}", encoding="utf-8")
    write_at_rules(THREE_FOLDS, tmp_path / "wml_crossval_thresholds.tsv")
    section, thresholds = render(sorted(tmp_path.glob("*.tsv")), draw=False)
    assert section.name == files[0].stem
    assert "shown: axial, flips" in section.text
    assert "| whole head (2) | DeepMRSeg | axial, flips |" in section.text
    assert "| other data | DeepMRSeg, paper |" in section.text
    assert (thresholds.name, thresholds.figures) == ("wml_crossval_thresholds", ())
    assert "chosen on all folds" in thresholds.text
    with pytest.raises(UsageError, match=r"wml_crossval_lesions.tsv came without its results"):
        render([tmp_path / "wml_crossval_lesions.tsv"], draw=False)


def test_lesions_measured_once_need_no_folds_and_no_paper(tmp_path: Path) -> None:
    results, lesions = make_findings(FLIPS)
    write_lesion_results(lesions, tmp_path / "wml_other_lesions.tsv")
    files = [write(tmp_path, "wml_other", results), tmp_path / "wml_other_lesions.tsv"]
    (section,) = render(files, draw=False)
    assert "| all (3) | DeepMRSeg | axial, flips |" in section.text
    assert "paper" not in section.text
