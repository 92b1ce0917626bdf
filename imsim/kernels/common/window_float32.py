"""Windows in float32: offsets, and the tiles and the runs of windows that are left to float64.

Sums of squares about an offset have 24 binary digits. The variance of a window keeps few of them
where the offset is far from the pixels and the pixels vary little, as in the shadows of a bright
tile.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import kernel, part
from imsim.kernels.common.planes import count as number_inside
from imsim.kernels.common.window_moments import TINY
from imsim.kernels.common.window_rows import terms
from imsim.kernels.common.window_sums import clipped
from imsim.kernels.common.window_tiles import CROSSED, DOUBTFUL, INSIDE, first_of
from imsim.typing import Array

HIGH, WIDE = 4, 8
"""Pixels of the sides of a block that stands for windows."""
STEP = 32
"""Pixels from one such block to the next."""
STRICT = 8.0
"""How many times as strict as usual the limits of float32 are where neighbouring windows are alike:
they share their rounding error, which no mean reduces."""
FLAT = 2.0**-15
"""Share of the variance in the mean square about the offset below which pixels hardly vary."""
LEVEL_U, LEVEL_D, SPREAD_U, SPREAD_D, REACH_U, REACH_D, TOP, LEFT = range(8)
"""What is known of a block of n pixels: means of x + y and x - y, n^2 times their variances, how
far from these means `quality_row` allows offsets to lie, first row and first column."""
ALMOST = 1 - 2.0**-40
"""Share of a reach that rounding does not exceed."""
RUN = 32
"""Most neighbouring windows of a row that are computed again together."""
GAP = 8
"""A run of doubtful windows ends where so many of its neighbours are not."""
SUMS = 6
"""What a run adds up: x + y, x - y, their squares, weights and pixels inside a mask."""
CROWD = 4
"""Where more than one window in so many of a tile is doubtful, another kernel takes all of them."""
LAGS = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (2, 0), (1, 1), (1, 3))
"""Rows and columns from pixels to those that equal them if an image has few values or repeats."""


@part
def _is_repeated(x, y):  # type: ignore[no-untyped-def]
    """Whether most pixels of two blocks equal those a few rows and columns from them."""
    for down, along in LAGS:
        spare = (HIGH - down) * (WIDE - along) // 4
        for i in range(HIGH - down):
            for j in range(WIDE - along):
                is_equal = x[i, j] == x[i + down, j + along]
                spare -= not (is_equal and y[i, j] == y[i + down, j + along])
            if spare < 0:
                break
        if spare >= 0:
            return True
    return False


def block_memory(height: int, width: int, tiles: int) -> tuple[Array, Array]:
    """Return memory for the blocks of a tile, and which of each tile may be used: all."""
    number = -(-height // STEP) * -(-width // STEP)
    return np.empty((number, LEFT + 1)), np.ones((tiles, number), np.bool_)


@kernel
def find_inside(mask, width, size, tile, inside):  # type: ignore[no-untyped-def]
    """Find which blocks of each tile lie inside a mask."""
    for k in range(inside.shape[0]):
        left, n = k * tile, 0
        last = min((k + 1) * tile, width) + size - WIDE
        for top in range(0, mask.shape[0] - HIGH + 1, STEP):
            for start in range(left + first_of(top, last - left, STEP), last, STEP):
                for i in range(top, top + HIGH):
                    inside[k, n] &= number_inside(mask[i, start : start + WIDE]) == WIDE
                n += 1


@part
def _measure(x, y, block):  # type: ignore[no-untyped-def]
    """Write the means of x + y and x - y of a block, and n^2 times their variances."""
    n, first_x, first_y = float(HIGH * WIDE), np.float64(x[0, 0]), np.float64(y[0, 0])
    sum_u, sum_d, square_u, square_d = 0.0, 0.0, 0.0, 0.0
    for i in range(HIGH):
        row_x, row_y = x[i], y[i]
        for j in range(WIDE):
            p, q = row_x[j] - first_x, row_y[j] - first_y
            sum_u += p + q
            sum_d += p - q
            square_u += (p + q) * (p + q)
            square_d += (p - q) * (p - q)
    block[LEVEL_U], block[LEVEL_D] = first_x + first_y + sum_u / n, first_x - first_y + sum_d / n
    block[SPREAD_U] = n * square_u - sum_u * sum_u
    block[SPREAD_D] = n * square_d - sum_d * sum_d


@part
def _means(x, y):  # type: ignore[no-untyped-def]
    """Return the means of x + y and x - y of a tile that is smaller than a block."""
    total_u, total_d = 0.0, 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            total_u += np.float64(x[i, j]) + np.float64(y[i, j])
            total_d += np.float64(x[i, j]) - np.float64(y[i, j])
    return total_u / x.size, total_d / x.size


@part
def _centre(levels, reaches):  # type: ignore[no-untyped-def]
    """Return an offset within reach of as many levels as possible; NaN if of none.

    It is as far from each of these, in parts of its reach, as it must be: their weighted Chebyshev
    centre, which two of them determine. That of the negated levels is its negative.
    """
    turn = 1.0
    for i in range(levels.size):
        if levels[i] != 0:
            turn = -1.0 if levels[i] < 0 else 1.0
            break
    most, place = 0, np.nan
    for i in range(levels.size):
        low, count = turn * levels[i] - reaches[i] * ALMOST, 0
        for j in range(levels.size):
            count += abs(low - turn * levels[j]) <= reaches[j]
        if count > most:
            most, place = count, low
    farthest, centre = -1.0, np.nan
    for i in range(levels.size):
        near, room = turn * levels[i], reaches[i]
        for j in range(i, levels.size if abs(place - near) <= room else i):
            far, more = turn * levels[j], reaches[j]
            gap = abs(far - near) / (room + more)
            if abs(place - far) <= more and gap > farthest:
                farthest, centre = gap, near + (far - near) * (room / (room + more))
    return turn * centre


@kernel
def find_doubtful(x, y, inside, width, size, tile, constants, limits, places, levels, blocks):  # type: ignore[no-untyped-def]
    """Find offsets for tiles, and tiles that float32 need not try.

    In these, a sixteenth of the windows would be doubtful. Blocks of 4 x 8 pixels inside the mask,
    one in 32 x 32, stand for the windows. The rules are those of `quality_row`, but for the share
    of the power of x - y in its first one; they weigh the variance against the power about the
    offset. They are strict where x + y or x - y hardly varies, and where pixels repeat; two of
    these count as one. A tile with a mask that leaves few blocks is doubtful, too.
    """
    scale, c1, c2 = constants[0], constants[1], constants[2]
    share, share_d, few, share_of_mean = limits
    n = float(HIGH * WIDE)
    c1, c2 = c1 * n * n / (scale * scale), c2 * n * n / (scale * scale)
    for k in range(places.size):
        if places[k] != INSIDE and places[k] != CROSSED:
            continue
        left, right = k * tile, min((k + 1) * tile, width) + size - 1
        tops, last = range(0, x.shape[0] - HIGH + 1, STEP), right - WIDE + 1
        possible, number, n_blocks = len(tops) * len(range(left, last, STEP)), 0, 0
        for top in tops:
            for start in range(left + first_of(top, last - left, STEP), last, STEP):
                n_blocks += 1
                if not inside[k, n_blocks - 1]:
                    continue
                rows, columns = slice(top, top + HIGH), slice(start, start + WIDE)
                block = blocks[number]
                _measure(x[rows, columns], y[rows, columns], block)
                block[TOP], block[LEFT] = top, start
                u, d = n * block[LEVEL_U], n * block[LEVEL_D]
                brightness, variances = u * u + d * d + c1, block[SPREAD_U] + block[SPREAD_D] + c2
                # The largest n^2 mean squares about an offset that the rules allow.
                most = brightness * brightness / (share_of_mean * (d * d) + TINY)
                most_u = min(most, variances / few)
                most_u = min(most_u, variances * variances / (share * block[SPREAD_D] + TINY))
                most_d = min(most, variances / share_d)
                block[REACH_U] = np.sqrt(most_u - block[SPREAD_U]) / n
                block[REACH_D] = np.sqrt(most_d - block[SPREAD_D]) / n
                number += 1
        some, enough = blocks[:number], max(possible, 16) / 16
        u = _centre(some[:, LEVEL_U], some[:, REACH_U])
        d = _centre(some[:, LEVEL_D], some[:, REACH_D])
        if possible == 0:  # the tile is smaller than a block
            u, d = _means(x[:, left:right], y[:, left:right])
        levels[k, 0], levels[k, 1] = (u + d) / 2, (u - d) / 2
        offset_u, offset_d = levels[k, 0] + levels[k, 1], levels[k, 0] - levels[k, 1]
        found = 0.0
        for i in range(number):
            if found >= enough:
                break
            block = some[i]
            variance_u, variance_d = block[SPREAD_U], block[SPREAD_D]
            off_u, off_d = n * (block[LEVEL_U] - offset_u), n * (block[LEVEL_D] - offset_d)
            power, power_d = variance_u + off_u * off_u, variance_d + off_d * off_d
            variances = variance_u + variance_d + c2
            sound = few * power < variances
            sound &= share * power * variance_d < variances * variances
            if not sound:
                found += 1
                continue
            u, d = n * block[LEVEL_U], n * block[LEVEL_D]
            brightness, means = u * u + d * d + c1, share_of_mean * (power + power_d) * (d * d)
            strict = STRICT * share_d * power_d < variances
            strict &= STRICT * share * power * variance_d < variances * variances
            strict &= STRICT * means < brightness * brightness
            if not strict:
                top, start = int(block[TOP]), int(block[LEFT])
                rows, columns = slice(top, top + HIGH), slice(start, start + WIDE)
                alike = variance_u <= FLAT * power or variance_d <= FLAT * power_d
                if alike or _is_repeated(x[rows, columns], y[rows, columns]):
                    found += 0.5
        if found >= enough or (places[k] == CROSSED and number * 4 < possible):
            places[k] = DOUBTFUL


def run_memory(size: int) -> Array:
    """Return memory for the sums along the columns of a run."""
    return np.empty((SUMS, RUN + size - 1))


@kernel
def settle_runs(  # type: ignore[no-untyped-def]
    x, y, mask, values, doubtful, tile, taps, limits, constants, is_sample, memory, out
):
    """Compute doubtful windows in float64, by runs of neighbours, where they are not too many.

    Add their sum to ``out[0]``; return whether no doubtful window remains. Taps, limits and
    constants are those of float64; see `run_memory`.
    """
    remaining = 0
    for k in range(doubtful.shape[1]):
        first, end, number = k * tile, min((k + 1) * tile, values.shape[1]), 0
        for row in range(doubtful.shape[0]):
            if doubtful[row, k]:
                for value in values[row, first:end]:
                    number += np.isnan(value)
        remaining += number
        if number * CROWD > doubtful.shape[0] * (end - first):
            continue
        for row in range(doubtful.shape[0] if number else 0):
            left = first if doubtful[row, k] else end
            while left < end:
                if not np.isnan(values[row, left]):
                    left += 1
                    continue
                right, last = left + 1, left + 1
                while right < min(left + RUN, end) and right - last < GAP:
                    right += 1
                    last = right if np.isnan(values[row, right - 1]) else last
                here = values[row, left:last]
                total, number = _settle_run(
                    x, y, mask, row, left, taps, limits, constants, is_sample, memory, here
                )
                out[0] += total
                remaining -= number
                left = right
    return remaining == 0


@part
def _settle_run(x, y, mask, top, left, taps, limits, constants, is_sample, memory, values):  # type: ignore[no-untyped-def]
    """Compute doubtful windows of a run about the centre of the first; return sum and number."""
    size, is_masked, (share, share_of_mean, smallest, near_zero) = taps.size, mask.size > 0, limits
    scale, c1, c2 = constants[:3]
    c1, c2 = c1 / (scale * scale), c2 / (scale * scale)
    right, middle = left + values.size + size - 1, (top + size // 2, left + size // 2)
    first_x, first_y = np.float64(x[middle]), np.float64(y[middle])
    width = right - left
    u, d, uu, dd = memory[0, :width], memory[1, :width], memory[2, :width], memory[3, :width]
    weights, pixels = memory[4, :width], memory[5, :width]
    for j in range(width):
        u[j], d[j], uu[j], dd[j] = 0.0, 0.0, 0.0, 0.0
        weights[j], pixels[j] = 0.0, 0.0
    for i in range(size):
        row_x, row_y, tap = x[top + i, left:right], y[top + i, left:right], taps[i]
        for j in range(width):
            p, q = row_x[j] - first_x, row_y[j] - first_y
            if is_masked:
                inside = mask[top + i, left + j]
                p, q = (p, q) if inside else (0.0, 0.0)
                weights[j] += tap if inside else 0.0
                pixels[j] += 1.0 if inside else 0.0
            p, q = p + q, p - q
            u[j] += tap * p
            d[j] += tap * q
            uu[j] += tap * (p * p)
            dd[j] += tap * (q * q)
    total, number = 0.0, 0
    for j in range(values.size):
        if not np.isnan(values[j]):
            continue
        sum_u, sum_d, square_u, square_d, weight, n = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(size):
            tap = taps[k]
            sum_u += tap * u[j + k]
            sum_d += tap * d[j + k]
            square_u += tap * uu[j + k]
            square_d += tap * dd[j + k]
            if is_masked:
                weight += tap * weights[j + k]
                n += pixels[j + k]
        if not is_masked:
            weight, n = 1.0, float(size * size)
        square, unbiased = weight * weight, (n - 1) / n if is_sample else 1.0
        power_u, power_d = weight * square_u, weight * square_d
        product, brightness, covariance, variances = terms(
            sum_u + weight * (first_x + first_y),
            sum_d + weight * (first_x - first_y),
            power_u - sum_u * sum_u,
            power_d - sum_d * sum_d,
            c1 * square,
            c2 * square * unbiased,
        )
        both = brightness * variances
        sound = share * (power_u + power_d) < variances
        sound &= share_of_mean * (sum_u * sum_u + sum_d * sum_d) < brightness
        sound &= near_zero * (power_u + power_d) <= brightness
        if sound & (smallest < both < np.inf):
            value = clipped(product * covariance / both, 1.0)
            values[j] = value
            total += value
            number += 1
    return total, number
