"""Gradient of GMSD: one pass over rows of cells for the similarity, one back to the pixels.

With d = 1 - GMS = (p - q)^2 / (p^2 + q^2 + c), which keeps its digits where the gradients p and q
of the two images are nearly the same,

    d GMS / dp = 2 (q - p + p d) / (p^2 + q^2 + c)
    d GMSD / d GMS = (mean(d) - d) / ((n - 1) GMSD)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.kernels.common.cell_rows import PADDING, merge_cells
from imsim.kernels.common.jit import allocating, contracting_part, exact_part
from imsim.kernels.common.planes import Plane, Planes, count
from imsim.kernels.gmsd import GAIN, NO_SCORED, STRIP_ROWS, add_row, find_scored
from imsim.kernels.gradients import LARGEST_RANGE, Gradients, largest, plane_weights
from imsim.portable.coarse import C
from imsim.portable.pair import Pair
from imsim.typing import Array
from imsim.workers import Run, share_out

FAR_RANGES = 1e6
"""Largest magnitude of float64, in data ranges, for which sums of pixels keep enough digits of
differences."""
TINY = 1e-15
"""Length of a gradient, in data ranges, that counts as 0."""
N_SUMS = 4
"""Numbers of a strip that `add_row` needs."""


def gradient(pair: Pair, upstream: Array, wanted: tuple[bool, bool]) -> Gradients | None:
    """Gradients of the sum of `upstream` times the score; see `imsim.kernels.gradients`."""
    span, dtype = pair.data_range, pair.x.dtype
    if not 1 / LARGEST_RANGE < span < LARGEST_RANGE:
        return None
    if dtype == np.float64 and largest(pair) > FAR_RANGES * span:
        return None
    planes = Planes(pair, pair.mask)
    weights = plane_weights(upstream, planes.shape)
    sides = [side for side in (0, 1) if wanted[side]]
    frame = planes.frame
    found = np.empty((len(sides), planes.count, *frame), dtype)
    is_near = np.zeros(planes.count, np.bool_)

    rooms: list[_Room] = []

    def task(i: int, run: Run) -> None:
        try:
            room = rooms.pop()
        except IndexError:
            room = _Room(frame, len(sides), pair.mask is not None, dtype)
        is_near[i] = _write(planes[i], span, weights[i], sides, found, i, room, run)
        rooms.append(room)

    share_out(task, planes.count, math.prod(frame))
    if not is_near.all():
        return None
    gradients = dict(zip(sides, found.reshape(-1, *planes.shape, *frame), strict=True))
    return gradients.get(0), gradients.get(1)


class _Room:
    """Memory for one plane after the other."""

    def __init__(
        self, frame: tuple[int, int], sides: int, is_masked: bool, dtype: np.dtype[Any]
    ) -> None:
        cells = (-(-frame[0] // 2), -(-frame[1] // 2))
        self.misfit = np.empty(cells, dtype)
        """d of each cell."""
        self.slopes = np.empty((sides, 2, *cells), dtype)
        """Slopes of GMS along both components of the gradients of each image."""
        self.scored = np.empty(cells, np.uint8) if is_masked else NO_SCORED


def _write(
    plane: Plane,
    span: float,
    weight: float,
    sides: list[int],
    gradients: Array,
    place: int,
    room: _Room,
    run: Run,
) -> bool:
    """Write the gradients of one plane at its place, or return False if it is too far from 0."""
    x, y, mask = plane
    misfit, slopes, scored = room.misfit, room.slopes, room.scored
    rows, columns = misfit.shape
    strips = -(-rows // STRIP_ROWS)
    sums = np.zeros((strips, N_SUMS))
    first, scale = sides[0] if sides else 0, 1 / (GAIN * span)

    def forward(k: int) -> None:
        start, stop = k * STRIP_ROWS, min((k + 1) * STRIP_ROWS, rows)
        if mask is not None:
            marks = np.empty((4, 2 * columns + 2), np.uint8)
            find_scored(mask, start, marks, scored[start:stop])
        _forward(x, y, scored, start, stop, scale, first, misfit, slopes, sums[k])

    run(forward, strips, x.size)
    for k in range(1, strips):
        merge_cells(sums[0], *sums[k, :3])
    n, mean, squares = sums[0, :3].tolist()
    if not math.isfinite(squares):  # float32 does not hold the squares of the gradients
        return False
    # Where the deviation is 0, it has its minimum; without two cells there is none.
    slope = 2 * scale * weight / math.sqrt(squares * (n - 1)) if n > 1 and squares > 0 else 0.0

    def back(k: int) -> None:
        start, stop = k * STRIP_ROWS, min((k + 1) * STRIP_ROWS, rows)
        _back(misfit, slopes, mean, slope, start, stop, gradients, place)

    run(back, strips, x.size)
    return True


@allocating
def _forward(x, y, scored, start, stop, scale, first, misfit, slopes, out):  # type: ignore[no-untyped-def]
    """Write d and the slopes of GMS along both components of the gradients; add moments of d."""
    columns, real = misfit.shape[1], misfit.dtype.type
    room, lines = np.zeros((6, columns + 2 + PADDING)), np.empty((4, columns + 2 + PADDING))
    found, parts = np.empty(columns, misfit.dtype), np.empty((4, columns + PADDING), misfit.dtype)
    use = scored[0]
    for r in range(start - 1, stop + 1):
        _sum_cells(x, r, room, r % 3)
        _sum_cells(y, r, room, 3 + r % 3)
        if r <= start:
            continue
        i, n = r - 1, columns
        for k in range(2):
            up, here, down = 3 * k + (r - 2) % 3, 3 * k + (r - 1) % 3, 3 * k + r % 3
            for j in range(columns + 2):
                lines[2 * k, j] = room[up, j] + room[here, j] + room[down, j]
                lines[2 * k + 1, j] = room[down, j] - room[up, j]
        _row(lines, scale, real(C), real(TINY), found, parts)
        if scored.size > 0:
            use = scored[i]
            n = count(use)
            for k in range(4):
                for j in range(columns):
                    parts[k, j] = parts[k, j] if use[j] else real(0)
        for j in range(columns):
            misfit[i, j] = found[j]
        for k in range(slopes.shape[0]):
            for j in range(columns):
                slopes[k, 0, i, j] = parts[2 * (first + k), j]
                slopes[k, 1, i, j] = parts[2 * (first + k) + 1, j]
        add_row(found, use, n, out)


@contracting_part  # in whatever order a loop goes, it gives the same bits
def _sum_cells(image, r, room, k):  # type: ignore[no-untyped-def]
    """Sum the 2x2 pixels of each cell of a row in float64; 0 beyond the frame."""
    height, width = image.shape
    i, below = 2 * r, min(2 * r + 1, height - 1)
    if not 0 <= i < height:
        for j in range((width + 1) // 2):
            room[k, j + 1] = 0
        return
    weight = 1.0 if below > i else 0.5  # a last row alone counts once
    for j in range(width // 2):
        left = np.float64(image[i, 2 * j]) + np.float64(image[below, 2 * j])
        right = np.float64(image[i, 2 * j + 1]) + np.float64(image[below, 2 * j + 1])
        room[k, j + 1] = weight * (left + right)
    if width % 2 == 1:
        last = np.float64(image[i, width - 1]) + np.float64(image[below, width - 1])
        room[k, width // 2 + 1] = weight * last


@exact_part  # equal images have exactly d = 0
def _row(lines, scale, c, tiny, misfit, slopes):  # type: ignore[no-untyped-def]
    """Write d and its slopes from sums of three rows of cells, and differences of two of them.

    Differences of the images are formed in float64: then float32 holds all digits of the rest.
    """
    real = misfit.dtype.type
    one = real(1)
    for j in range(misfit.size):
        k, m = j + 1, j + 2
        across_x = (lines[0, m] - lines[0, j]) * scale
        along_x = (lines[1, j] + lines[1, k] + lines[1, m]) * scale
        across_y = (lines[2, m] - lines[2, j]) * scale
        along_y = (lines[3, j] + lines[3, k] + lines[3, m]) * scale
        across, along = real(across_x - across_y), real(along_x - along_y)
        p_x, p_y, q_x, q_y = real(across_x), real(along_x), real(across_y), real(along_y)
        pp, qq = p_x * p_x + p_y * p_y, q_x * q_x + q_y * q_y
        p, q = np.sqrt(pp), np.sqrt(qq)
        length = p + q if p + q > tiny else one
        gap = (across * (p_x + q_x) + along * (p_y + q_y)) / length  # p - q
        inverse = one / (pp + qq + c)
        d = gap * gap * inverse
        # The length 0 has the slope 0. One division serves for two.
        divisor_p, divisor_q = (p if p > tiny else one), (q if q > tiny else one)
        inverse *= one / (divisor_p * divisor_q)
        by_p, by_q = (p * d - gap) * inverse * divisor_q, (q * d + gap) * inverse * divisor_p
        misfit[j] = d
        slopes[0, j], slopes[1, j] = by_p * p_x, by_p * p_y
        slopes[2, j], slopes[3, j] = by_q * q_x, by_q * q_y


@allocating
def _back(misfit, slopes, mean, slope, start, stop, gradients, place):  # type: ignore[no-untyped-def]
    """Write the gradients of the pixels of some rows of cells, of the plane at a place."""
    rows, columns = misfit.shape
    height, width = gradients.shape[2:]
    weights = np.zeros((3, columns))
    across, along = np.zeros(columns + 2), np.zeros(columns + 2)
    for r in range(start, stop):
        for k in range(3):
            i, is_inside = min(max(r + k - 1, 0), rows - 1), 0 <= r + k - 1 < rows
            factor = slope if is_inside else 0.0
            for j in range(columns):
                weights[k, j] = factor * (mean - misfit[i, j])
        above, below = max(r - 1, 0), min(r + 1, rows - 1)
        for side in range(gradients.shape[0]):
            for j in range(columns):
                a, b, c = weights[0, j], weights[1, j], weights[2, j]
                middle = b * slopes[side, 0, r, j]
                sides = a * slopes[side, 0, above, j] + c * slopes[side, 0, below, j]
                across[j + 1] = middle + sides
                along[j + 1] = a * slopes[side, 1, above, j] - c * slopes[side, 1, below, j]
            for j in range(width // 2):
                g = across[j] - across[j + 2] + (along[j] + along[j + 1] + along[j + 2])
                gradients[side, place, 2 * r, 2 * j] = g
                gradients[side, place, 2 * r, 2 * j + 1] = g
            if width % 2 == 1:
                j = columns - 1
                g = across[j] - across[j + 2] + (along[j] + along[j + 1] + along[j + 2])
                gradients[side, place, 2 * r, 2 * j] = g
            if 2 * r + 1 < height:
                for j in range(width):
                    gradients[side, place, 2 * r + 1, j] = gradients[side, place, 2 * r, j]
