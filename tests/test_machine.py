"""The least limit holds, whoever set it: host, cgroup of either version, Slurm."""

import os
from pathlib import Path

import pytest

from bids_deepmrseg.machine import available_cpus, available_memory_gb, memory_limit_gb

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


NAMESPACES = [  # cgroup of the process, what is mounted where, the file that holds 1 GB
    pytest.param("0::/", ["/ /sys/fs/cgroup cgroup2 rw"], "memory.max", id="container-own-view"),
    pytest.param(
        "0::/../../job", ["/ /sys/fs/cgroup cgroup2 rw"], "memory.max", id="outside-of-namespace"
    ),
    pytest.param(
        "0::/user/job", ["/ /sys/fs/cgroup cgroup2 rw"], "user/memory.high", id="throttled-above"
    ),
    pytest.param(
        "0::/docker/abc/sub",
        ["/docker/abc /sys/fs/cgroup cgroup2 rw"],
        "sub/memory.max",
        id="mounted-from-below",
    ),
    pytest.param(
        "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc",
        [
            "/docker/abc /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct",
            "/docker/abc /sys/fs/cgroup/memory cgroup rw,memory",
        ],
        "memory/memory.limit_in_bytes",
        id="version-1-in-docker",
    ),
    pytest.param(
        "9:memory:/slurm/uid_1/job_7/step_0\n1:name=systemd:/x\n0::/x",
        [
            "/ /sys/fs/cgroup/unified cgroup2 rw,nsdelegate",
            "/ /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd",
            "/ /sys/fs/cgroup/memory cgroup rw,memory",
        ],
        "memory/slurm/uid_1/job_7/memory.limit_in_bytes",
        id="hybrid-in-slurm",
    ),
    pytest.param("", ["/ /sys/fs/cgroup cgroup2 rw"], "memory.max", id="cgroup-not-told"),
]


def make_mounts(mounts: list[str]) -> str:
    """Lines of mountinfo."""
    lines = []
    for mount in mounts:
        top, place, kind, options = mount.split(" ")
        lines.append(f"35 25 0:30 {top} {place} ro,nosuid shared:9 - {kind} {kind} {options}")
    return "\n".join(["25 1 8:1 / / rw - ext4 /dev/sda1 rw", *lines])


@pytest.mark.parametrize(("cgroup", "mounts", "file"), NAMESPACES)
def test_limits_are_found_wherever_cgroups_are_mounted(
    tmp_path: Path, cgroup: str, mounts: list[str], file: str
) -> None:
    files = {"proc/self/mountinfo": make_mounts(mounts), f"sys/fs/cgroup/{file}": "1000000000"}
    root = make_system(tmp_path / "limited", cgroup, files)
    assert memory_limit_gb(root=root, environ={}) == 1.0
    assert available_memory_gb(root=root, environ={}) == 0.9


def test_a_quota_is_found_where_two_controllers_share_a_mount(tmp_path: Path) -> None:
    mounts = ["/docker/abc /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct"]
    files = {
        "proc/self/mountinfo": make_mounts(mounts),
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    root = make_system(tmp_path, "4:cpu,cpuacct:/docker/abc", files)
    assert available_cpus(root=root, environ={}) == 1


def test_half_a_cpu_is_one(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "50000 100000"}
    assert available_cpus(root=make_system(tmp_path, "0::/", files), environ={}) == 1


@pytest.mark.parametrize(
    "environ",
    [
        {"SLURM_CPUS_ON_NODE": "1"},
        {"SLURM_JOB_CPUS_PER_NODE": "1"},
        {"SLURM_JOB_CPUS_PER_NODE": "1(x3),72"},
        {"SLURM_JOB_CPUS_PER_NODE": "72(x2),1", "SLURM_NODEID": "2"},
        {"SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "72"},
    ],
)
def test_cpus_of_a_job_are_found_however_it_was_submitted(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    assert available_cpus(root=tmp_path, environ=environ) == 1


def test_memory_per_cpu_counts_the_jobs_cpus_not_the_hosts(tmp_path: Path) -> None:
    environ = {"SLURM_CPUS_ON_NODE": "1", "SLURM_MEM_PER_CPU": "1024"}
    assert memory_limit_gb(root=tmp_path, environ=environ) == pytest.approx(1.0737, abs=1e-4)
    environ = {"SLURM_GPUS_ON_NODE": "2", "SLURM_MEM_PER_GPU": "512"}
    assert memory_limit_gb(root=tmp_path, environ=environ) == pytest.approx(1.0737, abs=1e-4)
