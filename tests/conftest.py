"""Fixtures that every test may ask for; what they make is in tests/makers.py."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.makers import make_dataset

# as many threads as the runs that are compared: sums of torch differ in their last digits otherwise
os.environ.setdefault("OMP_NUM_THREADS", "1")

# the same examples every time, however slow the machine
settings.register_profile("laws", deadline=None, derandomize=True)
settings.load_profile("laws")

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the real scans lie that are no part of the repository."""
    parser.addoption(
        "--shared-data",
        type=Path,
        default=DEFAULT_SHARED_DATA,
        help="folder with real scans; tests that need it skip where it is absent",
    )


@pytest.fixture(scope="session")
def shared_data(pytestconfig: pytest.Config) -> Path:
    """Folder with the real scans, or a skip that says that there is none."""
    folder: Path = pytestconfig.getoption("--shared-data")
    if not folder.is_dir():
        pytest.skip(f"real scans are absent: --shared-data {folder} is not a folder")
    return folder


@pytest.fixture
def bids_dir(tmp_path: Path) -> Path:
    """A raw BIDS dataset of two subjects with one T1w each."""
    return make_dataset(tmp_path / "bids", ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"))
