"""Comparing many rules at once gives what comparing one after another would."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bids_deepmrseg.errors import GeometryError, InputDataError
from bids_deepmrseg.evaluation.lesionwise import compare_lesions
from bids_deepmrseg.evaluation.metrics import overlap
from bids_deepmrseg.evaluation.thresholds import (
    SMALLEST_MM3,
    THRESHOLDS,
    compare_rules,
    read_at_rules,
    write_at_rules,
)
from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.lesions import LesionRule, find_lesions
from tests.evaluation.made import IDENTITY

SHAPE = (12, 14, 9)
GRID = Grid(SHAPE, np.diag([1.5, 2.0, 2.0, 1.0]))  # 6 mm3


def _made(seed: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """A map in half precision and a mask that have something to do with each other."""
    generator = np.random.default_rng(seed)
    likely = generator.random(SHAPE) ** 3
    return likely.astype(np.float16), likely + generator.normal(0, 0.2, SHAPE) > 0.6


def test_thresholds_are_whole_hundredths_from_low_to_high() -> None:
    assert (THRESHOLDS[0], THRESHOLDS[8], THRESHOLDS[-1], len(THRESHOLDS)) == (0.1, 0.5, 0.9, 17)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_rule_gives_what_finding_its_lesions_gives(seed: int) -> None:
    probability, reference = _made(seed)
    rows = tuple(compare_rules(probability, reference, GRID, IDENTITY))
    assert len(rows) == len(THRESHOLDS) * len(SMALLEST_MM3)
    assert len({row.f1 for row in rows}) > len(THRESHOLDS)  # small pieces make a difference
    for row in rows:
        rule = LesionRule(threshold=row.threshold, smallest_mm3=row.smallest_mm3)
        found = find_lesions(probability, GRID, rule)
        whole = next(compare_lesions(found.mask, reference, GRID.voxel_volume_mm3, IDENTITY))
        assert row.f1 == pytest.approx(overlap(found.mask, reference).f1, nan_ok=True)
        assert row.lesion_f1 == pytest.approx(whole.f1, nan_ok=True)
        assert row.volume_ml == pytest.approx(found.volume_mm3 / 1000)
        assert row.reference_volume_ml == pytest.approx(whole.reference_volume_ml)
        assert (row.scan, row.fold, row.ensemble) == ("sub-01", 1, "all views")


def test_nothing_found_of_nothing_is_not_measured_and_of_something_is_0() -> None:
    nothing = np.zeros(SHAPE, np.float16)
    _, reference = _made(1)
    empty = tuple(compare_rules(nothing, np.zeros(SHAPE, bool), GRID, IDENTITY))
    assert all(math.isnan(row.f1) and math.isnan(row.lesion_f1) for row in empty)
    assert {row.volume_ml for row in empty} == {0.0}
    missed = tuple(compare_rules(nothing, reference, GRID, IDENTITY))
    assert {(row.f1, row.lesion_f1, row.volume_ml) for row in missed} == {(0.0, 0.0, 0.0)}


def test_a_map_on_another_grid_is_refused() -> None:
    probability, reference = _made(1)
    with pytest.raises(GeometryError, match="cannot be compared"):
        next(compare_rules(probability, reference[:-1], GRID, IDENTITY))


def test_rows_come_back_from_their_table(tmp_path: Path) -> None:
    rows = tuple(compare_rules(*_made(2), GRID, IDENTITY, thresholds=(0.15,)))
    write_at_rules(rows, tmp_path / "t.tsv")
    back = read_at_rules(tmp_path / "t.tsv")
    assert [(r.threshold, r.smallest_mm3) for r in back] == [(0.15, mm3) for mm3 in SMALLEST_MM3]
    assert [r.f1 for r in back] == pytest.approx([r.f1 for r in rows], abs=1e-4)
    (tmp_path / "t.tsv").write_text("dataset\tscan\nx\ty\n", encoding="utf-8")
    with pytest.raises(InputDataError, match="no table of atrules"):
        read_at_rules(tmp_path / "t.tsv")
