"""The work folder: what libraries find and leave there, and what is deleted in the end."""

import logging
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import make_folder, write_text
from bids_deepmrseg.locks import Locks

logger = logging.getLogger(__name__)

WORKFLOW_NAME = "bids_deepmrseg_wf"  # the only folder that is made in the work folder
RUNS_FOLDER = "runs"  # one folder per run in it; the other folders belong to nodes
BATCH_FOLDER = "batch"  # what nipype's plugins for clusters leave there, for all nodes
NOTES_FOLDER = "notes"
LIVES = "folder of "  # before the name of a run: the lock it holds while its folder is in use
NIPYPE_CONFIG = """[logging]
workflow_level = CRITICAL
utils_level = CRITICAL
interface_level = CRITICAL

[execution]
check_version = false
"""

# Where libraries keep what they would otherwise put into the home folder or below /tmp.
LIBRARY_FOLDERS = {
    "NIPYPE_CONFIG_DIR": "nipype",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TORCH_HOME": "torch",
    "TRITON_CACHE_DIR": "triton",
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "XDG_DATA_HOME": "data",
    "XDG_STATE_HOME": "state",
}
# The same, but folders that the user has chosen are good as long as they can be written: fast
# scratch of a node, caches that were filled before.
USERS_FOLDERS = {
    "CUDA_CACHE_PATH": "cuda",
    "HOME": "home",
    "MPLCONFIGDIR": "matplotlib",
    "TMPDIR": "tmp",
}
NO_HOME = "/nonexistent"  # what Debian calls the home of those who have none
# Nipype neither calls home nor stops for want of a login name, which containers may lack.
ALWAYS = {"NO_ET": "1", "NIPYPE_NO_ET": "1"}
UNLESS_SET = {"LOGNAME": "deepmrseg"}


@contextmanager
def run_folder(work_dir: Path, run_id: str) -> Iterator[Path]:
    """A run's own folder in the work folder, for everything that libraries leave on the disk.

    Libraries read their environment when they are imported, so this comes before. The folder is
    deleted in the end; who enters a second time finds it as it is, and leaves it so.

    Parameters
    ----------
    work_dir
        May be shared with other runs.
    run_id
        Name of the run.

    Yields
    ------
    Path
        The folder.

    Raises
    ------
    OutputError
        If the work folder cannot be written.
    """
    root = work_dir.absolute() / WORKFLOW_NAME
    folder = root / RUNS_FOLDER / run_id
    if folder.is_dir():
        yield folder
        return
    before = dict(os.environ)
    try:
        with Locks(root) as locks:
            locks.take(LIVES + run_id)
            if locks.works:
                _delete_ended(folder.parent, locks)
            try:
                make_folder(folder / NOTES_FOLDER)
            except OSError as error:
                raise OutputError(f"work folder {work_dir} cannot be written: {error}") from error
            lead_libraries_to(folder)
            try:
                yield folder
            finally:
                _set_environment(before)
                delete_folder(folder)
    finally:
        _delete_empty(folder.parent, root)


def _delete_ended(runs: Path, locks: Locks) -> None:
    """Delete the folders of runs that were killed; earlier versions' folders are left alone."""
    with suppress(OSError):
        for folder in list(runs.iterdir()):
            ours = (folder / LIBRARY_FOLDERS["NIPYPE_CONFIG_DIR"]).is_dir()
            if ours and locks.take(LIVES + folder.name):
                delete_folder(folder)
                locks.give_back(LIVES + folder.name)


@contextmanager
def passing_folder(parent: Path) -> Iterator[None]:
    """A folder for what libraries leave on the disk, for programs that have no work folder.

    Parameters
    ----------
    parent
        Where to make it, usually where results go, or in the first folder above that is there.
        Where that cannot be written nothing is changed: then no result can be written either,
        and what only prints goes on.
    """
    there = next(one for one in (parent, *parent.absolute().parents) if one.is_dir())
    made: list[Path] = []
    before = dict(os.environ)
    name_home()
    try:
        made.append(Path(tempfile.mkdtemp(prefix=".libraries-", dir=there)))
        lead_libraries_to(made[0])
    except (OSError, OutputError) as error:
        logger.debug("no folder for libraries: %s", error)
    try:
        yield
    finally:
        _set_environment(before)
        for folder in made:
            delete_folder(folder)


def name_home() -> None:
    """Name a home folder that does not stop libraries, for users without one they may enter."""
    home = os.environ.get("HOME")
    with suppress(KeyError):
        home = home or pwd.getpwuid(os.getuid()).pw_dir
    try:
        Path(f"{home}/..").stat()
    except PermissionError:  # such as /root, kept from the environment of another user
        home = None
    except OSError:  # absent: libraries bear with that
        pass
    os.environ["HOME"] = home or NO_HOME


def lead_libraries_to(folder: Path) -> None:
    """Let libraries of this process and its children write to a folder of ours only.

    Raises
    ------
    OutputError
        If the folder cannot be written.

    Notes
    -----
    ``HOME``, ``TMPDIR``, ``MPLCONFIGDIR`` and ``CUDA_CACHE_PATH`` stay where they name a folder
    that can be written here, which on another node of a cluster may be another answer.
    """
    folder = folder.absolute()
    places = {variable: str(folder / name) for variable, name in LIBRARY_FOLDERS.items()}
    for variable, name in USERS_FOLDERS.items():
        if not _can_be_written(os.environ.get(variable, "")):
            places[variable] = str(folder / name)
    write_text(folder / LIBRARY_FOLDERS["NIPYPE_CONFIG_DIR"] / "nipype.cfg", NIPYPE_CONFIG)
    try:
        for place in places.values():
            make_folder(Path(place))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error}") from error
    _set_environment({**UNLESS_SET, **os.environ, **ALWAYS, **places})


def _can_be_written(folder: str) -> bool:
    """Whether a variable names a folder in which files can be made."""
    try:
        return Path(folder).is_absolute() and Path(folder).is_dir() and os.access(folder, os.W_OK)
    except OSError:
        return False


def _set_environment(variables: dict[str, str]) -> None:
    """Make the environment be that."""
    for variable in os.environ.keys() - variables.keys():
        del os.environ[variable]
    os.environ.update(variables)
    tempfile.tempdir = None  # it is chosen anew when it is needed


def clean_work_dir(work_dir: Path, node_names: tuple[str, ...]) -> None:
    """Delete the folders of nodes, and nothing else.

    Parameters
    ----------
    work_dir
        May hold files of other runs, other programs and the user: they stay.
    node_names
        Nodes of a run, each with a folder of its own.
    """
    root = work_dir.absolute() / WORKFLOW_NAME
    for name in node_names:
        delete_folder(root / name)
        with suppress(OSError):
            for file in list((root / BATCH_FOLDER).glob(f"*_{WORKFLOW_NAME}_{name}.*")):
                file.unlink(missing_ok=True)
    _delete_empty(root / BATCH_FOLDER, root / RUNS_FOLDER, root)


def _delete_empty(*folders: Path) -> None:
    """Delete those folders that are empty: in the others, other runs work."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def delete_folder(folder: Path) -> None:
    """Delete a folder of ours; a file that cannot be deleted is no reason to fail."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("work folder %s could not be deleted: %s", folder, error)
