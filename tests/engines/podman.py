"""Podman as the container tests use it: private settings, a build, and runs as strangers."""

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.engines.conftest import REPOSITORY, BaseImage

UID = 12345  # an id without an entry in any passwd
NO_NETWORK = ("--network", "none")
STRANGER = (*NO_NETWORK, "--read-only", "--user", f"{UID}:{UID}")

Finished = subprocess.CompletedProcess[str]


def environment(base: BaseImage) -> dict[str, str]:
    """Environment of every call: that of the tests, and what ``setup_podman.sh`` exports."""
    env = os.environ | {"STORAGE_DRIVER": "overlay"}
    for line in (base.engines_dir / "podman" / "env").read_text("utf-8").splitlines():
        _, assignment = shlex.split(line)
        name, _, value = assignment.partition("=")
        env[name] = value
    return env


def build_options(base: BaseImage) -> list[str]:
    """What lets a build install from where this machine does."""
    volumes = {
        base.pip_conf: "/etc/pip.conf",
        base.certificates: "/etc/ssl/certs/ca-certificates.crt",
        **{folder: str(folder) for folder in base.mounts},
    }
    options = ["--network", "host"]
    for outside, inside in volumes.items():
        options += ["--volume", f"{outside}:{inside}:ro"]
    return options


@dataclass(frozen=True, slots=True)
class Podman:
    """Calls of podman, with its output as text."""

    env: dict[str, str]
    image: str

    def call(self, *arguments: str, check: bool = True) -> Finished:
        """One call; what it wrote to stderr is shown when it had to succeed and did not."""
        done = subprocess.run(
            ["podman", *arguments],
            env=self.env,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"podman {shlex.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def run(self, *arguments: str, options: tuple[str, ...] = STRANGER) -> Finished:
        """The image's own command, whatever it ends with."""
        return self.call("run", "--rm", *options, self.image, *arguments, check=False)

    def script(self, program: str, *arguments: str) -> str:
        """Standard output of another program of the image, run by root, which must succeed."""
        options = (*NO_NETWORK, "--user", "0:0", "--entrypoint", program)
        return self.call("run", "--rm", *options, self.image, *arguments).stdout

    def inspect(self, field: str) -> str:
        """A field of the image, as a Go template names it."""
        return self.call("image", "inspect", "--format", f"{{{{{field}}}}}", self.image).stdout


def mounted(data: Path, out: Path, *, models: Path | None = None) -> tuple[str, ...]:
    """Options that show a dataset for reading and an output folder of :data:`UID`'s."""
    out.mkdir(parents=True, exist_ok=True)
    os.chown(out, UID, UID)
    options = ["--volume", f"{data}:/data:ro", "--volume", f"{out}:/out"]
    if models is not None:
        options += ["--volume", f"{models}:/models:ro"]
    return tuple(options)


def owners(folder: Path) -> set[tuple[int, int]]:
    """User and group of everything in a folder."""
    stats = [path.lstat() for path in folder.rglob("*")]
    return {(one.st_uid, one.st_gid) for one in stats}


def processes_of(uid: int) -> list[str]:
    """Command lines of this machine's processes that belong to a user."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if folder.stat().st_uid == uid:
                    found.append((folder / "cmdline").read_text("utf-8").replace("\0", " "))
            except OSError:
                continue  # it has ended meanwhile
    return found
