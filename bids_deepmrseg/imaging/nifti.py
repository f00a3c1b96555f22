"""The only room that opens or saves NIfTI files."""

import logging
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from bids_deepmrseg.errors import GeometryError, InputDataError, OutputError
from bids_deepmrseg.files import make_folder, partial_name
from bids_deepmrseg.imaging.grid import Grid

logger = logging.getLogger(__name__)

UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
ENDINGS = (".nii.gz", ".nii")
MIN_SIDE = 8  # voxels; below this an axis cannot show a brain


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A scan in memory: ``(I, J, K)`` float32 intensities on their native grid."""

    data: npt.NDArray[np.float32]
    grid: Grid


def _open(file: Path) -> nib.Nifti1Image:
    """A NIfTI image whose voxels are not read yet."""
    if file.is_symlink() and not file.exists():
        raise InputDataError(
            f"{file} is a dangling symbolic link to {file.readlink()}; "
            "fetch its content (datalad get), or mount the folder that it points to"
        )
    if not file.is_file():
        raise InputDataError(f"{file} does not exist")
    if file.stat().st_size == 0:
        raise InputDataError(f"{file} is empty (0 bytes); copy or convert it again")
    try:
        image = nib.load(file)
    except UNREADABLE as error:
        raise InputDataError(f"{file} is not a readable NIfTI file: {error}") from error
    if not isinstance(image, nib.Nifti1Image):
        raise InputDataError(f"{file} is not a NIfTI file; convert it to .nii.gz")
    return image


def _check_compressed(file: Path) -> None:
    """Read a ``.gz`` file to its end, where its checksum is; reading the voxels stops before."""
    if file.suffix != ".gz":
        return
    stream = zlib.decompressobj(wbits=31)
    with file.open("rb") as compressed:
        while not stream.eof:
            piece = compressed.read(2**20)
            if not piece:
                raise EOFError("the compressed stream has no end")
            stream.decompress(piece)


def _grid_of(image: nib.Nifti1Image, file: Path) -> Grid:
    """The image's lattice; a fourth axis of length one is allowed and ignored."""
    shape = image.shape
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise InputDataError(
            f"{file} has {len(shape)} dimensions {shape}; a single 3-D volume is needed "
            "(of a series, extract the volume to be segmented)"
        )
    try:
        affine = np.asarray(image.affine, dtype=np.float64)
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
    except GeometryError as error:
        raise GeometryError(f"{file}: {error}; repair sform and qform of its header") from error


def read_grid(file: Path) -> Grid:
    """Read only the lattice of a NIfTI file.

    Raises
    ------
    InputDataError
        If the file is missing, dangling, empty, unreadable or not 3-D.
    GeometryError
        If its affine is singular or not finite.
    """
    return _grid_of(_open(file), file)


def read_scan(file: Path) -> Scan:
    """Read a scan and refuse what no network could segment.

    Parameters
    ----------
    file
        ``.nii`` or ``.nii.gz``.

    Returns
    -------
    Scan
        Scaled intensities on the native grid.

    Raises
    ------
    InputDataError
        If the file is missing, dangling, empty, truncated, not 3-D, holds NaN or infinite
        values, is constant, or has an axis of fewer than 8 voxels.
    GeometryError
        If its affine is singular or not finite.
    """
    image = _open(file)
    grid = _grid_of(image, file)
    try:
        data = np.asanyarray(image.dataobj)
        _check_compressed(file)
    except (*UNREADABLE, MemoryError) as error:
        raise InputDataError(
            f"{file} is truncated or damaged, its voxels cannot be read: {error}"
        ) from error
    if data.dtype.fields is not None or np.iscomplexobj(data):
        raise InputDataError(f"{file} holds {data.dtype} voxels; one real number each is needed")
    return Scan(_checked(data.reshape(grid.shape).astype(np.float32), file), grid)


