"""Scans that go together share the session, and as much of their names as there is to share."""

from pathlib import Path

import pytest

from bids_deepmrseg.selection.folders import AnatFolder
from bids_deepmrseg.selection.names import parse_name
from bids_deepmrseg.selection.pairs import (
    Group,
    Subject,
    describe_group,
    explain_first,
    find_partners,
)
from bids_deepmrseg.selection.scans import Scan
from bids_deepmrseg.taskfiles import BUILTIN_MODELS, TASK_FILE, read_task
from tests.makers import bids_path, make_task

WML = read_task(BUILTIN_MODELS / "wml" / TASK_FILE)
THREE = make_task("three", channels=("FLAIR", "T1w", "T2w"))


def scan_of(name: str, removed_by: str | None = None) -> Scan:
    parsed = parse_name(name)
    assert parsed is not None
    return Scan(path=bids_path(name), name=parsed, removed_by=removed_by)


def subject_of(*names: str, others: tuple[str, ...] = (), removed: tuple[str, ...] = ()) -> Subject:
    """A participant whose folders hold usable scans, scans that a filter removes, and others."""
    scans = [scan_of(name) for name in names]
    scans += [scan_of(name, "a filter") for name in removed]
    folders: dict[Path, list[str]] = {}
    for name in (*names, *removed, *others):
        folders.setdefault(bids_path(name).parent, []).append(name)
    return Subject(
        "1",
        tuple(
            AnatFolder(
                path,
                path.parts[1].removeprefix("ses-") if len(path.parts) > 2 else None,
                tuple(sorted(found)),
            )
            for path, found in folders.items()
        ),
        tuple(sorted(scans, key=lambda scan: scan.path)),
    )


def partner(flair: str, *t1ws: str) -> str:
    """The T1w that goes with a FLAIR."""
    group = find_partners(scan_of(flair), subject_of(flair, *t1ws), WML)
    return group.scans[1].path.name


@pytest.mark.parametrize(
    ("flair", "t1ws", "chosen"),
    [
        ("sub-1_FLAIR.nii", ("sub-1_T1w.nii",), 0),
        ("sub-1_run-2_FLAIR.nii", ("sub-1_run-1_T1w.nii", "sub-1_run-2_T1w.nii"), 1),
        ("sub-1_run-02_FLAIR.nii", ("sub-1_run-1_T1w.nii", "sub-1_run-2_T1w.nii"), 1),
        ("sub-1_acq-b_FLAIR.nii", ("sub-1_acq-a_T1w.nii", "sub-1_acq-b_run-2_T1w.nii"), 1),
        ("sub-1_FLAIR.nii", ("sub-1_acq-b_T1w.nii", "sub-1_acq-a_T1w.nii"), 1),
        ("sub-1_FLAIR.nii", ("sub-1_T1w.nii", "sub-1_ce-gad_T1w.nii"), 0),
        ("sub-1_run-1_FLAIR.nii", ("sub-1_ce-gad_run-1_T1w.nii", "sub-1_run-1_T1w.nii"), 1),
        ("sub-1_run-1_FLAIR.nii", ("sub-1_ce-gad_run-1_T1w.nii", "sub-1_T1w.nii"), 0),
    ],
)
def test_the_partner_shares_most_of_the_name_then_has_least_else_then_comes_first(
    flair: str, t1ws: tuple[str, ...], chosen: int
) -> None:
    assert partner(flair, *t1ws) == t1ws[chosen]
    assert partner(flair, *reversed(t1ws)) == t1ws[chosen]


def test_scans_of_other_sessions_and_removed_ones_are_no_partners() -> None:
    flair = "sub-1_ses-a_FLAIR.nii"
    subject = subject_of(
        flair, "sub-1_ses-b_T1w.nii", removed=("sub-1_ses-a_T1w.nii", "sub-1_ses-a_run-2_T1w.nii")
    )
    assert find_partners(scan_of(flair), subject, WML) == Group((scan_of(flair),), (1,))


def test_what_comes_behind_a_lacking_channel_is_left_out() -> None:
    names = ("sub-1_FLAIR.nii", "sub-1_T2w.nii")
    group = find_partners(scan_of(names[0]), subject_of(*names), THREE)
    assert [scan.path.name for scan in group.scans] == ["sub-1_FLAIR.nii"]


def said(tmp_path: Path, subject: Subject) -> str:
    (first,) = (scan for scan in subject.of_suffix("FLAIR") if scan.session in (None, "a"))
    return describe_group(find_partners(first, subject, WML), subject, WML, tmp_path)


def test_a_plain_pair_needs_no_words(tmp_path: Path) -> None:
    assert said(tmp_path, subject_of("sub-1_FLAIR.nii", "sub-1_T1w.nii")) == ""


def test_a_choice_is_told(tmp_path: Path) -> None:
    subject = subject_of("sub-1_FLAIR.nii", "sub-1_run-1_T1w.nii", "sub-1_run-2_T1w.nii")
    assert said(tmp_path, subject) == "T1w chosen by name from 2"


def test_a_lone_scan_is_told_with_what_explains_it(tmp_path: Path) -> None:
    alone = "FLAIR alone: no T1w in the session"
    assert said(tmp_path, subject_of("sub-1_FLAIR.nii", others=("sub-1_FLAIR.json",))) == alone
    misspelt = subject_of("sub-1_FLAIR.nii", others=("sub-1_t1w.nii", "sub-1_t1w.json"))
    assert said(tmp_path, misspelt) == f"{alone}: sub-1_t1w.nii is there"
    apart = subject_of("sub-1_ses-a_FLAIR.nii", "sub-1_ses-b_T1w.nii", "sub-1_ses-b_FLAIR.nii")
    assert said(tmp_path, apart) == f"{alone}: ses-b has one, but sessions are not mixed"
    filtered = subject_of("sub-1_FLAIR.nii", removed=("sub-1_T1w.nii",), others=("sub-1_x.nii",))
    assert said(tmp_path, filtered) == f"{alone}: a filter leaves out sub-1_T1w.nii"


def test_a_partner_outside_of_the_anat_folders_is_named(tmp_path: Path) -> None:
    stray = tmp_path / "sub-1" / "dwi" / "sub-1_T1w.nii"
    stray.parent.mkdir(parents=True)
    stray.touch()
    words = said(tmp_path, subject_of("sub-1_FLAIR.nii"))
    assert words.endswith("session: sub-1/dwi/sub-1_T1w.nii lies in no anat folder")


@pytest.mark.parametrize(
    ("names", "others", "reason"),
    [
        (("sub-1_T1w.nii",), ("sub-1_T1w.json",), "no FLAIR scan, only T1w"),
        (
            ("sub-1_T1w.nii",),
            ("sub-1_T2FLAIR.nii",),
            "no FLAIR scan, only T1w; sub-1_T2FLAIR.nii cannot be used as one",
        ),
        ((), ("sub-1_T2w.nii",), "no FLAIR scan: sub-1/anat holds sub-1_T2w.nii"),
    ],
)
def test_the_word_on_a_session_without_first_scan_is_short_where_it_has_another(
    names: tuple[str, ...], others: tuple[str, ...], reason: str
) -> None:
    subject = subject_of(*names, others=others)
    assert explain_first(subject, subject.folders[0], WML) == reason
