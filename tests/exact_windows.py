"""Local indices straight from their definitions, slowly and with digits to spare.

Each window is taken by itself, in extended precision: first its weighted mean, then the weighted
mean squares and products of what its pixels differ from it. Inside a mask the weights are
those of the pixels that are left, divided by their sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

LONG = np.longdouble


class Moments(NamedTuple):
    """Moments of the two images in every window, and where it is scored."""

    scored: np.ndarray
    pixels: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray
    variance_x: np.ndarray
    variance_y: np.ndarray
    covariance: np.ndarray
    flat_x: np.ndarray
    flat_y: np.ndarray


def weights(size: int, sigma: float | None) -> np.ndarray:
    """Weights of a square window, Gaussian or, without sigma, equal."""
    if sigma is None:
        return np.ones((size, size), LONG)
    away = np.arange(size, dtype=LONG) - LONG(size - 1) / 2
    taps = np.exp(-(away**2) / (2 * LONG(sigma) ** 2))
    return np.outer(taps, taps) / taps.sum() ** 2


def moments(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, mask: np.ndarray | None, min_coverage: float
) -> Moments:
    """Moments in every window of two images of shape (height, width)."""
    size = len(w)

    def windows(values: np.ndarray) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(values, (size, size))

    inside = windows(np.ones(x.shape, bool) if mask is None else mask)
    found: list[Any] = []
    weighed = np.where(inside, w, 0)
    total = weighed.sum((-2, -1))
    total = np.where(total > 0, total, 1)[..., None, None]
    for image in (x, y):
        values = np.where(inside, windows(image.astype(LONG)), 0)
        # Differences from a pixel of the window first: they are exact.
        index = np.argmax(np.where(inside, w, -1).reshape(*total.shape[:2], -1), axis=-1)
        flat = values.reshape(*total.shape[:2], -1)
        pixel = np.take_along_axis(flat, index[..., None], -1)[..., None]
        away = np.where(inside, values - pixel, 0)
        mean = (weighed * away).sum((-2, -1), keepdims=True) / total
        constant = (away == 0).all((-2, -1))
        found.append(((pixel + mean)[..., 0, 0], np.where(inside, away - mean, 0), constant))
    (mean_x, away_x, flat_x), (mean_y, away_y, flat_y) = found

    def average(values: np.ndarray) -> np.ndarray:
        return np.asarray((weighed * values).sum((-2, -1)) / total[..., 0, 0])

    coverage = weighed.sum((-2, -1)) / w.sum()
    if size % 2:
        scored = inside[..., size // 2, size // 2] & (coverage > min_coverage - 1e-15)
    else:
        scored = coverage > max(min_coverage, 0.5) - 1e-15
    if min_coverage == 1:
        scored = inside.all((-2, -1))
    return Moments(
        scored,
        inside.sum((-2, -1)),
        mean_x,
        mean_y,
        average(away_x**2),
        average(away_y**2),
        average(away_x * away_y),
        flat_x,
        flat_y,
    )


def ssim_map(
    x: np.ndarray,
    y: np.ndarray,
    *,
    data_range: float,
    mask: np.ndarray | None = None,
    window: str = "gaussian",
    window_size: int | None = None,
    sigma: float = 1.5,
    K1: float = 0.01,
    K2: float = 0.03,
    sample_covariance: bool = False,
    min_coverage: float = 0.0,
) -> np.ndarray:
    """SSIM in every window that fits into the frame; NaN where it is not scored."""
    size = window_size or (11 if window == "gaussian" else 7)
    m = moments(x, y, weights(size, sigma if window == "gaussian" else None), mask, min_coverage)
    scored, unbiased = m.scored, LONG(1)
    if sample_covariance:
        scored = scored & (m.pixels > 1)
        unbiased = m.pixels / np.maximum(m.pixels - 1, 1).astype(LONG)
    c1, c2 = ((LONG(k) * LONG(data_range)) ** 2 for k in (K1, K2))
    luminance = (2 * m.mean_x * m.mean_y + c1) / (m.mean_x**2 + m.mean_y**2 + c1)
    variances = (m.variance_x + m.variance_y) * unbiased
    values = luminance * (2 * m.covariance * unbiased + c2) / (variances + c2)
    return np.where(scored, values, np.nan)


def uiq_map(
    x: np.ndarray, y: np.ndarray, *, mask: np.ndarray | None = None, block_size: int = 8
) -> np.ndarray:
    """UIQ in every block that fits into the frame; NaN where it is not scored."""
    m = moments(x, y, weights(block_size, None), mask, 0.0)
    with np.errstate(all="ignore"):
        luminance = 2 * m.mean_x * m.mean_y / (m.mean_x**2 + m.mean_y**2)
        values = luminance * 2 * m.covariance / (m.variance_x + m.variance_y)
    values = np.where(m.flat_x & m.flat_y, luminance, values)
    values = np.where((m.mean_x == 0) & (m.mean_y == 0), 1, values)
    return np.where(m.scored, values, np.nan)


def zncc_map(
    x: np.ndarray,
    y: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    window_size: int = 9,
    min_coverage: float = 0.0,
) -> np.ndarray:
    """Correlation in every window that fits into the frame; NaN where it is not scored."""
    m = moments(x, y, weights(window_size, None), mask, min_coverage)
    with np.errstate(all="ignore"):
        values = m.covariance / np.sqrt(m.variance_x) / np.sqrt(m.variance_y)
    values = np.where(m.flat_x | m.flat_y, m.flat_x & m.flat_y, values)
    return np.where(m.scored, values, np.nan)


def on_frame(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Lay the windows out on the grid of the pixels, as the maps are."""
    size = shape[0] - len(values) + 1
    out = np.full(shape, np.nan, LONG)
    out[size // 2 : size // 2 + values.shape[0], size // 2 : size // 2 + values.shape[1]] = values
    return out
