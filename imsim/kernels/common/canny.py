"""Canny edges, equal to those of scikit-image, with 1 byte of memory per pixel.

Smoothing, gradients and thinning read a neighbourhood: they run in float64 on strips of rows with
their surroundings. They leave 1 byte per pixel: no edge, a weak edge or a strong edge. Hysteresis
links these bytes.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from imsim.caches import kept
from imsim.kernels.common.jit import allocating, exact, exact_part, inline
from imsim.kernels.common.planes import NO_MASK
from imsim.portable.edges import edge_unit
from imsim.typing import Array

TRUNCATE = 4.0
"""Standard deviations from the centre of the Gaussian to its end."""
STRIP_PIXELS = 1 << 16
"""Pixels of a strip, which fit into the second-level cache; a strip is at least twice as high as
its surroundings."""
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
    taps = _taps(sigma)
    radius = taps.size - 1
    top, bottom = max(first - radius, 0), min(end + radius, height)
    padded, line = np.empty((end - first, width + 2)), np.zeros(width + 2 * radius)
    smoothed = padded[:, 1:-1]
    values = np.divide(image[top:bottom], data_range, dtype=np.float64)
    inside = None if mask is None else mask[top:bottom]
    if inside is None or inside.all():
        _smooth(values, taps, first - top, line, padded)
        smoothed /= _whole_weights(height, width, sigma, first, end)
    else:
        values[~inside] = 0
        _smooth(values, taps, first - top, line, padded)
        weight = np.empty_like(padded)
        _smooth(inside.astype(np.float64), taps, first - top, line, weight)
        smoothed /= weight[:, 1:-1] + np.finfo(np.float64).eps
    # Single precision, as in scikit-image. A threshold of 0 lets every gradient pass.
    low = float(np.float32(low_threshold)) if low_threshold > 0 else float(np.float32(1e-14))
    unit = edge_unit(smoothed)
    if unit > 1:
        smoothed /= unit
        low, high_threshold = low / unit, high_threshold / unit
    padded[:, 0], padded[:, -1] = padded[:, 1], padded[:, -2]
    room, mask = np.empty((3, 3, width + 2)), NO_MASK if mask is None else mask
    _thin(padded, first, mask, start, stop, low, high_threshold, room, out)


@kept
def _taps(sigma: float) -> Array:
    """Weights of SciPy's Gaussian, from its centre to its end."""
    radius = gaussian_radius(sigma)
    impulse = np.zeros(2 * radius + 1)
    impulse[radius] = 1
    found: Array = ndimage.gaussian_filter(impulse, sigma, mode="constant", truncate=TRUNCATE)
    return found[radius:].copy()


@exact
def _smooth(values, taps, first, line, out):  # type: ignore[no-untyped-def]
    """Smooth some rows by a Gaussian, with zeros beyond the values.

    In the order of SciPy, to the bit: from the end of the Gaussian to its centre, and columns
    first. `line` holds a row between zeros. Rows of `out` have another pixel at both ends.
    """
    (height, width), radius = values.shape, taps.size - 1
    inner = line[radius : radius + width]
    for i in range(out.shape[0]):
        centre, row = values[first + i], out[i, 1 : width + 1]
        for j in range(width):
            inner[j] = centre[j] * taps[0]
        k = radius
        while k > 0:
            above, below = first + i - k, first + i + k
            if above >= 0 and below < height:
                further = values[above + (k > 1)], values[below - (k > 1)]
                k = _add_taps(inner, values[above], values[below], further[0], further[1], taps, k)
            else:
                if above >= 0 or below < height:
                    a = values[above if above >= 0 else below]
                    for j in range(width):
                        inner[j] += a[j] * taps[k]
                k -= 1
        for j in range(width):
            row[j] = inner[j] * taps[0]
        k = radius
        while k > 0:
            a, b = line[radius - k :], line[radius + k :]
            k = _add_taps(row, a, b, a[1:], line[radius + k - 1 :], taps, k)


@exact_part
def _add_taps(sums, a, b, c, d, taps, k):  # type: ignore[no-untyped-def]
    """Add two taps from the k-th, or the last one; return the number of those that are left."""
    if k == 1:
        for j in range(sums.size):
            sums[j] += (a[j] + b[j]) * taps[1]
        return 0
    for j in range(sums.size):
        sums[j] = (sums[j] + (a[j] + b[j]) * taps[k]) + (c[j] + d[j]) * taps[k - 1]
    return k - 2


def _whole_weights(height: int, width: int, sigma: float, first: int, end: int) -> Array:
    """Weights of the pixels within the frame, for some rows; one row if these are alike."""
    rows, columns = _like_rows(height, sigma)[first:end], _like_rows(width, sigma)
    different, places = np.unique(rows, return_inverse=True)
    side = 2 * gaussian_radius(sigma) + 1
    weights = _small_weights(min(height, side), min(width, side), sigma)[different][:, columns]
    return weights if different.size == 1 else weights[places]


@kept
def _small_weights(height: int, width: int, sigma: float) -> Array:
    """Weights of the pixels within a small frame."""
    weights: Array = ndimage.gaussian_filter(
        np.ones((height, width)), sigma, mode="constant", truncate=TRUNCATE
    )
    return weights + np.finfo(np.float64).eps


def _like_rows(n: int, sigma: float) -> Array:
    """Map each row of a frame to the row of the small frame that has the same weights."""
    r = gaussian_radius(sigma)
    rows = np.arange(n)
    return rows if n <= 2 * r + 1 else np.minimum(rows, r) + np.maximum(rows - (n - 1 - r), 0)


