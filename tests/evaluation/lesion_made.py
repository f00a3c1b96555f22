"""Makers of a task that finds lesions, of networks that do, and of scans that show some."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.records import preprocessing_of
from bids_deepmrseg.tasks import LesionDefaults, Task
from tests.makers import bids_path, make_grid, make_head, make_task, task_toml, write_nifti
from tests.regions import make_chain_models

if TYPE_CHECKING:
    from bids_deepmrseg.network.weights import ModelMember

BRAIN_TASK = "whole"
FLAIR_GRID, T1W_GRID = "anisotropic", "RAS"
LESION_INTENSITY = 300.0  # in a FLAIR whose white matter has 90 and whose skin has 180
LESIONS_MM = (((-30.0, 20.0, 8.0), 9.0), ((30.0, -20.0, 24.0), 7.0), ((34.0, 24.0, -4.0), 5.0))
LESION_FROM = 2.6  # times the tissue; a T1w lowers the brightness that the network sees
T1W_WEIGHT = -0.1


def make_lesion_task(name: str = "spots") -> Task:
    """Bright spots in a FLAIR, with or without a T1w."""
    task = make_task(name)
    return replace(
        task,
        description="Bright spots, for tests",
        channels=("FLAIR", "T1w"),
        optional=("T1w",),
        spacing_mm=2.5,
        field_of_view_mm=None,
        within=BRAIN_TASK,
        labels=(replace(task.labels[2], index=1, mirror=1, name="Spot"),),
        lesions=LesionDefaults(threshold=0.5, smallest_mm3=40.0),
    )


def lesion_task_toml(task: Task) -> str:
    """As ``makers.task_toml``, with the fields of a task that finds lesions."""
    assert task.lesions is not None
    above = f'optional = ["{task.optional[0]}"]\nwithin = "{task.within}"\n'
    below = f"\n[lesions]\nthreshold = {task.lesions.threshold}\n"
    return f"{above}{task_toml(task)}{below}smallest_mm3 = {task.lesions.smallest_mm3}\n"


def make_lesion_models(models_dir: Path, task: Task | None = None) -> Path:
    """Model folders of the task and of what finds the brain; returns that of the task."""
    from bids_deepmrseg.network import weights  # noqa: PLC0415 - only such tests wait for torch

    task = task or make_lesion_task()
    make_chain_models(models_dir)
    folder = models_dir / task.name
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text(lesion_task_toml(task), encoding="utf-8")
    record = weights.ModelRecord(
        task=task.name,
        labels=weights.label_lines([(label.index, label.name) for label in task.labels]),
        preprocessing=preprocessing_of(task),
        members=(_save_network(folder),),
        training_data="None: the weights are made",
        license="CC0-1.0",
        attribution="Nobody",
        code_version="0.1.0",
        flips=True,
    )
    weights.write_record(folder, record)
    return folder


def _save_network(folder: Path) -> "ModelMember":
    """An axial UNet that looks at one voxel at a time: lesion is what is bright."""
    import torch  # noqa: PLC0415 - only such tests wait for it
    from torch import nn  # noqa: PLC0415 - the same

    from bids_deepmrseg.network import weights  # noqa: PLC0415 - the same
    from bids_deepmrseg.network.architecture import Architecture  # noqa: PLC0415 - the same
    from bids_deepmrseg.network.build import build_network  # noqa: PLC0415 - the same

    architecture = Architecture(family="unet", n_channels=2, n_classes=2, features=4, depth=1)
    network = build_network(architecture).eval()
    for name, parameter in network.named_parameters():
        if not name.endswith("1.weight"):  # those of the normalisations stay 1
            nn.init.zeros_(parameter)

    def centre(layer: str) -> torch.Tensor:
        return network.get_submodule(layer).get_parameter("weight").data[:, :, 1, 1]

    centre("encoders.0.0.0")[0] = torch.tensor([1.0, T1W_WEIGHT])
    centre("encoders.0.1.0")[0, 0] = 1
    centre("decoders.0.0.0")[0, 4] = 1  # behind the four that come from below
    centre("decoders.0.1.0")[0, 0] = 1
    head = network.get_submodule("head")
    head.get_parameter("weight").data[1, 0, 0, 0] = 4
    head.get_parameter("bias").data[1] = -4 * LESION_FROM
    return weights.save_network(folder, network, "axial", architecture)


def lesion_mask(grid: Grid) -> npt.NDArray[np.bool_]:
    """Where the spots are."""
    ijk = np.indices(grid.shape).reshape(3, -1)
    xyz_mm = (grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]).reshape(3, *grid.shape)
    mask = np.zeros(grid.shape, bool)
    for centre, radius in LESIONS_MM:
        mask |= np.linalg.norm(xyz_mm - np.reshape(centre, (3, 1, 1, 1)), axis=0) <= radius
    return mask


def make_lesion_dataset(
    root: Path, subjects: tuple[str, ...], *, without_t1w: tuple[str, ...] = ()
) -> Path:
    """Heads with spots: a FLAIR of thick slices, its mask, and a T1w on another grid."""
    grid, t1w_grid = make_grid(FLAIR_GRID), make_grid(T1W_GRID)
    mask = lesion_mask(grid)
    for seed, subject in enumerate(subjects):
        flair = make_head(grid, suffix="FLAIR", seed=seed)
        flair[mask] = LESION_INTENSITY
        write_nifti(root / bids_path(f"{subject}_FLAIR.nii.gz"), flair, grid.affine)
        reference = root / bids_path(f"{subject}_label-lesion_mask.nii.gz")
        write_nifti(reference, mask.astype(np.uint8), grid.affine)
        if subject not in without_t1w:
            t1w = make_head(t1w_grid, seed=seed + 100)
            write_nifti(root / bids_path(f"{subject}_T1w.nii.gz"), t1w, t1w_grid.affine)
    return root
