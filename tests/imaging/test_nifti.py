"""Every unusable file gets its sentence, and label maps land on exactly the grid of their scan."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from bids_deepmrseg.errors import GeometryError, InputDataError, OutputError
from bids_deepmrseg.imaging.nifti import read_grid, read_label_map, read_scan, write_like
from tests.makers import GEOMETRIES, make_grid, make_head, make_scan, open_nifti, write_nifti

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def ramp(*shape: int) -> npt.NDArray[np.float32]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def four_dimensions(file: Path) -> None:
    write_nifti(file, ramp(9, 9, 9, 2), AFFINE)


def two_dimensions(file: Path) -> None:
    write_nifti(file, ramp(9, 9), AFFINE)


def nothing_in_it(file: Path) -> None:
    file.touch()


def truncated(file: Path) -> None:
    make_scan(file)
    file.write_bytes(file.read_bytes()[:-20000])


def damaged(file: Path) -> None:
    make_scan(file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    file.write_bytes(content)


def header_cut_off(file: Path) -> None:
    file.write_bytes(gzip.compress(b"\x5c\x01\x00\x00" + bytes(60)))


def one_nan(file: Path) -> None:
    voxels = ramp(9, 9, 9)
    voxels[4, 5, 6] = np.nan
    write_nifti(file, voxels, AFFINE)


def infinities(file: Path) -> None:
    voxels = ramp(9, 9, 9)
    voxels[0, :2, 0] = np.inf, -np.inf
    write_nifti(file, voxels, AFFINE)


def all_zero(file: Path) -> None:
    write_nifti(file, np.zeros((9, 9, 9), np.int16), AFFINE)


def one_slice(file: Path) -> None:
    write_nifti(file, ramp(30, 30, 1), AFFINE)


def coloured(file: Path) -> None:
    colours = np.zeros((9, 9, 9), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    write_nifti(file, colours, AFFINE)


def complex_numbers(file: Path) -> None:
    write_nifti(file, ramp(9, 9, 9).astype(np.complex64), AFFINE)


def with_srow_z(file: Path, row: list[float]) -> None:
    """A scan whose header was edited by hand; nibabel itself would not write it."""
    raw = bytearray(nib.Nifti1Image(ramp(9, 9, 9), AFFINE).to_bytes())
    raw[312:328] = np.array(row, "<f4").tobytes()
    file.write_bytes(gzip.compress(bytes(raw)))


def flat_affine(file: Path) -> None:
    with_srow_z(file, [0, 0, 0, 1])


def affine_of_nan(file: Path) -> None:
    with_srow_z(file, [0, 0, 2, np.nan])


def a_text(file: Path) -> None:
    file.write_text("these are not the voxels you are looking for\n" * 20, encoding="utf-8")


def a_folder(file: Path) -> None:
    file.mkdir()


def dangling_link(file: Path) -> None:
    file.symlink_to("../.git/annex/objects/absent.nii.gz")


def absent(file: Path) -> None:
    assert not file.exists()


BAD_SCANS: list[tuple[Callable[[Path], None], type[InputDataError], str]] = [
    (four_dimensions, InputDataError, r"4 dimensions \(9, 9, 9, 2\).* 3-D volume"),
    (two_dimensions, InputDataError, "2 dimensions"),
    (nothing_in_it, InputDataError, r"is empty \(0 bytes\)"),
    (truncated, InputDataError, "truncated or damaged"),
    (damaged, InputDataError, "truncated or damaged"),
    (header_cut_off, InputDataError, "not a readable NIfTI file"),
    (one_nan, InputDataError, "holds 1 voxels that are NaN or infinite"),
    (infinities, InputDataError, "holds 2 voxels that are NaN or infinite"),
    (all_zero, InputDataError, "shows nothing: every voxel is 0"),
    (one_slice, InputDataError, r"\(30, 30, 1\).*fewer than 8 voxels"),
    (coloured, InputDataError, "one real number each"),
    (complex_numbers, InputDataError, "one real number each"),
    (flat_affine, GeometryError, "singular.*sform and qform"),
    (affine_of_nan, GeometryError, "finite.*sform and qform"),
    (a_text, InputDataError, "not a readable NIfTI file"),
    (a_folder, InputDataError, "does not exist"),
    (dangling_link, InputDataError, r"dangling symbolic link to \.\./\.git/annex.*datalad get"),
    (absent, InputDataError, "does not exist"),
]


@pytest.mark.parametrize(
    ("make", "error_class", "sentence"), BAD_SCANS, ids=[make.__name__ for make, *_ in BAD_SCANS]
)
def test_an_unusable_scan_gets_its_sentence(
    tmp_path: Path,
    make: Callable[[Path], None],
    error_class: type[InputDataError],
    sentence: str,
) -> None:
    file = tmp_path / "sub-01_T1w.nii.gz"
    make(file)
    with pytest.raises(error_class, match=sentence) as caught:
        read_scan(file)
    assert str(file) in str(caught.value)


def test_a_truncated_uncompressed_scan_is_refused(tmp_path: Path) -> None:
    file = make_scan(tmp_path / "sub-01_T1w.nii")
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(InputDataError, match="truncated or damaged"):
        read_scan(file)


def test_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scan.mgz"
    nib.save(nib.MGHImage(ramp(9, 9, 9), AFFINE), file)
    with pytest.raises(InputDataError, match=r"convert it to \.nii\.gz"):
        read_scan(file)


def test_a_scan_in_an_absent_folder_is_absent(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="does not exist"):
        read_grid(tmp_path / "absent" / "sub-01_T1w.nii.gz")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_scan_is_read_on_its_own_grid(tmp_path: Path, geometry: str, ending: str) -> None:
    file = make_scan(tmp_path / f"sub-01_T1w{ending}", geometry=geometry)
    scan = read_scan(file)
    assert scan.grid.matches(make_grid(geometry))
    assert scan.grid.matches(read_grid(file))
    expected = np.rint(make_head(make_grid(geometry)))
    np.testing.assert_array_equal(scan.data, expected)
    assert scan.data.dtype == np.float32


def test_scaling_of_the_header_is_applied(tmp_path: Path) -> None:
    file = scaled_int16(tmp_path / "sub-01_T1w.nii.gz")
    np.testing.assert_allclose(read_scan(file).data.max(), 1000 * 0.25 - 3)


def test_a_fourth_axis_of_length_one_is_ignored(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "sub-01_T1w.nii.gz", ramp(9, 10, 11, 1), AFFINE)
    assert read_scan(file).grid.shape == (9, 10, 11)
    write_like(file, np.zeros((9, 10, 11), np.uint8), tmp_path / "dseg.nii.gz")
    assert open_nifti(tmp_path / "dseg.nii.gz").shape == (9, 10, 11)


# label maps


def test_a_label_map_reads_back(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2000, (5, 6, 7)).astype(np.int16)
    read, grid = read_label_map(write_nifti(tmp_path / "dseg.nii.gz", labels, AFFINE))
    np.testing.assert_array_equal(read, labels)
    assert grid.shape == (5, 6, 7)


def test_whole_numbers_stored_as_floats_are_labels(tmp_path: Path) -> None:
    labels = np.array([0, 1, 58, 1000], np.float32).reshape(1, 2, 2)
    read, _ = read_label_map(write_nifti(tmp_path / "dseg.nii.gz", labels, AFFINE))
    assert read.ravel().tolist() == [0, 1, 58, 1000]


@pytest.mark.parametrize("value", [0.5, 2.1, np.nan, np.inf])
def test_a_map_with_fractions_is_no_label_map(tmp_path: Path, value: float) -> None:
    values = np.array([0, 1, 2, value], np.float32).reshape(1, 2, 2)
    file = write_nifti(tmp_path / "dseg.nii.gz", values, AFFINE)
    with pytest.raises(InputDataError, match="not whole numbers"):
        read_label_map(file)


def test_a_truncated_label_map_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dseg.nii.gz"
    truncated(file)
    with pytest.raises(InputDataError, match="truncated or damaged"):
        read_label_map(file)


# writing


def plain_float(file: Path) -> Path:
    return write_nifti(file, ramp(9, 10, 11), AFFINE)


def scaled_int16(file: Path) -> Path:
    """Voxels 0 to 1000 that mean -3 to 247, as scanners write them."""
    image = nib.Nifti1Image(np.linspace(0, 1000, 990).astype(np.int16).reshape(9, 10, 11), AFFINE)
    image.set_sform(AFFINE, code=1)
    raw = bytearray(image.to_bytes())
    raw[112:120] = np.array([0.25, -3], "<f4").tobytes()  # scl_slope and scl_inter
    file.write_bytes(gzip.compress(bytes(raw)))
    return file


def big_endian(file: Path) -> Path:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    nib.save(nib.Nifti1Image(ramp(9, 10, 11).astype(">i2"), AFFINE, header), file)
    return file


def oblique(file: Path) -> Path:
    return make_scan(file, geometry="oblique")


def odd(file: Path) -> Path:
    return make_scan(file, geometry="odd")


def metres(file: Path) -> Path:
    """Units, intent, colour range and a note, all of which belong to the scan's own voxels."""
    image = nib.Nifti1Image(ramp(9, 10, 11), AFFINE)
    image.header.set_xyzt_units(xyz="meter", t="msec")
    image.header.set_intent("t test", (3,), name="not mine")
    image.header["descrip"] = b"scanned on a Tuesday"
    image.header["aux_file"] = b"elsewhere"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe, 1970"))
    nib.save(image, file)
    return file


