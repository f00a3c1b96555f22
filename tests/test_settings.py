"""Settings refuse what no run could do, and survive TOML unchanged."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.settings import RunSettings, read_config, read_settings, write_settings

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
LABELS = st.lists(st.from_regex(r"[0-9A-Za-z]{1,8}", fullmatch=True)).map(tuple)


def make_settings(**changes: Any) -> RunSettings:  # noqa: ANN401 - any field may be changed
    values: dict[str, Any] = {
        "bids_dir": Path("/data"),
        "output_dir": Path("/out"),
        "analysis_level": "participant",
        "work_dir": Path("/scratch"),
        "run_id": "20261120-120000_0a1b2c3d",
    }
    return RunSettings(**{**values, **changes})


@st.composite
def any_settings(draw: st.DrawFn) -> RunSettings:
    path = TEXTS.map(lambda text: Path("/x", text))
    n_procs = draw(st.integers(1, 99))
    n_shards = draw(st.none() | st.integers(1, 99))
    return make_settings(
        bids_dir=Path("/in") / draw(TEXTS),
        output_dir=Path("/out") / draw(TEXTS),
        tasks=tuple(draw(st.lists(TEXTS))),
        participant_labels=draw(LABELS),
        models_dir=draw(st.none() | path),
        num_shards=n_shards,
        shard_index=None if n_shards is None else draw(st.integers(0, n_shards - 1)),
        dry_run=draw(st.booleans()),
        n_procs=n_procs,
        omp_nthreads=draw(st.integers(1, n_procs)),
        memory_gb=draw(st.floats(0.5, 1e30)),
        device=draw(st.sampled_from(["cpu", "cpu,cpu", "cuda:3", "cuda:0,cuda:2"])),
    )


@given(any_settings())
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_settings_survive_toml_and_worker_processes(tmp_path: Path, settings: RunSettings) -> None:
    write_settings(settings, tmp_path / "settings.toml")
    assert read_settings(tmp_path / "settings.toml") == settings
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_each_run_has_its_own_log_folder() -> None:
    assert make_settings().log_dir == Path("/out/logs/20261120-120000_0a1b2c3d")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"analysis_level": "session"}, "participant, group"),
        ({"n_procs": 0}, "--n-procs must be 1 or more"),
        ({"omp_nthreads": 0}, "--omp-nthreads must be 1 or more"),
        ({"n_procs": 2, "omp_nthreads": 4}, "more than the 2 CPUs"),
        ({"memory_gb": 0.016}, "--mem in megabytes"),
        ({"memory_gb": float("nan")}, "memory must be"),
        ({"memory_gb": float("inf")}, "memory must be"),
        ({"device": "gpu"}, "--device is auto, cpu, cuda, cuda:N or several such as"),
        ({"device": "cpu,"}, "not 'cpu,'"),
        ({"device": "cuda"}, "not 'cuda'"),  # all GPUs: which, is told before
        ({"device": "cuda:0,cpu"}, "--device cuda:0,cpu names GPUs and the CPU; name one kind"),
        ({"participant_labels": ("01,02",)}, "apart by spaces"),
        ({"session_labels": ("",)}, "not a BIDS label"),
        ({"num_shards": 3}, "--num-shards is given without --shard-index"),
        ({"shard_index": 0}, "--shard-index is given without --num-shards"),
        ({"num_shards": 0, "shard_index": 0}, "--num-shards must be 1 or more, got 0"),
        ({"num_shards": 3, "shard_index": 3}, "one of 0 to 2, not 3"),
        ({"num_shards": 3, "shard_index": -1}, "counts from 0"),
        (
            {"num_shards": 3, "shard_index": 0, "analysis_level": "group"},
            "the participant level only",
        ),
        ({"output_dir": Path("/data")}, "/data/derivatives/deepmrseg"),
        ({"output_dir": Path("/data/../data/.")}, "is the input dataset itself"),
        ({"output_dir": Path("/data/results")}, "/data/derivatives/deepmrseg"),
        ({"output_dir": Path("/data/derivatives/fmriprep")}, "deepmrseg in its name"),
        ({"output_dir": Path("/data/sub-01/deepmrseg")}, "under derivatives/"),
        ({"work_dir": Path("/out")}, "must not be the output folder"),
        ({"work_dir": Path("/data/work")}, "outside of it"),
    ],
)
def test_what_no_run_could_do_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_settings(**changes)
    assert sentence in str(caught.value)


def test_a_link_to_the_input_is_the_input(tmp_path: Path) -> None:
    (tmp_path / "bids").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "bids")
    with pytest.raises(UsageError, match="the input dataset itself"):
        make_settings(bids_dir=tmp_path / "bids", output_dir=tmp_path / "out")


def test_results_may_lie_in_their_own_folder_of_the_derivatives() -> None:
    output = Path("/data/derivatives/deepmrseg-0.1.0")
    assert make_settings(output_dir=output, work_dir=output / "work").output_dir == output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("n_proc = 4", "the nearest is 'n_procs'"),
        ("n-cpus = 4", "the nearest is 'n_procs'"),
        ("n_procs = 'four'", "cannot be a value of 'n_procs'"),
        ("n_procs = true", "cannot be a value of 'n_procs'"),
        ("n_procs = 1.5", "cannot be a value of 'n_procs'"),
        ("dry_run = 1", "cannot be a value of 'dry_run'"),
        ("tasks = 'deepbrain'", "cannot be a value of 'tasks'"),
        ("tasks = [1]", "cannot be a value of 'tasks'"),
        ("num_shards = 1.5", "cannot be a value of 'num_shards'"),
        ("shard_index = true", "cannot be a value of 'shard_index'"),
        ("models_dir = 3", "cannot be a value of 'models_dir'"),
        ("n_procs =", "cannot be read"),
    ],
)
def test_a_settings_file_that_says_nonsense_is_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_config(tmp_path / "config.toml")
    assert sentence in str(caught.value)
    assert "config.toml" in str(caught.value)


def test_a_settings_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml cannot be read"):
        read_config(tmp_path / "absent.toml")


def test_a_settings_file_may_name_a_few_settings_only(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'tasks = ["deepbrain"]\nmemory_gb = 4\n', encoding="utf-8"
    )
    assert read_config(tmp_path / "config.toml") == {"tasks": ("deepbrain",), "memory_gb": 4}
    with pytest.raises(UsageError, match="lacks 'bids_dir'"):
        read_settings(tmp_path / "config.toml")
