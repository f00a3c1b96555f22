"""Which volumes a corpus holds, and what each is made of: a plan, before any is made."""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bids_deepmrseg.selection.labelled import LabelledScan
from bids_deepmrseg.training.recipe import Recipe

Kind = Literal["stripped", "surrounded", "synthetic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One volume of the corpus: what it is made of, and the seed of its random choices."""

    kind: Kind
    number: int
    seed: int
    scan: LabelledScan | None
    head_map: Path | None

    @property
    def stem(self) -> str:
        """Name of its files in the corpus folder."""
        source = self.scan.stem if self.scan else self.head_map.name if self.head_map else ""
        return f"{self.kind}_{source.split('.')[0]}_{self.number}"


def plan_corpus(
    labelled: tuple[LabelledScan, ...], head_maps: tuple[Path, ...], recipe: Recipe, *, seed: int
) -> tuple[Variant, ...]:
    """Every volume that a recipe asks for, each with a seed of its own."""
    made = [
        _variant("stripped", n, scan, None) for scan in labelled for n in range(recipe.n_stripped)
    ]
    if head_maps:
        made += [
            _variant("surrounded", n, scan, head_maps[(_number_of(scan.stem) + n) % len(head_maps)])
            for scan in labelled
            for n in range(recipe.n_surrounded)
        ]
    made += [
        _variant("synthetic", n, None, file)
        for file in head_maps
        for n in range(recipe.n_synthetic)
    ]
    return tuple(replace(v, seed=seed * 100_003 + _number_of(v.stem)) for v in made)


def _variant(kind: Kind, number: int, scan: LabelledScan | None, file: Path | None) -> Variant:
    """One volume, its seed still to come."""
    return Variant(kind=kind, number=number, seed=0, scan=scan, head_map=file)


def _number_of(name: str) -> int:
    """A number that depends on a name alone: volumes stay the same whoever else is trained on."""
    return zlib.crc32(name.encode("utf-8"))
