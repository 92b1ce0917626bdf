"""GMSD in one pass over rows of cells of 2x2 pixels."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels import surveying, weighing
from imsim.kernels.common.cell_rows import (
    N_WEIGHTED_SUMS,
    cell_memory,
    cell_similarity,
    fill_rows,
    merge_cells,
    near_row,
    weighted_moments,
)
from imsim.kernels.common.jit import exact, exact_part, kernel, part
from imsim.kernels.common.planes import NO_MASK, Planes, count
from imsim.kernels.common.rescaling import LEAST_SPREAD, check_usual, refuse_unchecked
from imsim.kernels.common.window_doubts import added
from imsim.portable.coarse import CELL_REACH, LOST, C
from imsim.portable.pair import Local, Scores
from imsim.typing import Array
from imsim.validation import LARGEST, Images
from imsim.workers import parallel

STRIP_ROWS = 64
"""Rows of cells in a strip."""
GAIN = 4 * 3
"""Gradients of the kernel are larger by this factor: cells are sums of 4 pixels, not means, and
Prewitt's operator does not divide by 3."""

N_SUMS = 5
"""Numbers of a strip: the number of cells; their mean; the sum of squares about it; 0, or NaN if
`_far_strip` finds a pixel inside that is not finite; and twice the largest magnitude of half a cell
in `near_strip`. (In a whole cell, pixels of opposite sign may cancel.)"""
FAR_RANGES = {np.float32: 8, np.float64: 16}
"""Largest sum of four pixels, in data ranges, that is formed before differences. The rounding error
of a difference is then below 1.5e-6 of the constant's root in float32; where patterns repeat, all
cells share it."""
HUGE_SCALE = 2.0**-600
"""Factor that brings gradients whose squares overflow back into float64."""
CHEAPNESS = 6
"""See `Planes.strips`."""
NO_SCORED = np.empty((1, 0), np.uint8)
"""Which cells are scored, without a mask; one row, so that it can be sliced."""
NO_VALUES = {dtype: np.empty((0, 0), dtype) for dtype in (np.float32, np.float64)}
"""Values that nobody asks for."""
FLOAT32_RANGE = 1e12
"""Largest data range, and inverse of the smallest one, whose square fits into float32."""


@surveying
def gmsd(images: Images, mask: Array | None) -> Scores:
    """Standard deviation, with n - 1, of the gradient similarity."""
    if images.weights is not None:
        return _weighted(images, mask)
    planes, constant, most, cells = prepare(images, mask)
    given = constant, NO_VALUES[type(constant)], NO_SCORED
    strips = planes.strips(
        near_strip, N_SUMS, *given, positions=cells[0], rows=STRIP_ROWS, cheapness=CHEAPNESS
    ).reshape(-1, planes.count, N_SUMS)
    scores = np.empty((2, *planes.shape))
    if _deviations(strips, most, scores.reshape(2, -1)):
        return Scores(scores[0], scores[1], witness=scores[0])
    far = np.argwhere(~(strips[..., 4] <= most)).tolist()  # true for NaN

    def again(i: int) -> None:
        strip, plane = far[i]
        rows = slice(strip * STRIP_ROWS, min((strip + 1) * STRIP_ROWS, cells[0]))
        out = strips[strip, plane]
        values, scored = _far_strip(*planes[plane], rows, out, images.data_range)
        _add_moments(values, scored, out)

    parallel(again, len(far), planes.count * math.prod(planes.frame))
    _deviations(strips, math.inf, scores.reshape(2, -1))
    return Scores(scores[0], scores[1], witness=scores[0])


