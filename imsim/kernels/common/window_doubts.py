"""Doubtful windows: when their sums have lost digits, and how to compute few of them one by one.

Fast kernels lose digits where windows are far from the mean of their tile: dark parts of a bright
photograph, the background of a scan, no data of -9999. Most such windows are constant, or sound
about the mean of a smaller part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imsim.caches import kept
from imsim.kernels.common.jit import exact, exact_part, inline, kernel, part
from imsim.kernels.common.planes import unwritable
from imsim.kernels.common.window_float32 import STRICT
from imsim.kernels.common.window_moments import (
    PIXEL_X,
    PIXEL_Y,
    PIXELS,
    PLANES,
    SUM_X,
    SUM_XX,
    SUM_XY,
    SUM_Y,
    SUM_YY,
    WEIGHT,
)
from imsim.kernels.common.window_sums import UNROLLED, clipped
from imsim.portable.units import CANCELLING, exact_product
from imsim.portable.windows import Window, rests_of
from imsim.typing import Array
from imsim.validation import SMALLEST, Images


class PixelTypes(NamedTuple):
    """The dtypes on which the constants of a kernel depend."""

    kinds: tuple[Any, Any]
    """Dtypes of the two images, in the byte order of the machine."""
    arithmetic: Any
    """Dtype of the arithmetic, see `Images.dtype`."""


def pixel_types(images: Images) -> PixelTypes:
    """Return the dtypes of two images and of their arithmetic."""
    x, y = images.x.dtype, images.y.dtype
    if not (x.isnative and y.isnative):
        x, y = x.newbyteorder("="), y.newbyteorder("=")
    return PixelTypes((x, y), images.dtype)


def limits(
    pixels: PixelTypes,
    window: Window,
    dtype: Any,
    c1: float = 0.0,
    c2: float = 0.0,
    *,
    is_weighted: bool = False,
    is_strict: bool = False,
) -> Array | None:
    """Return the limits below which a window is doubtful; None if no window can be.

    A variance has lost too many digits to rounding where it is a small share of the mean square
    about the offset, and so has a squared mean. A doubtful window is computed again.

    In float64 the limits are the shares of the variance and of the squared mean, the smallest
    product of both, and the share of a squared mean near 0 in the mean square. In float32 they are
    the shares of the power of x + y, weighted by how far the images differ; of the power of x - y;
    of the power of x + y, whatever the difference; and of the powers for the means, weighted by how
    far these differ. `quality_row` applies them. They bound the error of a mean of many windows
    that differ; those that are strict bound that of each.
    """
    if dtype == np.float32:
        # Sums of symmetric taps have a fourth of the rounding error of others.
        factor = (STRICT if is_strict or is_weighted else 1) * (1 if window.size in UNROLLED else 4)
        return np.array([2.0**-4, 2.0**-4, 2.0**-10, 2.0**-7], dtype) * factor
    share = 2.0**-28 if pixels.arithmetic == np.float32 else 2.0**-13
    share_of_mean = 16 * share**2
    kind, other = pixels.kinds
    if kind == other and kind.kind in "ub" and kind.itemsize <= 2:
        power = 4.0 ** (8 * kind.itemsize + 1)  # of the sum and the difference of two pixels
        is_exact = not is_weighted and window.is_uniform and power * window.pixels**2 <= 2.0**53
        if is_exact or (share * power < c2 and share_of_mean * power < c1):
            return None
    # Next to a mean near 0, and to C1 if there is one, pixels may cancel.
    return np.array([share, share_of_mean, SMALLEST, CANCELLING])


def weighed(
    pixels: PixelTypes, window: Window, dtype: Any, least: float, c1: float = 0.0, c2: float = 0.0
) -> tuple[tuple[bool, float], Array | None]:
    """Return what only a kernel for weights takes: whether it counts pixels, `least`, and limits.

    It counts pixels, by taps of 1, where their number decides what is scored, or where a position
    has no pixel of its own.
    """
    is_counted = least > 0 or window.size % 2 == 0
    return (is_counted, least), limits(pixels, window, dtype, c1, c2, is_weighted=True)


Box = tuple[slice, ...]
SMALL = 4096
"""Most positions of a part whose doubtful windows are computed one by one: a call of the fast
kernel would take longer."""
FEW = 24
"""Most doubtful windows of a larger part for which the fast kernel is not called either."""
MANY = 8
"""Boxes of doubtful windows of a strip from which all constant windows are looked for at once."""

_exact_product = inline(exact_product)


@kernel
def find_boxes(values, doubtful, tile, size, boxes):  # type: ignore[no-untyped-def]
    """Find boxes of doubtful values in the tiles of a strip; return how many.

    A box is (first row, end row, first column, end column). Rows of a tile whose windows share
    pixels are of one box.
    """
    count = 0
    for k in range(doubtful.shape[1]):
        first, end = k * tile, min((k + 1) * tile, values.shape[1])
        last = -size  # the last row with doubts
        for row in range(doubtful.shape[0]):
            if not doubtful[row, k]:
                continue
            left, right = end, first
            here = values[row, first:end]
            for j in range(here.size):
                if np.isnan(here[j]):
                    left, right = min(left, first + j), first + j + 1
            if left >= right:
                continue
            if row - last >= size:
                boxes[count, 0], boxes[count, 2], boxes[count, 3] = row, end, 0
                count += 1
            box = boxes[count - 1]
            box[1], box[2], box[3] = row + 1, min(box[2], left), max(box[3], right)
            last = row
    return count


@kernel
def take(values, doubtful, tile, top, left, again):  # type: ignore[no-untyped-def]
    """Write NaN where a value of a strip is doubtful, 0 elsewhere, in a box from `top`, `left`."""
    right = left + again.shape[1]
    for i in range(again.shape[0]):
        for k in range(left // tile, (right - 1) // tile + 1):
            first, end = max(k * tile, left), min((k + 1) * tile, right)
            here, row = values[top + i, first:end], again[i, first - left : end - left]
            for j in range(row.size):
                row[j] = np.nan if doubtful[top + i, k] and np.isnan(here[j]) else 0.0


@exact_part
def added(total, lost, value):  # type: ignore[no-untyped-def]
    """Add a value to a sum and to what rounding took from it, as in the sum of Neumaier."""
    found = total + value
    is_first = abs(total) >= abs(value)
    return found, lost + ((total - found) + value if is_first else (value - found) + total)


@kernel
def settle(values, again, tile, top, left, doubtful, is_last, out):  # type: ignore[no-untyped-def]
    """Replace the doubtful values of a strip by those found again, and add them up.

    The box of these begins at `top` and `left`. Those that are not found stay doubtful, unless
    nothing more is tried: `is_last`. `out` holds the sum and what rounding took from it: values of
    constant parts are equal, and so are the errors.
    """
    right = left + again.shape[1]
    for i in range(again.shape[0]):
        for k in range(left // tile, (right - 1) // tile + 1):
            if not doubtful[top + i, k]:
                continue  # its values were not kept
            first, end = max(k * tile, left), min((k + 1) * tile, right)
            here, row = values[top + i, first:end], again[i, first - left : end - left]
            level, total, number = _settle_row(here, row, is_last)
            out[0], out[1] = added(out[0], out[1], total)
            out[0], out[1] = added(out[0], out[1], number * level)


@part
def _settle_row(here, again, is_last):  # type: ignore[no-untyped-def]
    """Settle a row; return the first value, the sum of what others exceed it by, their number.

    Those of a constant part are equal, and add up without rounding.
    """
    one = again.dtype.type(1)
    level, total, number = 0.0, 0.0, 0.0
    for j in range(here.size):
        if np.isnan(here[j]) and (is_last or not np.isnan(again[j])):
            level = clipped(again[j], one)
            break
    for j in range(here.size):
        # LLVM vectorises selections, and no branches.
        is_found, value = np.isnan(here[j]), clipped(again[j], one)
        is_found &= is_last or not np.isnan(value)
        here[j] = value if is_found else here[j]
        total += value - level if is_found else 0.0
        number += 1.0 if is_found else 0.0
    return level, total, number


def settle_by_parts(
    values: Array,
    run: Callable[[Box], Array],
    compute: Callable[[Box], None],
    *,
    has_run: bool = False,
) -> None:
    """Replace NaN by values of a fast kernel on smaller and smaller parts, and at last one by one.

    The last axes of the values are rows and columns. ``run`` returns the values in a part, as the
    fast kernel finds them, which takes its mean off; with `has_run` these are given. ``compute``
    replaces NaN in a part by what follows from the moments of the windows.
    """
    parts = [(tuple(slice(0, n) for n in values.shape), has_run)]
    while parts:
        whole, has_run = parts.pop()
        part = box_of(np.isnan(values[whole]), whole)
        if part is None:
            continue
        here = values[part]
        if here.size <= SMALL or np.count_nonzero(np.isnan(here)) <= FEW:
            compute(part)
            continue
        if not has_run:
            doubts = np.isnan(here)
            here[doubts] = run(part)[doubts]
        axis = int(np.argmax(here.shape))
        first, last = part[axis].start, part[axis].stop
        halves = slice(first, (first + last) // 2), slice((first + last) // 2, last)
        parts += [((*part[:axis], half, *part[axis + 1 :]), False) for half in halves]


def box_of(flags: Array, whole: Box) -> Box | None:
    """Return the smallest box, inside one that has these flags, that holds all that is True."""
    box = []
    for axis, outer in enumerate(whole):
        others = tuple(other for other in range(flags.ndim) if other != axis)
        places = np.flatnonzero(flags.any(axis=others))
        if not places.size:
            return None
        box.append(slice(outer.start + int(places[0]), outer.start + int(places[-1]) + 1))
    return tuple(box)


def fixed(*arrays: Array | None) -> tuple[Array | None, ...]:
    """Return views that nobody can write, as are the images for which kernels are compiled."""
    return tuple(None if array is None else unwritable(array) for array in arrays)


def settle_constant(
    values: Array,
    x: Array,
    y: Array,
    mask: Array | None,
    window: Window,
    precise: Callable[..., None],
    constants: tuple[Any, ...],
    beside_constant: float | None,
) -> None:
    """Replace NaN at windows in which images are constant, and no pixel is masked.

    Values, pixels and mask have the shape (planes, rows, columns). For `precise`, its constants and
    `beside_constant` see `imsim.kernels.common.window_strips.Strips`.
    """
    numbers = np.empty(values.shape, np.int32)
    pairs = np.empty((values.size, 2))
    rows, planes = np.empty((2, x.shape[2]), np.int32), np.empty((2, *x.shape[1:]), np.int32)
    lengths = (1, *window.lengths)[-3:]
    memory = rows, planes, numbers, pairs
    count = _find_constant(values, x, y, mask, *lengths, False, *memory)
    if count:
        moments = np.zeros((1, PLANES, count))
        moments[0, PIXEL_X], moments[0, PIXEL_Y] = pairs[:count].T
        moments[0, WEIGHT], moments[0, PIXELS] = full_of(window)
        known = np.full((1, count), np.nan)
        precise(moments, known, *constants)
        _fill(values, numbers, known[0])
    if beside_constant is not None:
        for one, other in ((x, y), (y, x)):
            if _find_constant(values, one, other, mask, *lengths, True, *memory):
                values[numbers >= 0] = beside_constant


@kept
def full_of(window: Window) -> Array:
    """Return the weight of a whole window, and its number of pixels."""
    return np.array([window.weight, window.pixels])


NEARLY_ZERO = 2.0**-90
"""Share of a squared mean in the mean square that may be rounding alone; it stays as it is."""


@kept
def precise_taps(window: Window) -> tuple[Array, ...]:
    """Return the taps along each of three axes, and what rounding took from them, as (2, taps).

    An image is a volume one row high.
    """
    found = tuple(map(np.array, zip(window.sides, rests_of(window), strict=True)))
    return found if len(found) == 3 else (found[0], np.array([[1.0], [0.0]]), found[1])


@exact
def settle_opposites(moments, x, y, mask, rows, column, taps, constant):  # type: ignore[no-untyped-def]
    """Take moments about the mean of a window, where its pixels cancel: its sum has lost digits.

    The moments, (rows, PLANES, columns), are those of windows as high as the images, (depth,
    height, width), and `mask`, or the weights of the pixels. `rows` holds the first plane of the
    windows of each row, and `column` is the first column of the first window; see `precise_taps`.
    A small mean needs no more digits beside the `constant` that is added to its square.
    """
    for n in range(rows.size):
        for j in range(moments.shape[2]):
            sums, place = moments[n, :, j], (rows[n], column + j)
            if sums[WEIGHT] > 0:
                _take_about_mean(
                    sums, x, mask, place, taps, constant, SUM_X, PIXEL_X, SUM_XX, SUM_Y
                )
                _take_about_mean(
                    sums, y, mask, place, taps, constant, SUM_Y, PIXEL_Y, SUM_YY, SUM_X
                )


@exact_part
def product(a, b, low_a, low_b):  # type: ignore[no-untyped-def]
    """Multiply two pairs of floats, which hold 32 digits."""
    found, lost = _exact_product(a, b)
    return found, lost + (a * low_b + low_a * b)


@exact_part
def _take_about_mean(sums, image, mask, place, taps, constant, total, pixel, squares, other):  # type: ignore[no-untyped-def]
    """Take the moments of one image of a window about its mean, where this is small but not 0."""
    off = sums[total] / sums[WEIGHT]
    mean, power = sums[pixel] + off, sums[squares] / sums[WEIGHT]
    # Without a constant, a mean that is rounding alone counts as 0.
    least = NEARLY_ZERO * power if constant == 0 else -1.0
    if not (least < mean * mean and mean * mean + constant < CANCELLING * power):
        return
    found, lost = 0.0, 0.0
    first, left = place
    for k in range(taps[0].shape[1]):
        for i in range(image.shape[1]):
            row, low_row = product(taps[0][0, k], taps[1][0, i], taps[0][1, k], taps[1][1, i])
            for j in range(taps[2].shape[1]):
                own, value = np.float64(mask[first + k, i, left + j]), image[first + k, i, left + j]
                if own > 0:
                    tap, low = taps[2][0, j], taps[2][1, j]
                    if row != 1 or tap != 1 or own != 1:
                        tap, low = product(row, tap, low_row, low)
                        tap, low = product(tap, own, low, 0.0)
                        value, low = product(tap, value, low, 0.0)
                    found, lost = added(found, lost + low, value)
    sums[squares] -= sums[total] * off
    sums[SUM_XY] -= sums[other] * off
    sums[total], sums[pixel] = 0.0, (found + lost) / sums[WEIGHT]


@kernel
def _fill(values, numbers, known):  # type: ignore[no-untyped-def]
    """Write the values of numbered windows."""
    for k in range(values.shape[0]):
        for i in range(values.shape[1]):
            row, those = values[k, i], numbers[k, i]
            for j in range(row.size):
                if those[j] >= 0:
                    row[j] = known[those[j]]


@exact
def _find_constant(values, x, y, mask, deep, high, wide, alone, rows, planes, numbers, pairs):  # type: ignore[no-untyped-def]
    """Number the pairs of values of constant windows, -1 for others; return how many there are.

    `alone`: only x need be constant, and y finite. Neighbours mostly share a pair. `rows` and
    `planes` count for a pixel, of the last row and of the last plane, how many equal rows and
    planes of a window end there.
    """
    count = 0
    for k in range(x.shape[0]):
        this_plane, last_plane = planes[k % 2], planes[1 - k % 2]
        for i in range(x.shape[1]):
            this_row, last_row = rows[i % 2], rows[1 - i % 2]
            run = 0
            for j in range(x.shape[2]):
                p, q = x[k, i, j], y[k, i, j]
                if (mask is not None and not mask[k, i, j] > 0) or (alone and not np.isfinite(q)):
                    run = 0
                elif run > 0 and p == x[k, i, j - 1] and (alone or q == y[k, i, j - 1]):
                    run += 1
                else:
                    run = 1
                equal = 1 if run >= wide else 0
                if equal and i > 0 and p == x[k, i - 1, j] and (alone or q == y[k, i - 1, j]):
                    equal += last_row[j]
                this_row[j] = equal
                equal = 1 if equal >= high else 0
                if equal and k > 0 and p == x[k - 1, i, j] and (alone or q == y[k - 1, i, j]):
                    equal += last_plane[i, j]
                this_plane[i, j] = equal
                plane, row, column = k - deep + 1, i - high + 1, j - wide + 1
                if plane < 0 or row < 0 or column < 0:
                    continue
                numbers[plane, row, column] = -1
                if equal < deep or not (np.isfinite(p) and np.isfinite(q)):
                    continue  # infinities are equal, but no value follows from them
                if np.isnan(values[plane, row, column]):
                    if count == 0 or p != pairs[count - 1, 0] or q != pairs[count - 1, 1]:
                        pairs[count, 0], pairs[count, 1] = p, q
                        count += 1
                    numbers[plane, row, column] = count - 1
    return count
