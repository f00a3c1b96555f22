"""A plugin file is read as fMRIPrep reads it, and what could hide failures is refused."""

from pathlib import Path

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.pipeline.plugin import PluginChoice, read_plugin

YAML = "plugin: SLURM\nplugin_args:\n  sbatch_args: --mem 4G\n  max_jobs: 9\n"
TOML = 'plugin = "SLURM"\n[plugin_args]\nsbatch_args = "--mem 4G"\nmax_jobs = 9\n'


@pytest.mark.parametrize(("name", "text"), [("p.yml", YAML), ("p.yaml", YAML), ("p.toml", TOML)])
def test_yaml_and_toml_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    expected = PluginChoice("SLURM", {"sbatch_args": "--mem 4G", "max_jobs": 9})
    assert read_plugin(tmp_path / name) == expected


def test_arguments_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text("plugin: Linear\n", encoding="utf-8")
    assert read_plugin(tmp_path / "p.yml") == PluginChoice("Linear", {})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("plugin: SLURMGraph\n", "use SLURM"),
        ("- a\n- b\n", "must have a line such as"),
        ("plugin_args: {}\n", "must have a line such as"),
        ("plugin: Linear\nplugin_args: fast\n", "must have a line such as"),
        ("plugin: [\n", "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "p.yml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=sentence):
        read_plugin(tmp_path / "p.yml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml cannot be read"):
        read_plugin(tmp_path / "absent.toml")
