"""Makers of small, real test inputs: heads in NIfTI, BIDS datasets, tasks and model folders."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel import orientations as nbo

from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.tasks import Label, Range, Region, Task

if TYPE_CHECKING:
    from torch import nn

HEAD_SHAPE = (42, 48, 40)
HEAD_SPACING_MM = (4.0, 4.0, 4.0)

# name -> (orientation, spacing in mm along R, A and S, tilt in degrees, voxels along R, A and S)
Geometry = tuple[str, tuple[float, float, float], float, tuple[int, int, int]]
GEOMETRIES: dict[str, Geometry] = {
    "RAS": ("RAS", HEAD_SPACING_MM, 0.0, HEAD_SHAPE),
    "LAS": ("LAS", HEAD_SPACING_MM, 0.0, HEAD_SHAPE),
    "LPS": ("LPS", HEAD_SPACING_MM, 0.0, HEAD_SHAPE),
    "LIA": ("LIA", HEAD_SPACING_MM, 0.0, HEAD_SHAPE),
    "oblique": ("RAS", HEAD_SPACING_MM, 12.0, HEAD_SHAPE),
    "anisotropic": ("LAS", (2.5, 2.5, 8.0), 0.0, (66, 78, 20)),
    "odd": ("PSR", (4.3, 3.9, 4.1), 5.0, (39, 47, 41)),
}


def make_grid(geometry: str = "RAS") -> Grid:
    """A grid of :data:`GEOMETRIES` whose middle voxel lies near the origin of scanner space."""
    orientation, spacing_mm, tilt_deg, shape = GEOMETRIES[geometry]
    affine_ras = np.diag([*spacing_mm, 1.0])
    affine_ras[:3, 3] = -affine_ras[:3, :3] @ ((np.array(shape) - 1) / 2)
    tilt = np.deg2rad(tilt_deg)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    order = nbo.ornt_transform(nbo.axcodes2ornt("RAS"), nbo.axcodes2ornt(orientation))
    native_shape = nbo.apply_orientation(np.empty(shape, np.uint8), order).shape
    affine = rotation @ affine_ras @ nbo.inv_ornt_aff(order, shape)
    i, j, k = native_shape
    return Grid((i, j, k), affine)


def _xyz_mm(grid: Grid) -> npt.NDArray[np.float64]:
    """World coordinates ``(3, I, J, K)`` of every voxel."""
    ijk = np.indices(grid.shape).reshape(3, -1)
    xyz = grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]
    return xyz.reshape(3, *grid.shape)


def _inside(
    xyz_mm: npt.NDArray[np.float64],
    centre_mm: tuple[float, float, float],
    radii_mm: tuple[float, float, float],
) -> npt.NDArray[np.bool_]:
    """Voxels inside an ellipsoid."""
    scaled = (xyz_mm - np.reshape(centre_mm, (3, 1, 1, 1))) / np.reshape(radii_mm, (3, 1, 1, 1))
    return np.asarray((scaled**2).sum(axis=0) <= 1)


def make_head(grid: Grid, *, suffix: str = "T1w", seed: int = 0) -> npt.NDArray[np.float32]:
    """A head of ellipsoids (skin, skull, grey and white matter, ventricles) on any grid.

    The head has its size in millimetres and its place in scanner space, so that two grids show
    the same head; its left ventricle is the larger one, so that sides can be told apart.
    """
    xyz_mm = _xyz_mm(grid)
    dark_fluid = suffix == "FLAIR"
    head = np.zeros(grid.shape, np.float32)
    for centre, radii, intensity in (
        ((0, 0, 0), (76, 90, 74), 180.0),
        ((0, 0, 0), (70, 84, 68), 25.0),
        ((0, 0, 2), (64, 78, 62), 110.0 if dark_fluid else 85.0),
        ((0, 0, 4), (52, 64, 50), 90.0 if dark_fluid else 130.0),
        ((-14, 0, 8), (9, 24, 12), 20.0),
        ((14, 0, 8), (6, 20, 9), 20.0),
        ((-24, -2, -2), (9, 14, 9), 100.0),
        ((24, -2, -2), (9, 14, 9), 100.0),
    ):
        head[_inside(xyz_mm, centre, radii)] = intensity
    noise = np.random.default_rng(seed).normal(0, 2, grid.shape)
    return np.abs(head + noise).astype(np.float32)


def write_nifti(file: Path, data: npt.NDArray[np.generic], affine: npt.NDArray[np.float64]) -> Path:
    """Write any array as NIfTI with both transforms set, making folders as needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units(xyz="mm")
    nib.save(image, file)
    return file


def open_nifti(file: Path) -> nib.Nifti1Image:
    """A NIfTI image, to be looked at without the code under test."""
    image = nib.load(file)
    assert isinstance(image, nib.Nifti1Image)
    return image


