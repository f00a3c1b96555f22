"""From files of results to the text and figures of a document, by the names of the files.

``<name>.tsv`` are per-case results, and go with their figures between the markers of ``<name>``;
``<name>_folds.tsv`` says what was trained for them; ``<task>_crossval.tsv`` stands beside the
paper's numbers; ``training_<task>_*.tsv`` are drawn between the markers of ``training_<task>``,
those of folds between the markers of ``training_<name>``; ``robustness_<task>.tsv`` goes between
its own, and so does ``<task>_quality.tsv``. For a task that finds lesions ``<name>_lesions.tsv``
goes with the results, ``<name>_scans.tsv`` says what kind each scan is of, and
``<name>_thresholds.tsv`` goes between the markers of ``<name>_thresholds``.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.errors import InputDataError, UsageError
from bids_deepmrseg.evaluation.changes import read_changes
from bids_deepmrseg.evaluation.lesion_results import (
    LESIONS,
    SCAN_GROUPS,
    LesionResult,
    read_groups,
    read_lesion_results,
)
from bids_deepmrseg.evaluation.lesion_sections import lesion_section
from bids_deepmrseg.evaluation.logs import PREFIX, TrainingLog, is_log, read_log
from bids_deepmrseg.evaluation.paired import compare_networks
from bids_deepmrseg.evaluation.plots import draw_bland_altman, draw_boxes, draw_curves
from bids_deepmrseg.evaluation.published import published_for
from bids_deepmrseg.evaluation.quality_plots import draw_predictions
from bids_deepmrseg.evaluation.quality_tables import QUALITY, quality_text, study
from bids_deepmrseg.evaluation.results import Fold, Result, read_folds, read_results
from bids_deepmrseg.evaluation.robustness_plots import draw_changes
from bids_deepmrseg.evaluation.robustness_tables import robustness_text
from bids_deepmrseg.evaluation.standing import standing
from bids_deepmrseg.evaluation.summary import NETWORKS, headline, in_order
from bids_deepmrseg.evaluation.tables import (
    accuracy_table,
    ensemble_table,
    paired_table,
    rho_c_of_structures,
    subject_table,
)
from bids_deepmrseg.evaluation.threshold_tables import threshold_text
from bids_deepmrseg.evaluation.thresholds import AT_RULES, read_at_rules

FOLDS = "_folds"
BESIDE = (FOLDS, LESIONS, SCAN_GROUPS)  # end the names of files that go with results
CROSSVAL = "_crossval"
ROBUSTNESS = "robustness_"
FIGURES = "figures"  # beside the results
FEWEST_SCANS_DRAWN = 5  # fewer have neither quartiles nor limits worth a picture
N_LOWEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture of a section: what it shows, and where it lies."""

    title: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What goes between one pair of markers."""

    name: str
    text: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class OfLesions:
    """What goes with results of a task that finds lesions."""

    lesions: tuple[LesionResult, ...]
    groups: Mapping[str, str]


def render(files: Iterable[Path], *, draw: bool) -> tuple[Section, ...]:
    """Make every section that the files hold.

    Parameters
    ----------
    files
        Results, folds and training logs in any order; which is which is told by their names.
    draw
        Whether to draw the figures, into ``figures`` beside the results.

    Raises
    ------
    InputDataError
        If a file does not hold what its name says.
    UsageError
        If folds or lesions come without their results, or a cross-validation without its folds.
    """
    ordered = sorted(files)
    logs = {file: read_log(file) for file in ordered if is_log(file)}
    folds = {f.stem.removesuffix(FOLDS): read_folds(f) for f in ordered if f.stem.endswith(FOLDS)}
    changes = [file for file in ordered if file.name.startswith(ROBUSTNESS)]
    judged = [file for file in ordered if file.stem.endswith(QUALITY)]
    at_rules = [file for file in ordered if file.stem.endswith(AT_RULES)]
    others = {*logs, *changes, *judged, *at_rules}
    results = [f for f in ordered if f not in others and not f.stem.endswith(BESIDE)]
    _check_company(ordered, results)
    of_lesions = _read_lesions(ordered)
    sections = [
        _lesion_section(file, of_lesions[file.stem], folds, draw=draw)
        if file.stem in of_lesions
        else _results_section(file, folds, logs.values(), draw=draw)
        for file in results
    ]
    sections += [
        Section(name=file.stem, text=threshold_text(read_at_rules(file)), figures=())
        for file in at_rules
    ]
    sections += [_changes_section(file, draw=draw) for file in changes]
    sections += [_quality_section(file, draw=draw) for file in judged]
    return (*sections, *_log_sections(logs, draw=draw))


def _check_company(files: list[Path], results: list[Path]) -> None:
    """Refuse what was measured together with results that are not there."""
    names = {file.stem for file in results}
    for ending in (FOLDS, LESIONS):
        for file in (file for file in files if file.stem.endswith(ending)):
            if file.stem.removesuffix(ending) not in names:
                raise UsageError(f"{file.name} came without its results")


def _read_lesions(files: list[Path]) -> dict[str, OfLesions]:
    """Lesions, and the groups of their scans, by the name of the results they go with."""
    groups = {
        f.stem.removesuffix(SCAN_GROUPS): read_groups(f)
        for f in files
        if f.stem.endswith(SCAN_GROUPS)
    }
    return {
        name: OfLesions(read_lesion_results(file), groups.get(name, {}))
        for file in files
        if file.stem.endswith(LESIONS) and (name := file.stem.removesuffix(LESIONS))
    }


def put_into(document: Path, sections: Iterable[Section]) -> None:
    """Replace what stands between the markers of each section; nothing where markers lack.

    Raises
    ------
    UsageError
        If the document lacks the markers of a section.
    """
    text = document.read_text(encoding="utf-8")
    for section in sections:
        begin, end = f"<!-- begin {section.name} -->", f"<!-- end {section.name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise UsageError(
                f"{document} has no place for {section.name}: add '{begin}' and '{end}'"
            )
        text = f"{before}{begin}\n{_with_pictures(section, document)}\n{end}{after}"
    document.write_text(text, encoding="utf-8")


def _with_pictures(section: Section, document: Path) -> str:
    """A section's text and its pictures, linked as the document sees them."""
    links = [
        f"![{figure.title}]({Path(os.path.relpath(figure.file, document.parent)).as_posix()})"
        for figure in section.figures
    ]
    return "\n\n".join([section.text, *links] if section.text else links)


