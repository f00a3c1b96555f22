"""Task files and model folders: reading what a task is, and finding where its weights are."""

import colorsys
import re
import tomllib
from pathlib import Path
from typing import Any

from bids_deepmrseg.errors import UsageError, WeightsError
from bids_deepmrseg.files import may_be_read
from bids_deepmrseg.tasks import (
    DIRECTIONS,
    LARGEST_PLACE_MM,
    TRAINED_ON,
    Direction,
    Label,
    LesionDefaults,
    Place,
    Range,
    Region,
    Task,
    TrainedOn,
)

BUILTIN_MODELS = Path(__file__).parent / "data" / "models"
TASK_FILE = "task.toml"
SIDE = re.compile(r"(?<![A-Za-z])(left|right|lh|rh|l|r)(?![A-Za-z])", re.IGNORECASE)
OTHER_SIDE = {"left": "right", "right": "left", "lh": "rh", "rh": "lh", "l": "r", "r": "l"}
WEIGHTS_RECORD_FILE = "model.json"  # a model folder without it has no weights yet


def read_task(file: Path) -> Task:
    """Read a task file.

    Parameters
    ----------
    file
        TOML with the fields of :class:`Task` and one ``[[labels]]`` table per label. Needed are
        ``name``, ``channels``, ``spacing_mm``, ``field_of_view_mm`` (or a region), and of each
        label ``index`` and ``name``; labels whose names differ by their side only, such as
        ``Left X`` and ``Right X``, are mirrors of each other unless ``mirror`` says otherwise.

    Raises
    ------
    UsageError
        If the file is not TOML, lacks a field, has one that is not known, or contradicts itself.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        labels = _labels(table["labels"], "labels")
        landmarks = _labels(table.get("landmarks", []), "landmarks")
        _check_known(table, {*Task.__slots__}, "a task file")
        return Task(
            name=str(table["name"]),
            description=str(table.get("description", ", ".join(label.name for label in labels))),
            channels=_words(table["channels"], "channels"),
            spacing_mm=float(table["spacing_mm"]),
            field_of_view_mm=_extent(extent) if (extent := table.get("field_of_view_mm")) else None,
            labels=labels,
            one_cluster=bool(table.get("one_cluster", False)),
            atlas=str(table.get("atlas", "None named: labels are numbered by the task file")),
            region=_region(region) if (region := table.get("region")) else None,
            views=_words(table.get("views", []), "views"),
            landmarks=landmarks,
            brain=int(table["brain"]) if "brain" in table else None,
            optional=_words(table.get("optional", []), "optional"),
            within=str(table["within"]) if "within" in table else None,
            lesions=_lesions(lesions) if (lesions := table.get("lesions")) else None,
        )
    except (OSError, tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise UsageError(f"task file {file} cannot be read: {error}") from error
    except KeyError as error:
        raise UsageError(f"task file {file} lacks the field {error}") from error


def _lesions(table: dict[str, Any]) -> LesionDefaults:
    """What counts as a lesion from its TOML table."""
    _check_known(table, {*LesionDefaults.__slots__}, "lesions")
    slices = [float(mm) for mm in table.get("slices_mm", ())]
    if len(slices) not in (0, 2):
        raise ValueError(f"slices_mm must be two thicknesses, not {slices}")
    return LesionDefaults(
        threshold=float(table["threshold"]),
        smallest_mm3=float(table["smallest_mm3"]),
        slices_mm=(slices[0], slices[1]) if slices else None,
    )


def _check_known(table: dict[str, Any], known: set[str], what: str) -> None:
    """Refuse fields that would be passed over, such as misspelt ones."""
    if unknown := sorted(table.keys() - known):
        raise ValueError(
            f"{unknown[0]} is no field of {what}; there are {', '.join(sorted(known))}"
        )


def _words(value: object, field: str) -> tuple[str, ...]:
    """A list of text."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f'{field} must be a list such as ["T1w"], not {value!r}')
    return tuple(value)


def _extent(numbers: list[float]) -> tuple[float, float, float]:
    """Three lengths in millimetres."""
    right_left, back_front, foot_head = (float(number) for number in numbers)
    return right_left, back_front, foot_head


def _region(table: dict[str, Any]) -> Region:
    """A region from its TOML table."""
    _check_known(table, {*Region.__slots__}, "a region")
    return Region(
        task=str(table["task"]),
        margin_mm=_extent(table["margin_mm"]),
        places=tuple(_place(row) for row in table["places"]),
        parted_along=_direction(table.get("parted_along")),
        largest_mm=float(table.get("largest_mm", LARGEST_PLACE_MM)),
        trained_on=_trained_on(table.get("trained_on", "crops")),
    )


def _place(table: dict[str, Any]) -> Place:
    """One place of a region from its TOML table."""
    _check_known(table, {*Place.__slots__}, "a place")
    return Place(
        located_by=int(table["located_by"]),
        mirrored=bool(table["mirrored"]),
        labels=tuple(int(index) for index in table["labels"]),
    )


def _trained_on(text: str) -> TrainedOn:
    """What training data of a region show."""
    for known in TRAINED_ON:
        if known == text:
            return known
    raise ValueError(f"trained_on must be crops or scans, not {text!r}")


def _direction(text: str | None) -> Direction | None:
    """One of the three directions, or none."""
    for direction in DIRECTIONS:
        if direction == text:
            return direction
    if text is not None:
        raise ValueError(f"parted_along must be R, A or S, not {text!r}")
    return None


