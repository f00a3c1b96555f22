"""No two runs work on one case, or in one folder, at the same time; the dead hold nothing."""

import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.files import partial_name
from bids_deepmrseg.pipeline.claims import CaseClaims, claim_cases
from bids_deepmrseg.pipeline.environment import WORKFLOW_NAME
from bids_deepmrseg.pipeline.graph import run
from bids_deepmrseg.records import Case
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.aggregate import aggregate
from tests.makers import make_case, make_dataset, make_model_folder, make_settings
from tests.regions import make_chain, make_chain_models

SCANS = ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz")
WHOLE, SIDE, PART = make_chain()


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    return make_settings(tmp_path)


@pytest.fixture
def cases(settings: RunSettings) -> tuple[Case, ...]:
    return tuple(make_case(settings.bids_dir, scan) for scan in SCANS)


@contextmanager
def other_run(
    cases: tuple[Case, ...], settings: RunSettings, *, output_dir: Path | None = None
) -> Iterator[CaseClaims]:
    """Another run, as far as the file system can tell."""
    out = output_dir or settings.output_dir
    other = replace(settings, run_id="20260101-000000_b", output_dir=out)
    with claim_cases(cases, other) as claims:
        yield claims


def test_a_case_belongs_to_the_run_that_came_first(
    settings: RunSettings, cases: tuple[Case, ...]
) -> None:
    with other_run(cases[:1], settings), claim_cases(cases, settings) as claims:
        sentence = "another run is working on it (logs/20260101-000000_b)"
        assert claims == CaseClaims(shared=cases[1:], apart=(), taken=((cases[0], sentence),))
    with claim_cases(cases, settings) as claims:
        assert claims == CaseClaims(shared=cases, apart=(), taken=())


def test_nothing_is_left_of_claims(settings: RunSettings, cases: tuple[Case, ...]) -> None:
    with other_run(cases[:1], settings), claim_cases(cases, settings):
        assert list(settings.output_dir.iterdir())
    assert list(settings.output_dir.iterdir()) == []
    assert list((settings.work_dir / WORKFLOW_NAME).iterdir()) == []


def test_runs_of_one_work_folder_and_two_outputs_keep_apart_there(
    settings: RunSettings, cases: tuple[Case, ...], tmp_path: Path
) -> None:
    elsewhere = other_run(cases[:1], settings, output_dir=tmp_path / "elsewhere")
    with elsewhere, claim_cases(cases, settings) as claims:
        assert claims == CaseClaims(shared=cases[1:], apart=cases[:1], taken=())


def test_tasks_located_by_the_same_one_do_not_wait_and_do_not_meet(settings: RunSettings) -> None:
    make_chain_models(settings.models_dir or Path())
    part, side, whole = (
        make_case(settings.bids_dir, SCANS[0], task=task) for task in (PART, SIDE, WHOLE)
    )
    with other_run((part,), settings) as first, claim_cases((side,), settings) as claims:
        assert (first.shared, claims.apart) == ((part,), (side,))
    with other_run((whole,), settings), claim_cases((part, side), settings) as claims:
        assert (claims.shared, claims.apart) == ((), (part, side))


def test_a_killed_run_holds_nothing_and_its_unfinished_files_are_deleted(
    settings: RunSettings, cases: tuple[Case, ...], tmp_path: Path
) -> None:
    make_dataset(settings.bids_dir, SCANS)
    script = (
        "import os, pickle, sys; from bids_deepmrseg.pipeline.claims import claim_cases\n"
        "cases, settings = pickle.load(sys.stdin.buffer)\n"
        "with claim_cases(cases, settings): os.kill(os.getpid(), 9)"
    )
    told = pickle.dumps((cases, replace(settings, run_id="20260101-000000_killed")))
    subprocess.run([sys.executable, "-c", script], input=told, check=False)
    anat = settings.output_dir / "sub-01" / "anat"
    ours, of_another_task = (
        partial_name(anat / f"sub-01_space-T1w_seg-{task}_dseg.json") for task in ("tiny", "large")
    )
    of_the_user = anat / ".notes.sub-01_space-T1w_seg-tiny_dseg.json"
    in_log = partial_name(settings.log_dir.with_name("20260101-000000_killed") / "status.tsv")
    for file in (ours, of_another_task, of_the_user, in_log):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{", encoding="utf-8")
    with claim_cases(cases, settings) as claims:
        assert claims.shared == cases
    assert {file.name for file in anat.iterdir()} == {of_another_task.name, of_the_user.name}
    assert not in_log.exists()


def test_without_locks_runs_go_on_with_a_warning(
    settings: RunSettings,
    cases: tuple[Case, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(descriptor: int, command: int, request: bytes) -> bytes:
        raise OSError(38, "no locks")

    monkeypatch.setattr("fcntl.fcntl", refuse)
    with other_run(cases, settings), claim_cases(cases, settings) as claims:
        assert claims == CaseClaims(shared=cases, apart=(), taken=())
    assert "no file can be locked in" in caplog.text


def test_a_run_skips_what_another_works_on_and_says_so(
    settings: RunSettings, cases: tuple[Case, ...]
) -> None:
    make_dataset(settings.bids_dir, SCANS)
    make_model_folder(settings.models_dir or Path())
    with other_run(cases[:1], settings):
        skipped, done = run(Plan(cases, ()), settings)
    assert (skipped.status, done.status) == ("skipped", "done")
    assert skipped.reason == "another run is working on it (logs/20260101-000000_b)"
    assert not (settings.output_dir / "sub-01").exists()
    run(Plan(cases[:1], ()), replace(settings, run_id="20250101-000000_earlier"))
    tables = {file.name: file.read_text("utf-8") for file in aggregate(settings.output_dir)}
    assert "another run" not in tables["group_tiny.tsv"]


def test_a_run_leaves_folders_alone_in_which_another_works(
    settings: RunSettings, cases: tuple[Case, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_dataset(settings.bids_dir, SCANS)
    make_model_folder(settings.models_dir or Path())
    theirs = settings.work_dir / WORKFLOW_NAME / "tiny_sub-01_T1w_segment" / "theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("", encoding="utf-8")
    caplog.set_level(logging.INFO)
    with other_run(cases[:1], settings, output_dir=tmp_path / "elsewhere"):
        outcomes = run(Plan(cases, ()), replace(settings, clean_workdir=True))
    assert [one.status for one in outcomes] == ["done", "done"]
    assert "work folders of their own" in caplog.text
    left = [file for file in settings.work_dir.rglob("*") if file.is_file()]
    assert left == [theirs]
