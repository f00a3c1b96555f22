"""The Singularity definition, built and run with Apptainer by a user who is not root."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.cli.app import main
from bids_deepmrseg.stages.status import read_status
from tests.engines.apptainer.engine import (
    CONTAINED,
    ENTER,
    SHARED,
    USER_ID,
    WORKERS,
    Apptainer,
    Ended,
)
from tests.engines.conftest import REPOSITORY, BaseImage, run_setup
from tests.engines.podman import Podman, build_options, environment
from tests.makers import bids_path, make_dataset, make_model_folder, make_task, open_nifti

pytestmark = pytest.mark.engine("apptainer")

VERSION = (REPOSITORY / "version").read_text(encoding="utf-8").strip()
REVISION = "0123456789abcdef"
LABEL = "org.opencontainers.image."
TAG = f"localhost/bids-deepmrseg:{VERSION}-test"
FROM_ARCHIVE, FROM_IMAGE = "from-archive.sif", "from-image.sif"
# less small than by default, and made in a tenth of the time
QUICK = ("--mksquashfs-args", "-comp zstd -Xcompression-level 1")
TINY = ("--models-dir", "/models", "--task", "tiny", *WORKERS)
TWO = {"/data:ro": "two scans", "/models:ro": "models"}
BROKEN = {"/data:ro": "broken", "/models:ro": "models"}
MAP = "sub-{}/anat/sub-{}_space-T1w_seg-{}_dseg.nii.gz"


@pytest.fixture(scope="session")
def apptainer(engines_dir: Path) -> Apptainer:
    """Apptainer, with nothing left of former tests but images, and datasets to run on."""
    run_setup("setup_apptainer.sh")
    engine = Apptainer(engines_dir / "apptainer" / "shared")
    for left in engine.shared.iterdir():
        if left.name not in ("cache", "home", "tmp") and left.suffix != ".sif":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    make_dataset(
        engine.shared / "two scans",
        ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"),
        participants=True,
    )
    broken = make_dataset(engine.shared / "broken", ("sub-01_T1w.nii.gz",))
    scan = broken / bids_path("sub-01_T1w.nii.gz")
    scan.write_bytes(scan.read_bytes()[:2000])
    make_model_folder(engine.shared / "models", make_task(indices=(1, 2, 300)))
    engine.own()
    return engine


@pytest.fixture(scope="session")
def from_archive(apptainer: Apptainer, base_image: BaseImage) -> str:
    """The definition, built from Python's image in a local archive."""
    if apptainer.is_current(FROM_ARCHIVE, base_image.archive):
        return FROM_ARCHIVE
    base = apptainer.shared / "python.tar"
    shutil.copy(base_image.archive, base)
    arguments = {
        "BOOTSTRAP": "docker-archive",
        "FROM": f"{SHARED / base.name}",
        "REVISION": REVISION,
    }
    built = apptainer.build(FROM_ARCHIVE, *QUICK, base=base_image, arguments=arguments)
    base.unlink()
    tell(apptainer, FROM_ARCHIVE, built)
    return FROM_ARCHIVE


@pytest.fixture(scope="session")
def image_archive(apptainer: Apptainer, base_image: BaseImage) -> Path:
    """What the Dockerfile makes, as ``docker save`` writes it."""
    env = environment(base_image)
    options = shlex.join(build_options(base_image))
    image = ["make", "image", "ENGINE=podman", f"IMAGE={TAG}", f"IMAGE_OPTIONS={options}"]
    subprocess.run(
        [*image, f"REVISION={REVISION}"], cwd=REPOSITORY, env=env, check=True, capture_output=True
    )
    archive = apptainer.shared / "image.tar"
    archive.unlink(missing_ok=True)
    Podman(env, TAG).call("save", "--format", "docker-archive", "--output", str(archive), TAG)
    apptainer.own(archive)
    return archive


@pytest.fixture(scope="session")
def from_image(apptainer: Apptainer, base_image: BaseImage, image_archive: Path) -> str:
    """The definition, built from the image that the Dockerfile makes."""
    arguments = {"BOOTSTRAP": "docker-archive", "FROM": f"{SHARED / image_archive.name}"}
    built = apptainer.build(FROM_IMAGE, *QUICK, base=base_image, arguments=arguments)
    tell(apptainer, FROM_IMAGE, built)
    assert "pip install" not in built.stderr
    return FROM_IMAGE


@pytest.fixture(params=[FROM_ARCHIVE, FROM_IMAGE])
def sif(request: pytest.FixtureRequest) -> str:
    """Each image in turn."""
    name: str = request.getfixturevalue(request.param.removesuffix(".sif").replace("-", "_"))
    return name


