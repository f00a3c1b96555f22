"""The training loop of one network: deterministic under its seed, resumable after a kill."""

import csv
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bids_deepmrseg.errors import TrainingError
from bids_deepmrseg.network.architecture import Architecture
from bids_deepmrseg.network.build import build_network
from bids_deepmrseg.network.weights import SLICE_AXIS, sha256_of
from bids_deepmrseg.training.augment import (
    STRENGTHS,
    augment,
    draw_further,
    draw_parameters,
)
from bids_deepmrseg.training.corpus import GREY_LEVELS
from bids_deepmrseg.training.losses import segmentation_loss
from bids_deepmrseg.training.recipe import Recipe
from bids_deepmrseg.training.sampling import Sampler

logger = logging.getLogger(__name__)

WARM_UP_SHARE = 0.1
MAX_GRADIENT_NORM = 5.0
LOG_COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "loss",
    "cross_entropy",
    "squared_error",
    "soft_iou",
    "mean_f1",
    "elapsed_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLog:
    """One row of the training log: means over an epoch's batches."""

    epoch: int
    step: int
    learning_rate: float
    loss: float
    cross_entropy: float
    squared_error: float
    soft_iou: float
    mean_f1: float
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One network to train.

    Attributes
    ----------
    recipe, architecture, sampler, mirror_classes
        What is trained, on what.
    seed
        Of weights and batches; the batch of step ``t`` depends on ``seed`` and ``t`` alone.
    device
        Torch device.
    precision
        ``bf16`` autocast or ``fp32``.
    compiled
        Whether to compile the network: about 1.8 times faster on a CPU after two minutes.
    folder
        Where checkpoint and log are kept.
    start
        Weights to start from, such as those of an earlier recipe; ``None`` for random ones.
    n_sequences, n_optional
        Channels of a slice, neighbours not counted, and how many of the last may be absent.
    """

    recipe: Recipe
    architecture: Architecture
    sampler: Sampler
    mirror_classes: tuple[int, ...]
    seed: int
    device: str
    precision: str
    compiled: bool
    folder: Path
    start: Path | None = None
    n_sequences: int = 1
    n_optional: int = 0


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of one step, counted from 0."""
    if recipe.schedule == "exponential":
        return recipe.peak_learning_rate * recipe.decay ** (step // recipe.steps_per_epoch)
    done = step / recipe.n_steps
    if done < WARM_UP_SHARE:
        return recipe.peak_learning_rate * (0.04 + 0.96 * done / WARM_UP_SHARE)
    cooling = (done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)
    return recipe.peak_learning_rate * max(1e-4, (1 + math.cos(math.pi * cooling)) / 2)


def train(
    job: TrainJob, *, on_step: Callable[[int], None], on_epoch: Callable[[EpochLog], None]
) -> nn.Module:
    """Train one network from its last checkpoint, or from the start.

    Parameters
    ----------
    job
        What to train.
    on_step
        Called after each step with the number of steps done, those before a resume included.
    on_epoch
        Called after each epoch with its row of the log.

    Returns
    -------
    nn.Module
        The trained network in evaluation mode, on the CPU.

    Raises
    ------
    TrainingError
        If the loss is no longer a finite number.
    """
    torch.manual_seed(job.seed)
    network = build_network(job.architecture).to(job.device)
    network = network.to(memory_format=_layout(job))  # type: ignore[call-overload]
    optimiser = _optimiser(job.recipe, network)
    first_epoch, elapsed_s = _resume(job, network, optimiser)
    forward: nn.Module = torch.compile(network) if job.compiled else network  # type: ignore[assignment]
    network.train()
    for epoch in range(first_epoch, job.recipe.n_epochs):
        started = time.monotonic()
        row = _one_epoch(job, forward, optimiser, epoch, on_step)
        elapsed_s += time.monotonic() - started
        log = EpochLog(
            epoch=epoch + 1,
            step=(epoch + 1) * job.recipe.steps_per_epoch,
            learning_rate=optimiser.param_groups[0]["lr"],
            **row,
            elapsed_s=elapsed_s,
        )
        _save_checkpoint(job, network, optimiser, log)
        _append_log(job.folder / "log.tsv", log)
        on_epoch(log)
    trained: nn.Module = network.cpu().eval()
    return trained


def _layout(job: TrainJob) -> torch.memory_format:
    """How arrays lie in memory: channels last is faster, where it is safe.

    On CPUs, oneDNN's gradient of strided 1x1 convolutions writes beyond its workspace for
    channels last and fewer than 16 feature maps (uxlfoundation/oneDNN issue 6035).
    """
    safe = torch.device(job.device).type != "cpu" or job.architecture.features >= 16
    return torch.channels_last if safe else torch.contiguous_format


def _optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """Adam, as in the paper, or AdamW."""
    rate = recipe.peak_learning_rate
    if recipe.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), lr=rate)
    return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=recipe.weight_decay)


