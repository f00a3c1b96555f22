"""Task files say what a task is, and folders where its weights are: read whole, or refused."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import UsageError, WeightsError
from bids_deepmrseg.taskfiles import (
    BUILTIN_MODELS,
    TASK_FILE,
    find_model_folder,
    find_tasks,
    read_task,
)
from bids_deepmrseg.tasks import TRAINED_ON, Task, TrainedOn
from tests.commands import closed
from tests.makers import make_task, task_toml
from tests.regions import make_region_task

BUILTIN = find_tasks()


def write_task(folder: Path, task: Task) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / TASK_FILE
    file.write_text(task_toml(task), encoding="utf-8")
    return file


def test_deepbrain_comes_with_the_package() -> None:
    assert "deepbrain" in [task.name for task in BUILTIN]


@pytest.mark.parametrize("task", BUILTIN, ids=lambda task: task.name)
def test_builtin_folder_is_named_like_its_task(task: Task) -> None:
    assert find_model_folder(task) == BUILTIN_MODELS / task.name


def test_a_task_file_reads_back_equal(tmp_path: Path) -> None:
    task = make_task(channels=("FLAIR", "T1w"), indices=(5, 900, 17))
    assert read_task(write_task(tmp_path, task)) == task
    assert task.space == "FLAIR"
    assert task.n_classes == 4


NEEDED = """
name = "mine"
channels = ["T1w"]
spacing_mm = 2
field_of_view_mm = [176, 208, 176]
"""


def write_needed(folder: Path, *names: str, more: str = "") -> Path:
    """A task file with nothing but what is needed, and ``more``."""
    rows = [f'[[labels]]\nindex = {n}\nname = "{name}"' for n, name in enumerate(names, start=1)]
    file = folder / "mine.toml"
    file.write_text("\n".join([NEEDED, more, *rows]), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("names", "mirrors"),
    [
        (("Left Blob", "Right Blob", "Blob"), (0, 2, 1, 3)),
        (("blob_l", "stem", "blob_R"), (0, 3, 2, 1)),
        (("lh-blob", "rh-blob", "rh-stem"), (0, 2, 1, 3)),
        (("Upright", "Upleft", "Lobe"), (0, 1, 2, 3)),
    ],
)
def test_sides_in_names_say_what_mirrors_what(
    tmp_path: Path, names: tuple[str, ...], mirrors: tuple[int, ...]
) -> None:
    assert read_task(write_needed(tmp_path, *names)).mirror_classes == mirrors


def test_a_task_file_needs_little(tmp_path: Path) -> None:
    task = read_task(write_needed(tmp_path, *(f"Blob {n}" for n in range(30))))
    assert task.description.startswith("Blob 0, Blob 1")
    assert "None named" in task.atlas
    assert task.views == ()
    colors = [label.color for label in task.labels]
    assert len(set(colors)) == len(colors)
    assert all(re.fullmatch(r"#[0-9A-F]{6}", color) for color in colors)


def test_a_task_file_may_name_views(tmp_path: Path) -> None:
    file = write_needed(tmp_path, "Blob", more='views = ["axial", "sagittal"]')
    assert read_task(file).views == ("axial", "sagittal")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('["T1w"]', '"T1w"', 'channels must be a list such as ["T1w"]'),
        ("[[labels]]", "[labels]", "labels must be [[labels]] tables"),
        ("field_of_view_mm", "field_of_view", "field_of_view is no field of a task file"),
        ("index = 1", "index = 70000", "indices must be distinct and above 0, at most 65535"),
        ("index = 1", "index = 1\ncolour = 'red'", "colour is no field of a label"),
        ("spacing_mm = 2", "spacing_mm = 0", "spacing_mm must be above 0"),
        ("[[labels]]", "brain = 3\n[[labels]]", "brain = 3 is none of its labels"),
        ("[[labels]]", "landmarks = 3\n[[labels]]", "landmarks must be [[landmarks]] tables"),
    ],
)
def test_a_mistake_in_a_task_file_is_named(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    file = write_needed(tmp_path, "Blob")
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(sentence)):
        read_task(file)


@pytest.mark.parametrize("field", ["name", "channels", "spacing_mm", "index"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    file = write_task(tmp_path, make_task())
    line = re.compile(rf"^{field} = .*\n", re.MULTILINE)
    file.write_text(line.sub("", file.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"task\.toml lacks the field '{field}'"):
        read_task(file)


@pytest.mark.parametrize("text", ["name = ", "labels = 3\nname = 'x'", '[[labels]]\nindex = "a"'])
def test_a_file_that_is_no_task_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / TASK_FILE
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(str(file))):
        read_task(file)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_task(tmp_path / TASK_FILE)


def test_a_models_folder_adds_tasks_and_replaces_builtin_ones(tmp_path: Path) -> None:
    write_task(tmp_path / "tiny", make_task())
    write_task(tmp_path / "deepbrain", make_task("deepbrain"))
    tasks = {task.name: task for task in find_tasks(tmp_path)}
    assert tasks["tiny"] == make_task()
    assert tasks["deepbrain"] == make_task("deepbrain")
    assert find_model_folder(tasks["deepbrain"], tmp_path) == tmp_path / "deepbrain"
    assert tasks.keys() >= {task.name for task in BUILTIN}


def test_a_models_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a folder"):
        find_tasks(tmp_path / "absent")


def test_a_task_without_a_model_folder_is_refused() -> None:
    with pytest.raises(WeightsError, match="no model folder for task tiny"):
        find_model_folder(make_task())


# numbers in FreeSurfer's table


@pytest.mark.parametrize(
    ("line", "numbers"),
    [("", ()), ("freesurfer = 17", (17,)), ("freesurfer = [17, 18, 53]", (17, 18, 53))],
)
def test_a_label_may_have_no_freesurfer_number_one_or_many(
    tmp_path: Path, line: str, numbers: tuple[int, ...]
) -> None:
    file = write_needed(tmp_path, "Blob")
    file.write_text(file.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    assert read_task(file).labels[0].freesurfer == numbers


# landmarks

LANDMARKS = """
brain = 1

