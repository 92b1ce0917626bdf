"""Structural similarity in one pass, for SSIM and, without its constants, for UIQ.

Instead of x and y it filters their sum u = x + y and their difference d = x - y, with

    4 mu_x mu_y = mu_u^2 - mu_d^2            2 (mu_x^2 + mu_y^2) = mu_u^2 + mu_d^2
    4 cov = var_u - var_d                    2 (var_x + var_y) = var_u + var_d

which is one plane less than x, y, x^2, y^2 and x y. And float32 suffices for SSIM: what rounding
does to var_u, numerator and denominator share, and var_d is small where the images are similar.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.kernels.jit import exact, kernel
from imsim.kernels.positions import Positions, exact_taps, is_uniform, least_weight
from imsim.kernels.windows import (
    add_row,
    add_totals,
    aligned,
    filter_moments,
    filter_row,
    filter_rows,
    find_scored,
    load_mask,
    local_offset,
    not_finite,
    workspace,
)
from imsim.portable.arrays import keep
from imsim.portable.coarse import automatic_factor, block_mean
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import Window
from imsim.typing import Array
from imsim.validation import Images, check_size


@exact
def _load_sum_and_difference(x, y, mask, i, left, right, offsets, scale, u, d):  # type: ignore[no-untyped-def]
    """Copy x + y and x - y of row i, centred and scaled; 0 outside the mask."""
    x_row, y_row = x[i, left:right], y[i, left:right]
    if mask is None:
        for j in range(x_row.size):
            p = (u.dtype.type(x_row[j]) - offsets[0]) * scale
            q = (u.dtype.type(y_row[j]) - offsets[1]) * scale
            u[j] = p + q
            d[j] = p - q
    else:
        inside = mask[i, left:right]
        nothing = u.dtype.type(0)
        for j in range(x_row.size):
            p = (u.dtype.type(x_row[j]) - offsets[0]) * scale
            q = (u.dtype.type(y_row[j]) - offsets[1]) * scale
            u[j] = p + q if inside[j] else nothing
            d[j] = p - q if inside[j] else nothing


@kernel
def _quality_row(sums, weights, pixels, full, shift, c1, c2, rounding, found):  # type: ignore[no-untyped-def]
    """Quality at a row of positions, from weighted sums of u, d, u^2 and d^2.

    Means are left multiplied by the weight of the window, variances by its square.
    """
    for j in range(found.size):
        weight = full if weights is None else weights[j]
        u = sums[0, j] + weight * shift[0]
        d = sums[1, j] + weight * shift[1]
        variance_u = weight * sums[2, j] - sums[0, j] * sums[0, j]
        variance_d = weight * sums[3, j] - sums[1, j] * sums[1, j]
        product, brightness = u * u - d * d, u * u + d * d
        covariance, variances = variance_u - variance_d, variance_u + variance_d
        if rounding is not None:  # the rules of `imsim.portable.windows.zero_rules` for 0 / 0
            # As differences, which are NaN and not 0 where both sides are infinite.
            centred = sums[0, j] * sums[0, j] + sums[1, j] * sums[1, j]
            power = weight * (sums[2, j] + sums[3, j])
            dark = brightness - rounding * rounding * centred <= 0
            flat = dark or variances - rounding * power <= 0
            product, brightness = (full, full) if dark else (product, brightness)
            covariance, variances = (full, full) if flat else (covariance, variances)
        square = weight * weight
        unbiased = square if pixels is None else square * ((pixels[j] - 1) / pixels[j])
        luminance = (product + c1 * square) / (brightness + c1 * square)
        found[j] = luminance * ((covariance + c2 * unbiased) / (variances + c2 * unbiased))


@kernel
def quality_strip(x, y, mask, out, values, valid, taps, ones, constants, rounding):  # type: ignore[no-untyped-def]
    """Quality at all positions of a strip.

    `ones` are taps that count pixels, for sample moments. With `rounding`, variances of that
    part of the local power are 0, and quotients of zeros follow UIQ's rules.
    """
    size = len(taps)
    scale, c1, c2, least = constants
    is_uniform = taps[0] == 1
    full = constants.dtype.type(size**2 if is_uniform else 1)
    if ones is not None and mask is None:
        c2 *= constants.dtype.type((size**2 - 1) / size**2)
    planes = 4 if mask is None else 5
    rows, ring, slots, sums, flat_sums, found = workspace(size, planes, constants)
    u, d, inside, weights = rows[0], rows[1], rows[2], sums[planes - 1]
    tile = found.size
    count_slots = aligned(size, tile, constants)
    count_ring = count_slots.reshape(size, 1, tile)
    counts = aligned(1, tile, constants)[0]
    scored = np.ones(tile, np.bool_)
    totals = np.zeros(tile)

    columns = x.shape[1] - size + 1
    for left in range(0, columns, tile):
        count = min(tile, columns - left)
        right = left + count + size - 1
        offsets = (
            constants.dtype.type(local_offset(x, mask, left, right)),
            constants.dtype.type(local_offset(y, mask, left, right)),
        )
        shift = ((offsets[0] + offsets[1]) * scale, (offsets[0] - offsets[1]) * scale)
        for i in range(x.shape[0]):
            slot, oldest, row = i % size, (i + 1) % size, i - size + 1
            _load_sum_and_difference(x, y, mask, i, left, right, offsets, scale, u, d)
            filter_moments(u, taps, ring, slot, 0, 2)
            filter_moments(d, taps, ring, slot, 1, 3)
            if mask is not None:
                out[0] += not_finite(u, right - left)
                load_mask(mask, i, left, right, inside)
                filter_row(inside, taps, ring, slot, 4)
                if ones is not None:
                    filter_row(inside, ones, count_ring, slot, 0)
            if row < 0:
                continue
            filter_rows(slots, oldest, taps, flat_sums)
            if mask is None:
                _quality_row(sums, None, None, full, shift, c1, c2, rounding, found)
                out[1] += add_row(found, None, count, totals)
            else:
                if ones is None:
                    _quality_row(sums, weights, None, full, shift, c1, c2, rounding, found)
                    find_scored(weights, None, least, mask, row, left, count, size, scored)
                else:
                    filter_rows(count_slots, oldest, ones, counts)
                    _quality_row(sums, weights, counts, full, shift, c1, c2, rounding, found)
                    find_scored(weights, counts, least, mask, row, left, count, size, scored)
                out[1] += add_row(found, scored, count, totals)
            if values.size > 0:
                values[row, left : left + count] = found[:count]
            if valid.size > 0:
                valid[row, left : left + count] = scored[:count]
        add_totals(totals, count, out)


def ssim(images: Images, mask: Array | None, **options: Any) -> Scores | None:
    """Mean structural similarity; without both constants it is left to the formula."""
    found = _structural_similarity(images, mask, with_map=False, **options)
    return None if found is None else found[0]


def ssim_map(images: Images, mask: Array | None, **options: Any) -> Local | None:
    """Structural similarity at every position; without both constants left to the formula."""
    found = _structural_similarity(images, mask, with_map=True, **options)
    return None if found is None else found[1]


def _structural_similarity(
    images: Images,
    mask: Array | None,
    *,
    with_map: bool,
    window: Window,
    K1: float,
    K2: float,
    sample_covariance: bool,
    downsample: bool,
    min_coverage: float,
) -> tuple[Scores, Local | None] | None:
    if K1 == 0 or K2 == 0:
        return None
    factor = automatic_factor(*images.frame) if downsample else 1
    if factor > 1:
        x, y = (keep(mask, v.astype(images.dtype)) for v in (images.x, images.y))
        x, cells = block_mean(x, mask, factor, border="symmetric")
        y, _ = block_mean(y, mask, factor, border="symmetric")
        images, mask = images._replace(x=x, y=y), cells
    check_size("ssim", images.x, window.size)
    positions = Positions(images, mask, window.size)

    def run(dtype: Any) -> tuple[Scores, Local | None]:
        # A power of two close to the data range brings float32 to the order of 1, exactly.
        scale = 1.0 if dtype is np.float64 else 2.0 ** -math.frexp(images.data_range)[1]
        c1, c2 = (2 * (K * images.data_range * scale) ** 2 for K in (K1, K2))
        least = least_weight(window, min_coverage)
        constants = (
            exact_taps(window, dtype),
            (dtype(1),) * window.size if sample_covariance else None,
            np.array([scale, c1, c2, least], dtype),
            None,
        )
        if with_map:
            scores, local = positions.local(quality_strip, *constants, step=factor)
            return scores, local if factor == 1 else local._replace(witness=None)
        scores = positions.scores(quality_strip, *constants)
        # A coarser grid may leave out the last pixels, which then nobody has looked at.
        return scores if factor == 1 else scores._replace(witness=None), None

    if images.dtype == np.float32 and _suits_float32(images.data_range, window, K1, K2):
        found = run(np.float32)
        if np.isfinite(found[0].values).all():
            return found
        # Either the images are not finite, or float32 has overflowed.
    return run(np.float64)


def _suits_float32(data_range: float, window: Window, K1: float, K2: float) -> bool:
    """Whether the constants are large against what rounding leaves of means and variances."""
    return K1 >= 0.005 and K2 >= 0.02 and 1e-30 < data_range < 1e30 and not is_uniform(window)