def _results_section(
    file: Path,
    folds: dict[str, tuple[Fold, ...]],
    logs: Iterable[TrainingLog],
    *,
    draw: bool,
) -> Section:
    """Tables and figures of one file of results."""
    results = read_results(file)
    if not results:
        raise InputDataError(f"{file} holds no result")
    is_crossval = file.stem.endswith(CROSSVAL)
    if is_crossval and file.stem not in folds:
        raise UsageError(f"{file} needs {file.stem}{FOLDS}.tsv: name both files")
    task = file.stem.partition("_")[0]
    behind = [log for log in logs if log.task == task and log.is_of_fold is is_crossval]
    above = standing(results, folds.get(file.stem, ()), behind)
    text = "\n\n".join([above, *_tables(results, task, is_crossval=is_crossval)])
    figures = tuple(_figures(file, results, draw=draw))
    return Section(name=file.stem, text=text, figures=figures)


def _lesion_section(
    file: Path, of_lesions: OfLesions, folds: dict[str, tuple[Fold, ...]], *, draw: bool
) -> Section:
    """Tables and figures of one file of results of a task that finds lesions."""
    results = read_results(file)
    if not results:
        raise InputDataError(f"{file} holds no result")
    is_crossval = file.stem.endswith(CROSSVAL)
    if is_crossval and file.stem not in folds:
        raise UsageError(f"{file} needs {file.stem}{FOLDS}.tsv: name both files")
    published = published_for(file.stem.partition("_")[0]) if is_crossval else ()
    tables = lesion_section(results, of_lesions.lesions, of_lesions.groups, published)
    parts = [standing(results, folds.get(file.stem, ())), tables]
    if set(NETWORKS) <= {r.network for r in results}:
        parts.append(_tests(results))
    figures = tuple(_figures(file, results, draw=draw))
    return Section(name=file.stem, text="\n\n".join(parts), figures=figures)


