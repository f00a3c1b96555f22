"""Scans that filters leave out say by which; a scan that is there twice is taken once."""

from pathlib import Path

import pytest

from bids_deepmrseg.selection.filters import EntityFilter
from bids_deepmrseg.selection.names import ScanName
from bids_deepmrseg.selection.scans import is_session_wanted, why_removed, without_twins

NAME = ScanName((("sub", "01"), ("ses", "1")), "T1w")
RUN_2 = EntityFilter("T1w", "run", ("2",))


def test_the_session_is_judged_before_the_filters() -> None:
    assert why_removed(NAME, {}, ("2", "3"), (RUN_2,)) == "--session-label 2 3"


def test_a_filter_is_named_with_what_it_asks_for() -> None:
    assert why_removed(NAME, {"run": "1"}, (), (RUN_2,)) == "--bids-filter-file (T1w run=2)"
    assert why_removed(NAME, {"run": "2"}, (), (RUN_2,)) is None


def test_a_filter_of_another_suffix_does_not_matter() -> None:
    flair = EntityFilter("FLAIR", "run", ("2",))
    assert why_removed(NAME, {"run": "1"}, ("1",), (flair,)) is None


def test_session_labels_leave_out_scans_without_session() -> None:
    assert not is_session_wanted(None, ("1",))
    assert is_session_wanted(None, ())


def test_of_twins_the_compressed_one_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    paths = [Path("a/x_T1w.nii.gz"), Path("a/x_T1w.nii"), Path("b/x_T1w.nii")]
    assert without_twins(paths) == [Path("a/x_T1w.nii.gz"), Path("b/x_T1w.nii")]
    assert "a/x_T1w.nii is passed over" in caplog.text
