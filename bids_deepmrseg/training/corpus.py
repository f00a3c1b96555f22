"""Labelled volumes to learn from: prepared by stages.prepare, kept on disk as compact arrays."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bids_deepmrseg.errors import GeometryError, SegmentationError, TrainingError
from bids_deepmrseg.evaluation.whole import Models
from bids_deepmrseg.imaging.grid import Grid, Placement, Spacing, crop_to, to_ras
from bids_deepmrseg.imaging.head import BRIGHTEST
from bids_deepmrseg.imaging.nifti import read_label_map, read_scan
from bids_deepmrseg.records import Case
from bids_deepmrseg.selection.labelled import LabelledScan
from bids_deepmrseg.selection.references import read_reference
from bids_deepmrseg.stages.prepare import prepare_volumes
from bids_deepmrseg.tasks import Task
from bids_deepmrseg.training.deform import blur, random_field, thicken, uniform, warp
from bids_deepmrseg.training.lesions import flair_means
from bids_deepmrseg.training.places import cut_places, near_labels
from bids_deepmrseg.training.synthesis import (
    DEFACED_SHARE,
    STRIPPED_SHARE,
    Head,
    deface,
    paint,
    strip,
    surround,
)
from bids_deepmrseg.training.variants import Kind, Variant
from bids_deepmrseg.training.within import (
    Native,
    changed_scan,
    keep_brain,
    painted_head,
    place_within,
)

logger = logging.getLogger(__name__)

GREY_LEVELS = 255 / BRIGHTEST  # volumes are kept as uint8: 64 levels per tissue intensity
LOW_RESOLUTION_SHARE = 0.35
FLAIR_SHARE = (
    0.7  # of the heads painted for a FLAIR's task; the rest look as T1w and other scans do
)
MOST_DRAWS = 8  # of one random head, until it shows every place whole
HEAD_MARGIN_VOXELS = 12
HEAD_HEIGHT_VOXELS = 224  # from above the vertex down to the neck

Brain = Callable[[Case], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One prepared volume: ``(C, I, J, K)`` uint8 image and ``(I, J, K)`` uint8 classes."""

    name: str
    kind: Kind
    image: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.uint8]


def classes_of(
    values: npt.NDArray[np.integer], numbers: tuple[tuple[int, ...], ...]
) -> npt.NDArray[np.uint8]:
    """Classes of a label map: position in ``numbers`` plus one, 0 for everything else.

    A number that stands in several positions belongs to the last of them.
    """
    table = np.zeros(max(int(values.max()), *(max(own) for own in numbers)) + 1, dtype=np.uint8)
    for position, own in enumerate(numbers, start=1):
        table[list(own)] = position
    classes: npt.NDArray[np.uint8] = table[values]
    return classes


def place_classes(
    classes: npt.NDArray[np.uint8], placement: Placement, n_classes: int
) -> npt.NDArray[np.uint8]:
    """Bring classes from the native to the model grid: interpolate each, let the highest win."""
    turned, _ = to_ras(classes, placement.native)
    winner = np.zeros(placement.model.shape, dtype=np.uint8)
    best = np.zeros(placement.model.shape, dtype=np.float32)
    for number in range(n_classes):
        field = placement.resampling.apply((turned == number).astype(np.float32))
        share = placement.crop.apply(field)
        winner[share > best] = number
        best = np.maximum(best, share)
    return winner


