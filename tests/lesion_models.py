"""Makers of heads with lesions in two contrasts, and of networks that find them by brightness."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.records import Case, preprocessing_of
from bids_deepmrseg.tasks import LesionDefaults, Task
from tests.makers import bids_path, make_dataset, make_grid, make_head, make_task, task_toml
from tests.makers import write_nifti as write

if TYPE_CHECKING:
    from torch import nn

    from bids_deepmrseg.network.architecture import Architecture

# middle and radius in mm; white matter is all around them
SPOTS_MM = (((-20.0, 36.0, 22.0), 9.0), ((24.0, -30.0, 18.0), 12.0))
BRIGHT = 300.0  # three times the median of the brain in FLAIR
BRAIN_FROM = 0.5
LESION_FROM = 2.2  # times the median of the brain, a fifth of the T1w's taken off
T1W_WEIGHT = -0.2


def make_hull_task() -> Task:
    """The task that finds the brain: whatever is bright."""
    task = make_task("hull")
    brain = replace(
        task.labels[0], index=1, name="Brain", abbreviation="Brain", mirror=1, adult_range=None
    )
    return replace(task, description="What is bright, for tests", labels=(brain,), brain=1)


def make_spot_task() -> Task:
    """The task that finds lesions within that brain, from a FLAIR and perhaps a T1w."""
    task = make_task("spots", channels=("FLAIR", "T1w"))
    spot = replace(
        task.labels[0], index=1, name="Spot", abbreviation="S", mirror=1, adult_range=None
    )
    return replace(
        task,
        description="Bright spots, for tests",
        field_of_view_mm=None,
        labels=(spot,),
        optional=("T1w",),
        within="hull",
        lesions=LesionDefaults(threshold=0.5, smallest_mm3=100.0),
    )


def make_spots(grid: Grid) -> npt.NDArray[np.bool_]:
    """Where the lesions are on a grid."""
    ijk = np.indices(grid.shape).reshape(3, -1)
    xyz_mm = (grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]).reshape(3, *grid.shape)
    spots = np.zeros(grid.shape, bool)
    for middle, radius in SPOTS_MM:
        spots |= np.linalg.norm(xyz_mm - np.reshape(middle, (3, 1, 1, 1)), axis=0) <= radius
    return spots


def make_sessions(root: Path, scans: dict[str, str], *, shift_mm: float = 0.0) -> Path:
    """A dataset of heads with lesions; scans are names and geometries.

    ``shift_mm`` is by how much the headers of T1w scans put them too far to the right.
    """
    make_dataset(root, ())
    for name, geometry in scans.items():
        grid = make_grid(geometry)
        suffix = name.partition(".")[0].rpartition("_")[2]
        head = make_head(grid, suffix=suffix, seed=len(suffix))
        if suffix == "FLAIR":
            head[make_spots(grid)] = BRIGHT
        affine = grid.affine.copy()
        affine[0, 3] += shift_mm if suffix == "T1w" else 0
        write(root / bids_path(name), np.rint(head).astype(np.int16), affine)
    return root


def make_spot_case(bids_dir: Path, stem: str, *, alone: bool = False) -> Case:
    """The case of a FLAIR and, unless it is alone, the T1w of the same name."""
    suffixes = ("FLAIR",) if alone else ("FLAIR", "T1w")
    entities = tuple((part.partition("-")[0], part.partition("-")[2]) for part in stem.split("_"))
    scans = tuple(bids_dir / bids_path(f"{stem}_{suffix}.nii.gz") for suffix in suffixes)
    return Case(task=make_spot_task(), bids_dir=bids_dir, scans=scans, entities=entities)


def make_spot_models(models_dir: Path) -> Path:
    """Model folders of both tasks, whose networks look at the brightness of one voxel."""
    _make_folder(models_dir, make_hull_task(), BRAIN_FROM, (1.0,))
    _make_folder(models_dir, make_spot_task(), LESION_FROM, (1.0, T1W_WEIGHT))
    return models_dir


def spot_toml(task: Task) -> str:
    """The text of a task file, with what tasks within a brain have besides."""
    lines = ""
    if task.within is not None:
        lines = f'optional = ["T1w"]\nwithin = "{task.within}"\n'
    text = lines + task_toml(task)
    if task.lesions is not None:
        text += f"\n[lesions]\nthreshold = {task.lesions.threshold}\n"
        text += f"smallest_mm3 = {task.lesions.smallest_mm3}\n"
    return text


def _make_folder(
    models_dir: Path, task: Task, bright_from: float, weights_of_channels: tuple[float, ...]
) -> None:
    """A model folder of one network: class 1 where the weighted channels are bright enough."""
    from bids_deepmrseg.network import weights  # noqa: PLC0415 - only such tests wait for torch
    from bids_deepmrseg.network.architecture import Architecture  # noqa: PLC0415 - the same

    folder = models_dir / task.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(spot_toml(task), encoding="utf-8")
    architecture = Architecture(
        family="unet", n_channels=len(task.channels), n_classes=2, features=4, depth=1
    )
    network = _make_network(architecture, bright_from, weights_of_channels)
    member = weights.save_network(folder, network, "axial", architecture)
    record = weights.ModelRecord(
        task=task.name,
        labels=weights.label_lines([(label.index, label.name) for label in task.told_apart]),
        preprocessing=preprocessing_of(task),
        members=(member,),
        training_data="None: the weights are made",
        license="CC0-1.0",
        attribution="Nobody",
        code_version="0.1.0",
    )
    weights.write_record(folder, record)


def _make_network(
    architecture: "Architecture", bright_from: float, weights_of_channels: tuple[float, ...]
) -> "nn.Module":
    """A UNet that looks at one voxel at a time."""
    import torch  # noqa: PLC0415 - only such tests wait for it
    from torch import nn  # noqa: PLC0415 - the same

    from bids_deepmrseg.network.build import build_network  # noqa: PLC0415 - the same

    network = build_network(architecture).eval()
    for name, parameter in network.named_parameters():
        if not name.endswith("1.weight"):  # those of the normalisations stay 1
            nn.init.zeros_(parameter)

    def centre(layer: str) -> "torch.Tensor":
        return network.get_submodule(layer).get_parameter("weight").data[:, :, 1, 1]

    centre("encoders.0.0.0")[0] = torch.tensor(weights_of_channels)
    centre("encoders.0.1.0")[0, 0] = 1
    centre("decoders.0.0.0")[0, 4] = 1  # behind the four that come from below
    centre("decoders.0.1.0")[0, 0] = 1
    head = network.get_submodule("head")
    head.get_parameter("weight").data[1, 0, 0, 0] = 40
    head.get_parameter("bias").data[1] = -40 * bright_from
    return network
