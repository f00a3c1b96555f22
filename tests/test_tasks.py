"""A task is data: read whole, refused when it contradicts itself, equal after a journey."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import UsageError, WeightsError
from bids_deepmrseg.taskfiles import (
    BUILTIN_MODELS,
    TASK_FILE,
    find_locator,
    find_model_folder,
    find_tasks,
    read_task,
)
from bids_deepmrseg.tasks import Task
from tests.makers import make_task, task_toml
from tests.regions import make_region_task

BUILTIN = find_tasks()
MIDLINE = re.compile(r"\b(Left|Right)\b")


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


@pytest.mark.parametrize("task", BUILTIN, ids=lambda task: task.name)
def test_task_travels_to_worker_processes(task: Task) -> None:
    assert pickle.loads(pickle.dumps(task)) == task
    assert hash(pickle.loads(pickle.dumps(task))) == hash(task)


@pytest.mark.parametrize("task", BUILTIN, ids=lambda task: task.name)
def test_mirrored_labels_are_named_alike_but_for_the_side(task: Task) -> None:
    by_index = {label.index: label for label in task.labels}
    for label in task.labels:
        mirror = by_index[label.mirror]
        assert MIDLINE.sub("", mirror.name) == MIDLINE.sub("", label.name)
        assert (mirror is label) == (MIDLINE.search(label.name) is None)


@pytest.mark.parametrize("task", BUILTIN, ids=lambda task: task.name)
def test_both_sides_have_the_same_adult_range(task: Task) -> None:
    by_index = {label.index: label for label in task.labels}
    for label in task.labels:
        assert label.adult_range == by_index[label.mirror].adult_range
        if label.adult_range is not None:
            assert 0 < label.adult_range.low_ml < label.adult_range.high_ml


@pytest.mark.parametrize("task", BUILTIN, ids=lambda task: task.name)
def test_labels_can_be_told_apart_in_tables_and_pictures(task: Task) -> None:
    for field in ("name", "abbreviation", "color"):
        values = [getattr(label, field) for label in task.labels]
        assert len(set(values)) == len(values), field
    assert all(re.fullmatch(r"#[0-9A-F]{6}", label.color) for label in task.labels)


def test_mirror_classes_swap_sides_and_keep_the_rest() -> None:
    assert make_task().mirror_classes == (0, 2, 1, 3)


@pytest.mark.parametrize("task", BUILTIN, ids=lambda task: task.name)
def test_mirroring_twice_is_the_identity(task: Task) -> None:
    classes = task.mirror_classes
    assert [classes[c] for c in classes] == list(range(task.n_classes))


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


@pytest.mark.parametrize("name", ["deep_brain", "deep-brain", "", "deep brain"])
def test_a_name_that_bids_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="letters and digits"):
        make_task(name)


def test_contradictory_labels_are_refused() -> None:
    task = make_task()
    left, right, middle = task.labels
    for labels in (
        (),
        (left, right, replace(middle, index=left.index, mirror=left.index)),
        (left, right, replace(middle, index=0, mirror=0)),
    ):
        with pytest.raises(UsageError, match="distinct and above 0"):
            replace(task, labels=labels)
    with pytest.raises(UsageError, match="mirror disagree"):
        replace(task, labels=(left, replace(right, mirror=middle.index), middle))
    with pytest.raises(UsageError, match="mirror disagree"):
        replace(task, labels=(left, middle))


def test_a_task_without_channels_is_refused() -> None:
    with pytest.raises(UsageError, match="no channel"):
        make_task(channels=())


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


def test_a_task_with_a_region_reads_back_equal_and_knows_the_labels_of_its_places(
    tmp_path: Path,
) -> None:
    task = make_region_task()
    file = tmp_path / TASK_FILE
    file.write_text(task_toml(task), encoding="utf-8")
    assert read_task(file) == task
    assert task.region is not None
    left, right = task.region.places
    assert [label.name for label in task.labels_of(right)] == [
        "Right Front Blob",
        "Right Back Blob",
    ]
    assert task.labels_of(left) == task.network_labels
    assert task.extent_mm == (76.0, 76.0, 76.0)
    assert task.n_classes == 3


def test_the_hippocampus_is_located_by_deepbrain_on_its_own_side() -> None:
    (task,) = (one for one in BUILTIN if one.name == "hippocampus")
    locator = find_locator(task)
    assert locator is not None
    assert locator.name == "deepbrain"
    names = {label.index: label.name for label in locator.labels}
    assert task.region is not None
    for place in task.region.places:
        side, _, what = names[place.located_by].partition(" ")
        assert what == "Hippocampus"
        assert [label.name for label in task.labels_of(place)] == [
            f"{side} Anterior Hippocampus",
            f"{side} Posterior Hippocampus",
        ]
        assert place.mirrored is (side == "Right")


def test_a_task_on_the_whole_brain_needs_no_locator() -> None:
    assert find_locator(make_task()) is None
    assert make_task().extent_mm == make_task().field_of_view_mm