def tell(apptainer: Apptainer, sif: str, built: Ended) -> None:
    """Fail with what a build said, or say what it took."""
    assert built.exit_code == 0, built.stdout[-3000:] + built.stderr[-3000:]
    size_mb = (apptainer.shared / sif).stat().st_size / 1e6
    print(f"{sif}: built in {built.seconds:.0f} s, {size_mb:.0f} MB")


def settings_of(out: Path) -> dict[str, object]:
    """Settings of the only run on an output folder."""
    (file,) = out.glob("logs/*/settings.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def assert_segmented(ended: Ended, out: Path) -> None:
    """Both scans have a label map and nothing of another user."""
    assert ended.exit_code == 0, ended.stdout + ended.stderr
    for subject in ("01", "02"):
        assert np.asanyarray(open_nifti(out / MAP.format(subject, subject, "tiny")).dataobj).any()
    made = [out, *out.rglob("*")]
    assert {(file.stat().st_uid, file.stat().st_gid) for file in made} == {(USER_ID, USER_ID)}
    assert not (out / "work").exists()


@pytest.fixture(scope="session")
def contained(apptainer: Apptainer, from_archive: str) -> tuple[Path, Ended, Ended]:
    """Participant and group level, with nothing of the host and no network."""
    binds = TWO | apptainer.fresh("contained")
    participant = apptainer.run(from_archive, "/data", "/out", "participant", *TINY, binds=binds)
    group = apptainer.run(from_archive, "/data", "/out", "group", binds=binds)
    return apptainer.shared / "out" / "contained", participant, group


def test_labels_tell_version_and_revision(apptainer: Apptainer, sif: str) -> None:
    told = apptainer.call("apptainer", "inspect", "--json", "--labels", SHARED / sif)
    labels = json.loads(told.stdout)["data"]["attributes"]["labels"]
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    for name in ("title", "description", "licenses"):
        assert f'{LABEL}{name}="{labels[LABEL + name]}"' in dockerfile
    assert (labels[f"{LABEL}version"], labels[f"{LABEL}revision"]) == (VERSION, REVISION)


def test_help_tells_how_to_run(apptainer: Apptainer, sif: str) -> None:
    told = apptainer.call("apptainer", "run-help", SHARED / sif).stdout
    assert "-B DATA:/data:ro -B OUT:/out deepmrseg.sif /data /out participant" in told


def test_an_image_passes_its_own_test(apptainer: Apptainer, sif: str) -> None:
    told = apptainer.call("apptainer", "test", "--containall", SHARED / sif)
    assert told.exit_code == 0, told.stderr
    models = (REPOSITORY / "bids_deepmrseg" / "data" / "models").glob("*/model.json")
    assert re.findall(r"weights of (\w+) are whole", told.stdout) == sorted(
        file.parent.name for file in models
    )


def test_an_image_with_damaged_weights_fails_its_own_test(
    apptainer: Apptainer, from_archive: str
) -> None:
    found = apptainer.call(
        *("apptainer", "exec", SHARED / from_archive, "sh", "-c"),
        "ls /opt/deepmrseg/lib/python3*/site-packages/bids_deepmrseg/data/models/*/*.safetensors",
    )
    weights = found.stdout.split()[-1]
    source = REPOSITORY / "bids_deepmrseg" / "data" / "models"
    damaged = bytearray((source / Path(weights).parent.name / Path(weights).name).read_bytes())
    damaged[-5] ^= 1
    (apptainer.shared / "damaged").write_bytes(damaged)
    told = apptainer.call(
        *("apptainer", "test", "--containall", "--bind", f"{SHARED}/damaged:{weights}"),
        SHARED / from_archive,
    )
    assert told.exit_code != 0
    assert Path(weights).name in told.stderr


def test_the_app_is_there_once_and_anybody_may_read_it(apptainer: Apptainer, sif: str) -> None:
    told = apptainer.call(
        *("apptainer", "exec", SHARED / sif, "sh", "-c"),
        "find / -xdev -name bids_deepmrseg -type d; find / -xdev -path /src;"
        "find /opt ! -type l ! -perm -o=r; find /opt -type d ! -perm -o=x; echo $PATH",
    )
    *found, path = told.stdout.splitlines()
    assert [Path(name).parent.name for name in found] == ["site-packages"]
    assert path.split(":").count("/opt/deepmrseg/bin") == 1


def test_an_image_segments_without_network_and_host(
    apptainer: Apptainer, contained: tuple[Path, Ended, Ended]
) -> None:
    out, participant, group = contained
    assert_segmented(participant, out)
    assert group.exit_code == 0, group.stderr
    assert len((out / "group_tiny.tsv").read_text("utf-8").splitlines()) == 3


def test_results_name_the_image(contained: tuple[Path, Ended, Ended]) -> None:
    description = json.loads((contained[0] / "dataset_description.json").read_text("utf-8"))
    assert description["GeneratedBy"][0]["Container"] == {"Type": "apptainer", "Tag": FROM_ARCHIVE}
    assert description["GeneratedBy"][0]["Version"] == VERSION


def test_labels_in_the_image_are_those_outside(
    apptainer: Apptainer, contained: tuple[Path, Ended, Ended], tmp_path: Path
) -> None:
    raw, models = apptainer.shared / "two scans", apptainer.shared / "models"
    flags = ("--models-dir", str(models), "--task", "tiny", *WORKERS)
    assert main([str(raw), str(tmp_path), "participant", *flags]) == 0
    for subject in ("01", "02"):
        name = MAP.format(subject, subject, "tiny")
        inside, outside = open_nifti(contained[0] / name), open_nifti(tmp_path / name)
        np.testing.assert_array_equal(inside.dataobj, outside.dataobj)


def test_a_shipped_task_finds_the_same_brain_as_outside(
    apptainer: Apptainer, from_archive: str, tmp_path: Path
) -> None:
    raw = apptainer.shared / "template"
    maker = REPOSITORY / "docs" / "demo" / "make_dataset.py"
    subprocess.run([sys.executable, maker, raw], check=True, capture_output=True)
    apptainer.own(raw)
    flags = ("participant", "--task", "brainmask", *WORKERS)
    binds = {"/data:ro": "template"} | apptainer.fresh("template")
    ended = apptainer.run(from_archive, "/data", "/out", *flags, binds=binds)
    assert ended.exit_code == 0, ended.stderr
    assert main([str(raw), str(tmp_path), *flags]) == 0
    name = MAP.format("mni152", "mni152", "brainmask")
    inside, outside = (
        open_nifti(one / name) for one in (apptainer.shared / "out/template", tmp_path)
    )
    brain = np.asanyarray(inside.dataobj)
    assert 1e6 < np.count_nonzero(brain) < 2.5e6  # voxels of 1 mm3
    np.testing.assert_array_equal(brain, outside.dataobj)


def test_a_broken_scan_is_told_by_the_exit_code(apptainer: Apptainer, from_archive: str) -> None:
    binds = BROKEN | apptainer.fresh("broken")
    ended = apptainer.run(from_archive, "/data", "/out", "participant", *TINY, binds=binds)
    assert ended.exit_code == 1, ended.stderr
    (status,) = (apptainer.shared / "out" / "broken").glob("logs/*/status.tsv")
    assert [one.status for one in read_status(status)] == ["failed"]


def test_wrong_flags_are_told_by_the_exit_code(apptainer: Apptainer, sif: str) -> None:
    ended = apptainer.run(sif, "/data", "/out", "participant", "--no-such-flag")
    assert ended.exit_code == os.EX_USAGE
    assert "--no-such-flag" in ended.stderr


def test_arguments_with_blanks_and_quotes_arrive_as_they_are(
    apptainer: Apptainer, sif: str
) -> None:
    folder = "two 'quoted'  \"scans\" $HOME * \\n"
    ended = apptainer.run(sif, f"/{folder}", "/tmp/out", "participant")
    assert f"the dataset /{folder} is not a folder" in ended.stderr


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


@pytest.fixture
def registry(apptainer: Apptainer) -> Iterator[str]:
    """Address of a registry of images on this machine; it is empty."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    storage = {"filesystem": {"rootdirectory": str(SHARED / "registry")}}
    config = {"version": 0.1, "storage": storage, "http": {"addr": address}}
    (apptainer.shared / "registry.yml").write_text(json.dumps(config), encoding="utf-8")
    serve = ("docker-registry", "serve", str(SHARED / "registry.yml"))
    with subprocess.Popen(
        [ENTER, *serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        yield address
        server.terminate()
    shutil.rmtree(apptainer.shared / "registry", ignore_errors=True)


def test_the_definition_builds_from_a_registry(
    apptainer: Apptainer, base_image: BaseImage, image_archive: Path, registry: str
) -> None:
    """Into a folder, which is as good as an image and made sooner."""
    image = f"{registry}/bids-deepmrseg:{VERSION}"
    pushed = apptainer.call(
        *("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--retry-times=5"),
        *(f"docker-archive:{SHARED / image_archive.name}", f"docker://{image}"),
    )
    assert pushed.exit_code == 0, pushed.stderr
    flags = ("--no-https", "--notest", "--sandbox")
    built = apptainer.build("sandbox", *flags, base=base_image, arguments={"FROM": image})
    assert built.exit_code == 0, built.stderr
    told = apptainer.run("sandbox", "--version")
    shutil.rmtree(apptainer.shared / "sandbox")
    assert told.stdout.split() == ["bids-deepmrseg", VERSION], told.stderr
