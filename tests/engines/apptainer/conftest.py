"""Images of the Singularity definition, each built once, and datasets to run them on."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.engines.apptainer.engine import SHARED, Apptainer, Ended
from tests.engines.apptainer.results import REVISION, VERSION
from tests.engines.conftest import REPOSITORY, BaseImage, run_setup
from tests.engines.podman import Podman, build_options, environment
from tests.makers import bids_path, make_dataset, make_model_folder, make_task

TAG = f"localhost/bids-deepmrseg:{VERSION}-test"
FROM_ARCHIVE, FROM_IMAGE = "from-archive.sif", "from-image.sif"
# less small than by default, and made in a tenth of the time
QUICK = ("--mksquashfs-args", "-comp zstd -Xcompression-level 1")


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
