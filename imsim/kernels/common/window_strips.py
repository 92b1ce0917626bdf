"""Calls a windowed kernel for all positions of a window in a batch of images."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from imsim.caches import kept
from imsim.kernels.common.planes import NO_MASK, Plane, Planes, sum_parts
from imsim.kernels.common.weighted_windows import weighted_strip
from imsim.kernels.common.window_doubts import (
    MANY,
    find_boxes,
    fixed,
    precise_taps,
    settle,
    settle_by_parts,
    settle_constant,
    settle_opposites,
    take,
)
from imsim.kernels.common.window_float32 import (
    block_memory,
    find_doubtful,
    find_inside,
    run_memory,
    settle_runs,
)
from imsim.kernels.common.window_moments import moments_at
from imsim.kernels.common.window_sums import UNROLLED, add_weighted
from imsim.kernels.common.window_tiles import (
    CROSSED,
    DOUBTFUL,
    INSIDE,
    OUTSIDE,
    columns_of,
    find_places,
    workspaces,
)
from imsim.portable.pair import Local, Scores, laid_out
from imsim.portable.windows import Window, by_weight
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel

MANY_POSITIONS = 4096
"""Positions of a frame whose mean takes the rounding errors of float32 away."""
WIDER = 8
"""Tiles of a strip of which a copy in float64 is made at a time."""
STRIP_ROWS = 128
"""Rows of positions in a strip, the unit of work of a thread."""


class Taps(NamedTuple):
    """The taps of a window, in the forms that kernels take."""

    size: int
    """Their number along a row."""
    taps: Array | None
    """In the dtype of the arithmetic; None for a uniform window."""
    unrolled: tuple[Any, ...] | None
    """All; see `imsim.kernels.common.window_sums.UNROLLED`."""


@kept
def taps_of(window: Window, dtype: Any = np.float64) -> Taps:
    """Return the taps of a window."""
    taps = taps_by_axis(window, dtype)[-1]
    is_unrolled = window.size in UNROLLED and len(set(window.sides)) == 1
    unrolled = tuple(taps) if is_unrolled else None
    return Taps(taps.size, None if window.is_uniform else taps, unrolled)


@kept
def taps_by_axis(window: Window, dtype: Any) -> tuple[Array, ...]:
    """Return the taps of a window along each axis, in the dtype of the arithmetic."""
    found = tuple(np.array(taps, dtype) for taps in window.sides)
    for taps in found if dtype == np.float32 and not window.is_uniform else ():
        # Small taps keep their digits, since a pixel may be far from all others; those in the
        # middle, which are large, take what the sum lacks.
        middle = slice((taps.size - 1) // 2, taps.size // 2 + 1)
        rest = 1 - math.fsum(taps.tolist())
        taps[middle] += dtype(rest / taps[middle].size)
    return found


class Strips(NamedTuple):
    """A windowed kernel and its arguments.

    ``fast(x, y, mask, (first, last, keeps), found, memory, *constants)`` gets the rows of pixels of
    one strip, and fills `Found` from the column ``first`` of positions to ``last``. It writes all
    rows of values if ``keeps`` says so, and otherwise only those that hold a doubtful value.
    ``precise(moments, values, *precise_constants)`` replaces each NaN in rows of values by what it
    finds from the moments of the windows, see `imsim.kernels.common.window_moments`. Where there
    are ``doubts``, the last argument of ``fast`` is what `find_doubtful` found as offsets.
    """

    window: Window
    dtype: Any
    """Dtype of the arithmetic of ``fast``."""
    planes: int
    """Planes of sums, besides that of the weights of a mask."""
    fast: Callable[..., None]
    constants: tuple[Any, ...]
    precise: Callable[..., None]
    precise_constants: tuple[Any, ...]
    weighted_constants: tuple[Any, ...]
    """Constants of the kernel for weights, see `imsim.kernels.common.weighted_windows`."""
    strict_constants: tuple[Any, ...] = ()
    """Those that leave more windows in doubt, for where few are scored; none in float64."""
    wider: Strips | None = None
    """The same in float64, for the windows that float32 leaves in doubt."""
    constant: float = 0.0
    """What is added to squared means."""
    beside_constant: float | None = None
    """Value of a window in which one image is constant, and the other is not."""
    few: tuple[Any, ...] = ()
    """What `settle_runs` takes of the constants of float64."""
    doubts: tuple[Any, ...] = ()
    """What `find_doubtful` takes of the constants, to find tiles that float32 need not try."""


class Found(NamedTuple):
    """The results of a strip."""

    sums: Array
    """Sum of the values over the scored positions, but for doubtful ones; the number of positions;
    the number of rows of tiles with doubtful values."""
    values: Array
    """From -1 to 1; NaN where doubtful. A value stays NaN where squares leave float64; the few
    images with such values are left to the formula."""
    valid: Array
    """Which positions are scored, of size 0 if nobody asks; or the weights of all positions."""
    doubtful: Array
    """Shape (rows, tiles): which rows of tiles have doubtful values."""


def spans_of(places: list[int], tile: int, width: int) -> list[tuple[int, int, int]]:
    """Join neighbouring tiles that lie alike, as (place, first column, last column)."""
    spans, first = [], 0
    for place, alike in groupby(places):
        last = min(first + tile * len(list(alike)), width)
        spans.append((place, first, last))
        first = last
    return spans


def means_of(sums: Array, shape: tuple[int, ...]) -> Scores:
    """Return the means of all strips, from their sums in the order of `Found.sums`.

    `shape` is that of the batch, and the number of channels.
    """
    added = sum_parts(sums).reshape(*shape, 3)
    totals, numbers = added[..., 0], added[..., 1]
    are_finite = np.isfinite(totals)
    left = None if are_finite.all() else ~are_finite.all(axis=-1)
    return Scores(totals / numbers, numbers, totals, left)


class Positions:
    """The positions where a window fits into the images."""

    def __init__(self, images: Images, mask: Array | None, strips: Strips) -> None:
        if images.weights is not None:  # of one dtype, for which one kernel is compiled
            images = images._replace(weights=images.weights.astype(np.float64, copy=False))
        self._planes = Planes(images, mask)
        self._strips = strips
        self._dtype = images.dtype
        self._is_masked, self._is_weighted = mask is not None, images.weights is not None
        self._sides, lengths = images.sides, strips.window.lengths
        self._frame = tuple(n - k + 1 for n, k in zip(self._sides, lengths, strict=True))
        self._tile = columns_of(strips.dtype, self._frame[-1])

    def scores(self) -> Scores:
        """Return the means of the values."""
        return self._run(None, None)

    def local(self, *, step: int = 1, is_padded: bool = False) -> Local:
        """Return the values; see `imsim.portable.pair.laid_out`."""
        frames = (self._planes.count, *self._frame)
        values = np.empty(frames, self._dtype)
        valid = np.empty(frames, np.bool_) if self._is_masked else None
        scores = self._run(values, valid)
        shape = (*self._planes.shape, *self._frame)
        found = None if valid is None else valid.reshape(shape)
        lengths = self._strips.window.lengths
        local = laid_out(values.reshape(shape), found, lengths, step=step, is_padded=is_padded)
        return local._replace(witness=scores.witness, left=scores.left)

    def _run(self, values: Array | None, valid: Array | None) -> Scores:
        """Run the kernel on all strips, and add up their sums in a fixed order."""
        planes, (height, width), size = self._planes, self._frame, self._strips.window.size
        strips = -(-height // STRIP_ROWS)
        sums = np.zeros((strips, planes.count, 3))
        few: dict[int, bool] = {}

        def is_few(k: int, mask: Array | None) -> bool:
            """Whether too few positions of a plane are scored for the usual limits."""
            if k not in few:
                # A mask of True everywhere leaves all positions.
                inside = math.inf if mask is None else int(np.count_nonzero(mask))
                few[k] = min(height * width, inside) < MANY_POSITIONS
            return few[k]

        def task(i: int) -> None:
            k, strip = divmod(i, strips)
            rows = slice(strip * STRIP_ROWS, min((strip + 1) * STRIP_ROWS, height))
            pixels = slice(rows.start, rows.stop + size - 1)
            x, y, mask = planes[k]
            plane = Plane(x[pixels], y[pixels], None if mask is None else mask[pixels])
            shape = (rows.stop - rows.start, width)
            if self._is_weighted:
                scored = np.zeros(shape)  # which costs nothing until it is written
            else:
                scored = np.empty((0, 0), np.bool_) if valid is None else valid[k, rows]
            found = Found(
                sums[strip, k],
                np.empty(shape, self._dtype) if values is None else values[k, rows],
                scored,
                np.zeros((shape[0], -(-width // self._tile)), np.bool_),
            )
            if not self._is_weighted:
                keeps, has_map = values is not None, valid is not None
                is_strict = self._strips.strict_constants != () and is_few(k, mask)
                self._fill(plane, found, is_strict=is_strict, keeps=keeps, has_map=has_map)
                return
            weights = planes.weights(k)[pixels]
            self._fill_by_weight(plane, weights, found, keeps=values is not None)
            if valid is not None:
                valid[k, rows] = found.valid > 0

        parallel(task, planes.count * strips, planes.count * math.prod(self._frame))
        return means_of(sums, planes.shape)

    def _fill(
        self, plane: Plane, found: Found, *, is_strict: bool, keeps: bool, has_map: bool
    ) -> None:
        """Fill what is found in a strip of pixels."""
        (x, y, mask), kernel = plane, self._strips
        plain, masked = workspaces(kernel.window.size, kernel.planes, self._tile, kernel.dtype)
        constants = kernel.strict_constants if is_strict else kernel.constants
        results = tuple(found)  # of no name, for which kernels are compiled
        levels = (np.empty((found.doubtful.shape[1], 2), np.float32),) if kernel.doubts else ()
        for place, first, last in self._spans(mask, (x, y, *levels) if levels else None):
            span = (first, last, keeps)
            if place == INSIDE:
                kernel.fast(x, y, None, span, results, plain, *constants, *levels)
            elif place == CROSSED:
                kernel.fast(x, y, mask, span, results, masked, *constants, *levels)
            elif place == DOUBTFUL:
                width = WIDER * self._tile
                for left in range(first, last, width):
                    self._run_wider(plane, left, min(left + width, last), found)
            elif has_map:
                found.values[:, first:last] = np.nan
                found.valid[:, first:last] = False
        if found.sums[2]:
            self._compute_again(x, y, mask, found)

    def _fill_by_weight(self, plane: Plane, weights: Array, found: Found, *, keeps: bool) -> None:
        """Fill what is found by weights: all values are kept, and then added up by weight."""
        (x, y, mask), kernel = plane, self._strips
        _, memory = workspaces(kernel.window.size, kernel.planes, self._tile, kernel.dtype)
        for place, first, last in self._spans(mask):
            if place != OUTSIDE:
                span = (first, last, place == INSIDE, keeps)
                constants = kernel.weighted_constants
                weighted_strip(x, y, mask, weights, span, tuple(found), memory, *constants)
            elif keeps:
                found.values[:, first:last] = 0
        if found.sums[2]:
            self._compute_again(x, y, weights, found, is_weighted=True)
            add_weighted(found.values, found.valid, found.doubtful, self._tile, found.sums)
        _clip_total(found.sums)

    def _spans(
        self, mask: Array | None, doubts: tuple[Array, ...] | None = None
    ) -> list[tuple[int, int, int]]:
        """Return the spans of columns of a strip whose tiles lie alike, as (place, first, last).

        The fast kernel gives a tile inside the mask the same bits as without a mask. With `doubts`,
        which are both images and memory for offsets, tiles are found too that float32 need not try,
        and offsets for the others.
        """
        width, tile, kernel = self._frame[1], self._tile, self._strips
        if mask is None and doubts is None:
            return [(INSIDE, 0, width)]
        places = np.full(-(-width // tile), INSIDE)
        if mask is not None:
            find_places(mask, kernel.window.size, tile, places)
        if doubts is not None:
            x, y, levels = doubts
            of_tiles = width, kernel.window.size, tile
            blocks, inside = block_memory(x.shape[0], tile + kernel.window.size, places.size)
            if mask is not None:
                find_inside(mask, *of_tiles, inside)
            find_doubtful(x, y, inside, *of_tiles, *kernel.doubts, places, levels, blocks)
        return spans_of(places.tolist(), tile, width)

    def _run_wider(self, plane: Plane, first: int, last: int, found: Found) -> None:
        """Compute some columns of a strip in float64."""
        kernel, tile = self._strips, self._tile
        columns = slice(first, last + kernel.window.size - 1)
        p, q = (v[:, columns].astype(np.float64) for v in plane[:2])
        mask = None if plane.mask is None else plane.mask[:, columns]
        here = found.values[:, first:last]
        valid = np.ones(here.shape if found.valid.size else (0, 0), np.bool_)
        whole = tuple(slice(0, n) for n in here.shape)
        values, sums = Piece(kernel, p, q, mask, tile, False).run(whole, valid)
        here[...] = values
        found.valid[:, first:last] = valid
        found.sums[...] += sums
        if sums[2]:  # some stay doubtful
            for left in range(first, last, tile):
                doubts = np.isnan(values[:, left - first : left - first + tile])
                found.doubtful[:, left // tile] = doubts.any(axis=1)

    def _compute_again(
        self, x: Array, y: Array, mask: Array | None, found: Found, *, is_weighted: bool = False
    ) -> None:
        """Replace the doubtful values of a strip, and add them up, unless they are weighted.

        A weighted mask holds the weights of the pixels.
        """
        kernel, tile, size = self._strips, self._tile, self._strips.window.size
        if kernel.wider and not is_weighted:
            places = found.values, found.doubtful, tile
            inside = NO_MASK if mask is None or mask.all() else mask  # the same bits as without
            memory = run_memory(size)
            if settle_runs(x, y, inside, *places, *kernel.wider.few, memory, found.sums):
                _clip_total(found.sums)
                return
        total = np.zeros(2)
        rows, tiles = found.doubtful.shape
        boxes = np.empty((tiles * -(-rows // size), 4), np.int64)
        count = find_boxes(found.values, found.doubtful, tile, size, boxes)
        is_crowded = kernel.wider is None and count > MANY
        if is_crowded:
            (top, left), (bottom, right) = boxes[:count, ::2].min(0), boxes[:count, 1::2].max(0)
            piece = self._piece(x, y, mask, (top, bottom, left, right), is_weighted)
            again = np.empty((bottom - top, right - left))
            take(found.values, found.doubtful, tile, top, left, again)
            piece.settle_constant(again)
            settle(found.values, again, tile, top, left, found.doubtful, False, total)
            count = find_boxes(found.values, found.doubtful, tile, size, boxes)
        for top, bottom, left, right in boxes[:count].tolist():
            piece = self._piece(x, y, mask, (top, bottom, left, right), is_weighted)
            if kernel.wider:
                again, sums = piece.run((slice(0, bottom - top), slice(0, right - left)))
                is_settled = sums[2] == 0  # no row is doubtful
            else:
                again, is_settled = np.empty((bottom - top, right - left)), False
                take(found.values, found.doubtful, tile, top, left, again)
            if not is_settled and np.isnan(again).any():
                if not is_crowded:
                    piece.settle_constant(again)
                piece.settle(again)
            settle(found.values, again, tile, top, left, found.doubtful, True, total)
        if not is_weighted:
            found.sums[0] += total.sum()
        _clip_total(found.sums)

    def _piece(
        self, x: Array, y: Array, mask: Array | None, box: tuple[int, ...], is_weighted: bool
    ) -> Piece:
        """Return the pixels of a box of positions: its first and end row and column."""
        beyond = self._strips.window.size - 1
        part = slice(box[0], box[1] + beyond), slice(box[2], box[3] + beyond)
        p, q = x[part].astype(np.float64), y[part].astype(np.float64)
        inside = None if mask is None else mask[part].copy()
        return Piece(self._strips, p, q, inside, self._tile, is_weighted)


def _clip_total(sums: Array) -> None:
    """Keep a total of similarities between -1 and 1 times its weight; NaN stays."""
    sums[0] = min(max(sums[0], -sums[1]), sums[1])


class Piece(NamedTuple):
    """Some rows and columns of a strip, whose doubtful windows are computed again."""

    kernel: Strips
    x: Array
    """Pixels as float64."""
    y: Array
    mask: Array | None
    """The mask, or the weights of the pixels."""
    tile: int
    is_weighted: bool

    def run(self, part: tuple[slice, ...], valid: Array | None = None) -> tuple[Array, Array]:
        """Compute all values of a part about its own mean, in float64, and their `Found.sums`.

        Few stay doubtful. In photographs, a tenth of the windows can be doubtful to float32.
        `valid` takes which are scored.
        """
        kernel = self.kernel.wider or self.kernel
        size = kernel.window.size
        pixels = tuple(slice(s.start, s.stop + size - 1) for s in part)
        x, y, mask = (
            None if v is None else np.ascontiguousarray(v[pixels])
            for v in (self.x, self.y, self.mask)
        )
        height, width = (s.stop - s.start for s in part)
        # Of a power of two, so that parts of few widths share memory.
        tile = columns_of(kernel.dtype, min(self.tile, 1 << (width - 1).bit_length()))
        plain, masked = workspaces(size, kernel.planes, tile, kernel.dtype)
        sums, values = np.zeros(3), np.empty((height, width))
        doubtful = np.zeros((height, -(-width // tile)), np.bool_)
        # That no pixel is left out gives the same bits as no mask.
        inside = None if mask is None or (mask > 0).all() else mask > 0
        if self.is_weighted:
            images = fixed(x, y, np.asarray(mask) > 0, mask)
            found = (sums, values, np.zeros(values.shape), doubtful)
            more = (0, width, inside is None, True), found, masked
            weighted_strip(*images, *more, *kernel.weighted_constants)
        else:
            found = (sums, values, np.empty((0, 0), np.bool_) if valid is None else valid, doubtful)
            memory = plain if inside is None else masked
            kernel.fast(*fixed(x, y, inside), (0, width, True), found, memory, *kernel.constants)
        return values, sums

    def _inside(self) -> Array:
        return np.ones(self.x.shape, np.bool_) if self.mask is None else self.mask

    def settle_constant(self, values: Array) -> None:
        """Replace NaN at windows in which images are constant."""
        kernel, mask = self.kernel, self._inside()
        again = kernel.precise, kernel.precise_constants, kernel.beside_constant
        settle_constant(values[None], self.x[None], self.y[None], mask[None], kernel.window, *again)

    def settle(self, values: Array) -> None:
        """Replace NaN at windows that are not constant."""
        kernel, mask = self.kernel, self._inside()
        taps = np.array(kernel.window.taps)
        order = np.array(by_weight(kernel.window.taps))

        def compute(part: tuple[slice, ...]) -> None:
            rows = part[0].start + np.flatnonzero(np.isnan(values[part]).any(axis=1))
            moments = moments_at(
                self.x, self.y, mask, rows, part[1], taps, order, is_weighted=self.is_weighted
            )
            pixels = (v[:, None] for v in (self.x, self.y, mask))
            precise = precise_taps(kernel.window), kernel.constant
            settle_opposites(moments, *pixels, rows, part[1].start, *precise)
            some = values[rows, part[1]]
            kernel.precise(moments, some, *kernel.precise_constants)
            values[rows, part[1]] = some

        has_run = kernel.wider is not None
        settle_by_parts(values, lambda part: self.run(part)[0], compute, has_run=has_run)