[[labels]]
index = 1
name = "Brain"
freesurfer = [2, 10, 49]

[[landmarks]]
index = 2
part_of = 1
name = "Left Deep"
abbreviation = "L-Deep"
color = "#C76F4A"
mapping = 9
adult_range_ml = [10, 45]
freesurfer = 10

[[landmarks]]
index = 3
part_of = 1
name = "Right Deep"
freesurfer = [49]
"""


def write_landmarks(folder: Path, old: str = "", new: str = "") -> Path:
    """A task file with two landmarks, one thing in it changed."""
    assert old in LANDMARKS
    file = folder / "mine.toml"
    file.write_text(NEEDED + LANDMARKS.replace(old, new, 1), encoding="utf-8")
    return file


def test_landmarks_are_read_beside_the_labels(tmp_path: Path) -> None:
    task = read_task(write_landmarks(tmp_path))
    assert [label.name for label in task.labels] == ["Brain"]
    left, right = task.landmarks
    assert (left.index, left.part_of, left.mirror) == (2, 1, 3)
    assert (left.abbreviation, left.color, left.mapping) == ("L-Deep", "#C76F4A", 9)
    assert left.adult_range is not None
    assert (left.adult_range.low_ml, left.adult_range.high_ml) == (10, 45)
    assert (right.index, right.part_of, right.mirror) == (3, 1, 2)
    assert [label.freesurfer for label in task.told_apart] == [(2, 10, 49), (10,), (49,)]
    assert task.brain == 1
    assert task.description == "Brain"


def test_a_task_with_landmarks_reads_back_equal(tmp_path: Path) -> None:
    task = make_task()
    left, right, middle = task.labels
    task = replace(
        task,
        landmarks=tuple(
            replace(one, index=one.index + 20, mirror=one.mirror + 20, part_of=middle.index)
            for one in (left, right)
        ),
        brain=middle.index,
    )
    assert read_task(write_task(tmp_path, task)) == task


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("part_of = 1", "part_of = 4", "landmark Left Deep is part of no label"),
        ("part_of = 1", "part_of = 3", "landmark Left Deep is part of no label"),
        ("part_of = 1\n", "", "landmark Left Deep is part of no label"),
        ("part_of = 1", "partof = 1", "partof is no field of a label"),
        ("brain = 1", "brain = 2", "brain = 2 is none of its labels"),
        ("index = 2", "index = 1", "label indices must be distinct"),
        ('name = "Brain"\n', 'name = "Brain"\npart_of = 2\n', "only landmarks can be part"),
    ],
)
def test_a_mistake_in_landmarks_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        read_task(write_landmarks(tmp_path, old, new))


# regions

REGION = """
name = "parts"
channels = ["T1w"]
spacing_mm = 1