def make_scan(file: Path, *, geometry: str = "RAS", seed: int = 0) -> Path:
    """Write a head in the given geometry; the suffix of the name says which contrast."""
    suffix = file.name.removesuffix(".gz").removesuffix(".nii").rpartition("_")[2]
    grid = make_grid(geometry)
    head = make_head(grid, suffix=suffix, seed=seed)
    return write_nifti(file, np.rint(head).astype(np.int16), grid.affine)


def bids_path(name: str) -> Path:
    """Where a scan of that name lies in a BIDS dataset, such as ``sub-1/anat/sub-1_T1w.nii``."""
    folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
    return Path(*folders, "anat", name)


def make_dataset(
    root: Path, scans: Iterable[str] | dict[str, str], *, participants: bool = False
) -> Path:
    """A valid raw BIDS dataset with the named scans.

    Parameters
    ----------
    root
        Folder to make.
    scans
        File names such as ``sub-01_ses-1_run-2_T1w.nii.gz``, or a mapping of such names to
        their geometry of :data:`GEOMETRIES`.
    participants
        Whether to write ``participants.tsv`` with age and sex.
    """
    geometries = scans if isinstance(scans, dict) else dict.fromkeys(scans, "RAS")
    root.mkdir(parents=True, exist_ok=True)
    description = {"Name": "Made heads", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
    (root / "README").write_text("Heads made of ellipsoids, for tests.\n" * 4, encoding="utf-8")
    for seed, (name, geometry) in enumerate(geometries.items()):
        make_scan(root / bids_path(name), geometry=geometry, seed=seed)
    if participants:
        subjects = sorted({name.split("_")[0] for name in geometries})
        rows = "".join(f"{subject}\t{30 + n}\tF\n" for n, subject in enumerate(subjects))
        (root / "participants.tsv").write_text(
            "participant_id\tage\tsex\n" + rows, encoding="utf-8"
        )
    return root


def _label(
    index: int, name: str, color: str, *, mirror: int, adult_range: Range | None = None
) -> Label:
    """A subcortical label that is abbreviated by initial and three letters."""
    side, _, what = name.partition(" ")
    return Label(
        index=index,
        name=name,
        abbreviation=f"{side[0]}-{what[:3]}",
        color=color,
        mapping=9,
        mirror=mirror,
        adult_range=adult_range,
    )


def make_task(
    name: str = "tiny",
    *,
    channels: tuple[str, ...] = ("T1w",),
    indices: tuple[int, int, int] = (1, 2, 7),
    spacing_mm: float = 4.0,
) -> Task:
    """A task with a left, a right and a midline structure; only the left has an adult range."""
    left, right, middle = indices
    return Task(
        name=name,
        description="Three made-up structures, for tests",
        channels=channels,
        spacing_mm=spacing_mm,
        field_of_view_mm=(160.0, 192.0, 160.0),
        labels=(
            _label(left, "Left Blob", "#FF0000", mirror=right, adult_range=Range(1.0, 50.0)),
            _label(right, "Right Blob", "#00FF00", mirror=left),
            _label(middle, "Middle Blob", "#0000FF", mirror=middle),
        ),
        one_cluster=False,
        atlas="Made up",
    )


def task_toml(task: Task) -> str:
    """The text of a task file from which ``read_task`` makes an equal task."""
    lines = [
        f'name = "{task.name}"',
        f'description = "{task.description}"',
        f"channels = {json.dumps(task.channels)}",
        f"spacing_mm = {task.spacing_mm}",
        f"one_cluster = {json.dumps(task.one_cluster)}",
        f'atlas = "{task.atlas}"',
    ]
    if task.field_of_view_mm is not None:
        lines.append(f"field_of_view_mm = {json.dumps(task.field_of_view_mm)}")
    if task.brain is not None:
        lines.append(f"brain = {task.brain}")
    if task.region is not None:
        lines += _region_toml(task.region)
    for label in task.labels:
        lines += ["", "[[labels]]", *_label_toml(label)]
    for landmark in task.landmarks:
        lines += ["", "[[landmarks]]", *_label_toml(landmark), f"part_of = {landmark.part_of}"]
    return "\n".join(lines) + "\n"


def _label_toml(label: Label) -> list[str]:
    """The lines of a label's table."""
    lines = [f"index = {label.index}", f'name = "{label.name}"']
    lines += [f'abbreviation = "{label.abbreviation}"', f'color = "{label.color}"']
    lines += [f"mapping = {label.mapping}", f"mirror = {label.mirror}"]
    if label.adult_range is not None:
        low, high = label.adult_range.low_ml, label.adult_range.high_ml
        lines.append(f"adult_range_ml = [{low}, {high}]")
    return lines


def _region_toml(region: Region) -> list[str]:
    """The lines of a region's tables."""
    lines = ["", "[region]", f'task = "{region.task}"']
    lines.append(f"margin_mm = {json.dumps(region.margin_mm)}")
    lines += [f"largest_mm = {region.largest_mm}", f'trained_on = "{region.trained_on}"']
    if region.parted_along is not None:
        lines.append(f'parted_along = "{region.parted_along}"')
    for place in region.places:
        lines += ["", "[[region.places]]", f"located_by = {place.located_by}"]
        lines += [f"mirrored = {json.dumps(place.mirrored)}", f"labels = {list(place.labels)}"]
    return lines


def _spread_classes(network: "nn.Module", n_channels: int) -> None:
    """Scale a random network's last layer until every class wins somewhere in a made head."""
    import torch  # noqa: PLC0415 - only tests that run a network wait for it

    head = make_head(make_grid()).clip(0, 200) / 85
    slices = torch.from_numpy(head).permute(2, 0, 1)[:, None].repeat(1, n_channels, 1, 1)
    with torch.no_grad():
        logits = network.eval()(slices)
        mean, spread = logits.mean(dim=(0, 2, 3)), logits.std(dim=(0, 2, 3))
        last = network.get_submodule("head")
        last.get_parameter("weight").mul_(5 / spread[:, None, None, None])
        last.get_parameter("bias").sub_(mean).mul_(5 / spread)


def make_model_folder(
    models_dir: Path,
    task: Task | None = None,
    *,
    views: tuple[str, ...] = ("axial",),
    seed: int = 0,
) -> Path:
    """A model folder whose tiny networks have random weights and are sure of what they say.

    Parameters
    ----------
    models_dir
        What ``--models-dir`` names; the folder made in it is named like the task.
    task
        Default: :func:`make_task`.
    views
        One network each.
    seed
        Of the weights.
    """
    import torch  # noqa: PLC0415 - only tests that run a network wait for it

    from bids_deepmrseg.network import weights  # noqa: PLC0415 - the same
    from bids_deepmrseg.network.architecture import Architecture  # noqa: PLC0415 - the same
    from bids_deepmrseg.network.build import build_network  # noqa: PLC0415 - the same

    task = task or make_task()
    folder = models_dir / task.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(task_toml(task), encoding="utf-8")
    architecture = Architecture(
        n_channels=len(task.channels), n_classes=task.n_classes, features=4, depth=1
    )
    members = []
    for number, view in enumerate(v for v in weights.VIEWS if v in views):
        with torch.random.fork_rng():
            torch.manual_seed(seed + number)
            network = build_network(architecture)
        _spread_classes(network, len(task.channels))
        members.append(weights.save_network(folder, network, view, architecture))
    record = weights.ModelRecord(
        task=task.name,
        labels=weights.label_lines([(label.index, label.name) for label in task.labels]),
        preprocessing="brainframe-1",
        members=tuple(members),
        training_data="None: the weights are random",
        license="CC0-1.0",
        attribution="Nobody",
        code_version="0.1.0",
    )
    weights.write_record(folder, record)
    return folder


def make_case(bids_dir: Path, scan: str, *, task: Task | None = None) -> Case:
    """The case of one scan of a dataset, as discovery would find it.

    Parameters
    ----------
    bids_dir
        Root of the dataset.
    scan
        Name of the scan of the task's first channel, such as ``sub-01_T1w.nii.gz``; further
        channels have the same name with their own suffix.
    task
        Default: :func:`make_task`.
    """
    task = task or make_task()
    stem, _, ending = scan.rpartition("_")
    extension = ending.partition(".")[2]
    scans = tuple(
        bids_dir / bids_path(f"{stem}_{channel}.{extension}") for channel in task.channels
    )
    pairs = [part.partition("-") for part in stem.split("_")]
    return Case(
        task=task,
        bids_dir=bids_dir,
        scans=scans,
        entities=tuple((key, value) for key, _, value in pairs),
    )


def make_settings(
    folder: Path, *, n_procs: int = 1, omp_nthreads: int = 1, device: str = "cpu"
) -> RunSettings:
    """A run with its folders side by side in one."""
    return RunSettings(
        bids_dir=folder / "bids",
        output_dir=folder / "out",
        work_dir=folder / "work",
        models_dir=folder / "models",
        analysis_level="participant",
        run_id="20260101-000000_a",
        n_procs=n_procs,
        omp_nthreads=omp_nthreads,
        device=device,
    )


def make_segmented(grid: Grid, task: Task, *, probabilities: bool = False) -> Segmented:
    """An answer with one box per label in the middle of the grid, sure of itself by 0.75."""
    dseg = np.zeros(grid.shape, np.uint16)
    middle = [n // 2 for n in grid.shape]
    for n, label in enumerate(task.labels):
        start = middle[0] - 3 * len(task.labels) // 2 + 3 * n
        dseg[start : start + 2, middle[1] - 2 : middle[1] + 2, middle[2] - 2 : middle[2] + 2] = (
            label.index
        )
    confidence = np.full(grid.shape, 0.75, np.float32)
    maps = None
    if probabilities:
        maps = np.full((task.n_classes, *grid.shape), 0.25 / len(task.labels), np.float16)
        for n, index in enumerate((0, *(label.index for label in task.labels))):
            maps[n][dseg == index] = 0.75
    return Segmented(dseg, confidence, grid, maps)
