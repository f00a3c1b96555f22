"""What a fresh clone must hold, and must not."""

import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TOP_LEVEL = (
    "bids_deepmrseg",
    "CHANGES.md",
    ".ci/run",
    "constraints.txt",
    "Dockerfile",
    "docs",
    "LICENSE",
    "Makefile",
    "NOTICE",
    "pyproject.toml",
    "README.md",
    "run.py",
    "Singularity",
    "tests",
    "version",
)
IMAGES = (".nii", ".nii.gz", ".mgz", ".mgh", ".img", ".hdr", ".dcm", ".npy", ".npz")
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5")
OWN_FOLDER = re.compile(r"(?<![\w.)}/])/(work|root|Users|home/\w+|mnt|tmp/[a-z])/")


def tracked_files() -> list[Path]:
    """Every file under version control, or in a copy without history every file of the tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this copy has no git history that could tell which files belong to it")
    return [REPOSITORY / name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_the_top_level_is_complete(name: str) -> None:
    assert (REPOSITORY / name).exists()


def test_the_version_is_written_once_and_installed() -> None:
    assert (REPOSITORY / "version").read_text("utf-8").strip() == version("bids-deepmrseg")


def test_changes_tell_of_this_version() -> None:
    headings = re.findall(
        r"^## (\S+)", (REPOSITORY / "CHANGES.md").read_text("utf-8"), re.MULTILINE
    )
    assert headings[0] == (REPOSITORY / "version").read_text("utf-8").strip()


def test_no_scan_and_no_pickle_is_committed() -> None:
    assert [f for f in tracked_files() if f.name.lower().endswith((*IMAGES, *PICKLES))] == []


def test_no_file_names_a_folder_of_one_machine() -> None:
    named = []
    for file in tracked_files():
        if file.suffix in {".safetensors", ".png"} or not file.is_file():
            continue
        for n, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
            if OWN_FOLDER.search(line) and file != Path(__file__):
                named.append(f"{file.relative_to(REPOSITORY)}:{n}: {line.strip()}")
    assert named == []


def test_every_dependency_has_an_exact_tested_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(name for extra in extras for name in extra)]
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pins = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in lines
        if not line.startswith("#")
    }
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in lines)
    assert {re.split(r"[^\w.-]", name)[0].lower() for name in asked} - pins == set()


def test_links_in_the_readme_lead_somewhere() -> None:
    text = (REPOSITORY / "README.md").read_text("utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert targets
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []
