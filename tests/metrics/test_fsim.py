"""FSIM: its kernel against its formula, and what both promise."""

from __future__ import annotations

import math
import threading
import tracemalloc
from typing import Any

import agreement
import exact_fsim
import numpy as np
import pytest
import scipy.fft
from agreement import DTYPES, pair
from distant import KINDS, distant_pair, distant_pairs
from engines import by_both
from hypothesis import given
from hypothesis import strategies as st
from sampling import texture, textured_pair
from strategies import SEEDS, masked_pair, pairs, textured_pairs

import imsim
from imsim.kernels import fsim
from imsim.kernels.common import phase_congruency
from imsim.validation import check_images

sides = st.integers(16, 40)
levels = st.integers(0, 255)
# Cells of one and of four pixels, of odd numbers of pixels, and images of one row or less.
FRAMES = ((64, 64), (33, 47), (1, 5), (2, 2), (400, 385))


def tolerance(dtype: Any, frame: tuple[int, int]) -> float:
    """Rounding errors of the transforms grow as log n; some 100 operations a pixel follow."""
    arithmetic = np.float32 if dtype == np.float32 else np.float64
    return 100 * float(np.finfo(arithmetic).eps) * (1 + math.log2(frame[0] * frame[1]))


def blob(shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[shape[0] // 4 :, : shape[1] * 3 // 4 + 1] = True
    return mask


def engines(function: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Results of the formula and of the kernel."""
    return agreement.engines(function, *args, **{"data_range": 255, **options})


@pytest.mark.parametrize(
    ("dtype", "frame"),
    [
        # Integers are averaged to cells of float64.
        pytest.param(
            *(dtype, frame),
            marks=pytest.mark.thorough if frame == FRAMES[-1] and dtype in DTYPES[:2] else (),
            id=f"{dtype.__name__}-{frame}",
        )
        for dtype in DTYPES
        for frame in FRAMES
    ],
)
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


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, pytest.param(-math.inf, marks=pytest.mark.thorough)]
)
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


@pytest.mark.parametrize("kind", KINDS)
def test_distant_parts_are_exact_in_every_precision(rng: Any, kind: str) -> None:
    """Against the definition in extended precision.

    float64 transforms err by eps times the logarithm of the size, next to contrasts that are
    1e-6 of the values. The bounds of float32 are those that all metrics are held to.
    """
    for distance in (1e2, 1e4, 1e6):
        x, y = distant_pair(kind, rng, (21, 26), distance=distance)
        for dtype, atol, atol_of_map in ((np.float64, 1e-11, 1e-11), (np.float32, 2e-6, 2e-5)):
            a, b = x.astype(dtype), y.astype(dtype)
            want, want_map = exact_fsim.fsim(a, b, 2.0)
            for got in engines(imsim.fsim, a, b, data_range=2.0):
                assert abs(got - want) <= atol
                assert got <= 1
            for got in engines(imsim.fsim_map, a, b, data_range=2.0):
                np.testing.assert_allclose(got, want_map, rtol=0, atol=atol_of_map)
                assert got.min() >= 0
                assert got.max() <= 1


@given(distant_pairs(dtypes=(np.float32,)))
def test_float32_follows_float64_whatever_the_pixels(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    wide = x.astype(np.float64), y.astype(np.float64)
    assert abs(imsim.fsim(x, y, data_range=2) - imsim.fsim(*wide, data_range=2)) <= 2e-6
    np.testing.assert_allclose(
        imsim.fsim_map(x, y, data_range=2), imsim.fsim_map(*wide, data_range=2), rtol=0, atol=2e-5
    )


def test_frames_of_several_blocks(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of rows and columns, and masks that empty whole ones, for every worker count."""
    monkeypatch.setattr(phase_congruency, "BATCH_BYTES", 1 << 16)
    monkeypatch.setattr(fsim, "LARGE_IMAGE", 1 << 10)
    for frame in ((61, 130), (330, 20)):
        x, y = pair(rng, frame, np.float64)
        x[:, : frame[1] // 2] = 0  # black bands
        mask = np.zeros(frame, dtype=bool)
        mask[: frame[0] // 4] = mask[-frame[0] // 4 :] = True
        for m in (None, mask):
            want, got = engines(imsim.fsim_map, x, y, mask=m)
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(np.float64, frame))
            scores = []
            for workers in (1, 3):
                with imsim.workers(workers):
                    scores.append(imsim.fsim(x, y, mask=m, data_range=255))
            assert scores[0] == scores[1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("options", [{}, {"channel_axis": -1, "chromatic": True}], ids=str)
def test_the_kernel_itself_keeps_what_is_not_finite(options: Any, bad: float) -> None:
    """Also against a constant partner, without the engine's check behind it."""
    shape = (24, 24, 3) if options else (24, 24)
    x, y = np.full(shape, 7.0), np.random.default_rng(0).random(shape)
    y[5, 6] = bad
    for a, b in ((x, y), (y, x)):
        images = check_images(a, b, data_range=1, channel_axis=options.get("channel_axis"))
        with np.errstate(all="ignore"):
            scores = fsim.fsim(images, None, chromatic=bool(options))
        assert scores is not None
        assert np.isnan(scores.values).all()


@pytest.mark.parametrize("function", [imsim.fsim, imsim.issm])
@pytest.mark.parametrize(
    # Bytes are computed as float64.
    "dtype",
    [np.float32, np.float64, pytest.param(np.uint8, marks=pytest.mark.thorough)],
)
def test_memory_of_strips(rng: Any, function: Any, dtype: Any) -> None:
    """At most 12 times the two images, counted in the dtype of the arithmetic."""
    arithmetic = np.result_type(dtype, np.float32 if dtype == np.float32 else np.float64)
    is_wide = dtype == np.float64
    narrow = ((60_000, 6), (60_000, 17)) if is_wide and function is imsim.fsim else ()
    for frame in ((300, 1500), (2500, 130), *narrow):
        x = rng.normal(128, 20, frame).clip(0, 255).astype(dtype)
        function(x[:64], x[63::-1], data_range=255)  # what compiles the kernels is not counted
        imsim.clear_caches()
        tracemalloc.start()
        try:
            with imsim.workers(2):
                function(x, x[::-1], data_range=255)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak <= 12 * 2 * x.size * arithmetic.itemsize


@pytest.mark.parametrize("size", [1e12, 1e18, 1e20, 1e30, 1e36])
def test_squares_that_leave_single_precision(rng: Any, size: float) -> None:
    """Far above the data range: the responses are transformed in float64."""
    x = rng.normal(size=(40, 44))
    y = x + 0.3 * rng.normal(size=x.shape)
    x, y = ((v * size).astype(np.float32) for v in (x, y))
    want, got = by_both(imsim.fsim_map, x, y, data_range=1.0)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@given(pairs(), levels)
def test_fsim_range_and_flat_pairs(pair: tuple[np.ndarray, np.ndarray], level: int) -> None:
    x, y = pair
    assert 0 < imsim.fsim(x, y, data_range=255) <= 1
    flat = np.full(x.shape, float(level))
    assert imsim.fsim(flat, flat, data_range=255) == 1
    assert imsim.fsim(flat, 0 * flat + 100, data_range=255) == 1
    assert imsim.fsim(flat + 1 / 3, flat + 2 / 3, data_range=255) == 1


@given(textured_pairs(), st.floats(-100, 100))
def test_fsim_map_does_not_see_an_offset_inside(
    pair: tuple[np.ndarray, np.ndarray], offset: float
) -> None:
    x, y = pair
    inside = np.s_[1:-1, 1:-1]
    want = imsim.fsim_map(x, y, data_range=255)[inside]
    got = imsim.fsim_map(x + offset, y + offset, data_range=255)[inside]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("least", "factor"), [(383, 1), (384, 2), (385, 2), (639, 2), (640, 3), (641, 3)]
)
def test_downsampling_switches_where_matlab_rounds(least: int, factor: int) -> None:
    x, y = textured_pair(np.random.default_rng(least), least, least + 3)
    for local in (
        imsim.fsim_map(x, y, data_range=255),
        imsim.ssim_map(x, y, data_range=255, downsample=True),
    ):
        steps = np.flatnonzero(np.diff(local[least // 2, 60:120]) != 0)
        assert set(np.diff(steps)) == {factor}


def test_masked_fsim_is_near_the_truth() -> None:
    """A disc on garbage scores about what the same pixels score within the full texture."""
    rng = np.random.default_rng(12)
    x = texture(rng, (128, 128))
    y = x + 10 * rng.standard_normal(x.shape)
    rows, cols = np.indices(x.shape) - 64
    disc = rows**2 + cols**2 < 40**2
    truth = np.mean(imsim.fsim_map(x, y, data_range=255)[disc])
    local = imsim.fsim_map(
        np.where(disc, x, np.nan), np.where(disc, y, np.inf), data_range=255, mask=disc
    )
    assert np.nanmean(local) == pytest.approx(truth, abs=0.01)
    whole = imsim.fsim(x, y, data_range=255)
    assert imsim.fsim(x, y, data_range=255, mask=disc) == pytest.approx(whole, abs=0.01)


@given(SEEDS, sides)
def test_x8_chromatic_fsim_of_grey(seed: int, side: int) -> None:
    a, b, mask = masked_pair(seed, side, side + 3)
    rgb = [np.repeat(image[..., None], 3, axis=-1) for image in (a, b)]
    for m in (None, mask):
        got = imsim.fsim(*rgb, mask=m, data_range=255, channel_axis=-1, chromatic=True)
        # The weights of I and Q sum to 0, those of Y to 1, up to rounding.
        assert got == pytest.approx(imsim.fsim(a, b, mask=m, data_range=255), abs=1e-10)


def test_faint_patterns_beside_steps_keep_their_digits_in_float32() -> None:
    """Where patterns repeat, so do the errors of their responses."""
    steps = np.repeat([[0.59, 0.83], [0.12, 0.38], [0.19, 0.16]], (144, 65, 19), axis=0).T
    x, y = (np.repeat(v[:, None], 269, axis=1) for v in steps)
    signs = np.sign(np.random.default_rng(59).normal(size=(8, 2)))
    x += 0.004 * np.tile(signs, (29, 135))[:228, :269]
    for image in (x, y):
        image[::11, ::12] += 0.015
    x, y = x.astype(np.float32), y.astype(np.float32)
    wide = imsim.fsim(x.astype(np.float64), y.astype(np.float64), data_range=1)
    assert abs(imsim.fsim(x, y, data_range=1) - wide) < 2e-6


def test_phase_congruency_of_few_cells_keeps_its_digits_in_float32() -> None:
    """FSIM divides by its sum, which is small where nearly all responses are below the noise."""
    x = np.zeros((30, 173), np.float32)
    y = x + 0.765 + np.tile(np.random.default_rng(26).normal(0, 0.0018, (6, 1)), (5, 1))
    y[::2, ::3] += 0.2
    y = y.astype(np.float32)
    wide = imsim.fsim(x.astype(np.float64), y.astype(np.float64), data_range=1)
    assert abs(imsim.fsim(x, y, data_range=1) - wide) < 2e-6
