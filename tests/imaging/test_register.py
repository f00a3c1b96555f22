"""Heads come back onto one another from wherever they were moved, and are told when they do not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name under which its users know it
from scipy.spatial.transform import Rotation

from bids_deepmrseg.errors import InputDataError, OutputError
from bids_deepmrseg.imaging.agreement import head_mask
from bids_deepmrseg.imaging.alignment import mask_points, mean_displacement_mm, rigid_about
from bids_deepmrseg.imaging.grid import Affine, Grid
from bids_deepmrseg.imaging.nifti import Scan
from bids_deepmrseg.imaging.register import read_transform, register_rigid, write_transform
from bids_deepmrseg.imaging.registration import Registration
from tests.makers import make_grid, make_head

WITHIN_MM = 1.5
XFM = "sub-1_from-T1w_to-FLAIR_mode-image_xfm.txt"


def head(geometry: str, suffix: str, *, stripped: bool = False) -> Scan:
    """A head whose brain is folded from two tissues, nowhere symmetric: smooth shells alone turn
    upon one another unseen.
    """
    grid = make_grid(geometry)
    data = make_head(grid, suffix=suffix, seed=len(suffix))
    ijk = np.indices(grid.shape).reshape(3, -1)
    xyz = (grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]).reshape(3, *grid.shape)
    generator = np.random.default_rng(0)
    folds = np.zeros(grid.shape)
    for _ in range(12):
        wave = generator.normal(size=3)
        wave *= 2 * np.pi / generator.uniform(30, 60) / np.linalg.norm(wave)
        folds += np.cos(np.tensordot(wave, xyz, 1) + generator.uniform(0, 2 * np.pi))
    x, y, z = xyz
    brain = (x / 64) ** 2 + (y / 78) ** 2 + ((z - 2) / 62) ** 2 <= 1
    white, grey = (90, 110) if suffix == "FLAIR" else (130, 85)
    noise = generator.normal(0, 2, grid.shape)
    data[brain] = (np.where(folds > 0, white, grey) + noise)[brain]
    if stripped:
        data[~brain] = 0
    return Scan(data.astype(np.float32), grid)


def displacement(seed: int, shift_mm: float = 18.0, angle_deg: float = 13.0) -> Affine:
    directions = np.random.default_rng(seed).normal(size=(2, 3))
    shift, axis = (d / np.linalg.norm(d) for d in directions)
    turn = Rotation.from_rotvec(axis * np.deg2rad(angle_deg)).as_matrix()
    return rigid_about((0, 0, 0), turn, shift * shift_mm)


def displaced(scan: Scan, matrix: Affine) -> Scan:
    return Scan(scan.data, Grid(scan.grid.shape, matrix @ scan.grid.affine))


def apart_mm(found: Registration, truth: Affine, fixed: Scan) -> float:
    return mean_displacement_mm(found.matrix, truth, mask_points(head_mask(fixed), fixed.grid))


@pytest.mark.parametrize(
    ("fixed", "moving", "stripped"),
    [
        ("RAS", "LIA", False),
        ("anisotropic", "RAS", False),
        ("anisotropic", "anisotropic", False),
        ("odd", "anisotropic", True),
        ("oblique", "LPS", True),
    ],
)
def test_a_displaced_scan_comes_back(fixed: str, moving: str, stripped: bool) -> None:
    flair = head(fixed, "FLAIR", stripped=stripped)
    truth = displacement(seed=3)
    found = register_rigid(flair, displaced(head(moving, "T1w", stripped=stripped), truth))
    assert apart_mm(found, truth, flair) < WITHIN_MM
    assert found.metric_after > found.metric_before
    assert found.overlap_after > max(found.overlap_before, 0.9)
    assert found.converged
    assert found.doubt is None


def test_scans_that_lie_upon_each_other_stay() -> None:
    flair = head("anisotropic", "FLAIR")
    found = register_rigid(flair, head("anisotropic", "T1w"))
    assert found.moved_mm < WITHIN_MM
    assert found.doubt is None


def test_a_header_of_another_place_is_overcome_and_told() -> None:
    flair, truth = head("RAS", "FLAIR"), displacement(5, shift_mm=300.0)
    found = register_rigid(flair, displaced(head("LAS", "T1w"), truth))
    assert apart_mm(found, truth, flair) < WITHIN_MM
    assert found.start != "header"
    assert found.overlap_before == 0
    assert found.doubt is not None
    assert "300 mm" in found.doubt


def test_a_smaller_field_of_view_is_enough() -> None:
    flair, whole, truth = head("anisotropic", "FLAIR"), head("RAS", "T1w"), displacement(7, 10, 6)
    upper = whole.grid.affine.copy()
    upper[:3, 3] += upper[:3, 2] * 12
    slab = Scan(whole.data[:, :, 12:], Grid((*whole.grid.shape[:2], 28), upper))
    found = register_rigid(flair, displaced(slab, truth))
    assert apart_mm(found, truth, flair) < WITHIN_MM
    assert found.covered < 0.9


def test_what_shows_no_head_is_doubted() -> None:
    flair = head("RAS", "FLAIR")
    noise = np.random.default_rng(0).uniform(0, 100, flair.grid.shape).astype(np.float32)
    assert register_rigid(flair, Scan(noise, flair.grid)).doubt is not None


def test_the_brains_are_what_is_judged_by_where_they_are_given() -> None:
    flair, t1w = head("RAS", "FLAIR"), head("RAS", "T1w", stripped=True)
    brain = head_mask(t1w)
    by_heads = register_rigid(flair, t1w)
    by_brains = register_rigid(flair, t1w, fixed_mask=brain, moving_mask=brain)
    assert by_brains.overlap_after > 0.95 > by_heads.overlap_after
    np.testing.assert_array_equal(by_brains.matrix, by_heads.matrix)


@pytest.fixture
def many_threads() -> Iterator[None]:
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(5)
    yield
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def test_the_result_is_the_same_each_time() -> None:
    flair, t1w = head("anisotropic", "FLAIR"), displaced(head("RAS", "T1w"), displacement(1))
    first, second = (register_rigid(flair, t1w).matrix for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_result_is_the_same_on_any_number_of_cores(request: pytest.FixtureRequest) -> None:
    flair, t1w = head("anisotropic", "FLAIR"), displaced(head("RAS", "T1w"), displacement(1))
    few = register_rigid(flair, t1w).matrix
    request.getfixturevalue("many_threads")
    np.testing.assert_array_equal(few, register_rigid(flair, t1w).matrix)


def test_a_written_transform_reads_back_and_moves_points_in_itk_alike(tmp_path: Path) -> None:
    matrix = displacement(2)
    file = write_transform(matrix, tmp_path / "anat" / XFM)
    np.testing.assert_allclose(read_transform(file), matrix, atol=1e-12)
    itk = sitk.ReadTransform(str(file))
    for point in np.random.default_rng(0).uniform(-100, 100, (5, 3)):
        left_back_top = (-point[0], -point[1], point[2])
        x, y, z = itk.TransformPoint(left_back_top)
        np.testing.assert_allclose((-x, -y, z), (matrix @ [*point, 1])[:3], atol=1e-9)
    assert [each.name for each in file.parent.iterdir()] == [XFM]


def test_itk_resamples_by_the_written_transform_what_our_own_geometry_does(tmp_path: Path) -> None:
    from bids_deepmrseg.imaging.alignment import resample_onto  # noqa: PLC0415 - used here only

    source, target, matrix = make_grid("oblique"), make_grid("LPS"), displacement(4)
    data = make_head(source)
    ours = resample_onto(data, source, target, matrix)

    def image(values: np.ndarray, grid: Grid) -> sitk.Image:
        made = sitk.GetImageFromArray(values.T)
        affine = np.diag([-1, -1, 1, 1]) @ grid.affine
        made.SetSpacing(grid.spacing_mm)
        made.SetOrigin(affine[:3, 3])
        made.SetDirection((affine[:3, :3] / grid.spacing_mm).ravel())
        return made

    transform = sitk.ReadTransform(str(write_transform(matrix, tmp_path / XFM)))
    reference = image(np.zeros(target.shape, np.float32), target)
    theirs = sitk.GetArrayFromImage(sitk.Resample(image(data, source), reference, transform)).T
    inside = theirs > 0
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=0.01)
    assert inside.mean() > 0.6


def test_transforms_of_other_programs_are_read(tmp_path: Path) -> None:
    euler = sitk.Euler3DTransform((10.0, 20.0, 30.0), 0.1, -0.2, 0.3, (4.0, 5.0, 6.0))
    sitk.WriteTransform(euler, str(tmp_path / "euler.tfm"))
    x, y, z = euler.TransformPoint((-1.0, -2.0, 3.0))
    matrix = read_transform(tmp_path / "euler.tfm")
    np.testing.assert_allclose((matrix @ [1, 2, 3, 1])[:3], (-x, -y, z), atol=1e-9)


def test_a_file_that_holds_no_linear_transform_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="does not exist"):
        read_transform(tmp_path / "none.txt")
    (tmp_path / "text.txt").write_text("moved a little\n", encoding="utf-8")
    with pytest.raises(InputDataError, match="not an ITK transform"):
        read_transform(tmp_path / "text.txt")
    bent = sitk.BSplineTransform(3)
    sitk.WriteTransform(bent, str(tmp_path / "bent.txt"))
    with pytest.raises(InputDataError, match="linear"):
        read_transform(tmp_path / "bent.txt")


def test_a_transform_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "anat").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        write_transform(np.eye(4), tmp_path / "anat" / XFM)