def build_corpus(
    variants: tuple[Variant, ...],
    task: Task,
    head_numbers: tuple[tuple[int, ...], ...],
    folder: Path,
    *,
    locator: Task | None = None,
    models_dir: Path | None = None,
    n_procs: int,
) -> Iterator[Variant]:
    """Make every volume that ``folder`` does not hold yet, yielding each one once it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [v for v in variants if not (folder / f"{v.stem}.npz").is_file()]
    if min(n_procs, len(missing)) < 2:  # starting another process takes longer than one volume
        for variant in missing:
            make_variant(variant, task, head_numbers, folder, locator, models_dir)
            yield variant
        return
    pool = ProcessPoolExecutor(
        min(n_procs, len(missing)), get_context("spawn"), torch.set_num_threads, (1,)
    )
    with pool:
        jobs = [
            pool.submit(make_variant, v, task, head_numbers, folder, locator, models_dir)
            for v in missing
        ]
        for variant, job in zip(missing, jobs, strict=True):
            job.result()
            yield variant


def load_corpus(variants: tuple[Variant, ...], folder: Path) -> tuple[Example, ...]:
    """Read the corpus into memory, in the order of ``variants``."""
    examples = []
    for variant in variants:
        with np.load(folder / f"{variant.stem}.npz", allow_pickle=False) as arrays:
            examples += [
                Example(variant.stem, variant.kind, arrays[f"image_{n}"], arrays[f"classes_{n}"])
                for n in range(len(arrays.files) // 2)
            ]
    return tuple(examples)


def require_every_label(examples: tuple[Example, ...], task: Task) -> None:
    """Refuse a corpus that some label of the task is not in, for it could not be learned.

    Raises
    ------
    TrainingError
        Naming the label, whose index in the task file may be that of another numbering.
    """
    shown = {int(c) for example in examples for c in np.unique(example.classes)}
    for number, label in enumerate(task.network_labels, start=1):
        if number not in shown:
            raise TrainingError(
                f"no label map shows {label.name}, whose index is {label.index} in the task file "
                f"of {task.name}; does the task number labels as the label maps do?"
            )


def make_variant(  # noqa: PLR0917 - what a pool is told
    variant: Variant,
    task: Task,
    head_numbers: tuple[tuple[int, ...], ...],
    folder: Path,
    locator: Task | None = None,
    models_dir: Path | None = None,
) -> None:
    """Make one volume of the corpus, or one for each place that it shows, as ``<stem>.npz``.

    All randomness comes from the variant's seed.
    """
    generator = torch.Generator().manual_seed(variant.seed)
    as_scanned = variant.kind == "stripped" and variant.number == 0 and variant.scan
    if task.within is not None and locator is not None:
        brain: Brain = partial(
            keep_brain,
            locator=locator,
            models=Models(models_dir=models_dir, device="cpu"),
            folder=folder,
        )
        made = [_within(variant, task, brain, generator)]
    elif locator is not None and as_scanned:
        made = cut_places(*_whole_as_scanned(as_scanned, task), task, locator)
    elif locator is not None:
        made = _random_places(variant, task, head_numbers, locator, generator)
    elif as_scanned:
        made = [_as_scanned(as_scanned, task)]
    else:
        made = [_randomised(variant, task, head_numbers, generator)]
    arrays: dict[str, npt.NDArray[np.uint8]] = {}
    for number, (image, classes) in enumerate(made):
        levels = np.clip(np.rint(image * GREY_LEVELS), 0, 255)
        arrays |= {f"image_{number}": levels.astype(np.uint8), f"classes_{number}": classes}
    unfinished = folder / f".{variant.stem}.npz"
    np.savez(unfinished, allow_pickle=False, **arrays)
    unfinished.replace(folder / f"{variant.stem}.npz")


def _within(
    variant: Variant, task: Task, brain: Brain, generator: torch.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """A volume for a task within a brain: a scan as it is, a changed one, or a painted head."""
    if variant.scan is None:
        return painted_head(*_read_head_map(variant.head_map), task, generator)
    volumes, classes, grid = _read_labelled(variant.scan, task)
    lesions, inside = (one.astype(np.float32) for one in (classes > 0, brain(variant.scan.case)))
    native = Native(tuple(one.astype(np.float32) for one in volumes), lesions, inside, grid)
    if variant.number == 0:
        return place_within(native, task)
    return changed_scan(native, task, generator)


def _read_labelled(
    scan: LabelledScan, task: Task
) -> tuple[tuple[npt.NDArray[np.float32], ...], npt.NDArray[np.uint8], Grid]:
    """Channels, classes and grid of a labelled subject."""
    volumes = [read_scan(file) for file in scan.case.scans]
    values, grid = read_reference(scan.reference, task)
    if not all(volume.grid.matches(grid) for volume in volumes):
        raise TrainingError(
            f"{scan.reference} is not on the grid of its scans; resample one of them"
        )
    known = task.network_labels if not task.is_cut_from_scans else task.labels
    classes = classes_of(values, tuple((label.index,) for label in known))
    return tuple(volume.data for volume in volumes), classes, grid


def _as_scanned(
    scan: LabelledScan, task: Task
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """A labelled subject exactly as the app would prepare it."""
    volumes, classes, grid = _read_labelled(scan, task)
    prepared = prepare_volumes(volumes, grid, task)
    return prepared.channels, place_classes(classes, prepared.placement, task.n_classes)


def _whole_as_scanned(scan: LabelledScan, task: Task) -> tuple[Head, Grid]:
    """A labelled scan with the labels of all places, exactly as it is."""
    volumes, classes, grid = _read_labelled(scan, task)
    return Head(torch.from_numpy(volumes[0]), torch.from_numpy(classes)), grid


def _random_places(
    variant: Variant,
    task: Task,
    head_numbers: tuple[tuple[int, ...], ...],
    locator: Task,
    generator: torch.Generator,
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]:
    """All places of a random head; if it was moved out of what is shown, of the next one drawn."""
    for _ in range(MOST_DRAWS - 1):
        head, grid = _whole(variant, task, head_numbers, generator)
        try:
            return cut_places(head, grid, task, locator)
        except (GeometryError, SegmentationError) as error:
            logger.debug("%s is drawn anew: %s", variant.stem, error)
    return cut_places(*_whole(variant, task, head_numbers, generator), task, locator)


def _whole(
    variant: Variant,
    task: Task,
    head_numbers: tuple[tuple[int, ...], ...],
    generator: torch.Generator,
) -> tuple[Head, Grid]:
    """A head of random shape and resolution, cut down to what is near its labels."""
    raw, spacing_mm = _raw_head(variant, task, head_numbers, generator)
    head = near_labels(raw, spacing_mm)
    shape = (head.image.shape[0], head.image.shape[1], head.image.shape[2])
    field = random_field(shape, generator)
    image = _degrade(warp(head.image, field, labels=False), generator)
    classes = warp(head.classes, field, labels=True)
    return Head(image, classes), Grid(shape, np.diag([*spacing_mm, 1.0]))


def _randomised(
    variant: Variant,
    task: Task,
    head_numbers: tuple[tuple[int, ...], ...],
    generator: torch.Generator,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """A head of random shape, surroundings and resolution, prepared as the app would."""
    head, spacing_mm = _raw_head(variant, task, head_numbers, generator)
    shape = (head.image.shape[0], head.image.shape[1], head.image.shape[2])
    field = random_field(shape, generator)
    image = warp(head.image, field, labels=False)
    classes = warp(head.classes, field, labels=True).numpy()
    if variant.kind != "stripped" and uniform(0, 1, generator) < DEFACED_SHARE:
        image = deface(image, generator)
    image = _degrade(image, generator)
    grid = Grid(shape, np.diag([*spacing_mm, 1.0]))
    prepared = prepare_volumes((image.numpy(),), grid, task)
    return prepared.channels, place_classes(classes, prepared.placement, task.n_classes)


def _raw_head(
    variant: Variant,
    task: Task,
    head_numbers: tuple[tuple[int, ...], ...],
    generator: torch.Generator,
) -> tuple[Head, Spacing]:
    """Image and classes before deformation, axes running R, A, S, and their voxels' edges."""
    if variant.scan is None:
        label_map, spacing_mm = _read_head_map(variant.head_map)
        classes = torch.from_numpy(classes_of(label_map.numpy(), head_numbers))
        image = paint(label_map, generator, means=_means(task, generator))
        if uniform(0, 1, generator) < STRIPPED_SHARE:
            image = strip(image, label_map, generator)
        return Head(image, classes), spacing_mm
    volumes, native_classes, grid = _read_labelled(variant.scan, task)
    turned, turn = to_ras(volumes[0], grid)
    spacing_mm = turn.turned.spacing_mm
    image = torch.from_numpy(np.ascontiguousarray(turned)).float()
    classes = torch.from_numpy(np.ascontiguousarray(to_ras(native_classes, grid)[0]))
    if variant.head_map is None:
        return Head(image / image[image > 0].median(), classes), spacing_mm
    around, first = surround(image, _read_head_map(variant.head_map)[0], generator)
    full = torch.zeros(around.shape, dtype=torch.uint8)
    i, j, k = (slice(int(f), int(f) + n) for f, n in zip(first, classes.shape, strict=True))
    full[i, j, k] = classes
    return Head(around, full), spacing_mm