@weighing  # which do not change the similarity of a cell
def gmsd_map(images: Images, mask: Array | None) -> Local:
    """Gradient similarity of each cell."""
    planes, constant, most, cells = prepare(images, mask)
    values = np.empty((planes.count, *cells), images.dtype)
    valid = np.empty(values.shape, np.bool_)
    strips = -(-cells[0] // STRIP_ROWS)

    def task(i: int) -> None:
        plane, strip = divmod(i, strips)
        rows = slice(strip * STRIP_ROWS, min((strip + 1) * STRIP_ROWS, cells[0]))
        x, y, inside = planes[plane]
        use = NO_MASK if inside is None else inside
        out, found = np.zeros(N_SUMS), (values[plane, rows], valid[plane, rows].view(np.uint8))
        near_strip(x, y, use, rows.start, rows.stop, out, constant, *found)
        if not out[4] <= most:
            values[plane, rows], _ = _far_strip(x, y, inside, rows, out, images.data_range)

    parallel(task, planes.count * strips, planes.count * math.prod(planes.frame) // CHEAPNESS)
    shape = (*planes.shape, *cells)
    found = None if mask is None else valid.reshape(shape)
    return Local(values.reshape(shape), found, step=2, reach=CELL_REACH)


def _weighted(images: Images, mask: Array | None) -> Scores:
    """Deviation by weights of reliability; pairs where it may not be precise are left."""
    images = images._replace(weights=np.asarray(images.weights, np.float64))
    planes, constant, most, cells = prepare(images, mask)
    strips = planes.strips(
        weighted_moments, N_WEIGHTED_SUMS, constant, positions=cells[0], rows=STRIP_ROWS
    )
    total = strips[0]
    for strip in strips[1:]:
        for place in np.ndindex(planes.shape):
            merge_cells(total[place], *strip[place][:3])
        total[..., 5:] += strip[..., 5:]
    numbers = (total[..., k] for k in range(N_WEIGHTED_SUMS))
    whole, _, squares, _, _, squared, n, unusual, sum_of_all = numbers
    check_usual(images, unusual, sum_of_all)
    spread = whole - squared / whole
    is_near = (strips[..., 4] <= most).all(axis=0) & (spread >= LEAST_SPREAD * whole)
    several = n > 1
    scores = np.where(is_near, np.sqrt(squares / spread), math.nan)
    scores = np.where(several, scores, 0.0 * squares)  # NaN where a pixel is
    several_whole = np.where(several, whole, 0.0)
    left = (several & ~is_near).any(axis=-1)
    if not left.any():
        return Scores(scores, several_whole, scores)
    refuse_unchecked(images)
    return Scores(scores, several_whole, scores, left)


def prepare(
    images: Images, mask: Array | None
) -> tuple[Planes, np.floating, float, tuple[int, int]]:
    """Return the planes, the constant of `near_strip`, its largest size, and the cells' number."""
    span, most = images.data_range, FAR_RANGES[images.dtype] * images.data_range
    constant = images.dtype(1)
    if images.dtype == np.float64 or 1 / FLOAT32_RANGE < span < FLOAT32_RANGE:
        constant = images.dtype(C * (GAIN * span) ** 2)
    else:
        most = -1.0  # float32 does not hold the constant
    height, width = images.frame
    return Planes(images, mask), constant, most, (-(-height // 2), -(-width // 2))


def _far_strip(
    x: Array, y: Array, mask: Array | None, rows: slice, out: Array, span: float
) -> tuple[Array, Array]:
    """Similarity in rows of cells, from differences of pixels, and where it is scored.

    `out` holds what `near_strip` found, and afterwards only whether pixels are finite.
    """
    n, columns = rows.stop - rows.start, (x.shape[1] + 1) // 2
    scored = np.ones((n, columns), np.uint8)
    if mask is not None:
        find_scored(mask, rows.start, np.empty((4, 2 * columns + 2), np.uint8), scored)
    is_huge = x.dtype == np.float64 and not out[4] < LARGEST
    out[:] = 0
    pixels = np.zeros((2, 2 * n + 4, 2 * columns + 4))
    first = max(2 * rows.start - 2, 0)
    for image, framed in zip((x, y), pixels, strict=True):
        part = image[first : 2 * rows.stop + 2]
        place = framed[first - 2 * rows.start + 2 :][: len(part), 2 : 2 + part.shape[1]]
        place[...] = part if mask is None else np.where(mask[first : 2 * rows.stop + 2], part, 0)
    if not np.isfinite(pixels[:, 2:-2]).all():
        out[3] = math.nan
    values = np.empty((n, columns))
    _far_rows(pixels, GAIN * span, is_huge, values)
    return values, scored


def near_strip(
    x: Array,
    y: Array,
    mask: Array,
    start: int,
    stop: int,
    out: Array,
    constant: np.floating,
    values: Array,
    scored: Array,
) -> None:
    """Similarity in rows of cells, from sums of four pixels; three rows of these lie in the cache.

    Write the values and where they are scored, or their moments if `values` is of size 0.
    """
    memory = cell_memory((x.shape[1] + 1) // 2, type(constant))
    _near_strip(x, y, mask, start, stop, out, constant, values, scored, memory)


@kernel
def _near_strip(x, y, mask, start, stop, out, constant, values, scored, memory):  # type: ignore[no-untyped-def]
    columns = (x.shape[1] + 1) // 2
    room, found, line, bits, marks = memory
    use = marks[4, :columns]
    for r in range(start - 1, stop + 1):
        fill_rows(x, y, mask, r, line, bits, room, out)
        if mask.size > 0:
            _fill_inside(mask, r, marks[3], marks[r % 3])
        if r <= start:
            continue
        near_row(room, r, constant, found)
        n = columns
        if mask.size > 0:
            _erode(marks[0], marks[1], marks[2], marks[3], use)
            n = count(use)
        if values.size == 0:
            add_row(found, use, n, out)
        else:
            for j in range(columns):
                values[r - 1 - start, j] = found[j]
            if mask.size > 0:
                for j in range(columns):
                    scored[r - 1 - start, j] = use[j]


@kernel
def find_scored(mask, start, marks, scored):  # type: ignore[no-untyped-def]
    """Find the cells whose neighbours within the frame have all their pixels inside the mask."""
    for r in range(start - 1, start + scored.shape[0] + 1):
        _fill_inside(mask, r, marks[3], marks[r % 3])
        if r > start:
            _erode(marks[0], marks[1], marks[2], marks[3], scored[r - 1 - start])


@kernel  # as a part, it is slower
def _fill_inside(mask, r, line, inside):  # type: ignore[no-untyped-def]
    """Find the cells of a row that have all their pixels inside the mask; beyond the frame, all."""
    columns = (mask.shape[1] + 1) // 2
    inside[0], inside[columns + 1] = 1, 1
    if 0 <= 2 * r < mask.shape[0]:
        above, below = mask[2 * r], mask[min(2 * r + 1, mask.shape[0] - 1)]
        line[2 * columns - 1] = 1  # beyond a frame of odd width
        for j in range(mask.shape[1]):
            line[j] = above[j] & below[j]
        for j in range(columns):
            inside[j + 1] = line[2 * j] & line[2 * j + 1]
    else:
        for j in range(columns):
            inside[j + 1] = 1


@part
def _erode(up, here, down, line, scored):  # type: ignore[no-untyped-def]
    """Find the cells of a row whose neighbours are all inside."""
    for j in range(scored.size + 2):
        line[j] = up[j] & here[j] & down[j]
    for j in range(scored.size):
        scored[j] = line[j] & line[j + 1] & line[j + 2]


@exact
def _far_rows(pixels, span, is_huge, found):  # type: ignore[no-untyped-def]
    """Similarity in rows of cells whose pixels, far from 0, are subtracted before they are added.

    The pixels have a frame of one cell. Where squares of gradients of huge pixels overflow, the
    gradients are scaled. Where differences nearly cancel, and the constant is smaller than what is
    lost, they need more digits.
    """
    for r in range(found.shape[0]):
        for j in range(found.shape[1]):
            scale, s = 1.0, math.nan
            for _ in range(1 + is_huge):
                if not np.isfinite(s):
                    c = C * (span * scale) ** 2
                    p, lost_p = _far_gradient(pixels[0], 2 * r, 2 * j, scale)
                    q, lost_q = _far_gradient(pixels[1], 2 * r, 2 * j, scale)
                    if p * p + c < lost_p * lost_p:
                        p = _exact_gradient(pixels[0], 2 * r, 2 * j, scale)
                    if q * q + c < lost_q * lost_q:
                        q = _exact_gradient(pixels[1], 2 * r, 2 * j, scale)
                    if p * p + q * q < np.inf:  # or the similarity would be 0
                        s = cell_similarity(p, q, c)
                scale = HUGE_SCALE
            found[r, j] = 1.0 if s > 1 else s


@exact_part
def _far_gradient(v, i, j, scale):  # type: ignore[no-untyped-def]
    """Gradient of a cell, and the size below which it has lost digits.

    It is the sum of differences of pixels two cells apart.
    """
    gx, gy, sizes = 0.0, 0.0, 0.0
    for k in range(6):
        right = scale * v[i + k, j + 4] - scale * v[i + k, j]
        further = scale * v[i + k, j + 5] - scale * v[i + k, j + 1]
        gx += right + further
        down = scale * v[i + 4, j + k] - scale * v[i, j + k]
        deeper = scale * v[i + 5, j + k] - scale * v[i + 1, j + k]
        gy += down + deeper
        sizes += (abs(right) + abs(further)) + (abs(down) + abs(deeper))
    return math.sqrt(gx * gx + gy * gy), LOST * sizes


@exact_part
def _exact_gradient(v, i, j, scale):  # type: ignore[no-untyped-def]
    """Gradient of a cell, precise also where distant pixels cancel, as of a cliff at a border."""
    gx, gy, lost_x, lost_y = 0.0, 0.0, 0.0, 0.0
    for k in range(6):
        for n in range(2):
            gx, lost_x = added(gx, lost_x, scale * v[i + k, j + 4 + n])
            gx, lost_x = added(gx, lost_x, -scale * v[i + k, j + n])
            gy, lost_y = added(gy, lost_y, scale * v[i + 4 + n, j + k])
            gy, lost_y = added(gy, lost_y, -scale * v[i + n, j + k])
    gx, gy = gx + lost_x, gy + lost_y
    return math.sqrt(gx * gx + gy * gy)


@kernel
def _add_moments(values, scored, out):  # type: ignore[no-untyped-def]
    """Add the moments of rows; a way of its own without a mask might add in another order."""
    for r in range(values.shape[0]):
        add_row(values[r], scored[r], count(scored[r]), out)


@part
def add_row(row, scored, n, out):  # type: ignore[no-untyped-def]
    """Add the moments of the `n` scored cells of a row, taken about its own mean."""
    if n == 0:
        return
    # A full row is added in the order of a row without a mask.
    if n == row.size:
        mean, squares, rest = _row_moments(row, None, n)
    else:
        mean, squares, rest = _row_moments(row, scored, n)
    squares -= rest * rest / n
    merge_cells(out, np.float64(n), mean + rest / n, 0.0 if squares < 0 else squares)


@part
def _row_moments(found, scored, n):  # type: ignore[no-untyped-def]
    total, squares, rest = 0.0, 0.0, 0.0
    for j in range(found.size):
        below = np.float64(found[j]) - 1  # 0 for equal images, whose mean is then exact
        if scored is not None:
            below = below if scored[j] else np.float64(0)
        total += below
    mean = 1 + total / n
    for j in range(found.size):
        d = np.float64(found[j]) - mean
        if scored is not None:
            d = d if scored[j] else np.float64(0)
        squares += d * d
        rest += d
    return mean, squares, rest


@exact
def _deviations(strips, most, scores):  # type: ignore[no-untyped-def]
    """Write the deviation and the number of cells; one cell has no deviation.

    Return False, and write nothing, if the size in a strip is above `most` or NaN. The moments are
    added up in the first strip.
    """
    for strip in range(strips.shape[0]):
        for plane in range(strips.shape[1]):
            if not strips[strip, plane, 4] <= most:
                return False
    for plane in range(strips.shape[1]):
        total = strips[0, plane]
        for strip in range(1, strips.shape[0]):
            part = strips[strip, plane]
            merge_cells(total, part[0], part[1], part[2])
            total[3] += part[3]
        n = total[0]
        scores[0, plane] = math.sqrt(total[2] / (n - 1)) + total[3]
        scores[1, plane] = n if n > 1 else 0
    return True
