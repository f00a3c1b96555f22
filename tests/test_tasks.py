"""A task is data: refused when it contradicts itself, equal after a journey."""

import pickle
import re
from dataclasses import replace

import pytest

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.taskfiles import find_tasks
from bids_deepmrseg.tasks import Label, Task
from tests.makers import make_task
from tests.regions import make_region_task

BUILTIN = find_tasks()
MIDLINE = re.compile(r"\b(Left|Right)\b")


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


def test_a_task_on_the_whole_brain_has_the_extent_that_its_file_names() -> None:
    assert make_task().extent_mm == make_task().field_of_view_mm


def test_a_region_reaches_as_far_as_its_largest_label_and_the_margins() -> None:
    task = make_region_task()
    assert task.region is not None
    assert task.extent_mm == (76.0, 76.0, 76.0)
    wider = replace(task, region=replace(task.region, largest_mm=100.0, margin_mm=(1, 2, 3)))
    assert wider.extent_mm == (102.0, 104.0, 106.0)


def test_the_networks_of_a_region_know_the_labels_of_one_place() -> None:
    task = make_region_task()
    assert task.region is not None
    left, right = task.region.places
    assert task.network_labels == task.labels_of(left)
    assert [one.name for one in task.labels_of(right)] == ["Right Front Blob", "Right Back Blob"]
    assert task.n_classes == 3
    assert task.mirror_classes == (0, 1, 2)


def test_scans_are_cut_for_training_only_where_the_region_says_so() -> None:
    task = make_region_task()
    assert task.region is not None
    assert not task.is_cut_from_scans
    assert replace(task, region=replace(task.region, trained_on="scans")).is_cut_from_scans
    assert not make_task().is_cut_from_scans


# landmarks


def with_landmarks() -> Task:
    """The made task with two landmarks in its midline structure."""
    task = make_task()
    left, right, middle = task.labels
    return replace(task, landmarks=(_part(left, 11, 12, 7), _part(right, 12, 11, middle.index)))


def _part(like: Label, index: int, mirror: int, part_of: int | None) -> Label:
    return replace(like, index=index, name=f"{like.name} Part", mirror=mirror, part_of=part_of)


def test_networks_tell_landmarks_apart_behind_the_labels() -> None:
    task = with_landmarks()
    assert [label.index for label in task.told_apart] == [1, 2, 7, 11, 12]
    assert task.network_labels == task.told_apart
    assert task.n_classes == 6
    assert task.mirror_classes == (0, 2, 1, 3, 5, 4)
    assert task.parents == (2, 2)
    assert [label.index for label in task.labels] == [1, 2, 7], "users get none of them"


@pytest.mark.parametrize(
    ("landmarks", "sentence"),
    [
        ((_part(make_task().labels[2], 11, 11, None),), "Middle Blob Part is part of no label"),
        ((_part(make_task().labels[2], 11, 11, 5),), "Middle Blob Part is part of no label"),
        ((_part(make_task().labels[2], 11, 11, 11),), "Middle Blob Part is part of no label"),
        ((_part(make_task().labels[2], 7, 7, 1),), "indices must be distinct"),
        ((_part(make_task().labels[0], 11, 12, 1),), "and its mirror disagree"),
    ],
)
def test_a_landmark_is_a_part_of_a_label(landmarks: tuple[Label, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        replace(make_task(), landmarks=landmarks)


def test_only_a_landmark_is_a_part() -> None:
    task = make_task()
    left, right, middle = task.labels
    with pytest.raises(UsageError, match="only landmarks can be part of a label"):
        replace(task, labels=(left, right, replace(middle, part_of=1)))


def test_a_task_with_a_region_has_no_landmarks() -> None:
    task = make_region_task()
    with pytest.raises(UsageError, match="a task with a region has no landmarks"):
        replace(task, landmarks=(_part(task.labels[0], 21, 21, 11),))


def test_the_brain_is_a_label_and_no_landmark() -> None:
    task = with_landmarks()
    assert replace(task, brain=7).brain == 7
    for index in (11, 99, 0):
        with pytest.raises(UsageError, match=f"brain = {index} is none of its labels"):
            replace(task, brain=index)


# places


def test_every_label_lies_in_one_place_and_all_places_have_as_many() -> None:
    task = make_region_task()
    assert task.region is not None
    left, right = task.region.places
    for labels, sentence in (
        ((13,), "each label must belong to exactly one place"),
        ((13, 14, 11), "each label must belong to exactly one place"),
    ):
        region = replace(task.region, places=(left, replace(right, labels=labels)))
        with pytest.raises(UsageError, match=sentence):
            replace(task, region=region)
    uneven = (replace(left, labels=(11, 12, 13)), replace(right, labels=(14,)))
    with pytest.raises(UsageError, match="equally many labels"):
        replace(task, region=replace(task.region, places=uneven))


def test_a_task_needs_a_field_of_view_or_a_region() -> None:
    with pytest.raises(UsageError, match="needs a field_of_view_mm or a region"):
        replace(make_task(), field_of_view_mm=None)


def test_three_labels_are_not_parted_by_a_plane() -> None:
    task = make_region_task()
    assert task.region is not None
    left, _ = task.region.places
    region = replace(task.region, places=(replace(left, labels=(11, 12, 13, 14)),))
    with pytest.raises(UsageError, match="only two labels can be parted"):
        replace(task, region=replace(region, parted_along="A"))
