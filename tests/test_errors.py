"""Errors reach the command line from worker processes, and tell apart what to do."""

import os
import pickle

import pytest

from bids_deepmrseg import errors
from bids_deepmrseg.errors import DeepMRSegError, GeometryError, InputDataError

CLASSES = [
    member
    for member in vars(errors).values()
    if isinstance(member, type) and issubclass(member, DeepMRSegError)
]


@pytest.mark.parametrize("error_class", CLASSES)
def test_an_error_survives_pickling(error_class: type[DeepMRSegError]) -> None:
    error = pickle.loads(pickle.dumps(error_class("scan.nii is empty; copy it again")))
    assert type(error) is error_class
    assert str(error) == "scan.nii is empty; copy it again"


@pytest.mark.parametrize("error_class", CLASSES)
def test_no_error_exits_as_success(error_class: type[DeepMRSegError]) -> None:
    assert error_class.exit_code in range(os.EX_USAGE, os.EX_CONFIG + 1)


@pytest.mark.parametrize("error_class", CLASSES)
def test_every_error_but_the_root_names_its_remedy(error_class: type[DeepMRSegError]) -> None:
    inherited = any(base in CLASSES[1:] for base in error_class.__bases__)
    documented = "remedy:" in (error_class.__doc__ or "")
    assert documented or inherited or error_class is DeepMRSegError


def test_bad_geometry_is_bad_input() -> None:
    assert issubclass(GeometryError, InputDataError)
    assert GeometryError.exit_code == os.EX_DATAERR