def only_qform(file: Path) -> Path:
    image = nib.Nifti1Image(ramp(9, 10, 11), AFFINE)
    image.set_qform(AFFINE, code=1)
    image.set_sform(None, code=0)
    nib.save(image, file)
    return file


def two_transforms(file: Path) -> Path:
    """qform from the scanner, sform to a template."""
    image = nib.Nifti1Image(ramp(9, 10, 11), AFFINE)
    image.set_qform(AFFINE, code=1)
    moved = AFFINE.copy()
    moved[:3, 3] = 5, -7, 9
    image.set_sform(moved, code=4)
    nib.save(image, file)
    return file


REFERENCES = [
    plain_float,
    scaled_int16,
    big_endian,
    oblique,
    odd,
    metres,
    only_qform,
    two_transforms,
]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("make", REFERENCES)
def test_what_is_written_lies_where_its_scan_lies(
    tmp_path: Path, make: Callable[[Path], Path], dtype: type[np.generic]
) -> None:
    reference = make(tmp_path / "sub-01_T1w.nii.gz")
    source = open_nifti(reference)
    voxels = np.random.default_rng(0).integers(0, 200, source.shape).astype(dtype)
    out = tmp_path / "new" / "dseg.nii.gz"
    write_like(reference, voxels, out, description="labels")
    written = open_nifti(out)
    assert written.shape == source.shape
    assert written.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), voxels)
    np.testing.assert_array_equal(written.affine, source.affine)
    for form in ("sform", "qform"):
        old, new = (getattr(image.header, f"get_{form}")(coded=True) for image in (source, written))
        assert new[1] == old[1]
        np.testing.assert_allclose(
            np.zeros(0) if new[0] is None else new[0],
            np.zeros(0) if old[0] is None else old[0],
            atol=1e-5,
        )