def _one_epoch(
    job: TrainJob,
    forward: nn.Module,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    on_step: Callable[[int], None],
) -> dict[str, float]:
    """Mean loss terms and F1 of one epoch."""
    sums = torch.zeros(5)
    steps = range(epoch * job.recipe.steps_per_epoch, (epoch + 1) * job.recipe.steps_per_epoch)
    for step, (images, classes) in zip(steps, _batches(job, steps), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(job.recipe, step)
        kind = torch.device(job.device).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=job.precision == "bf16"):
            logits = forward(images)
        loss = segmentation_loss(logits, classes)
        if not torch.isfinite(loss.total):
            raise TrainingError(f"the loss is not finite at step {step}; lower the learning rate")
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.total)
        nn.utils.clip_grad_norm_(forward.parameters(), MAX_GRADIENT_NORM)
        optimiser.step()
        terms = (loss.total, loss.cross_entropy, loss.squared_error, loss.soft_iou)
        on_step(step + 1)
        sums += torch.stack(
            [*(t.detach().cpu() for t in terms), _mean_f1(logits.detach(), classes)]
        )
    means = (sums / len(steps)).tolist()
    return dict(
        zip(("loss", "cross_entropy", "squared_error", "soft_iou", "mean_f1"), means, strict=True)
    )


def _mean_f1(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean F1 of the structures that a batch shows."""
    n_classes = logits.shape[1]
    guess = logits.argmax(dim=1).flatten()
    truth = classes.flatten()
    hits = torch.bincount(truth[guess == truth], minlength=n_classes)[1:]
    sizes = torch.bincount(truth, minlength=n_classes) + torch.bincount(guess, minlength=n_classes)
    shown = torch.bincount(truth, minlength=n_classes)[1:] > 0
    return (2 * hits / sizes[1:].clamp(min=1))[shown].float().mean().cpu()


def _batches(job: TrainJob, steps: range) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of consecutive steps; the next one is made while the network learns from this."""
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(make_batch, job, steps[0])
        for step in steps:
            images, classes = ahead.result()
            if step + 1 in steps:
                ahead = thread.submit(make_batch, job, step + 1)
            yield (
                images.to(job.device).contiguous(memory_format=_layout(job)),
                classes.to(job.device),
            )


def make_batch(job: TrainJob, step: int) -> tuple[Tensor, Tensor]:
    """The batch of one step, which depends on the job's seed and the step alone.

    Choices are drawn on the CPU; slices are cut and changed where the corpus lies.
    """
    seed = job.seed * 10_000_019 + step
    generator = torch.Generator().manual_seed(seed)
    recipe, view = job.recipe, job.sampler.view
    slices = job.sampler.draw(recipe.batch_size, GREY_LEVELS, generator)
    device = slices.images.device
    strength = STRENGTHS[recipe.augmentation]
    draw = draw_parameters(
        recipe.batch_size,
        strength,
        generator,
        flipped_share=0.5 if recipe.flipped else 0.0,
    )
    n_needed = job.n_sequences - job.n_optional
    further = tuple(
        draw_further(draw, strength, generator, absent_share=recipe.absent_share * (n >= n_needed))
        for n in range(1, job.n_sequences)
    )
    height, width = (n for axis, n in enumerate(recipe.patch) if axis != SLICE_AXIS[view])
    return augment(
        slices,
        draw,
        patch=(height, width),
        view=view,
        mirror_classes=job.mirror_classes,
        further=further,
        generator=generator if device.type == "cpu" else torch.Generator(device).manual_seed(seed),
    )


def _save_checkpoint(
    job: TrainJob, network: nn.Module, optimiser: torch.optim.Optimizer, log: EpochLog
) -> None:
    """Write network and optimiser as safetensors, whole or not at all."""
    tensors = {f"network.{k}": v.contiguous() for k, v in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v.contiguous() for k, v in state.items()}
    job.folder.mkdir(parents=True, exist_ok=True)
    partial = job.folder / ".checkpoint.safetensors"
    progress = {"epoch": str(log.epoch), "elapsed_s": repr(log.elapsed_s), "job": _fingerprint(job)}
    save_file(tensors, partial, metadata=progress)
    partial.replace(job.folder / "checkpoint.safetensors")


def _fingerprint(job: TrainJob) -> str:
    """What must be the same for a checkpoint to be continued."""
    start = "random" if job.start is None else sha256_of(job.start)
    view = job.sampler.view
    own = replace(job.recipe, views=(view,))  # other views of the recipe are other networks
    return f"{own} {job.architecture} seed={job.seed} start={start}"


def _resume(
    job: TrainJob, network: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load the last checkpoint, if there is one: first epoch to do, seconds spent so far."""
    file = job.folder / "checkpoint.safetensors"
    if not file.is_file():
        if job.start is not None:
            _start_from(network, job.start)
        return 0, 0.0
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    progress = header["__metadata__"]
    if progress["job"] != _fingerprint(job):
        raise TrainingError(
            f"{file} belongs to another recipe or seed; choose another output folder"
        )
    tensors = load_file(file)
    network.load_state_dict(
        {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return int(progress["epoch"]), float(progress["elapsed_s"])


def _start_from(network: nn.Module, file: Path) -> None:
    """Take over the weights of a trained network of the same architecture."""
    try:
        network.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise TrainingError(
            f"weights {file} do not fit the network of this recipe: {error}"
        ) from error


def _append_log(file: Path, log: EpochLog) -> None:
    """Add a row to the log; rows of epochs that are done again after a kill are replaced."""
    rows = []
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as stream:
            rows = [r for r in csv.reader(stream, delimiter="\t") if r[0].isdecimal()]
    rows = [r for r in rows if int(r[0]) < log.epoch]
    values = [getattr(log, column) for column in LOG_COLUMNS]
    rows.append([f"{v:.6g}" if isinstance(v, float) else str(v) for v in values])
    partial = file.with_name(f".{os.getpid()}.{file.name}")
    with partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(LOG_COLUMNS)
        writer.writerows(rows)
    partial.replace(file)
