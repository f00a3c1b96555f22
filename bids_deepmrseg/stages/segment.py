"""Stage 3 of 8: slices through the networks; views are fused into one probability per class."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.backends import cudnn
from torch.nn import functional

from bids_deepmrseg.errors import ResourceError, SegmentationError, UsageError, WeightsError
from bids_deepmrseg.imaging.certainty import (
    Winners,
    border_entropy_bits,
    label_probability,
    mean_agreement,
    soft_dice,
    winners,
)
from bids_deepmrseg.imaging.tidy import (
    keep_one_cluster,
    keep_one_piece,
    merge_parts,
    part_labels,
)
from bids_deepmrseg.network.loaded import LoadedNetworks
from bids_deepmrseg.network.record import (
    RECORD_FILE,
    SLICE_AXIS,
    ModelMember,
    ModelRecord,
    View,
    label_lines,
    read_record,
)
from bids_deepmrseg.records import Certainty, Predicted, Prepared, preprocessing_of
from bids_deepmrseg.settings import check_devices
from bids_deepmrseg.tasks import DIRECTIONS, Label, Place, Task

logger = logging.getLogger(__name__)

FLIPPED_VIEWS: tuple[View, ...] = ("axial", "coronal")  # of which right and left are in the slice
CLUSTER_GAP_MM = 6.0  # parts of one place in the head lie nearer together than this
BATCH_SLICES = 4  # larger batches are no faster on a CPU (memory is allocated anew each time)
GPU_BATCH_SLICES = 16  # to begin with; halved as long as the GPU's memory does not suffice


def pick_devices(asked: str) -> tuple[str, ...]:
    """Turn what ``--device`` says into devices that exist.

    Parameters
    ----------
    asked
        ``auto`` for all GPUs, or the CPU where there is none; ``cuda`` for all GPUs; or names
        such as ``cpu`` and ``cuda:1`` with commas between them, once for every worker.

    Returns
    -------
    tuple
        ``cpu`` or ``cuda:N``, as torch numbers what ``CUDA_VISIBLE_DEVICES`` shows it.

    Raises
    ------
    UsageError
        If a GPU is asked for that is not there, or the text names no devices.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cuda" or (asked == "auto" and n_gpus):
        named = tuple(f"cuda:{number}" for number in range(max(n_gpus, 1)))
    else:
        named = ("cpu",) if asked == "auto" else tuple(asked.split(","))
    check_devices(named)
    for name in named:
        if name != "cpu" and int(name.partition(":")[2]) >= n_gpus:
            raise UsageError(f"--device {name} is not there; {_seen(n_gpus)}")
    return named


def pick_device(asked: str) -> str:
    """As :func:`pick_devices`, for what runs on one device: the first.

    Raises
    ------
    UsageError
        As there, and if several are named.
    """
    if "," in asked:
        raise UsageError(f"--device {asked}: this runs on one device; name one")
    return pick_devices(asked)[0]


def _seen(n_gpus: int) -> str:
    """What torch can tell of the GPUs of this machine."""
    seen = f"torch sees {n_gpus} CUDA devices"
    if torch.version.cuda is None:
        seen += " (it was built without CUDA)"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return seen if visible is None else f"{seen}, and CUDA_VISIBLE_DEVICES is '{visible}'"


def describe_device(device: str) -> str:
    """A device as sidecars call it: a GPU's number alone says little elsewhere."""
    if device == "cpu":
        return device
    return f"{device} ({torch.cuda.get_device_name(device)})"


