"""What a run was asked to do: validated once, handed on whole, written beside its results."""

import difflib
import json
import math
import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bids_deepmrseg.errors import UsageError

AnalysisLevel = Literal["participant", "group"]
TomlValue = str | int | float | bool | tuple[str, ...]

APP_NAME = "deepmrseg"
LEVELS = ("participant", "group")
MIN_MEMORY_GB = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """One run of the app.

    Attributes
    ----------
    bids_dir, output_dir
        The raw dataset, and the derivative dataset that is written.
    analysis_level
        ``participant`` (segment scans) or ``group`` (gather tables).
    work_dir
        Where intermediate files go.
    tasks
        Names of the tasks to run; empty for every task whose inputs are there.
    require
        Names of those tasks without whose scans a session counts as failed, not as skipped.
    participant_labels, session_labels, exclude_participant_labels
        Labels without ``sub-`` or ``ses-``; empty for no restriction.
    num_shards, shard_index
        Into how many parts the participants are dealt, and which of them this run takes, counted
        from 0; both ``None`` for a run that takes all.
    bids_filter_file
        JSON with entities that scans must have, per suffix.
    bids_database_dir
        Folder with a saved pybids index.
    models_dir
        Folder of model folders that come before the built-in ones.
    use_plugin
        File that names the nipype plugin and its arguments.
    skip_bids_validation
        Whether to take datasets and file names that are not valid BIDS.
    clean_workdir
        Whether to delete what the run wrote to ``work_dir`` when it ends.
    write_probabilities
        Whether to keep the probability of every label.
    stop_on_first_crash
        Whether the first failed case ends the run.
    dry_run
        Whether to print what would run, and stop there.
    fast
        Whether to trade some accuracy for time.
    registration
        Whether scans of a case are laid upon each other; without it they must be on one grid.
    bias_correction
        Whether slow changes of brightness are taken out of the scans of tasks within a brain.
    lesion_threshold, min_lesion_mm3
        What counts as a lesion: least probability of a voxel, and least volume; ``None`` for what
        the task's model was measured with.
    n_procs, omp_nthreads
        CPUs of the run, and of each case.
    memory_gb
        Memory of the run in gigabytes.
    device
        ``cpu`` or ``cuda:N``, or several with commas between them.
    verbosity
        0 for one line per case and stage, 1 and above for more.
    run_id
        Name of the run's log folder, distinct for every run.
    """

    bids_dir: Path
    output_dir: Path
    analysis_level: AnalysisLevel
    work_dir: Path
    run_id: str
    tasks: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    participant_labels: tuple[str, ...] = ()
    session_labels: tuple[str, ...] = ()
    exclude_participant_labels: tuple[str, ...] = ()
    num_shards: int | None = None
    shard_index: int | None = None
    bids_filter_file: Path | None = None
    bids_database_dir: Path | None = None
    models_dir: Path | None = None
    use_plugin: Path | None = None
    skip_bids_validation: bool = False
    clean_workdir: bool = False
    write_probabilities: bool = False
    stop_on_first_crash: bool = False
    dry_run: bool = False
    fast: bool = False
    registration: bool = True
    bias_correction: bool = False
    lesion_threshold: float | None = None
    min_lesion_mm3: float | None = None
    n_procs: int = 1
    omp_nthreads: int = 1
    memory_gb: float = 8.0
    device: str = "cpu"
    verbosity: int = 0

    def __post_init__(self) -> None:
        if self.analysis_level not in LEVELS:
            raise UsageError(
                f"the analysis level is one of {', '.join(LEVELS)}, not {self.analysis_level!r}"
            )
        self._check_resources()
        self._check_labels()
        self._check_shard()
        self._check_lesions()
        self._check_folders()

    @property
    def log_dir(self) -> Path:
        """Where this run puts its log, its settings and its table of cases."""
        return self.output_dir / "logs" / self.run_id

    @property
    def devices(self) -> tuple[str, ...]:
        """Where networks run; with more than one, every one has a worker of its own."""
        return tuple(self.device.split(","))

    def _check_resources(self) -> None:
        """Refuse counts and sizes that no run could work with."""
        for flag, count in (("n-procs", self.n_procs), ("omp-nthreads", self.omp_nthreads)):
            if count < 1:
                raise UsageError(f"--{flag} must be 1 or more, got {count}")
        if self.omp_nthreads > self.n_procs:
            raise UsageError(
                f"--omp-nthreads {self.omp_nthreads} is more than the {self.n_procs} CPUs of the "
                "whole run; lower it, or raise --n-procs"
            )
        if not MIN_MEMORY_GB <= self.memory_gb < math.inf:
            raise UsageError(
                f"memory must be {MIN_MEMORY_GB} GB or more, got {self.memory_gb:g} GB; --mem-gb "
                "counts in gigabytes, --mem in megabytes unless a unit follows the number"
            )
        check_devices(self.devices)

    def _check_lesions(self) -> None:
        """Refuse thresholds that are no probability and volumes that are none."""
        threshold, smallest = self.lesion_threshold, self.min_lesion_mm3
        if threshold is not None and not 0 < threshold <= 1:
            raise UsageError(
                f"--lesion-threshold is a probability above 0 and at most 1, not {threshold:g}"
            )
        if smallest is not None and not 0 <= smallest < math.inf:
            raise UsageError(f"--min-lesion-mm3 is a volume of 0 mm3 or more, not {smallest:g}")

    def _check_labels(self) -> None:
        """Refuse labels that cannot be BIDS labels."""
        for flag, labels in (
            ("participant-label", self.participant_labels),
            ("session-label", self.session_labels),
            ("exclude-participant-label", self.exclude_participant_labels),
        ):
            for label in labels:
                if not re.fullmatch(r"[0-9A-Za-z+]+", label):
                    raise UsageError(
                        f"--{flag} {label!r} is not a BIDS label: letters and digits only, "
                        "several labels apart by spaces"
                    )

    def _check_shard(self) -> None:
        """Refuse a shard that there is not."""
        n_shards, index = self.num_shards, self.shard_index
        if n_shards is None and index is None:
            return
        if self.analysis_level != "participant":
            raise UsageError(
                "--num-shards and --shard-index go with the participant level only; the group "
                "level gathers the results of all shards, once the last of them has ended"
            )
        if n_shards is None or index is None:
            there, lacking = "num-shards", "shard-index"
            if n_shards is None:
                there, lacking = lacking, there
            raise UsageError(
                f"--{there} is given without --{lacking}: a run must know both the number of "
                "shards and which of them it is; give both, or neither"
            )
        if n_shards < 1:
            raise UsageError(f"--num-shards must be 1 or more, got {n_shards}")
        if not 0 <= index < n_shards:
            raise UsageError(
                f"--shard-index counts from 0: with --num-shards {n_shards} it is one of 0 to "
                f"{n_shards - 1}, not {index}"
            )

    def _check_folders(self) -> None:
        """Refuse to write where the input dataset or the results would be harmed."""
        bids, output = self.bids_dir.resolve(), self.output_dir.resolve()
        work = self.work_dir.resolve()
        suggestion = self.bids_dir / "derivatives" / APP_NAME
        if output == bids:
            raise UsageError(
                f"the output folder is the input dataset itself ({self.bids_dir}); "
                f"write to {suggestion}, for instance"
            )
        if output.is_relative_to(bids) and not (
            output.relative_to(bids).parts[0] == "derivatives" and APP_NAME in output.name
        ):
            raise UsageError(
                f"{self.output_dir} lies inside the input dataset, where only a folder under "
                f"derivatives/ with {APP_NAME} in its name may be written; "
                f"write to {suggestion}, for instance"
            )
        if work == output:
            raise UsageError("the work folder must not be the output folder itself")
        if work.is_relative_to(bids) and not work.is_relative_to(output):
            raise UsageError(
                f"the work folder {self.work_dir} lies inside the input dataset; "
                "give -w a folder outside of it"
            )


