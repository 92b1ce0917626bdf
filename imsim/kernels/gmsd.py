"""GMSD in one pass over rows of cells of 2x2 pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.caches import kept_by_thread
from imsim.kernels.common.jit import exact, inline, kernel
from imsim.kernels.common.pixel_blocks import NO_MASK, count
from imsim.kernels.common.planes import Planes
from imsim.portable import similarity as formulas
from imsim.portable.gradients import CELL_REACH
from imsim.portable.pair import Local, Scores
from imsim.portable.similarity import C
from imsim.typing import Array
from imsim.validation import LARGEST, Images
from imsim.workers import parallel

STRIP_ROWS = 64
"""Rows of cells in a strip."""
GAIN = 4 * 3
"""Gradients of the kernel are larger by this factor: cells are sums of 4 pixels, not means, and
Prewitt's operator does not divide by 3."""

N_SUMS = 5
"""Numbers of a strip: the number of cells; their mean; the sum of squares about it; 0, or NaN if a
pixel inside is not finite; and twice the largest magnitude of half a cell. (In a whole cell, pixels
of opposite sign may cancel.)"""
FAR_RANGES = 16
"""Largest magnitude, in data ranges, for which sums of four pixels are formed before differences.
The rounding error of a difference is then below 3e-6 of the constant's root in float32."""
HUGE_SCALE = 2.0**-600
"""Factor that brings gradients whose squares overflow back into float64."""
POSITIVE = np.iinfo(np.int32).max
"""Bits of a float32 without its sign."""
NO_SCORED = np.empty((0, 0), np.uint8)
FLOAT32_RANGE = 1e12
"""Largest data range, and inverse of the smallest one, whose square fits into float32."""

_similarity = inline(formulas.similarity)


def gmsd(images: Images, mask: Array | None) -> Scores:
    """Standard deviation, with n - 1, of the gradient similarity."""
    planes, constants, cells = _prepare(images, mask)
    strips = planes.strips(
        _moments_of_strip, N_SUMS, *constants, positions=cells[0], rows=STRIP_ROWS
    )
    scores = np.empty((2, *planes.shape))
    _deviations(strips.reshape(len(strips), -1, N_SUMS), scores.reshape(2, -1))
    return Scores(scores[0], scores[1], witness=scores[0])


