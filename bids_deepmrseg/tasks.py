"""The tasks as frozen data; code reads their fields and never branches on a task's name."""

import colorsys
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bids_deepmrseg.errors import UsageError, WeightsError

BUILTIN_MODELS = Path(__file__).parent / "data" / "models"
TASK_FILE = "task.toml"
SIDE = re.compile(r"(?<![A-Za-z])(left|right|lh|rh|l|r)(?![A-Za-z])", re.IGNORECASE)
OTHER_SIDE = {"left": "right", "right": "left", "lh": "rh", "rh": "lh", "l": "r", "r": "l"}
MOST_LABELS = 65535  # label maps hold 16 bits
Direction = Literal["R", "A", "S"]
DIRECTIONS: tuple[Direction, ...] = ("R", "A", "S")
LARGEST_PLACE_MM = 60.0  # no label that a place is cut around is longer along any axis
WEIGHTS_RECORD_FILE = "model.json"  # a model folder without it has no weights yet


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval of volumes in millilitres, with where it was published."""

    low_ml: float
    high_ml: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One row of the BIDS lookup table ``dseg.tsv``.

    Attributes
    ----------
    index
        Value of the label's voxels in label maps.
    name, abbreviation
        As in the atlas that the task file cites.
    color
        ``#RRGGBB``, for viewers.
    mapping
        Index in the BIDS common table of tissue classes.
    mirror
        Index of the same structure on the other side; the label's own for midline structures.
    adult_range
        Volumes that adults are known to have, or ``None`` where nothing was published.
    freesurfer
        The same structure's number in FreeSurfer's table, which whole-head label maps use.
    """

    index: int
    name: str
    abbreviation: str
    color: str
    mapping: int
    mirror: int
    adult_range: Range | None = None
    freesurfer: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place of the head that is cut out and segmented by itself.

    Attributes
    ----------
    located_by
        Index of the label, of the region's task, that the place is cut around.
    mirrored
        Whether left and right are exchanged before the networks see it, so that one set of
        weights serves both sides.
    labels
        Indices of the task's labels that the networks' classes mean here, in network order.
    """

    located_by: int
    mirrored: bool
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where in the head a task works: around labels that another task finds first.

    Attributes
    ----------
    task
        Name of the task whose labels show the way.
    margin_mm
        What is kept around them along right-left, back-front and foot-head.
    places
        What is cut out. Training data show the first place, unmirrored, and nothing else.
    parted_along
        ``R``, ``A`` or ``S`` where the protocol of the labels parts the two of a place by a plane
        across that direction, the first label lying further along it; ``None`` elsewhere.
    """

    task: str
    margin_mm: tuple[float, float, float]
    places: tuple[Place, ...]
    parted_along: Direction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A segmentation task as data.

    Attributes
    ----------
    name
        Alphanumeric, as it appears behind ``seg-`` in file names.
    description
        One sentence for sidecars and ``--dry-run``.
    channels
        BIDS suffixes of the scans, in network input order; the first one's grid is the native
        grid of the answer.
    spacing_mm
        Edge of the model grid's cubic voxels.
    field_of_view_mm
        Right to left, back to front and foot to head extent of the model grid, laid around the
        centre of the brain; a scan that is smaller is taken whole. ``None`` for a task with a
        region, which gives the extent.
    labels
        The lookup table; background is index 0 and is left out.
    one_cluster
        Whether all labels together form one place in the head, so that an island far from it
        cannot be right.
    atlas
        Where label names, indices and adult ranges come from.
    region
        Where another task's labels say what to cut out; ``None`` for the whole brain.
    views
        Slice directions to train, one network each; empty for those of the recipe.
    """

    name: str
    description: str
    channels: tuple[str, ...]
    spacing_mm: float
    field_of_view_mm: tuple[float, float, float] | None
    labels: tuple[Label, ...]
    one_cluster: bool
    atlas: str
    region: Region | None = None
    views: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9A-Za-z]+", self.name):
            raise UsageError(
                f"task name {self.name!r} must be letters and digits (BIDS labels are)"
            )
        indices = [label.index for label in self.labels]
        in_range = all(1 <= index <= MOST_LABELS for index in indices)
        if not indices or len(set(indices)) != len(indices) or not in_range:
            raise UsageError(
                f"task {self.name}: label indices must be distinct and above 0, "
                f"at most {MOST_LABELS}"
            )
        by_index = {label.index: label for label in self.labels}
        for label in self.labels:
            if label.mirror not in by_index or by_index[label.mirror].mirror != label.index:
                raise UsageError(f"task {self.name}: {label.name} and its mirror disagree")
        if not self.channels:
            raise UsageError(f"task {self.name} names no channel")
        if self.region is None and self.field_of_view_mm is None:
            raise UsageError(f"task {self.name} needs a field_of_view_mm or a region")
        if self.region is not None:
            self._check_places(self.region.places)
        if not self.spacing_mm > 0:
            raise UsageError(f"task {self.name}: spacing_mm must be above 0")

    def labels_of(self, place: Place) -> tuple[Label, ...]:
        """What the networks' classes mean in a place, background left out."""
        by_index = {label.index: label for label in self.labels}
        return tuple(by_index[index] for index in place.labels)

    def _check_places(self, places: tuple[Place, ...]) -> None:
        """Every label belongs to exactly one place, and all places have as many."""
        listed = [index for place in places for index in place.labels]
        if sorted(listed) != sorted(label.index for label in self.labels):
            raise UsageError(f"task {self.name}: each label must belong to exactly one place")
        sizes = {len(place.labels) for place in places}
        if len(sizes) != 1:
            raise UsageError(f"task {self.name}: its places must have equally many labels")
        if self.region is not None and self.region.parted_along is not None and sizes != {2}:
            raise UsageError(f"task {self.name}: only two labels can be parted by a plane")

    @property
    def network_labels(self) -> tuple[Label, ...]:
        """What the networks tell apart: all labels, or those of the first place of a region."""
        return self.labels if self.region is None else self.labels_of(self.region.places[0])

    @property
    def n_classes(self) -> int:
        """Network output channels, background included."""
        return len(self.network_labels) + 1

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """The model grid at its largest."""
        if self.region is not None:
            i, j, k = self.region.margin_mm
            return LARGEST_PLACE_MM + 2 * i, LARGEST_PLACE_MM + 2 * j, LARGEST_PLACE_MM + 2 * k
        if self.field_of_view_mm is None:
            raise UsageError(f"task {self.name} needs a field_of_view_mm or a region")
        return self.field_of_view_mm

    @property
    def space(self) -> str:
        """Suffix of the scan on whose grid the answer lies."""
        return self.channels[0]

    @property
    def mirror_classes(self) -> tuple[int, ...]:
        """For every class, background first, the class of the other side."""
        if self.region is not None:  # a place is one side: flipped, its structures stay themselves
            return tuple(range(self.n_classes))
        classes = {label.index: c for c, label in enumerate(self.labels, start=1)}
        return (0, *(classes[label.mirror] for label in self.labels))


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
        labels = _labels(table["labels"])
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
        )
    except (OSError, tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise UsageError(f"task file {file} cannot be read: {error}") from error
    except KeyError as error:
        raise UsageError(f"task file {file} lacks the field {error}") from error


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
    places = tuple(
        Place(
            located_by=int(row["located_by"]),
            mirrored=bool(row["mirrored"]),
            labels=tuple(int(index) for index in row["labels"]),
        )
        for row in table["places"]
    )
    return Region(
        task=str(table["task"]),
        margin_mm=_extent(table["margin_mm"]),
        places=places,
        parted_along=_direction(table.get("parted_along")),
    )


def _direction(text: str | None) -> Direction | None:
    """One of the three directions, or none."""
    for direction in DIRECTIONS:
        if direction == text:
            return direction
    if text is not None:
        raise ValueError(f"parted_along must be R, A or S, not {text!r}")
    return None


def _labels(rows: object) -> tuple[Label, ...]:
    """The lookup table from its TOML tables."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("labels must be [[labels]] tables, one for each label")
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
        freesurfer=int(row["freesurfer"]) if "freesurfer" in row else None,
        adult_range=Range(float(adult[0]), float(adult[1])) if isinstance(adult, list) else None,
    )


def _color(number: int) -> str:
    """A colour unlike those of the labels before: hues a golden section apart."""
    rgb = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75 - 0.2 * (number // 5 % 2), 0.95)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb)


def find_model_folders(models_dir: Path | None = None) -> tuple[Path, ...]:
    """Folders that hold a task file: those of ``models_dir`` first, then the built-in ones.

    A folder of ``models_dir`` replaces the built-in one of the same name.
    """
    roots = (BUILTIN_MODELS,) if models_dir is None else (models_dir, BUILTIN_MODELS)
    if models_dir is not None and not models_dir.is_dir():
        raise WeightsError(f"--models-dir {models_dir} is not a folder")
    found: dict[str, Path] = {}
    for root in roots:
        for file in sorted(root.glob(f"*/{TASK_FILE}")):
            found.setdefault(file.parent.name, file.parent)
    return tuple(found.values())


def find_tasks(models_dir: Path | None = None) -> tuple[Task, ...]:
    """Every task that there is a model folder for, sorted by name."""
    tasks = (read_task(folder / TASK_FILE) for folder in find_model_folders(models_dir))
    return tuple(sorted(tasks, key=lambda task: task.name))


def has_weights(folder: Path) -> bool:
    """Whether a model folder holds the record of weights; whether they are sound shows at load."""
    return (folder / WEIGHTS_RECORD_FILE).is_file()


def find_locator(task: Task, models_dir: Path | None = None) -> Task | None:
    """The task whose labels show where ``task`` works; ``None`` for tasks on the whole brain.

    Raises
    ------
    UsageError
        If the region names a task that is not there, that has itself a region, that reads other
        scans, or that lacks a label which a place is cut around.
    """
    if task.region is None:
        return None
    known = {one.name: one for one in find_tasks(models_dir)}
    locator = known.get(task.region.task)
    if locator is None:
        raise UsageError(
            f"task {task.name} is located by task {task.region.task!r}, which does not exist; "
            f"known tasks: {', '.join(known)}"
        )
    why = f"task {locator.name} cannot show where {task.name} is to be segmented: it "
    if locator.region is not None:
        raise UsageError(f"{why}is itself located by another task")
    if locator.channels != task.channels[: len(locator.channels)]:
        raise UsageError(
            f"{why}reads {', '.join(locator.channels)}, but {task.name} begins with "
            f"{', '.join(task.channels)}"
        )
    named = {label.index for label in locator.labels}
    for place in task.region.places:
        if place.located_by not in named:
            raise UsageError(f"{why}has no label {place.located_by}")
    return locator


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
