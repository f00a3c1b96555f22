"""The command that prints what networks cost."""

from pathlib import Path

import pytest

from bids_deepmrseg.cli.model import main
from tests.makers import make_model_folder


def test_parameters_and_gflop_are_printed_for_network_and_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model_folder(tmp_path, views=("axial", "coronal"))
    assert main(["tiny", "--models-dir", str(tmp_path), "--side", "64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "CC0-1.0" in lines[0]
    assert len(lines) == 5
    assert all("parameters" in line and "GFLOP" in line for line in lines[1:])


def test_damaged_weights_are_not_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_model_folder(tmp_path)
    with (folder / "axial.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    assert main(["tiny", "--models-dir", str(tmp_path)]) == 69
    assert "damaged" in capsys.readouterr().err


def test_an_unknown_task_names_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model_folder(tmp_path)
    assert main(["soup", "--models-dir", str(tmp_path)]) == 69
    assert "tiny" in capsys.readouterr().err
