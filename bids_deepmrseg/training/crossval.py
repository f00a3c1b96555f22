"""The paper's protocol (section 4): folds of persons, and networks trained on each but one."""

from dataclasses import dataclass, replace

import numpy as np

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One fold of one repeat: who is tested, by networks that learned from everyone else.

    Attributes
    ----------
    repeat, fold
        From 1.
    test
        Persons, with ``sub-``.
    """

    repeat: int
    fold: int
    test: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"repeat-{self.repeat}_fold-{self.fold}"


def make_splits(
    subjects: tuple[str, ...],
    *,
    n_folds: int,
    repeat: int,
    seed: int,
    groups: tuple[tuple[str, ...], ...] = (),
) -> tuple[Split, ...]:
    """Shuffle persons into folds of almost equal size.

    Parameters
    ----------
    subjects
        All persons; their order does not matter.
    n_folds
        Number of parts; each is tested once.
    repeat
        From 1; each repeat is another shuffle.
    seed
        With ``repeat``, all that the shuffle depends on.
    groups
        Subjects that are one person under several names, and so belong into one fold.

    Returns
    -------
    tuple
        One split per fold. Every person is in exactly one of them.

    Raises
    ------
    UsageError
        If there are fewer persons than folds, or a group names someone unknown.
    """
    if unknown := sorted({name for group in groups for name in group} - set(subjects)):
        raise UsageError(f"the groups of subjects name {', '.join(unknown)}, who has no scan")
    grouped = {name: group for group in groups for name in group}
    units = sorted({grouped.get(name, (name,)) for name in subjects})
    if not 2 <= n_folds <= len(units):
        raise UsageError(f"{len(units)} persons cannot be parted into {n_folds} folds")
    order = np.random.default_rng([seed, repeat]).permutation(len(units))
    shuffled = [units[i] for i in order]
    return tuple(
        Split(
            repeat=repeat,
            fold=fold + 1,
            test=tuple(sorted(name for unit in shuffled[fold::n_folds] for name in unit)),
        )
        for fold in range(n_folds)
    )


def benchmark_of(recipe: Recipe) -> Recipe:
    """The same training of the paper's benchmark network."""
    return replace(recipe, family="unet")
