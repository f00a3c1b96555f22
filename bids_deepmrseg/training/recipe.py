"""How a model is trained, as data: the paper's reference configuration and what measures better."""

import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.network.weights import VIEWS, View
from bids_deepmrseg.tasks import Task

RECIPES = Path(__file__).parent.parent / "data" / "recipes"

ONE_SIDE = re.compile(r"(?<![A-Za-z])(left|right|lh|rh)(?![A-Za-z])", re.IGNORECASE)

Optimiser = Literal["adam", "adamw"]
Schedule = Literal["exponential", "one-cycle"]
Augmentation = Literal["paper", "any-head", "place", "any-place", "lesions"]
Centre = Literal["structure", "volume"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything about a training run but its data.

    Attributes
    ----------
    name
        As in the file name.
    family, features, depth, blocks_per_level, kernel_down, kernel_up
        Fields of the architecture.
    views
        Slice directions, one network each.
    neighbours
        Slices on each side that are stacked with the one to segment; 0 in the paper.
    patch
        Right-left, back-front and foot-head extent of training patches, voxels; a view uses two.
    centred_on
        What patches lie around: a voxel of a ``structure``, or the middle of the ``volume``,
        for volumes that are hardly larger than a patch.
    near_structures
        Share of the slices that go through a voxel of a structure, each structure as often as
        the others; the rest are any slices.
    batch_size, steps_per_epoch, n_epochs
        Amount of training.
    optimiser, peak_learning_rate, weight_decay
        ``adam`` has no decay in the paper.
    schedule
        ``exponential``: times ``decay`` each epoch; ``one-cycle``: up over the first tenth of all
        steps, then down to zero by a cosine.
    decay
        Factor of the exponential schedule.
    augmentation
        ``paper``: flips, translation, rotation, brightness, contrast. ``any-head``: also bias
        field, random monotone contrast curves, low resolution and noise. ``place``: as
        ``any-head``, gentler, for boxes inside the brain. ``any-place``: the same as strong as
        ``any-head``, and with coarse voxels in every third slice. ``lesions``: gentler contrast
        curves, ghosts, and scans of several sequences that do not lie quite upon each other.
    absent_share
        Share of the slices in which optional channels are left out, as where they were not scanned.
    flipped
        Whether half of the axial and coronal patches exchange left and right, labels too.
    n_stripped, n_surrounded
        Random variants kept of each labelled scan: as it is, and inside a synthetic head.
    n_synthetic
        Heads synthesised from each label map.
    synthetic_share
        Part of every batch that comes from them.
    """

    name: str
    family: Literal["deepmrseg", "unet"] = "deepmrseg"
    features: int = 16
    depth: int = 4
    blocks_per_level: int = 1
    kernel_down: int = 1
    kernel_up: int = 1
    views: tuple[View, ...] = ("axial",)
    neighbours: int = 0
    patch: tuple[int, int, int] = (112, 112, 112)
    centred_on: Centre = "structure"
    near_structures: float = 0.85
    batch_size: int = 8
    steps_per_epoch: int = 120
    n_epochs: int = 30
    optimiser: Optimiser = "adam"
    peak_learning_rate: float = 0.05
    weight_decay: float = 0.0
    schedule: Schedule = "exponential"
    decay: float = 0.98
    augmentation: Augmentation = "paper"
    flipped: bool = True
    n_stripped: int = 1
    n_surrounded: int = 0
    n_synthetic: int = 0
    synthetic_share: float = 0.0
    absent_share: float = 0.0

    def __post_init__(self) -> None:
        if len(self.patch) != 3 or any(side % 2**self.depth for side in self.patch):
            raise UsageError(
                f"recipe {self.name}: patch must have three sides, multiples of {2**self.depth}"
            )
        if not self.views or any(view not in VIEWS for view in self.views):
            raise UsageError(f"recipe {self.name}: views must be some of {', '.join(VIEWS)}")
        if not 0 <= self.synthetic_share < 1:
            raise UsageError(f"recipe {self.name}: synthetic_share must be in [0, 1)")
        for share in ("near_structures", "absent_share"):
            if not 0 <= getattr(self, share) <= 1:
                raise UsageError(f"recipe {self.name}: {share} must be in [0, 1]")

    @property
    def n_steps(self) -> int:
        """Optimiser steps of one network."""
        return self.steps_per_epoch * self.n_epochs


def fit_recipe(recipe: Recipe, task: Task) -> Recipe:
    """The recipe with the views that a task asks for.

    Raises
    ------
    UsageError
        If patches are flipped though a label of the task is on one side and has no mirror: it
        would be learned on both.
    """
    views = tuple(view for name in task.views for view in VIEWS if view == name)
    if len(views) < len(task.views):
        raise UsageError(f"task {task.name}: views must be some of {', '.join(VIEWS)}")
    fitted = replace(recipe, views=views or recipe.views)
    one_sided = [
        label.name
        for label in task.told_apart
        if label.mirror == label.index and ONE_SIDE.search(label.name)
    ]
    if one_sided and recipe.flipped and task.region is None:
        raise UsageError(
            f"task {task.name}: {one_sided[0]} has no mirror, but recipe {recipe.name} shows left "
            "and right exchanged; name its mirror, or set flipped = false in a recipe of your own"
        )
    return fitted


def read_recipe(name_or_file: str) -> Recipe:
    """Read a recipe that the package carries, by name, or a TOML file of the same fields.

    Raises
    ------
    UsageError
        If there is none, or a field is unknown or unfit.
    """
    file = Path(name_or_file)
    if file.suffix != ".toml":
        file = RECIPES / f"{name_or_file}.toml"
    known = ", ".join(sorted(f.stem for f in RECIPES.glob("*.toml")))
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        table = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        return Recipe(name=file.stem, **table)
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise UsageError(f"recipe {file} cannot be read: {error}; built in: {known}") from error
