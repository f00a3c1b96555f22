"""What a process that was killed needed, held and was allowed of memory, and who killed it."""

import re
from contextlib import suppress
from pathlib import Path

from bids_deepmrseg.machine import memory_kills, memory_limit_gb

ROOT = Path("/")
KIB_PER_GB = 1e9 / 1024
OOM_SCORE = Path("/proc/self/oom_score_adj")
MORE_LIKELY = 500  # thousandths: counts as if half of all memory were held on top
MOST_LIKELY = 1000


class MemoryWatch:
    """Looks now and then at what a process holds, and knows afterwards who killed it.

    Parameters
    ----------
    process_id
        The process; ``None`` for one that never started.
    root
        Where ``proc`` and ``sys`` lie.
    """

    def __init__(self, process_id: int | None, *, root: Path = ROOT) -> None:
        self._status = root / "proc" / str(process_id) / "status"
        self._root = root
        self._kills = memory_kills(root=root)
        self._held_gb: float | None = None

    def look(self) -> None:
        """Remember the most that the process has held, as long as the kernel still tells."""
        with suppress(OSError):
            found = re.search(r"^VmHWM:\s+(\d+) kB$", self._status.read_text("utf-8"), re.MULTILINE)
            if found:
                self._held_gb = int(found[1]) / KIB_PER_GB

    def tell(self, *, needed_gb: float | None = None) -> str:
        """The rest of a sentence on a process that was killed by signal 9.

        Parameters
        ----------
        needed_gb
            What it was expected to need, if that is known.
        """
        limit_gb = memory_limit_gb(root=self._root)
        facts = [] if needed_gb is None else [f"about {needed_gb:.1f} GB are needed"]
        if self._held_gb is not None:
            facts.append(f"it held {self._held_gb:.1f} GB when last seen")
        facts.append(f"{'and ' if facts else ''}{limit_gb:.1f} GB is the limit here")
        is_too_large = needed_gb is not None and needed_gb > limit_gb
        fewer = "" if is_too_large else ", or run fewer cases at a time (--n-procs)"
        told = ", ".join(facts)
        return f"{self._cause()} {told}; give the machine, container or job more{fewer}"

    def _cause(self) -> str:
        """Who killed it: a fact where the kernel counts its kills, a likelihood where not."""
        kills = memory_kills(root=self._root)
        if self._kills is None or kills is None:
            return "; most likely memory ran out:"
        if kills > self._kills:
            return " because memory ran out:"
        return (
            " by a person, a scheduler or a program that watches memory, for the kernel counts no "
            "kill of its own here;"
        )


def become_first_victim() -> None:
    """Let the kernel, when memory runs out, kill this process rather than one that waits for it.

    Notes
    -----
    To be more likely a victim needs no privilege. What it is chosen by is its share of the
    memory that is allowed, in thousandths, plus this number.
    """
    with suppress(OSError):
        score = min(MOST_LIKELY, int(OOM_SCORE.read_text("ascii")) + MORE_LIKELY)
        OOM_SCORE.write_text(str(score), encoding="ascii")
