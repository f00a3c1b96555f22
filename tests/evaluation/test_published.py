"""The paper's numbers are all there, by our names, and agree with one another."""

import pytest

from bids_deepmrseg.evaluation.published import published_for, published_row
from bids_deepmrseg.taskfiles import TASK_FILE, find_named_model_folder, read_task


@pytest.mark.parametrize(
    ("task", "n_structures"), [("wml", 1), ("deepbrain", 15), ("hippocampus", 3)]
)
def test_every_row_is_there_for_both_networks(task: str, n_structures: int) -> None:
    rows = published_for(task)
    assert len(rows) == 2 * n_structures
    assert {row.network for row in rows} == {"unet", "deepmrseg"}


@pytest.mark.parametrize("task", ["deepbrain", "hippocampus"])
@pytest.mark.parametrize("network", ["unet", "deepmrseg"])
def test_the_printed_average_is_the_mean_of_the_printed_rows(task: str, network: str) -> None:
    *rows, average = [row for row in published_for(task) if row.network == network]
    for metric in ("bacc", "f1", "f2"):
        mean = sum(getattr(row, metric) for row in rows) / len(rows)
        assert mean == pytest.approx(getattr(average, metric), abs=0.0021), metric


def test_the_printed_average_of_rho_c_is_not_the_mean_of_the_rows() -> None:
    """Why ours is over all volumes together."""
    *rows, average = [row for row in published_for("deepbrain") if row.network == "deepmrseg"]
    assert average.rho_c > max(row.rho_c for row in rows)


@pytest.mark.parametrize("task", ["deepbrain", "hippocampus", "wml"])
def test_every_label_of_our_tasks_has_its_row(task: str) -> None:
    rows = published_for(task)
    for label in read_task(find_named_model_folder(task, None) / TASK_FILE).labels:
        assert published_row(rows, label.name, "unet") is not None, label.name


def test_sides_are_told_apart_where_the_paper_does() -> None:
    left, right = (
        published_row(published_for("deepbrain"), f"{side} Amygdala", "unet")
        for side in ("Left", "Right")
    )
    assert left is not None
    assert right is not None
    assert (left.rho_c, right.rho_c) == (0.349, 0.266)


def test_a_task_that_the_paper_lacks_has_no_rows() -> None:
    assert published_for("tiny") == ()
    assert published_row((), "Left Blob", "unet") is None
