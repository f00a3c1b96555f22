"""The scripts of an array job run what the user would have run, in shards, and harm nothing."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bids_deepmrseg.cli.app import main
from bids_deepmrseg.cli.parser import parse, read_command
from bids_deepmrseg.cli.slurm import flags_of
from bids_deepmrseg.cli.slurm_flags import take_slurm
from tests.cli.test_parser import EVERYTHING
from tests.makers import make_dataset, make_model_folder, make_task

SHOW = """#!/usr/bin/env python3
import json, sys
print(json.dumps(sys.argv[1:]))
sys.exit(7)
"""
SBATCH = """#!/bin/bash
printf '%s\\n' "$PWD: $*" >> "$SENT"
wc -l < "$SENT" | sed 's/$/;cluster/'
"""


@pytest.fixture(autouse=True)
def no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may themselves run in one."""
    for name in ("APPTAINER_NAME", "SINGULARITY_NAME", "BIDS_DEEPMRSEG_DOCKER_TAG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start(tmp_path: Path) -> list[str]:
    """A dataset of three participants in a folder with a blank, and a command that would run it."""
    bids_dir = make_dataset(tmp_path / "my data", [f"sub-0{n}_T1w.nii.gz" for n in (1, 2, 3)])
    make_model_folder(tmp_path / "models", make_task("tiny"))
    flags = ["--models-dir", str(tmp_path / "models"), "--task", "tiny"]
    return [str(bids_dir), str(tmp_path / "out"), "participant", *flags]


def executable(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
    return file


def directives(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]


def run_task(script: Path, index: int) -> tuple[list[str], int]:
    """Run a script as Slurm would for one task; what the app was told, and how the task ended."""
    done = subprocess.run(
        ["bash", script],
        env={**os.environ, "SLURM_ARRAY_TASK_ID": str(index)},
        capture_output=True,
        text=True,
        check=False,
    )
    told: list[str] = json.loads(done.stdout)
    return told, done.returncode


def test_three_scripts_are_written_nothing_is_run_and_two_lines_say_what_to_do(
    tmp_path: Path, start: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scripts"
    assert main([*start, "--write-slurm-array", str(folder)]) == os.EX_OK
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{folder}: 1 jobs for 3 cases of 3 participants; each has 2 CPUs")
    assert second == f"look through the scripts, then run {folder}/submit.sh"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("group.sbatch", "logs", "participant.sbatch", "submit.sh")
    ]
    assert not (tmp_path / "out").exists()
    for name in ("group.sbatch", "participant.sbatch", "submit.sh"):
        subprocess.run(["bash", "-n", folder / name], check=True)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", folder / name], check=True)


def test_each_task_of_the_array_is_one_shard_of_what_the_user_asked_for(
    tmp_path: Path, start: list[str]
) -> None:
    show = shlex.quote(str(executable(tmp_path / "show me", SHOW)))
    command = f"module() {{ :; }}; module load apptainer && {show} --first 'a b'"
    flags = ["--participant-label", "01", "sub-02", "--fast", "--no-registration", "-vv"]
    slurm = ["--write-slurm-array", str(tmp_path / "x y"), "--slurm-command", command]
    assert main([*start, *flags, *slurm, "--slurm-hours", "0.0001"]) == os.EX_OK
    told, code = run_task(tmp_path / "x y" / "participant.sbatch", 1)
    assert code == 7
    assert told[:2] == ["--first", "a b"]
    settings, _ = read_command(told[2:])
    expected, _ = read_command([*start, *flags, "--num-shards", "2", "--shard-index", "1"])
    apart = {"run_id", "n_procs", "omp_nthreads", "memory_gb"}
    for name in set(settings.__slots__) - apart:
        assert getattr(settings, name) == getattr(expected, name), name
    assert (settings.n_procs, settings.omp_nthreads) == (2, 1)
    told, code = run_task(tmp_path / "x y" / "group.sbatch", 0)
    assert (told[2:], code) == ([start[0], start[1], "group"], 7)


def test_a_task_that_is_not_sent_by_slurm_says_so(tmp_path: Path, start: list[str]) -> None:
    main([*start, "--write-slurm-array", str(tmp_path / "x")])
    bare = {key: value for key, value in os.environ.items() if key != "SLURM_ARRAY_TASK_ID"}
    done = subprocess.run(
        ["bash", tmp_path / "x" / "participant.sbatch"],
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "send this script with sbatch" in done.stderr


def test_every_flag_comes_back_as_the_same_flag() -> None:
    words = [word for flag, values in EVERYTHING.items() for word in (flag, *values)]
    more = ["--no-registration", "--require", "wml", "--lesion-threshold", "0.4", "-vv"]
    argv = ["/data", "/out", "participant", *words, *more, "--config-file", "/some/file.toml"]
    arguments = parse(argv)
    take_slurm(arguments)
    given = {name: value for name, value in arguments.items() if value is not None}
    said = shlex.split(" ".join(flags_of(given)))
    again = parse([*argv[:3], *said, "--n-procs", "4", "--omp-nthreads", "2", "--mem-gb", "12.5"])
    take_slurm(again)
    assert {name: value for name, value in again.items() if value is not None} == given


def test_paths_are_absolute(
    tmp_path: Path, start: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text('tasks = ["tiny"]\n', encoding="utf-8")
    command = ["my data", "out", "participant", "--models-dir", "models", "-w", "scratch"]
    assert main([*command, "--config-file", "config.toml", "--write-slurm-array", "x"]) == 0
    text = (tmp_path / "x" / "participant.sbatch").read_text(encoding="utf-8")
    for name in ("my data", "out", "models", "scratch", "config.toml"):
        assert shlex.quote(str(tmp_path / name)) in text


def test_what_is_said_of_jobs_stands_in_the_scripts(tmp_path: Path, start: list[str]) -> None:
    said = ["--slurm-partition", "long", "--slurm-gpus", "1", "--slurm-jobs-at-once", "5"]
    said += ["--slurm-option", "--account=my_lab", "--slurm-option=-t 1-0", "--n-procs", "3"]
    said += ["--slurm_option", "--mem-per-cpu=3G", "--mem-gb", "7", "--slurm-max-jobs", "2"]
    folder = tmp_path / "x"
    assert main([*start, *said, "--slurm-hours", "0.0001", "--write-slurm-array", str(folder)]) == 0
    array = directives(folder / "participant.sbatch")
    assert {"--array=0-1%5", "--cpus-per-task=3", "--partition=long", "--gres=gpu:1"} <= set(array)
    assert {"--output=logs/%A_%a.out", "--requeue", "--open-mode=append"} <= set(array)
    assert array[-3:] == ["--account=my_lab", "-t 1-0", "--mem-per-cpu=3G"]
    assert [line for line in array if line.startswith(("--time", "--mem="))] == []
    group = directives(folder / "group.sbatch")
    assert {"--partition=long", "--account=my_lab", "--cpus-per-task=1", "--mem=4G"} <= set(group)
    assert [line for line in group if "array" in line or "gpu" in line or "-t 1" in line] == []
    assert "--mem-gb 7" in (folder / "participant.sbatch").read_text(encoding="utf-8")


def test_submitting_makes_the_group_level_wait_for_all_shards_however_they_end(
    tmp_path: Path, start: list[str]
) -> None:
    folder = tmp_path / "x"
    main([*start, "--write-slurm-array", str(folder)])
    executable(tmp_path / "sbatch", SBATCH)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SENT": str(tmp_path / "sent")}
    done = subprocess.run(
        [folder / "submit.sh", "--array=3"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "sent").read_text(encoding="utf-8").splitlines() == [
        f"{folder}: --parsable --array=3 participant.sbatch",
        f"{folder}: --parsable --dependency=afterany:1 group.sbatch",
    ]
    assert "array job 1" in done.stdout
    assert "job 2" in done.stdout


def test_files_of_others_are_never_replaced(
    tmp_path: Path, start: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "x"
    command = [*start, "--write-slurm-array", str(folder)]
    assert main(command) == main(command) == os.EX_OK
    (folder / "group.sbatch").write_text("#!/bin/bash\necho mine\n", encoding="utf-8")
    (folder / "submit.sh").unlink()
    assert main(command) == os.EX_CANTCREAT
    assert "group.sbatch is there and was not written by --write-slurm" in capsys.readouterr().err
    assert not (folder / "submit.sh").exists()
    assert "echo mine" in (folder / "group.sbatch").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (("--dry-run",), os.EX_USAGE, "leave --dry-run away"),
        (("--num-shards", "2", "--shard-index", "0"), os.EX_USAGE, "leave --num-shards away"),
        (("--slurm-max-jobs", "0"), os.EX_USAGE, "--slurm-max-jobs must be 1 or more"),
        (("--task", "absent"), os.EX_USAGE, "no task 'absent'"),
        (("--participant-label", "9"), os.EX_NOINPUT, "none of the participants"),
    ],
)
def test_what_no_array_can_do_is_refused_before_anything_is_written(
    tmp_path: Path,
    start: list[str],
    capsys: pytest.CaptureFixture[str],
    *,
    flags: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    assert main([*start, *flags, "--write-slurm-array", str(tmp_path / "x")]) == code
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_scripts_do_not_belong_among_data(
    tmp_path: Path, start: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (f"{start[0]}/code/slurm", f"{start[1]}/slurm", start[1]):
        assert main([*start, "--write-slurm-array", folder]) == os.EX_USAGE
        assert "where only data belong" in capsys.readouterr().err
    assert main([*start, "--write-slurm-array", f"{start[1]}/logs/slurm"]) == os.EX_OK


def test_scripts_are_of_the_participant_level(
    start: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*start[:2], "group", "--write-slurm-array", "/x"]) == os.EX_USAGE
    assert "writes the job of the group level, too" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--slurm-gpus=1", "--slurm-option=-p x", "--slurm-max-jobs=3"])
def test_what_is_said_of_jobs_needs_jobs(
    start: list[str], capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert main([*start, "--dry-run", flag]) == os.EX_USAGE
    assert f"{flag.partition('=')[0]} goes with --write-slurm-array" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["APPTAINER_NAME", "SINGULARITY_NAME", "BIDS_DEEPMRSEG_DOCKER_TAG"]
)
def test_a_container_must_be_told_how_nodes_begin_it(
    tmp_path: Path,
    start: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setenv(name, "app.sif")
    command = [*start, "--write-slurm-array", str(tmp_path / "x")]
    assert main(command) == os.EX_USAGE
    assert "nodes know neither its Python nor its paths" in capsys.readouterr().err
    assert main([*command, "--slurm-command", "apptainer run app.sif"]) == os.EX_OK
    text = (tmp_path / "x" / "participant.sbatch").read_text(encoding="utf-8")
    assert "\napptainer run app.sif \\\n" in text
