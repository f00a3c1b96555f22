"""The plan of a run: which scans of a participant make a case, and why others do not."""

from dataclasses import dataclass
from pathlib import Path

from bids_deepmrseg.errors import NothingToDoError
from bids_deepmrseg.files import ABSENT
from bids_deepmrseg.records import Case, Outcome, Status
from bids_deepmrseg.selection.filters import nearest
from bids_deepmrseg.selection.folders import AnatFolder, describe_subject, find_subjects
from bids_deepmrseg.selection.names import listed, looks_like, why_unusable
from bids_deepmrseg.selection.pairs import (
    Group,
    Subject,
    describe_group,
    explain_first,
    explain_partner,
    find_partners,
)
from bids_deepmrseg.selection.scans import Scan, is_session_wanted
from bids_deepmrseg.settings import RunSettings
from bids_deepmrseg.tasks import Task

PLAN_COLUMNS = ("participant", "session", "run", "task", "scans", "decision", "reason")


@dataclass(frozen=True, slots=True)
class Remark:
    """What users should know of the scans of a case that runs nevertheless."""

    case: Case
    sentence: str


@dataclass(frozen=True, slots=True)
class Plan:
    """discover -> run: what will be segmented, and what will not.

    Attributes
    ----------
    cases
        One per scan and task.
    left_out
        What was meant to be run and cannot be, as ``skipped`` or ``failed`` rows.
    filtered
        Scans that labels and filters leave out on purpose; they get no row in the status table.
    remarks
        How scans of a case were chosen, and which it does without.
    """

    cases: tuple[Case, ...]
    left_out: tuple[Outcome, ...]
    filtered: tuple[Outcome, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def is_of_use(self) -> bool:
        """Whether something is run, or failed already."""
        return bool(self.cases) or any(one.status == "failed" for one in self.left_out)

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The plan as a table with the columns :data:`PLAN_COLUMNS`, sorted."""
        said = {one.case: one.sentence for one in self.remarks}
        rows = [
            (*_place(case), case.task.name, _names(case), "run", _remark(case, said.get(case)))
            for case in self.cases
        ]
        for one in (*self.left_out, *self.filtered):
            place = (one.participant_id, one.session_id, one.run_id)
            rows.append((*place, one.task, one.source, one.status, one.reason))
        return tuple(sorted(rows))


def plan_subject(settings: RunSettings, task: Task, subject: Subject) -> Plan:
    """What is to be done with one participant for one task."""
    firsts = subject.of_suffix(task.space)
    groups = [find_partners(one, subject, task) for one in firsts if one.removed_by is None]
    made = [(_case(settings, task, subject, group), group) for group in groups]
    cases = [(one, group) for one, group in made if isinstance(one, Case)]
    rows = [one for one, _ in made if isinstance(one, Outcome)]
    for folder in subject.folders:
        if is_session_wanted(folder.session, settings.session_labels):
            rows += _rows_of_folder(settings, task, subject, folder)
    if not cases and not rows:
        reason = _why_none(settings, subject, task.space)
        status = _status_of_lack(settings, task)
        return Plan((), (_left_out(task, subject.label, reason=reason, status=status),))
    filtered = tuple(
        _left_out(task, subject.label, scan=scan, reason=f"left out by {scan.removed_by}")
        for scan in firsts
        if scan.removed_by is not None
    )
    said = ((one, describe_group(group, subject, task, settings.bids_dir)) for one, group in cases)
    remarks = tuple(Remark(case, sentence) for case, sentence in said if sentence)
    return Plan(tuple(case for case, _ in cases), tuple(rows), filtered, remarks)


def _case(settings: RunSettings, task: Task, subject: Subject, group: Group) -> Case | Outcome:
    """The case of scans that go together, or why there can be none."""
    first = group.scans[0]
    if len(group.scans) < len(task.needed):
        lacking = task.channels[len(group.scans)]
        why = explain_partner(subject, lacking, first.session, settings.bids_dir)
        reason = f"no {lacking} scan in the session{why}"
        status = _status_of_lack(settings, task)
        return _left_out(task, subject.label, scan=first, reason=reason, status=status)
    for scan in group.scans:
        if problem := _why_unreadable(settings.bids_dir, scan.path):
            return _left_out(task, subject.label, scan=first, status="failed", reason=problem)
    return Case(
        task=task,
        bids_dir=settings.bids_dir,
        scans=tuple(settings.bids_dir / scan.path for scan in group.scans),
        entities=first.name.entities,
    )


def _status_of_lack(settings: RunSettings, task: Task) -> Status:
    """What becomes of a session that lacks a scan which the task cannot do without."""
    return "failed" if task.name in settings.require else "skipped"


def _why_unreadable(root: Path, path: Path) -> str | None:
    """Why nobody can open a file, or ``None``."""
    file = root / path
    try:
        file.stat()
    except FileNotFoundError:
        return (
            f"{path.as_posix()} is a dangling symbolic link to {file.readlink()}; fetch its "
            f"content (datalad get {path.as_posix()}), or mount the folder that it points to"
        )
    except OSError as error:
        return f"{path.as_posix()} cannot be opened: {error.strerror}"
    return None


def _rows_of_folder(
    settings: RunSettings, task: Task, subject: Subject, folder: AnatFolder
) -> list[Outcome]:
    """Files of a folder that look like scans and cannot be used, or that there is none."""
    lookalikes = [folder.path / name for name in folder.names if looks_like(name, task.space)]
    there = any(scan.name.suffix == task.space for scan in subject.in_folder(folder))
    status: Status = "skipped" if there else _status_of_lack(settings, task)
    session = folder.session
    if lookalikes:
        skip = settings.skip_bids_validation
        return [
            _left_out(task, subject.label, reason=why, status=status, session=session, source=path)
            for path in lookalikes
            if (why := why_unusable(path, task.space, skip_validation=skip)) is not None
        ]
    reason = explain_first(subject, folder, task)
    return [_left_out(task, subject.label, reason=reason, status=status, session=session)]


def _why_none(settings: RunSettings, subject: Subject, suffix: str) -> str:
    """Why a participant has no scan of a suffix: filters first, then what lies in its folders."""
    removed = [
        f"{scan.removed_by} leaves out {scan.path.name}" for scan in subject.of_suffix(suffix)
    ]
    there = describe_subject(settings.bids_dir, subject.label, suffix)
    return f"no {suffix} scan: {'; '.join(removed) if removed else there}"


def _left_out(
    task: Task,
    label: str,
    *,
    reason: str,
    status: Status = "skipped",
    session: str | None = None,
    scan: Scan | None = None,
    source: Path | None = None,
) -> Outcome:
    """A row of what is not run."""
    run = None
    if scan is not None:
        session, run, source = scan.session, scan.name.entity("run"), scan.path
    return Outcome(
        participant_id=f"sub-{label}",
        session_id=ABSENT if session is None else f"ses-{session}",
        run_id=ABSENT if run is None else f"run-{run}",
        source=ABSENT if source is None else source.as_posix(),
        task=task.name,
        status=status,
        reason=reason,
        dseg=ABSENT,
        duration_s=0.0,
    )


def _place(case: Case) -> tuple[str, str, str]:
    """Participant, session and run of a case, with prefixes."""
    subject, session, run = (
        f"{key}-{value}" if (value := case.entity(key)) else ABSENT for key in ("sub", "ses", "run")
    )
    return subject, session, run


def row_of_unknown(task: Task, label: str, root: Path) -> Outcome:
    """The row of a participant that was asked for and is not there."""
    near = [f"sub-{one}" for one in nearest(label, find_subjects(root), n=3)]
    hint = f"there is a folder {label} without the prefix sub-; " if (root / label).is_dir() else ""
    reason = f"sub-{label} is not in the dataset; {hint}nearest: {listed(near)}"
    return _left_out(task, label, status="failed", reason=reason)


def require_cases(plan: Plan, settings: RunSettings) -> None:
    """Refuse a plan that neither runs anything nor failed at anything.

    Raises
    ------
    NothingToDoError
        Naming the subjects and files seen, the filters, and the nearest misses.
    """
    if plan.is_of_use:
        return
    seen = sorted({one.participant_id for one in plan.left_out})
    said = (f"{one.participant_id}: {one.reason}" for one in plan.left_out)
    reasons = list(dict.fromkeys(said))  # several tasks lack the same scan for the same reason
    raise NothingToDoError(
        f"no scan in {settings.bids_dir} can be segmented; looked at {len(seen)} participants "
        f"({listed(seen)}). " + " | ".join(reasons[:5]) + (" | ..." if len(reasons) > 5 else "")
    )


def _remark(case: Case, sentence: str | None) -> str:
    """What is to be known of a case, and what else is to be run for it."""
    said = [] if sentence is None else [sentence]
    if case.task.region is not None:
        said.append(f"located by {case.task.region.task}, which runs first")
    if case.task.within is not None:
        said.append(f"{case.task.within} on the {case.task.space} runs first")
    return "; ".join(said) or ABSENT


def _names(case: Case) -> str:
    """Names of the scans of a case."""
    return " ".join(scan.name for scan in case.scans)