def _means(task: Task, generator: torch.Generator) -> dict[str, float] | None:
    """What tissues of a painted head look like to a task; ``None`` for mostly as in T1w scans."""
    if task.space != "FLAIR" or uniform(0, 1, generator) > FLAIR_SHARE:
        return None
    return flair_means(generator)


def _read_head_map(file: Path | None) -> tuple[Tensor, Spacing]:
    """A whole-head label map turned to RAS+, int64, and the edges of its voxels."""
    if file is None:
        raise TrainingError("a synthetic head needs a label map")
    values, grid = read_label_map(file)
    turned, turn = to_ras(values, grid)
    box = crop_to(turned > 0, margin=HEAD_MARGIN_VOXELS)
    i, j, k = box.slices
    above_neck = slice(max(k.start, k.stop - HEAD_HEIGHT_VOXELS), k.stop)
    cut = torch.from_numpy(np.ascontiguousarray(turned[i, j, above_neck])).long()
    return cut, turn.turned.spacing_mm


def _degrade(image: Tensor, generator: torch.Generator) -> Tensor:
    """Bias field, coarse or thick slices in some, and noise."""
    knots = torch.randn(1, 1, 4, 4, 4, generator=generator) * uniform(0, 0.25, generator)
    bias = torch.nn.functional.interpolate(
        knots, size=image.shape, mode="trilinear", align_corners=True
    )
    image = image * torch.exp(bias[0, 0])
    if uniform(0, 1, generator) < LOW_RESOLUTION_SHARE:
        axis = 2 if uniform(0, 1, generator) < 0.6 else int(uniform(0, 2, generator))
        image = thicken(image, axis, uniform(1.5, 6.0, generator))
    elif uniform(0, 1, generator) < LOW_RESOLUTION_SHARE:
        image = blur(image, uniform(0.4, 0.9, generator))
    noise = uniform(0, 0.05, generator) * torch.randn(image.shape, generator=generator)
    return torch.where(image > 0, image + noise, noise.abs() * (image.min() < 0)).clamp(min=0)
