"""Identities between metrics: each computes the other by a route of its own (X1 to X10)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sampling import blob_mask, textured_pair

import imsim

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(16, 40)
# Two well-conditioned routes to one number: a few hundred additions in float64.
CLOSE = 1e-12


def make(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = textured_pair(rng, height, width, noise=float(rng.uniform(0.5, 40)))
    return a, b, blob_mask(rng, height, width, float(rng.uniform(0.3, 0.95)))


@given(seeds, sides, sides)
def test_x1_rmse_and_se(seed: int, height: int, width: int) -> None:
    a, b, mask = make(seed, height, width)
    for m in (None, mask):
        n = height * width if m is None else m.sum()
        se = imsim.se(a, b, mask=m)
        assert imsim.rmse(a, b, mask=m) ** 2 * n == pytest.approx(se, rel=CLOSE)
        assert imsim.se(a, b, mask=m, reduction="mean") * n == pytest.approx(se, rel=CLOSE)


@given(seeds, sides, st.floats(1e-3, 1e6))
def test_x2_psnr_and_rmse(seed: int, side: int, L: float) -> None:
    a, b, mask = make(seed, side, side)
    for m in (None, mask):
        want = 20 * np.log10(L / imsim.rmse(a, b, mask=m))
        assert imsim.psnr(a, b, mask=m, data_range=L) == pytest.approx(want, abs=1e-10)


@given(seeds, sides)
def test_x3_sre_and_psnr(seed: int, side: int) -> None:
    a, b, mask = make(seed, side, side)
    for m in (np.ones_like(mask), mask):
        psnr = imsim.psnr(a, b, mask=m, data_range=255)
        want = psnr + 20 * np.log10(abs(a[m].mean()) / 255)
        assert imsim.sre(a, b, mask=m) == pytest.approx(want, abs=1e-10)


@given(seeds, sides)
def test_x4_zncc_is_the_cosine_of_sam(seed: int, side: int) -> None:
    a, b, mask = make(seed, side, side)
    for m in (np.ones_like(mask), mask):
        angle = imsim.sam(a - a[m].mean(), b - b[m].mean(), mask=m)
        assert imsim.zncc(a, b, mask=m) == pytest.approx(np.cos(angle), abs=CLOSE)


@given(seeds, sides, st.sampled_from([4, 5, 8]))
def test_x5_uiq_is_ssim_without_constants(seed: int, side: int, size: int) -> None:
    a, b, mask = make(seed, side, side)
    mask[4:12, 4:12] = True  # room for at least one window
    for m in (None, mask):
        ssim = imsim.ssim(
            a, b, mask=m, data_range=255, window="uniform", window_size=size, K1=0.0, K2=0.0
        )
        # No constant steadies either quotient: where a variance is small, a relative error of
        # eps mean^2 / variance remains.
        assert imsim.uiq(a, b, mask=m, block_size=size) == pytest.approx(ssim, abs=1e-9)


@given(seeds, sides)
def test_x6_imed_of_a_narrow_kernel_is_se(seed: int, side: int) -> None:
    a, b, mask = make(seed, side, side)
    sigma = 0.1  # the next pixel weighs exp(-50) = 2e-22
    for m in (None, mask):
        se = imsim.imed(a, b, mask=m, sigma=sigma) ** 2 * 2 * np.pi * sigma**2
        assert se == pytest.approx(imsim.se(a, b, mask=m), rel=CLOSE)


@given(seeds, st.sampled_from((4, 5, 8, 13, 20)))  # few sizes: some have a kernel of their own
def test_x7_one_window(seed: int, side: int) -> None:
    a, b, _ = make(seed, 24, 24)
    a, b = a[:side, :side], b[:side, :side]
    mx, my = a.mean(), b.mean()
    covariance = ((a - mx) * (b - my)).mean()
    want = 4 * covariance * mx * my / ((a.var() + b.var()) * (mx**2 + my**2))
    assert imsim.uiq(a, b, block_size=side) == pytest.approx(want, abs=1e-10)
    ssim = imsim.ssim(a, b, data_range=1, window="uniform", window_size=side, K1=0.0, K2=0.0)
    assert ssim == pytest.approx(want, abs=1e-10)
    correlation = covariance / (a.std() * b.std())
    assert imsim.zncc(a, b, window_size=side) == pytest.approx(correlation, abs=1e-10)
    assert imsim.zncc(a, b) == pytest.approx(correlation, abs=CLOSE)


@given(seeds, sides)
def test_x8_chromatic_fsim_of_grey(seed: int, side: int) -> None:
    a, b, mask = make(seed, side, side + 3)
    rgb = [np.repeat(image[..., None], 3, axis=-1) for image in (a, b)]
    for m in (None, mask):
        got = imsim.fsim(*rgb, mask=m, data_range=255, channel_axis=-1, chromatic=True)
        # The weights of I and Q sum to 0, those of Y to 1, up to rounding.
        assert got == pytest.approx(imsim.fsim(a, b, mask=m, data_range=255), abs=1e-10)


def census(image: np.ndarray) -> np.ndarray:
    """Bits 'neighbour brighter than centre', shape (8, height - 2, width - 2)."""
    height, width = image.shape
    offsets = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    centre = image[1:-1, 1:-1]
    return np.stack([image[i : i + height - 2, j : j + width - 2] > centre for i, j in offsets])


@given(seeds, sides)
def test_x9_census_is_a_hamming_distance(seed: int, side: int) -> None:
    a, b, mask = make(seed, side, side + 2)
    p, q = census(a), census(b)
    assert imsim.sh(a, b, hash="census") == pytest.approx((p != q).mean(), abs=1e-15)
    # A bit exists where both its pixels lie inside the mask.
    exists = np.stack([c > 0 for c in census_mask(mask)])
    want = ((p != q) & exists).sum() / exists.sum()
    assert imsim.sh(a, b, mask=mask, hash="census") == pytest.approx(want, abs=1e-15)


def census_mask(mask: np.ndarray) -> np.ndarray:
    """Where both the neighbour and the centre lie inside."""
    height, width = mask.shape
    offsets = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    centre = mask[1:-1, 1:-1]
    return np.stack([mask[i : i + height - 2, j : j + width - 2] & centre for i, j in offsets])


@given(seeds, st.integers(24, 40))
@example(0, 24)
def test_x10_issm_from_its_components(seed: int, side: int) -> None:
    a, b, mask = make(seed, side, side)
    mask[8:16, 8:16] = True  # room for at least one window of SSIM
    for m in (None, mask):
        parts = imsim.issm_components(a, b, mask=m, data_range=255)
        assert parts._fields == ("entropy", "edge_correlation", "ssim")
        H, R, S = parts
        assert pytest.approx(imsim.ssim(a, b, mask=m, data_range=255), abs=1e-15) == S
        want = (R * H * 0.8 + 0.01) / (0.3 * R * H + 0.5 * H + 0.7 * S + 0.01)
        got = imsim.issm(a, b, mask=m, data_range=255)
        assert got == pytest.approx(want, abs=CLOSE)
        inside = np.ones_like(mask) if m is None else m
        assert pytest.approx(joint_entropy(a[inside], b[inside]), abs=1e-10) == H
        assert -1 <= R <= 1


def joint_entropy(x: np.ndarray, y: np.ndarray) -> float:
    """Shannon entropy, in bits, of the joint histogram of 256 bins over [0, 255]."""
    counts, _, _ = np.histogram2d(x, y, bins=256, range=[[0, 255], [0, 255]])
    h = counts[counts > 0] / counts.sum()
    return float(-(h * np.log2(h)).sum())
