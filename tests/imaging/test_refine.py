"""The last steps go uphill to the summit, and nowhere where there is none."""

import numpy as np

from bids_deepmrseg.imaging.alignment import mean_displacement_mm, rigid_about
from bids_deepmrseg.imaging.grid import Affine
from bids_deepmrseg.imaging.refine import refined
from tests.imaging.test_register import displacement

CENTRE_MM = np.array([5.0, -10.0, 20.0])
POINTS_MM = np.random.default_rng(0).uniform(-70, 70, (200, 3))


def test_the_summit_is_found_from_a_few_millimetres_away() -> None:
    summit = displacement(2)

    def information(matrix: Affine) -> float:
        return float(np.exp(-(mean_displacement_mm(matrix, summit, POINTS_MM) ** 2) / 50))

    start = summit @ rigid_about(CENTRE_MM, displacement(5, 0, 2.0)[:3, :3], (2.0, -1.5, 2.5))
    found = refined(information, start, CENTRE_MM)
    assert mean_displacement_mm(start, summit, POINTS_MM) > 3
    assert mean_displacement_mm(found, summit, POINTS_MM) < 0.1
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-9)


def test_on_a_plain_nothing_is_moved() -> None:
    start = displacement(3)
    np.testing.assert_array_equal(refined(lambda _: 0.5, start, CENTRE_MM), start)
