"""Parts of the windowed kernels that others rely on."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from imsim.kernels.common.window_strips import taps_by_axis, taps_of
from imsim.kernels.common.window_sums import (
    UNROLLED,
    filter_moments,
    filter_products,
    filter_rows,
    filter_two_rows,
    row_total,
    sum_neighbours,
    sum_rows,
)
from imsim.kernels.common.window_tiles import (
    CROSSED,
    INSIDE,
    OUTSIDE,
    TILE,
    VECTORS,
    columns_of,
    find_places,
    workspaces,
)
from imsim.portable.windows import Window, gaussian, uniform

WINDOWS = [
    *(
        gaussian((size, size), (sigma, sigma))
        for size in (*UNROLLED, 12)
        for sigma in (0.5, 1.5, 40.0)
    ),
    *(uniform(size, size) for size in (*UNROLLED, 5)),
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_taps_are_symmetric(window: Window, dtype: type) -> None:
    """The filters add the pixels of two equal taps before they multiply."""
    size, taps, unrolled = taps_of(window, dtype)
    assert size == window.size
    assert (taps is None) == window.is_uniform
    for found in (taps, unrolled):
        assert found is None or list(found) == list(found)[::-1]
    assert taps is None or unrolled is None or unrolled == tuple(taps)


@pytest.mark.parametrize(
    ("window", "dtype"),
    [
        (gaussian((11, 11), (1.5, 1.5)), np.float32),
        (uniform(8, 8), np.float64),
        (uniform(5, 5), np.float64),
        pytest.param(gaussian((11, 11), (1.5, 1.5)), np.float64, marks=pytest.mark.thorough),
        pytest.param(uniform(8, 8), np.float32, marks=pytest.mark.thorough),
        pytest.param(uniform(5, 5), np.float32, marks=pytest.mark.thorough),
    ],
)
def test_squares_of_a_row_are_its_products_with_itself(
    window: Window, dtype: type, rng: np.random.Generator
) -> None:
    """To the bit in windows of equal weights: the correlation of equal images is then 1."""
    taps = taps_of(window, dtype)
    row = rng.normal(size=64 + window.size - 1).astype(dtype)
    total, squares, products = np.zeros((3, 64), dtype)
    _filter(row, *taps, np.empty((3, row.size), dtype), total, squares, products)
    if window.is_uniform:
        np.testing.assert_array_equal(squares, products)
    weights = np.array(taps_by_axis(window, dtype)[-1], np.float64)
    exact = row.astype(np.float64)
    # A sum of 11 numbers of magnitude 3, or of their squares, is rounded 11 times.
    for found, values in ((total, exact), (squares, exact**2), (products, exact**2)):
        expected = np.correlate(values, weights, "valid")
        np.testing.assert_allclose(found, expected, rtol=0, atol=100 * np.finfo(dtype).eps)


@numba.njit
def _filter(row, size, taps, unrolled, spare, total, squares, products):  # type: ignore[no-untyped-def]
    filter_moments(row, size, taps, unrolled, spare, total, squares)
    filter_products(row, row, size, taps, unrolled, spare, products)


def test_uniform_windows_of_any_size_add_each_pixel_once(rng: np.random.Generator) -> None:
    """Sums of whole numbers are exact in any order."""
    for size in (*range(1, 35), 63, 64, 127, 130):
        rows, n = rng.integers(-1000, 1000, (3 * size + 5, size + 50)).astype(float), 51
        slots, spare = np.full((size + 1, n), np.nan), np.empty((3, size + 50))
        running, found = np.full(n, np.nan), np.empty(n)
        columns = np.lib.stride_tricks.sliding_window_view(rows, size, axis=1).sum(axis=-1)
        expected = np.lib.stride_tricks.sliding_window_view(columns, size, axis=0).sum(axis=-1)
        # The row after the last one of a window may be known, too.
        for ahead in (0, 1):
            for i in range(len(rows)):
                _neighbours(rows[i], size, spare, slots[i % len(slots)])
                np.testing.assert_array_equal(slots[i % len(slots)], columns[i])
                if i >= size - 1 + ahead:
                    row = i - size + 1 - ahead
                    _rows(slots, row, size, running, found)
                    np.testing.assert_array_equal(found, expected[row], str((size, row)))


@numba.njit
def _neighbours(row, size, spare, out):  # type: ignore[no-untyped-def]
    sum_neighbours(row, size, spare, out)


@numba.njit
def _rows(slots, row, size, running, out):  # type: ignore[no-untyped-def]
    sum_rows(slots, row, size, running, out)


@pytest.mark.parametrize("size", [pytest.param(8, marks=pytest.mark.thorough), 11])
def test_two_rows_of_sums_are_those_of_each(rng: np.random.Generator, size: int) -> None:
    """Also where the ring buffer begins again, and where the next row is not there yet."""
    slots = rng.uniform(-1, 1, (size + 1, 40))
    taps = rng.uniform(0.1, 1, size)
    taps += taps[::-1]
    tolerance = 4 * size * np.finfo(float).eps  # of sums of so many values below 2
    for row in range(2 * size + 3):
        order = (row + np.arange(size + 1)) % (size + 1)
        ordered = slots[order]
        expected = np.stack([taps @ ordered[:-1], taps @ ordered[1:]])
        without = slots.copy()
        without[order[-1]] = np.nan
        for unrolled in (None, tuple(taps)):
            found, first = np.empty((2, 40)), np.empty((2, 40))
            _two_rows(slots, row, taps, unrolled, found[0], found[1], first[0])
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
            np.testing.assert_allclose(first[0], expected[0], rtol=0, atol=tolerance)
            _two_rows(without, row, taps, unrolled, first[0], first[1], found[0])
            np.testing.assert_allclose(first[0], expected[0], rtol=0, atol=tolerance)


@numba.njit
def _two_rows(slots, row, taps, unrolled, upper, lower, single):  # type: ignore[no-untyped-def]
    filter_two_rows(slots, row, taps.size, taps, unrolled, upper, upper, lower)
    filter_rows(slots, row, taps, unrolled, single)


@numba.njit
def _total(found, scored, count):  # type: ignore[no-untyped-def]
    return row_total(found, scored, count)


def test_total_of_a_row_leaves_out_what_is_not_scored() -> None:
    found = np.array([1.0, np.nan, 3.0, 4.0, np.nan])
    scored = np.array([1, 0, 1, 0, 1], np.uint8)
    assert _total(found.copy(), scored, 4) == (4.0, 2)
    assert _total(found.copy(), np.ones(5, np.uint8), 1) == (1.0, 1)
    total, number = _total(found, None, 5)
    assert np.isnan(total)
    assert number == 5


def test_memory_of_an_interrupted_call_is_not_taken_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kernels check no bounds: memory of the wrong size would be overrun."""
    size = workspaces(31, 4, 64, np.float64)[1][1].shape

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    tiles = "imsim.kernels.common.window_tiles"
    for part in (f"{tiles}.aligned", f"{tiles}.workspace", "imsim.caches.array_bytes"):
        with monkeypatch.context() as patch:
            patch.setattr(part, interrupted)
            with pytest.raises(KeyboardInterrupt):
                workspaces(3, 4, 64, np.float64)
        assert workspaces(31, 4, 64, np.float64)[1][1].shape == size


