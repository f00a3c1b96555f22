"""The user's choice of a nipype plugin, read from a file as fMRIPrep reads it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bids_deepmrseg.errors import UsageError


@dataclass(frozen=True, slots=True)
class PluginChoice:
    """A nipype plugin and the arguments that it alone understands."""

    name: str
    arguments: dict[str, Any]


def read_plugin(file: Path) -> PluginChoice:
    """Read ``plugin`` and ``plugin_args`` from a YAML or TOML file.

    Raises
    ------
    UsageError
        If the file cannot be read, names no plugin, or names one that returns before the work is
        done: then nobody could tell what became of the cases.
    """
    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text) if file.suffix == ".toml" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"--use-plugin {file} cannot be read: {error}") from error
    name = table.get("plugin") if isinstance(table, dict) else None
    arguments = table.get("plugin_args") or {} if isinstance(table, dict) else {}
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise UsageError(
            f"--use-plugin {file} must have a line such as 'plugin: MultiProc' and may have a "
            "table 'plugin_args'"
        )
    if name.endswith("Graph"):
        raise UsageError(
            f"--use-plugin {file}: {name} submits jobs and returns at once, so that failures would "
            f"go unseen; use {name.removesuffix('Graph')}"
        )
    return PluginChoice(name, dict(arguments))
