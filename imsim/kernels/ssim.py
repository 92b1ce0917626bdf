"""Structural similarity in one pass, for SSIM and, without its constants, for UIQ.

The kernel filters the sum u = x + y and the difference d = x - y instead of x and y, with

    4 mu_x mu_y = mu_u^2 - mu_d^2            2 (mu_x^2 + mu_y^2) = mu_u^2 + mu_d^2
    4 cov = var_u - var_d                    2 (var_x + var_y) = var_u + var_d

which needs one plane less than x, y, x^2, y^2 and x y. Mostly, float32 is precise enough for SSIM:
numerator and denominator share the rounding error of var_u, and var_d is small where the images are
similar. Windows for which float32 or float64 is not enough are computed again, with moments about a
pixel of the window.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.caches import kept
from imsim.kernels import weighing
from imsim.kernels.common.jit import kernel
from imsim.kernels.common.planes import count as number_inside
from imsim.kernels.common.window_doubts import PixelTypes, limits, pixel_types, weighed
from imsim.kernels.common.window_rows import (
    correct_bias,
    load_sum_and_difference,
    paired,
    quality_again,
    quality_row,
)
from imsim.kernels.common.window_strips import Positions, Strips, taps_of
from imsim.kernels.common.window_sums import (
    add_row,
    clipped,
    fill_zeros,
    filter_moments,
    filter_row,
    filter_rows,
    filter_two_rows,
    find_scored,
    load_mask,
    may_be_broken,
    nan_if_broken,
    rows_to_sum,
)
from imsim.kernels.common.window_tiles import digits_of, offsets_of, span_of
from imsim.portable.arrays import where_valid
from imsim.portable.coarse import automatic_factor, block_mean, cell_weights
from imsim.portable.pair import Local, Scores
from imsim.portable.structural_similarity import Options
from imsim.portable.windows import Window, least_weight, replicated, uniform
from imsim.typing import Array
from imsim.validation import Images

LEAST_TAP = 2.0**-11
"""Least tap for which float32 has enough digits."""


@kernel
def quality_strip(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    span,
    results,
    memory,
    size,
    taps,
    unrolled,
    ones,
    limits,
    is_sample,
    constants,
    rounding,
    levels=None,
):
    """Quality at the positions of some columns of a strip.

    `ones` are taps that count pixels, for sample moments or where all pixels have to lie inside
    the mask. `rounding` asks for UIQ's rules for 0 / 0: a mean counts as 0 if it is smaller than
    this part of its summands. None: the constants prevent 0 / 0. `levels` are the offsets of the
    tiles, which are found here if not given.
    """
    (first, last, keeps), (out, values, valid, doubtful) = span, results
    rows, slots, both_sums, flat_sums, found, scored, count_slots, counts, spare, running, _ = (
        memory
    )
    tile = found.size
    scale, c1, c2, least, fewest = constants
    full = constants.dtype.type(size**2 if taps is None else 1)
    if is_sample and mask is None:
        c2 *= constants.dtype.type((size**2 - 1) / size**2)
    u, d, inside = rows[0], rows[1], rows[2]
    unbiased = counts[1]
    for j in range(tile):
        unbiased[j] = 1
    digits = digits_of(found)

    for left in range(first, last, tile):
        count, right = span_of(left, last, tile, size)
        if levels is None:
            near = offsets_of(x, y, mask, left, right, digits)
        else:
            near = levels[left // tile, 0], levels[left // tile, 1]
        offsets, shift = paired(near, constants)
        for i in range(x.shape[0]):
            slot, count_slot = slots[i % slots.shape[0]], count_slots[i % slots.shape[0]]
            if mask is not None and number_inside(mask[i, left:right]) == 0:
                fill_zeros(slot)
                fill_zeros(count_slot)
            else:
                load_sum_and_difference(x, y, mask, i, left, right, offsets, scale, u, d)
                for m in range(2):  # one copy of the code for both
                    plane, squares = slot[m * tile :], slot[(m + 2) * tile :]
                    sums = plane[:tile], squares[:tile]
                    filter_moments(rows[m], size, taps, unrolled, spare, sums[0], sums[1])
                if mask is not None:
                    if may_be_broken(u, right - left):
                        out[0] += nan_if_broken(x, mask, i, left, right)
                        out[0] += nan_if_broken(y, mask, i, left, right)
                    load_mask(mask, i, left, right, inside)
                    filter_row(inside, size, taps, unrolled, spare, slot[4 * tile :])
                    if ones.size > 0:
                        filter_row(inside, size, None, None, spare, count_slot)
            top, end = rows_to_sum(i, size, x.shape[0])
            if top == end:
                continue
            is_summed = False
            if taps is None and unrolled is None:  # running sums, which leave out no row
                filter_two_rows(
                    slots, top, size, taps, unrolled, running, flat_sums[0], flat_sums[1]
                )
                is_summed = True
            for row in range(top, end):
                is_empty = False
                if mask is not None and size % 2:
                    centre, start = mask[row + size // 2], left + size // 2
                    is_empty = number_inside(centre[start : start + count]) == 0
                if is_empty:  # nothing is scored
                    fill_zeros(found)
                    fill_zeros(scored)
                else:
                    if not is_summed:
                        filter_two_rows(
                            slots, top, size, taps, unrolled, running, flat_sums[0], flat_sums[1]
                        )
                        is_summed = True
                    sums = both_sums[row - top]
                    if mask is None:
                        quality_row(sums, None, None, full, shift, c1, c2, limits, rounding, found)
                    else:
                        weights, pixels, enough = sums[4], sums[4], least
                        if ones.size > 0:
                            filter_rows(count_slots, row, ones, None, counts[0])
                            pixels, enough = counts[0], fewest
                            if is_sample:
                                correct_bias(pixels, unbiased)
                        quality_row(
                            sums, weights, unbiased, full, shift, c1, c2, limits, rounding, found
                        )
                        find_scored(
                            weights, pixels, least, enough, mask, row, left, count, size, scored
                        )
                use = None if mask is None else scored
                add_row(found, use, row, left, count, keeps, out, values, valid, doubtful)
    out[0] = clipped(out[0], out[1])


def quality_strips(
    pixels: PixelTypes,
    dtype: Any,
    window: Window,
    scale: float,
    c1: float,
    c2: float,
    least: float,
    *,
    fewest: int = 0,
    is_sample: bool = False,
    rounding: float | None = None,
) -> Strips:
    """Return the kernel with its arguments; `scale` brings the pixels to the order of 1.

    A position is scored if the weights inside the mask add up to `least`, and their number to
    `fewest`.
    """
    # An array without elements: None would be a type of its own, for which Numba compiles again.
    ones = np.ones(max(window.lengths) if is_sample or fewest > 0 else 0, dtype)
    squared = np.array([scale, c1 * scale**2, c2 * scale**2, least, fewest or 2], dtype)
    doubts, strict = (limits(pixels, window, dtype, c1, c2, is_strict=v) for v in (False, True))
    taps, rest = taps_of(window, dtype), (is_sample, squared, rounding)
    again = (is_sample, c1, c2, rounding)
    own = weighed(pixels, window, dtype, least, c1, c2)
    weighted = (*taps, *own, squared, rounding)
    return Strips(
        window,
        dtype,
        4,
        quality_strip,
        (*taps, ones, doubts, *rest),
        quality_again,
        again,
        weighted,
        strict_constants=(*taps, ones, strict, *rest) if dtype == np.float32 else (),
        constant=c1 / 2,
        few=(taps.taps, doubts, squared, is_sample) if dtype == np.float64 else (),
        doubts=(squared, doubts) if dtype == np.float32 else (),
    )


@weighing
def ssim(images: Images, mask: Array | None, **options: Any) -> Scores | None:
    """Mean structural similarity; None, for the formula, if K1 or K2 is 0."""
    found = _positions(images, mask, Options(**options))
    if found is None:
        return None
    positions, factor = found
    scores = positions.scores()
    # A coarser grid may leave out the last pixels: the sums do not witness that these are finite.
    return scores if factor == 1 else scores._replace(witness=None)


@weighing
def ssim_map(images: Images, mask: Array | None, **options: Any) -> Local | None:
    """Structural similarity at every position; None, for the formula, if K1 or K2 is 0."""
    found = _positions(images, mask, Options(**options))
    if found is None:
        return None
    positions, factor = found
    local = positions.local(step=factor, is_padded=options["border"] == "replicate")
    return local if factor == 1 else local._replace(witness=None)


def _positions(
    images: Images, mask: Array | None, options: Options
) -> tuple[Positions, int] | None:
    """Return the positions, and the number of pixels per cell of the grid."""
    window, weights = options.window, images.weights
    if options.K1 == 0 or options.K2 == 0 or not window.is_square:
        return None
    if weights is not None and (
        options.sample_covariance or options.min_coverage > 0 or not _counts(window)
    ):
        return None
    factor = automatic_factor(*images.frame) if options.downsample else 1
    if factor > 1:
        if weights is not None:
            weights = weights.astype(np.float64)
        (x, cells), (y, _) = (
            block_mean(v, mask, factor, border="symmetric", weights=weights)
            for v in (where_valid(mask, v.astype(np.float64)) for v in (images.x, images.y))
        )
        if weights is not None and mask is not None:
            weights = where_valid(cells, cell_weights(weights, mask, factor, border="symmetric"))
        images, mask = images._replace(x=x, y=y, weights=weights), cells
    if options.border == "replicate":
        x, y, mask, weights = (
            None if v is None else replicated(v, window)
            for v in (images.x, images.y, mask, images.weights)
        )
        images = images._replace(x=x, y=y, weights=weights)
    is_whole = mask is not None and options.min_coverage == 1
    strips = ssim_strips(images, options, is_whole, is_coarse=factor > 1)
    return Positions(images, mask, strips), factor


def ssim_strips(
    images: Images, options: Options, is_whole: bool, *, is_coarse: bool = False
) -> Strips:
    """Return the kernel with its arguments, for the precision that suffices."""
    is_single = images.dtype == np.float32 and not is_coarse  # means of cells are float64
    return _strips(pixel_types(images), is_single, images.data_range, options, is_whole)


def _counts(window: Window) -> bool:
    """Whether the kernel for weights finds what is scored: by the centre, or by counted pixels."""
    return window.size % 2 == 1 or window.is_uniform


@kept
def _strips(
    pixels: PixelTypes, is_single: bool, data_range: float, options: Options, is_whole: bool
) -> Strips:
    """Return the kernel with its arguments, in float32 if that may be and suffices.

    `is_whole` scores only windows inside the mask.
    """
    window, K1, K2, is_sample, _, min_coverage, _ = options
    narrow = is_single and suits_float32(data_range, window, K1, K2, min_coverage)
    narrow = narrow and not window.is_uniform
    dtype: Any = np.float32 if narrow else np.float64
    strips = quality_strips(
        pixels,
        dtype,
        window,
        2.0 ** -math.frexp(data_range)[1],  # scaling by a power of two is exact
        2 * (K1 * data_range) ** 2,
        2 * (K2 * data_range) ** 2,
        least_weight(window, min_coverage, float(np.finfo(dtype).eps)),
        fewest=window.pixels if is_whole else 0,
        is_sample=is_sample,
    )
    if not narrow:
        return strips
    return strips._replace(wider=_strips(pixels, False, data_range, options, is_whole))


def suits_float32(
    data_range: float, window: Window, K1: float, K2: float, min_coverage: float
) -> bool:
    """Whether the constants outweigh the rounding errors of means and variances in float32.

    And whether no rounded sum of weights decides which positions a mask leaves to be scored. The
    presence of a mask is not asked: a mask of True everywhere must not change a bit.
    """
    if any(length % 2 == 0 for length in window.lengths) or 0 < min_coverage < 1:
        return False
    suits = K1 >= 0.005 and K2 >= 0.02 and 1e-30 < data_range < 1e30
    # A pixel far outside the data range matters even with a weight below the resolution of float32.
    return suits and min(map(min, window.sides)) > LEAST_TAP


@weighing
def uiq(images: Images, mask: Array | None, *, block_size: int) -> Scores:
    """Mean quality over all blocks."""
    return _blocks(images, mask, block_size).scores()


@weighing
def uiq_map(images: Images, mask: Array | None, *, block_size: int) -> Local:
    """Quality of every block."""
    return _blocks(images, mask, block_size).local()


def _blocks(images: Images, mask: Array | None, block_size: int) -> Positions:
    strips = uiq_strips(pixel_types(images), uniform(block_size, block_size))
    return Positions(images, mask, strips)


@kept
def uiq_strips(pixels: PixelTypes, block: Window) -> Strips:
    """Return the kernel with its arguments."""
    # Without constants in the quotients, rounding in float32 would decide the flat blocks.
    epsilon = float(np.finfo(np.float64).eps)
    least, rounding = least_weight(block, 0.0, epsilon), 2 * block.size * epsilon
    return quality_strips(pixels, np.float64, block, 1.0, 0.0, 0.0, least, rounding=rounding)
