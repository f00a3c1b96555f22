"""The nipype faces of the stages: paths in, one call, paths out."""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_deepmrseg.imaging.lesions import LesionRule
from bids_deepmrseg.pipeline.child import end_with_parent, run_in_child
from bids_deepmrseg.pipeline.environment import lead_libraries_to
from bids_deepmrseg.pipeline.handoff import (
    Noted,
    load_measures,
    load_provenance,
    load_segmented,
    save_measures,
    save_provenance,
)
from bids_deepmrseg.pipeline.outputs import write_outputs
from bids_deepmrseg.pipeline.segmenting import LocatorFiles, SegmentRequest, segment_case
from bids_deepmrseg.records import Case
from bids_deepmrseg.stages.measure import measure
from bids_deepmrseg.stages.quality import doubts_of_quality, judge, read_calibration
from bids_deepmrseg.taskfiles import read_task


class _CaseInputSpec(BaseInterfaceInputSpec):
    """What every node is told of its case."""

    bids_dir = traits.Str(mandatory=True, desc="root of the input dataset")
    scans = traits.List(File(), mandatory=True, desc="one scan per channel; may turn out absent")
    entities = traits.List(traits.Tuple(traits.Str, traits.Str), desc="of the first scan")
    task_file = File(exists=True, mandatory=True, desc="task.toml of the model folder")
    notes_dir = traits.Str(mandatory=True, nohash=True, desc="where the node leaves its note")
    note_name = traits.Str(mandatory=True, nohash=True, desc="name of that note")


class _CaseInterface(SimpleInterface, ABC):
    """One stage of one case; its duration and its error are noted, whatever happens."""

    def _run_interface(self, runtime: Any) -> Any:  # noqa: ANN401 - nipype's Bunch is untyped
        end_with_parent()
        lead_libraries_to(Path(self.inputs.notes_dir).parent)  # this may be another machine
        with Noted(Path(self.inputs.notes_dir), self.inputs.note_name) as note:
            self._results = self._run_case(self._case(), Path(runtime.cwd), note)
        return runtime

    def _case(self) -> Case:
        """The case, as discovery found it."""
        return Case(
            task=read_task(Path(self.inputs.task_file)),
            bids_dir=Path(self.inputs.bids_dir),
            scans=tuple(Path(scan) for scan in self.inputs.scans),
            entities=tuple((key, value) for key, value in self.inputs.entities),
        )

    @abstractmethod
    def _run_case(self, case: Case, cwd: Path, note: Noted) -> dict[str, str]:
        """Do the stage's work and return the node's outputs."""


class _SegmentInputSpec(_CaseInputSpec):
    model_files = traits.List(File(exists=True), desc="weights and record: new ones, new answer")
    device = traits.Str("cpu", usedefault=True, desc="torch device")
    fast = traits.Bool(
        default_value=False, usedefault=True, desc="only the ensemble's first network"
    )
    keep_probabilities = traits.Bool(default_value=False, usedefault=True, desc="of every label")
    use_gpu = traits.Bool(
        default_value=False, usedefault=True, nohash=True, desc="takes nipype's GPU slots"
    )
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="CPU threads")
    memory_gb = traits.Float(1.0, usedefault=True, nohash=True, desc="expected need")

    locator_task_file = File(exists=True, desc="task.toml of the task that shows where to look")
    locator_segmented_file = File(exists=True, desc="its labels on the native grid")
    locator_provenance_file = File(exists=True, desc="what made them")

    # set for tasks within a brain only, so that what others left in work folders stays good
    registration = traits.Bool(desc="lay further scans upon the first")
    bias_correction = traits.Bool(desc="even the brightness of scans")
    lesion_threshold = traits.Float(desc="least probability of a lesion's voxel")
    min_lesion_mm3 = traits.Float(desc="least volume of a lesion")


class _SegmentOutputSpec(TraitedSpec):
    segmented_file = File(exists=True, desc="labels on the native grid")
    provenance_file = File(exists=True, desc="what made them")


