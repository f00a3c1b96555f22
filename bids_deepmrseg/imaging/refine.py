"""The last steps of a registration: uphill by the very measure that it is judged by."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.spatial.transform import Rotation

from bids_deepmrseg.imaging.alignment import rigid_about
from bids_deepmrseg.imaging.grid import Affine

AT_MM = 70.0  # from the middle of a head: turns are measured by how far they move what is there
FIRST_STEP_MM = 2.0
LAST_STEP_MM = 0.02
LEAST_GAIN = 1e-4  # of the information, in one round over all directions
MAX_EVALUATIONS = 1000  # 250 to 600 are needed


def refined(
    information: Callable[[Affine], float], matrix: Affine, centre_mm: npt.NDArray[np.float64]
) -> Affine:
    """Move and turn a little, as long as that gains information.

    Parameters
    ----------
    information
        What a ``(4, 4)`` matrix is worth: smooth, and larger where scans agree more.
    matrix
        ``(4, 4)``, rigid, where to set out from; within about 5 mm of the summit.
    centre_mm
        ``(3,)``, the point in scanner space that is turned about.

    Returns
    -------
    ndarray
        ``(4, 4)``, rigid; ``matrix`` itself if nothing near it is worth more.

    Notes
    -----
    Powell's method over three shifts and three angles, all of them in millimetres: no gradient is
    needed, which on slices of several millimetres misleads.
    """

    def moved(steps_mm: npt.NDArray[np.float64]) -> Affine:
        turn = Rotation.from_rotvec(steps_mm[3:] / AT_MM).as_matrix()
        step: Affine = matrix @ rigid_about(centre_mm, turn, steps_mm[:3])
        return step

    found = optimize.minimize(
        lambda steps_mm: -information(moved(steps_mm)),
        np.zeros(6),
        method="Powell",
        options={
            "direc": FIRST_STEP_MM * np.eye(6),
            "xtol": LAST_STEP_MM,
            "ftol": LEAST_GAIN,
            "maxfev": MAX_EVALUATIONS,
        },
    )
    return moved(found.x) if -found.fun > information(matrix) else matrix
