"""IMED: a quadratic form in the difference of the images, computed tile by tile.

For volumes, the form is the sum over all planes of a plane blurred along itself, times the plane
and those behind it by the taps along the depth: the Gaussian separates. G is symmetric, so that the
products with planes behind count twice.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.caches import kept
from imsim.kernels.common.jit import allocating, kernel, part
from imsim.kernels.common.planes import BLOCK, NO_MASK, Planes, sum_parts
from imsim.kernels.common.rescaling import find_lost_sums, lost_elements, scale_difference
from imsim.portable.arrays import broadcast, unstacked
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import gaussian_reach
from imsim.typing import Array
from imsim.validation import Images, element
from imsim.workers import divided, parallel

TILE_COLUMNS = 256
"""Most columns of a tile: the rows that a Gaussian joins stay in the first-level cache."""
TILE_ROWS = 32
"""Least rows of a tile."""
STRIP_ROWS = 128
"""Least rows of a strip."""
CANCELLED = 0.02
"""Quadratic forms below this part of the sum of squares are computed in float64."""
SMALLEST_SUM = 1e-20
"""Below this sum of squares, float32 loses squares to underflow."""
CHEAPNESS = 2
"""See `Planes.strips`."""
TAPS_AT_ONCE = 3
"""Taps of one pass over a row; the first pass also starts the sums."""
CUTOFF = {np.dtype(np.float32): 6.0, np.dtype(np.float64): 9.0}
"""Standard deviations at which the Gaussian ends; beyond, it is below the dtype's resolution."""


def imed(
    images: Images,
    mask: Array | None,
    sigma: float,
    normalize: str | None,
    spacing: tuple[float, ...] | None,
) -> Scores | None:
    """sqrt(d' G d), pooled over channels; None, for the formula, where there is a spacing."""
    if spacing is not None:
        return None
    squared, n, energy = _forms(images, mask, sigma)
    units: Array | None = None
    odd = find_lost_sums(images, squared)
    if images.dtype == np.float32:
        # The rounding error is relative to the squares, which nearly cancel in these forms.
        lost = ~(squared > np.maximum(CANCELLED * energy, SMALLEST_SUM))
        odd = odd if not lost.any() else lost if odd is None else odd | lost
    if odd is not None:
        units = np.ones(squared.shape)
        for index, element, valid in lost_elements(odd, images, mask, equal=False):
            difference, units[index] = scale_difference(element)
            squared[index] = _forms(difference, valid, sigma)[0]
    if normalize == "rms":
        squared = squared / (n * images.x.shape[-3])
    root = np.sqrt(squared)
    return Scores(root if units is None else root * units, n, witness=energy)


def _forms(images: Images, mask: Array | None, sigma: float) -> tuple[Array, Array, Array]:
    """Quadratic forms pooled over channels, numbers of pixels, and sums of squares."""
    planes = Planes(images, mask)
    taps = taps_along(sigma, max(images.frame), images.dtype)
    rows = max(STRIP_ROWS, 2 * len(taps))
    sums = sum_parts(planes.strips(_form_of_strip, 3, taps, rows=rows, cheapness=CHEAPNESS))
    squared, n, energy = sums[..., 0], sums[..., :1, 1], sums[..., 2]
    if squared.shape[-1] > 1:
        squared, energy = (v.sum(axis=-1, keepdims=True) for v in (squared, energy))
    # G is positive definite, yet for a large sigma its smallest eigenvalues are below rounding.
    squared = np.where(squared < 0, 0.0, squared)
    return squared, n, energy


def imed_map(
    images: Images, mask: Array | None, sigma: float, spacing: tuple[float, ...] | None
) -> Local | None:
    """Contribution of each pixel, summed over channels, in float64: neighbours may cancel."""
    if spacing is not None:
        return None
    channels = images.x.shape[-3]
    found = _blurred(images, mask, sigma, channels, times_difference=True)
    radius = gaussian_reach(sigma, max(images.frame))
    return Local(found, mask, reach=(radius, radius))


def blurred_difference(images: Images, mask: Array | None, sigma: float) -> Array:
    """Blur x - y, which is 0 outside the mask: G d, in float64, for each channel."""
    return _blurred(images, mask, sigma, 1, times_difference=None)