def _labels(rows: object, field: str) -> tuple[Label, ...]:
    """The lookup table, or the landmarks, from their TOML tables."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{field} must be [[{field}]] tables, one for each of them")
    by_name = {_side_free(row["name"], other=False): int(row["index"]) for row in rows}
    return tuple(_label(row, number, by_name) for number, row in enumerate(rows))


def _side_free(name: object, *, other: bool) -> str:
    """A label's name in lower case, or that of the same structure on the other side."""
    lower = str(name).casefold()
    return SIDE.sub(lambda side: OTHER_SIDE[side[0]], lower) if other else lower


def _label(row: dict[str, Any], number: int, by_name: dict[str, int]) -> Label:
    """One label from its TOML table."""
    known = {*Label.__slots__, "adult_range_ml"} - {"adult_range"}
    _check_known(row, known, "a label")
    adult = row.get("adult_range_ml")
    mirror = by_name.get(_side_free(row["name"], other=True), row["index"])
    return Label(
        index=int(row["index"]),
        name=str(row["name"]),
        abbreviation=str(row.get("abbreviation", row["name"])),
        color=str(row.get("color", _color(number))),
        mapping=int(row.get("mapping", 0)),
        mirror=int(row.get("mirror", mirror)),
        freesurfer=_numbers(row.get("freesurfer", [])),
        part_of=int(row["part_of"]) if "part_of" in row else None,
        adult_range=Range(float(adult[0]), float(adult[1])) if isinstance(adult, list) else None,
    )


def _numbers(value: int | list[int]) -> tuple[int, ...]:
    """One number or a list of them."""
    return tuple(int(number) for number in (value if isinstance(value, list) else [value]))


def _color(number: int) -> str:
    """A colour unlike those of the labels before: hues a golden section apart."""
    rgb = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75 - 0.2 * (number // 5 % 2), 0.95)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb)


def find_model_folders(models_dir: Path | None = None) -> tuple[Path, ...]:
    """Folders that hold a task file: those of ``models_dir`` first, then the built-in ones.

    A folder of ``models_dir`` replaces the built-in one of the same name.
    """
    roots = (BUILTIN_MODELS,) if models_dir is None else (models_dir, BUILTIN_MODELS)
    if models_dir is not None:
        _check_models_dir(models_dir)
    found: dict[str, Path] = {}
    for root in roots:
        for file in sorted(root.glob(f"*/{TASK_FILE}")):
            found.setdefault(file.parent.name, file.parent)
    return tuple(found.values())


def _check_models_dir(models_dir: Path) -> None:
    """Refuse a folder of tasks that cannot be looked into."""
    try:
        is_open = may_be_read(models_dir)
    except OSError as error:
        raise WeightsError(f"--models-dir {models_dir} is not a folder") from error
    if not is_open:
        raise WeightsError(
            f"--models-dir {models_dir} may not be read by this user; let others read it "
            "(chmod -R a+rX), or run as its owner"
        )


def find_tasks(models_dir: Path | None = None) -> tuple[Task, ...]:
    """Every task that there is a model folder for, sorted by name."""
    tasks = (read_task(folder / TASK_FILE) for folder in find_model_folders(models_dir))
    return tuple(sorted(tasks, key=lambda task: task.name))


def has_weights(folder: Path) -> bool:
    """Whether a model folder holds the record of weights; whether they are sound shows at load."""
    return (folder / WEIGHTS_RECORD_FILE).is_file()


def find_locator(task: Task, models_dir: Path | None = None) -> Task | None:
    """The task that shows where ``task`` works, by its labels or by the brain that it finds.

    Returns
    -------
    Task or None
        ``None`` for tasks that find their way by themselves.

    Raises
    ------
    UsageError
        If a task is named that is not there, that is in turn located by this one, that reads other
        scans, or that lacks a label which a place is cut around, or a brain.
    """
    locator = _named_locator(task, models_dir)
    seen = {task.name}
    further = locator
    while further is not None:
        if further.name in seen:
            raise UsageError(f"tasks {', '.join(sorted(seen))} are located by each other")
        seen.add(further.name)
        further = _named_locator(further, models_dir)
    return locator


def _named_locator(task: Task, models_dir: Path | None) -> Task | None:
    """The task that is named as showing the way, if it can."""
    name = task.within if task.region is None else task.region.task
    if name is None:
        return None
    known = {one.name: one for one in find_tasks(models_dir)}
    locator = known.get(name)
    if locator is None:
        raise UsageError(
            f"task {task.name} is located by task {name!r}, which does not exist; "
            f"known tasks: {', '.join(known)}"
        )
    if why := _why_not_shown(task, locator):
        raise UsageError(
            f"task {locator.name} cannot show where {task.name} is to be segmented: it {why}"
        )
    return locator


def _why_not_shown(task: Task, locator: Task) -> str | None:
    """What a locator lacks that a task needs, or ``None``."""
    if task.region is None:  # a brain is found in a scan of any contrast, as long as it is one scan
        if locator.brain is None or len(locator.channels) != 1:
            return "does not find the brain in one scan"
        return None
    if locator.channels != task.channels[: len(locator.channels)]:
        return (
            f"reads {', '.join(locator.channels)}, but {task.name} begins with "
            f"{', '.join(task.channels)}"
        )
    named = {label.index for label in locator.told_apart}
    lacking = [place.located_by for place in task.region.places if place.located_by not in named]
    return f"has no label {lacking[0]}" if lacking else None


def find_model_folder(task: Task, models_dir: Path | None = None) -> Path:
    """The folder with the task's weights; folders are named like their task."""
    return find_named_model_folder(task.name, models_dir)


def find_named_model_folder(name: str, models_dir: Path | None = None) -> Path:
    """The model folder of that name.

    Raises
    ------
    WeightsError
        If there is none; the sentence names those that there are.
    """
    folders = find_model_folders(models_dir)
    for folder in folders:
        if folder.name == name:
            return folder
    known = ", ".join(folder.name for folder in folders)
    raise WeightsError(f"there is no model folder for task {name}; known tasks: {known}")
