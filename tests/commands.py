"""The app as a process of its own, as users start it, and what processes are and may."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

NOBODY = 12345  # no user has this number
REPOSITORY = Path(__file__).resolve().parents[1]
APP = (sys.executable, "-m", "bids_deepmrseg")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def app(
    bids_dir: Path, output_dir: Path, models_dir: Path, *flags: str, level: str = "participant"
) -> list[str]:
    """The command for the made-up task, in one process unless flags say otherwise."""
    named = [str(bids_dir), str(output_dir), level, "--models-dir", str(models_dir)]
    return [*APP, *named, "--task", "tiny", "--n-procs", "1", "--device", "cpu", *flags]


def environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's variables, with changes; ``None`` for those to leave out."""
    variables: dict[str, str | None] = {**os.environ, **ONE_THREAD, **changes}
    return {name: value for name, value in variables.items() if value is not None}


def is_alive(process: int) -> bool:
    """Whether a process still runs; one that nobody waited for counts as ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Keep this process out of a folder, even if root runs it."""
    user, mode = os.geteuid(), folder.stat().st_mode
    folder.chmod(0o000)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)
