"""Passes over X-ray images before they are compared: what the virtual peel does at each pixel.

Each takes a stack (n, height, width) of float32 or booleans, and releases the GIL once for the
whole stack: threads that peel images side by side do not wait for each other's Python.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import exact, inline, kernel, part
from imsim.typing import Array


def _floats(images: Array) -> Array:
    """Return images as the one type of array for which the passes are compiled."""
    return np.require(images, np.float32, ["C", "W"])


def _booleans(masks: Array) -> Array:
    return np.require(masks, np.bool_, ["C", "W"])


def without_lone(images: Array, limit: float) -> Array:
    """Replace pixels far from eight neighbours that are alike by the middle of these.

    They are alike if they differ, less their slope, by less than `limit` times the pixel's distance
    from them. The image is mirrored at the frame.
    """
    images = _floats(images)
    result, room = np.empty_like(images), np.empty((3, images.shape[2] + 2), np.float32)
    _without_lone(images, np.float32(limit), room, result)
    return result


@exact
def _without_lone(images, limit, room, result):  # type: ignore[no-untyped-def]
    n, height, width = images.shape
    half, sixth = np.float32(0.5), np.float32(1 / 6)
    above, same, below = room[0], room[1], room[2]
    for k in range(n):
        for i in range(height):
            _mirrored(images[k, i - 1 if i > 0 else min(1, height - 1)], above)
            _mirrored(images[k, i], same)
            _mirrored(images[k, i + 1 if i < height - 1 else max(i - 1, 0)], below)
            out = result[k, i]
            for j in range(width):
                a, b, c = above[j], above[j + 1], above[j + 2]
                d, here, e = same[j], same[j + 1], same[j + 2]
                f, g, h = below[j], below[j + 1], below[j + 2]
                # The plane through them that fits best, by least squares.
                across = ((c - a) + (e - d) + (h - f)) * sixth
                down = ((f - a) + (g - b) + (h - c)) * sixth
                both, other = down + across, down - across
                a, b, c, d = a + both, b + down, c + other, d + across
                e, f, g, h = e - across, f - other, g - down, h - both
                low = _least(_least(_least(a, b), _least(c, d)), _least(_least(e, f), _least(g, h)))
                high = _largest(
                    _largest(_largest(a, b), _largest(c, d)),
                    _largest(_largest(e, f), _largest(g, h)),
                )
                distance = _largest(here - high, low - here)
                is_lone = (high - low < limit * distance) & (distance > 0)
                out[j] = (low + high) * half if is_lone else here


@part
def _mirrored(row, room):  # type: ignore[no-untyped-def]
    width = row.size
    room[0] = row[min(1, width - 1)]
    room[width + 1] = row[max(width - 2, 0)]
    inner = room[1 : width + 1]
    for j in range(width):
        inner[j] = row[j]


@inline
def _least(a, b):  # type: ignore[no-untyped-def]
    """Return the smaller one, or NaN: it is alike to nothing."""
    return a if (a < b) | (a != a) else b


@inline
def _largest(a, b):  # type: ignore[no-untyped-def]
    return a if (a > b) | (a != a) else b


def mean_of_neighbours(images: Array) -> Array:
    """Average over 3x3 pixels; the frame's border continues outwards."""
    images = _floats(images)
    result, room = np.empty_like(images), np.empty(images.shape[2] + 2, np.float32)
    _mean_of_neighbours(images, room, result)
    return result


@exact
def _mean_of_neighbours(images, room, result):  # type: ignore[no-untyped-def]
    n, height, width = images.shape
    inner, nine = room[1 : width + 1], np.float32(9)
    for k in range(n):
        for i in range(height):
            above, here = images[k, max(i - 1, 0)], images[k, i]
            below, out = images[k, min(i + 1, height - 1)], result[k, i]
            for j in range(width):
                inner[j] = above[j] + here[j] + below[j]
            room[0], room[width + 1] = inner[0], inner[width - 1]
            for j in range(width):
                out[j] = (room[j] + room[j + 1] + room[j + 2]) / nine


