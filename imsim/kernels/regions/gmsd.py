"""GMSD of many regions: a scored cell reads pixels of its own region only, as without a mask."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.jit import allocating, kernel, part
from imsim.kernels.common.planes import NO_MASK, sum_parts, unwritable
from imsim.kernels.gmsd import N_SUMS, NO_SCORED, STRIP_ROWS, near_strip, prepare
from imsim.kernels.regions import Places
from imsim.portable.pair import Scores
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import divided, parallel

STRIPS = 8
"""Strips of rows of cells that are added up at once; each has a list of all codes."""
NOWHERE = -1
"""The code of a cell that is not scored."""


def gmsd(images: Images, places: Places) -> Scores:
    """Standard deviation, with n - 1, of the gradient similarity."""
    images, codes = _around(images, places)
    values, is_near = _near_values(images)
    channels, *cells = values.shape
    n = int(places.wanted.max()) + 1
    scored = np.empty(cells, np.int32)
    # The lists of all strips are no longer than the rows of cells.
    parts = divided(cells[0], max(-(-cells[0] // STRIPS), -(-cells[0] * n // scored.size)))
    sums, squares = np.zeros((2, len(parts), channels, 2, n))

    def add(i: int) -> None:
        part = parts[i]
        _find_scored(codes, part.start, n, scored[part])
        for channel in range(channels):
            _add_values(scored[part], values[channel, part], sums[i, channel])

    parallel(add, len(parts), codes.size)
    numbers, totals = sum_parts(sums).transpose(1, 0, 2)
    means = totals / np.maximum(numbers, 1)

    def add_squares(i: int) -> None:
        part = parts[i]
        for channel in range(channels):
            _add_squares(scored[part], values[channel, part], means[channel], squares[i, channel])

    parallel(add_squares, len(parts), channels * scored.size)
    about, rest = sum_parts(squares).transpose(1, 0, 2)
    about = np.maximum(about - rest * rest / np.maximum(numbers, 1), 0)
    found = np.sqrt(about / (numbers - 1)), np.where(numbers > 1, numbers, 0)
    values, number = (v.T[places.wanted] for v in found)
    left = np.zeros(len(values), np.bool_) if is_near else _far(images, places, codes)
    return Scores(values, number, left=left)


def _around(images: Images, places: Places) -> tuple[Images, Array]:
    """Return the part of the images that holds all regions and a cell more, and its codes."""
    begin = places.boxes[..., 0].min(axis=0) // 2 * 2 - 2
    end = places.boxes[..., 1].max(axis=0) + 2
    end += end % 2
    rows, columns = (slice(max(b, 0), e) for b, e in zip(begin.tolist(), end.tolist(), strict=True))
    x, y = (v[:, rows, columns] for v in (images.x, images.y))
    return images._replace(x=x, y=y), unwritable(places.codes[rows, columns])


def _near_values(images: Images) -> tuple[Array, bool]:
    """Similarity in each cell, (channels, *cells); whether no pixel is too far from 0."""
    planes, constant, most, cells = prepare(images, None)
    values = np.empty((planes.count, *cells), images.dtype)
    parts = divided(cells[0], STRIP_ROWS)
    sums = np.zeros((planes.count, len(parts), N_SUMS))

    def task(i: int) -> None:
        channel, strip = divmod(i, len(parts))
        x, y, _ = planes[channel]
        part, out = parts[strip], sums[channel, strip]
        rows = values[channel, part]
        near_strip(x, y, NO_MASK, part.start, part.stop, out, constant, rows, NO_SCORED)

    parallel(task, len(sums) * len(parts), planes.count * math.prod(planes.frame))
    return values, bool((sums[..., 4] <= most).all())


def _far(images: Images, places: Places, codes: Array) -> Array:
    """Find the regions with pixels far from 0; the other kernels compute them otherwise."""
    least = prepare(images, None)[2] / 4  # of a pixel, four of which are added up
    x, y = (abs(v.astype(images.dtype)) for v in (images.x, images.y))
    is_far = ~((x <= least) & (y <= least)).all(axis=0)
    return np.isin(places.wanted, codes[is_far])


@allocating
def _find_scored(codes, first, n, scored):  # type: ignore[no-untyped-def]
    """Write the code of each cell whose neighbours, within the frame, hold no other one."""
    rows, columns = (codes.shape[0] + 1) // 2, scored.shape[1]
    line, lines = np.empty(columns, np.int32), np.empty((3, columns), np.int32)
    for r in range(first - 1, first + scored.shape[0] + 1):
        if 0 <= r < rows:
            _fill_codes(codes, r, line)
            _join_beside(line, lines[r % 3])
        if r > first:
            here = lines[(r - 1) % 3]
            up = lines[(r - 2) % 3] if r > 1 else here
            down = lines[r % 3] if r < rows else here
            found = scored[r - 1 - first]
            for j in range(columns):
                code = here[j]
                is_one = (up[j] == code) & (down[j] == code) & (code < n)
                found[j] = code if is_one else NOWHERE


@part
def _fill_codes(codes, r, line):  # type: ignore[no-untyped-def]
    """Write the code that all pixels of a cell have, for a row of cells."""
    height, width = codes.shape
    above, below = codes[2 * r], codes[min(2 * r + 1, height - 1)]
    for j in range(width // 2):
        code = above[2 * j]
        is_one = (above[2 * j + 1] == code) & (below[2 * j] == code) & (below[2 * j + 1] == code)
        line[j] = code if is_one else NOWHERE
    if width % 2:
        line[-1] = above[-1] if above[-1] == below[-1] else NOWHERE


@part
def _join_beside(line, found):  # type: ignore[no-untyped-def]
    """Keep codes that the cells beside have as well."""
    last = line.size - 1
    for j in range(line.size):
        found[j] = line[j]
    for j in range(last):
        found[j] = found[j] if line[j + 1] == line[j] else NOWHERE
    for j in range(last):
        found[j + 1] = found[j + 1] if line[j] == line[j + 1] else NOWHERE


@kernel
def _add_values(scored, values, out):  # type: ignore[no-untyped-def]
    """Add up the cells of each code, and their values, run by run."""
    for i in range(scored.shape[0]):
        codes, row, begin = scored[i], values[i], 0
        while begin < codes.size:
            code, end, total = codes[begin], begin, 0.0
            while end < codes.size and codes[end] == code:
                total += row[end]
                end += 1
            if code >= 0:
                out[0, code] += end - begin
                out[1, code] += total
            begin = end


@kernel
def _add_squares(scored, values, means, out):  # type: ignore[no-untyped-def]
    """Add up the squares about the mean of each code, and what rounding leaves of the mean."""
    for i in range(scored.shape[0]):
        codes, row, begin = scored[i], values[i], 0
        while begin < codes.size:
            code, end, squares, rest = codes[begin], begin, 0.0, 0.0
            mean = means[code] if code >= 0 else 0.0
            while end < codes.size and codes[end] == code:
                d = np.float64(row[end]) - mean
                squares += d * d
                rest += d
                end += 1
            if code >= 0:
                out[0, code] += squares
                out[1, code] += rest
            begin = end
