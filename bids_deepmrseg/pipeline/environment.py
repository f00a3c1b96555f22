"""The work folder: what nipype and matplotlib find there, and what is deleted in the end."""

import logging
import os
import shutil
from pathlib import Path

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import write_text

logger = logging.getLogger(__name__)

WORKFLOW_NAME = "bids_deepmrseg_wf"  # the only folder that is made in the work folder
CONFIG_FOLDER = "config"
NOTES_FOLDER = "notes"
NIPYPE_CONFIG = """[logging]
workflow_level = CRITICAL
utils_level = CRITICAL
interface_level = CRITICAL

[execution]
check_version = false
"""


def prepare_environment(work_dir: Path) -> None:
    """Keep nipype and matplotlib from the home folder and the network; before their import.

    Raises
    ------
    OutputError
        If the work folder cannot be written.
    """
    config = work_dir.absolute() / WORKFLOW_NAME / CONFIG_FOLDER
    write_text(config / "nipype.cfg", NIPYPE_CONFIG)
    os.environ.update({"NO_ET": "1", "NIPYPE_NO_ET": "1", "NIPYPE_CONFIG_DIR": str(config)})
    os.environ.setdefault("MPLCONFIGDIR", str(config / "matplotlib"))
    os.environ.setdefault("LOGNAME", "deepmrseg")  # containers may lack it; nipype asks for it


def make_notes_dir(work_dir: Path, run_id: str) -> Path:
    """A fresh folder for what the nodes of one run leave behind."""
    folder = work_dir.absolute() / WORKFLOW_NAME / NOTES_FOLDER / run_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the work folder {work_dir} cannot be written: {error}") from error
    return folder


def clean_work_dir(work_dir: Path, run_id: str, node_names: tuple[str, ...]) -> None:
    """Delete what one run wrote to the work folder, and nothing else.

    Parameters
    ----------
    work_dir
        May hold files of other runs, other programs and the user: they stay.
    run_id
        Name of the run.
    node_names
        Its nodes, each with a folder of its own.
    """
    root = work_dir.absolute() / WORKFLOW_NAME
    for folder in (root / NOTES_FOLDER / run_id, *(root / name for name in node_names)):
        _delete(folder)
    notes = root / NOTES_FOLDER
    if notes.is_dir() and not any(notes.iterdir()):
        notes.rmdir()
    if root.is_dir() and {child.name for child in root.iterdir()} <= {CONFIG_FOLDER}:
        _delete(root)


def _delete(folder: Path) -> None:
    """Delete a folder of ours; a file that cannot be deleted is no reason to fail."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("work folder %s could not be deleted: %s", folder, error)
