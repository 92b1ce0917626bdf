"""Slow references without rounding: sums of rational numbers, for small images of finite floats.

Every float is an integer times a power of two, and so is every sum and product of floats. Pixels
become Python integers on a common scale, the sums stay integers, and only roots, logarithms and
arcs are taken of correctly rounded quotients.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

C = Fraction(170, 255**2)


def integers(*images: Any) -> tuple[list[np.ndarray], int]:
    """Images as arrays of Python integers, and the power of two they were multiplied by."""
    quotients = [[v.as_integer_ratio() for v in np.ravel(image).tolist()] for image in images]
    shift = max(d.bit_length() - 1 for image in quotients for _, d in image)
    found = []
    for image, quotient in zip(images, quotients, strict=True):
        whole = np.empty(len(quotient), object)
        whole[:] = [n << (shift - d.bit_length() + 1) for n, d in quotient]
        found.append(whole.reshape(np.shape(image)))
    return found, shift


def real(value: Fraction) -> float:
    """Round to a float; infinite beyond."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def root(value: Fraction) -> float:
    """Square root, also of what no float holds."""
    if value == 0:
        return 0.0
    half = (value.numerator.bit_length() - value.denominator.bit_length()) // 2
    return real(Fraction(math.sqrt(value / Fraction(4) ** half)) * Fraction(2) ** half)


def log10(value: Fraction) -> float:
    """Logarithm, also of what no float holds."""
    if value == 0:
        return -math.inf
    return math.log10(value.numerator) - math.log10(value.denominator)


def se(x: Any, y: Any) -> Fraction:
    """Sum of squared differences."""
    (u, v), shift = integers(x, y)
    return Fraction(int(((u - v) ** 2).sum()), 4**shift)


def rmse(x: Any, y: Any) -> float:
    """Root of the mean of the squared differences."""
    return root(se(x, y) / np.size(x))


def psnr(x: Any, y: Any, data_range: float) -> float:
    """Decibels of the squared range over the mean squared difference."""
    mse = se(x, y) / np.size(x)
    return math.inf if mse == 0 else 10 * log10(Fraction(data_range) ** 2 / mse)


def sre(x: Any, y: Any) -> float:
    """Decibels of the squared mean over the mean squared difference."""
    mse = se(x, y) / np.size(x)
    (u,), shift = integers(x)
    mean = Fraction(int(u.sum()), np.size(x) * 2**shift)
    return math.inf if mse == 0 else 10 * log10(mean**2 / mse)


def zncc(x: Any, y: Any) -> float:
    """Pearson's correlation."""
    (u, v), _ = integers(x, y)
    u, v = u * u.size - u.sum(), v * v.size - v.sum()
    xx, yy, xy = int((u * u).sum()), int((v * v).sum()), int((u * v).sum())
    if xx == 0 or yy == 0:
        return float(xx == yy)
    return math.copysign(root(Fraction(xy * xy, xx * yy)), 1 if xy > 0 else -1)


def angle(x: Any, y: Any) -> float:
    """Angle between two vectors."""
    (u, v), _ = integers(np.ravel(x), np.ravel(y))
    xx, yy, xy = int((u * u).sum()), int((v * v).sum()), int((u * v).sum())
    if xx == 0 or yy == 0:
        return 0.0 if xx == yy else math.pi / 2
    cosine = math.copysign(root(Fraction(xy * xy, xx * yy)), 1 if xy > 0 else -1)
    return math.atan2(math.sqrt(1 - Fraction(xy * xy, xx * yy)), cosine)


def angles(x: Any, y: Any) -> np.ndarray:
    """Angle between the channels, along the last axis, of each pixel; NaN where both are black."""
    found = np.full(np.shape(x)[:-1], math.nan)
    for index in np.ndindex(found.shape):
        if np.any(x[index]) or np.any(y[index]):
            found[index] = angle(x[index], y[index])
    return found


def imed_map(x: Any, y: Any, sigma: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """D (g * d) per pixel, and |d| (g * |d|), what it is the difference of, as fractions."""
    (u, v), shift = integers(x, y)
    d = u - v
    reach = max(d.shape)
    taps, scale = integers(
        [
            math.exp(-(k**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
            for k in range(reach)
        ]
    )
    found = []
    for values in (d, abs(d)):
        blurred = values
        for n in (0, 1):
            length = blurred.shape[n]
            weights = np.array(
                [[taps[0][abs(i - j)] for j in range(length)] for i in range(length)]
            )
            blurred = weights @ blurred if n == 0 else blurred @ weights
        found.append(values * blurred)
    unit = 4**shift * 4**scale
    return tuple(np.vectorize(lambda n: Fraction(n, unit), [object])(f) for f in found)  # type: ignore[return-value]


def imed(x: Any, y: Any, sigma: float = 1.0) -> float:
    """Root of the quadratic form."""
    return root(max(imed_map(x, y, sigma)[0].sum(), Fraction(0)))


def gmsd_map(x: Any, y: Any, data_range: float) -> np.ndarray:
    """Gradient similarity of each cell of 2x2 pixels, with zeros beyond the frame."""
    images, shift = integers(x, y)
    squares = []
    for image in images:
        height, width = image.shape
        cells = framed(image, (height + height % 2, width + width % 2), 0)
        cells = cells[::2, ::2] + cells[1::2, ::2] + cells[::2, 1::2] + cells[1::2, 1::2]
        cells = framed(cells, (cells.shape[0] + 2, cells.shape[1] + 2), 1)
        gx, gy = cells[:, 2:] - cells[:, :-2], cells[2:] - cells[:-2]
        gx, gy = gx[:-2] + gx[1:-1] + gx[2:], gy[:, :-2] + gy[:, 1:-1] + gy[:, 2:]
        squares.append(gx**2 + gy**2)
    c = C * 144 * Fraction(data_range) ** 2 * 4**shift
    found = np.empty(squares[0].shape)
    for index in np.ndindex(found.shape):
        p, q = int(squares[0][index]), int(squares[1][index])
        # 2 sqrt(p q) = p + q - (sqrt(p) - sqrt(q))^2, and the last term in relative precision
        apart = (
            Fraction(p - q) ** 2 / (root_of_integer(p) + root_of_integer(q)) ** 2 if p != q else 0
        )
        found[index] = 1 - apart / (p + q + c)
    return found


def framed(values: np.ndarray, shape: tuple[int, int], first: int) -> np.ndarray:
    """Copy into a larger array of zeros; those of `numpy.pad` are no Python integers."""
    found = np.full(shape, 0, object)
    found[first : first + values.shape[0], first : first + values.shape[1]] = values
    return found


def root_of_integer(n: int) -> Fraction:
    """Square root to 30 digits."""
    return Fraction(math.isqrt(n << 200), 1 << 100)


def gmsd(x: Any, y: Any, data_range: float) -> float:
    """Standard deviation of the gradient similarity, with n - 1."""
    (values,), shift = integers(gmsd_map(x, y, data_range))
    n = values.size
    return root(Fraction(int(((values * n - values.sum()) ** 2).sum()), n * n * (n - 1) * 4**shift))
