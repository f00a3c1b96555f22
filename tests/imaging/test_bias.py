"""A field that was multiplied on is found and divided out; tissue keeps its brightness."""

import numpy as np
import pytest

from bids_deepmrseg.errors import GeometryError
from bids_deepmrseg.imaging.bias import correct_bias
from bids_deepmrseg.imaging.nifti import Scan
from tests.makers import make_grid, make_head


def spread(scan: Scan, tissue: np.ndarray) -> float:
    """Coefficient of variation within one tissue."""
    return float(scan.data[tissue].std() / scan.data[tissue].mean())


def test_a_bias_field_is_divided_out_and_multiplying_brings_it_back() -> None:
    grid = make_grid("anisotropic")
    head = make_head(grid)
    white = (head > 120) & (head < 140)
    i, j, _ = np.indices(grid.shape) / np.reshape(grid.shape, (3, 1, 1, 1))
    biased = Scan((head * np.exp(0.5 * (i - 0.5) - 0.4 * (j - 0.5) ** 2)).astype("f4"), grid)
    corrected, field = correct_bias(biased, head > 15)
    assert spread(corrected, white) < 0.5 * spread(biased, white)
    np.testing.assert_allclose(corrected.data * field, biased.data, rtol=1e-5)
    assert np.log(field[(head > 15) & (biased.data > 0)]).mean() == pytest.approx(0, abs=1e-4)


def test_a_mask_of_nothing_or_of_another_grid_is_refused() -> None:
    grid = make_grid("RAS")
    scan = Scan(make_head(grid), grid)
    with pytest.raises(GeometryError, match="mask is empty"):
        correct_bias(scan, np.zeros(grid.shape, bool))
    with pytest.raises(GeometryError, match="not on the scan's grid"):
        correct_bias(scan, np.ones((3, 3, 3), bool))
