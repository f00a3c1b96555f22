"""The work folder: what nipype and matplotlib find there, and what is deleted in the end."""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import write_text

logger = logging.getLogger(__name__)

WORKFLOW_NAME = "bids_deepmrseg_wf"  # the only folder that is made in the work folder
RUNS_FOLDER = "runs"  # one folder per run in it; the other folders belong to nodes
NIPYPE_CONFIG = """[logging]
workflow_level = CRITICAL
utils_level = CRITICAL
interface_level = CRITICAL

[execution]
check_version = false
"""


def open_work_dir(work_dir: Path, run_id: str) -> Path:
    """Make a run's folder, and keep nipype and matplotlib from home folder and network.

    Libraries read their environment when they are imported, so this comes before.

    Parameters
    ----------
    work_dir
        May be shared with other runs.
    run_id
        Name of the run.

    Returns
    -------
    Path
        A fresh folder for what the nodes of the run note.

    Raises
    ------
    OutputError
        If the work folder cannot be written.
    """
    folder = work_dir.absolute() / WORKFLOW_NAME / RUNS_FOLDER / run_id
    config, notes = folder / "config", folder / "notes"
    try:
        notes.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the work folder {work_dir} cannot be written: {error}") from error
    write_text(config / "nipype.cfg", NIPYPE_CONFIG)
    os.environ.update({"NO_ET": "1", "NIPYPE_NO_ET": "1", "NIPYPE_CONFIG_DIR": str(config)})
    os.environ.setdefault("MPLCONFIGDIR", str(config / "matplotlib"))
    os.environ.setdefault("LOGNAME", "deepmrseg")  # containers may lack it; nipype asks for it
    return notes


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
    for folder in (root / RUNS_FOLDER / run_id, *(root / name for name in node_names)):
        _delete(folder)
    for folder in (root / RUNS_FOLDER, root):
        with suppress(OSError):  # it is not empty: other runs work there
            folder.rmdir()


def _delete(folder: Path) -> None:
    """Delete a folder of ours; a file that cannot be deleted is no reason to fail."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("work folder %s could not be deleted: %s", folder, error)
