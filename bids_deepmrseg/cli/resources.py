"""How many CPUs and how much memory this process may use, on a host, in a container or a job."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

GB = 1e9
MB_PER_GB = 1024**2 / 1e9  # Slurm and cgroups count in binary units
SHARE = 0.9  # of memory; the rest is for the file cache and for this program's own processes
ROOT = Path("/")


def available_cpus(*, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> int:
    """CPUs that this process may use, 1 or more.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` lie.
    environ
        Environment variables; ``SLURM_CPUS_PER_TASK`` counts.

    Notes
    -----
    The least of CPU affinity, cgroup quota (version 1 or 2) and what Slurm gave the job.
    """
    limits = [float(len(os.sched_getaffinity(0))), *_cpu_quotas(root)]
    if slurm := _number(environ.get("SLURM_CPUS_PER_TASK", "")):
        limits.append(slurm)
    return max(1, int(min(limits)))


def available_memory_gb(*, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> float:
    """Nine tenths of the memory that this process may use, in gigabytes to one decimal.

    Notes
    -----
    The least of the host's memory, cgroup limit (version 1 or 2) and what Slurm gave the job.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB, *_memory_limits(root)]
    if per_node_mb := _number(environ.get("SLURM_MEM_PER_NODE", "")):
        limits.append(per_node_mb * MB_PER_GB)
    elif per_cpu_mb := _number(environ.get("SLURM_MEM_PER_CPU", "")):
        limits.append(per_cpu_mb * MB_PER_GB * available_cpus(root=root, environ=environ))
    return math.floor(SHARE * min(limits) * 10) / 10


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
        for name in ("memory.max", "memory.limit_in_bytes"):
            if n_bytes := _number(_read(folder / name)):
                yield n_bytes / GB


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup and all above it; limits of each of them hold."""
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys" / "fs" / "cgroup" / (controller if controllers else "")
        yield mount
        folder = mount
        for part in path.strip("/").split("/"):
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
