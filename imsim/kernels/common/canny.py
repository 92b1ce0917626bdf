"""Canny edges, equal to those of scikit-image, with 1 byte of memory per pixel.

Smoothing, gradients and thinning read a neighbourhood: they run in float64 on strips of rows with
their surroundings. They leave 1 byte per pixel: no edge, a weak edge or a strong edge. Hysteresis
links these bytes.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from imsim.caches import kept
from imsim.kernels.common.jit import allocating, exact, exact_part
from imsim.kernels.common.planes import NO_MASK
from imsim.portable.edges import edge_unit
from imsim.typing import Array

TRUNCATE = 4.0
"""Standard deviations from the centre of the Gaussian to its end."""
STRIP_PIXELS = 1 << 18
"""Pixels of a strip; a strip is at least twice as high as its surroundings."""
WEAK, STRONG, LINKED = 1, 2, 3


def strips(height: int, width: int, sigma: float) -> list[tuple[int, int]]:
    """List the first row and the end of each strip, which depend on the frame and on sigma only."""
    rows = max(STRIP_PIXELS // width, 4 * (gaussian_radius(sigma) + 2))
    return [(start, min(start + rows, height)) for start in range(0, height, rows)]


def gaussian_radius(sigma: float) -> int:
    """Pixels from the centre of the Gaussian to its end."""
    return int(TRUNCATE * sigma + 0.5)


def find_strengths(
    image: Array,
    mask: Array | None,
    rows: tuple[int, int],
    out: Array,
    *,
    data_range: float,
    sigma: float,
    low_threshold: float,
    high_threshold: float,
) -> None:
    """Write WEAK, STRONG or 0 (no edge) for each pixel of some rows."""
    start, stop = rows
    height, width = image.shape
    first, end = max(start - 2, 0), min(stop + 2, height)  # rows of the smoothed image
    top, bottom = max(first - gaussian_radius(sigma), 0), min(end + gaussian_radius(sigma), height)
    inside = None if mask is None else mask[top:bottom]
    values = image[top:bottom].astype(np.float64)
    values /= data_range
    if inside is not None:
        values[~inside] = 0
    wanted = slice(first - top, end - top)
    smoothed = _smooth(values, sigma)[wanted]
    del values
    if inside is None:
        row, column = (_like_rows(n, sigma) for n in (height, width))
        weight = _whole_weight(min(height, 2 * gaussian_radius(sigma) + 1), width, sigma)
        smoothed /= weight[row[first:end]][:, column]
    else:
        smoothed /= _smooth(inside.astype(np.float64), sigma)[wanted] + np.finfo(np.float64).eps
    # Single precision, as in scikit-image. A threshold of 0 lets every gradient pass.
    low = float(np.float32(low_threshold)) if low_threshold > 0 else float(np.float32(1e-14))
    unit = edge_unit(smoothed)
    if unit > 1:
        smoothed, low, high_threshold = smoothed / unit, low / unit, high_threshold / unit
    room = np.empty((3, stop - start + 3, width))
    inside = NO_MASK if mask is None else mask
    _thin(
        np.ascontiguousarray(smoothed), first, inside, start, stop, low, high_threshold, room, out
    )


def _smooth(values: Array, sigma: float) -> Array:
    """Gaussian with zeros beyond the frame."""
    result: Array = ndimage.gaussian_filter(values, sigma, mode="constant", truncate=TRUNCATE)
    return result


@kept
def _whole_weight(height: int, width: int, sigma: float) -> Array:
    """Weight of the pixels within the frame; a wide frame is replaced by a narrow equivalent."""
    ones = np.ones((height, min(width, 2 * gaussian_radius(sigma) + 1)))
    return _smooth(ones, sigma) + np.finfo(np.float64).eps


def _like_rows(n: int, sigma: float) -> Array:
    """Map each row of a frame to the row of the small frame that has the same weights."""
    r = gaussian_radius(sigma)
    rows = np.arange(n)
    return rows if n <= 2 * r + 1 else np.minimum(rows, r) + np.maximum(rows - (n - 1 - r), 0)


@exact
def _thin(smoothed, first, mask, start, stop, low, high, room, out):  # type: ignore[no-untyped-def]
    """Find Sobel gradients, and keep those that are local maxima along their direction."""
    height, width = out.shape
    top, bottom = max(start - 1, 0), min(stop + 1, height)
    magnitude, down, right = room[0], room[1], room[2]
    across = room[0, room.shape[1] - 1]
    for i in range(top, bottom):
        above, here = smoothed[max(i - 1, 0) - first], smoothed[i - first]
        below = smoothed[min(i + 1, height - 1) - first]
        for j in range(width):
            across[j] = below[j] - above[j]
        k = i - top
        for j in range(width):
            left, far = max(j - 1, 0), min(j + 1, width - 1)
            down[k, j] = 2 * across[j] + (across[left] + across[far])
        for j in range(width):
            left, far = max(j - 1, 0), min(j + 1, width - 1)
            # SciPy takes the difference first: rounding decides which of two neighbours is larger.
            middle = here[far] - here[left]
            right[k, j] = 2 * middle + ((above[far] - above[left]) + (below[far] - below[left]))
            magnitude[k, j] = np.sqrt(down[k, j] * down[k, j] + right[k, j] * right[k, j])
    for i in range(start, stop):
        for j in range(width):
            out[i, j] = 0
        if i == 0 or i == height - 1:
            continue
        k = i - top
        for j in range(1, width - 1):
            m = magnitude[k, j]
            if not m >= low:
                continue
            if mask.size > 0 and not _surrounded(mask, i, j):
                continue
            v, h = down[k, j], right[k, j]
            side = 1 if (v > 0) == (h > 0) else -1
            v, h = abs(v), abs(h)
            # Interpolate the neighbours on both sides, between an axis and a diagonal.
            if v > h or (side < 0 and v == h):
                w = h / v
                ahead, beyond = magnitude[k + 1, j], magnitude[k + 1, j + side]
                behind, before = magnitude[k - 1, j], magnitude[k - 1, j - side]
            else:
                w = v / h
                ahead, beyond = magnitude[k, j + 1], magnitude[k + side, j + 1]
                behind, before = magnitude[k, j - 1], magnitude[k - side, j - 1]
            if beyond * w + ahead * (1 - w) <= m and before * w + behind * (1 - w) <= m:
                out[i, j] = STRONG if m >= high else WEAK


@exact_part
def _surrounded(mask, i, j):  # type: ignore[no-untyped-def]
    """Whether a pixel and its eight neighbours lie inside the mask."""
    for k in range(i - 1, i + 2):
        for h in range(j - 1, j + 2):
            if not mask[k, h]:
                return False
    return True


def link(strengths: Array) -> Array:
    """Overwrite strengths by whether the pixel is a strong edge or connected with one."""
    _link(strengths)
    return strengths.view(np.bool_)


@allocating
def _link(strengths):  # type: ignore[no-untyped-def]
    height, width = strengths.shape
    waiting = np.empty(1024, dtype=np.int64)
    for p in range(height * width):
        if strengths[p // width, p % width] != STRONG:
            continue
        strengths[p // width, p % width] = LINKED
        waiting[0] = p
        n = 1
        while n > 0:
            n -= 1
            i, j = waiting[n] // width, waiting[n] % width
            for k in range(max(i - 1, 0), min(i + 2, height)):
                for h in range(max(j - 1, 0), min(j + 2, width)):
                    if strengths[k, h] == WEAK or strengths[k, h] == STRONG:
                        strengths[k, h] = LINKED
                        if n == waiting.size:
                            more = np.empty(2 * n, dtype=np.int64)
                            for m in range(n):
                                more[m] = waiting[m]
                            waiting = more
                        waiting[n] = k * width + h
                        n += 1
    for i in range(height):
        for j in range(width):
            strengths[i, j] = strengths[i, j] == LINKED
