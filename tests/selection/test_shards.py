"""Shards part the participants: disjoint, complete, even."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bids_deepmrseg.selection.shards import take_part
from bids_deepmrseg.settings import RunSettings

LABELS = st.sets(st.from_regex(r"[0-9A-Za-z]{1,4}", fullmatch=True), max_size=60)


def settings_of(n_shards: int | None, index: int | None) -> RunSettings:
    return RunSettings(
        bids_dir=Path("/in"),
        output_dir=Path("/out"),
        work_dir=Path("/work"),
        analysis_level="participant",
        run_id="run",
        num_shards=n_shards,
        shard_index=index,
    )


@given(LABELS, st.integers(1, 80))
def test_every_participant_falls_to_exactly_one_shard_and_shards_are_even(
    labels: set[str], n_shards: int
) -> None:
    parts = [take_part(labels, settings_of(n_shards, index)) for index in range(n_shards)]
    dealt = [label for part in parts for label in part]
    assert sorted(dealt) == sorted(labels)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@given(st.permutations([f"{n:02d}" for n in range(23)]), st.integers(1, 9))
def test_the_order_in_which_participants_are_named_does_not_matter(
    labels: list[str], n_shards: int
) -> None:
    index = n_shards - 1
    part = take_part(labels, settings_of(n_shards, index))
    assert part == take_part(sorted(labels), settings_of(n_shards, index))
    assert list(part) == sorted(part)


def test_a_run_without_shards_takes_all() -> None:
    assert take_part(["b", "a"], settings_of(None, None)) == ("a", "b")


def test_neighbours_are_spread() -> None:
    labels = ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert take_part(labels, settings_of(3, 0)) == ("a1", "b1")