def halfway(images: Array, most: int) -> Array:
    """Return the threshold half-way between the means of the pixels below and above it.

    The search starts at the mean, and ends after `most` steps.
    """
    result = np.empty(len(images))
    _halfway(_floats(images).reshape(len(images), -1), most, result)
    return result


@kernel
def _halfway(images, most, result):  # type: ignore[no-untyped-def]
    zero = np.float32(0)
    for k in range(images.shape[0]):
        pixels = images[k]
        total = np.float64(0)
        for j in range(pixels.size):
            total += pixels[j]
        threshold = total / pixels.size
        for _ in range(most):
            last, limit = threshold, np.float32(threshold)
            count = 0
            above = np.float64(0)
            for j in range(pixels.size):
                is_above = pixels[j] > limit
                above += pixels[j] if is_above else zero
                count += is_above
            high, low = above / max(count, 1), (total - above) / max(pixels.size - count, 1)
            threshold = (high + low) / 2
            if threshold == last:
                break
        result[k] = threshold


def steps(absorbed: Array, beam: Array, most: float) -> tuple[Array, Array]:
    """Add up the differences between neighbouring columns where both are in the beam.

    Differences of `most` or more are left out. Returns the sums and the numbers of pixels, for
    columns and then for rows: shapes (2, n, width - 1) and (2, n, height - 1).
    """
    n, height, width = absorbed.shape
    columns, rows = np.zeros((2, n, max(width - 1, 0))), np.zeros((2, n, max(height - 1, 0)))
    _steps(_floats(absorbed), _booleans(beam), np.float32(most), columns, rows)
    return columns, rows


@kernel
def _steps(absorbed, beam, most, columns, rows):  # type: ignore[no-untyped-def]
    n, height, width = absorbed.shape
    zero = np.float32(0)
    for k in range(n):
        sums, numbers = columns[0, k], columns[1, k]
        for i in range(height):
            here, is_free = absorbed[k, i], beam[k, i]
            after, is_free_after = here[1:], is_free[1:]
            for j in range(width - 1):
                step = after[j] - here[j]
                counts = is_free[j] & is_free_after[j] & (abs(step) < most)
                sums[j] += step if counts else zero
                numbers[j] += counts
            if i > 0:
                above, is_free_above = absorbed[k, i - 1], beam[k, i - 1]
                number = 0
                total = np.float64(0)
                for j in range(width):
                    step = here[j] - above[j]
                    counts = is_free[j] & is_free_above[j] & (abs(step) < most)
                    total += step if counts else zero
                    number += counts
                rows[0, k, i - 1], rows[1, k, i - 1] = total, number


def items(above: Array, smallest: float, second: float, several: bool) -> tuple[Array, Array]:
    """Return the items among the pixels above a threshold, and how many large parts there are.

    Parts hang together along sides. Of an image whose largest part has fewer than `smallest` pixels
    the number is 0; parts with at least `second` times the pixels of the largest one are large. If
    there are more than one and not `several`, no item is returned. Holes are filled: pixels that do
    not hang together with the frame.
    """
    result, numbers = np.zeros(above.shape, np.bool_), np.zeros(len(above), np.int64)
    height, width = above.shape[1:]
    runs = height * (width + 2)  # more than there can be
    first, room = np.empty(height + 1, np.int64), np.empty((4, runs), np.int32)
    _items(_booleans(above), float(smallest), second, several, first, room, result, numbers)
    return result, numbers


@exact
def _items(above, smallest, second, several, first, room, result, numbers):  # type: ignore[no-untyped-def]
    begin, end, parent, area = room[0], room[1], room[2], room[3]
    height = above.shape[1]
    width = above.shape[2]
    for k in range(above.shape[0]):
        out = result[k]
        _find_runs(above[k], True, first, begin, end)
        _join_runs(first, begin, end, parent)
        count = first[height]
        for r in range(count):
            area[r] = 0
        largest = 0
        for r in range(count):
            root = _root(parent, r)
            area[root] += end[r] - begin[r]
            largest = max(largest, area[root])
        if largest < smallest:
            continue
        large = 0
        for r in range(count):
            large += parent[r] == r and area[r] >= second * largest
        numbers[k] = large
        if large > 1 and not several:
            continue
        for i in range(height):
            for r in range(first[i], first[i + 1]):
                if area[_root(parent, r)] >= second * largest:
                    out[i, begin[r] : end[r]] = True
        # What of the rest does not reach the frame is a hole.
        _find_runs(out, False, first, begin, end)
        _join_runs(first, begin, end, parent)
        reaches = area
        for r in range(first[height]):
            reaches[r] = 0
        for i in range(height):
            for r in range(first[i], first[i + 1]):
                if i == 0 or i == height - 1 or begin[r] == 0 or end[r] == width:
                    reaches[_root(parent, r)] = 1
        for i in range(height):
            for r in range(first[i], first[i + 1]):
                if not reaches[_root(parent, r)]:
                    out[i, begin[r] : end[r]] = True


