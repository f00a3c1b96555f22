"""Datasets of empty files, for what looks at names only, and what is planned for them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bids_deepmrseg.selection.plan import Plan, require_cases
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.discover import discover
from bids_deepmrseg.tasks import Task
from tests.makers import bids_path, make_task

T1W = make_task("tiny")


def make_tree(root: Path, names: Iterable[str]) -> Path:
    """A dataset of empty files: discovery never opens one. A path with a slash is kept."""
    root.mkdir(parents=True, exist_ok=True)
    description = {"Name": "Names only", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
    for name in names:
        file = root / (name if "/" in name else bids_path(name))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def plan(bids_dir: Path, *tasks: Task, **changes: Any) -> Plan:  # noqa: ANN401 - any setting
    settings = RunSettings(
        bids_dir=bids_dir,
        output_dir=bids_dir.parent / "out",
        work_dir=bids_dir.parent / "work",
        analysis_level="participant",
        run_id="test",
        **changes,
    )
    found = discover(settings, tasks or (T1W,))
    require_cases(found, settings)
    return found


def stems(found: Plan) -> list[str]:
    return [case.stem for case in found.cases]


def reasons(found: Plan) -> dict[str, str]:
    """Status and reason of what is left out, by participant or file."""
    return {
        one.participant_id if one.source == "n/a" else Path(one.source).name: (
            f"{one.status}: {one.reason}"
        )
        for one in found.left_out
    }
