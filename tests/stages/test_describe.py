"""The output folder is a dataset of its own, shared by runs that may write at the same time."""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import partial_name, read_json, read_tsv
from bids_deepmrseg.stages.describe import (
    write_citations,
    write_dataset_files,
    write_participants,
)
from tests.makers import make_dataset

SCANS = ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "bids", SCANS, participants=True)


def describe(raw: Path, out: Path, work: Path | None = None) -> None:
    write_dataset_files(raw, out, code_version="0.1.0", work_dir=work or raw.parent / "work")


def test_the_description_names_program_source_and_link(raw: Path, tmp_path: Path) -> None:
    describe(raw, tmp_path / "out")
    description = read_json(tmp_path / "out" / "dataset_description.json")
    assert description["DatasetType"] == "derivative"
    assert description["DatasetLinks"] == {"raw": "../bids"}
    assert isinstance(description["GeneratedBy"], list)
    (generator,) = description["GeneratedBy"]
    assert isinstance(generator, dict)
    assert (generator["Name"], generator["Version"]) == ("deepmrseg", "0.1.0")


def test_no_absolute_path_is_written(raw: Path, tmp_path: Path) -> None:
    describe(raw, tmp_path / "out")
    for file in (tmp_path / "out").iterdir():
        assert str(tmp_path) not in file.read_text(encoding="utf-8")