def _blurred(
    images: Images, mask: Array | None, sigma: float, together: int, times_difference: bool | None
) -> Array:
    """Sum of G d over groups of so many channels; of d (G d), unless `times_difference` is None.

    Numba compiles True and None apart, so that no pixel asks.
    """
    images = images._replace(dtype=np.float64)
    planes = Planes(images, mask)
    taps = taps_along(sigma, max(images.frame), images.dtype)
    *batch, channels = planes.shape
    rows = max(STRIP_ROWS, 2 * len(taps))
    strips = -(-planes.frame[0] // rows)
    found = np.zeros((planes.count // together, *planes.frame), images.dtype)

    def task(i: int) -> None:
        image, strip = divmod(i, strips)
        start = strip * rows
        part = found[image, start : start + rows]
        for channel in range(together):
            plane = planes[image * together + channel]
            _blur_strip(*plane, start, taps, part, times_difference)

    parallel(task, len(found) * strips, found.size)
    return found.reshape(*batch, channels // together, *planes.frame)


def taps_along(sigma: float, length: int, dtype: Any) -> Array:
    """Return half of the Gaussian from its centre on, up to the distance of the ends of an axis."""
    reach = math.ceil(CUTOFF[np.dtype(dtype)] * sigma)
    return _taps(sigma, min(reach, length - 1), dtype)


@kept
def _taps(sigma: float, radius: int, dtype: Any) -> Array:
    """Half of the Gaussian from its centre on, filled with zeros to whole passes."""
    passes = max(1, -(-radius // TAPS_AT_ONCE))
    taps = np.zeros(1 + passes * TAPS_AT_ONCE)
    k = np.arange(radius + 1)
    taps[: radius + 1] = np.exp(-(k**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
    return taps.astype(dtype)


def _width(columns: int) -> int:
    """Return the width of the tiles that share out the columns evenly."""
    tiles = -(-columns // TILE_COLUMNS)
    return -(-columns // tiles)


def _form_of_strip(
    x: Array, y: Array, mask: Array, start: int, stop: int, out: Array, taps: Array
) -> None:
    """D' G d of a strip, the number of its pixels, and the sum of squares."""
    radius, width = taps.size - 1, _width(x.shape[1])
    height = max(TILE_ROWS, radius)
    tile = np.empty((height + radius) * (width + 2 * radius), taps.dtype)
    lines = np.empty((2, width), taps.dtype)
    _quadratic_form(x, y, mask, start, stop, taps, tile, lines, out)
    out[1] = np.count_nonzero(mask[start:stop]) if mask.size else (stop - start) * x.shape[1]


def _blur_strip(
    x: Array,
    y: Array,
    mask: Array | None,
    start: int,
    taps: Array,
    found: Array,
    times_difference: bool | None,
) -> None:
    """Add G d, or d (G d), for the pixels of a strip."""
    radius, width = taps.size - 1, _width(x.shape[1])
    rows = len(found) + 2 * radius
    tile, along = (np.empty(rows * n, taps.dtype) for n in (width + 2 * radius, width))
    inside, line = NO_MASK if mask is None else mask, np.empty(width, taps.dtype)
    for left in range(0, x.shape[1], width):
        _load(x, y, inside, start - radius, left, radius, width, tile)
        # The whole rows: Numba would compile again for columns of them, which are not contiguous.
        _add_blurred(tile, taps, along, line, found, left, times_difference)


@kernel
def _quadratic_form(x, y, mask, start, stop, taps, tile, lines, out):  # type: ignore[no-untyped-def]
    radius, width = taps.size - 1, lines.shape[1]
    height = tile.size // (width + 2 * radius) - radius
    for top in range(start, stop, height):
        for left in range(0, x.shape[1], width):
            _load(x, y, mask, top, left, radius, width, tile)
            _add_form(tile, min(height, stop - top), taps, lines[0], lines[1], out)


@part
def _add_form(tile, rows, taps, blurred, ahead, out):  # type: ignore[no-untyped-def]
    """Add the forms and the squares of the first rows of a tile.

    G is symmetric: each row is blurred along itself and multiplied with itself and with the rows
    below it, whose products count twice.
    """
    radius, width = taps.size - 1, blurred.size
    stride = width + 2 * radius
    half = taps[0] * taps.dtype.type(0.5)
    for i in range(rows):
        origin = i * stride + radius
        row = tile[origin : origin + width]
        _blur(tile, origin, np.int64(1), taps, blurred)
        for k in range(1, radius + 1, TAPS_AT_ONCE):
            p = tile[origin + k * stride :]
            q = tile[origin + (k + 1) * stride :]
            r = tile[origin + (k + 2) * stride :]
            s, t, u = taps[k], taps[k + 1], taps[k + 2]
            if k == 1:
                for j in range(width):
                    ahead[j] = half * row[j] + s * p[j] + t * q[j] + u * r[j]
            else:
                for j in range(width):
                    ahead[j] += s * p[j] + t * q[j] + u * r[j]
        form, energy = taps.dtype.type(0), taps.dtype.type(0)
        for j in range(width):
            form += blurred[j] * ahead[j]
            energy += row[j] * row[j]
        out[0] += 2 * np.float64(form)
        out[2] += np.float64(energy)


@kernel
def _add_blurred(tile, taps, along, line, found, left, times_difference):  # type: ignore[no-untyped-def]
    """Blur a tile along its rows and down its columns; multiply the result by the tile, or not."""
    radius, width = taps.size - 1, line.size
    stride = width + 2 * radius
    for i in range(found.shape[0] + 2 * radius):
        blurred = along[i * width : (i + 1) * width]
        _blur(tile, i * stride + radius, np.int64(1), taps, blurred)
    for i in range(found.shape[0]):
        _blur(along, (i + radius) * width, width, taps, line)
        row = tile[(i + radius) * stride + radius :]
        out = found[i, left : left + width]
        for j in range(out.size):
            out[j] += line[j] if times_difference is None else row[j] * line[j]


@kernel
def _load(x, y, mask, top, left, radius, width, tile):  # type: ignore[no-untyped-def]
    """Fill a tile with x - y, and with 0 outside the mask and beyond the frame."""
    real = tile.dtype.type
    stride = width + 2 * radius
    first, last = max(left - radius, 0), min(left + width + radius, x.shape[1])
    shift = first - (left - radius)
    for i in range(tile.size // stride):
        row = tile[i * stride : (i + 1) * stride]
        for j in range(stride):
            row[j] = 0
        if 0 <= top + i < x.shape[0]:
            p, q = x[top + i, first:last], y[top + i, first:last]
            row = row[shift:]
            if mask.size == 0:
                for j in range(p.size):
                    row[j] = real(p[j]) - real(q[j])
            else:
                inside = mask[top + i, first:last]
                for j in range(p.size):
                    d = real(p[j]) - real(q[j])
                    row[j] = d if inside[j] else real(0)


@part
def _blur(values, origin, stride, taps, out):  # type: ignore[no-untyped-def]
    """Correlate values from `origin` on with a symmetric filter whose taps are `stride` apart."""
    centre = values[origin : origin + out.size]
    for k in range(1, taps.size, TAPS_AT_ONCE):
        a, b = values[origin - k * stride :], values[origin + k * stride :]
        c, d = values[origin - (k + 1) * stride :], values[origin + (k + 1) * stride :]
        e, f = values[origin - (k + 2) * stride :], values[origin + (k + 2) * stride :]
        s, t, u = taps[k], taps[k + 1], taps[k + 2]
        if k == 1:
            for j in range(out.size):
                total = taps[0] * centre[j] + s * (a[j] + b[j])
                out[j] = total + t * (c[j] + d[j]) + u * (e[j] + f[j])
        else:
            for j in range(out.size):
                out[j] += s * (a[j] + b[j]) + t * (c[j] + d[j]) + u * (e[j] + f[j])


PART = 1 << 16
"""Most pixels of a part of a plane, the unit of work of a thread."""


def volume_imed(
    images: Images,
    mask: Array | None,
    sigma: float,
    normalize: str | None,
    spacing: tuple[float, ...] | None,
) -> Scores | None:
    """sqrt(d' G d), pooled over channels; None, for the formula, where there is a spacing."""
    if spacing is not None:
        return None
    batch = broadcast(images.batch_shape, () if mask is None else mask.shape[:-3])
    squared, n, energy, units = (np.zeros((*batch, 1)) for _ in range(4))
    units[:] = 1
    for place in np.ndindex(batch):
        one = images._replace(x=element(images.x, batch, place), y=element(images.y, batch, place))
        valid = None if mask is None else element(mask, batch, place)
        n[place] = one.x[0].size if valid is None else np.count_nonzero(valid)
        squared[place], energy[place] = _pooled_volumes(one, valid, sigma)
    lost = find_lost_sums(images._replace(dtype=np.float64), squared)
    if lost is not None:
        for place, one, valid in lost_elements(lost, images, mask, equal=False):
            difference, units[place] = scale_difference(one)
            squared[place], _ = _pooled_volumes(difference, valid, sigma)
    if normalize == "rms":
        squared = squared / (n * images.x.shape[-3])
    return Scores(np.sqrt(squared) * units, n, witness=energy)


def _pooled_volumes(images: Images, mask: Array | None, sigma: float) -> tuple[float, float]:
    """D' G d and the sum of squares of a pair of volumes, over all channels."""
    x, y = (unstacked(v, images.depth) for v in (images.x, images.y))
    valid = None if mask is None else unstacked(mask, images.depth)[0]
    form, energy = 0.0, 0.0
    for p, q in zip(x, y, strict=True):
        of_channel, squares = _form_of_volume(images, p, q, valid, sigma)
        form, energy = form + of_channel, energy + squares
    # G is positive definite, yet for a large sigma its smallest eigenvalues are below rounding.
    return 0.0 if form < 0 else form, energy


def _form_of_volume(
    images: Images, x: Array, y: Array, mask: Array | None, sigma: float
) -> tuple[float, float]:
    """D' G d and the sum of squares of one channel, (depth, height, width)."""
    depth, height, width = x.shape
    taps = taps_along(sigma, depth, np.dtype(np.float64))
    ring = np.zeros((taps.size, height * width))
    parts = divided(height * width, PART)
    sums = np.zeros((len(parts), 2))
    one = images._replace(dtype=np.float64, depth=None)
    for z in range(1 - taps.size, depth):
        ahead = z + taps.size - 1
        row = ring[ahead % taps.size]
        if ahead < depth:
            np.subtract(x[ahead], y[ahead], dtype=np.float64, out=row.reshape(height, width))
            if mask is not None:
                row[~mask[ahead].reshape(-1)] = 0
        else:
            row[:] = 0
        if z >= 0:
            inside = None if mask is None else mask[z, None]
            plane = one._replace(x=x[z, None], y=y[z, None])
            blurred = blurred_difference(plane, inside, sigma).reshape(-1)
            _add_planes(ring, z % taps.size, taps, blurred, parts, sums)
    form, squares = (math.fsum(column) for column in sums.T)
    return form, squares


def _add_planes(
    ring: Array, here: int, taps: Array, blurred: Array, parts: list[slice], sums: Array
) -> None:
    """Add what a plane, blurred along itself, gives with those behind it."""

    def task(i: int) -> None:
        part = parts[i]
        _add_part(ring, here, taps, blurred, part.start, part.stop, sums[i])

    parallel(task, len(parts), blurred.size)


@allocating
def _add_part(ring, here, taps, blurred, first, last, out):  # type: ignore[no-untyped-def]
    joined, planes = np.empty(BLOCK), taps.size
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        row, own = ring[here, start:stop], blurred[start:stop]
        for j in range(row.size):
            joined[j] = taps[0] * row[j]
        for k in range(1, planes):
            behind, tap = ring[(here + k) % planes, start:stop], 2 * taps[k]
            for j in range(behind.size):
                joined[j] += tap * behind[j]
        form, squares = 0.0, 0.0
        for j in range(row.size):
            form += own[j] * joined[j]
            squares += row[j] * row[j]
        out[0] += form
        out[1] += squares
