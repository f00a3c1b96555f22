"""What became of every case of a study, as label maps and status tables of all runs tell it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bids_deepmrseg.derivatives import PROVENANCE_KEY
from bids_deepmrseg.errors import InputDataError
from bids_deepmrseg.files import ABSENT, JsonValue, read_json, read_tsv
from bids_deepmrseg.records import UNTOLD, WORKED_ON

URI_PREFIX = "bids:raw:"
NO_NEWS = (WORKED_ON, UNTOLD)  # reasons that say nothing of the case itself
CASE_COLUMNS = ("participant_id", "session_id", "run_id", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One case of the study: where it stands, and its structures where it has any.

    Attributes
    ----------
    participant_id, session_id, run_id, source, task
        As in the status table.
    status, reason
        What is true of the case over all runs.
    structures
        Rows of its ``_dseg.tsv``; empty unless done.
    model_sha256, code_version
        What made the label map; ``n/a`` unless done.
    """

    participant_id: str
    session_id: str
    run_id: str
    source: str
    task: str
    status: str
    reason: str
    structures: tuple[Mapping[str, str], ...] = ()
    model_sha256: str = ABSENT
    code_version: str = ABSENT

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells cases apart: the scan, or without one whose it would have been."""
        if self.source != ABSENT:
            return (self.task, self.source)
        return (self.task, self.participant_id, self.session_id, self.run_id)

    @property
    def brain_mm3(self) -> str:
        """Volume of the brain as its table tells it; ``n/a`` where it does not."""
        return self.structures[0].get("brain_mm3", ABSENT) if self.structures else ABSENT

    @property
    def place(self) -> tuple[str, ...]:
        """Where its row stands in the tables."""
        return (self.task, self.participant_id, self.session_id, self.run_id, self.source)

    @property
    def cells(self) -> dict[str, str]:
        """The columns that every table begins with."""
        return {name: getattr(self, name) for name in (*CASE_COLUMNS, "task", "status", "reason")}


def read_entries(output_dir: Path) -> list[Entry]:
    """Every case of an output folder, once, in the order of the tables.

    Parameters
    ----------
    output_dir
        Output folder of participant level runs.

    Raises
    ------
    InputDataError
        If a result or a status table cannot be read.
    """
    return _with_brain_volumes(sorted(_entries(output_dir), key=lambda entry: entry.place))


def _entries(output_dir: Path) -> Iterator[Entry]:
    """Every case, once: results first, then what has none."""
    latest = _latest_outcomes(output_dir)
    results = {entry.identity: entry for entry in _results(output_dir)}
    for identity, entry in results.items():
        said = latest.get(identity, entry)
        if said.status == "done" or said.reason.startswith(NO_NEWS):
            yield entry
        else:
            reason = f"an earlier result; in the latest run it {said.status}: {said.reason}"
            yield replace(entry, reason=reason)
    with_scan = [entry for entry in (*results.values(), *latest.values()) if entry.source != ABSENT]
    for identity, entry in latest.items():
        if identity not in results and not any(_supersedes(other, entry) for other in with_scan):
            yield entry if entry.status != "done" else _gone(entry)


def _with_brain_volumes(entries: list[Entry]) -> list[Entry]:
    """The same cases, told the volume of the brain that other tasks found in the same scan."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry.brain_mm3 != ABSENT:
            found.setdefault(entry.source, set()).add(entry.brain_mm3)
    agreed = {source: volumes.pop() for source, volumes in found.items() if len(volumes) == 1}
    return [
        replace(entry, structures=_divided(entry.structures, agreed[entry.source]))
        if entry.brain_mm3 == ABSENT and entry.source in agreed
        else entry
        for entry in entries
    ]


def _divided(
    structures: tuple[Mapping[str, str], ...], brain_mm3: str
) -> tuple[Mapping[str, str], ...]:
    """Rows of structures whose volumes are set against that of the brain."""
    whole = float(brain_mm3)
    return tuple(
        {
            **one,
            "brain_mm3": brain_mm3,
            "fraction_of_brain": f"{float(one['volume_mm3']) / whole:.8f}" if whole else ABSENT,
        }
        for one in structures
    )


def _supersedes(other: Entry, entry: Entry) -> bool:
    """Whether a scan was found for what another run had found no scan for."""
    return (
        entry.source == ABSENT
        and (other.task, other.participant_id) == (entry.task, entry.participant_id)
        and entry.session_id in (ABSENT, other.session_id)
    )


def _gone(entry: Entry) -> Entry:
    """A case that was done but whose label map is not there any more."""
    reason = "its label map or the sidecar of it was there after the run, and is not any more"
    return replace(entry, status="failed", reason=reason)


def _latest_outcomes(output_dir: Path) -> dict[tuple[str, ...], Entry]:
    """What the newest run that named a case says of it; run folders sort by their start."""
    latest: dict[tuple[str, ...], Entry] = {}
    for file in sorted(output_dir.glob("logs/*/status.tsv")):
        for row in read_tsv(file)[1]:
            entry = _outcome(row, file)
            if not entry.reason.startswith(NO_NEWS):
                latest[entry.identity] = entry
            else:
                latest.setdefault(entry.identity, entry)
    return latest


def _outcome(row: Mapping[str, str], file: Path) -> Entry:
    """One row of a status table."""
    try:
        return Entry(
            participant_id=row["participant_id"],
            session_id=row["session_id"],
            run_id=row["run_id"],
            source=row["source"],
            task=row["task"],
            status=row["status"],
            reason=row["reason"],
        )
    except KeyError as error:
        raise InputDataError(f"{file} is no status table: it lacks {error}") from error


def _results(output_dir: Path) -> Iterator[Entry]:
    """Every label map of this program that is there with its table and its sidecar.

    Those with a ``desc`` tell a result in another way, such as every lesion by its number.
    """
    for sidecar in sorted(output_dir.glob("sub-*/**/anat/*_dseg.json")):
        if "_desc-" in sidecar.name:
            continue
        table, image = (sidecar.with_suffix(ending) for ending in (".tsv", ".nii.gz"))
        description = read_json(sidecar)
        provenance = description.get(PROVENANCE_KEY)
        if isinstance(provenance, Mapping) and table.is_file() and image.is_file():
            yield _result(sidecar, description, provenance, read_tsv(table)[1])


def _result(
    sidecar: Path,
    description: Mapping[str, JsonValue],
    provenance: Mapping[str, JsonValue],
    structures: tuple[dict[str, str], ...],
) -> Entry:
    """One label map as its sidecar and its table tell it."""
    sources = description.get("Sources")
    if not isinstance(sources, list) or not sources:
        raise InputDataError(f"{sidecar} does not say which scan was segmented; run it again")
    source = str(sources[0]).removeprefix(URI_PREFIX)
    entities = dict(re.findall(r"(sub|ses|run)-([0-9A-Za-z+]+)_", Path(source).name))
    participant, session, run = (
        f"{key}-{entities[key]}" if key in entities else ABSENT for key in ("sub", "ses", "run")
    )
    return Entry(
        participant_id=participant,
        session_id=session,
        run_id=run,
        source=source,
        task=str(provenance.get("Task")),
        status="done",
        reason=ABSENT,
        structures=structures,
        model_sha256=str(provenance.get("ModelSHA256")),
        code_version=str(provenance.get("Version")),
    )
