"""The image: built by podman without a registry, run without network, home, name or /tmp."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.errors import OutputError, UsageError
from bids_deepmrseg.files import read_json, read_tsv
from tests.engines.conftest import REPOSITORY, BaseImage
from tests.engines.podman import (
    NO_NETWORK,
    STRANGER,
    UID,
    Podman,
    build_options,
    environment,
    mounted,
    owners,
    processes_of,
)
from tests.makers import bids_path, make_dataset, make_model_folder, make_task, open_nifti

pytestmark = pytest.mark.engine("container")

VERSION = (REPOSITORY / "version").read_text("utf-8").strip()
TAG = f"localhost/bids-deepmrseg:{VERSION}-test"
ONE_THREAD = ("--n-procs", "1", "--omp-nthreads", "1")
TINY = ("--models-dir", "/models", "--task", "tiny", *ONE_THREAD)
BUILT_FROM = {"constraints.txt", "LICENSE", "NOTICE", "pyproject.toml", "README.md", "version"}
OTHER_UID = 12399  # whose processes are counted
NO_TMP = ("--read-only-tmpfs=false",)  # what --read-only means to docker
SMALL_TMP = ("--tmpfs", "/tmp:size=1m,mode=1777")

LOOK_AROUND = """
import importlib, json, pathlib, pkgutil, sys
import bids_deepmrseg
for module in pkgutil.walk_packages(bids_deepmrseg.__path__, "bids_deepmrseg."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
specs = [vars(module).get("__spec__") for module in list(sys.modules.values())]
cached = [spec.cached for spec in specs if spec and spec.cached]
cached = [file for file in cached if file.startswith("/opt/deepmrseg")]
print(json.dumps({"loaded": len(cached),
                  "uncompiled": [file for file in cached if not pathlib.Path(file).exists()]}))
"""


def revision() -> str:
    """The commit that the tests run on, as ``make image`` tells it."""
    head = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(
        head, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="session")
def podman(base_image: BaseImage) -> Podman:
    """Podman with our image, built by ``make image`` from the Dockerfile as it stands."""
    env = environment(base_image)
    options = shlex.join(build_options(base_image))
    image = ["make", "image", "ENGINE=podman", f"IMAGE={TAG}", f"IMAGE_OPTIONS={options}"]
    done = subprocess.run(image, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        pytest.fail(f"the build failed: {done.stdout.decode()[-3000:]}", pytrace=False)
    return Podman(env, TAG)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model of the tiny task."""
    folder = tmp_path_factory.mktemp("tiny") / "models"  # which others may read
    make_model_folder(folder, make_task())
    return folder


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good scans, one of them oblique, and a broken one."""
    scans = {"sub-01_T1w.nii.gz": "LPS", "sub-02_T1w.nii.gz": "oblique", "sub-03_T1w.nii.gz": "RAS"}
    folder = make_dataset(tmp_path_factory.mktemp("container") / "bids", scans)
    broken = folder / bids_path("sub-03_T1w.nii.gz")
    broken.write_bytes(broken.read_bytes()[:2000])
    return folder


def run_outside(*arguments: str) -> int:
    """Exit code of the package that is installed beside the tests."""
    command = [sys.executable, "-m", "bids_deepmrseg", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


def label_maps(out: Path) -> dict[str, Path]:
    """Label maps and masks of an output folder, by name."""
    return {file.name: file for file in out.rglob("*_dseg.nii.gz")} | {
        file.name: file for file in out.rglob("*_mask.nii.gz")
    }


def assert_equal_maps(out: Path, other: Path, *, n: int) -> None:
    """Both folders hold the same maps, on the same grids, voxel for voxel."""
    ours, theirs = label_maps(out), label_maps(other)
    assert len(ours) == n
    assert ours.keys() == theirs.keys()
    for name, file in ours.items():
        image, expected = open_nifti(file), open_nifti(theirs[name])
        np.testing.assert_array_equal(image.affine, expected.affine)
        np.testing.assert_array_equal(image.get_fdata(), expected.get_fdata())
        assert image.get_fdata().any()


def run_log_dir(out: Path) -> Path:
    """The log folder of the only run on an output folder."""
    (file,) = out.glob("logs/*/environment.json")
    return file.parent


def test_the_build_sees_nothing_but_what_the_package_is_made_of(
    podman: Podman, tmp_path: Path
) -> None:
    recipe = tmp_path / "Containerfile"
    recipe.write_text("FROM scratch\nCOPY . /\n", encoding="utf-8")
    done = podman.call("build", "--quiet", "--file", str(recipe), str(REPOSITORY))
    identity = done.stdout.strip()
    root = Path(podman.call("image", "mount", identity).stdout.strip())
    try:
        seen = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    finally:
        podman.call("image", "unmount", identity)
        podman.call("image", "rm", "--force", identity)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "bids_deepmrseg"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen == BUILT_FROM | set(listed.stdout.splitlines())


def test_labels_tell_version_and_revision(podman: Podman) -> None:
    labels = json.loads(podman.inspect("json .Config.Labels"))
    prefix = "org.opencontainers.image."
    told = {key.removeprefix(prefix): labels[key] for key in labels if key.startswith(prefix)}
    assert told.keys() == {"title", "description", "licenses", "version", "revision"}
    assert told["title"] == "bids-deepmrseg"
    assert told["revision"] == revision()
    done = podman.run("--version")
    assert (done.returncode, done.stdout.split()) == (0, ["bids-deepmrseg", told["version"]])
    assert told["version"] == VERSION


def test_a_label_is_not_that_of_an_earlier_build(podman: Podman, base_image: BaseImage) -> None:
    """Nothing but the revision differs, so that all layers are in the cache."""
    told = []
    for number in ("1", "2"):
        options = [*build_options(base_image), "--build-arg", f"REVISION={number}"]
        podman.call("build", "--tag", "localhost/deepmrseg-label", *options, str(REPOSITORY))
        what = ("image", "inspect", "--format", "{{json .Config.Labels}}")
        labels = json.loads(podman.call(*what, "localhost/deepmrseg-label").stdout)
        told.append(labels["org.opencontainers.image.revision"])
    assert told == ["1", "2"]


def test_another_version_than_that_of_the_code_is_not_built(
    podman: Podman, base_image: BaseImage
) -> None:
    options = [*build_options(base_image), "--target", "build", "--build-arg", "VERSION=9.9.9"]
    done = podman.call("build", *options, str(REPOSITORY), check=False)
    assert done.returncode
    assert f"VERSION is 9.9.9, but this is {VERSION}" in done.stdout + done.stderr


def test_everyone_can_read_every_file_and_nobody_is_root(podman: Podman) -> None:
    closed = "( -type d -not -perm -o=rx ) -o ( -type f -not -perm -o=r )"
    assert podman.script("find", "/opt/deepmrseg", "/usr/bin/tini", *closed.split()) == ""
    commands = "/opt/deepmrseg/bin -type f -name *deepmrseg* -perm -o=rx"
    assert len(podman.script("find", *commands.split()).splitlines()) == 4
    user, _, group = podman.inspect(".Config.User").strip().partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_the_image_holds_no_pip_no_tests_and_no_compiler(podman: Podman) -> None:
    listed = podman.script("find", "/opt/deepmrseg", "/usr/bin", "-name", "*").splitlines()
    names = {Path(line).name for line in listed}
    assert "torch" in names
    assert names & {"pip", "gcc", "cc", "g++", "make", "tests"} == set()


def test_every_module_loads_from_bytecode(podman: Podman) -> None:
    found = json.loads(podman.script("/opt/deepmrseg/bin/python", "-c", LOOK_AROUND))
    assert found["uncompiled"] == []
    assert found["loaded"] > 1000


@pytest.mark.parametrize("program", ["train", "evaluate", "model"])
def test_the_other_commands_are_there(podman: Podman, program: str) -> None:
    assert "usage" in podman.script(f"/opt/deepmrseg/bin/deepmrseg-{program}", "--help")


def test_the_health_line_runs(podman: Podman) -> None:
    recipe = (REPOSITORY / "Dockerfile").read_text("utf-8")
    (line,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", recipe, re.MULTILINE)
    assert podman.script(*json.loads(line)).strip() == f"bids-deepmrseg {VERSION}"


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_without_arguments_it_says_how_it_is_used(
    podman: Podman, arguments: tuple[str, ...]
) -> None:
    done = podman.run(*arguments, options=NO_NETWORK)
    assert done.returncode == 0
    assert "usage: bids-deepmrseg" in done.stdout


def test_a_wrong_flag_ends_with_the_code_for_usage(podman: Podman) -> None:
    done = podman.run("/data", "/out", "participant", "--no-such-flag")
    assert done.returncode == UsageError.exit_code
    assert "--no-such-flag" in done.stderr


def test_an_unknown_user_segments_without_network_and_home(
    podman: Podman, raw: Path, models: Path, tmp_path: Path
) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    options = (*STRANGER, "--env", "HOME=/nonexistent", *mounted(raw, out, models=models))
    done = podman.run("/data", "/out", "participant", *TINY, options=options)
    assert done.returncode == 1, done.stderr  # one scan is broken, the others are segmented
    assert "sub-03" in done.stderr
    group = podman.run("/data", "/out", "group", options=options)
    assert group.returncode == 0, group.stderr
    assert owners(out) == {(UID, UID)}
    flags = ("--models-dir", str(models), *TINY[2:])
    assert run_outside(str(raw), str(outside), "participant", *flags) == 1
    assert_equal_maps(out, outside, n=2)
    _, rows = read_tsv(run_log_dir(out) / "status.tsv")
    assert sorted(row["status"] for row in rows) == ["done", "done", "failed"]
    assert list(out.glob("group_*.tsv"))
    made_by = read_json(out / "dataset_description.json")["GeneratedBy"]
    assert isinstance(made_by, list)
    assert [one["Container"] for one in made_by if isinstance(one, dict)] == [
        {"Type": "docker", "Tag": TAG}
    ]
    assert not (out / "work").exists()


@pytest.mark.parametrize("tmp", [NO_TMP, SMALL_TMP], ids=["no-tmp", "small-tmp"])
def test_limits_of_the_container_are_what_the_app_goes_by(
    podman: Podman, raw: Path, models: Path, tmp_path: Path, tmp: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    limits = ("--memory", "3g", "--cpus", "1", "--unsetenv", "HOME", "--unsetenv", "LOGNAME")
    options = (*STRANGER, *tmp, *limits, *mounted(raw, out, models=models))
    flags = ("--models-dir", "/models", "--task", "tiny", "--participant-label", "01", "02")
    done = podman.run("/data", "/out", "participant", *flags, options=options)
    assert done.returncode == 0, done.stderr
    told = read_json(run_log_dir(out) / "environment.json")
    assert (told["CPUs"], told["MemoryGB"]) == (1, 2.8)  # nine tenths of 3 GiB
    assert owners(out) == {(UID, UID)}
    assert len(label_maps(out)) == 2


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's dataset: a head of 1 mm, and a simulated FLAIR."""
    folder = tmp_path_factory.mktemp("template") / "bids"
    made = [sys.executable, "docs/demo/make_dataset.py", str(folder)]
    subprocess.run(made, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    return folder


def test_a_shipped_task_gives_what_it_gives_outside(
    podman: Podman, template: Path, tmp_path: Path
) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    options = (*STRANGER, *NO_TMP, *mounted(template, out))
    flags = ("--task", "brainmask", *ONE_THREAD)
    done = podman.run("/data", "/out", "participant", *flags, options=options)
    assert done.returncode == 0, done.stderr
    assert podman.run("/data", "/out", "group", options=options).returncode == 0
    assert run_outside(str(template), str(outside), "participant", *flags) == 0
    assert_equal_maps(out, outside, n=2)  # the label map and the mask
    assert owners(out) == {(UID, UID)}


def test_a_dangling_link_is_named(podman: Podman, raw: Path, models: Path, tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "bids", ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"))
    absent = data / bids_path("sub-02_T1w.nii.gz")
    absent.unlink()
    absent.symlink_to("../../.git/annex/objects/Xx/Yy/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz")
    options = (*STRANGER, *mounted(data, tmp_path / "out", models=models))
    done = podman.run("/data", "/out", "participant", *TINY, "--dry-run", options=options)
    assert "sub-02_T1w.nii.gz" in done.stdout + done.stderr
    assert "link" in done.stdout + done.stderr


def test_an_output_folder_of_another_user_is_refused_in_a_sentence(
    podman: Podman, raw: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = (*STRANGER, *mounted(raw, out, models=models))
    os.chown(out, 0, 0)
    out.chmod(0o755)
    done = podman.run("/data", "/out", "participant", *TINY, options=options)
    assert done.returncode == OutputError.exit_code
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def started(podman: Podman, template: Path, tmp_path: Path) -> Iterator[str]:
    """The id of a container that has begun to segment."""
    out = tmp_path / "out"
    stranger = (*NO_NETWORK, "--read-only", "--user", f"{OTHER_UID}:{OTHER_UID}")
    shown = mounted(template, out)
    os.chown(out, OTHER_UID, OTHER_UID)
    arguments = ("/data", "/out", "participant", "--task", "deepbrain", *ONE_THREAD)
    identity = podman.call("run", "--detach", *stranger, *shown, TAG, *arguments).stdout.strip()
    end = time.monotonic() + 120
    while "cases to run" not in podman.call("logs", identity).stderr:
        assert time.monotonic() < end, "the container has not begun"
        time.sleep(0.5)
    while len(processes_of(OTHER_UID)) < 4:  # tini, the app, its worker and the case
        assert time.monotonic() < end, "the case has not begun"
        time.sleep(0.2)
    yield identity
    podman.call("rm", "--force", "--time", "0", identity)


def test_a_stopped_container_ends_at_once_and_leaves_no_process(
    podman: Podman, started: str
) -> None:
    begin = time.monotonic()
    podman.call("stop", "--time", "60", started)
    assert time.monotonic() - begin < 30  # SIGTERM was enough
    code = podman.call("inspect", "--format", "{{.State.ExitCode}}", started).stdout.strip()
    assert code == "1"  # of a run that still says what became of its cases
    assert "the run was told to end (SIGTERM)" in podman.call("logs", started).stderr
    assert processes_of(OTHER_UID) == []