@exact
def _thin(smoothed, first, mask, start, stop, low, high, room, out):  # type: ignore[no-untyped-def]
    """Find Sobel gradients, and keep those that are local maxima along their direction.

    Each row begins and ends with two equal pixels, of which one lies beyond the frame. `room`
    holds the size, the rows and the columns of the gradients of three rows.
    """
    height, width = out.shape
    for i in range(max(start - 1, 0), min(stop + 1, height)):
        above, below = smoothed[max(i - 1, 0) - first], smoothed[min(i + 1, height - 1) - first]
        _find_gradients(above, smoothed[i - first], below, room[i % 3])
        k = i - 1  # the row whose neighbours are known
        if start <= k < stop and k > 0:
            _keep_maxima(room[(k - 1) % 3], room[k % 3], room[i % 3], low, high, out[k])
            if mask.size > 0:
                for j in range(1, width - 1):
                    if out[k, j] and not _surrounded(mask, k, j):
                        out[k, j] = 0
    for k in (0, height - 1):
        if start <= k < stop:
            for j in range(width):
                out[k, j] = 0


@exact_part
def _find_gradients(above, here, below, gradients):  # type: ignore[no-untyped-def]
    """Write the sizes of the gradients of a row, and their parts. Its ends lie beyond the frame."""
    magnitude, down, right = gradients[0], gradients[1], gradients[2]
    across, width = magnitude, here.size - 2
    for j in range(here.size):
        across[j] = below[j] - above[j]
    for j in range(width):
        down[j] = 2 * across[j + 1] + (across[j] + across[j + 2])
    for j in range(width):
        # SciPy takes the difference first: rounding decides which of two neighbours is larger.
        middle = here[j + 2] - here[j]
        right[j] = 2 * middle + ((above[j + 2] - above[j]) + (below[j + 2] - below[j]))
    for j in range(width):
        magnitude[j] = np.sqrt(down[j] * down[j] + right[j] * right[j])


@exact_part
def _keep_maxima(above, here, below, low, high, out):  # type: ignore[no-untyped-def]
    """Write the strengths of a row of gradients, all but its ends, which are no edges.

    The neighbours on both sides are interpolated, between an axis and a diagonal. Each is loaded
    before it is chosen: LLVM vectorises selections, and no branches.
    """
    magnitude, up, down = here[0], above[0], below[0]
    last = out.size - 1
    out[0], out[last] = 0, 0
    for j in range(1, last):
        m, v, h = magnitude[j], here[1, j], here[2, j]
        is_rising = (v > 0) == (h > 0)
        v, h = abs(v), abs(h)
        is_steep = (v > h) | ((v == h) & (not is_rising))
        w = (h if is_steep else v) / (v if is_steep else h)
        down_left, down_here, down_right = down[j - 1], down[j], down[j + 1]
        up_left, up_here, up_right = up[j - 1], up[j], up[j + 1]
        left, right = magnitude[j - 1], magnitude[j + 1]
        ahead, behind = (down_here, up_here) if is_steep else (right, left)
        beyond, before = (down_left, up_right) if is_steep else (up_right, down_left)
        beyond, before = (down_right, up_left) if is_rising else (beyond, before)
        is_edge = (m >= low) & (beyond * w + ahead * (1 - w) <= m)
        is_edge &= before * w + behind * (1 - w) <= m
        strength = STRONG if m >= high else WEAK
        out[j] = strength if is_edge else 0


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
    width = strengths.shape[1]
    room = np.empty(width, np.int64), np.zeros(width + 2, np.bool_), np.empty(1024, np.int64)
    _link(strengths.reshape(-1), width, *room)
    return strengths.view(np.bool_)


@allocating
def _link(strengths, width, places, weak, waiting):  # type: ignore[no-untyped-def]
    """Follow weak edges from every strong one. Pixels at the frame are none."""
    for first in range(width, strengths.size - width, width):
        row, number = strengths[first : first + width], 0
        above, below = strengths[first - width :], strengths[first + width :]
        column = weak[1 : width + 1]
        for j in range(width):
            column[j] = (above[j] == WEAK) | (row[j] == WEAK) | (below[j] == WEAK)
        left, right = weak[:width], weak[2:]
        # Every pixel is written, and few are kept: half of the branches would be a surprise.
        for j in range(width):
            places[number] = first + j
            number += (row[j] == STRONG) & (left[j] | column[j] | right[j])
        for k in range(number):
            waiting[0], n = places[k], 1
            while n > 0:
                n -= 1
                place = waiting[n]
                if n + 9 > waiting.size:
                    more = np.empty(2 * waiting.size, dtype=np.int64)
                    for m in range(n):
                        more[m] = waiting[m]
                    waiting = more
                for centre in (place - width, place, place + width):
                    n = _mark(strengths, centre - 1, waiting, n)
                    n = _mark(strengths, centre, waiting, n)
                    n = _mark(strengths, centre + 1, waiting, n)
    for k in range(strengths.size):
        strengths[k] = strengths[k] >= STRONG


@inline
def _mark(strengths, place, waiting, n):  # type: ignore[no-untyped-def]
    """Link a weak edge, which then waits; return how many wait."""
    strength = strengths[np.uint64(place)]
    is_weak = strength == WEAK
    strengths[np.uint64(place)] = LINKED if is_weak else strength
    waiting[np.uint64(n)] = place
    return n + is_weak
