"""FSIM's kernels against its formula, and what they promise besides."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
import scipy.fft

import imsim
from imsim.kernels.filters import DISTANCES, filters
from imsim.kernels.selection import median
from imsim.portable.phase_congruency import filter_bank, noise_model

DTYPES = (np.uint8, np.uint16, np.float32, np.float64)
# Cells of one and of four pixels, of odd numbers of pixels, and images of one row or less.
FRAMES = ((64, 64), (33, 47), (1, 5), (2, 2), (400, 385))


def tolerance(dtype: Any, frame: tuple[int, int]) -> float:
    """Rounding errors of the transforms grow as log n; some 100 operations a pixel follow."""
    arithmetic = np.float32 if dtype == np.float32 else np.float64
    return 100 * float(np.finfo(arithmetic).eps) * (1 + math.log2(frame[0] * frame[1]))


def pair(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    x = rng.uniform(0, 250, shape)
    return x.astype(dtype), np.clip(x + rng.normal(0, 20, shape), 0, 255).astype(dtype)


def blob(shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[shape[0] // 4 :, : shape[1] * 3 // 4 + 1] = True
    return mask


def engines(function: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Results of the formula and of the kernel."""
    found = []
    for engine in ("portable", "fast"):
        imsim.set_engine(engine)  # type: ignore[arg-type]
        try:
            found.append(function(*args, **{"data_range": 255, **options}))
        finally:
            imsim.set_engine("auto")
    return found[0], found[1]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("function", [imsim.fsim, imsim.fsim_map])
def test_engines_agree(rng: Any, function: Any, dtype: Any, frame: tuple[int, int]) -> None:
    x, y = pair(rng, frame, dtype)
    masks = [None, np.ones(frame, dtype=bool)] + ([blob(frame)] if min(frame) > 9 else [])
    for mask in masks:
        want, got = engines(function, x, y, mask=mask)
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(dtype, frame))
        assert got.dtype == want.dtype


@pytest.mark.parametrize("chromatic", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_engines_agree_on_colour(rng: Any, dtype: Any, chromatic: bool) -> None:
    x, y = pair(rng, (2, 40, 37, 3), dtype)
    mask = np.stack([blob((40, 37)), np.ones((40, 37), dtype=bool)])
    options = {"channel_axis": -1, "chromatic": chromatic}
    # |S_I S_Q| ** 0.03 magnifies errors where the product is near 0.
    atol = (1e3 if chromatic else 1) * tolerance(dtype, (40, 37))
    for function in (imsim.fsim, imsim.fsim_map):
        for m in (None, mask):
            want, got = engines(function, x, y, mask=m, **options)
            np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def test_batches_equal_single_calls_for_every_worker_count(rng: Any) -> None:
    x, y = pair(rng, (5, 48, 50), np.uint8)
    masks = np.stack([blob((48, 50))] * 4 + [np.ones((48, 50), dtype=bool)])
    single = [imsim.fsim(a, b, mask=m) for a, b, m in zip(x, y, masks, strict=True)]
    against_first = [imsim.fsim(x[0], b) for b in y]
    for workers in (1, 2, 3, 7):
        with imsim.workers(workers):
            assert imsim.fsim(x, y, mask=masks).tolist() == single
            assert imsim.fsim(x[0], y).tolist() == against_first
            assert imsim.fsim(y, x[0]).tolist() == [imsim.fsim(b, x[0]) for b in y]
    assert imsim.fsim(x[0], y[0], mask=masks[4]) == against_first[0]


def test_batch_axes_of_both_images_broadcast(rng: Any) -> None:
    x, y = pair(rng, (3, 24, 24), np.float32)
    want, got = engines(imsim.fsim, x[:, None], y)
    assert got.shape == (3, 3)
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(np.float32, (24, 24)))


