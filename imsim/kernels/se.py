"""Squared differences of pixels, and their sums: SE, RMSE, PSNR, SRE."""

from __future__ import annotations

import numpy as np

from imsim.kernels import surveying
from imsim.kernels.common.jit import allocating, kernel, part
from imsim.kernels.common.planes import (
    BLOCK,
    BYTE_BLOCK,
    Planes,
    flat_rows,
    load_block,
    sum_parts,
)
from imsim.kernels.common.rescaling import (
    channels_of,
    check_usual,
    find_lost_sums,
    is_unusual,
    lost_elements,
    refuse_unchecked,
    scale_difference,
    scaling_unit,
)
from imsim.portable.differences import decibels, reconstruction_decibels
from imsim.portable.pair import Local, Scores
from imsim.portable.units import LEAST_SHARE, exact_total
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel

CHEAPNESS, CHEAPNESS_OF_BYTES, WEIGHTED_CHEAPNESS = 16, 96, 8
"""See `Planes.runs`. Two threads were no faster than one at 4 million pixels of bytes, and nearly
twice as fast at 8 million."""
NO_ROOM = np.empty((2, 0))


@surveying
def se(images: Images, mask: Array | None, reduction: str) -> Scores:
    """Sum, or mean, of the squared differences over the scored pixels and channels."""
    squares, n, unit = pooled(images, mask)
    found = squares / (n * images.x.shape[-3]) if reduction == "mean" else squares
    return Scores(found if unit is None else found * unit * unit, n, witness=squares)


@surveying
def rmse(images: Images, mask: Array | None, normalize: str | None) -> Scores:
    """sqrt(mean((x - y)^2)), divided by L on request."""
    squares, n, unit = pooled(images, mask)
    root = np.sqrt(squares / (n * images.x.shape[-3]))
    if unit is not None:
        root = root * unit
    return Scores(root / images.data_range if normalize == "range" else root, n, witness=squares)


@surveying
def psnr(images: Images, mask: Array | None) -> Scores:
    """10 log10(L^2 / MSE)."""
    squares, n, unit = pooled(images, mask)
    ratio = decibels(images.data_range, squares / (n * images.x.shape[-3]), np)
    return Scores(ratio if unit is None else ratio - 20 * np.log10(unit), n, witness=squares)


@surveying
def sre(images: Images, mask: Array | None) -> Scores:
    """10 log10(mean(x)^2 / MSE), per channel."""
    squares, unit, total, unit_x, n = scaled_sums(images, mask)
    ratio = reconstruction_decibels(total / n, squares / n, np)
    if not (isinstance(unit, float) or isinstance(unit_x, float)):
        units = 20 * (np.log10(unit_x) - np.log10(unit))
        ratio = np.where(squares > 0, ratio + units, ratio)
    return Scores(ratio, n, witness=squares + abs(total))


def scaled_sums(
    images: Images, mask: Array | None
) -> tuple[Array, Array | float, Array, Array | float, Array]:
    """Sum of the squared differences and their unit, sum of x and its unit, number of pixels.

    Both units are 1, or arrays: x and the difference of some channels are scaled.
    """
    squares, n, total, sizes = sums_of(images, mask, with_total=True)
    odd = find_lost_sums(images, squares, total * total)
    if odd is None:
        _sum_exactly(images, mask, squares, total, sizes)
        return squares, 1.0, total, 1.0, n
    refuse_unchecked(images)
    unit, unit_x = np.ones((2, *squares.shape))
    for index, element, valid in lost_elements(odd.any(axis=-1), images, mask, equal=False):
        for k, channel in enumerate(channels_of(element)):
            place = (*index, k)
            unit_x[place] = scaling_unit(channel.x)
            difference, unit[place] = scale_difference(channel)
            scaled = channel._replace(x=channel.x / unit_x[place])
            total[place], sizes[place] = (
                v.item() for v in sums_of(scaled, valid, with_total=True)[2:]
            )
            squares[place] = sums_of(difference, valid, with_total=False)[0].item()
    _sum_exactly(images, mask, squares, total, sizes, unit_x)
    return squares, unit, total, unit_x, n


