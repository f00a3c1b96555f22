"""Lesions measured on folds: with all scans, without optional ones, and bias-corrected."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.evaluation.compare import compare_scan, compare_scan_lesions, read_lesions
from bids_deepmrseg.evaluation.ensembles import Network, load_networks, predict_ensembles
from bids_deepmrseg.evaluation.lesion_results import LesionResult
from bids_deepmrseg.evaluation.results import FLIPPED, Identity, Result
from bids_deepmrseg.evaluation.thresholds import AtRule, compare_rules
from bids_deepmrseg.evaluation.whole import Models, Shown, restore_shown, show
from bids_deepmrseg.records import Case, Segmented
from bids_deepmrseg.selection.labelled import LabelledScan
from bids_deepmrseg.stages.align import align
from bids_deepmrseg.stages.within import prepare_within

CORRECTED = ", N4"  # behind the name of an ensemble that sees scans without their bias field


@dataclass(frozen=True, slots=True)
class MeasuredLesions:
    """What the networks of a fold found: rows of overlap, of lesions, and of other rules."""

    results: tuple[Result, ...]
    lesions: tuple[LesionResult, ...]
    at_rules: tuple[AtRule, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to look at a scan.

    Attributes
    ----------
    suffix
        Stands behind the names of its ensembles.
    case
        The scan, with the channels that are looked at.
    bias_correction
        As for :func:`bids_deepmrseg.stages.align.align`.
    """

    suffix: str
    case: Case
    bias_correction: bool


def measure_lesions(
    scans: Sequence[LabelledScan],
    folder: Path,
    identity: Identity,
    models: Models,
    *,
    variants: bool = True,
) -> MeasuredLesions:
    """Segment scans by every ensemble and in every variant, and compare each.

    Parameters
    ----------
    scans
        Labelled scans that no network of ``folder`` learned from, of a task that finds lesions
        within a brain.
    folder
        Model folder.
    identity
        Leading columns; ensemble, subject and scan are filled in here.
    models
        The device, and where the model is that finds the brain.
    variants
        Whether to look at scans without their optional channels, and bias-corrected, as well.

    Returns
    -------
    MeasuredLesions
        Overlap and lesions by the task's own rule for every ensemble and variant; other rules for
        the ensembles that see mirror images, all channels and the scans as they are.

    Raises
    ------
    UsageError
        If the task finds no lesions within a brain.
    InputDataError
        If a reference is not on the grid of its scan.
    """
    networks = load_networks(folder, models.device)
    found = [_measure_scan(scan, networks, identity, models, variants=variants) for scan in scans]
    return MeasuredLesions(
        results=tuple(row for one in found for row in one.results),
        lesions=tuple(row for one in found for row in one.lesions),
        at_rules=tuple(row for one in found for row in one.at_rules),
    )


def alone(case: Case) -> str:
    """What ends the name of an ensemble that sees only the channels that a task needs."""
    return f", {' and '.join(case.task.needed)} alone"


def variants_of(case: Case) -> Iterator[Variant]:
    """A scan as it is, without its optional channels if it has any, and bias-corrected."""
    yield Variant("", case, bias_correction=False)
    needed = replace(case, scans=case.scans[: len(case.task.needed)])
    if needed != case:
        yield Variant(alone(case), needed, bias_correction=False)
    yield Variant(CORRECTED, case, bias_correction=True)


def _measure_scan(
    scan: LabelledScan,
    networks: Sequence[Network],
    identity: Identity,
    models: Models,
    *,
    variants: bool,
) -> MeasuredLesions:
    """One scan: its brain is found once, and every variant is prepared once."""
    shown = show(scan.case, models)
    if shown is None or scan.case.task.lesions is None:
        raise UsageError(f"task {scan.case.task.name} finds no lesions within a brain")
    results: list[Result] = []
    lesions: list[LesionResult] = []
    at_rules: list[AtRule] = []
    for variant in variants_of(scan.case) if variants else [*variants_of(scan.case)][:1]:
        for name, segmented in _segmented(variant, networks, shown):
            named = replace(
                identity,
                ensemble=f"{name}{variant.suffix}",
                subject=scan.subject,
                scan=scan.stem,
            )
            results += compare_scan(scan, segmented, named)
            lesions += compare_scan_lesions(scan, segmented, named)
            if named.ensemble.endswith(FLIPPED) and segmented.lesion_map is not None:
                wanted, grid = read_lesions(scan, segmented)
                at_rules += compare_rules(segmented.lesion_map.probability, wanted, grid, named)
    return MeasuredLesions(tuple(results), tuple(lesions), tuple(at_rules))


def _segmented(
    variant: Variant, networks: Sequence[Network], shown: Shown
) -> Iterator[tuple[str, Segmented]]:
    """The answer of every ensemble, by its name."""
    task = variant.case.task
    aligned = align(variant.case, shown.brain, bias_correction=variant.bias_correction)
    prepared = prepare_within(aligned.volumes, aligned.grid, shown.brain, task)
    for name, predicted in predict_ensembles(networks, prepared, task):
        yield name, restore_shown((predicted,), task, shown)
