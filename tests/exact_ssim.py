"""SSIM of single windows in decimal numbers of 60 digits, from the exact taps of the Gaussian."""

from __future__ import annotations

import itertools
from decimal import Context, Decimal, localcontext

import numpy as np


def ssim_of(
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    data_range: float,
    sigma: float | None = 1.5,
) -> float:
    """SSIM of two images, or volumes, taken as one window; without sigma, of equal taps."""
    with localcontext(Context(prec=60)):
        sides = [_taps(n, sigma) for n in x.shape]
        taps = np.array([np.prod(some) for some in itertools.product(*sides)])
        p, q = (_decimals(v) for v in (x, y))
        w = taps if weights is None else taps * _decimals(weights)
        w = w / w.sum()
        mean_x, mean_y = w @ p, w @ q
        p, q = p - mean_x, q - mean_y
        c1, c2 = ((Decimal(k) * Decimal(data_range)) ** 2 for k in (0.01, 0.03))
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        return float(luminance * (2 * (w @ (p * q)) + c2) / (w @ (p * p + q * q) + c2))


def _taps(size: int, sigma: float | None) -> list[Decimal]:
    if sigma is None:
        return [Decimal(1)] * size
    centre = Decimal(size - 1) / 2
    return [(-((k - centre) ** 2) / (2 * Decimal(sigma) ** 2)).exp() for k in range(size)]


def _decimals(values: np.ndarray) -> np.ndarray:
    return np.array([Decimal(float(v)) for v in np.ravel(values)])
