"""GMSD in one pass over rows of cells of 2x2 pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.kernels.common.jit import exact, inline, kernel
from imsim.kernels.common.pixel_blocks import count
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
FLOAT32_RANGE = 1e12
"""Largest data range, and inverse of the smallest one, whose square fits into float32."""

_similarity = inline(formulas.similarity)


def gmsd(images: Images, mask: Array | None) -> Scores:
    """Standard deviation, with n - 1, of the gradient similarity."""
    planes, constants, cells = _prepare(images, mask)
    strips = planes.strips(
        _strip, N_SUMS, *constants, None, None, positions=cells[0], rows=STRIP_ROWS
    )
    scores = np.empty((2, *planes.shape))
    _deviations(strips.reshape(len(strips), -1, N_SUMS), scores.reshape(2, -1))
    return Scores(scores[0], scores[1], witness=scores[0])


def gmsd_map(images: Images, mask: Array | None) -> Local:
    """Gradient similarity of each cell."""
    planes, (span, near), cells = _prepare(images, mask)
    values = np.empty((planes.count, *cells), images.dtype)
    valid = np.empty(values.shape, np.bool_)
    strips = -(-cells[0] // STRIP_ROWS)

    def task(i: int) -> None:
        plane, strip = divmod(i, strips)
        start = strip * STRIP_ROWS
        stop = min(start + STRIP_ROWS, cells[0])
        x, y, inside = planes[plane]
        sums = np.zeros(N_SUMS)
        _strip(x, y, inside, start, stop, sums, span, near, values[plane], valid[plane])

    parallel(task, planes.count * strips, planes.count * math.prod(planes.frame))
    shape = (*planes.shape, *cells)
    found = None if mask is None else valid.reshape(shape)
    return Local(values.reshape(shape), found, step=2, reach=CELL_REACH)


def _prepare(images: Images, mask: Array | None) -> tuple[Planes, Any, tuple[int, int]]:
    """Return the planes, the constants of `_strip`, and the number of cells."""
    span = images.data_range
    near = None
    if images.dtype == np.float64 or 1 / FLOAT32_RANGE < span < FLOAT32_RANGE:
        near = images.dtype(C * (GAIN * span) ** 2)
    height, width = images.frame
    return Planes(images, mask), (span, near), (-(-height // 2), -(-width // 2))


def _strip(
    x: Array,
    y: Array,
    mask: Array | None,
    start: int,
    stop: int,
    out: Array,
    span: float,
    near: np.floating | None,
    values: Array | None,
    valid: Array | None,
) -> None:
    """Moments of the similarity in rows of cells, or the similarity itself.

    `near` is the constant of the formula; None where its dtype does not hold it.
    """
    if near is not None:
        line = np.zeros(2 * ((x.shape[1] + 1) // 2) + 1, near.dtype)
        bits = line.view(np.int32) if line.itemsize == 4 else None
        _near_strip(x, y, mask, start, stop, out, near, line, bits, values, valid)
        if out[4] <= FAR_RANGES * span:  # False for NaN
            return
    is_huge = x.dtype == np.float64 and not out[4] < LARGEST
    out[:] = 0
    _far_strip(x, y, mask, start, stop, out, GAIN * span, is_huge, values, valid)


@kernel
def _near_strip(x, y, mask, start, stop, out, constant, line, bits, values, valid):  # type: ignore[no-untyped-def]
    """Go through rows of cells, 3 at a time; `line` holds a row of half cells and a final 0."""
    rows, columns = (x.shape[0] + 1) // 2, (x.shape[1] + 1) // 2
    real = line.dtype.type
    cells = np.zeros((2, 3, columns + 2), real)  # the last 3 rows of both images, framed by 0
    inside = np.ones((3, columns + 2), np.uint8)
    line_inside = np.ones(2 * columns, np.uint8)
    found, scored = np.empty(columns, real), np.ones(columns, np.uint8)
    for r in range(start - 1, stop + 1):
        p, q, use = cells[0, r % 3], cells[1, r % 3], inside[r % 3]
        if 0 <= r < rows:
            _cell_row(x, mask, r, line[:-1], p)
            size_x = 2 * _size(x, line, bits)
            _cell_row(y, mask, r, line[:-1], q)
            size_y = 2 * _size(y, line, bits)
            size = max(size_x, size_y)
            out[4] = size if size > out[4] else out[4]
            if mask is not None:
                _inside_row(mask, r, line_inside, use)
                out[3] += _zero_unless_nan(p) + _zero_unless_nan(q)
        else:
            p[:], q[:], use[:] = 0, 0, 1
        if r <= start:
            continue
        up, here, down = (r - 2) % 3, (r - 1) % 3, r % 3
        _similarity_row(
            cells[0, up], cells[0, here], cells[0, down],
            cells[1, up], cells[1, here], cells[1, down],
            constant, found,
        )  # fmt: skip
        if mask is not None:
            _eroded_row(inside[0], inside[1], inside[2], scored)
        if values is None:
            _add_row(found, None if mask is None else scored, out)
        else:
            values[r - 1] = found
            valid[r - 1] = scored


@exact
def _far_strip(x, y, mask, start, stop, out, span, is_huge, values, valid):  # type: ignore[no-untyped-def]
    """Go through rows of cells; subtract pixels before they are added, since they are far from 0.

    Where squares of gradients of huge pixels overflow, the gradients are scaled.
    """
    columns = (x.shape[1] + 1) // 2
    lines = np.zeros((6, 2 * columns + 4))  # the pixels of three rows of cells, framed by 0
    line_inside, inside = np.ones(2 * columns, np.uint8), np.ones((3, columns + 2), np.uint8)
    p, q = np.empty(columns), np.empty(columns)
    found, scored = np.empty(columns), np.ones(columns, np.uint8)
    for r in range(start, stop):
        for scale in (1.0, HUGE_SCALE):
            if scale < 1 and not is_huge:
                break
            _far_gradients(x, mask, r, scale, lines, p)
            out[3] += _zero_unless_nan(lines[2]) + _zero_unless_nan(lines[3])
            _far_gradients(y, mask, r, scale, lines, q)
            out[3] += _zero_unless_nan(lines[2]) + _zero_unless_nan(lines[3])
            for j in range(columns):
                if scale == 1 or not np.isfinite(found[j]):
                    s = _similarity(p[j], q[j], C * (span * scale) ** 2)
                    found[j] = 1.0 if s > 1 else s
        if mask is not None:
            for k in range(3):
                if 0 <= 2 * (r + k - 1) < x.shape[0]:
                    _inside_row(mask, r + k - 1, line_inside, inside[k])
                else:
                    inside[k] = 1
            _eroded_row(inside[0], inside[1], inside[2], scored)
        if values is None:
            _add_row(found, None if mask is None else scored, out)
        else:
            values[r] = found
            valid[r] = scored


@exact
def _far_gradients(image, mask, r, scale, lines, found):  # type: ignore[no-untyped-def]
    """Gradients in a row of cells: sums of differences of pixels two cells apart."""
    for k in range(6):
        i = 2 * r - 2 + k
        if 0 <= i < image.shape[0]:
            for j in range(image.shape[1]):
                lines[k, j + 2] = scale * _pixel(image, mask, i, j, np.float64)
        else:
            lines[k] = 0
    for j in range(found.size):
        gx, gy = 0.0, 0.0
        for k in range(6):
            row = lines[k, 2 * j : 2 * j + 6]
            gx += (row[4] - row[0]) + (row[5] - row[1])
            column = lines[:, 2 * j + k]
            gy += (column[4] - column[0]) + (column[5] - column[1])
        found[j] = math.sqrt(gx * gx + gy * gy)


@kernel
def _pixel(image, mask, i, j, real):  # type: ignore[no-untyped-def]
    """Return a pixel, 0 outside the mask."""
    if mask is None:
        return real(image[i, j])
    v = real(image[i, j])
    return v if mask[i, j] else real(0)


@kernel
def _cell_row(image, mask, r, line, cells):  # type: ignore[no-untyped-def]
    """Sum the 2x2 pixels of each cell; 0 beyond the frame."""
    real = cells.dtype.type
    for j in range(image.shape[1]):
        line[j] = _pixel(image, mask, 2 * r, j, real)
    if 2 * r + 1 < image.shape[0]:
        for j in range(image.shape[1]):
            line[j] += _pixel(image, mask, 2 * r + 1, j, real)
    for j in range(cells.size - 2):
        cells[j + 1] = line[2 * j] + line[2 * j + 1]


@kernel
def _size(image, line, bits):  # type: ignore[no-untyped-def]
    """Largest magnitude in a row of float32 that ends with a 0; mean magnitude of a row of float64.

    The mean is precise enough in float64, where a size ten times as large does no harm. Sums of
    integers are exact, and their size is 0. Read as integers, the bits of floats without sign have
    the order of the floats, and the CPU compares many integers at a time; NaN forbids that for
    floats.
    """
    if image.dtype.type(0.5) == 0:
        return 0.0
    if bits is None:
        total = 0.0
        for j in range(line.size):
            total += abs(line[j])
        return total / (line.size - 1)
    whole = bits.dtype.type
    positive, most = whole(np.iinfo(bits.dtype).max), whole(0)
    for j in range(bits.size):
        size = whole(bits[j] & positive)
        most = size if size > most else most
    bits[-1] = most
    largest = np.float64(line[-1])
    bits[-1] = 0
    return largest


@kernel
def _inside_row(mask, r, line, inside):  # type: ignore[no-untyped-def]
    """Find the cells whose pixels within the frame all lie inside the mask."""
    below = min(2 * r + 1, mask.shape[0] - 1)
    for j in range(mask.shape[1]):
        line[j] = mask[2 * r, j] & mask[below, j]
    for j in range(inside.size - 2):
        inside[j + 1] = line[2 * j] & line[2 * j + 1]


@kernel
def _eroded_row(up, here, down, scored):  # type: ignore[no-untyped-def]
    """Find the cells whose neighbours are all valid; cells beyond the frame are valid."""
    for j in range(scored.size):
        left = up[j] & here[j] & down[j]
        centre = up[j + 1] & here[j + 1] & down[j + 1]
        right = up[j + 2] & here[j + 2] & down[j + 2]
        scored[j] = left & centre & right


@exact  # fused multiplications would break symmetry, and the 1 of equal gradients
def _similarity_row(a, b, c, d, e, f, constant, found):  # type: ignore[no-untyped-def]
    """Similarity of the gradients in the middle of three rows a, b, c and d, e, f."""
    one = found.dtype.type(1)
    for j in range(found.size):
        s = _similarity(_gradient(a, b, c, j), _gradient(d, e, f, j), constant)
        found[j] = one if s > one else s


@inline
def _gradient(up, here, down, j):  # type: ignore[no-untyped-def]
    k, m = j + 1, j + 2
    gx = (up[m] - up[j]) + (here[m] - here[j]) + (down[m] - down[j])
    gy = (down[j] - up[j]) + (down[k] - up[k]) + (down[m] - up[m])
    return math.sqrt(gx * gx + gy * gy)


@kernel
def _zero_unless_nan(row):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(row.size):
        total += np.float64(row[j]) * 0.0
    return total


@kernel
def _add_row(found, scored, out):  # type: ignore[no-untyped-def]
    """Add the moments of a row, taken about its own mean."""
    n = found.size if scored is None else count(scored)
    if n == 0:
        return
    # A full row is added in the order of a row without a mask.
    if scored is None or n == found.size:
        mean, squares, rest = _row_moments(found, n)
    else:
        mean, squares, rest = _row_moments_inside(found, scored, n)
    squares -= rest * rest / n
    _merge(out, n, mean + rest / n, 0.0 if squares < 0 else squares)


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
    """Deviation and number of cells; a single cell has no deviation."""
    for plane in range(strips.shape[1]):
        total = np.zeros(4)
        for strip in range(strips.shape[0]):
            n, mean, squares, rest, _ = strips[strip, plane]
            _merge(total, n, mean, squares)
            total[3] += rest
        n = total[0]
        scores[0, plane] = math.sqrt(total[2] / (n - 1)) + total[3]
        scores[1, plane] = n if n > 1 else 0
