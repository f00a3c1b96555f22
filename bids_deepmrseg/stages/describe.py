"""Stage 6 of 8, its shared half: the files that make the output folder a BIDS dataset."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import (
    JsonValue,
    delete_partials,
    read_json,
    read_tsv,
    write_json,
    write_once,
    write_text,
    write_tsv,
)
from bids_deepmrseg.locks import Locks
from bids_deepmrseg.settings import APP_NAME

DATA = Path(__file__).parents[1] / "data"
DESCRIPTION_FILE = "dataset_description.json"
BIDS_VERSION = "1.11.1"
PROGRAM_AUTHORS = "The bids_deepmrseg contributors"
PARTICIPANT_COLUMNS = ("age", "sex", "handedness", "species", "strain", "strain_rrid")
PARTICIPANT_FILES = ("participants.tsv", "participants.json")
SHARED_FILES = "shared files"  # the lock under which they are read, changed and written
IGNORED = ("*.html", "figures", "/group_*.tsv", "/group_*.json", "*_xfm.*")


def write_dataset_files(
    bids_dir: Path, output_dir: Path, *, code_version: str, work_dir: Path
) -> None:
    """Describe the output dataset; safe while other runs write to the same folder.

    Parameters
    ----------
    bids_dir
        The input dataset: its name, licence and participants are taken over.
    output_dir
        The derivative dataset.
    code_version
        Version of this package.
    work_dir
        Kept from BIDS readers where it lies in the output folder.

    Raises
    ------
    OutputError
        If the output folder holds another program's dataset, or cannot be written.

    Notes
    -----
    ``README.md`` and ``CHANGES`` are written once and never touched again.
    """
    check_ours(output_dir)
    raw = _description(bids_dir)
    with Locks(output_dir) as locks, locks.held(SHARED_FILES):
        if locks.works:
            delete_partials(output_dir, _is_shared)
        ours = _output_description(raw, bids_dir, output_dir, code_version)
        write_json(output_dir / DESCRIPTION_FILE, {**_description(output_dir), **ours})
        readme = (DATA / "output_readme.md").read_text(encoding="utf-8")
        write_once(output_dir / "README.md", readme)
        today = datetime.now(tz=UTC).date().isoformat()
        write_once(output_dir / "CHANGES", f"{code_version} {today}\n  - First segmentations.\n")
        _write_ignored(output_dir, work_dir)
        write_participants(bids_dir, output_dir)


def _is_shared(name: str) -> bool:
    """Whether a file is one of those that all runs write, each under the same lock."""
    return name in {DESCRIPTION_FILE, "README.md", "CHANGES", ".bidsignore", *PARTICIPANT_FILES}


def write_citations(log_dir: Path, *, code_version: str) -> None:
    """Write the text that methods sections can use, and its references, beside a run's log."""
    text = (DATA / "citation.md").read_text(encoding="utf-8")
    write_text(log_dir / "CITATION.md", text.replace("{version}", code_version))
    write_text(log_dir / "CITATION.bib", (DATA / "citation.bib").read_text(encoding="utf-8"))


def _description(folder: Path) -> dict[str, JsonValue]:
    """A dataset's description; empty where there is none."""
    file = folder / DESCRIPTION_FILE
    return read_json(file) if file.is_file() else {}


def check_ours(output_dir: Path) -> None:
    """Refuse a folder that is another program's dataset.

    Raises
    ------
    OutputError
        If its description names another program, or it has participants and no description.
    """
    file = output_dir / DESCRIPTION_FILE
    if not file.exists():
        if (output_dir / "participants.tsv").exists():
            raise OutputError(
                f"{output_dir} holds a participants.tsv but no {DESCRIPTION_FILE}, so it is no "
                f"folder of {APP_NAME}; choose an empty output folder"
            )
        return
    generators = _description(output_dir).get("GeneratedBy")
    names = [
        generator.get("Name")
        for generator in (generators if isinstance(generators, list) else [])
        if isinstance(generator, Mapping)
    ]
    if APP_NAME not in names:
        raise OutputError(
            f"{file} says that {output_dir} is another dataset, not one of {APP_NAME}; "
            "choose an empty output folder"
        )


