"""Shards: how many runs share the participants of a dataset, each taking its own part."""

from collections.abc import Collection

from bids_deepmrseg.settings import RunSettings


def take_part(labels: Collection[str], settings: RunSettings) -> tuple[str, ...]:
    """The participants that fall to this run's shard, sorted; all of them without shards.

    Parameters
    ----------
    labels
        All participants that were asked for, those included that are not there: to say so falls
        to one shard, too.
    settings
        Give the number of shards and which of them this run is.

    Notes
    -----
    Dealt out in turn, as cards are, by sorted label: the parts are disjoint, differ by one
    participant at most, and neighbours, which often come from one scanner, are spread over all.
    Which shard a participant falls to depends on the whole selection, so all shards of a study
    must be given the same one.
    """
    ordered = tuple(sorted(set(labels)))
    if settings.num_shards is None or settings.shard_index is None:
        return ordered
    return ordered[settings.shard_index :: settings.num_shards]


def describe_shard(settings: RunSettings) -> str:
    """Which shard this run is, in words."""
    return f"shard {settings.shard_index} of {settings.num_shards} (counted from 0)"
