"""Gradients of scores that are means over windows: SSIM and UIQ, and the calls of ZNCC's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imsim.caches import kept_by_thread
from imsim.kernels.common.planes import Planes, sum_parts, unwritable
from imsim.kernels.common.window_moments import TINY
from imsim.kernels.common.window_strips import taps_of
from imsim.kernels.common.window_tiles import local_offset, workspace
from imsim.kernels.gradients import Gradients, plane_weights
from imsim.kernels.gradients.window_fields import (
    DD,
    FIELDS,
    MEAN_X,
    MEAN_Y,
    PIXEL_X,
    PIXEL_Y,
    PIXELS,
    UU,
    XX,
    YY,
    find_fields,
    moments_at,
    spread_fields,
    spread_from,
)
from imsim.kernels.ssim import suits_float32
from imsim.portable.coarse import automatic_factor
from imsim.portable.pair import Pair
from imsim.portable.structural_similarity import Options
from imsim.portable.windows import Window, by_weight, least_weight, uniform
from imsim.typing import Array
from imsim.validation import SMALLEST
from imsim.workers import divided, parallel

BLOCK_ROWS = 128
"""Most rows of pixels in a block, the unit of work of a thread."""
BLOCK_COLUMNS = {np.float32: 256, np.float64: 128}
"""Most columns, by the dtype of the arithmetic. Less work is done twice at the borders of wide
blocks, as long as the fields of a block, 600 KB, fit into the second-level cache."""
VECTORS = 16
"""Columns of fields are a multiple of this: two vectors of float32."""
SHARES = {np.dtype(np.float32): 2.0**-28, np.dtype(np.float64): 2.0**-24}
"""Least share of the variance in the mean square about the offset of a block, in float64, by the
dtype of the pixels: the gradient keeps 8 digits, or 7 of float32."""
NARROW_SHARES = (2.0**-10, 2.0**-4)
"""Least shares of the variances in these mean squares of x + y and x - y, in float32."""
SHARE_OF_MEAN = 2.0**-44
"""Least share of the squared mean in that about the offset."""


class Windowed(NamedTuple):
    """What a windowed score is made of."""

    window: Window
    dtype: Any
    """Dtype of the arithmetic, unless a block needs float64."""
    least: float
    """Least weight inside the mask of a scored window."""
    fewest: int
    """Least number of its pixels inside the mask; 0: any."""
    is_sample: bool
    constants: tuple[float, float, float] | None
    """Scale of the pixels, and C1 and C2 of x + y and x - y; None for a correlation."""
    coefficients: Callable[[Array], Array]
    """Returns what `spread_from` takes, from moments; NaN where they have left float64."""

    def arguments(self, dtype: Any, pixels: Any) -> tuple[Any, ...]:
        """Return the arguments of the kernel for arithmetic in a dtype."""
        share, constants, limits = SHARES[np.dtype(pixels)], None, None
        if self.constants is None:
            limits = np.array([share, TINY])
        else:
            scale, c1, c2 = self.constants
            shares = NARROW_SHARES if dtype == np.float32 else (share, SHARE_OF_MEAN)
            constants = np.array([scale, c1 * scale**2, c2 * scale**2, *shares, SMALLEST], dtype)
        counts = self.is_sample or self.fewest > 0
        return (
            *taps_of(self.window, dtype),
            np.ones(self.window.size if counts else 0, dtype),
            (self.is_sample, dtype(self.least), dtype(self.fewest or 2)),
            constants,
            limits,
        )


class Block(NamedTuple):
    """A block of pixels, and the windows that reach into it."""

    rows: slice
    columns: slice
    window_rows: slice
    """Rows of the pixels of these windows."""
    window_columns: slice
    positions: int
    """Number of windows whose first pixel lies inside the block."""
    start: tuple[int, int]
    """First row and column of the block in these windows."""
    lead: tuple[int, int]
    """Rows and columns of positions before theirs that would reach into the block as well, but lie
    outside the frame."""

    def place(self, *, is_cut: bool) -> tuple[int, ...]:
        """Return the place for the kernel, in whole rows or in arrays cut out of them."""
        windows, columns = self.window_columns, self.columns
        first, column = (0, 0) if is_cut else (windows.start, columns.start)
        width = windows.stop - windows.start
        return (*self.start, *self.lead, first, width, column, columns.stop - columns.start)


def _block(rows: slice, columns: slice, frame: tuple[int, int], size: int) -> Block:
    parts = [
        (part, slice(max(part.start - size + 1, 0), min(part.stop + size - 1, length)))
        for part, length in zip((rows, columns), frame, strict=True)
    ]
    counts = [max(windows.stop - size + 1 - part.start, 0) for part, windows in parts]
    starts = [part.start - windows.start for part, windows in parts]
    down, right = starts
    return Block(
        rows,
        columns,
        parts[0][1],
        parts[1][1],
        counts[0] * counts[1],
        (down, right),
        (size - 1 - down, size - 1 - right),
    )


@kept_by_thread
def _memory(size: int, planes: int, rows: int, columns: int, dtype: Any) -> tuple[Any, ...]:
    """Return memory for a block: `workspace` without a mask and with one, fields, and marks."""
    return (
        workspace(size, planes, columns, dtype),
        workspace(size, planes + 1, columns, dtype),
        np.zeros((rows + size - 1, FIELDS, columns), dtype),
        np.zeros((rows + size - 1, columns), np.uint8),
    )


def windowed_gradient(
    pair: Pair, upstream: Array, wanted: tuple[bool, bool], windowed: Windowed
) -> Gradients | None:
    """Gradient of a mean over windows that does not change if the images change places."""
    if not any(wanted):
        return None, None
    if not wanted[0]:
        swapped = pair._replace(x=pair.y, y=pair.x)
        found = windowed_gradient(swapped, upstream, (True, False), windowed)
        return None if found is None else (None, found[0])
    if windowed.constants is None and wanted[1]:  # the fields of a correlation are those of x
        found_x = windowed_gradient(pair, upstream, (True, False), windowed)
        found_y = windowed_gradient(pair, upstream, (False, True), windowed)
        return None if found_x is None or found_y is None else (found_x[0], found_y[1])
    return _Blocks(pair, windowed).gradient(upstream, wanted[1])


class _Blocks:
    """The blocks of all planes."""

    def __init__(self, pair: Pair, windowed: Windowed) -> None:
        pixels = pair.x.dtype
        self._planes = Planes(pair, pair.mask)
        self._is_masked = pair.mask is not None
        self._windowed = windowed
        self._dtype = pixels.type
        frame, size = self._planes.frame, windowed.window.size
        rows = divided(frame[0], BLOCK_ROWS)
        columns = divided(frame[1], BLOCK_COLUMNS[windowed.dtype])
        self._blocks = [_block(r, c, frame, size) for r in rows for c in columns]
        tallest = max(r.stop - r.start for r in rows)
        widest = max(c.stop - c.start for c in columns) + size - 1
        self._room = (tallest, -(-widest // VECTORS) * VECTORS)
        self._arguments = {
            dtype: windowed.arguments(dtype, pixels) for dtype in {windowed.dtype, np.float64}
        }

    def gradient(self, upstream: Array, both: bool) -> Gradients | None:
        """Return the gradients with respect to x, and y if it is wanted."""
        planes, n = self._planes, len(self._blocks)
        height, width = planes.frame
        size = self._windowed.window.size
        shape = (planes.count, height, width)
        out = [np.empty(shape, self._dtype) for _ in range(2 if both else 1)]
        weights = plane_weights(upstream, planes.shape)
        if not self._is_masked:
            weights = weights / ((height - size + 1) * (width - size + 1))
        scored = np.zeros((n, planes.count))
        is_left = False

        def task(i: int) -> None:
            nonlocal is_left
            k, b = divmod(i, n)
            weight = 1.0 if self._is_masked else float(weights[k])
            found = self._fill(k, self._blocks[b], weight, [v[k] for v in out])
            if found is None:
                is_left = True
            else:
                scored[b, k] = found

        parallel(task, planes.count * n, planes.count * height * width)
        if is_left:
            return None
        if self._is_masked:
            numbers = sum_parts(scored)
            shares = np.where(numbers > 0, weights / np.maximum(numbers, 1), 0)
            for v in out:
                v *= shares.astype(v.dtype)[:, None, None]
        results = [v.reshape(*planes.shape, height, width) for v in out]
        return results[0], results[1] if both else None

    def _fill(self, k: int, block: Block, weight: float, out: list[Array]) -> int | None:
        """Fill a block of plane k; return the number of scored positions whose windows begin there.

        None: sums have left float64.
        """
        rows, columns = block.window_rows, block.window_columns
        x, y, mask = (None if v is None else v[rows] for v in self._planes[k])
        out = [v[block.rows] for v in out]
        if mask is not None:
            inside = mask[:, columns]
            if inside.all():
                mask = None
            elif not inside.any():
                for v in out:
                    v[:, block.columns] = 0
                return 0
        found = None
        if self._windowed.dtype == np.float32:
            found = self._run((x, y, mask), block, weight, out, np.float32)
        if found is None:
            x, y = (_cut(v, columns, np.float64) for v in (x, y))
            mask = None if mask is None else _cut(mask, columns, np.bool_)
            wide = [np.empty_like(v[:, block.columns], np.float64) for v in out]
            found = self._run((x, y, mask), block, weight, wide, np.float64)
            if found is None:
                return None
            for v, values in zip(out, wide, strict=True):
                v[:, block.columns] = values
        return block.positions if mask is None else found

    def _run(
        self, plane: tuple[Any, ...], block: Block, weight: float, out: list[Array], dtype: Any
    ) -> int | None:
        """Run the kernel on whole rows in float32, or on arrays that are cut out in float64."""
        (x, y, mask), windowed, is_wide = plane, self._windowed, dtype == np.float64
        size = windowed.window.size
        planes = 4 if windowed.constants else 5
        plain, masked, fields, marks = _memory(size, planes, *self._room, dtype)
        scale = windowed.constants[0] if windowed.constants else 1.0
        numbers = np.zeros(2, np.int64)
        place, both, arguments = block.place(is_cut=is_wide), len(out) == 2, self._arguments[dtype]
        memory, fields = plain if mask is None else masked, fields[: len(out[0]) + size - 1]
        first, last = place[4], place[4] + place[5]
        digits = 16 if is_wide else 24
        offsets = tuple(dtype(local_offset(v, mask, first, last, digits)) for v in (x, y))
        images = (x, y, mask, place, offsets, both)
        find_fields(*images, (fields, marks, numbers), memory, *arguments)
        scored, doubtful = numbers.tolist()
        if doubtful and not is_wide:
            return None
        factor, ends = dtype(scale * weight), arguments[-2:]
        spread_fields(*images, fields, factor, (out[0], out[-1]), memory, *arguments[:3], *ends)
        if doubtful and not self._add(plane, block, weight, marks, out):
            return None
        return int(scored)

    def _add(
        self, plane: tuple[Any, ...], block: Block, weight: float, marks: Array, out: list[Array]
    ) -> bool:
        """Add the gradients of the doubtful positions; return whether they are finite."""
        x, y, mask = plane
        places = np.ascontiguousarray(np.argwhere(marks))
        places[:, 1] -= block.lead[1]
        taps = np.array(self._windowed.window.taps)
        order = np.array(by_weight(self._windowed.window.taps))
        inside = unwritable(np.ones(x.shape, np.bool_)) if mask is None else mask
        moments = moments_at(x, y, inside, places, taps, order)
        with np.errstate(all="ignore"):
            coefficients = self._windowed.coefficients(moments)
        if not np.isfinite(coefficients).all():
            return False
        both = len(out) == 2
        arguments = (weight, block.start, both, out[0], out[-1])
        spread_from(x, y, inside, places, taps, moments, coefficients, *arguments)
        return True


def _cut(rows: Array, columns: slice, dtype: Any) -> Array:
    """Copy some columns, read-only as all images are for which kernels are compiled."""
    return unwritable(np.array(rows[:, columns], dtype, order="C"))


def ssim(
    pair: Pair, upstream: Array, wanted: tuple[bool, bool], **options: Any
) -> Gradients | None:
    """Gradient of mean structural similarity; None, for the formula, on a coarser grid."""
    window, K1, K2, is_sample, downsample, min_coverage, border = Options(**options)
    is_coarse = downsample and automatic_factor(*pair.x.shape[-2:]) > 1
    if is_coarse or border != "valid" or not window.is_square:
        return None
    narrow = pair.x.dtype == pair.y.dtype == np.float32
    narrow = narrow and suits_float32(pair.data_range, window, K1, K2, min_coverage)
    dtype: Any = np.float32 if narrow else np.float64
    c1, c2 = 2 * (K1 * pair.data_range) ** 2, 2 * (K2 * pair.data_range) ** 2
    scale = 2.0 ** -math.frexp(pair.data_range)[1]  # scaling by a power of two is exact
    rounding = 2 * window.size * float(np.finfo(np.float64).eps)
    windowed = Windowed(
        window,
        dtype,
        least_weight(window, min_coverage, float(np.finfo(dtype).eps)),
        window.size**2 if min_coverage == 1 else 0,
        is_sample,
        (scale, c1, c2),
        lambda moments: quality_coefficients(moments, is_sample, c1, c2, rounding),
    )
    return windowed_gradient(pair, upstream, wanted, windowed)


def uiq(
    pair: Pair, upstream: Array, wanted: tuple[bool, bool], *, block_size: int
) -> Gradients | None:
    """Gradient of mean quality."""
    block, epsilon = uniform(block_size, block_size), float(np.finfo(np.float64).eps)
    windowed = Windowed(
        block,
        np.float64,
        least_weight(block, 0.0, epsilon),
        0,
        False,
        (1.0, 0.0, 0.0),
        lambda moments: quality_coefficients(moments, False, 0.0, 0.0, 2 * block_size * epsilon),
    )
    return windowed_gradient(pair, upstream, wanted, windowed)


def quality_coefficients(
    moments: Array, is_sample: bool, c1: float, c2: float, rounding: float
) -> Array:
    """Coefficients of the quality at single windows, with the rules of `zero_rules`.

    Where a rule makes a term constant, its gradient is 0.
    """
    unbiased = (moments[PIXELS] - 1) / moments[PIXELS] if is_sample else 1.0
    centred_u, centred_d = moments[MEAN_X] + moments[MEAN_Y], moments[MEAN_X] - moments[MEAN_Y]
    u = (moments[PIXEL_X] + moments[PIXEL_Y]) + centred_u
    d = (moments[PIXEL_X] - moments[PIXEL_Y]) + centred_d
    variance_u, variance_d = moments[UU], moments[DD]
    brightness, variances = u * u + d * d + c1, variance_u + variance_d + c2 * unbiased
    dark = brightness <= rounding**2 * (centred_u**2 + centred_d**2) if c1 == 0 else False
    flat = dark | (variances <= 0)
    brightness, variances = np.where(dark, 1, brightness), np.where(flat, 1, variances)
    luminance = np.where(dark, 1, (u * u - d * d + c1) / brightness)
    similarity = np.where(flat, 1, (variance_u - variance_d + c2 * unbiased) / variances)
    u, d = np.where(dark, 0, u), np.where(dark, 0, d)
    mean_part = 4 * similarity * (d / brightness)
    variance_part = np.where(flat, 0, 4 * luminance / variances)
    of_u = variance_part * (variance_d / variances)
    of_d = -variance_part * ((variance_u + c2 * unbiased) / variances)
    a_u, a_d = mean_part * u * (d / brightness), -mean_part * ((u * u + c1) / brightness)
    if c1 == 0 or c2 == 0:
        a_u = np.where(_is_lost(moments, u, d), np.nan, a_u)
    return np.stack([a_u + a_d, a_u - a_d, of_u + of_d, of_u + of_d, of_u - of_d])


def _is_lost(moments: Array, u: Array, d: Array) -> Array:
    """Whether squares of deviations or of means are too small for float64, and not 0."""
    lost = np.zeros(len(u), np.bool_)
    for mean, square in ((MEAN_X, XX), (MEAN_Y, YY)):
        lost |= (moments[square] < TINY) & ((moments[square] > 0) | (moments[mean] != 0))
    power = u * u + d * d
    return lost | ((power < TINY) & ((u != 0) | (d != 0)))
