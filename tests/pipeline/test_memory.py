"""Who killed a process, and how much it held, is told as far as the kernel tells it."""

from pathlib import Path

import pytest

from bids_deepmrseg.pipeline.memory import MemoryWatch

STATUS = "Name:\tpython\nVmPeak:\t9000000 kB\nVmHWM:\t 1953125 kB\nVmRSS:\t 1000 kB\n"
V1 = ("4:memory:/job", "sys/fs/cgroup/memory/job", "memory.oom_control", "memory.limit_in_bytes")
V2 = ("0::/job", "sys/fs/cgroup/job", "memory.events", "memory.max")
OOM = " because memory ran out: about 4.2 GB are needed"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def system(root: Path, version: tuple[str, str, str, str], *, kills: int, above: int = 0) -> Path:
    """What the kernel shows of process 7 in a cgroup of 3 GB."""
    cgroup, folder, events, limit = version
    write(root / "proc" / "self" / "cgroup", cgroup + "\n")
    write(root / "proc" / "7" / "status", STATUS)
    write(root / folder / events, f"oom_kill_disable 0\nunder_oom 0\noom 9\noom_kill {kills}\n")
    write(root / folder / ".." / events, f"oom_kill {above}\n")
    write(root / folder / limit, "3000000000\n")
    return root


@pytest.mark.parametrize("version", [V1, V2])
def test_a_kill_that_the_kernel_counted_is_a_fact(
    tmp_path: Path, version: tuple[str, str, str, str]
) -> None:
    root = system(tmp_path, version, kills=2)
    watch = MemoryWatch(7, root=root)
    watch.look()
    (root / "proc" / "7" / "status").unlink()
    watch.look()
    system(tmp_path, version, kills=3)
    told = watch.tell(needed_gb=4.25)
    assert told.startswith(OOM + ", it held 2.0 GB when last seen, and 3.0 GB is the limit here;")
    assert told.endswith("give the machine, container or job more")
    assert "--n-procs" in watch.tell(needed_gb=2)


@pytest.mark.parametrize("version", [V1, V2])
def test_a_kill_that_the_kernel_did_not_count_is_not_blamed_on_memory(
    tmp_path: Path, version: tuple[str, str, str, str]
) -> None:
    watch = MemoryWatch(7, root=system(tmp_path, version, kills=2))
    system(tmp_path, version, kills=2, above=1)  # in somebody else's cgroup
    told = watch.tell(needed_gb=4.25)
    assert told.startswith(" by a person, a scheduler or a program that watches memory")
    assert "memory ran out" not in told
    assert "held" not in told


def test_where_the_kernel_tells_nothing_memory_is_likely(tmp_path: Path) -> None:
    told = MemoryWatch(7, root=tmp_path).tell(needed_gb=4.25)
    assert told.startswith("; most likely memory ran out: about 4.2 GB are needed, and ")


def test_what_ends_amid_a_look_keeps_what_was_seen(tmp_path: Path) -> None:
    watch = MemoryWatch(7, root=system(tmp_path, V2, kills=0))
    watch.look()
    write(tmp_path / "proc" / "7" / "status", "Name:\tpython\nState:\tZ (zombie)\n")
    watch.look()
    assert "it held 2.0 GB" in watch.tell(needed_gb=1)
