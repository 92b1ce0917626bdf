"""The compiled gradient of FSIM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from derivatives import (
    DEGENERATE,
    check_batch,
    check_directions,
    check_dtypes,
    check_finite_and_inside,
    check_wanted,
    degenerate_pairs,
    gradients,
    score,
)
from sampling import blob_mask
from scipy.ndimage import gaussian_filter, minimum_filter

from imsim.kernels.gradients import phase_congruency
from imsim.portable.coarse import block_mean, filled

STEPS = (1e-5, 1e-6, 1e-7)
"""The score has corners at every cell: thresholds, absolute values and a median."""


def smooth_pair(rng: Any, shape: tuple[int, ...]) -> Any:
    """Two images of blobs with some noise, from 0 to 1."""
    x = gaussian_filter(rng.random(shape), (*[0] * (len(shape) - 2), 1, 1))
    x = (x - x.min()) / np.ptp(x)
    return x, x + 0.05 * rng.standard_normal(shape)


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "chromatic"),
    [((1, 24, 28), False), ((2, 2, 31, 33), False), ((3, 30, 27), True), ((2, 3, 16, 40), True)],
    ids=str,
)
def test_it_is_the_derivative_of_the_score(
    rng: Any, shape: tuple[int, ...], chromatic: bool, is_masked: bool
) -> None:
    x, y = smooth_pair(rng, shape)
    mask = blob_mask(rng, *shape[-2:], 0.8) if is_masked else None
    upstream = rng.standard_normal(shape[:-3])
    check_directions(
        "fsim", x, y, mask, upstream=upstream, steps=STEPS, chromatic=chromatic, data_range=0.8
    )


@pytest.mark.parametrize(
    ("shape", "chromatic"),
    [
        ((1, 400, 391), False),
        # What hands gradients on to blocks of pixels knows neither colours nor their size.
        pytest.param((3, 385, 400), True, marks=pytest.mark.thorough),
        pytest.param((1, 641, 650), False, marks=pytest.mark.thorough),
    ],
)
def test_coarser_grids(rng: Any, shape: tuple[int, ...], chromatic: bool) -> None:
    x, y = smooth_pair(rng, shape)
    mask = blob_mask(rng, *shape[-2:], 0.7)
    mask[::7, ::5] = False
    # So many cells leave no step without corners that is not as short as the rounding allows.
    steps = (1e-6, 1e-7, 1e-8)
    check_directions("fsim", x, y, mask, steps=steps, rel=5e-5, chromatic=chromatic)


def test_pixels_in_no_block(rng: Any) -> None:
    """With blocks of 3 pixels, the last row of a frame of 642 lies in none."""
    x, y = smooth_pair(rng, (1, 642, 645))
    for gradient in gradients("fsim", x, y):
        assert np.any(gradient[0, :-1, :-1])
        assert not np.any(gradient[0, -1])
        assert not np.any(gradient[0, :, -1])


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("chromatic", [False, True])
def test_degenerate_pairs(rng: Any, chromatic: bool, name: str) -> None:
    x, y, mask = degenerate_pairs(rng, (3, 17, 16))[name]
    for dtype in (np.float32, np.float64):
        for p, q in ((x, y), (y, x)):
            p, q = p.astype(dtype), q.astype(dtype)
            found = gradients("fsim", p, q, mask, chromatic=chromatic)
            check_finite_and_inside(found, mask)
            if name in {"identical", "identical and flat", "the same constant", "black"} or (
                mask is not None
            ):
                assert not np.any(found)


def test_the_fill_hands_its_gradient_on(rng: Any) -> None:
    """Pixels beside a hole count for the cells in it, whose gradients reach them."""
    from imsim.kernels.common.coarse import fill_back

    valid = blob_mask(rng, 19, 23, 0.4)
    cells, weights = rng.random((19, 23)), rng.standard_normal((19, 23))
    slopes = weights.copy()
    fill_back(slopes, valid)
    assert not np.any(slopes[~valid])
    for i, j in np.argwhere(valid)[::17]:
        moved = cells.copy()
        moved[i, j] += 1
        change = filled(moved, valid) - filled(cells, valid)
        assert slopes[i, j] == pytest.approx(np.sum(weights * change), rel=1e-9, abs=1e-12)
    nothing = np.zeros_like(valid)
    fill_back(slopes, nothing)
    assert not np.any(slopes)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_block_means_hand_their_gradient_on(rng: Any, factor: int) -> None:
    from imsim.kernels.common.coarse import add_to_pixels

    direction = rng.random((1, 14, 17))
    for mask in (None, blob_mask(rng, 14, 17, 0.7)):
        inside = True if mask is None else mask
        v = np.where(inside, direction, 0)
        means, _ = block_mean(v, None if mask is None else mask[None], factor, border="zero")
        weights = rng.standard_normal(means.shape)
        if factor == 1 and mask is not None:
            weights[~mask[None]] = 0
        pixels = np.zeros((14, 17))
        add_to_pixels(weights[0], mask, factor, 2.0, pixels)
        assert np.sum(pixels * v) == pytest.approx(2 * np.sum(weights * means), rel=1e-12)
        assert not np.any(pixels[~np.broadcast_to(inside, pixels.shape)])


def test_outside_the_mask_it_is_zero(rng: Any) -> None:
    x, y = rng.random((2, 2, 3, 40, 33))
    inside = blob_mask(rng, 40, 33, 0.5)
    mask = np.stack([inside, ~inside])
    found = gradients("fsim", x, y, mask)
    check_finite_and_inside(found, mask)
    assert np.any(found[0])


def test_a_cell_that_is_not_scored_counts_for_those_that_are(rng: Any) -> None:
    """The transform reads every cell inside the mask."""
    x, y = smooth_pair(rng, (1, 30, 30))
    mask = np.ones((30, 30), bool)
    mask[10:20, 10:20] = False
    scored = minimum_filter(mask, 3, mode="constant", cval=True)
    gradient = gradients("fsim", x, y, mask)[0][0]
    assert np.any(gradient[mask & ~scored])


@pytest.mark.parametrize("chromatic", [False, True])
def test_batches_and_threads(rng: Any, chromatic: bool) -> None:
    check_batch("fsim", rng, (40, 41), chromatic=chromatic)


def test_threads_within_an_image(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import imsim

    monkeypatch.setattr("imsim.kernels.fsim.LARGE_IMAGE", 1000)
    x, y = smooth_pair(rng, (1, 40, 41))
    with imsim.workers(1):
        want = gradients("fsim", x, y)
    for workers in (2, 5):
        with imsim.workers(workers):
            np.testing.assert_array_equal(gradients("fsim", x, y), want)


def test_only_what_is_wanted(rng: Any) -> None:
    check_wanted("fsim", rng, (2, 1, 20, 21))
    x = rng.random((1, 8, 8))
    assert gradients("fsim", x, x, wanted=(False, False)) == (None, None)


@pytest.mark.parametrize("chromatic", [False, True])
def test_dtypes(rng: Any, chromatic: bool) -> None:
    check_dtypes("fsim", rng, (2, 3, 64, 63), rel=1e-4, chromatic=chromatic)


def test_float32_gives_way_to_float64(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat image with one faint line: transforms in float32 would drown it."""
    x = np.full((1, 40, 40), 0.5, np.float32)
    x[0, :, 20] = 1
    y = np.roll(x, 3, axis=-1)
    wide = gradients("fsim", x.astype(np.float64), y.astype(np.float64))
    for got, want in zip(gradients("fsim", x, y), wide, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * abs(want).max())
    monkeypatch.setattr(phase_congruency, "NOISE_FLOOR", 0.0)
    assert np.any(abs(gradients("fsim", x, y)[0] - wide[0]) > 1e-6 * abs(wide[0]).max())


def test_what_is_left_to_the_formula(rng: Any) -> None:
    x, y = rng.random((2, 1, 16, 16))
    assert gradients("fsim", x * 1e16, y) is None
    assert gradients("fsim", x, y, data_range=1e-40) is None
    assert gradients("fsim", x, y, chromatic=True) is None  # it has one channel


def test_a_step_along_the_gradient_raises_the_score(rng: Any) -> None:
    x, y = smooth_pair(rng, (1, 64, 64))
    gradient = gradients("fsim", x, y, wanted=(False, True))[1]
    step = 1e-3 * gradient / np.sqrt(np.sum(gradient**2))
    assert score("fsim", x, y + step) > score("fsim", x, y) > score("fsim", x, y - step)
