"""Makers of a task that finds lesions, and of answers to it, written as the app writes them."""

from pathlib import Path

import numpy as np

from bids_deepmrseg.imaging.grid import Grid
from bids_deepmrseg.imaging.lesions import LesionRule, find_lesions
from bids_deepmrseg.imaging.nifti import read_grid
from bids_deepmrseg.pipeline.outputs import write_outputs
from bids_deepmrseg.records import Alignment, Case, LesionMap, Segmented
from bids_deepmrseg.stages.measure import measure
from bids_deepmrseg.stages.write import Provenance, UsedModel
from bids_deepmrseg.tasks import Label, LesionDefaults, Task
from tests.makers import bids_path

FLAIR = "sub-01_ses-1_run-2_FLAIR.nii.gz"
RULE = LesionRule(threshold=0.5, smallest_mm3=100)
BRAIN_MM3 = 1.1e6
SPOT = Label(index=1, name="Spot", abbreviation="SPT", color="#FF3B30", mapping=7, mirror=1)
ALIGNMENT = Alignment(
    moving="T1w",
    fixed="FLAIR",
    matrix=((1.0, 0.0, 0.0, 2.5), (0.0, 1.0, 0.0, -4.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1)),
    start="header",
    metric_before=0.31,
    metric_after=0.71234567,
    overlap_before=0.8,
    overlap_after=0.95,
    covered=1.0,
    moved_mm=4.7,
    turned_deg=0.0,
    doubt=None,
)


def make_lesion_task() -> Task:
    """A task as ``wml`` is, by another name."""
    return Task(
        name="spots",
        description="Lesions, for tests",
        channels=("FLAIR", "T1w"),
        optional=("T1w",),
        within="brainmask",
        spacing_mm=2.5,
        field_of_view_mm=None,
        labels=(SPOT,),
        one_cluster=False,
        atlas="Made up",
        lesions=LesionDefaults(threshold=RULE.threshold, smallest_mm3=RULE.smallest_mm3),
    )


def make_lesion_case(bids_dir: Path, scan: str = FLAIR, *, with_t1w: bool = True) -> Case:
    """The case of a FLAIR scan, with or without a T1w of the same name."""
    flair = bids_dir / bids_path(scan)
    scans = (flair, flair.with_name(flair.name.replace("_FLAIR", "_T1w")))
    pairs = [part.partition("-") for part in scan.split("_")[:-1]]
    return Case(
        task=make_lesion_task(),
        bids_dir=bids_dir,
        scans=scans if with_t1w else scans[:1],
        entities=tuple((key, value) for key, _, value in pairs),
    )


def make_found(
    grid: Grid, *, n_lesions: int = 2, probabilities: bool = False, rule: LesionRule = RULE
) -> Segmented:
    """A lesion of 18 voxels, one of 4 and one voxel of 50 mm3, on the anisotropic grid; or none."""
    probability = np.full(grid.shape, 0.02, np.float16)
    if n_lesions:
        probability[20:23, 30:33, 8:10] = 0.9
        probability[40:42, 50:52, 12] = 0.6
        probability[5, 5, 5] = 0.7
    lesions = find_lesions(probability, grid, rule)
    likely = probability.astype(np.float32)
    return Segmented(
        dseg=lesions.mask.astype(np.uint16),
        confidence=np.where(lesions.mask, likely, 1 - likely).astype(np.float32),
        grid=grid,
        probabilities=np.stack([1 - probability, probability]) if probabilities else None,
        brain_volume_mm3=BRAIN_MM3,
        lesion_map=LesionMap(probability, rule),
    )


def make_provenance(case: Case) -> Provenance:
    """What made an answer of random weights."""
    brain = UsedModel("brainmask", "cd" * 32)
    aligned = len(case.scans) > 1
    return Provenance(
        code_version="0.1.0",
        torch_version="2.0",
        model_sha256="ab" * 32,
        preprocessing="within-brain-1",
        training_data="None",
        license="CC0-1.0",
        attribution="Nobody",
        device="cpu",
        fast=False,
        n_islands_removed_voxels=0,
        located_by=(brain,),
        brain_measured_by=brain,
        inputs=case.channels,
        registration=ALIGNMENT if aligned else None,
        brain_overlap=0.97 if aligned else None,
    )


def write_found(
    case: Case, out: Path, *, n_lesions: int = 2, probabilities: bool = False
) -> tuple[Segmented, Path]:
    """An answer that was written and drawn into ``out``, and its label map there."""
    grid = read_grid(case.scans[0])
    found = make_found(grid, n_lesions=n_lesions, probabilities=probabilities)
    dseg = write_outputs(case, found, measure(found, case.task), make_provenance(case), out)
    return found, out / dseg
