"""Engines that run the app: containers and a cluster's scheduler, started only when asked for."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
ENGINES = ("container", "apptainer", "slurm")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which engines to start; ``pytest`` knows the option when it is given this folder."""
    parser.addoption(
        "--engine",
        action="append",
        choices=ENGINES,
        default=[],
        help="run the tests that need this engine; may be repeated. Installs packages: needs root",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an engine that was not asked for."""
    asked: list[str] = item.config.getoption("--engine", default=[])
    for marker in item.iter_markers("engine"):
        (name,) = marker.args
        if name not in asked:
            pytest.skip(f"needs --engine {name}, which installs and starts it")


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What ``setup_base.sh`` leaves behind."""

    engines_dir: Path  # all that engines make lies in it
    archive: Path  # the base image, as docker saves one
    pip_conf: Path  # for /etc/pip.conf of a build
    certificates: Path  # for /etc/ssl/certs/ca-certificates.crt of a build
    mounts: tuple[Path, ...]  # folders that pip.conf names, to be seen in a build


def run_setup(script: str) -> list[str]:
    """Lines that a setup script of this folder prints; an engine that was asked for must be had."""
    env = os.environ | {"PYTHON": sys.executable}  # which surely has pip
    done = subprocess.run([HERE / script], env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{script} ended with {done.returncode}: what it said is above", pytrace=False)
    return done.stdout.splitlines()


@pytest.fixture(scope="session")
def engines_dir() -> Path:
    """Where everything lies that engines make: ``.engines``, or ``DEEPMRSEG_ENGINES_DIR``."""
    folder = Path(os.environ.get("DEEPMRSEG_ENGINES_DIR", REPOSITORY / ".engines")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def base_image(engines_dir: Path) -> BaseImage:
    """The base image, made on the first call of all."""
    run_setup("setup_base.sh")
    build = engines_dir / "build"
    return BaseImage(
        engines_dir=engines_dir,
        archive=engines_dir / "python_3.11-slim.tar",
        pip_conf=build / "pip.conf",
        certificates=build / "ca.crt",
        mounts=tuple(Path(line) for line in (build / "mounts").read_text("utf-8").splitlines()),
    )
