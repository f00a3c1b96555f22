"""A whole training run: corpus, one network per view, model folder with its record."""

import logging
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from bids_deepmrseg.errors import TrainingError, UsageError
from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.weights import (
    ModelMember,
    ModelRecord,
    View,
    label_lines,
    read_record,
    save_network,
    verify,
    write_record,
)
from bids_deepmrseg.records import preprocessing_of
from bids_deepmrseg.selection.labelled import LabelledScan, find_labelled
from bids_deepmrseg.taskfiles import TASK_FILE
from bids_deepmrseg.tasks import Task
from bids_deepmrseg.training.corpus import (
    Example,
    build_corpus,
    load_corpus,
    require_every_label,
)
from bids_deepmrseg.training.loop import EpochLog, TrainJob, train
from bids_deepmrseg.training.recipe import Recipe
from bids_deepmrseg.training.sampling import Sampler, Volumes, gather_volumes
from bids_deepmrseg.training.variants import plan_corpus

logger = logging.getLogger(__name__)

NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class DataCard:
    """What the training data are and on which terms; goes into the weights' record."""

    training_data: str = NOT_STATED
    license: str = NOT_STATED
    attribution: str = NOT_STATED


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Everything a training run was asked to do.

    Attributes
    ----------
    task, task_file
        What is trained, and the file that says so; it is copied beside the weights.
    recipe
        How.
    labelled_dir
        Labelled scans: ``sub-*/anat`` folders with a ``_dseg`` each.
    views
        Which of the recipe's views to train now; the model folder is written by the run that
        trains, or finds trained, all of them.
    start_dir
        Model folder whose networks training starts from, or ``None`` for random weights.
    reference
        How names of label maps end, such as ``dseg``.
    head_maps_dir
        Whole-head label maps in FreeSurfer's numbering, or ``None``.
    excluded
        Subjects that are never read, such as those of a test fold.
    excluded_maps
        Beginnings of the names of head maps that are never read, such as ``head-17``.
    locator
        The task that finds the places of ``task``, if it has a region.
    corpus_dir
        Where prepared volumes are kept; runs of the same task, recipe and seed may share it.
    output_dir
        Where checkpoints, logs and the model folder go.
    card
        Terms of the data.
    seed, device, precision, compiled, n_procs
        How the computing is done; the result depends on the first alone, up to rounding.
    models_dir
        Where to look first for the model of the locator.
    """

    task: Task
    task_file: Path
    recipe: Recipe
    views: tuple[View, ...]
    start_dir: Path | None
    labelled_dir: Path
    reference: str
    head_maps_dir: Path | None
    excluded: tuple[str, ...]
    excluded_maps: tuple[str, ...]
    corpus_dir: Path
    output_dir: Path
    card: DataCard
    locator: Task | None
    seed: int
    device: str
    precision: str
    compiled: bool
    n_procs: int
    models_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how far training has come."""

    on_corpus: Callable[[int, int], None]
    on_view: Callable[[View, int], None]
    on_step: Callable[[int], None]
    on_epoch: Callable[[EpochLog], None]