def test_nothing_of_the_scan_but_its_grid_is_carried_over(tmp_path: Path) -> None:
    reference = metres(tmp_path / "sub-01_T1w.nii.gz")
    out = tmp_path / "dseg.nii.gz"
    write_like(reference, np.ones((9, 10, 11), np.uint8), out, description="labels")
    header = open_nifti(out).header
    assert header.get_xyzt_units() == ("mm", "unknown")
    assert header.get_intent()[0] == "none"
    assert header["descrip"].item() == b"labels"
    assert header["aux_file"].item() == b""
    assert len(header.extensions) == 0
    assert (header["cal_min"], header["cal_max"]) == (0, 1)


def test_scaling_of_the_scan_does_not_scale_the_labels(tmp_path: Path) -> None:
    reference = scaled_int16(tmp_path / "sub-01_T1w.nii.gz")
    write_like(reference, np.full((9, 10, 11), 58, np.uint8), tmp_path / "dseg.nii.gz")
    assert set(read_label_map(tmp_path / "dseg.nii.gz")[0].ravel().tolist()) == {58}


def test_several_volumes_may_share_the_grid(tmp_path: Path) -> None:
    reference = oblique(tmp_path / "sub-01_T1w.nii.gz")
    shape = open_nifti(reference).shape
    write_like(reference, np.zeros((*shape, 3), np.float32), tmp_path / "probseg.nii.gz")
    written = open_nifti(tmp_path / "probseg.nii.gz")
    assert written.shape == (*shape, 3)
    np.testing.assert_array_equal(written.affine, open_nifti(reference).affine)


def test_an_array_on_another_grid_is_refused(tmp_path: Path) -> None:
    reference = plain_float(tmp_path / "sub-01_T1w.nii.gz")
    with pytest.raises(GeometryError, match=r"\(9, 10, 12\) is not on the grid \(9, 10, 11\)"):
        write_like(reference, np.zeros((9, 10, 12), np.uint8), tmp_path / "dseg.nii.gz")
    assert not (tmp_path / "dseg.nii.gz").exists()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    reference = plain_float(tmp_path / "sub-01_T1w.nii.gz")
    out = tmp_path / "out"
    write_like(reference, np.zeros((9, 10, 11), np.uint8), out / "dseg.nii.gz")
    assert [file.name for file in out.iterdir()] == ["dseg.nii.gz"]
    blocked = out / "blocked.nii.gz"
    blocked.mkdir()
    with pytest.raises(OutputError, match=r"blocked\.nii\.gz cannot be written"):
        write_like(reference, np.zeros((9, 10, 11), np.uint8), blocked)
    assert sorted(file.name for file in out.iterdir()) == ["blocked.nii.gz", "dseg.nii.gz"]


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    reference = plain_float(tmp_path / "sub-01_T1w.nii.gz")
    (tmp_path / "out").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        write_like(reference, np.zeros((9, 10, 11), np.uint8), tmp_path / "out" / "dseg.nii.gz")


def test_an_older_result_is_replaced(tmp_path: Path) -> None:
    reference = plain_float(tmp_path / "sub-01_T1w.nii.gz")
    for value in (1, 2):
        write_like(reference, np.full((9, 10, 11), value, np.uint8), tmp_path / "dseg.nii.gz")
    assert read_label_map(tmp_path / "dseg.nii.gz")[0].max() == 2


def test_writing_through_a_link_leaves_the_linked_file_alone(tmp_path: Path) -> None:
    """Inputs of datalad datasets are links into a store that must not change."""
    reference = plain_float(tmp_path / "sub-01_T1w.nii.gz")
    store = write_nifti(tmp_path / "store.nii.gz", ramp(9, 9, 9), AFFINE)
    before = store.read_bytes()
    (tmp_path / "dseg.nii.gz").symlink_to(store)
    write_like(reference, np.zeros((9, 10, 11), np.uint8), tmp_path / "dseg.nii.gz")
    assert store.read_bytes() == before
