"""What a run leaves in its log folder besides results: messages, settings, environment."""

import logging
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bids_deepmrseg.errors import OutputError
from bids_deepmrseg.files import JsonValue, write_json
from bids_deepmrseg.settings import RunSettings, write_settings

PACKAGE = "bids_deepmrseg"
LOG_FILE = "run.log"
SETTINGS_FILE = "settings.toml"
ENVIRONMENT_FILE = "environment.json"
DEPENDENCIES = (
    "bids-deepmrseg",
    "matplotlib",
    "nibabel",
    "nipype",
    "numpy",
    "pybids",
    "safetensors",
    "scipy",
    "torch",
)


@contextmanager
def logging_to(log_dir: Path | None, *, verbosity: int) -> Iterator[None]:
    """Send this package's messages to the console and, given a folder, to a file in it.

    Parameters
    ----------
    log_dir
        Made where it is absent; ``None`` for the console alone.
    verbosity
        0 for one line per case and stage, more for every message.

    Raises
    ------
    OutputError
        If the folder cannot be made or written.
    """
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handlers: list[logging.Handler] = [console]
    if log_dir is not None:
        handlers.append(_file_handler(log_dir))
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    logger.setLevel(logging.DEBUG if verbosity else logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _file_handler(log_dir: Path) -> logging.Handler:
    """Messages with date and level, to a file."""
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log_dir / LOG_FILE, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"the output folder cannot be written ({error}); check its permissions, and in a "
            "container that it is mounted for writing"
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def write_run_files(settings: RunSettings) -> None:
    """Write what the run was asked to do, and what it runs on; no names of hosts or users."""
    write_settings(settings, settings.log_dir / SETTINGS_FILE)
    packages: dict[str, JsonValue] = {name: _version(name) for name in DEPENDENCIES}
    environment: dict[str, JsonValue] = {
        "Python": platform.python_version(),
        "Platform": platform.platform(),
        "Packages": packages,
        "CPUs": settings.n_procs,
        "MemoryGB": round(settings.memory_gb, 3),
        "Device": settings.device,
    }
    write_json(settings.log_dir / ENVIRONMENT_FILE, environment)


def _version(package: str) -> str:
    """Version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
