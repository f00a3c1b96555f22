"""A run leaves its messages, settings and environment, and no names of hosts or users."""

import getpass
import json
import logging
import platform
from pathlib import Path

import pytest

from bids_deepmrseg.cli.runlog import LOG_FILE, logging_to, write_run_files
from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.settings import RunSettings, read_settings

logger = logging.getLogger("bids_deepmrseg.some.room")


@pytest.mark.parametrize(("verbosity", "is_there"), [(0, False), (1, True)])
def test_details_are_logged_only_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verbosity: int, *, is_there: bool
) -> None:
    with logging_to(tmp_path / "logs", verbosity=verbosity):
        logger.info("a stage is done")
        logger.debug("a detail")
    logger.info("after the run")
    for text in (
        (tmp_path / "logs" / LOG_FILE).read_text(encoding="utf-8"),
        capsys.readouterr().err,
    ):
        assert "a stage is done" in text
        assert ("a detail" in text) is is_there
        assert "after the run" not in text


def test_a_folder_that_cannot_be_made_is_an_error_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        logging_to(tmp_path / "file" / "logs", verbosity=0),
    ):
        pass


def test_settings_and_environment_are_written(tmp_path: Path) -> None:
    settings = RunSettings(
        bids_dir=Path("/data"),
        output_dir=tmp_path,
        work_dir=tmp_path / "work",
        analysis_level="participant",
        run_id="run",
    )
    settings.log_dir.mkdir(parents=True)
    write_run_files(settings)
    assert read_settings(settings.log_dir / "settings.toml") == settings
    text = (settings.log_dir / "environment.json").read_text(encoding="utf-8")
    environment = json.loads(text)
    assert environment["Python"] == platform.python_version()
    assert set(environment["Packages"]) >= {"bids-deepmrseg", "torch", "nipype", "pybids"}
    words = set(text.replace('"', " ").replace(",", " ").split())
    assert words.isdisjoint({platform.node(), getpass.getuser()})
