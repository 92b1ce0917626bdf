"""Identities: a metric of equal images, and one that computes another by a route of its own.

Those between metrics are X4, X5 and X7. Others about one metric stand in its file in tests/metrics.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, masked_pair

import imsim
from imsim import METRICS
from imsim.errors import silent

sides = st.integers(16, 40)
# Two well-conditioned routes to one number: a few hundred additions in float64.
CLOSE = 1e-12


@given(SEEDS, sides)
def test_x4_zncc_is_the_cosine_of_sam(seed: int, side: int) -> None:
    a, b, mask = masked_pair(seed, side, side)
    for m in (np.ones_like(mask), mask):
        angle = imsim.sam(a - a[m].mean(), b - b[m].mean(), mask=m)
        assert imsim.zncc(a, b, mask=m) == pytest.approx(np.cos(angle), abs=CLOSE)


@given(SEEDS, sides, st.sampled_from([4, 5, 8]))
def test_x5_uiq_is_ssim_without_constants(seed: int, side: int, size: int) -> None:
    a, b, mask = masked_pair(seed, side, side)
    mask[4:12, 4:12] = True  # room for at least one window
    for m in (None, mask):
        ssim = imsim.ssim(
            a, b, mask=m, data_range=255, window="uniform", window_size=size, K1=0.0, K2=0.0
        )
        # No constant steadies either quotient: where a variance is small, a relative error of
        # eps mean^2 / variance remains.
        assert imsim.uiq(a, b, mask=m, block_size=size) == pytest.approx(ssim, abs=1e-9)


@given(SEEDS, st.sampled_from((4, 5, 13, 20)))  # none of which has a kernel of its own
def test_x7_one_window(seed: int, side: int) -> None:
    a, b, _ = masked_pair(seed, 24, 24)
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


def odd_images() -> list[np.ndarray]:
    """Images that leave the rounding of their sums alone: constant, of two values, far from 0."""
    rng = np.random.default_rng(0)
    widths = [np.full((40, width), 7.0) for width in range(60, 80)]
    two = np.where(rng.random((64, 72)) < 0.1, 0.7, 0.1)
    steps = np.repeat([[0.7], [0.1]], [8, 64], axis=0) * np.ones(64)
    far = [np.full((64, 64), -9999.0) for _ in range(8)]
    for image in far:
        image[:6] = rng.normal(size=(6, 64))
    return [*widths, two, steps, *far]


@pytest.mark.parametrize("name", [name for name, m in METRICS.items() if m.best == m.best])
def test_equal_images_have_the_best_score(name: str) -> None:
    facts = METRICS[name]
    for image in odd_images():
        calls: list[dict[str, np.ndarray]] = [{}, {"mask": np.arange(image.size) % 97 > 0}]
        calls += [] if facts.no_weights else [{"weights": np.linspace(0.5, 2, image.size)}]
        for options in calls:
            own = {key: value.reshape(image.shape) for key, value in options.items()}
            with silent(imsim.EmptyMaskWarning):  # the windows of some metrics fit nowhere
                score = facts.function(image, image.copy(), data_range=2, **own)
            assert score == facts.best or ("mask" in own and np.isnan(score))