[region]
task = "tiny"
margin_mm = [1, 2, 3]
largest_mm = 90
trained_on = "scans"
parted_along = "A"

[[region.places]]
located_by = 1
mirrored = false
labels = [1, 2]

[[labels]]
index = 1
name = "Front"

[[labels]]
index = 2
name = "Back"
"""


def write_region(folder: Path, old: str = "", new: str = "") -> Path:
    """A task file with a region, one thing in it changed."""
    assert old in REGION
    file = folder / "parts.toml"
    file.write_text(REGION.replace(old, new, 1), encoding="utf-8")
    return file


def test_every_field_of_a_region_is_read(tmp_path: Path) -> None:
    region = read_task(write_region(tmp_path)).region
    assert region is not None
    assert (region.task, region.margin_mm) == ("tiny", (1.0, 2.0, 3.0))
    assert (region.largest_mm, region.trained_on, region.parted_along) == (90.0, "scans", "A")
    (place,) = region.places
    assert (place.located_by, place.mirrored, place.labels) == (1, False, (1, 2))


@pytest.mark.parametrize(
    ("field", "default"),
    [("largest_mm", 60.0), ("trained_on", "crops"), ("parted_along", None)],
)
def test_most_of_a_region_has_a_default(tmp_path: Path, field: str, default: object) -> None:
    (line,) = (line for line in REGION.splitlines(keepends=True) if line.startswith(field))
    assert getattr(read_task(write_region(tmp_path, line)).region, field) == default


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("largest_mm", "longest_mm", "longest_mm is no field of a region; there are largest_mm"),
        ("mirrored = false", "mirrored = false\nmirror = 1", "mirror is no field of a place"),
        ('"scans"', '"heads"', "trained_on must be crops or scans, not 'heads'"),
        ('"A"', '"L"', "parted_along must be R, A or S, not 'L'"),
        ("margin_mm = [1, 2, 3]\n", "", "lacks the field 'margin_mm'"),
        ("located_by = 1\n", "", "lacks the field 'located_by'"),
        ("labels = [1, 2]", "labels = [1]", "each label must belong to exactly one place"),
    ],
)
def test_a_mistake_in_a_region_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        read_task(write_region(tmp_path, old, new))


@pytest.mark.parametrize("trained_on", TRAINED_ON)
def test_a_task_with_a_region_reads_back_equal(tmp_path: Path, trained_on: TrainedOn) -> None:
    task = make_region_task()
    assert task.region is not None
    task = replace(task, region=replace(task.region, trained_on=trained_on, largest_mm=72.0))
    assert read_task(write_task(tmp_path, task)) == task


def test_a_models_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    with closed(tmp_path), pytest.raises(WeightsError, match="may not be read by this user"):
        find_tasks(tmp_path)


def test_a_file_is_no_models_folder(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    with pytest.raises(WeightsError, match="is not a folder"):
        find_tasks(tmp_path / "models")
