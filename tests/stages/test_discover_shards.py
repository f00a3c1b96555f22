"""What the shards of a dataset do is together exactly what one run would do."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bids_deepmrseg.errors import NothingToDoError, UsageError
from bids_deepmrseg.records import Outcome
from bids_deepmrseg.selection.plan import Plan
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.discover import DATABASE_FILE, discover, why_idle
from bids_deepmrseg.tasks import Task
from tests.makers import make_task
from tests.trees import make_tree

PAIR = make_task("pair", channels=("T1w", "FLAIR"))
TASKS = (make_task("tiny"), PAIR)
MISSING = ("99", "0missing")
SHARDS = (1, 2, 3, 5, 7, 8, 11, 12, 20)


def settings_of(bids_dir: Path, **changes: object) -> RunSettings:
    values: dict[str, object] = {
        "bids_dir": bids_dir,
        "output_dir": bids_dir.parent / "out",
        "work_dir": bids_dir.parent / "work",
        "analysis_level": "participant",
        "run_id": "test",
        **changes,
    }
    return RunSettings(**values)  # type: ignore[arg-type] # the test's own values


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Ten participants: sessions, pairs, near misses, a dangling link, one without scans."""
    names = [f"sub-{n:02d}_ses-{ses}_T1w.nii" for n in range(1, 6) for ses in "ab"]
    names += [f"sub-{n:02d}_ses-a_FLAIR.nii" for n in range(1, 5)]
    names += ["sub-06_run-1_T1w.nii", "sub-06_run-2_T1w.nii", "sub-07_t1w.nii", "sub-08/func/x"]
    bids_dir = make_tree(tmp_path / "bids", [*names, "sub-09_T1w.nii"])
    link = bids_dir / "sub-10" / "anat" / "sub-10_T1w.nii"
    link.parent.mkdir(parents=True)
    link.symlink_to("gone")
    return bids_dir


def plans(bids_dir: Path, n_shards: int, *tasks: Task, **changes: object) -> Iterator[Plan]:
    for index in range(n_shards):
        settings = settings_of(bids_dir, num_shards=n_shards, shard_index=index, **changes)
        yield discover(settings, tasks or TASKS)


def told(rows: tuple[Outcome, ...]) -> Counter[Outcome]:
    return Counter(rows)


@pytest.mark.parametrize("n_shards", SHARDS)
def test_shards_are_disjoint_and_together_the_whole_plan(mixed: Path, n_shards: int) -> None:
    changes = {
        "participant_labels": (*(f"{n:02d}" for n in range(1, 11)), *MISSING),
        "exclude_participant_labels": ("03", "absent"),
        "session_labels": ("a",) if n_shards % 2 else (),
        "require": ("pair",),
    }
    whole = discover(settings_of(mixed, **changes), TASKS)
    parts = list(plans(mixed, n_shards, **changes))
    cases = [case for part in parts for case in part.cases]
    assert len(set(cases)) == len(cases)
    assert set(cases) == set(whole.cases)
    for rows in ("left_out", "filtered"):
        united = sum((told(getattr(part, rows)) for part in parts), Counter[Outcome]())
        assert united == told(getattr(whole, rows))
    remarks = {one for part in parts for one in part.remarks}
    assert remarks == set(whole.remarks)
    seen = [{row[0] for row in part.rows} for part in parts]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_participants_that_are_not_there_are_told_by_one_shard_each(mixed: Path) -> None:
    labels = ("01", "02", *MISSING)
    parts = list(plans(mixed, 4, TASKS[0], participant_labels=labels))
    rows = [row for part in parts for row in part.left_out if "not in the dataset" in row.reason]
    assert sorted(row.participant_id for row in rows) == ["sub-0missing", "sub-99"]


def test_a_label_that_excludes_nobody_is_told_by_the_first_shard(
    mixed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in plans(mixed, 3, exclude_participant_labels=("absent",)):
        assert part.is_of_use
    assert caplog.text.count("there is no sub-absent") == 1


def test_a_shard_indexes_its_own_participants_only(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mixed / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_T1w.nii").unlink()
    from bids_deepmrseg.stages import discover as stage  # noqa: PLC0415 - to watch what it does

    roots: list[set[str]] = []
    index = stage._index  # noqa: SLF001 - what is indexed can be seen nowhere else

    def watched(settings: RunSettings, labels: tuple[str, ...]) -> object:
        layout = index(settings, labels)
        roots.append({Path(file).relative_to(mixed).parts[0] for file in layout.files})
        return layout

    monkeypatch.setattr(stage, "_index", watched)
    (part,) = (one for n, one in enumerate(plans(mixed, 5)) if n == 3)
    assert {case.entity("sub") for case in part.cases} == {"04", "09"}
    assert roots[3] == {"sub-04", "sub-09"}


def test_a_shard_uses_a_saved_index_and_makes_none(
    mixed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = mixed.parent / "database"
    (*_, _last) = plans(mixed, 2, bids_database_dir=folder)
    assert not folder.exists()
    discover(settings_of(mixed, bids_database_dir=folder), TASKS)
    written = (folder / DATABASE_FILE).stat().st_mtime_ns
    caplog.clear()
    cases = [case for part in plans(mixed, 2, bids_database_dir=folder) for case in part.cases]
    assert len(cases) == len(discover(settings_of(mixed), TASKS).cases)
    assert caplog.text == ""
    assert (folder / DATABASE_FILE).stat().st_mtime_ns == written


def idle(bids_dir: Path, n_shards: int, index: int, *tasks: Task) -> str | None:
    settings = settings_of(bids_dir, num_shards=n_shards, shard_index=index)
    return why_idle(discover(settings, tasks or TASKS[:1]), settings, tasks or TASKS[:1])


def test_a_shard_without_work_says_why_as_long_as_others_have_some(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_T1w.nii", "sub-2_t1w.nii"])
    assert idle(bids_dir, 3, 0) is None
    assert idle(bids_dir, 3, 1) == (
        "shard 1 of 3 (counted from 0) has no scan that can be segmented; the other shards have "
        "1 cases to run"
    )
    assert "has no participant; the other shards have 1 cases" in (idle(bids_dir, 3, 2) or "")


def test_a_dataset_without_work_is_an_error_in_every_shard(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_t1w.nii", "sub-2_T2w.nii"])
    for index in range(4):
        with pytest.raises(NothingToDoError, match="looked at 2 participants"):
            idle(bids_dir, 4, index)
    (bids_dir / "dataset_description.json").unlink()
    for index in range(4):
        with pytest.raises(UsageError, match="is not a BIDS dataset"):
            idle(bids_dir, 4, index)
    make_tree(tmp_path / "empty", [])
    for index in range(4):
        with pytest.raises(NothingToDoError, match="has no sub-"):
            idle(tmp_path / "empty", 4, index)


def test_a_shard_without_work_beside_one_that_failed_is_no_error(tmp_path: Path) -> None:
    bids_dir = make_tree(tmp_path / "bids", ["sub-1_t1w.nii"])
    link = bids_dir / "sub-2" / "anat" / "sub-2_T1w.nii"
    link.parent.mkdir(parents=True)
    link.symlink_to("gone")
    assert "the other shards have 0 cases" in (idle(bids_dir, 2, 0) or "")
    assert idle(bids_dir, 2, 1) is None
