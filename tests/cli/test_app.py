"""The command: light help, a plan on demand, and an exit code that agrees with the table."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bids_deepmrseg.cli.app import choose_tasks, main
from bids_deepmrseg.cli.parser import read_command
from bids_deepmrseg.errors import NothingToDoError, UsageError
from bids_deepmrseg.files import read_tsv
from bids_deepmrseg.network.weights import RECORD_FILE
from bids_deepmrseg.settings import read_settings
from bids_deepmrseg.stages.status import read_status
from bids_deepmrseg.taskfiles import WEIGHTS_RECORD_FILE
from bids_deepmrseg.tasks import Task
from tests.commands import closed
from tests.makers import make_dataset, make_model_folder, make_task, task_toml
from tests.regions import make_dataset as make_dataset_with_blobs
from tests.regions import make_models, make_region_task

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = {"bids", "matplotlib", "nibabel", "nipype", "numpy", "pandas", "scipy", "torch"}


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """A models folder that tells of two tasks and of weights without any: enough to plan with."""
    for task in (make_task("tiny"), make_task("pair", channels=("T1w", "FLAIR"))):
        folder = tmp_path / "models" / task.name
        folder.mkdir(parents=True)
        (folder / "task.toml").write_text(task_toml(task), encoding="utf-8")
        (folder / WEIGHTS_RECORD_FILE).write_text("{}", encoding="utf-8")
    return tmp_path / "models"


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("flag", ["--help", "--version"])
@pytest.mark.parametrize("start", [["-m", "bids_deepmrseg"], ["run.py"]])
def test_help_and_version_need_nothing_heavy(start: list[str], flag: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *start, flag],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "bids_deepmrseg" in imported
    assert imported & HEAVY == set()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    assert done.stdout.startswith("usage: bids-deepmrseg" if flag == "--help" else "bids-deepmrseg")


def test_what_the_disk_refuses_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tmp_path / "bids"), str(tmp_path / "out"), "group"]
    # imports what it needs, which cannot be read behind closed doors
    assert main(command) == NothingToDoError.exit_code
    capsys.readouterr()
    with closed(tmp_path):
        code = main(command)
    assert code == os.EX_IOERR
    told = capsys.readouterr().err
    assert told.startswith(f"bids-deepmrseg: {tmp_path / 'out'}: Permission denied, for user")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == os.EX_OK
    version = (REPOSITORY / "version").read_text(encoding="utf-8").strip()
    assert capsys.readouterr().out == f"bids-deepmrseg {version}\n"


def test_tasks_and_network_agree_on_what_holds_the_record_of_weights() -> None:
    assert WEIGHTS_RECORD_FILE == RECORD_FILE


def test_the_default_is_every_task(models_dir: Path) -> None:
    start = ["/in", "/out", "participant", "--models-dir", str(models_dir)]
    assert {task.name for task in choose_tasks(read_command(start)[0])} >= {"tiny", "pair"}
    chosen = choose_tasks(read_command([*start, "--task", "tiny"])[0])
    assert [task.name for task in chosen] == ["tiny"]
    with pytest.raises(UsageError, match=r"no task 'tinny'; known tasks: .*tiny"):
        choose_tasks(read_command([*start, "--task", "tinny"])[0])


def add_task(models_dir: Path, task: Task, *, weights: bool) -> list[str]:
    """Add a task, and return the arguments of a dry run."""
    (models_dir / task.name).mkdir()
    (models_dir / task.name / "task.toml").write_text(task_toml(task), encoding="utf-8")
    if weights:
        (models_dir / task.name / WEIGHTS_RECORD_FILE).write_text("{}", encoding="utf-8")
    bids_dir = models_dir.parent / "bids"
    make_dataset(bids_dir, ("sub-01_T1w.nii.gz",))
    out = models_dir.parent / "out"
    return [str(bids_dir), str(out), "participant", "--dry-run", "--models-dir", str(models_dir)]


def test_a_task_without_weights_runs_only_if_it_is_asked_for_and_then_says_so(
    models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = add_task(models_dir, make_task("untrained"), weights=False)
    assert main(command) == os.EX_OK
    assert "untrained" not in capsys.readouterr().out
    assert main([*command, "--task", "untrained"]) == os.EX_UNAVAILABLE
    said = capsys.readouterr().err
    assert f"task untrained cannot run: there are no weights in {models_dir}" in said


def test_a_dry_run_tells_which_task_locates_another(
    models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = add_task(models_dir, make_region_task(), weights=True)
    assert main([*command, "--task", "part"]) == os.EX_OK
    (row,) = (line for line in capsys.readouterr().out.splitlines() if " part " in line)
    assert row.endswith("run       located by tiny, which runs first")


@pytest.mark.parametrize(
    ("located_by", "sentence"),
    [
        ("nobody", "task part is located by task 'nobody', which does not exist; known tasks: "),
        ("part", "task part cannot show where part is to be segmented: it has no label 1"),
        ("other", "it reads FLAIR, but part begins with T1w"),
        ("deepbrain", "task deepbrain cannot show where part is to be segmented: it has no label"),
    ],
)
def test_a_task_that_cannot_locate_another_is_named(
    models_dir: Path, capsys: pytest.CaptureFixture[str], located_by: str, sentence: str
) -> None:
    other = make_task("other", channels=("FLAIR",))
    add_task(models_dir, other, weights=True)
    command = add_task(models_dir, make_region_task(located_by=located_by), weights=True)
    assert main([*command, "--task", "part"]) == os.EX_USAGE
    assert sentence in capsys.readouterr().err
    assert main([*command, "--task", "tiny"]) == os.EX_OK


@pytest.mark.slow
def test_a_failed_locator_is_told_from_the_command_to_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = {"sub-01_T1w.nii.gz": "RAS", "sub-02_T1w.nii.gz": "LPS"}
    raw = make_dataset_with_blobs(tmp_path / "bids", scans)
    (raw / "sub-02" / "anat" / "sub-02_T1w.nii.gz").write_bytes(b"")
    make_models(tmp_path / "models")
    arguments = [str(raw), str(tmp_path / "out"), "participant", "--task", "part"]
    resources = ["--n-procs", "1", "--device", "cpu", "--models-dir", str(tmp_path / "models")]
    assert main([*arguments, *resources]) == 1
    assert "1 done, 0 skipped, 1 failed" in capsys.readouterr().err
    rows = {one.participant_id: one for one in read_status(only_run(tmp_path) / "status.tsv")}
    assert rows["sub-01"].status == "done"
    assert rows["sub-02"].status == "failed"
    assert rows["sub-02"].reason.startswith(
        "tiny, which shows where part is, failed: sub-02/anat/sub-02_T1w.nii.gz is empty"
    )
    assert main([str(raw), str(tmp_path / "out"), "group"]) == os.EX_OK
    _, table = read_tsv(tmp_path / "out" / "group_part.tsv")
    assert [row["status"] for row in table] == ["done", "failed"]
    assert float(table[0]["left_front_blob_mm3"]) > float(table[0]["right_back_blob_mm3"]) > 0
    assert list((tmp_path / "out").glob("sub-01/figures/*seg-part_dseg.png"))


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("sub-01_T1w.nii", "sub-01_FLAIR.nii", "sub-02_T1w.nii", "sub-03_t1w.nii")
    bids_dir = make_dataset(tmp_path / "bids", names)
    before = files_in(tmp_path)
    arguments = [str(bids_dir), str(tmp_path / "out"), "participant", "--dry_run"]
    flags = ["--models-dir", str(models_dir), "--task", "pair", "tiny"]
    assert main([*arguments, *flags]) == os.EX_OK
    assert files_in(tmp_path) == before
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split() == [
        *("participant", "session", "run", "task", "scans", "decision", "reason")
    ]
    said = {(row.split()[0], row.split()[3]): row for row in rows}
    assert "sub-01_T1w.nii sub-01_FLAIR.nii  " in said["sub-01", "pair"]
    assert " run " in said["sub-01", "tiny"]
    assert "skipped   no FLAIR scan" in said["sub-02", "pair"]
    assert "must end in _T1w.nii" in said["sub-03", "tiny"]
    assert last == "3 to run, 3 left out"


def test_a_dry_run_with_nothing_to_do_says_so(
    tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids_dir = make_dataset(tmp_path / "bids", ("sub-01_FLAIR.nii",))
    arguments = [str(bids_dir), str(tmp_path / "out"), "participant", "--dry-run"]
    flags = ["--models-dir", str(models_dir), "--task", "tiny"]
    assert main([*arguments, *flags]) == os.EX_NOINPUT
    captured = capsys.readouterr()
    assert "0 to run, 1 left out" in captured.out
    assert "sub-01/anat holds sub-01_FLAIR.nii" in captured.err


def test_a_dry_run_shows_the_plan_of_its_shard_only(
    tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"sub-0{n}_T1w.nii" for n in range(1, 4)]
    bids_dir = make_dataset(tmp_path / "bids", names)
    command = [str(bids_dir), str(tmp_path / "out"), "participant", "--dry-run"]
    command += ["--models-dir", str(models_dir), "--task", "tiny", "--num-shards", "4"]
    said = []
    for index in range(4):
        assert main([*command, "--shard-index", str(index)]) == os.EX_OK
        said.append(capsys.readouterr().out.splitlines()[1:])
    assert [[line.split()[0] for line in lines[:-1]] for lines in said[:3]] == [
        ["sub-01"],
        ["sub-02"],
        ["sub-03"],
    ]
    assert said[3] == [
        "0 to run, 0 left out",
        "shard 3 of 4 (counted from 0) has no participant; the other shards have 3 cases to run",
    ]


def test_a_shard_without_participants_is_no_failure_and_says_so(
    tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(tmp_path / "bids", ("sub-01_T1w.nii.gz",))
    assert start(tmp_path, models_dir, "--num-shards", "2", "--shard-index", "1") == os.EX_OK
    assert "shard 1 of 2 (counted from 0) has no participant" in capsys.readouterr().err
    assert read_status(only_run(tmp_path) / "status.tsv") == ()
    recorded = read_settings(only_run(tmp_path) / "settings.toml")
    assert (recorded.num_shards, recorded.shard_index) == (2, 1)


def start(tmp_path: Path, models_dir: Path, *flags: str) -> int:
    """Run the participant level on one CPU."""
    arguments = [str(tmp_path / "bids"), str(tmp_path / "out"), "participant", *flags]
    resources = ["--n-procs", "1", "--device", "cpu", "--models-dir", str(models_dir)]
    return main([*arguments, *resources, "--task", "tiny"])


def only_run(tmp_path: Path) -> Path:
    (log_dir,) = (tmp_path / "out" / "logs").iterdir()
    return log_dir


@pytest.mark.slow
def test_one_bad_scan_fails_alone_and_table_and_exit_code_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids_dir = make_dataset(tmp_path / "bids", ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"))
    (bids_dir / "sub-02" / "anat" / "sub-02_T1w.nii.gz").write_bytes(b"")
    (bids_dir / "sub-03" / "anat").mkdir(parents=True)
    (bids_dir / "sub-03" / "anat" / "sub-03_T1w.nii.gz").symlink_to("gone.nii.gz")
    (bids_dir / "sub-04" / "func").mkdir(parents=True)
    make_model_folder(tmp_path / "models")
    assert start(tmp_path, tmp_path / "models") == 1
    said = capsys.readouterr().err
    assert "1 done, 1 skipped, 2 failed" in said
    assert "sub-02/anat/sub-02_T1w.nii.gz is empty (0 bytes)" in said
    log_dir = only_run(tmp_path)
    assert {one.participant_id: one.status for one in read_status(log_dir / "status.tsv")} == {
        "sub-01": "done",
        "sub-02": "failed",
        "sub-03": "failed",
        "sub-04": "skipped",
    }
    assert {"run.log", "settings.toml", "environment.json"} <= set(files_in(log_dir))
    assert "1 done, 1 skipped, 2 failed" in (log_dir / "run.log").read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "work").exists()
    assert main([str(bids_dir), str(tmp_path / "out"), "group"]) == os.EX_OK
    assert str(tmp_path / "out" / "group_tiny.tsv") in capsys.readouterr().out


def test_nothing_to_do_keeps_its_rows(tmp_path: Path, models_dir: Path) -> None:
    make_dataset(tmp_path / "bids", ("sub-01_FLAIR.nii.gz",))
    assert start(tmp_path, models_dir) == os.EX_NOINPUT
    (row,) = read_status(only_run(tmp_path) / "status.tsv")
    assert (row.participant_id, row.status) == ("sub-01", "skipped")
    assert "no T1w scan" in (only_run(tmp_path) / "run.log").read_text(encoding="utf-8")


def test_only_dangling_links_is_failure(tmp_path: Path, models_dir: Path) -> None:
    make_dataset(tmp_path / "bids", ())
    (tmp_path / "bids" / "sub-01" / "anat").mkdir(parents=True)
    (tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz").symlink_to("gone")
    assert start(tmp_path, models_dir) == 1


@pytest.mark.parametrize(
    ("prepare", "flags", "code", "sentence"),
    [
        ("", ("--device", "cuda:99"), os.EX_USAGE, "cuda:99"),
        ("", ("--task", "absent"), os.EX_USAGE, "no task 'absent'"),
        ("", ("--models-dir", "/nowhere"), os.EX_UNAVAILABLE, "/nowhere is not a folder"),
        ("", ("--participant-label", "9"), os.EX_NOINPUT, "none of the participants"),
        ("", ("--unknown-flag",), os.EX_USAGE, "--unknown-flag"),
        ("file", (), os.EX_CANTCREAT, "cannot be written"),
        ("foreign", (), os.EX_CANTCREAT, "another dataset"),
    ],
)
def test_what_keeps_a_run_from_starting_has_its_sentence_and_code(
    tmp_path: Path,
    models_dir: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    prepare: str,
    flags: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    make_dataset(tmp_path / "bids", ("sub-01_T1w.nii.gz",))
    if prepare == "file":
        (tmp_path / "out").touch()
    if prepare == "foreign":
        make_dataset(tmp_path / "out", ())
    before = files_in(tmp_path / "out")
    arguments = [str(tmp_path / "bids"), str(tmp_path / "out"), "participant"]
    assert main([*arguments, "--models-dir", str(models_dir), *flags]) == code
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    if code != os.EX_NOINPUT:
        assert files_in(tmp_path / "out") == before


def test_the_group_level_needs_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path / "bids"), str(tmp_path / "out"), "group"]
    assert main(arguments) == os.EX_NOINPUT
    assert "run the participant level first" in capsys.readouterr().err
    assert main([*arguments, "--dry-run"]) == os.EX_USAGE
    assert not (tmp_path / "out").exists()
