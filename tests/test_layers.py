"""Imports point down between floors, and heavy libraries stay behind their fences."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "bids_deepmrseg"

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset({"files", "machine"}),
    frozenset({"tasks", "settings", "locks", "imaging"}),
    frozenset({"records", "network", "taskfiles"}),
    frozenset({"selection", "derivatives"}),
    frozenset({"entries"}),
    frozenset({"stages"}),
    frozenset({"pipeline", "evaluation"}),
    frozenset({"training"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

FENCES = {
    "argparse": ("cli/",),
    "bids": ("stages/discover.py",),
    "matplotlib": (
        "stages/report.py",
        "evaluation/plots.py",
        "evaluation/quality_plots.py",
        "evaluation/robustness_plots.py",
    ),
    "nibabel": ("imaging/",),
    "nipype": ("pipeline/",),
    "safetensors": ("network/", "training/"),
    "SimpleITK": ("imaging/bias.py", "imaging/register.py"),
    "torch": ("network/", "stages/segment.py", "training/"),
}


@dataclass(frozen=True)
class Import:
    """One imported name; ``level`` counts the dots of a relative import."""

    file: str  # relative to the package
    name: str
    level: int

    @property
    def here(self) -> str:
        """Room of the file; ``""`` for the package's own ``__init__``."""
        room = Path(self.file).parts[0].removesuffix(".py")
        return "" if room == "__init__" else room

    @property
    def there(self) -> str:
        """Room of this package that is imported; ``""`` for other packages."""
        package, _, rest = self.name.partition(".")
        return rest.partition(".")[0] if package == PACKAGE.name else ""


def imports_of(file: Path, root: Path) -> Iterator[Import]:
    """Every import of a file, at whatever depth it stands."""
    where = file.relative_to(root).as_posix()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(where, f"{node.module or ''}.{alias.name}", node.level)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(where, alias.name, 0)


def all_imports(root: Path) -> list[Import]:
    return [found for file in sorted(root.rglob("*.py")) for found in imports_of(file, root)]


def wrong(found: Import) -> str | None:
    """What is wrong with an import, or ``None``."""
    fence = FENCES.get(found.name.partition(".")[0])
    if found.level:
        return "imports must be absolute"
    if fence is not None and not found.file.startswith(fence):
        return f"only {', '.join(fence)} may import {found.name}"
    return wrong_direction(found) if found.there else None


def wrong_direction(found: Import) -> str | None:
    """What is wrong with an import of this package's own rooms, or ``None``."""
    if found.here == found.there:
        return "stages may not import one another" if found.here == "stages" else None
    if not {found.here, found.there} <= FLOOR.keys():
        return "this room stands on no floor"
    return None if FLOOR[found.there] < FLOOR[found.here] else "imports must point down"


def prints(file: Path) -> list[int]:
    """Lines on which a file calls ``print`` or ``input``."""
    calls = (n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, ast.Call))
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in {"print", "input"}
    ]


def test_every_import_points_down_and_respects_the_fences() -> None:
    faults = [(found, why) for found in all_imports(PACKAGE) if (why := wrong(found))]
    assert faults == []


def test_every_room_stands_on_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py"}
    rooms |= {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} - FLOOR.keys() == set()


def test_the_plan_of_the_house_shows_every_room_on_its_floor() -> None:
    plan = (PACKAGE.parent / "docs" / "decisions" / "0001-the-house.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", plan, re.MULTILINE)
    drawn = {int(floor): frozenset(re.findall(r"`(\w+)`", rooms)) for floor, rooms in rows}
    assert drawn == dict(enumerate(FLOORS[:-1]))  # no floor for __main__


def test_only_the_command_line_prints() -> None:
    elsewhere = [
        (file.relative_to(PACKAGE).as_posix(), lines)
        for file in sorted(PACKAGE.rglob("*.py"))
        if "cli" not in file.parts and (lines := prints(file))
    ]
    assert elsewhere == []


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("errors.py", "from bids_deepmrseg.tasks import Task", "point down"),
        ("tasks.py", "import bids_deepmrseg.imaging.grid", "point down"),
        ("tasks.py", "from bids_deepmrseg.settings import RunSettings", "point down"),
        ("network/a.py", "from bids_deepmrseg import records", "point down"),
        ("stages/write.py", "from bids_deepmrseg.stages.measure import measure", "one another"),
        ("stages/write.py", "from bids_deepmrseg.stages import measure", "one another"),
        ("pipeline/a.py", "def f():\n    from bids_deepmrseg.cli import app", "point down"),
        ("training/a.py", "from .losses import loss", "absolute"),
        ("stages/prepare.py", "import nibabel as nib", "only imaging/"),
        ("stages/measure.py", "def f():\n    import torch.nn", "only network/"),
        ("settings.py", "from argparse import Namespace", "only cli/"),
        ("tasks.py", "from bids_deepmrseg.attic import old", "no floor"),
    ],
)
def test_a_wrong_import_is_seen(tmp_path: Path, file: str, line: str, fault: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(line + "\n", encoding="utf-8")
    (found,) = all_imports(tmp_path)
    assert fault in (wrong(found) or "")


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("stages/write.py", "from bids_deepmrseg.records import Case"),
        ("training/a.py", "from bids_deepmrseg.stages.prepare import prepare"),
        ("training/a.py", "from bids_deepmrseg.training.losses import loss"),
        ("imaging/nifti.py", "import nibabel as nib"),
        ("stages/discover.py", "from bids import BIDSLayout"),
        ("cli/app.py", "from bids_deepmrseg.pipeline.graph import run"),
    ],
)
def test_a_right_import_is_let_through(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(line + "\n", encoding="utf-8")
    (found,) = all_imports(tmp_path)
    assert wrong(found) is None