def test_nothing_outside_the_mask_counts(rng: Any) -> None:
    for frame in ((60, 61), (400, 390)):
        x, y = pair(rng, frame, np.float32)
        mask = blob(frame)
        want = imsim.fsim(x, y, mask=mask, data_range=255)
        for garbage in (math.nan, math.inf, 1e30):
            a, b = np.where(mask, x, garbage), np.where(mask, y, -garbage)
            assert imsim.fsim(a, b, mask=mask, data_range=255) == want


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_seen_wherever_it_lies(rng: Any, bad: float) -> None:
    """Cells of 3 x 3 pixels leave out the last column; others lie mostly outside the mask."""
    x, y = pair(rng, (642, 645), np.float64)
    mask = np.zeros(x.shape, dtype=bool)
    mask[9:500, 9:] = True
    for place in ((300, 300), (9, 9), (300, 644)):
        damaged = x.copy()
        damaged[place] = bad
        assert math.isnan(imsim.fsim(damaged, y, data_range=255))
        assert math.isnan(imsim.fsim(y, damaged, data_range=255, mask=mask))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_images_score_one_and_order_does_not_matter(rng: Any, dtype: Any) -> None:
    x, y = pair(rng, (50, 40), dtype)
    assert imsim.fsim(x, x, data_range=255) == 1
    assert imsim.fsim(x, y, data_range=255) == imsim.fsim(y, x, data_range=255)


def test_an_image_in_many_pairs_is_transformed_once(
    rng: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = pair(rng, (4, 32, 32), np.float64)
    shapes = []
    forward = scipy.fft.rfft

    def counted(image: Any, **options: Any) -> Any:
        shapes.append(image.shape)
        return forward(image, **options)

    monkeypatch.setattr(scipy.fft, "rfft", counted)
    imsim.fsim(x[0], y, data_range=255)
    assert len(shapes) == 5
    imsim.fsim(x, y, data_range=255)
    assert len(shapes) == 13


class Doubling:
    """A backend of SciPy that notes its calls and returns arrays of its own."""

    __ua_domain__ = "numpy.scipy.fft"
    calls = 0

    @staticmethod
    def __ua_function__(method: Any, args: Any, kwargs: Any) -> Any:
        Doubling.calls += 1
        kwargs = {k: v for k, v in kwargs.items() if k != "overwrite_x"}
        return getattr(np.fft, method.__name__)(*args, **kwargs)


def test_transforms_go_through_the_backend_of_scipy(rng: Any) -> None:
    x, y = pair(rng, (96, 96), np.float64)
    want = imsim.fsim(x, y, data_range=255)
    scipy.fft.set_global_backend(Doubling)
    try:
        with imsim.workers(2):
            got = imsim.fsim(x, y, data_range=255)
    finally:
        scipy.fft.set_global_backend("scipy")
    assert Doubling.calls >= 10
    assert got == pytest.approx(want, abs=tolerance(np.float64, (96, 96)))


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


def test_many_threads_at_once(rng: Any) -> None:
    x, y = pair(rng, (80, 80), np.uint8)
    want = imsim.fsim(x, y)
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(imsim.fsim(x, y))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [want] * 6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 999, 5000])
def test_median_by_selection(rng: Any, n: int, dtype: Any) -> None:
    halves = np.r_[np.zeros(n // 2), np.full(n - n // 2, 1e30)]
    some_infinite = np.where(rng.random(n) < 0.2, math.inf, 1.5)
    for values in (
        rng.random(n),
        rng.exponential(1, n) ** 9,
        np.zeros(n),
        halves,
        rng.integers(0, 3, n),
        some_infinite,
    ):
        values = values.astype(dtype)
        ordered = np.sort(values).astype(np.float64)
        assert median(values) == (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def test_median_of_nan() -> None:
    """NaN of either sign is the largest; the median of nothing is NaN."""
    values = np.array([3.0, -math.nan, 1.0, math.nan, 2.0])
    assert median(values) == 3
    assert math.isnan(median(np.full(3, -math.nan, dtype=np.float32)))
    assert math.isnan(median(np.empty(0)))
