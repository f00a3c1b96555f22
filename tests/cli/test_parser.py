"""Flags, their other spellings and a settings file become one record."""

from pathlib import Path

import pytest

from bids_deepmrseg.cli.parser import make_run_id, memory_gb, read_command, with_hyphens
from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.settings import write_settings

START = ["/data", "/out", "participant"]

EVERYTHING = {
    "--participant-label": ("sub-01", "02"),
    "--session-label": ("ses-a", "b"),
    "--exclude-participant-label": ("sub-03",),
    "--task": ("deepbrain", "wml"),
    "--num-shards": ("8",),
    "--shard-index": ("3",),
    "--bids-filter-file": ("/f.json",),
    "--bids-database-dir": ("/db",),
    "--skip-bids-validation": (),
    "--work-dir": ("/scratch",),
    "--clean-workdir": (),
    "--n-procs": ("4",),
    "--omp-nthreads": ("2",),
    "--mem-gb": ("12.5",),
    "--device": ("cuda:1",),
    "--models-dir": ("/models",),
    "--write-probabilities": (),
    "--fast": (),
    "--use-plugin": ("/plugin.yml",),
    "--stop-on-first-crash": (),
    "--dry-run": (),
}


def test_every_flag_reaches_its_setting_in_either_spelling() -> None:
    flags = [word for flag, values in EVERYTHING.items() for word in (flag, *values)]
    underscored = [
        f"--{word[2:].replace('-', '_')}" if word.startswith("--") else word for word in flags
    ]
    settings, device = read_command([*START, *flags, "-vv"])
    other, _ = read_command([*START, *underscored, "-v", "-v"])
    assert device == "cuda:1"
    assert settings.participant_labels == ("01", "02")
    assert settings.session_labels == ("a", "b")
    assert settings.exclude_participant_labels == ("03",)
    assert (settings.num_shards, settings.shard_index) == (8, 3)
    assert settings.tasks == ("deepbrain", "wml")
    assert (settings.bids_filter_file, settings.bids_database_dir, settings.work_dir) == (
        Path("/f.json"),
        Path("/db"),
        Path("/scratch"),
    )
    assert (settings.models_dir, settings.use_plugin) == (Path("/models"), Path("/plugin.yml"))
    assert (settings.n_procs, settings.omp_nthreads, settings.memory_gb) == (4, 2, 12.5)
    assert settings.skip_bids_validation
    assert settings.clean_workdir
    assert settings.write_probabilities
    assert settings.fast
    assert settings.stop_on_first_crash
    assert settings.dry_run
    assert settings.verbosity == 2
    assert {k for k in settings.__slots__ if getattr(settings, k) != getattr(other, k)} == {
        "run_id"
    }


def test_without_flags_all_is_taken_and_the_work_folder_is_not_kept() -> None:
    settings, device = read_command(START)
    assert device == "auto"
    assert settings.participant_labels == settings.session_labels == settings.tasks == ()
    assert settings.work_dir == Path("/out/work")
    assert settings.clean_workdir
    assert 1 <= settings.omp_nthreads <= min(8, settings.n_procs)
    assert settings.memory_gb > 0


def test_a_work_folder_of_the_users_choice_is_kept() -> None:
    settings, _ = read_command([*START, "-w", "/scratch"])
    assert not settings.clean_workdir


def test_repeated_flags_add_up() -> None:
    argv = [*START, "--task", "a", "--task", "b", "a", "--participant-label", "1"]
    settings, _ = read_command([*argv, "--participant_label", "2"])
    assert settings.tasks == ("a", "b")
    assert settings.participant_labels == ("1", "2")


def test_relative_paths_are_those_of_the_folder_it_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings, _ = read_command(["in", "out", "group"])
    assert (settings.bids_dir, settings.output_dir) == (tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "size_gb"),
    [("16000", 16.0), ("16G", 16.0), ("16gb", 16.0), ("1.5 T", 1500.0), ("512M", 0.512)],
)
def test_memory_is_in_megabytes_unless_a_unit_follows(text: str, size_gb: float) -> None:
    assert memory_gb(text) == pytest.approx(size_gb)
    assert read_command([*START, f"--mem={text}"])[0].memory_gb == pytest.approx(size_gb)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["/data", "/out"], "analysis_level"),
        (["--task", "deepbrain", "/data", "/out", "participant"], "write them first"),
        (["/data", "/out", "session"], "participant"),
        ([*START, "--participant"], "--participant"),
        ([*START, "--n-procs", "many"], "--n-procs"),
        ([*START, "--mem", "much"], "16000 or 16G"),
        ([*START, "--mem", "16"], "--mem in megabytes"),
        (["/data", "/data", "participant"], "/data/derivatives/deepmrseg"),
        ([*START, "--config-file", "/absent.toml"], "/absent.toml"),
    ],
)
def test_wrong_flags_get_a_sentence(argv: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_command(argv)
    assert sentence in str(caught.value)


def test_only_flags_lose_their_underscores() -> None:
    argv = ["a_b", "--mem_gb=4", "--work_dir", "x_y", "--models_dir=/m_n", "-w", "c_d"]
    assert with_hyphens(argv) == [
        *("a_b", "--mem-gb=4", "--work-dir", "x_y", "--models-dir=/m_n", "-w", "c_d")
    ]


def test_flags_come_before_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'tasks = ["a", "b"]\nn_procs = 3\nmemory_gb = 4\nfast = true\ndevice = "cuda"\n'
        'participant_labels = ["sub-01"]\nwork_dir = "/scratch"\nverbosity = 1\n',
        encoding="utf-8",
    )
    settings, device = read_command([*START, "--config-file", str(file)])
    assert (settings.tasks, settings.n_procs, settings.memory_gb) == (("a", "b"), 3, 4)
    assert (settings.participant_labels, settings.fast, device) == (("01",), True, "cuda")
    assert (settings.work_dir, settings.clean_workdir) == (Path("/scratch"), False)
    flags = ["--task", "c", "--nprocs", "2", "--no-fast", "--device", "cpu"]
    settings, device = read_command([*START, "--config-file", str(file), *flags])
    assert (settings.tasks, settings.n_procs, settings.memory_gb) == (("c",), 2, 4)
    assert (settings.fast, device, settings.verbosity) == (False, "cpu", 1)


def test_the_settings_of_a_run_repeat_it_under_a_new_name(tmp_path: Path) -> None:
    argv = [*START, "--task", "a", "-w", "/scratch", "--mem-gb", "3", "--session-label", "1"]
    first, _ = read_command(argv)
    write_settings(first, tmp_path / "settings.toml")
    again, device = read_command([*START, "--config-file", str(tmp_path / "settings.toml")])
    assert device == "cpu"
    assert {k for k in first.__slots__ if getattr(first, k) != getattr(again, k)} == {"run_id"}


def test_no_two_runs_share_a_name() -> None:
    names = [make_run_id() for _ in range(50)]
    assert len(set(names)) == 50
    assert [name[:15] for name in names] == sorted(name[:15] for name in names)