def _output_description(
    raw: dict[str, JsonValue], bids_dir: Path, output_dir: Path, code_version: str
) -> dict[str, JsonValue]:
    """What ``dataset_description.json`` of the output says."""
    generator: dict[str, JsonValue] = {
        "Name": APP_NAME,
        "Version": code_version,
        "Description": "Segmentation of brain MRI with the DeepMRSeg network, trained anew",
    }
    if container := _container():
        generator["Container"] = container
    description: dict[str, JsonValue] = {
        "Name": f"DeepMRSeg segmentations of {raw.get('Name') or bids_dir.name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "Authors": _authors(raw),
        "GeneratedBy": [generator],
        "SourceDatasets": [_source(raw)],
        "DatasetLinks": {"raw": Path(os.path.relpath(bids_dir, output_dir)).as_posix()},
        "HowToAcknowledge": "Please cite Doshi et al. (2019), arXiv:1907.02110, and name the "
        "version of bids-deepmrseg; a text is in logs/<run>/CITATION.md",
    }
    if "License" in raw:
        description["License"] = raw["License"]
    return description


def _authors(raw: dict[str, JsonValue]) -> list[JsonValue]:
    """Those of the scans and those of the program; BIDS readers want two or more."""
    authors = raw.get("Authors")
    of_scans = list(authors) if isinstance(authors, list) else []
    return [*(of_scans or [f"The authors of {raw.get('Name')}"]), PROGRAM_AUTHORS]


def _container() -> dict[str, JsonValue]:
    """The container that this runs in, as far as its environment tells."""
    if name := os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME"):
        return {"Type": "apptainer", "Tag": name}
    if tag := os.environ.get("BIDS_DEEPMRSEG_DOCKER_TAG"):
        return {"Type": "docker", "Tag": tag}
    return {}


def _source(raw: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Where the input dataset can be found."""
    doi = raw.get("DatasetDOI")
    if not isinstance(doi, str):
        return {"URL": "bids:raw:"}
    bare = doi.removeprefix("https://doi.org/").removeprefix("doi:")
    return {"DOI": bare, "URL": f"https://doi.org/{bare}"}


def _write_ignored(output_dir: Path, work_dir: Path) -> None:
    """Name in ``.bidsignore`` what BIDS has no place for, and keep the lines that are there."""
    file = output_dir / ".bidsignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    wanted = list(IGNORED)
    work, output = work_dir.resolve(), output_dir.resolve()
    if work.is_relative_to(output):
        wanted.append(f"/{work.relative_to(output).parts[0]}")
    if missing := [line for line in wanted if line not in lines]:
        write_text(file, "\n".join([*lines, *missing]) + "\n")


def _participants(output_dir: Path) -> tuple[str, ...]:
    """Every participant that the output dataset has a folder for."""
    with os.scandir(output_dir) as entries:  # unlike glob, it does not ask for each by itself
        return tuple(sorted(e.name for e in entries if e.name.startswith("sub-") and e.is_dir()))


def write_participants(bids_dir: Path, output_dir: Path) -> None:
    """List every participant processed so far, with what the input dataset tells of each.

    Raises
    ------
    OutputError
        If the table cannot be written.

    Notes
    -----
    What the table holds already stays unless the input says otherwise: participants of another
    input dataset, and columns that a user added. After writing, the folders are looked at again:
    whoever writes last has seen the folders of all who wrote before, so that runs at the same time
    lose no participant even where files cannot be locked.
    """
    table, dictionary = (output_dir / name for name in PARTICIPANT_FILES)
    columns, known = _input_participants(bids_dir)
    definitions = {key: value for key, value in _definitions(bids_dir).items() if key in columns}
    definitions["Description"] = "Participants whose scans were segmented"
    listed: tuple[str, ...] = ()
    while listed != (listed := _participants(output_dir)):
        first, before = read_tsv(table) if table.is_file() else ((), ())
        there = {row.get("participant_id"): row for row in before}
        rows = [
            {**there.get(name, {}), **known.get(name, {}), "participant_id": name}
            for name in listed
        ]
        write_tsv(table, tuple(dict.fromkeys(("participant_id", *columns, *first))), rows)
        write_json(dictionary, {**_definitions(output_dir), **definitions})


def _definitions(folder: Path) -> dict[str, JsonValue]:
    """A dataset's ``participants.json``; empty where there is none."""
    file = folder / "participants.json"
    return read_json(file) if file.is_file() else {}


def _input_participants(bids_dir: Path) -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    """Columns of the input's table that are defined somewhere, and a row per participant."""
    file = bids_dir / "participants.tsv"
    if not file.is_file():
        return (), {}
    columns, rows = read_tsv(file)
    defined = {*PARTICIPANT_COLUMNS, *_definitions(bids_dir)} - {"participant_id"}
    kept = tuple(column for column in columns if column in defined)
    return kept, {row["participant_id"]: row for row in rows if "participant_id" in row}