def test_licence_authors_and_doi_of_the_scans_are_taken_over(raw: Path, tmp_path: Path) -> None:
    description = {
        "Name": "Study",
        "BIDSVersion": "1.10.0",
        "License": "CC0",
        "Authors": ["A. One", "B. Two"],
        "DatasetDOI": "doi:10.1000/1",
    }
    (raw / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
    describe(raw, tmp_path / "out")
    ours = read_json(tmp_path / "out" / "dataset_description.json")
    assert ours["License"] == "CC0"
    assert ours["Authors"] == ["A. One", "B. Two", "The bids_deepmrseg contributors"]
    assert ours["SourceDatasets"] == [{"DOI": "10.1000/1", "URL": "https://doi.org/10.1000/1"}]


def test_only_participants_with_a_folder_are_listed(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "sub-02").mkdir(parents=True)
    describe(raw, tmp_path / "out")
    columns, rows = read_tsv(tmp_path / "out" / "participants.tsv")
    assert columns == ("participant_id", "age", "sex")
    assert rows == ({"participant_id": "sub-02", "age": "31", "sex": "F"},)


def test_columns_that_nobody_defined_are_left_out(raw: Path, tmp_path: Path) -> None:
    table = "participant_id\tage\tscore\tsite\nsub-01\t30\t7\tA\n"
    (raw / "participants.tsv").write_text(table, encoding="utf-8")
    site = {"site": {"Description": "where"}, "other": {"Description": "not in the table"}}
    (raw / "participants.json").write_text(json.dumps(site), encoding="utf-8")
    (tmp_path / "out" / "sub-01").mkdir(parents=True)
    describe(raw, tmp_path / "out")
    assert read_tsv(tmp_path / "out" / "participants.tsv")[0] == ("participant_id", "age", "site")
    assert read_json(tmp_path / "out" / "participants.json").keys() == {"site", "Description"}


def test_a_participant_that_the_input_does_not_list_has_a_row(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "sub-99").mkdir(parents=True)
    describe(raw, tmp_path / "out")
    (row,) = read_tsv(tmp_path / "out" / "participants.tsv")[1]
    assert row == {"participant_id": "sub-99", "age": "n/a", "sex": "n/a"}


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that take turns so often that they disturb each other where they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_runs_at_the_same_time_lose_no_participant(raw: Path, tmp_path: Path) -> None:
    names = [f"sub-{number:02}" for number in range(8)]
    for attempt in range(40):  # one attempt in eight went wrong when writers did not look again
        out = tmp_path / f"out{attempt}"
        out.mkdir()
        together = threading.Barrier(len(names))

        def work(name: str, out: Path = out, together: threading.Barrier = together) -> None:
            together.wait()
            (out / name).mkdir()
            write_participants(raw, out)

        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = read_tsv(out / "participants.tsv")[1]
        assert [row["participant_id"] for row in rows] == names


def test_what_the_user_wrote_into_our_dataset_stays(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    describe(raw, out)
    (out / "README.md").write_text("my notes", encoding="utf-8")
    (out / "CHANGES").write_text("my changes", encoding="utf-8")
    (out / ".bidsignore").write_text("mine\n", encoding="utf-8")
    description = read_json(out / "dataset_description.json")
    edited = json.dumps({**description, "Funding": ["a grant"]})
    (out / "dataset_description.json").write_text(edited, encoding="utf-8")
    describe(raw, out)
    assert (out / "README.md").read_text(encoding="utf-8") == "my notes"
    assert (out / "CHANGES").read_text(encoding="utf-8") == "my changes"
    assert (out / ".bidsignore").read_text(encoding="utf-8").startswith("mine\n*.html\nfigures\n")
    assert read_json(out / "dataset_description.json")["Funding"] == ["a grant"]


def test_nothing_is_written_again_while_nothing_changes(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub-01").mkdir(parents=True)
    describe(raw, out, out / "work")
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert len(before) == 7
    describe(raw, out, out / "work")
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == before


def test_participants_of_another_dataset_and_columns_of_the_user_stay(
    raw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    other = make_dataset(tmp_path / "other", ("sub-77_T1w.nii.gz",))
    table = "participant_id\thandedness\nsub-77\tleft\n"
    (other / "participants.tsv").write_text(table, encoding="utf-8")
    for name in ("sub-01", "sub-77"):
        (out / name).mkdir(parents=True)
    describe(other, out)
    columns, rows = read_tsv(out / "participants.tsv")
    lines = [[*row.values(), "A" if row["participant_id"] == "sub-01" else "B"] for row in rows]
    text = "\n".join("\t".join(line) for line in [[*columns, "arm"], *lines]) + "\n"
    (out / "participants.tsv").write_text(text, encoding="utf-8")
    describe(raw, out)
    columns, rows = read_tsv(out / "participants.tsv")
    assert columns == ("participant_id", "age", "sex", "handedness", "arm")
    assert [tuple(row.values()) for row in rows] == [
        ("sub-01", "30", "F", "n/a", "A"),
        ("sub-77", "n/a", "n/a", "left", "B"),
    ]


def test_unfinished_files_of_killed_runs_are_deleted(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ours, others = (partial_name(out / name) for name in ("participants.tsv", "notes.txt"))
    out.mkdir()
    for file in (ours, others):
        file.write_text("{", encoding="utf-8")
    describe(raw, out)
    assert not ours.exists()
    assert others.exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset_description.json", '{"Name": "raw", "BIDSVersion": "1.10.0"}'),
        ("dataset_description.json", '{"Name": "x", "GeneratedBy": [{"Name": "fMRIPrep"}]}'),
        ("participants.tsv", "participant_id\nsub-01\n"),
    ],
)
def test_a_dataset_of_somebody_else_is_left_alone(
    raw: Path, tmp_path: Path, name: str, text: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(text, encoding="utf-8")
    with pytest.raises(OutputError, match="choose an empty output folder"):
        describe(raw, out)
    assert [file.name for file in out.iterdir()] == [name]
    assert (out / name).read_text(encoding="utf-8") == text


def test_a_work_folder_in_the_output_is_kept_from_bids_readers(raw: Path, tmp_path: Path) -> None:
    describe(raw, tmp_path / "out", tmp_path / "out" / "work" / "deep")
    assert "/work" in (tmp_path / "out" / ".bidsignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("variable", "container"),
    [
        ("APPTAINER_NAME", {"Type": "apptainer", "Tag": "app-0.1.0"}),
        ("BIDS_DEEPMRSEG_DOCKER_TAG", {"Type": "docker", "Tag": "app-0.1.0"}),
    ],
)
def test_a_container_is_named(
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    container: dict[str, str],
) -> None:
    monkeypatch.setenv(variable, "app-0.1.0")
    describe(raw, tmp_path / "out")
    description = read_json(tmp_path / "out" / "dataset_description.json")
    assert isinstance(description["GeneratedBy"], list)
    assert isinstance(description["GeneratedBy"][0], dict)
    assert description["GeneratedBy"][0]["Container"] == container


def test_the_citation_names_the_version(tmp_path: Path) -> None:
    write_citations(tmp_path, code_version="9.8.7")
    assert "bids-deepmrseg 9.8.7" in (tmp_path / "CITATION.md").read_text(encoding="utf-8")
    assert "doshi2019deepmrseg" in (tmp_path / "CITATION.bib").read_text(encoding="utf-8")
