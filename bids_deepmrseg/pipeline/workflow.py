"""The nipype graph of a run: three nodes per case, which knows of the tasks that locate it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nipype import Node, Workflow
from nipype.interfaces.base import BaseInterface
from nipype.pipeline import plugins
from nipype.pipeline.plugins.base import PluginBase

from bids_deepmrseg.errors import UsageError
from bids_deepmrseg.imaging.lesions import LesionRule
from bids_deepmrseg.pipeline.ending import RunEndedError, end_children
from bids_deepmrseg.pipeline.environment import WORKFLOW_NAME
from bids_deepmrseg.pipeline.handoff import locating_case, locating_chain, node_name
from bids_deepmrseg.pipeline.jobs import SlurmJobs
from bids_deepmrseg.pipeline.needs import estimate_memory_gb
from bids_deepmrseg.pipeline.nodes import MeasureCase, SegmentCase, WriteCase
from bids_deepmrseg.pipeline.plugin import PluginChoice
from bids_deepmrseg.pipeline.pool import LastingPool
from bids_deepmrseg.records import Case
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.stages.quality import QUALITY_FILE
from bids_deepmrseg.taskfiles import (
    TASK_FILE,
    WEIGHTS_RECORD_FILE,
    find_locator,
    find_model_folder,
)
from bids_deepmrseg.tasks import Task

HANDED_OVER = ("segmented", "provenance")  # what segmenting leaves for the nodes after it
QUALITY_FILES = (WEIGHTS_RECORD_FILE, QUALITY_FILE)  # new ones, new judgement
POLL_S = 0.1  # nipype's default of 2 s would hand out n_procs nodes every 2 s, however short
START_METHOD = "spawn"  # forkserver's socket would need a short path, which only /tmp has
MENDED = {"MultiProc": LastingPool, "SLURM": SlurmJobs}  # instead of nipype's own
NIPYPE_QUIET, NIPYPE_LOUD = "CRITICAL", "INFO"


def batches(cases: tuple[Case, ...], settings: RunSettings) -> tuple[tuple[Case, ...], ...]:
    """Cases that share a graph: all of them, but one by one where nodes run one by one.

    Nipype's Linear plugin would segment every case before it wrote the first. A case goes with the
    others that the same scan is looked through for, so that what fails there is not tried again.
    """
    if settings.n_procs != 1 or settings.use_plugin is not None:
        return (cases,)
    together: dict[str, list[Case]] = {}
    for case in cases:
        *_, first = (case, *locating_chain(case, settings.models_dir))
        together.setdefault(node_name(first, "segment"), []).append(case)
    return tuple(tuple(batch) for batch in together.values())


def build_workflow(
    cases: tuple[Case, ...], settings: RunSettings, notes_dir: Path, workers: str | None = None
) -> Workflow:
    """Wire segment, measure and write for every case, and to segment what locates it.

    Parameters
    ----------
    cases
        With absolute paths, for nodes work in folders of their own.
    settings
        Give folders, resources and device.
    notes_dir
        Where nodes leave durations and errors.
    workers
        Address of the run's workers, which then run the networks of all cases.
    """
    workflow = Workflow(name=WORKFLOW_NAME, base_dir=str(settings.work_dir.absolute()))
    workflow.config["execution"] = {
        "check_version": "false",
        "crashdump_dir": str(settings.log_dir.absolute()),
        "crashfile_format": "txt",
        "create_report": "false",
        "hash_method": "timestamp",
        "poll_sleep_duration": str(POLL_S),
        "remove_unnecessary_outputs": "false",
        "stop_on_first_crash": str(settings.stop_on_first_crash).lower(),
    }
    probabilities = settings.write_probabilities
    segments = {
        node_name(case, "segment"): _segment_node(
            case, settings, notes_dir, workers, keep_probabilities=probabilities
        )
        for case in cases
    }
    needed = locating_cases(cases, settings)
    for case in needed:
        segments[node_name(case, "segment")] = _segment_node(
            case, settings, notes_dir, workers, keep_probabilities=False
        )
    for case in cases:
        _add_case(workflow, case, segments[node_name(case, "segment")], settings, notes_dir)
    for case in (*cases, *needed):
        segment = segments[node_name(case, "segment")]
        locator = locating_case(case, settings.models_dir)
        if locator is not None:
            results = [(f"{one}_file", f"locator_{one}_file") for one in HANDED_OVER]
            workflow.connect([(segments[node_name(locator, "segment")], segment, results)])
    return workflow


def kind_of(settings: RunSettings) -> str:
    """``cpu`` or ``cuda``: what may change the last digits of a result, unlike which of them."""
    return settings.devices[0].partition(":")[0]


def locating_cases(cases: tuple[Case, ...], settings: RunSettings) -> tuple[Case, ...]:
    """What has to be segmented for the sake of ``cases`` only, each once."""
    asked_for = {node_name(case, "segment") for case in cases}
    needed: dict[str, Case] = {}
    for case in cases:
        for locator in locating_chain(case, settings.models_dir):
            needed[node_name(locator, "segment")] = locator
    return tuple(case for name, case in needed.items() if name not in asked_for)


def _segment_node(
    case: Case,
    settings: RunSettings,
    notes_dir: Path,
    workers: str | None,
    *,
    keep_probabilities: bool,
) -> Node:
    """The node that runs the networks, or that waits for a worker to do so."""
    folder = find_model_folder(case.task, settings.models_dir).absolute()
    memory_gb = estimate_memory_gb(case, keep_probabilities=keep_probabilities)
    segment = SegmentCase(
        model_files=sorted(str(file) for file in folder.iterdir() if file.is_file()),
        device=kind_of(settings),
        torch_device=settings.devices[0],
        fast=settings.fast,
        keep_probabilities=keep_probabilities,
        use_gpu=workers is None and kind_of(settings) != "cpu",
        n_threads=settings.omp_nthreads if workers is None else 1,
        memory_gb=memory_gb,
    )
    if workers is not None:
        segment.inputs.workers = workers
    locator = find_locator(case.task, settings.models_dir)
    if locator is not None:
        locator_folder = find_model_folder(locator, settings.models_dir)
        segment.inputs.locator_task_file = str(locator_folder.absolute() / TASK_FILE)
    if case.task.within is not None:
        segment.inputs.trait_set(
            registration=settings.registration, bias_correction=settings.bias_correction
        )
    rule = lesion_rule(case.task, settings)
    if rule is not None:
        segment.inputs.trait_set(lesion_threshold=rule.threshold, min_lesion_mm3=rule.smallest_mm3)
    return _node(segment, case, "segment", settings, notes_dir, memory_gb=memory_gb)


def lesion_rule(task: Task, settings: RunSettings) -> LesionRule | None:
    """What counts as a lesion: what the user says, or else what the model was measured with."""
    if task.lesions is None:
        return None
    asked, smallest = settings.lesion_threshold, settings.min_lesion_mm3
    return LesionRule(
        threshold=task.lesions.threshold if asked is None else asked,
        smallest_mm3=task.lesions.smallest_mm3 if smallest is None else smallest,
    )


def _node(
    interface: BaseInterface,
    case: Case,
    stage: str,
    settings: RunSettings,
    notes_dir: Path,
    *,
    memory_gb: float,
) -> Node:
    """A stage of a case, told what every stage is told."""
    folder = find_model_folder(case.task, settings.models_dir).absolute()
    interface.inputs.trait_set(
        bids_dir=str(case.bids_dir),
        scans=[str(scan) for scan in case.scans],
        entities=list(case.entities),
        task_file=str(folder / TASK_FILE),
        notes_dir=str(notes_dir),
        note_name=node_name(case, stage),
    )
    n_procs = interface.inputs.n_threads if stage == "segment" else 1
    return Node(interface, name=node_name(case, stage), n_procs=n_procs, mem_gb=memory_gb)


def _add_case(
    workflow: Workflow, case: Case, segment: Node, settings: RunSettings, notes_dir: Path
) -> None:
    """Segmented files and provenance go on to measure and write."""
    memory_gb = segment.mem_gb / 2
    write_case = WriteCase(output_dir=str(settings.output_dir.absolute()))
    folder = find_model_folder(case.task, settings.models_dir).absolute()
    quality = [str(folder / name) for name in QUALITY_FILES if (folder / name).is_file()]
    measure_case = MeasureCase(quality_files=quality)
    measure = _node(measure_case, case, "measure", settings, notes_dir, memory_gb=memory_gb)
    write = _node(write_case, case, "write", settings, notes_dir, memory_gb=memory_gb)
    results = [(f"{one}_file", f"{one}_file") for one in HANDED_OVER]
    workflow.connect(
        [
            (segment, measure, results[:1]),
            (segment, write, results),
            (measure, write, [("measures_file", "measures_file")]),
        ]
    )


def largest_gb(workflow: Workflow) -> float:
    """Memory of the node that is expected to need most."""
    return max(float(workflow.get_node(name).mem_gb) for name in workflow.list_node_names())


def make_plugin(
    settings: RunSettings, choice: PluginChoice | None, callback: Callable[[Any, str], None]
) -> PluginBase:
    """The nipype plugin that will run the nodes.

    Parameters
    ----------
    settings
        Give processes and memory.
    choice
        The user's; ``None`` for one that suits ``settings.n_procs``.
    callback
        Told, in this process, of every node that starts, ends or fails.

    Raises
    ------
    UsageError
        If nipype has no plugin of the chosen name.
    """
    if choice is None:
        choice = PluginChoice("Linear" if settings.n_procs == 1 else "MultiProc", {})
    kind = MENDED.get(choice.name) or getattr(plugins, f"{choice.name}Plugin", None)
    if kind is None:
        raise UsageError(f"nipype has no plugin {choice.name!r}; see --use-plugin in the docs")
    arguments = _pool_arguments(settings) if choice.name == "MultiProc" else {}
    arguments |= choice.arguments
    if arguments.get("mp_context") == "forkserver":
        arguments["mp_context"] = START_METHOD
    return kind(plugin_args={**arguments, "status_callback": callback})


def _pool_arguments(settings: RunSettings) -> dict[str, Any]:
    """What MultiProc is told unless the user tells it otherwise."""
    return {
        "n_procs": settings.n_procs,
        "memory_gb": settings.memory_gb,
        "n_gpu_procs": settings.omp_nthreads,
        "raise_insufficient": False,
        "scheduler": "mem_thread",  # small nodes first: a case is finished before the next
        "mp_context": START_METHOD,
    }


def execute(workflow: Workflow, plugin: PluginBase, *, verbosity: int) -> None:
    """Run the graph to its end; nipype's first error is raised when all is done that can be."""
    _set_loudness(NIPYPE_LOUD if verbosity > 1 else NIPYPE_QUIET)
    try:
        workflow.run(plugin=plugin)
    except RunEndedError:
        end_children()  # else they would be waited for, longer than the run may still last
        raise
    finally:
        if isinstance(plugin, LastingPool | SlurmJobs):
            plugin.close()


def _set_loudness(level: str) -> None:
    """Nipype's own messages; ours say what users need."""
    for name in ("nipype", "nipype.workflow", "nipype.utils", "nipype.interface"):
        logging.getLogger(name).setLevel(level)