def segment(
    prepared: Prepared,
    folder: Path,
    task: Task,
    *,
    device: str,
    fast: bool = False,
    networks: LoadedNetworks | None = None,
) -> Predicted:
    """Run every network of a task's ensemble over its slices and average their probabilities.

    Parameters
    ----------
    prepared
        Channels on the model grid.
    folder
        Model folder of the task; its weights are verified before they are used.
    task
        What is segmented.
    device
        Torch device.
    fast
        Run only the ensemble's first network, and show it no mirror image.
    networks
        Of that device, to find there what earlier calls loaded, and to leave there what this one
        loads; without it, networks are loaded for this call alone.

    Returns
    -------
    Predicted
        Probabilities on the same model grid, after :func:`tidy`, and how certain they are.

    Raises
    ------
    WeightsError
        If the weights are damaged or belong to another task.
    SegmentationError
        If the networks find none of the structures, lesions aside: people may have none.
    ResourceError
        If the memory of a GPU does not suffice.

    Notes
    -----
    Networks run in float32 everywhere. A GPU is kept from rounding to TF32 and from choosing its
    algorithms by trial, so that the same scan has the same answer each time.
    """
    record = read_record(folder)
    check_record(record, task)
    networks = networks or LoadedNetworks(device)
    if not record.members:
        raise WeightsError(f"{folder / RECORD_FILE} lists no network")
    networks.verify(folder, record.members)
    if fast:
        record = replace(record, members=record.members[:1], flips=False)
    try:
        with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            probabilities, answers = _fused(prepared.channels, folder, record, task, networks)
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"the memory of {describe_device(networks.device)} did not suffice for {task.name}, "
            "not even slice by slice; free it from other programs, or name another --device"
        ) from error
    n_removed = tidy(probabilities, task)
    may_find_none = task.lesions is not None
    if not may_find_none and not (probabilities[1:] > 0.5).any():
        raise SegmentationError(
            f"the network found none of the {len(task.network_labels)} structures of {task.name}; "
            "is the scan a brain, of the right contrast, with a right header?"
        )
    labels = _answered(task, prepared.place)
    certainties = _certainties(probabilities, answers, labels, task)
    return Predicted(probabilities, prepared.placement, n_removed, prepared.place, certainties)


def _answered(task: Task, place: Place | None) -> tuple[Label, ...]:
    """The labels that an answer is about, landmarks left out."""
    if place is not None:
        return task.labels_of(place)
    return task.labels if task.region is None else task.network_labels


def _groups(task: Task) -> tuple[tuple[int, ...], ...]:
    """For every label, the network classes that it is made of: its own, and its landmarks'."""
    classes = tuple(enumerate(task.network_labels, start=1))
    return tuple(
        tuple(c for c, part in classes if label.index in (part.index, part.part_of))
        for _, label in classes
        if label.part_of is None
    )


def _certainties(
    probabilities: npt.NDArray[np.float32],
    answers: list[tuple[str, Winners]],
    labels: tuple[Label, ...],
    task: Task,
) -> tuple[Certainty, ...]:
    """How far single answers agree on every label, and how sure the fused one is of it."""
    groups = _groups(task)
    winner = winners(probabilities, groups)
    agreement = mean_agreement(answers, len(groups))
    found = []
    for number, (label, group) in enumerate(zip(labels, groups, strict=True)):
        probability, mask = label_probability(probabilities, group), winner == number + 1
        found.append(
            Certainty(
                index=label.index,
                agreement=float(agreement[number]),
                soft_dice=soft_dice(probability, mask),
                border_entropy_bits=border_entropy_bits(probability, mask),
            )
        )
    return tuple(found)


def tidy(probabilities: npt.NDArray[np.float32], task: Task) -> int:
    """Take islands away, and put the border of parted labels where the task says it runs.

    Parameters
    ----------
    probabilities
        ``(L, I, J, K)`` of a whole head, or of one place of a region; changed in place.
    task
        Says whether its labels are one cluster, or lie in places, and how they are parted.

    Returns
    -------
    int
        Voxels that were taken from islands and given to the background.
    """
    if task.region is not None and task.region.parted_along is not None:
        part_labels(probabilities, DIRECTIONS.index(task.region.parted_along))
    if task.one_cluster:
        return _tidy_cluster(probabilities, task)
    return 0 if task.region is None else keep_one_piece(probabilities)


def _tidy_cluster(probabilities: npt.NDArray[np.float32], task: Task) -> int:
    """Keep what lies together, and of each label its large pieces; count the voxels taken away."""
    gap_voxels = round(CLUSTER_GAP_MM / task.spacing_mm)
    if not task.landmarks:
        return keep_one_cluster(probabilities, gap_voxels=gap_voxels)
    # landmarks are parts of what must be in one piece, and may be in several themselves
    merged = np.concatenate([probabilities[:1], merge_parts(probabilities[1:], task.parents)])
    n_removed = keep_one_cluster(merged, gap_voxels=gap_voxels)
    removed = (merged[0] == 1) & (probabilities[0] < 1)
    probabilities[1:, removed], probabilities[0, removed] = 0, 1
    return n_removed


def check_record(record: ModelRecord, task: Task) -> None:
    """Refuse weights whose labels are not the task's, or that were trained behind other scans."""
    wanted = label_lines([(label.index, label.name) for label in task.told_apart])
    if record.task != task.name or record.labels != wanted:
        raise WeightsError(
            f"the weights were trained for task {record.task} with other labels than those of "
            f"the task file of {task.name}"
        )
    wanted_preprocessing = preprocessing_of(task)
    if record.preprocessing != wanted_preprocessing:
        raise WeightsError(
            f"the weights of {task.name} were trained on scans prepared by {record.preprocessing}, "
            f"this version prepares them by {wanted_preprocessing}; train them again"
        )


