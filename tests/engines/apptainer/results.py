"""What is run in images, and what a run has to leave."""

from pathlib import Path

import numpy as np

from tests.engines.apptainer.engine import USER_ID, WORKERS, Ended
from tests.engines.conftest import REPOSITORY
from tests.makers import open_nifti

VERSION = (REPOSITORY / "version").read_text(encoding="utf-8").strip()
REVISION = "0123456789abcdef"
TINY = ("--models-dir", "/models", "--task", "tiny", *WORKERS)
TWO = {"/data:ro": "two scans", "/models:ro": "models"}
BROKEN = {"/data:ro": "broken", "/models:ro": "models"}
MAP = "sub-{}/anat/sub-{}_space-T1w_seg-{}_dseg.nii.gz"


def assert_segmented(ended: Ended, out: Path) -> None:
    """Both scans have a label map and nothing of another user."""
    assert ended.exit_code == 0, ended.stdout + ended.stderr
    for subject in ("01", "02"):
        assert np.asanyarray(open_nifti(out / MAP.format(subject, subject, "tiny")).dataobj).any()
    made = [out, *out.rglob("*")]
    assert {(file.stat().st_uid, file.stat().st_gid) for file in made} == {(USER_ID, USER_ID)}
    assert not (out / "work").exists()
