"""Slow changes of brightness across a scan, estimated and divided out by N4."""

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name under which its users know it

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.alignment import Field, Mask
from bids_deepmrseg.imaging.nifti import Scan
from bids_deepmrseg.imaging.register import averaged, image_of

ESTIMATED_AT_MM = 4.0  # the field has no detail that finer voxels would show
ITERATIONS = (
    50,
    50,
    30,
)  # a level each, the spacing of the field's splines halved from one to next


def correct_bias(scan: Scan, mask: Mask) -> tuple[Scan, Field]:
    """Divide the bias field out of a scan.

    Parameters
    ----------
    scan
        Intensities of at least 0 in the mask; those that are not above 0 are not looked at.
    mask
        ``(I, J, K)``, the head or brain by which the field is estimated.

    Returns
    -------
    Scan
        The intensities divided by the field, everywhere.
    ndarray
        ``(I, J, K)`` float32, the field: above 1 where the scan was too bright; its geometric mean
        over the mask is 1, so that tissue keeps its brightness on the whole. Multiplying by it
        undoes the correction.

    Raises
    ------
    GeometryError
        If the mask is not on the scan's grid, or holds nothing above 0.

    Notes
    -----
    N4 of Tustison et al. 2010 (doi:10.1109/TMI.2010.2046908) in SimpleITK, on voxels averaged to
    4 mm along each axis that is finer, one thread.
    """
    if mask.shape != scan.grid.shape:
        raise GeometryError(f"mask {mask.shape} is not on the scan's grid {scan.grid.shape}")
    used = mask & (scan.data > 0)
    if not used.any():
        raise GeometryError("there is nothing to estimate a bias field by: the mask is empty")
    image = image_of(scan)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    part = averaged(image_of(Scan(used.astype(np.float32), scan.grid)), ESTIMATED_AT_MM)
    coarse = averaged(image_of(Scan(np.where(used, scan.data, 0), scan.grid)), ESTIMATED_AT_MM)
    n4.Execute(coarse, sitk.Cast(part > 0.99, sitk.sitkUInt8))
    log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
    field: Field = np.exp(log_field - log_field[used].mean()).astype(np.float32)
    return Scan(scan.data / field, scan.grid), field