def gmsd_map(images: Images, mask: Array | None) -> Local:
    """Gradient similarity of each cell."""
    planes, constants, cells = _prepare(images, mask)
    values = np.empty((planes.count, *cells), images.dtype)
    valid = np.empty(values.shape, np.bool_)
    strips = -(-cells[0] // STRIP_ROWS)

    def task(i: int) -> None:
        plane, strip = divmod(i, strips)
        start = strip * STRIP_ROWS
        stop = min(start + STRIP_ROWS, cells[0])
        sums = np.zeros(N_SUMS)
        found, scored = _similarities(*planes[plane], start, stop, sums, *constants)
        values[plane, start:stop] = found
        if mask is not None:
            valid[plane, start:stop] = scored

    parallel(task, planes.count * strips, planes.count * math.prod(planes.frame))
    shape = (*planes.shape, *cells)
    found = None if mask is None else valid.reshape(shape)
    return Local(values.reshape(shape), found, step=2, reach=CELL_REACH)


def _prepare(images: Images, mask: Array | None) -> tuple[Planes, Any, tuple[int, int]]:
    """Return the planes, the constants of `_similarities`, and the number of cells."""
    span = images.data_range
    near = None
    if images.dtype == np.float64 or 1 / FLOAT32_RANGE < span < FLOAT32_RANGE:
        near = images.dtype(C * (GAIN * span) ** 2)
    height, width = images.frame
    return Planes(images, mask), (span, near), (-(-height // 2), -(-width // 2))


def _moments_of_strip(
    x: Array,
    y: Array,
    mask: Array | None,
    start: int,
    stop: int,
    out: Array,
    span: float,
    near: np.floating | None,
) -> None:
    """Moments of the similarity in rows of cells."""
    found, scored = _similarities(x, y, mask, start, stop, out, span, near)
    _add_moments(found, scored, out)


def _similarities(
    x: Array,
    y: Array,
    mask: Array | None,
    start: int,
    stop: int,
    out: Array,
    span: float,
    near: np.floating | None,
) -> tuple[Array, Array]:
    """Similarity in rows of cells, and where it counts; the last two of `N_SUMS` go to `out`.

    `near` is the constant of the formula; None where its dtype does not hold it.
    """
    inside, scored = NO_MASK if mask is None else mask, NO_SCORED
    rows, columns = stop - start, (x.shape[1] + 1) // 2
    if mask is not None:
        room, scored = _memory_of_mask(rows, columns)
        _find_scored(mask, start, room, scored)
    if near is not None:
        found, cells, line, bits = _memory_of_cells(rows, columns, near.dtype)
        _fill_cells(x, y, inside, start, cells, line, bits, out)
        _near_rows(cells, near, found)
        if out[4] <= FAR_RANGES * span:  # False for NaN
            return found, scored
    is_huge = x.dtype == np.float64 and not out[4] < LARGEST
    out[3] = 0
    pixels = np.zeros((2, 2 * rows + 4, 2 * columns + 4))
    first = max(2 * start - 2, 0)
    for image, framed in zip((x, y), pixels, strict=True):
        part = image[first : 2 * stop + 2]
        place = framed[first - 2 * start + 2 :][: len(part), 2 : 2 + part.shape[1]]
        place[...] = part if mask is None else np.where(mask[first : 2 * stop + 2], part, 0)
    if not np.isfinite(pixels[:, 2:-2]).all():
        out[3] = math.nan
    found = np.empty((rows, columns))
    _far_rows(pixels, GAIN * span, is_huge, found)
    return found, scored


@kept_by_thread
def _memory_of_mask(rows: int, columns: int) -> tuple[Array, Array]:
    """Return the arguments of `_find_scored` for memory."""
    return np.empty((rows + 3, 2 * columns + 2), np.uint8), np.empty((rows, columns), np.uint8)


@kept_by_thread
def _memory_of_cells(rows: int, columns: int, dtype: Any) -> tuple[Array, Array, Array, Any]:
    """Return memory for the similarity of cells, and the arguments of `_fill_cells` for memory."""
    line = np.empty(2 * columns + 1, dtype)
    bits = line.view(np.int32) if line.itemsize == 4 else None
    return np.empty((rows, columns), dtype), np.empty((2, rows + 2, columns + 2), dtype), line, bits


@kernel
def _fill_cells(x, y, mask, start, cells, line, bits, out):  # type: ignore[no-untyped-def]
    """Sum the 2x2 pixels of each cell of both images; 0 beyond the frame and outside the mask.

    `line` holds a row of half cells and a final 0; `bits` are the same memory.
    """
    height, width = x.shape
    real = line.dtype.type
    is_exact = x.dtype.type(0.5) == 0  # sums of integers
    line[line.size - 2], line[line.size - 1] = 0, 0
    for i in range(cells.shape[1]):
        r = start - 1 + i
        size = 0.0
        for k in range(2):
            row = cells[k, i]
            row[0], row[row.size - 1] = 0, 0
            if not 0 <= r < (height + 1) // 2:
                for j in range(row.size):
                    row[j] = 0
                continue
            image = x if k == 0 else y
            i_below = min(2 * r + 1, height - 1)
            above, below = image[2 * r], image[i_below]
            weight = real(1) if i_below > 2 * r else real(0.5)  # a last row alone counts once
            if mask.size == 0:
                for j in range(width):
                    line[j] = weight * (real(above[j]) + real(below[j]))
            else:
                use_above, use_below = mask[2 * r], mask[i_below]
                for j in range(width):
                    p, q = real(above[j]), real(below[j])
                    p, q = (p if use_above[j] else real(0)), (q if use_below[j] else real(0))
                    line[j] = weight * (p + q)
            for j in range(row.size - 2):
                row[j + 1] = line[2 * j] + line[2 * j + 1]
            one = 0.0 if is_exact else 2 * _size(line, bits)
            size = one if k == 0 else max(size, one)
            if mask.size > 0:
                rest = 0.0
                for j in range(row.size):
                    rest += np.float64(row[j]) * 0.0
                out[3] += rest
        out[4] = size if size > out[4] else out[4]


@kernel
def _size(line, bits):  # type: ignore[no-untyped-def]
    """Largest magnitude in a row of float32 that ends with a 0; mean magnitude of a row of float64.

    The mean is precise enough in float64, where a size ten times as large does no harm. Read as
    integers, the bits of floats without sign have the order of the floats, and the CPU compares
    many integers at a time; NaN forbids that for floats.
    """
    if bits is None:
        total = 0.0
        for j in range(line.size):
            total += abs(line[j])
        return total / (line.size - 1)
    whole = bits.dtype.type
    positive, most = whole(POSITIVE), whole(0)
    for j in range(bits.size):
        size = whole(bits[j] & positive)
        most = size if size > most else most
    bits[-1] = most
    largest = np.float64(line[-1])
    bits[-1] = 0
    return largest


@kernel
def _find_scored(mask, start, room, scored):  # type: ignore[no-untyped-def]
    """Find the cells whose neighbours within the frame have all their pixels inside the mask.

    `room` holds rows of cells within a frame, and a row of half cells.
    """
    rows, columns = scored.shape
    line = room[rows + 2]
    line[2 * columns - 1] = 1  # beyond a frame of odd width
    for i in range(rows + 2):
        r, inside = start - 1 + i, room[i]
        inside[0], inside[columns + 1] = 1, 1
        if 0 <= 2 * r < mask.shape[0]:
            above, below = mask[2 * r], mask[min(2 * r + 1, mask.shape[0] - 1)]
            for j in range(mask.shape[1]):
                line[j] = above[j] & below[j]
            for j in range(columns):
                inside[j + 1] = line[2 * j] & line[2 * j + 1]
        else:
            for j in range(columns):
                inside[j + 1] = 1
    for i in range(rows):
        up, here, down, row = room[i], room[i + 1], room[i + 2], scored[i]
        for j in range(columns + 2):
            line[j] = up[j] & here[j] & down[j]
        for j in range(columns):
            row[j] = line[j] & line[j + 1] & line[j + 2]


@exact  # fused multiplications would break symmetry, and the 1 of equal gradients
def _near_rows(cells, constant, found):  # type: ignore[no-untyped-def]
    """Similarity of the gradients in rows of cells, which have a frame of one cell."""
    one = found.dtype.type(1)
    for r in range(found.shape[0]):
        a, b, c = cells[0, r], cells[0, r + 1], cells[0, r + 2]
        d, e, f = cells[1, r], cells[1, r + 1], cells[1, r + 2]
        row = found[r]
        for j in range(row.size):
            s = _similarity(_gradient(a, b, c, j), _gradient(d, e, f, j), constant)
            row[j] = one if s > one else s


@inline
def _gradient(up, here, down, j):  # type: ignore[no-untyped-def]
    k, m = j + 1, j + 2
    gx = (up[m] - up[j]) + (here[m] - here[j]) + (down[m] - down[j])
    gy = (down[j] - up[j]) + (down[k] - up[k]) + (down[m] - up[m])
    return math.sqrt(gx * gx + gy * gy)


@exact
def _far_rows(pixels, span, is_huge, found):  # type: ignore[no-untyped-def]
    """Similarity in rows of cells whose pixels, far from 0, are subtracted before they are added.

    The pixels have a frame of one cell. Where squares of gradients of huge pixels overflow, the
    gradients are scaled.
    """
    for r in range(found.shape[0]):
        for j in range(found.shape[1]):
            scale, s = 1.0, math.nan
            for _ in range(1 + is_huge):
                if not np.isfinite(s):
                    p = _far_gradient(pixels[0], 2 * r, 2 * j, scale)
                    q = _far_gradient(pixels[1], 2 * r, 2 * j, scale)
                    s = _similarity(p, q, C * (span * scale) ** 2)
                scale = HUGE_SCALE
            found[r, j] = 1.0 if s > 1 else s


@exact
def _far_gradient(v, i, j, scale):  # type: ignore[no-untyped-def]
    """Gradient of a cell: sums of differences of pixels two cells apart."""
    gx, gy = 0.0, 0.0
    for k in range(6):
        right = scale * v[i + k, j + 4] - scale * v[i + k, j]
        gx += right + (scale * v[i + k, j + 5] - scale * v[i + k, j + 1])
        down = scale * v[i + 4, j + k] - scale * v[i, j + k]
        gy += down + (scale * v[i + 5, j + k] - scale * v[i + 1, j + k])
    return math.sqrt(gx * gx + gy * gy)


@kernel
def _add_moments(found, scored, out):  # type: ignore[no-untyped-def]
    """Add the moments of each row, taken about its own mean."""
    for r in range(found.shape[0]):
        row, n = found[r], found.shape[1]
        if scored.size > 0:
            n = count(scored[r])
        if n == 0:
            continue
        # A full row is added in the order of a row without a mask.
        if n == row.size:
            mean, squares, rest = _row_moments(row, n)
        else:
            mean, squares, rest = _row_moments_inside(row, scored[r], n)
        squares -= rest * rest / n
        _merge(out, np.float64(n), mean + rest / n, 0.0 if squares < 0 else squares)


@kernel
def _row_moments(found, n):  # type: ignore[no-untyped-def]
    total, squares, rest = 0.0, 0.0, 0.0
    for j in range(found.size):
        total += np.float64(found[j])
    mean = total / n
    for j in range(found.size):
        d = np.float64(found[j]) - mean
        squares += d * d
        rest += d
    return mean, squares, rest


@kernel
def _row_moments_inside(found, scored, n):  # type: ignore[no-untyped-def]
    total, squares, rest = 0.0, 0.0, 0.0
    for j in range(found.size):
        total += np.float64(found[j]) if scored[j] else 0.0
    mean = total / n
    for j in range(found.size):
        d = np.float64(found[j]) - mean
        d = d if scored[j] else np.float64(0)
        squares += d * d
        rest += d
    return mean, squares, rest


@exact
def _merge(out, n, mean, squares):  # type: ignore[no-untyped-def]
    """Add the moments of further cells; the deviation of equal cells is exactly 0."""
    if n == 0:
        return
    weight = n / (out[0] + n)
    d = mean - out[1]
    out[2] += squares + d * d * out[0] * weight
    out[1] = out[1] + d * weight if out[0] > 0 else mean
    out[0] += n


@exact
def _deviations(strips, scores):  # type: ignore[no-untyped-def]
    """Deviation and number of cells, added up in the first strip; one cell has no deviation."""
    for plane in range(strips.shape[1]):
        total = strips[0, plane]
        for strip in range(1, strips.shape[0]):
            part = strips[strip, plane]
            _merge(total, part[0], part[1], part[2])
            total[3] += part[3]
        n = total[0]
        scores[0, plane] = math.sqrt(total[2] / (n - 1)) + total[3]
        scores[1, plane] = n if n > 1 else 0