def _quality_section(file: Path, *, draw: bool) -> Section:
    """Tables and the figure of how well quality is told without a reference."""
    studied = study(file)
    picture = Figure(
        title=f"{file.stem}: predicted and true Dice",
        file=file.parent / FIGURES / f"{file.stem}.svg",
    )
    if draw:
        draw_predictions(studied.structures, studied.cases, picture.file)
    return Section(name=file.stem, text=quality_text(studied), figures=(picture,) if draw else ())


def _changes_section(file: Path, *, draw: bool) -> Section:
    """Tables and the figure of what damages to scans change."""
    changes = read_changes(file)
    if not changes:
        raise InputDataError(f"{file} holds no change")
    picture = Figure(
        title=f"{file.stem}: change of volume by damage",
        file=file.parent / FIGURES / f"{file.stem}.svg",
    )
    if draw:
        draw_changes(changes, picture.file)
    return Section(
        name=file.stem, text=robustness_text(changes), figures=(picture,) if draw else ()
    )


def _tables(results: tuple[Result, ...], task: str, *, is_crossval: bool) -> Iterator[str]:
    """Every table of a file of results, each with its sentence."""
    published = published_for(task) if is_crossval else ()
    yield accuracy_table(results, published)
    if len({r.structure for r in results}) > 1:
        yield rho_c_of_structures(results, published)
    networks = in_order(r.network for r in results)
    if set(NETWORKS) <= set(networks):
        yield _tests(results)
    if len({r.ensemble for r in results}) > 1:
        yield "Views and ensembles, averages over structures:"
        yield ensemble_table(results)
    if is_crossval:
        yield f"The {N_LOWEST} scans of lowest mean F1 of each network:"
        yield subject_table(results, n_lowest=N_LOWEST)
    else:
        yield subject_table(results)


def _tests(results: tuple[Result, ...]) -> str:
    """The paired test, and how to read it."""
    table = paired_table(compare_networks(headline(results), "deepmrseg", "unet"))
    return (
        "DeepMRSeg less UNet on the same scans: median over people, and p of Wilcoxon's "
        "signed-rank test, a person's scans and repeats averaged first, Holm-corrected over the "
        f"whole table; bold below 0.05.\n\n{table}"
    )


def _figures(file: Path, results: tuple[Result, ...], *, draw: bool) -> Iterator[Figure]:
    """Box plots and Bland-Altman plots, where there are scans enough."""
    if not draw or len({r.scan for r in results}) < FEWEST_SCANS_DRAWN:
        return
    folder = file.parent / FIGURES
    boxes = Figure(
        title=f"{file.stem}: F1 and HD95 by structure", file=folder / f"{file.stem}_boxes.svg"
    )
    draw_boxes(results, boxes.file)
    yield boxes
    volumes = Figure(
        title=f"{file.stem}: Bland-Altman plots of volumes",
        file=folder / f"{file.stem}_volumes.svg",
    )
    draw_bland_altman(results, volumes.file)
    yield volumes


def _log_sections(logs: dict[Path, TrainingLog], *, draw: bool) -> Iterator[Section]:
    """A figure of training curves for each task, and one for its cross-validation."""
    names = {file: _log_section_name(log) for file, log in logs.items()}
    for name in sorted(set(names.values())):
        files = [file for file in logs if names[file] == name]
        picture = Figure(
            title=f"Training curves of {len(files)} trainings",
            file=files[0].parent / FIGURES / f"{name}.svg",
        )
        if draw:
            draw_curves([logs[file] for file in files], picture.file)
        yield Section(name=name, text="", figures=(picture,) if draw else ())


def _log_section_name(log: TrainingLog) -> str:
    """Name of the section that shows a log: of its task, or of the cross-validation it is of."""
    return f"{PREFIX}{log.dataset if log.is_of_fold else log.task}"