def read_data_card(file: Path) -> DataCard:
    """Read ``training_data``, ``license`` and ``attribution`` from a TOML file."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        return DataCard(
            str(table["training_data"]), str(table["license"]), str(table["attribution"])
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UsageError(
            f"data card {file} must be TOML with training_data, license and attribution: {error!r}"
        ) from error


def pick_precision(precision: str, device: str) -> str:
    """``bf16`` or ``fp32``; ``auto`` becomes the faster one of the device."""
    if precision != "auto":
        return precision
    fast = device != "cpu" or "AVX512" in torch.backends.cpu.get_cpu_capability()
    return "bf16" if fast else "fp32"


def run_training(settings: TrainSettings, listener: Listener) -> Path:
    """Train views of a recipe; once all are there, write the model folder.

    Returns
    -------
    Path
        ``<output_dir>/<task>``, a folder that ``--models-dir <output_dir>`` finds.

    Raises
    ------
    TrainingError
        If there are no labelled scans, or labels and head maps cannot be matched.
    """
    volumes = gather_volumes(
        _corpus(settings, listener), n_classes=settings.task.n_classes, device=settings.device
    )
    members = []
    folder = settings.output_dir / settings.task.name
    for view in settings.views:
        job = _job(settings, view, volumes)
        listener.on_view(view, settings.recipe.n_steps)
        network = train(job, on_step=listener.on_step, on_epoch=listener.on_epoch)
        members.append(_save(folder, network, job))
    if settings.views == settings.recipe.views:
        shutil.copyfile(settings.task_file, folder / TASK_FILE)
        write_record(folder, _record(settings, tuple(members)))
    return folder


def _corpus(settings: TrainSettings, listener: Listener) -> tuple[Example, ...]:
    """Plan, make and load the volumes to learn from."""
    _check_channels(settings.task, settings.recipe)
    labelled = _labelled(settings)
    variants = plan_corpus(labelled, _head_maps(settings), settings.recipe, seed=settings.seed)
    folder = settings.corpus_dir
    made = build_corpus(
        variants,
        settings.task,
        _head_numbers(settings),
        folder,
        locator=settings.locator if _needs_locator(settings.task) else None,
        models_dir=settings.models_dir,
        n_procs=settings.n_procs,
    )
    for done, _variant in enumerate(made, start=1):
        listener.on_corpus(done, len(variants))
    examples = load_corpus(variants, folder)
    require_every_label(examples, settings.task)
    return examples


def _check_channels(task: Task, recipe: Recipe) -> None:
    """Scans as they are have all channels; what is warped, painted or cut out has one.

    Tasks within a brain have ways of their own to change and paint scans of several channels, but
    no brain is put into another head for them.
    """
    as_scanned = recipe.n_stripped <= 1 and not recipe.n_surrounded and not recipe.n_synthetic
    if task.within is not None and recipe.n_surrounded:
        raise TrainingError(
            f"task {task.name} looks within the brain only: what recipe {recipe.name} would put "
            "around it (n_surrounded) is not seen; leave that away"
        )
    if (
        task.within is None
        and len(task.channels) > 1
        and (task.is_cut_from_scans or not as_scanned)
    ):
        raise TrainingError(
            f"task {task.name} has {len(task.channels)} channels: it learns from labelled scans as "
            f"they are, but recipe {recipe.name} or its region asks for others; use a recipe with "
            "n_stripped = 1 and no heads, and a field of view or crops"
        )


def _needs_locator(task: Task) -> bool:
    """Whether volumes to learn from are made with the help of the task that shows the way."""
    return task.is_cut_from_scans or task.within is not None


def _labelled(settings: TrainSettings) -> tuple[LabelledScan, ...]:
    """The labelled scans, if the recipe learns from any."""
    if not settings.recipe.n_stripped and not settings.recipe.n_surrounded:
        return ()
    return find_labelled(
        settings.labelled_dir,
        settings.task,
        excluded=settings.excluded,
        reference=settings.reference,
    )


def _head_maps(settings: TrainSettings) -> tuple[Path, ...]:
    """The whole-head label maps, if the recipe wants any."""
    if not settings.recipe.n_synthetic and not settings.recipe.n_surrounded:
        return ()
    if settings.head_maps_dir is None:
        raise TrainingError(f"recipe {settings.recipe.name} needs whole-head label maps")
    maps = sorted(settings.head_maps_dir.glob("*.nii*"))
    for name in settings.excluded_maps:
        kept = [file for file in maps if not _is_named(file, name)]
        if len(kept) == len(maps):
            logger.warning("%s is to be left out, but is not in %s", name, settings.head_maps_dir)
        maps = kept
    if not maps:
        raise TrainingError(f"{settings.head_maps_dir} holds no NIfTI label map to learn from")
    return tuple(maps)


def _is_named(file: Path, name: str) -> bool:
    """Whether a file is the one called ``head-1``, say, and not ``head-17``."""
    return file.name == name or file.name.startswith((f"{name}_", f"{name}."))


def _head_numbers(settings: TrainSettings) -> tuple[tuple[int, ...], ...]:
    """Each label's numbers in whole-head label maps."""
    if settings.task.lesions is not None:
        return ()  # label maps of healthy heads have none: they are painted
    numbers = tuple(label.freesurfer for label in settings.task.told_apart)
    if settings.head_maps_dir is not None and not all(numbers):
        raise TrainingError(f"task {settings.task.name}: some labels have no FreeSurfer number")
    return numbers


def _job(settings: TrainSettings, view: View, volumes: Volumes) -> TrainJob:
    """The training of one view."""
    recipe, task = settings.recipe, settings.task
    architecture = Architecture(
        family=recipe.family,
        n_channels=len(task.channels) * (1 + 2 * recipe.neighbours),
        n_classes=task.n_classes,
        features=recipe.features,
        depth=recipe.depth,
        blocks_per_level=recipe.blocks_per_level,
        kernel_down=recipe.kernel_down,
        kernel_up=recipe.kernel_up,
    )
    sampler = Sampler(
        volumes,
        view,
        recipe.neighbours,
        recipe.synthetic_share,
        recipe.centred_on,
        recipe.near_structures,
    )
    return TrainJob(
        recipe=recipe,
        architecture=architecture,
        sampler=sampler,
        mirror_classes=task.mirror_classes,
        n_sequences=len(task.channels),
        n_optional=len(task.optional),
        seed=settings.seed,
        device=settings.device,
        precision=settings.precision,
        compiled=settings.compiled,
        folder=settings.output_dir / "training" / view,
        start=_start(settings, view),
    )


def _start(settings: TrainSettings, view: View) -> Path | None:
    """Verified weights of a view to start from."""
    if settings.start_dir is None:
        return None
    record = read_record(settings.start_dir)
    verify(settings.start_dir, record)
    for member in record.members:
        if member.view == view:
            return settings.start_dir / member.file
    raise TrainingError(f"{settings.start_dir} has no {view} network to start from")


def _save(folder: Path, network: nn.Module, job: TrainJob) -> ModelMember:
    """Write the weights of one view."""
    view, neighbours = job.sampler.view, job.sampler.neighbours
    return save_network(folder, network, view, job.architecture, neighbours=neighbours)


def _record(settings: TrainSettings, members: tuple[ModelMember, ...]) -> ModelRecord:
    """Everything that must be known about the weights."""
    return ModelRecord(
        task=settings.task.name,
        labels=label_lines([(label.index, label.name) for label in settings.task.told_apart]),
        preprocessing=preprocessing_of(settings.task),
        members=members,
        training_data=settings.card.training_data,
        license=settings.card.license,
        attribution=settings.card.attribution,
        code_version=version("bids-deepmrseg"),
    )
