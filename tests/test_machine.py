"""The least limit holds, whoever set it: host, cgroup of either version, Slurm."""

import os
from pathlib import Path

import pytest

from bids_deepmrseg.machine import available_cpus, available_memory_gb

CPUS = len(os.sched_getaffinity(0))


def make_system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """Folders ``proc`` and ``sys`` as a kernel shows them."""
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="utf-8")
    return root


V1 = "4:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/\n0::/"


@pytest.mark.parametrize(
    ("cgroup", "files", "cpus", "memory_gb"),
    [
        ("0::/", {}, None, None),
        ("0::/", {"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        ("0::/", {"cpu.max": "150000 100000", "memory.max": "2000000000"}, 1, 1.8),
        ("0::/a/b", {"a/cpu.max": "50000 100000", "a/b/memory.max": "1000000000"}, 1, 0.9),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
        (V1, {"cpu/job/cpu.cfs_quota_us": "1", "cpu/job/cpu.cfs_period_us": "1"}, 1, None),
        (V1, {"memory/job/memory.limit_in_bytes": "1000000000"}, None, 0.9),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, None, None),
    ],
)
def test_cgroup_limits_hold(
    tmp_path: Path, cgroup: str, files: dict[str, str], cpus: int | None, memory_gb: float | None
) -> None:
    free = tmp_path / "free"
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    root = make_system(tmp_path / "limited", cgroup, files)
    assert available_cpus(root=root, environ={}) == (cpus or CPUS)
    unlimited_gb = available_memory_gb(root=free, environ={})
    assert available_memory_gb(root=root, environ={}) == (memory_gb or unlimited_gb)


def test_what_slurm_gave_the_job_holds(tmp_path: Path) -> None:
    environ = {"SLURM_CPUS_PER_TASK": "1", "SLURM_MEM_PER_NODE": "1024"}
    assert available_cpus(root=tmp_path, environ=environ) == 1
    assert available_memory_gb(root=tmp_path, environ=environ) == 0.9
    per_cpu = {"SLURM_CPUS_PER_TASK": "1", "SLURM_MEM_PER_CPU": "2048"}
    assert available_memory_gb(root=tmp_path, environ=per_cpu) == 1.9


def test_a_job_with_all_memory_of_its_node_has_no_limit(tmp_path: Path) -> None:
    unlimited_gb = available_memory_gb(root=tmp_path, environ={})
    environ = {"SLURM_MEM_PER_NODE": "0"}
    assert available_memory_gb(root=tmp_path, environ=environ) == unlimited_gb