def test_large_memory_is_not_kept() -> None:
    first = workspaces(11, 4, 128, np.float32)
    assert workspaces(11, 4, 128, np.float32) is first
    assert workspaces(4096, 5, 64, np.float64)[0][0].shape == (4, 64 + 4095)
    assert workspaces(11, 4, 128, np.float32) is first


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_cover_a_row_with_few_columns_too_many(dtype: type) -> None:
    """A width of 300 must not cost as much as one of 384."""
    least = VECTORS // np.dtype(dtype).itemsize
    for width in range(1, 2000):
        tile = columns_of(dtype, width)
        tiles = -(-width // tile)
        assert tile % least == 0
        assert tile * np.dtype(dtype).itemsize <= TILE
        assert tiles * tile - width < tiles * least


def test_places_of_tiles() -> None:
    """Tiles of four positions, and of the two pixels more that windows of three pixels reach."""
    mask = np.zeros((5, 17), bool)
    mask[:, :6] = mask[2, 11] = True
    places = np.full(4, -1)
    find_places(mask, 3, 4, places)
    assert places.tolist() == [INSIDE, CROSSED, CROSSED, OUTSIDE]
    mask[:, 6:] = True
    mask[4, 16] = False
    find_places(mask, 3, 4, places)
    assert places.tolist() == [INSIDE, INSIDE, INSIDE, CROSSED]
