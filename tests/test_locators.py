"""Which task shows where another one works: along chains, never in circles, on the right side."""

from dataclasses import replace
from pathlib import Path

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.taskfiles import TASK_FILE, find_locator, find_tasks
from bids_deepmrseg.tasks import Label, Task
from tests.makers import make_task, task_toml
from tests.regions import make_locator, make_region_task

BUILTIN = find_tasks()


def known(models_dir: Path, *tasks: Task) -> Path:
    """A folder that holds the files of some tasks."""
    for task in tasks:
        (models_dir / task.name).mkdir(parents=True)
        file = models_dir / task.name / TASK_FILE
        file.write_text(task_toml(task), encoding="utf-8")
    return models_dir


def part(name: str, located_by: str, *indices: int) -> Task:
    """The task of parts under another name, located by whatever labels of another task."""
    task = make_region_task(name, located_by=located_by)
    assert task.region is not None
    places = tuple(
        replace(place, located_by=index)
        for place, index in zip(task.region.places, indices or (1, 2), strict=True)
    )
    return replace(task, region=replace(task.region, places=places))


def landmark(like: Label, index: int, part_of: int) -> Label:
    return replace(like, index=index, mirror=index, name=f"Part {index}", part_of=part_of)


def test_a_task_on_the_whole_brain_needs_no_locator() -> None:
    assert find_locator(make_task()) is None


def test_a_locator_may_have_a_locator(tmp_path: Path) -> None:
    first, second = make_locator(), part("second", "tiny")
    third = part("third", "second", 11, 14)
    folder = known(tmp_path, first, second, third)
    assert find_locator(third, folder) == second
    assert find_locator(second, folder) == first


def test_tasks_that_locate_each_other_are_refused(tmp_path: Path) -> None:
    one, other = part("one", "other", 11, 12), part("other", "one", 11, 12)
    folder = known(tmp_path, one, other, part("own", "own", 11, 12))
    for task in (one, other):
        with pytest.raises(UsageError, match="tasks one, other are located by each other"):
            find_locator(task, folder)
    with pytest.raises(UsageError, match="tasks own are located by each other"):
        find_locator(part("own", "own", 11, 12), folder)


def test_a_circle_further_up_the_chain_is_refused_too(tmp_path: Path) -> None:
    one, other = part("one", "other", 11, 12), part("other", "one", 11, 12)
    folder = known(tmp_path, one, other)
    with pytest.raises(UsageError, match="are located by each other"):
        find_locator(part("new", "one", 11, 12), folder)


def test_landmarks_can_show_where_a_task_works(tmp_path: Path) -> None:
    first = make_locator()
    left, right, middle = first.labels
    parts = (landmark(left, 21, middle.index), landmark(right, 22, middle.index))
    folder = known(tmp_path, replace(first, landmarks=parts))
    found = find_locator(part("new", "tiny", 21, 22), folder)
    assert found is not None
    assert found.landmarks == parts


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (part("new", "nobody"), "located by task 'nobody', which does not exist; known tasks: "),
        (part("new", "tiny", 1, 9), "tiny cannot show where new is to be segmented: it has no"),
        (part("new", "second", 11, 12), "tiny cannot show where second is to be segmented"),
        (replace(part("new", "tiny"), channels=("FLAIR",)), "reads T1w, but new begins with FLAIR"),
    ],
)
def test_a_locator_that_cannot_show_the_way_is_refused(
    tmp_path: Path, task: Task, sentence: str
) -> None:
    folder = known(tmp_path, make_locator(), part("second", "tiny", 1, 8))
    with pytest.raises(UsageError, match=sentence):
        find_locator(task, folder)


@pytest.mark.parametrize("task", [one for one in BUILTIN if one.region], ids=lambda task: task.name)
def test_places_of_builtin_tasks_are_located_on_their_own_side(task: Task) -> None:
    locator = find_locator(task)
    assert locator is not None
    names = {label.index: label.name for label in locator.told_apart}
    assert task.region is not None
    for place in task.region.places:
        side = names[place.located_by].partition(" ")[0]
        assert {label.name.partition(" ")[0] for label in task.labels_of(place)} == {side}
        assert place.mirrored is (side == "Right")


def test_the_hippocampus_is_located_by_the_hippocampi_of_deepbrain() -> None:
    (task,) = (one for one in BUILTIN if one.name == "hippocampus")
    locator = find_locator(task)
    assert locator is not None
    assert locator.name == "deepbrain"
    assert task.region is not None
    shown = {place.located_by for place in task.region.places}
    names = {label.name for label in locator.labels if label.index in shown}
    assert names == {"Left Hippocampus", "Right Hippocampus"}