def _fused(
    channels: npt.NDArray[np.float32],
    folder: Path,
    record: ModelRecord,
    task: Task,
    networks: LoadedNetworks,
) -> tuple[npt.NDArray[np.float32], list[tuple[str, Winners]]]:
    """Mean probability over networks, ``(L, I, J, K)``, and who wins in each single answer."""
    groups = _groups(task)
    answers: list[tuple[str, Winners]] = []
    total = np.zeros((task.n_classes, *channels.shape[1:]), dtype=np.float32)
    for member in record.members:
        if member.architecture.n_classes != task.n_classes:
            raise WeightsError(
                f"{folder / member.file} has {member.architecture.n_classes} classes"
            )
        network = networks.get(folder, member)
        is_flipped = record.flips and member.view in FLIPPED_VIEWS
        own = predict_view(network, channels, member)
        answers.append((member.view, winners(own, groups)))
        _add(total, own, weight=0.5 if is_flipped else 1)
        del own
        if is_flipped:
            flipped = predict_view(network, _mirrored(channels), member)
            own = _mirrored(flipped)[list(task.mirror_classes)]
            answers.append((member.view, winners(own, groups)))
            _add(total, own, weight=0.5)
            del own, flipped
        logger.info("%s network of %s done", member.view, folder.name)
    total /= len(record.members)
    return total, answers


def _mirrored(volumes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``(C, I, J, K)`` with right and left exchanged."""
    return np.ascontiguousarray(volumes[:, ::-1])


def _add(
    total: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32], *, weight: float = 1
) -> None:
    """Add class by class: in a scope of its own, so that no class keeps its view's array alive."""
    for number, of_class in enumerate(probabilities):
        total[number] += weight * of_class


def predict_view(
    network: nn.Module, channels: npt.NDArray[np.float32], member: ModelMember
) -> npt.NDArray[np.float32]:
    """One network's probabilities, slice by slice in its view.

    Parameters
    ----------
    network
        In evaluation mode, on its device.
    channels
        ``(C, I, J, K)`` on the model grid.
    member
        Says in which view the network was trained, and to which multiple slices are padded.

    Returns
    -------
    ndarray
        ``(L, I, J, K)``, a view of an array in which slices lie one after another: writing each
        slice into a volume of another order would touch all of its memory each time.
    """
    stacked = np.moveaxis(channels, SLICE_AXIS[member.view] + 1, 0)  # (N, C, H, W)
    n_slices, _, height, width = stacked.shape
    offsets = range(-member.neighbours, member.neighbours + 1)
    stride = member.architecture.stride
    padding = (0, -width % stride, 0, -height % stride)
    shape = (n_slices, member.architecture.n_classes, height, width)
    probabilities = np.empty(shape, dtype=np.float32)
    on_cpu = next(network.parameters()).device.type == "cpu"
    start, size = 0, BATCH_SLICES if on_cpu else GPU_BATCH_SLICES
    while start < n_slices:
        numbers = np.arange(start, min(start + size, n_slices))
        beside = [stacked[np.clip(numbers + o, 0, n_slices - 1)] for o in offsets]
        answer = _ask(network, np.concatenate(beside, axis=1), padding, may_fail=size > 1)
        if answer is None:
            torch.cuda.empty_cache()
            size //= 2
            continue
        probabilities[numbers] = answer
        start += size
    return np.moveaxis(probabilities, 0, SLICE_AXIS[member.view] + 1)


def _ask(
    network: nn.Module,
    slices: npt.NDArray[np.float32],
    padding: tuple[int, int, int, int],
    *,
    may_fail: bool,
) -> npt.NDArray[np.float32] | None:
    """Probabilities of a batch; ``None`` where a GPU's memory is too small for it.

    In a scope of its own, so that a batch that failed lets go of its memory.
    """
    device = next(network.parameters()).device
    height, width = slices.shape[-2:]
    try:
        with torch.inference_mode():
            padded = functional.pad(torch.from_numpy(slices).to(device), padding)
            logits = network(padded.contiguous(memory_format=torch.channels_last))
            softmax = logits.float().softmax(dim=1)[..., :height, :width]
            probabilities: npt.NDArray[np.float32] = softmax.cpu().numpy()
            return probabilities
    except torch.OutOfMemoryError:
        if not may_fail:
            raise
        return None
