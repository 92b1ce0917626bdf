"""The filters of phase congruency."""

from __future__ import annotations

import numpy as np
import pytest

from imsim.kernels.common.phase_congruency import DISTANCES, filters
from imsim.portable.phase_congruency import filter_bank, noise_model


@pytest.mark.parametrize("frame", [(6, 8), (7, 9), (8, 5), (1, 4)], ids=str)
def test_a_quarter_of_the_filters_is_enough(frame: tuple[int, int]) -> None:
    """The filters of the kernel, unfolded, are those of the formula, and so are their sums."""
    height, width = frame
    bank, quarter = filter_bank(height, width), filters(height, width, np.dtype(np.float64))
    rows, columns = np.indices(frame)
    row, column = np.minimum(rows, height - rows), np.minimum(columns, width - columns)
    signs = (2 * rows >= height).astype(int), (2 * columns >= width).astype(int)
    for o in range(4):
        spread = quarter.angular[DISTANCES[o][signs], row, column]
        got = quarter.radial[:, row, column] * spread
        np.testing.assert_allclose(got, bank.radial * bank.angular[o], rtol=0, atol=1e-15)
        sums = bank.finest_power[o], bank.sum_squares[o], bank.sum_products[o]
        want = noise_model(np.float64(1), *sums).threshold
        assert quarter.thresholds[o] == pytest.approx(want, rel=1e-13)
