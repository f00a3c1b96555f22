"""Makers of tasks that work on two places, and of networks that find them by their brightness."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.records import preprocessing_of
from bids_deepmrseg.tasks import Label, Place, Region, Task
from tests.makers import (
    GEOMETRIES,
    bids_path,
    make_grid,
    make_head,
    make_task,
    task_toml,
    write_nifti,
)
from tests.makers import make_dataset as make_dataset_of_heads

if TYPE_CHECKING:
    from bids_deepmrseg.network.weights import ModelMember

RADII_MM = {"left": 18.0, "right": 14.0}  # so that sides can be told apart
CENTRES_MM = {"left": (-34.0, 2.0, -2.0), "right": (34.0, 2.0, -2.0)}
TISSUE = 130.0
# of the tissue, behind and in front of the middle: a locator tells sides by it, and a network that
# sees one side tells front (the middle two) from back (the outer two)
BRIGHTNESS = {"left": (2.0, 2.4), "right": (3.2, 2.8)}
FRONT_AT, FRONT_HALF_WIDTH = 2.6, 0.4
# networks' borders between what is dark, brain, left and right
BRAIN_FROM, LEFT_FROM = 0.7, 1.6
RIGHT_FROM = (BRIGHTNESS["left"][1] + BRIGHTNESS["right"][1]) / 2
LOCATED = ("RAS", "LAS", "LPS", "LIA", "oblique")  # of 4 mm: no value is mixed of two


def make_locator() -> Task:
    """The made-up task whose left and right blobs are the places."""
    return make_task()


def make_region_task(name: str = "part", *, located_by: str = "tiny") -> Task:
    """Front and back of two blobs; the right one is mirrored."""
    labels = tuple(
        Label(
            index=index,
            name=f"{side} {part} Blob",
            abbreviation=f"{side[0]}-{part}",
            color=color,
            mapping=9,
            mirror=mirror,
        )
        for index, side, part, color, mirror in (
            (11, "Left", "Front", "#E6550D", 13),
            (12, "Left", "Back", "#3182BD", 14),
            (13, "Right", "Front", "#FDAE6B", 11),
            (14, "Right", "Back", "#9ECAE1", 12),
        )
    )
    return Task(
        name=name,
        description="Front and back of two blobs, for tests",
        channels=("T1w",),
        spacing_mm=4.0,
        field_of_view_mm=None,
        labels=labels,
        one_cluster=False,
        atlas="Made up",
        region=Region(
            task=located_by,
            margin_mm=(8.0, 8.0, 8.0),
            places=(
                Place(located_by=1, mirrored=False, labels=(11, 12)),
                Place(located_by=2, mirrored=True, labels=(13, 14)),
            ),
        ),
    )


def make_brain_task() -> Task:
    """The first task of a chain: all that is bright, and two blobs in it as landmarks."""
    task = make_task("whole")
    left, right, middle = task.labels
    return replace(
        task,
        description="What is bright, for tests",
        labels=(replace(middle, index=1, name="Brain", abbreviation="Brain", mirror=1),),
        landmarks=(
            replace(left, index=2, mirror=3, part_of=1, adult_range=None),
            replace(right, index=3, mirror=2, part_of=1),
        ),
        brain=1,
    )


def make_side_task() -> Task:
    """The second task of a chain: the two blobs, each in a place around its landmark."""
    task = make_task("side")
    left, right, _ = task.labels
    places = (
        Place(located_by=2, mirrored=False, labels=(1,)),
        Place(located_by=3, mirrored=True, labels=(2,)),
    )
    return replace(
        task,
        description="Two blobs, for tests",
        field_of_view_mm=None,
        labels=(left, right),
        region=Region(task="whole", margin_mm=(8.0, 8.0, 8.0), places=places),
    )


def make_chain() -> tuple[Task, Task, Task]:
    """Three tasks, each of which shows where the next one is."""
    return make_brain_task(), make_side_task(), make_region_task(located_by="side")


def _blob(grid: Grid, side: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Voxels of the back and of the front half of a blob."""
    ijk = np.indices(grid.shape).reshape(3, -1)
    xyz_mm = (grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]).reshape(3, *grid.shape)
    apart_mm = xyz_mm - np.reshape(CENTRES_MM[side], (3, 1, 1, 1))
    inside = np.linalg.norm(apart_mm, axis=0) <= RADII_MM[side]
    front = apart_mm[1] > 0
    return inside & ~front, inside & front


def make_truth(grid: Grid) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Label maps of the region's task and of its locator."""
    parts, blobs = (np.zeros(grid.shape, np.uint16) for _ in range(2))
    for blob_index, (side, back_index) in enumerate((("left", 12), ("right", 14)), start=1):
        back, front = _blob(grid, side)
        parts[back], parts[front] = back_index, back_index - 1
        blobs[back | front] = blob_index
    return parts, blobs


def make_head_with_blobs(grid: Grid, *, without: str | None = None) -> npt.NDArray[np.float32]:
    """A made head with a bright blob on each side, or on one."""
    head = make_head(grid)
    for side in ("left", "right"):
        if side == without:
            continue
        for mask, brightness in zip(_blob(grid, side), BRIGHTNESS[side], strict=True):
            head[mask] = brightness * TISSUE
    return head


