"""Laws of what corrects the networks' answer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.stages.segment import tidy
from bids_deepmrseg.tasks import DIRECTIONS, Direction, Place, Region, Task
from tests.makers import make_task

SHAPE = (12, 16, 10)


def _parted(direction: Direction | None) -> Task:
    """A task of two labels in one place."""
    whole = make_task()
    labels = tuple(replace(label, mirror=label.index) for label in whole.labels[:2])
    place = Place(located_by=7, mirrored=False, labels=tuple(label.index for label in labels))
    region = Region(task="tiny", margin_mm=(4, 4, 4), places=(place,), parted_along=direction)
    return replace(whole, labels=labels, region=region, field_of_view_mm=None)


def _answer(axis: int, plane: int, *, doubt: float, seed: int) -> np.ndarray:
    """Probabilities of a box whose first label lies from ``plane`` on, and the second before."""
    rng = np.random.default_rng(seed)
    position = np.indices(SHAPE)[axis]
    box = np.zeros(SHAPE, bool)
    box[3:9, 3:13, 3:8] = True
    first = np.where(position >= plane, 1 - doubt, doubt) + rng.uniform(-0.2, 0.2, SHAPE)
    first = np.clip(first, 0, 1)
    inside = np.where(box, 0.9, 0.05)
    return np.stack([1 - inside, inside * first, inside * (1 - first)]).astype(np.float32)


@given(
    direction=st.sampled_from(DIRECTIONS),
    offset=st.integers(4, 6),
    doubt=st.floats(0, 0.3),
    seed=st.integers(0, 99),
)
def test_the_border_is_the_plane_that_the_evidence_supports(
    direction: Direction, offset: int, doubt: float, seed: int
) -> None:
    axis = DIRECTIONS.index(direction)
    probabilities = _answer(axis, offset, doubt=doubt, seed=seed)
    before = probabilities.copy()
    tidy(probabilities, _parted(direction))
    labels = probabilities.argmax(axis=0)
    position = np.indices(SHAPE)[axis]
    assert (position[labels == 1] >= offset).all()
    assert (position[labels == 2] < offset).all()
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    background_won = before[0] > before[1:].sum(axis=0)
    np.testing.assert_array_equal(labels == 0, background_won)


def test_without_a_direction_labels_stay_as_they_are() -> None:
    probabilities = _answer(1, 6, doubt=0.3, seed=0)
    before = probabilities.copy()
    tidy(probabilities, _parted(None))
    np.testing.assert_array_equal(probabilities.argmax(axis=0), before.argmax(axis=0))


def test_one_label_may_take_all() -> None:
    probabilities = np.zeros((3, *SHAPE), np.float32)
    probabilities[0], probabilities[1] = 0.1, 0.9
    tidy(probabilities, _parted("A"))
    assert (probabilities.argmax(axis=0) == 1).all()


def test_pieces_beside_the_largest_are_taken_away_and_counted() -> None:
    probabilities = np.zeros((3, *SHAPE), np.float32)
    probabilities[0] = 1
    probabilities[:, 2:8, 4:12, 3:7] = np.reshape([0.1, 0.8, 0.1], (3, 1, 1, 1))
    probabilities[:, 10:12, :2, :2] = np.reshape([0.2, 0.1, 0.7], (3, 1, 1, 1))
    assert tidy(probabilities, _parted(None)) == 8
    assert set(np.unique(probabilities.argmax(axis=0))) == {0, 1}
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-6)


def test_only_two_labels_can_be_parted() -> None:
    task = make_task()
    place = Place(located_by=7, mirrored=False, labels=tuple(x.index for x in task.labels))
    region = Region(task="tiny", margin_mm=(4, 4, 4), places=(place,), parted_along="A")
    with pytest.raises(UsageError, match="only two labels"):
        replace(task, region=region, field_of_view_mm=None)
