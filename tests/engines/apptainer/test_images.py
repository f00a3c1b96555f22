"""The Singularity definition, built and run with Apptainer by a user who is not root."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bids_deepmrseg.cli.app import main
from bids_deepmrseg.stages.status import read_status
from tests.engines.apptainer.conftest import FROM_ARCHIVE
from tests.engines.apptainer.engine import (
    ENTER,
    SHARED,
    WORKERS,
    Apptainer,
    Ended,
)
from tests.engines.apptainer.results import (
    BROKEN,
    MAP,
    REVISION,
    TINY,
    TWO,
    VERSION,
    assert_segmented,
)
from tests.engines.conftest import REPOSITORY, BaseImage
from tests.makers import open_nifti

pytestmark = pytest.mark.engine("apptainer")

LABEL = "org.opencontainers.image."


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
