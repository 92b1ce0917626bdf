"""Rows of windows, from the sums over their pixels: quality, of SSIM and UIQ, and correlation."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.jit import exact, exact_part, inline, part
from imsim.kernels.common.window_moments import (
    PIXEL_X,
    PIXEL_Y,
    PIXELS,
    SUM_X,
    SUM_XX,
    SUM_XY,
    SUM_Y,
    SUM_YY,
    TINY,
    WEIGHT,
    is_lost,
)
from imsim.validation import LARGEST, SMALLEST

EPSILON = float(np.finfo(np.float64).eps)


@inline
def paired(offsets, constants):  # type: ignore[no-untyped-def]
    """Offsets of x and y in the dtype of the constants, and those of x + y and x - y, scaled."""
    real, scale = constants.dtype.type, constants[0]
    x, y = real(offsets[0]), real(offsets[1])
    return (x, y), ((x + y) * scale, (x - y) * scale)


@exact_part
def load_sum_and_difference(x, y, mask, i, left, right, offsets, scale, u, d):  # type: ignore[no-untyped-def]
    """Copy x + y and x - y of row i, centred and scaled; 0 outside the mask."""
    x_row, y_row = x[i, left:right], y[i, left:right]
    real = u.dtype.type
    # The difference of nearly equal pixels is exact; that of the two minus their offsets is not.
    # Where offsets lie far from each other, it is the first that loses the digits of the pixels.
    shift = offsets[0] - offsets[1]
    is_apart = abs(shift) > min(abs(offsets[0]), abs(offsets[1]))
    if mask is None:
        for j in range(x_row.size):
            p, q = real(x_row[j]), real(y_row[j])
            centred_p, centred_q = p - offsets[0], q - offsets[1]
            u[j] = (centred_p + centred_q) * scale
            d[j] = (centred_p - centred_q if is_apart else (p - q) - shift) * scale
    else:
        inside = mask[i, left:right]
        nothing = real(0)
        for j in range(x_row.size):
            p, q = real(x_row[j]), real(y_row[j])
            centred_p, centred_q = p - offsets[0], q - offsets[1]
            sum_of_both = (centred_p + centred_q) * scale
            difference = (centred_p - centred_q if is_apart else (p - q) - shift) * scale
            u[j] = sum_of_both if inside[j] else nothing
            d[j] = difference if inside[j] else nothing


@inline
def terms(u, d, variance_u, variance_d, c1, c2):  # type: ignore[no-untyped-def]
    """Numerators and denominators of quality, from means and variances of x + y and x - y.

    Means are multiplied by the weight of the window, variances, c1 and c2 by its square.
    """
    product, brightness = u * u - d * d, u * u + d * d
    covariance, variances = variance_u - variance_d, variance_u + variance_d
    return product + c1, brightness + c1, covariance + c2, variances + c2


@inline
def without_zeros(product, brightness, covariance, variances, centred, square, rounding):  # type: ignore[no-untyped-def]
    """The terms, changed where 0 / 0 follows `imsim.portable.windows.zero_rules`.

    `centred` is the sum of squared means about the offset.
    """
    # The difference is compared with 0, since infinity minus infinity is NaN, which must not count
    # as dark.
    dark = brightness - rounding * rounding * centred <= 0
    flat = dark or variances <= 0
    product, brightness = (square, square) if dark else (product, brightness)
    covariance, variances = (square, square) if flat else (covariance, variances)
    return product, brightness, covariance, variances


@part
def quality_row(sums, weights, unbiased, full, shift, c1, c2, limits, rounding, found):  # type: ignore[no-untyped-def]
    """Quality at a row of positions, from weighted sums of u, d, u^2 and d^2; NaN if doubtful."""
    one, nothing = found.dtype.type(1), found.dtype.type(np.nan)
    beyond = found.dtype.type(np.inf)
    is_narrow = found.dtype.type(1 + EPSILON) == one  # known to the compiler, unlike the size
    if limits is not None:  # read before the loop, which is not vectorised otherwise
        share, share_d, few, share_of_mean = limits
    for j in range(found.size):
        weight = full if weights is None else weights[j]
        square = weight * weight
        constant = c2 * square if unbiased is None else c2 * square * unbiased[j]
        sum_u, sum_d = sums[0, j], sums[1, j]
        u, d = sum_u + weight * shift[0], sum_d + weight * shift[1]
        centred = sum_u * sum_u + sum_d * sum_d
        power_u, power_d = weight * sums[2, j], weight * sums[3, j]
        variance_u, variance_d = power_u - sum_u * sum_u, power_d - sum_d * sum_d
        product, brightness, covariance, variances = terms(
            u, d, variance_u, variance_d, c1 * square, constant
        )
        if limits is None and rounding is not None:  # or a window with 0 / 0 is doubtful
            product, brightness, covariance, variances = without_zeros(
                product, brightness, covariance, variances, centred, square, rounding
            )
        scale = brightness * variances
        quality = product * covariance / scale
        if limits is not None:
            if is_narrow:
                # The rounding error of u^2 counts as far as the images differ.
                sound = few * power_u + share_d * power_d < variances
                sound &= share * power_u * abs(variance_d) < variances * variances
                powers = share_of_mean * (power_u + power_d)
                sound &= powers * (d * d) < brightness * brightness
            else:
                sound = share * (power_u + power_d) < variances
                sound &= share_d * centred < brightness
                sound &= share_of_mean * (power_u + power_d) <= brightness
                sound &= few < scale
            quality = quality if sound & (scale < beyond) else nothing
        found[j] = quality


@part
def correct_bias(pixels, unbiased):  # type: ignore[no-untyped-def]
    """Write (n - 1) / n for windows of n pixels."""
    one = unbiased.dtype.type(1)
    for j in range(unbiased.size):
        unbiased[j] = (pixels[j] - one) / pixels[j]


@inline
def correlation(covariance, variance_x, variance_y):  # type: ignore[no-untyped-def]
    """See `imsim.metrics.zncc.correlation`; a window is flat if its variance is 0."""
    product = variance_x * variance_y
    if SMALLEST < product < LARGEST:
        r = covariance / math.sqrt(product)
    else:  # the product may overflow or underflow; this, too, is exactly 1 for equal images
        larger, smaller = max(variance_x, variance_y), min(variance_x, variance_y)
        r = covariance / larger / math.sqrt(smaller / larger)
    r = 1.0 if r > 1 else (-1.0 if r < -1 else r)
    if variance_x <= 0 or variance_y <= 0:
        r = 1.0 if variance_x <= 0 and variance_y <= 0 else 0.0
    # NaN if a variance is not finite, which max() and the bounds of r would drop.
    return r + 0.0 * (variance_x + variance_y)


@exact_part  # covariance and variances of equal images must be equal
def correlation_row(sums, pixels, full, limits, found):  # type: ignore[no-untyped-def]
    """Correlation at a row of positions, from sums of x, y, x^2, y^2 and x y; NaN if doubtful.

    Variances and covariance are multiplied by the square of the number of pixels.
    """
    if limits is not None:
        share = limits[0]
    for j in range(found.size):
        n = full if pixels is None else pixels[j]
        covariance = n * sums[4, j] - sums[0, j] * sums[1, j]
        power_x, power_y = n * sums[2, j], n * sums[3, j]
        variance_x = power_x - sums[0, j] * sums[0, j]
        variance_y = power_y - sums[1, j] * sums[1, j]
        r = correlation(covariance, variance_x, variance_y)
        if limits is not None:
            sound = (share * power_x < variance_x) & (share * power_y < variance_y)
            sound &= (variance_x > TINY) & (variance_y > TINY)
            r = r if sound else np.nan
        found[j] = r


@exact  # a compiler that may reorder multiplies the denominators, which may leave float64
def quality_again(moments, found, is_sample, c1, c2, rounding):  # type: ignore[no-untyped-def]
    """Compute the doubtful positions of some rows, from moments about their own pixels."""
    for i in range(found.shape[0]):
        sums = moments[i]
        for j in range(found.shape[1]):
            if not np.isnan(found[i, j]):
                continue
            if rounding is not None and (
                is_lost(sums[SUM_X, j], sums[SUM_XX, j])
                or is_lost(sums[SUM_Y, j], sums[SUM_YY, j])
                or is_lost(sums[PIXEL_X, j], sums[PIXEL_X, j] ** 2)
                or is_lost(sums[PIXEL_Y, j], sums[PIXEL_Y, j] ** 2)
            ):
                continue
            weight, n = sums[WEIGHT, j], sums[PIXELS, j]
            square = weight * weight
            unbiased = (n - 1) / n if is_sample else 1.0
            sum_u, sum_d = sums[SUM_X, j] + sums[SUM_Y, j], sums[SUM_X, j] - sums[SUM_Y, j]
            powers, product = sums[SUM_XX, j] + sums[SUM_YY, j], sums[SUM_XY, j]
            product, brightness, covariance, variances = terms(
                sum_u + weight * (sums[PIXEL_X, j] + sums[PIXEL_Y, j]),
                sum_d + weight * (sums[PIXEL_X, j] - sums[PIXEL_Y, j]),
                weight * (powers + 2 * product) - sum_u * sum_u,
                weight * (powers - 2 * product) - sum_d * sum_d,
                c1 * square,
                c2 * square * unbiased,
            )
            if rounding is not None:  # a mean near 0 keeps its digits beside a larger one
                off_x, off_y = sums[SUM_X, j], sums[SUM_Y, j]
                x, y = off_x + weight * sums[PIXEL_X, j], off_y + weight * sums[PIXEL_Y, j]
                product, brightness = 4 * (x * y), 2 * (x * x + y * y)
                dark = abs(x) <= rounding * abs(off_x) and abs(y) <= rounding * abs(off_y)
                if dark:
                    product, brightness = square, square
                if dark or variances <= 0:
                    covariance, variances = square, square
            if np.isfinite(brightness) and np.isfinite(variances):  # or the quality would be 0
                found[i, j] = (product / brightness) * (covariance / variances)


@exact
def correlation_again(moments, found):  # type: ignore[no-untyped-def]
    """Compute the doubtful positions of some rows, from moments about their own pixels."""
    for i in range(found.shape[0]):
        sums = moments[i]
        for j in range(found.shape[1]):
            if not np.isnan(found[i, j]):
                continue
            if is_lost(sums[SUM_X, j], sums[SUM_XX, j]) or is_lost(sums[SUM_Y, j], sums[SUM_YY, j]):
                continue
            n, sum_x, sum_y = sums[WEIGHT, j], sums[SUM_X, j], sums[SUM_Y, j]
            found[i, j] = correlation(
                n * sums[SUM_XY, j] - sum_x * sum_y,
                n * sums[SUM_XX, j] - sum_x * sum_x,
                n * sums[SUM_YY, j] - sum_y * sum_y,
            )