def _sum_exactly(
    images: Images,
    mask: Array | None,
    squares: Array,
    total: Array,
    sizes: Array,
    unit: Array | None = None,
) -> None:
    """Replace the sums of pixels that nearly cancel, and have lost digits."""
    if total.size == 1 and abs(total.item()) >= LEAST_SHARE * sizes.item():
        return  # as most pairs do, of which Python compares faster than NumPy
    lost = (abs(total) < LEAST_SHARE * sizes) & (squares > 0)
    if not lost.any():
        return
    refuse_unchecked(images)
    for index, element, valid in lost_elements(lost.any(axis=-1), images, mask, equal=False):
        for k, channel in enumerate(channels_of(element)):
            place = (*index, k)
            if lost[place]:
                x = channel.x if unit is None else channel.x / unit[place]
                total[place] = exact_total(x, valid, channel.weights).item()


def se_map(images: Images, mask: Array | None, reduction: str) -> Local:
    """Squared difference per pixel, summed (or averaged) over channels."""
    planes = Planes(images, None, in_order=False)
    *batch, channels = planes.shape
    squares = np.empty((planes.count // channels, *planes.frame), images.dtype)

    def task(i: int) -> None:
        for channel in range(channels):
            x, y, _ = planes[i * channels + channel]
            _add_squares(flat_rows(x), flat_rows(y), squares[i].reshape(-1), channel > 0)
        if reduction == "mean":
            squares[i] /= channels

    parallel(task, len(squares), squares.size)
    return Local(squares.reshape(*batch, 1, *planes.frame), mask, reach=(0, 0))


def pooled(images: Images, mask: Array | None) -> tuple[Array, Array, Array | None]:
    """Sum of the squared differences over pixels and channels, number of pixels, unit of x - y.

    A unit of None stands for 1 in all images.
    """
    squares, n = sums_of(images, mask, with_total=False)[:2]
    if squares.shape[-1] > 1:
        squares, n = squares.sum(axis=-1, keepdims=True), n[..., :1]
    odd = find_lost_sums(images, squares)
    if odd is None:
        return squares, n, None
    refuse_unchecked(images)
    units = np.ones(squares.shape)
    for index, element, valid in lost_elements(odd, images, mask, equal=False):
        difference, units[index] = scale_difference(element)
        squares[index] = sums_of(difference, valid, with_total=False)[0].sum()
    return squares, n, units


def sums_of(
    images: Images, mask: Array | None, *, with_total: bool
) -> tuple[Array, Array, Array, Array]:
    """Sum of the squared differences, number of pixels, sums of x and of |x|; per plane.

    With weights w, they are the sums of w (x - y)^2, w, w x and |w x|. The last sum is precise to a
    few digits, and 0 for bytes without weights, which do not cancel. Without `with_total`, the last
    two are 0. Kernels take it as True or None: Numba compiles each apart, so that no pixel asks.
    """
    planes = Planes(images, mask, in_order=False)
    are_bytes = images.x.dtype == images.y.dtype == np.uint8
    if images.weights is not None:
        is_summed = True if with_total else None
        sums = sum_parts(planes.runs(_weighted_squares, 5, is_summed, cheapness=WEIGHTED_CHEAPNESS))
        check_usual(images, sums[..., 4], sums[..., 1])
        return sums[..., 0], sums[..., 1], sums[..., 2], sums[..., 3]
    find, cheapness = (_squares_of_bytes, CHEAPNESS_OF_BYTES) if are_bytes else (_run, CHEAPNESS)
    runs = planes.runs(find, 4, True if with_total else None, cheapness=cheapness)
    sums = sum_parts(runs)
    return sums[..., 0], sums[..., 1], sums[..., 2], sums[..., 3]


def _run(x: Array, y: Array, mask: Array, out: Array, with_total: bool | None) -> None:
    room = NO_ROOM if x.dtype.kind == "f" else np.empty((2, BLOCK))
    _squares(x, y, mask, room, out, with_total)


@allocating
def _squares(x, y, mask, room, out, with_total):  # type: ignore[no-untyped-def]
    for start in range(0, x.size, BLOCK):
        p, q, inside, n = load_block(x, y, mask, start, room)
        if n == 0:
            continue
        # A full block is added in the order of a block without a mask.
        if n == p.size:
            squares, total, sizes = _block_sums(p, q, None, with_total)
        else:
            squares, total, sizes = _block_sums(p, q, inside, with_total)
        out[0] += squares
        out[1] += n
        out[2] += total
        out[3] += sizes


@part
def _block_sums(p, q, inside, with_total):  # type: ignore[no-untyped-def]
    squares, total = 0.0, 0.0
    zero = p.dtype.type(0)
    sizes = zero  # a few digits are enough, of narrow floats many at a time
    for i in range(p.size):
        v, difference = p[i], p[i] - q[i]
        if inside is not None:
            # LLVM vectorises a selection between two computed values, and no branch.
            v, difference = (v, difference) if inside[i] != 0 else (zero, zero)
        d = np.float64(difference)
        squares += d * d
        if with_total is not None:
            total += np.float64(v)
            sizes += abs(v)
    return squares, total, np.float64(sizes)


@kernel
def _squares_of_bytes(x, y, mask, out, with_total):  # type: ignore[no-untyped-def]
    """Sum bytes in int32: exact, and the CPU multiplies and adds many of them at a time."""
    for start in range(0, x.size, BYTE_BLOCK):
        p, q = x[start : start + BYTE_BLOCK], y[start : start + BYTE_BLOCK]
        squares, total, n = np.int32(0), np.int32(0), np.int32(p.size)
        if mask.size == 0:
            for i in range(p.size):
                d = np.int32(p[i]) - np.int32(q[i])
                squares = np.int32(squares + np.int32(d * d))
                if with_total is not None:
                    total = np.int32(total + np.int32(p[i]))
        else:
            inside = mask[start : start + BYTE_BLOCK]
            n = np.int32(0)
            for i in range(p.size):
                use = np.int32(inside[i] & np.uint8(1))
                every_bit = np.uint8(0) - np.uint8(use)
                v = np.int32(np.uint8(p[i] & every_bit))
                d = v - np.int32(np.uint8(q[i] & every_bit))
                squares = np.int32(squares + np.int32(d * d))
                if with_total is not None:
                    total = np.int32(total + v)
                n = np.int32(n + np.int32(use * use))
        out[0] += squares
        out[1] += n
        out[2] += total


@kernel
def _add_squares(x, y, out, further):  # type: ignore[no-untyped-def]
    real = out.dtype.type
    for i in range(x.size):
        d = real(x[i]) - real(y[i])
        out[i] = out[i] + d * d if further else d * d


@kernel
def _weighted_squares(x, y, _, out, weights, with_total):  # type: ignore[no-untyped-def]
    """Write the four sums of `sums_of`, and whether some weight is unusual."""
    for start in range(0, x.size, BLOCK):
        p, q, w = x[start : start + BLOCK], y[start : start + BLOCK], weights[start : start + BLOCK]
        squares, whole, total, sizes, unusual = _weighted_sums(p, q, w, with_total)
        out[0] += squares
        out[1] += whole
        out[2] += total
        out[3] += sizes
        out[4] += unusual


@part
def _weighted_sums(p, q, weights, with_total):  # type: ignore[no-untyped-def]
    squares, whole, total, sizes, unusual = 0.0, 0.0, 0.0, 0.0, False
    are_numbers = p.dtype.type(0.5) == 0 and q.dtype.type(0.5) == 0  # known to the compiler
    for i in range(p.size):
        weight, v = np.float64(weights[i]), np.float64(p[i])
        if are_numbers:
            d = np.float64(np.int32(p[i]) - np.int32(q[i]))
        else:
            # Selections between computed values, since a pixel of weight 0 may be NaN.
            d = v - np.float64(q[i]) if weight != 0 else np.float64(0)
            v = v if weight != 0 else np.float64(0)
        squares += weight * (d * d)
        whole += weight
        unusual |= is_unusual(weight)
        if with_total is not None:
            total += weight * v
            sizes += abs(weight * v)
    return squares, whole, total, sizes, unusual