@part
def _find_runs(mask, wanted, first, begin, end):  # type: ignore[no-untyped-def]
    """Write the runs of pixels that are as wanted; those of row i are first[i] to first[i + 1]."""
    height, width = mask.shape
    count = 0
    for i in range(height):
        first[i] = count
        is_inside = False
        for j in range(width):
            if (mask[i, j] == wanted) != is_inside:
                if is_inside:
                    end[count] = j
                    count += 1
                else:
                    begin[count] = j
                is_inside = not is_inside
        if is_inside:
            end[count] = width
            count += 1
    first[height] = count


@part
def _join_runs(first, begin, end, parent):  # type: ignore[no-untyped-def]
    """Join runs of neighbouring rows that touch along sides."""
    for i in range(first.size - 1):
        above, last = 0, 0
        if i > 0:
            above, last = first[i - 1], first[i]
        for r in range(first[i], first[i + 1]):
            parent[r] = r
            while above < last and end[above] <= begin[r]:
                above += 1
            other = above
            while other < last and begin[other] < end[r]:
                a, b = _root(parent, other), _root(parent, r)
                parent[max(a, b)] = min(a, b)
                other += 1


@part
def _root(parent, r):  # type: ignore[no-untyped-def]
    while parent[r] != r:
        parent[r] = parent[parent[r]]
        r = parent[r]
    return r


def distances(masks: Array, reach: int) -> Array:
    """Return the chessboard distance of each pixel from the rim of its mask, 0 to `reach`.

    The frame is no rim: beyond it an item goes on.
    """
    result = np.zeros(masks.shape, np.int32)
    width = masks.shape[2]
    _distances(_booleans(masks), reach, np.empty(width + 2 * reach, np.int32), result)
    return result


@exact
def _distances(masks, reach, room, result):  # type: ignore[no-untyped-def]
    n, height, width = masks.shape
    inner = room[reach : reach + width]
    for j in range(reach):
        room[j] = room[reach + width + j] = reach
    for k in range(n):
        mask, out = masks[k], result[k]
        # Along the columns, from above and from below.
        for i in range(height):
            for j in range(width):
                before = out[i - 1, j] if i > 0 else reach
                out[i, j] = min(before + 1, reach) if mask[i, j] else 0
        for i in range(height - 2, -1, -1):
            for j in range(width):
                out[i, j] = min(out[i, j], out[i + 1, j] + 1)
        # A square of side 2 d - 1 fits where columns up to d - 1 away reach as far.
        for i in range(height):
            first, last, highest = width, 0, 0
            for j in range(width):
                inner[j] = out[i, j]
                if out[i, j] > 0:
                    first, last = min(first, j), j + 1
                    highest = max(highest, out[i, j])
            row = out[i, first:last]
            for away in range(1, highest):
                left = room[reach + first - away : reach + last - away]
                right = room[reach + first + away : reach + last + away]
                for j in range(row.size):
                    nearest = max(min(left[j], right[j]), away)
                    row[j] = min(row[j], nearest)


def compile_passes() -> None:
    """Call every pass, so that it is compiled."""
    images = np.zeros((1, 3, 3), np.float32)
    without_lone(images, 0.1)
    mean_of_neighbours(images)
    halfway(images, 1)
    steps(images, images == 0, 1.0)
    items(images == 0, 1, 1.0, True)
    distances(images == 0, 2)