def check_devices(devices: tuple[str, ...]) -> None:
    """Refuse names that no device has, and a CPU beside GPUs, of which neither would gain.

    Raises
    ------
    UsageError
        With what may be said instead.
    """
    for name in devices:
        if not re.fullmatch(r"cpu|cuda:\d+", name):
            raise UsageError(
                f"--device is auto, cpu, cuda, cuda:N or several such as cuda:0,cuda:2, "
                f"not {','.join(devices)!r}"
            )
    if len({name.partition(":")[0] for name in devices}) > 1:
        raise UsageError(
            f"--device {','.join(devices)} names GPUs and the CPU; name one kind, for rounding "
            "differs between them and which case goes where is left to chance"
        )


def _accepts(kind: object, value: object) -> bool:
    """Whether a TOML value can stand for a field of that type."""
    if kind is bool:
        return isinstance(value, bool)
    if kind in (int, int | None, float, float | None):
        number = (int,) if kind in (int, int | None) else (int, float)
        return isinstance(value, number) and not isinstance(value, bool)
    if kind == tuple[str, ...]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def read_config(file: Path) -> dict[str, TomlValue]:
    """Read the settings that a TOML file names, which need not be all of them.

    Parameters
    ----------
    file
        ``key = value`` lines; keys are the fields of :class:`RunSettings`.

    Returns
    -------
    dict
        Value of every field named, as text, number, truth value or tuple of texts.

    Raises
    ------
    UsageError
        If the file cannot be read, names a key that no setting has, or gives a value of another
        type than its setting's.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"settings file {file} cannot be read: {error}") from error
    kinds = {field.name: field.type for field in fields(RunSettings)}
    values: dict[str, TomlValue] = {}
    for key, value in table.items():
        if key not in kinds:
            nearest = difflib.get_close_matches(key.replace("-", "_"), kinds, n=1, cutoff=0)
            raise UsageError(
                f"settings file {file} names {key!r}, which is no setting; the nearest is "
                f"{nearest[0]!r}"
            )
        if not _accepts(kinds[key], value):
            raise UsageError(f"settings file {file}: {value!r} cannot be a value of {key!r}")
        values[key] = tuple(value) if isinstance(value, list) else value
    return values


def read_settings(file: Path) -> RunSettings:
    """Read what :func:`write_settings` wrote.

    Raises
    ------
    UsageError
        As :func:`read_config`, or if a setting without a default is absent.
    """
    values: dict[str, Any] = dict(read_config(file))
    for field in fields(RunSettings):
        if field.name in values and field.type in (Path, Path | None):
            values[field.name] = Path(values[field.name])
        if field.name not in values and field.default is MISSING:
            raise UsageError(f"settings file {file} lacks {field.name!r}")
    return RunSettings(**values)


def write_settings(settings: RunSettings, file: Path) -> None:
    """Write every setting that has a value as a flat TOML table."""
    lines = (
        f"{field.name} = {_toml(value)}"
        for field in fields(settings)
        if (value := getattr(settings, field.name)) is not None
    )
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: TomlValue | Path) -> str:
    """One value as TOML; its texts are those of JSON, but for the delete character."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
