"""Apptainer as a user who is not root meets it: builds, runs, and what is told of both."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.engines.conftest import REPOSITORY, BaseImage

ENTER = Path(__file__).with_name("enter.sh")
USER_ID = 12345
SHARED = Path("/shared")  # what the user calls the folder that both sides see
MACHINE = Path("/mnt")  # exists in every image; what a build needs of this machine lies there
PACKED = ("bids_deepmrseg", "pyproject.toml", "constraints.txt", "version", "README.md")
SOURCES = (*PACKED, "LICENSE", "NOTICE", "Singularity")
CONTAINED = ("--containall", "--net", "--network", "none")
WORKERS = ("--n-procs", "1", "--omp-nthreads", "1")


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command said, and how it ended."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Apptainer:
    """Commands in the Debian of ``setup_apptainer.sh``.

    Attributes
    ----------
    shared
        Folder of this machine that the commands know as ``/shared``; it belongs to their user.
    """

    shared: Path

    def own(self, *folders: Path) -> None:
        """Give what lies in the shared folder to the user."""
        for folder in folders or (self.shared,):
            subprocess.run(["chown", "-R", f"{USER_ID}:{USER_ID}", folder], check=True)

    def fresh(self, name: str) -> dict[str, str]:
        """Mount of an empty output folder that the user owns."""
        folder = self.shared / "out" / name
        folder.mkdir(parents=True)
        self.own(folder)
        return {"/out": f"out/{name}"}

    def is_current(self, sif: str, base: Path) -> bool:
        """Whether an image is there that is newer than all it is made of."""
        made_of = [base, *(REPOSITORY / name for name in SOURCES)]
        made_of += [file for folder in made_of if folder.is_dir() for file in folder.rglob("*")]
        newest = max(file.stat().st_mtime for file in made_of if "__pycache__" not in file.parts)
        image = self.shared / sif
        return image.is_file() and image.stat().st_mtime > newest

    def call(
        self,
        *command: str | Path,
        binds: Mapping[Path, Path] | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: str | Path = SHARED,
        umask: str = "022",
        cgroup: Path | None = None,
    ) -> Ended:
        """Run a command as the user.

        Parameters
        ----------
        command
            Program and arguments.
        binds
            Folders of this machine, and where the command finds them.
        environment
            What the command gets beside a user's usual variables.
        cwd
            Where it starts.
        umask
            What is taken from permissions of files that it makes.
        cgroup
            Control group that it runs in.
        """
        inside = {f"INSIDE_{name}": value for name, value in (environment or {}).items()}
        bound = [word for a, b in (binds or {}).items() for word in ("--bind", f"{a}:{b}")]
        join: list[str | Path] = []
        if cgroup:
            join = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', cgroup / "cgroup.procs"]
        start = f'umask {umask}; cd "$1"; shift; exec "$@"'
        began = time.monotonic()
        done = subprocess.run(
            [*join, ENTER, *bound, "sh", "-c", start, "sh", cwd, *command],
            env={**os.environ, **inside},
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def build(
        self,
        sif: str,
        *flags: str,
        base: BaseImage,
        arguments: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Build the definition, as a user whom nobody else may read files of.

        Parameters
        ----------
        sif
            Name of the image in the shared folder.
        flags
            Of ``apptainer build``.
        base
            What a build needs of this machine to install from the network.
        arguments
            Of the definition.
        environment
            Of the command.
        """
        source = self._copy_sources()
        machine = self.shared / "machine"
        binds = {folder: SHARED / f"machine{folder}" for folder in base.mounts}
        machine.mkdir(exist_ok=True)
        shutil.copy(base.certificates, machine / "ca.crt")
        (machine / "pip.conf").write_text(_moved(base), encoding="utf-8")
        given = [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
        mounted = ("--bind", f"{SHARED / 'machine'}:{MACHINE}")
        return self.call(
            *("apptainer", "build", "--force", *mounted, *flags, *given),
            *(SHARED / sif, "Singularity"),
            binds=binds,
            environment={
                "APPTAINERENV_PIP_CONFIG_FILE": f"{MACHINE}/pip.conf",
                **(environment or {}),
            },
            cwd=SHARED / source.name,
            umask="077",
        )

    def run(
        self,
        sif: str,
        *arguments: str,
        flags: Iterable[str] = CONTAINED,
        binds: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: str | Path = SHARED,
        before: Iterable[str] = (),
        cgroup: Path | None = None,
    ) -> Ended:
        """Run the app: ``apptainer run FLAGS -B ... IMAGE ARGUMENTS``.

        Parameters
        ----------
        sif
            Image in the shared folder.
        arguments
            Of the app.
        flags
            Of ``apptainer run``.
        binds
            Places in the container, and what of the shared folder is mounted there.
        environment
            What the user has in the environment.
        cwd
            Where the user stands.
        before
            A command that starts Apptainer, such as ``env -u HOME``.
        cgroup
            Control group that it runs in.
        """
        mounts = [
            word
            for place, folder in (binds or {}).items()
            for word in ("--bind", f"{SHARED / folder}:{place}")
        ]
        return self.call(
            *before,
            *("apptainer", "run", *flags, *mounts, str(SHARED / sif)),
            *arguments,
            environment=environment,
            cwd=cwd,
            cgroup=cgroup,
        )

    def _copy_sources(self) -> Path:
        """What the image is built from, readable by nobody but the user."""
        source = self.shared / "source"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for name in SOURCES:
            file = REPOSITORY / name
            if file.is_dir():
                unwanted = shutil.ignore_patterns("__pycache__")
                shutil.copytree(file, source / name, ignore=unwanted)
            else:
                shutil.copy(file, source / name)
        subprocess.run(["chmod", "-R", "go=", source], check=True)
        self.own(source)
        return source


def _moved(base: BaseImage) -> str:
    """This machine's settings of pip, with its folders and certificates where a build sees them."""
    text = base.pip_conf.read_text(encoding="utf-8")
    longest_first = sorted((str(folder) for folder in base.mounts), key=len, reverse=True)
    if longest_first:
        folders = "|".join(map(re.escape, longest_first))
        text = re.sub(rf"(?<![\w.-])({folders})\b", rf"{MACHINE}\1", text)
    lines = [line for line in text.splitlines() if not line.startswith("cert ")]
    if base.certificates.stat().st_size:
        lines.append(f"cert = {MACHINE}/ca.crt")
    return "\n".join(lines) + "\n"