def make_dataset(root: Path, scans: dict[str, str], *, one_sided: tuple[str, ...] = ()) -> Path:
    """As ``makers.make_dataset``, of heads with blobs; ``one_sided`` scans lack the right one."""
    make_dataset_of_heads(root, ())
    for name, geometry in scans.items():
        assert geometry in GEOMETRIES
        grid = make_grid(geometry)
        head = make_head_with_blobs(grid, without="right" if name in one_sided else None)
        write_nifti(root / bids_path(name), np.rint(head).astype(np.int16), grid.affine)
    return root


def make_models(models_dir: Path, *, n_members: int = 1, flips: bool = False) -> Path:
    """Model folders of locator and region task, whose networks know no more than brightness."""
    blobs: list[list[float]] = [
        [0, 0, 0, 0],
        [1, 0, 0, -LEFT_FROM],
        [2, 0, 0, -LEFT_FROM - RIGHT_FROM],
    ]
    _make_folder(models_dir, make_locator(), [*blobs, [0, 0, 0, -20]], n_members=1, flips=False)
    _make_parts(models_dir, make_region_task(), n_members=n_members, flips=flips)
    return models_dir


def make_chain_models(models_dir: Path) -> Path:
    """Model folders of :func:`make_chain`."""
    whole, side, part = make_chain()
    bright: list[list[float]] = [
        [0, 0, 0, 0],
        [1, 0, 0, -BRAIN_FROM],
        [2, 0, 0, -BRAIN_FROM - LEFT_FROM],
        [3, 0, 0, -BRAIN_FROM - LEFT_FROM - RIGHT_FROM],
    ]
    _make_folder(models_dir, whole, bright, n_members=1, flips=False)
    _make_folder(models_dir, side, [[0, 0, 0, 0], [1, 0, 0, -LEFT_FROM]], n_members=1, flips=False)
    _make_parts(models_dir, part, n_members=1, flips=False)
    return models_dir


def _make_parts(models_dir: Path, task: Task, *, n_members: int, flips: bool) -> None:
    """The model folder of a task that tells front from back."""
    back_from = FRONT_AT - FRONT_HALF_WIDTH - LEFT_FROM
    outside = [-3, 0, 0, 3 * LEFT_FROM + back_from]
    back = [0, 1, 1, -FRONT_HALF_WIDTH]
    _make_folder(models_dir, task, [outside, [0, 0, 0, 0], back], n_members=n_members, flips=flips)


def _make_folder(
    models_dir: Path, task: Task, logits: list[list[float]], *, n_members: int, flips: bool
) -> None:
    """A model folder of networks that all say the same.

    Classes are the rows of ``logits``; columns are brightness, how far it is above and below
    FRONT_AT, and one.
    """
    from bids_deepmrseg.network import weights  # noqa: PLC0415 - only such tests wait for torch

    folder = models_dir / task.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(task_toml(task), encoding="utf-8")
    members = tuple(_save_network(folder, view, logits) for view in weights.VIEWS[:n_members])
    record = weights.ModelRecord(
        task=task.name,
        labels=weights.label_lines([(label.index, label.name) for label in task.told_apart]),
        preprocessing=preprocessing_of(task),
        members=members,
        training_data="None: the weights are made",
        license="CC0-1.0",
        attribution="Nobody",
        code_version="0.1.0",
        flips=flips,
    )
    weights.write_record(folder, record)


def _save_network(folder: Path, view: str, logits: list[list[float]]) -> "ModelMember":
    """A UNet that looks at one voxel at a time, and whose logits are the rows given."""
    import torch  # noqa: PLC0415 - only such tests wait for it
    from torch import nn  # noqa: PLC0415 - the same

    from bids_deepmrseg.network import weights  # noqa: PLC0415 - the same
    from bids_deepmrseg.network.architecture import Architecture  # noqa: PLC0415 - the same
    from bids_deepmrseg.network.build import build_network  # noqa: PLC0415 - the same

    architecture = Architecture(
        family="unet", n_channels=1, n_classes=len(logits), features=4, depth=1
    )
    network = build_network(architecture).eval()
    for name, parameter in network.named_parameters():
        if not name.endswith("1.weight"):  # those of the normalisations stay 1
            nn.init.zeros_(parameter)

    def centre(layer: str) -> torch.Tensor:
        return network.get_submodule(layer).get_parameter("weight").data[:, :, 1, 1]

    centre("encoders.0.0.0")[0, 0] = 1
    centre("encoders.0.1.0")[0, 0] = 1
    centre("decoders.0.0.0")[0, 4] = 1  # behind the four that come from below
    centre("decoders.0.1.0")[:3, 0] = torch.tensor([1.0, 1.0, -1.0])
    bias = network.get_submodule("decoders.0.1.1").get_parameter("bias").data
    bias[:] = torch.tensor([0, -FRONT_AT, FRONT_AT, 1.0])
    rows = 40 * torch.tensor(logits, dtype=torch.float32)
    head = network.get_submodule("head")
    head.get_parameter("weight").data[:, :, 0, 0] = rows
    chosen = next(one for one in weights.VIEWS if one == view)
    return weights.save_network(folder, network, chosen, architecture)
