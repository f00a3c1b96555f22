"""Images run on hosts of all kinds: without a home, with modules, in jobs of a scheduler."""

import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.apptainer.engine import (
    CONTAINED,
    SHARED,
    Apptainer,
)
from tests.engines.apptainer.results import (
    BROKEN,
    TINY,
    TWO,
    assert_segmented,
)

pytestmark = pytest.mark.engine("apptainer")


def settings_of(out: Path) -> dict[str, object]:
    """Settings of the only run on an output folder."""
    (file,) = out.glob("logs/*/settings.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def test_nothing_of_the_hosts_python_reaches_the_app(
    apptainer: Apptainer, from_archive: str
) -> None:
    """A home folder, modules and variables that would break it, all of them in sight."""
    user_site = apptainer.shared / "home" / ".local" / "lib" / "python3.11" / "site-packages"
    modules = apptainer.shared / "modules"
    for folder in (user_site, modules):
        folder.mkdir(parents=True, exist_ok=True)
        for module in ("torch", "numpy", "nibabel", "sitecustomize", "bids_deepmrseg"):
            (folder / f"{module}.py").write_text("raise SystemExit(99)\n", encoding="utf-8")
    apptainer.own()
    host = {
        "PYTHONPATH": f"{SHARED}/modules",
        "PYTHONHOME": f"{SHARED}/modules",
        "PYTHONUSERBASE": f"{SHARED}/home/.local",
        "PYTHONNOUSERSITE": "",
        "VIRTUAL_ENV": f"{SHARED}/modules",
        "PATH": f"{SHARED}/modules:/usr/bin:/bin",
        "MPLBACKEND": "no-such-backend",
        "MPLCONFIGDIR": "/no/such/folder",
        "LC_ALL": "xx_XX",
        "TMPDIR": "/no/such/folder",
    }
    binds = TWO | apptainer.fresh("host")
    ended = apptainer.run(
        *(from_archive, "/data", "/out", "participant", *TINY),
        flags=("--bind", str(SHARED)),
        binds=binds,
        environment=host,
        cwd=SHARED / "modules",
    )
    shutil.rmtree(user_site.parents[2])
    assert_segmented(ended, apptainer.shared / "out" / "host")


@pytest.mark.parametrize(
    ("name", "flags", "before", "cwd"),
    [
        ("no-home", ("--containall", "--no-home"), ("env", "-u", "HOME", "-u", "LOGNAME"), "/"),
        ("clean-env", ("--cleanenv", "--no-home", "--no-mount", "tmp"), (), "/usr/share"),
    ],
)
def test_an_image_runs_without(  # noqa: PLR0917 - a row of the table above
    apptainer: Apptainer,
    from_archive: str,
    name: str,
    flags: tuple[str, ...],
    before: tuple[str, ...],
    cwd: str,
) -> None:
    """Home folder, working folder or /tmp that could be written to."""
    binds = TWO | apptainer.fresh(name)
    ended = apptainer.run(
        *(from_archive, "/data", "/out", "participant", *TINY),
        flags=flags,
        binds=binds,
        cwd=cwd,
        before=before,
    )
    assert_segmented(ended, apptainer.shared / "out" / name)


def test_an_image_runs_while_tmp_and_home_are_full(apptainer: Apptainer, from_archive: str) -> None:
    """With --containall both are one small file system in memory."""
    binds = TWO | apptainer.fresh("full")
    mounts = [
        word for place, folder in binds.items() for word in ("-B", f"/shared/{folder}:{place}")
    ]
    fill = 'head -c 1G /dev/zero >/tmp/full; ! echo no >/tmp/more && exec bids-deepmrseg "$@"'
    ended = apptainer.call(
        *("apptainer", "exec", *CONTAINED, *mounts, f"{SHARED / from_archive}"),
        *("sh", "-c", fill, "sh"),
        *("/data", "/out", "participant", *TINY),
    )
    assert_segmented(ended, apptainer.shared / "out" / "full")


@pytest.mark.parametrize(
    ("name", "flags", "environment"),
    [
        ("handed-over", CONTAINED, {"APPTAINERENV_SLURM_CPUS_PER_TASK": "1"}),
        ("of-the-host", ("--no-home",), {"SLURM_CPUS_PER_TASK": "1"}),
    ],
)
def test_what_slurm_gave_the_job_is_the_default(
    apptainer: Apptainer,
    from_archive: str,
    name: str,
    flags: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    prefix = next(iter(environment)).removesuffix("SLURM_CPUS_PER_TASK")
    environment = environment | {f"{prefix}SLURM_MEM_PER_NODE": "2000"}
    binds = BROKEN | apptainer.fresh(name)
    ended = apptainer.run(
        *(from_archive, "/data", "/out", "participant", *TINY[:4]),
        flags=flags,
        binds=binds,
        environment=environment,
    )
    assert ended.exit_code == 1, ended.stderr
    settings = settings_of(apptainer.shared / "out" / name)
    assert (settings["n_procs"], settings["memory_gb"]) == (1, 1.8)  # 0.9 * 2000 MiB


@pytest.fixture
def job_cgroup() -> Iterator[Path]:
    """A control group of 3 GiB, such as a scheduler makes for a job (version 1 or 2)."""
    mounts = Path("/sys/fs/cgroup")
    version_1 = mounts / "memory" / "memory.limit_in_bytes"
    folder = (version_1.parent if version_1.exists() else mounts) / f"deepmrseg-{os.getpid()}"
    folder.mkdir()
    limit = folder / ("memory.limit_in_bytes" if version_1.exists() else "memory.max")
    try:
        if not limit.exists():
            pytest.skip("this machine lets no memory controller into groups below the root")
        limit.write_text(str(3 * 2**30), encoding="utf-8")
        yield folder
    finally:
        folder.rmdir()


def test_the_memory_of_the_job_is_the_default_even_contained(
    apptainer: Apptainer, from_archive: str, job_cgroup: Path
) -> None:
    binds = BROKEN | apptainer.fresh("job")
    flags = ("/data", "/out", "participant", *TINY)
    ended = apptainer.run(from_archive, *flags, binds=binds, cgroup=job_cgroup)
    assert ended.exit_code == 1, ended.stderr
    assert settings_of(apptainer.shared / "out" / "job")["memory_gb"] == 2.8  # 0.9 * 3 GiB
