"""Tables of tasks that find lesions: groups by themselves, variants beside, people together."""

from dataclasses import replace

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.lesion_results import LesionResult
from bids_deepmrseg.evaluation.lesion_sections import (
    Findings,
    lesion_section,
    means_table,
    repeated_table,
    scan_table,
)
from bids_deepmrseg.evaluation.published import published_for
from bids_deepmrseg.evaluation.results import Result
from tests.evaluation.made import cells, make_lesion_result, make_result

FLIPS, ALONE = "axial, flips", "axial, flips, FLAIR alone"
GROUPS = {"sub-1": "whole head", "sub-1b": "whole head", "sub-2": "stripped"}
# of one person, scanned twice, and of another one: F1, our volume and the reference's
SCANS = (("sub-1", "sub-1", 0.8, 11.0, 10.0), ("sub-1", "sub-1b", 0.6, 9.0, 12.0))
STRIPPED = ("sub-2", "sub-2", 0.4, 4.0, 5.0)


def make_findings(*ensembles: str) -> tuple[tuple[Result, ...], tuple[LesionResult, ...]]:
    """Results and lesions of all three scans."""
    results: list[Result] = []
    lesions: list[LesionResult] = []
    for ensemble in ensembles:
        less = 0.1 if ensemble == ALONE else 0.0
        for person, scan, f1, ours_ml, reference_ml in (*SCANS, STRIPPED):
            made = make_result(
                person,
                "White Matter Lesion",
                f1 - less,
                volume_ml=ours_ml,
                reference_volume_ml=reference_ml,
                ensemble=ensemble,
                scan=scan,
            )
            of_lesions = make_lesion_result(
                person,
                3,
                4,
                n_true=4,
                n_segmented=8,
                volume_ml=ours_ml,
                reference_ml=reference_ml,
                ensemble=ensemble,
            )
            results.append(made)
            lesions.append(replace(of_lesions, scan=scan))
    return tuple(results), tuple(lesions)


def _rows(table: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_groups_come_before_all_scans_and_the_paper_last() -> None:
    table = means_table(Findings(*make_findings("axial", FLIPS)), GROUPS, published_for("wml"))
    rows = _rows(table)
    assert [(row[0], row[2]) for row in rows[:-2]] == [
        (group, ensemble)
        for group in ("whole head (2)", "stripped (1)", "all (3)")
        for ensemble in ("axial", FLIPS)
    ]
    assert rows[0][3] == "0.700 (0.141)"
    assert rows[4][3] == "0.600 (0.200)"
    assert rows[0][8:12] == ["0.750 (0.000)", "0.500 (0.000)", "0.600 (0.000)", "17.5 (10.6)"]
    assert [row[1] for row in rows[-2:]] == ["UNet, paper", "DeepMRSeg, paper"]
    assert rows[-1][3:7] == ["0.765 (0.10)", "0.769 (0.10)", "0.889 (0.06)", "0.962"]


def test_without_groups_there_are_all_scans_only() -> None:
    assert [row[0] for row in _rows(means_table(Findings(*make_findings(FLIPS)), {}))] == [
        "all (3)"
    ]


def test_a_scan_shows_the_variants_of_what_is_shown_beside_it() -> None:
    found = Findings(*make_findings("axial", FLIPS, ALONE))
    lacking = tuple(r for r in found.results if (r.scan, r.ensemble) != ("sub-2", ALONE))
    lesions = tuple(r for r in found.lesions if (r.scan, r.ensemble) != ("sub-2", ALONE))
    table = scan_table(Findings(lacking, lesions), GROUPS)
    assert table.splitlines()[0].endswith("| F1, FLAIR alone | lesion F1, FLAIR alone |")
    rows = cells(table)
    assert rows["sub-1b"][:3] == ["whole head", "DeepMRSeg", "0.600"]
    assert rows["sub-1b"][-5:] == ["25.0", "8 / 4", "9.00 / 12.00", "0.500", "0.600"]
    assert rows["sub-2"][-2:] == ["n/a", "n/a"]


def test_one_person_scanned_twice_has_volumes_side_by_side() -> None:
    results, _ = make_findings(FLIPS)
    assert cells(repeated_table(results)) == {
        "sub-1": [
            "DeepMRSeg",
            "sub-1, sub-1b",
            "11.00, 9.00",
            "10.00, 12.00",
            "2.00 ml (20.0 %)",
            "2.00 ml (18.2 %)",
        ]
    }


def test_the_section_has_every_table_of_the_ensemble_that_sees_mirror_images() -> None:
    results, lesions = make_findings("axial", FLIPS, ALONE)
    text = lesion_section(results, lesions, GROUPS)
    assert "One person scanned more than once" in text
    assert "| **all** | DeepMRSeg | 9 / 12 | 12 / 24 |" in text
    apart = [r for r in range(len(results)) if results[r].subject == "sub-2"]
    alone = [results[r] for r in apart], [lesions[r] for r in apart]
    assert "One person" not in lesion_section(*alone, {})


def test_rows_that_do_not_belong_together_are_refused() -> None:
    results, lesions = make_findings(FLIPS)
    with pytest.raises(UsageError, match="sub-2 has no group"):
        lesion_section(results, lesions, {"sub-1": "a", "sub-1b": "a"})
    with pytest.raises(UsageError, match="only one of them has sub-2"):
        lesion_section(results, lesions[:-1], GROUPS)