class SegmentCase(_CaseInterface):
    """Stages 2 to 4, in a process of its own: :mod:`bids_deepmrseg.pipeline.segmenting`.

    Float probabilities never touch the disk unless they are asked for.
    """

    input_spec = _SegmentInputSpec
    output_spec = _SegmentOutputSpec

    def _run_case(self, case: Case, cwd: Path, note: Noted) -> dict[str, str]:  # noqa: ARG002 - no doubts here
        segmented_file, provenance_file = cwd / "segmented.npz", cwd / "provenance.json"
        request = SegmentRequest(
            case=case,
            model_folder=Path(self.inputs.task_file).parent,
            device=self.inputs.device,
            fast=self.inputs.fast,
            keep_probabilities=self.inputs.keep_probabilities,
            file=segmented_file,
            locator=self._locator(),
            rule=self._rule(),
        )
        if isdefined(self.inputs.registration):
            request = replace(
                request,
                registration=self.inputs.registration,
                bias_correction=self.inputs.bias_correction,
            )
        provenance = run_in_child(
            segment_case,
            request,
            name=case.name,
            n_threads=self.inputs.n_threads,
            memory_gb=self.inputs.memory_gb,
        )
        save_provenance(provenance, provenance_file)
        return {"segmented_file": str(segmented_file), "provenance_file": str(provenance_file)}

    def _locator(self) -> LocatorFiles | None:
        """What another node found for this one, where the task has a region, or is in a brain."""
        if not isdefined(self.inputs.locator_segmented_file):
            return None
        task_file = Path(self.inputs.locator_task_file)
        return LocatorFiles(
            read_task(task_file),
            task_file.parent,
            Path(self.inputs.locator_segmented_file),
            Path(self.inputs.locator_provenance_file),
        )

    def _rule(self) -> LesionRule | None:
        """What counts as a lesion, where the task finds any."""
        if not isdefined(self.inputs.lesion_threshold):
            return None
        return LesionRule(
            threshold=self.inputs.lesion_threshold, smallest_mm3=self.inputs.min_lesion_mm3
        )


class _MeasureInputSpec(_CaseInputSpec):
    segmented_file = File(exists=True, mandatory=True, desc="labels on the native grid")
    quality_files = traits.List(File(exists=True), desc="record and calibration of the model")


class _MeasureOutputSpec(TraitedSpec):
    measures_file = File(exists=True, desc="one entry per structure")


class MeasureCase(_CaseInterface):
    """Stage 5, and what is likely of its quality: ``measure`` and ``judge``."""

    input_spec = _MeasureInputSpec
    output_spec = _MeasureOutputSpec

    def _run_case(self, case: Case, cwd: Path, note: Noted) -> dict[str, str]:  # noqa: ARG002 - told when written
        measures_file = cwd / "measures.json"
        segmented = load_segmented(Path(self.inputs.segmented_file))
        measures = measure(segmented, case.task)
        calibration = read_calibration(Path(self.inputs.task_file).parent)
        may_be_none = case.task.lesions is not None
        judged = judge(measures, segmented.certainties, calibration, may_be_none=may_be_none)
        save_measures(judged, measures_file)
        return {"measures_file": str(measures_file)}


class _WriteInputSpec(_CaseInputSpec):
    segmented_file = File(exists=True, mandatory=True, desc="labels on the native grid")
    measures_file = File(exists=True, mandatory=True, desc="one entry per structure")
    provenance_file = File(exists=True, mandatory=True, desc="what made the labels")
    output_dir = traits.Str(mandatory=True, desc="the derivative dataset")


class _WriteOutputSpec(TraitedSpec):
    dseg = traits.Str(desc="label map, relative to the output folder")


class WriteCase(_CaseInterface):
    """Stages 6 and 7: :func:`bids_deepmrseg.pipeline.outputs.write_outputs`.

    It runs each time, for nobody but the output folder itself knows whether what was written to
    it is still there.
    """

    input_spec = _WriteInputSpec
    output_spec = _WriteOutputSpec
    _always_run: ClassVar[bool] = True

    def _run_case(self, case: Case, cwd: Path, note: Noted) -> dict[str, str]:  # noqa: ARG002 - writes elsewhere
        output_dir = Path(self.inputs.output_dir)
        segmented = load_segmented(Path(self.inputs.segmented_file))
        measures = load_measures(Path(self.inputs.measures_file), case.task)
        provenance = load_provenance(Path(self.inputs.provenance_file))
        calibration = read_calibration(Path(self.inputs.task_file).parent)
        quality = doubts_of_quality(measures, case.task, calibration, provenance.model_sha256)
        for doubt in (*provenance.doubts, *quality):
            note.doubt(doubt)
        dseg = write_outputs(case, segmented, measures, provenance, output_dir, warnings=quality)
        return {"dseg": dseg.as_posix()}