def _checked(data: npt.NDArray[np.float32], file: Path) -> npt.NDArray[np.float32]:
    """The same voxels, once they are known to show something."""
    n_bad = int(data.size - np.isfinite(data).sum())
    if n_bad:
        raise InputDataError(
            f"{file} holds {n_bad} voxels that are NaN or infinite; replace them first"
        )
    if data.min() == data.max():
        raise InputDataError(f"{file} shows nothing: every voxel is {data.flat[0]:g}")
    if min(data.shape) < MIN_SIDE:
        raise InputDataError(
            f"{file} has shape {data.shape}: "
            f"an axis of fewer than {MIN_SIDE} voxels cannot show a brain"
        )
    return data


def read_label_map(file: Path) -> tuple[npt.NDArray[np.int32], Grid]:
    """Read a label map ``(I, J, K)`` and its lattice.

    Raises
    ------
    InputDataError
        If the file cannot be read or its values are not whole numbers.
    """
    image = _open(file)
    grid = _grid_of(image, file)
    try:
        values = np.asanyarray(image.dataobj).reshape(grid.shape)
    except UNREADABLE as error:
        raise InputDataError(f"{file} is truncated or damaged: {error}") from error
    if not (np.isfinite(values).all() and np.allclose(np.rint(values), values)):
        raise InputDataError(
            f"{file} is not a label map: its values are not whole numbers; "
            "probabilities need a threshold first"
        )
    return np.rint(values).astype(np.int32), grid


def write_like(
    reference: Path, data: npt.NDArray[np.generic], file: Path, *, description: str = ""
) -> None:
    """Write an array on exactly the grid of another file, and read it back to make sure.

    Parameters
    ----------
    reference
        NIfTI file whose shape, sform, qform and their codes are kept.
    data
        ``(I, J, K)`` or ``(I, J, K, T)``; its dtype is the dtype on disk.
    file
        Where to write; it appears whole or not at all.
    description
        At most 79 characters for the header's ``descrip``.

    Raises
    ------
    GeometryError
        If ``data`` is not on the reference's grid.
    OutputError
        If the file cannot be written or does not read back the same.
    """
    source = _open(reference)
    grid = _grid_of(source, reference)
    if data.shape[:3] != grid.shape:
        raise GeometryError(f"array {data.shape} is not on the grid {grid.shape} of {reference}")
    image = nib.Nifti1Image(data, source.affine, _header_for(source, data, description))
    partial = partial_name(file)
    try:
        make_folder(file.parent)
        nib.save(image, partial)
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{file} cannot be written: {error}") from error
    _check_written(file, grid, data)


def write_scan(scan: Scan, file: Path) -> Path:
    """Write a scan that no file has the grid of; its affine is sform and qform.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    image = nib.Nifti1Image(scan.data, scan.grid.affine)
    image.set_sform(scan.grid.affine, code="scanner")
    image.set_qform(scan.grid.affine, code="scanner")
    image.header.set_xyzt_units(xyz="mm")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, file)
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error}") from error
    return file


def _header_for(
    source: nib.Nifti1Image, data: npt.NDArray[np.generic], description: str
) -> nib.Nifti1Header:
    """The reference's header, with what belongs to its voxels rather than its grid replaced."""
    header: nib.Nifti1Header = source.header.as_byteswapped("<")
    header.set_data_shape(data.shape)
    header.set_data_dtype(data.dtype)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"], header["cal_max"] = 0, float(data.max(initial=0))
    header["descrip"] = description[:79].encode("ascii", "replace")
    header["aux_file"] = b""
    header.set_xyzt_units(xyz="mm", t="sec" if data.ndim > 3 else None)
    header.extensions.clear()
    return header


def _check_written(file: Path, grid: Grid, data: npt.NDArray[np.generic]) -> None:
    """Re-open a file and compare grid and voxels with what was to be written."""
    image = _open(file)
    if not _grid_of_any(image).matches(grid):
        raise OutputError(f"{file} was written on another grid than its scan's; do not use it")
    if not np.array_equal(np.asanyarray(image.dataobj), data):
        raise OutputError(f"{file} does not read back as it was written; is the disk full?")


def _grid_of_any(image: nib.Nifti1Image) -> Grid:
    """The spatial lattice of an image with any number of volumes."""
    i, j, k = image.shape[:3]
    return Grid((int(i), int(j), int(k)), np.asarray(image.affine, dtype=np.float64))
