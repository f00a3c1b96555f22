"""How many CPUs and how much memory this process may use, on a host, in a container or a job."""

import math
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

GB = 1e9
MB_PER_GB = 1024**2 / 1e9  # Slurm and cgroups count in binary units
SHARE = 0.9  # of memory; the rest is for the file cache and for this program's own processes
ROOT = Path("/")
CGROUPS = Path("sys", "fs", "cgroup")
MEMORY_LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes")
MEMORY_EVENTS = ("memory.events", "memory.oom_control")
UNLIKELY_GB = 1e9  # version 1 tells "no limit" as the largest number of pages


def available_cpus(*, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> int:
    """CPUs that this process may use, 1 or more.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` lie.
    environ
        Environment variables; those of Slurm count.

    Notes
    -----
    The least of CPU affinity (which tells of cpusets), cgroup quota (version 1 or 2) and what
    Slurm gave the job. Of a quota that is no whole number the whole part is taken.
    """
    limits = [float(len(os.sched_getaffinity(0))), *_cpu_quotas(root)]
    if slurm := _slurm_cpus(environ):
        limits.append(slurm)
    return max(1, int(min(limits)))


def available_memory_gb(*, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> float:
    """Nine tenths of the memory that this process may use, in gigabytes to one decimal."""
    return math.floor(SHARE * memory_limit_gb(root=root, environ=environ) * 10) / 10


def memory_limit_gb(*, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> float:
    """Gigabytes beyond which this process, with all others in its container or job, is stopped.

    Parameters
    ----------
    root, environ
        As for :func:`available_cpus`.

    Notes
    -----
    The least of the host's memory, cgroup limits (version 1 or 2; ``memory.high`` too, above which
    processes crawl) and what Slurm gave the job.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB, *_memory_limits(root)]
    if slurm_mb := _slurm_memory_mb(environ):
        limits.append(slurm_mb * MB_PER_GB)
    return min(limits)


def memory_kills(*, root: Path = ROOT) -> int | None:
    """How many processes of this process's cgroup the kernel has killed because memory ran out.

    ``None`` where the kernel does not tell.
    """
    counted = None
    for folder in _cgroup_folders(root, "memory"):  # from the top down: the last is our own
        for name in MEMORY_EVENTS:
            found = re.search(r"^oom_kill (\d+)$", _read(folder / name), re.MULTILINE)
            counted = int(found[1]) if found else counted
    return counted


def _slurm_cpus(environ: Mapping[str, str]) -> float | None:
    """CPUs of a Slurm task, or else of its job on this node; ``None`` outside of jobs."""
    for variable in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if number := _number(environ.get(variable, "")):
            return number
    per_node = _expanded(environ.get("SLURM_JOB_CPUS_PER_NODE", ""))
    node = int(_number(environ.get("SLURM_NODEID", "")) or 0)
    return per_node[node] if node < len(per_node) else None


def _expanded(text: str) -> list[float]:
    """Numbers of a list as Slurm shortens it: ``4(x2),1`` is 4, 4 and 1."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [float(number) for number, times in found for _ in range(int(times or 1))]


def _slurm_memory_mb(environ: Mapping[str, str]) -> float | None:
    """Binary megabytes that Slurm gave the job on this node; ``None`` where it set no limit."""
    if per_node_mb := _number(environ.get("SLURM_MEM_PER_NODE", "")):
        return per_node_mb
    if per_cpu_mb := _number(environ.get("SLURM_MEM_PER_CPU", "")):
        return per_cpu_mb * (_slurm_cpus(environ) or 1)
    per_gpu_mb = _number(environ.get("SLURM_MEM_PER_GPU", ""))
    gpus = _number(environ.get("SLURM_GPUS_ON_NODE", ""))
    return per_gpu_mb * gpus if per_gpu_mb and gpus else None


def _cpu_quotas(root: Path) -> Iterator[float]:
    """CPUs that cgroups allow, fractions included."""
    for folder in _cgroup_folders(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota = _read(folder / "cpu.cfs_quota_us")
            period = _read(folder / "cpu.cfs_period_us")
        allowed, per = _number(quota), _number(period)
        if allowed and per:
            yield allowed / per


def _memory_limits(root: Path) -> Iterator[float]:
    """Gigabytes that cgroups allow."""
    for folder in _cgroup_folders(root, "memory"):
        for name in MEMORY_LIMITS:
            n_bytes = _number(_read(folder / name))
            if n_bytes and n_bytes / GB < UNLIKELY_GB:
                yield n_bytes / GB


@dataclass(frozen=True, slots=True)
class _Mount:
    """A cgroup hierarchy as it is mounted here.

    Attributes
    ----------
    folder
        Where it is mounted.
    top
        The cgroup that is seen there: ``/``, or in a container often that of the container.
    controllers
        Those of version 1; empty for version 2, which has all.
    """

    folder: Path
    top: str
    controllers: tuple[str, ...]


def _mounts(root: Path) -> tuple[_Mount, ...]:
    """Hierarchies that ``mountinfo`` tells of; their usual places where there is none."""
    found = []
    for line in _read(root / "proc" / "self" / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) > 4 and len(kind) > 2 and kind[0] in {"cgroup", "cgroup2"}:
            controllers = tuple(kind[2].split(",")) if kind[0] == "cgroup" else ()
            found.append(_Mount(root / fields[4].lstrip("/"), fields[3], controllers))
    if found:
        return tuple(found)
    usual = root / CGROUPS
    version_1 = [_Mount(usual / name, "/", (name,)) for name in ("cpu", "memory")]
    return (_Mount(usual, "/", ()), *version_1)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup and all above it; limits of each of them hold."""
    paths = _cgroup_paths(root)
    for mount in _mounts(root):
        if not mount.controllers:
            yield from _folders_down(mount, paths.get("", mount.top))
        elif controller in mount.controllers:
            yield from _folders_down(mount, paths.get(controller, mount.top))


def _cgroup_paths(root: Path) -> dict[str, str]:
    """Cgroup of this process by the controllers of version 1; that of version 2 has no name."""
    lines = _read(root / "proc" / "self" / "cgroup").splitlines()
    named = (line.split(":", 2) for line in lines if line.count(":") > 1)
    return {name: path for _, names, path in named for name in names.split(",")}


def _folders_down(mount: _Mount, path: str) -> Iterator[Path]:
    """The mounted folder, and those from it down to the cgroup where it lies below.

    Where a container has a namespace of its own, or sees no more than its own cgroup, the path may
    be one that is not below what is mounted: then the mounted folder is all that can be known.
    """
    yield mount.folder
    below = ".." if ".." in path.split("/") else posixpath.relpath(path, mount.top)
    folder = mount.folder
    for part in () if below == "." or below.startswith("..") else below.split("/"):
        folder = folder / part
        yield folder


def _read(file: Path) -> str:
    """Text of a small system file; empty where there is none."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _number(text: str) -> float | None:
    """A number above zero; ``None`` for ``max``, ``-1`` and the like, which mean no limit."""
    return float(text) if text.isdecimal() and float(text) > 0 else None
