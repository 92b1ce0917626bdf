"""Calls a windowed kernel for all positions of a window in a batch of volumes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from imsim.caches import kept_by_thread
from imsim.kernels.common.jit import inline, part
from imsim.kernels.common.planes import unwritable
from imsim.kernels.common.window_doubts import (
    box_of,
    fixed,
    precise_taps,
    settle_by_parts,
    settle_constant,
    settle_opposites,
)
from imsim.kernels.common.window_moments import volume_moments
from imsim.kernels.common.window_strips import Positions, Strips, means_of, spans_of, taps_by_axis
from imsim.kernels.common.window_tiles import (
    CROSSED,
    INSIDE,
    OUTSIDE,
    columns_of,
    find_places,
    local_offset,
    workspaces,
)
from imsim.portable.pair import Scores
from imsim.portable.windows import by_weight
from imsim.typing import Array
from imsim.workers import parallel

SLAB_PLANES, SLAB_ROWS = 64, 24
"""Planes and rows of positions in a slab, the unit of work of a thread.

A ring buffer keeps the filtered rows of as many planes as a window has: about 0.5 MB for a tile of
columns, which fits into the second-level cache.
"""


@kept_by_thread
def ring_buffers(size: int, planes: int, tile: int, dtype: Any) -> tuple[Array, ...]:
    """Return memory for the filtered rows of as many planes as a window has, and for counts.

    Shapes (rows, slots, planes * columns) and (rows, slots, columns); and (rows, planes * columns)
    for running sums.
    """
    return (
        np.empty((SLAB_ROWS, size, planes * tile), dtype),
        np.empty((SLAB_ROWS, size, tile), dtype),
        np.empty((SLAB_ROWS, planes * tile), dtype),
    )


class Slab(NamedTuple):
    """Some planes and rows of positions of a volume."""

    planes: slice
    rows: slice

    def pixels(self, lengths: tuple[int, ...]) -> tuple[slice, ...]:
        """Return the planes and rows of pixels that windows of such lengths read."""
        return tuple(slice(s.start, s.stop + n - 1) for s, n in zip(self, lengths, strict=False))


class VolumePositions(Positions):
    """The positions where a window fits into a volume."""

    def _run(self, values: Array | None, valid: Array | None) -> Scores:
        """Run the kernel on all slabs, and add up their sums in a fixed order."""
        volumes, (depth, height, _) = self._planes, self._frame
        slabs = [
            Slab(
                slice(plane, min(plane + SLAB_PLANES, depth)),
                slice(row, min(row + SLAB_ROWS, height)),
            )
            for plane in range(0, depth, SLAB_PLANES)
            for row in range(0, height, SLAB_ROWS)
        ]
        sums = np.zeros((len(slabs), volumes.count, 3))

        def task(i: int) -> None:
            k, slab = divmod(i, len(slabs))
            place = (k, *slabs[slab])
            self._score_slab(
                k,
                slabs[slab],
                sums[slab, k],
                None if values is None else values[place],
                None if valid is None else valid[place],
            )

        parallel(task, volumes.count * len(slabs), volumes.count * math.prod(self._frame))
        return means_of(sums, volumes.shape)

    def _score_slab(
        self, k: int, slab: Slab, out: Array, values: Array | None, valid: Array | None
    ) -> None:
        """Fill the sums of a slab of the k-th volume, and its part of the maps, if wanted."""
        kernel, tile, width = self._strips, self._tile, self._frame[2]
        x, y, mask = (None if v is None else v.reshape(self._sides) for v in self._planes[k])
        planes, rows = slab
        shape = (planes.stop - planes.start, rows.stop - rows.start, width)
        # Parts of the maps would not be in C order, for which the kernel is compiled.
        found = np.empty(shape, self._dtype)
        scored = np.empty((shape[0], 0, 0) if valid is None else shape, np.bool_)
        doubtful = np.zeros((*shape[:2], -(-width // tile)), np.bool_)
        taps = taps_by_axis(kernel.window, kernel.dtype)[:2]
        size = max(self._strips.window.lengths)
        plain, masked = workspaces(size, kernel.planes, tile, kernel.dtype)
        for place, first, last in self._spans_of(mask, slab):
            spans = (planes.start, planes.stop, rows.start, rows.stop, first, last)
            if place == OUTSIDE:
                if valid is not None:
                    found[..., first:last] = np.nan
                    scored[..., first:last] = False
                continue
            is_crossed = place == CROSSED
            rings = ring_buffers(size, kernel.planes + is_crossed, tile, kernel.dtype)
            results = (out, found, scored, doubtful)
            work = (masked if is_crossed else plain, rings, taps, values is not None)
            within = mask if is_crossed else None
            constants = kernel.strict_constants or kernel.constants
            kernel.fast(x, y, within, spans, results, work, *constants)
        if out[2]:
            self._settle(x, y, mask, slab, out, found, doubtful)
        if values is not None:
            values[:] = found
        if valid is not None:
            valid[:] = scored

    def _spans_of(self, mask: Array | None, slab: Slab) -> list[tuple[int, int, int]]:
        """Return the spans of columns of a slab whose tiles lie alike, as (place, first, last)."""
        width, tile = self._frame[2], self._tile
        if mask is None:
            return [(INSIDE, 0, width)]
        part = mask[slab.pixels(self._strips.window.lengths)]
        part = unwritable(part.reshape(-1, mask.shape[-1]))  # its rows lie below each other
        places = np.empty(-(-width // tile), np.int64)
        find_places(part, self._strips.window.lengths[2], tile, places)
        return spans_of(places.tolist(), tile, width)

    def _settle(
        self,
        x: Array,
        y: Array,
        mask: Array | None,
        slab: Slab,
        out: Array,
        found: Array,
        doubtful: Array,
    ) -> None:
        """Replace the doubtful values of a slab, and add them up.

        Where a pixel is not finite, they stay NaN: the engine calls again without such pixels.
        """
        kernel, tile = self._strips, self._tile
        here = slab.pixels(self._strips.window.lengths)
        for image in (x, y):
            pixels = image[here] if mask is None else image[here][mask[here]]
            if not np.isfinite(pixels).all():
                out[0] = np.nan
                return
        for k in np.flatnonzero(doubtful.any(axis=(0, 1))).tolist():
            # Rows of a tile without a doubt have no values, unless all are kept.
            doubts = np.isnan(found[..., k * tile : (k + 1) * tile]) & doubtful[..., k : k + 1]
            box = box_of(doubts, tuple(slice(0, n) for n in doubts.shape))
            if box is None:
                continue
            doubts = doubts[box]
            starts = slab.planes.start, slab.rows.start, k * tile
            part = tuple(
                slice(start + s.start, start + s.stop + n - 1)
                for start, s, n in zip(starts, box, self._strips.window.lengths, strict=True)
            )
            p, q = x[part].astype(np.float64), y[part].astype(np.float64)
            inside = np.ones(p.shape, np.bool_) if mask is None else mask[part].copy()
            piece = Piece(kernel, p, q, inside, tile)
            values = np.where(doubts, np.nan, 0.0)
            if kernel.wider:
                whole = tuple(slice(0, n) for n in values.shape)
                values = np.where(doubts, piece.run(whole), 0.0)
            if np.isnan(values).any():
                piece.settle(values)
            out[0] += values[doubts].sum()
            here = found[..., k * tile : (k + 1) * tile][box]  # a view
            here[doubts] = np.clip(values[doubts], -1, 1)
        out[0] = np.clip(out[0], -out[1], out[1])


class Piece(NamedTuple):
    """A part of a slab, whose doubtful windows are computed again."""

    kernel: Strips
    x: Array
    """Pixels as float64."""
    y: Array
    mask: Array
    tile: int

    def run(self, part: tuple[slice, ...]) -> Array:
        """Compute all values of a part about its own mean, in float64; few stay doubtful."""
        kernel = self.kernel.wider or self.kernel
        lengths = kernel.window.lengths
        pixels = tuple(slice(s.start, s.stop + n - 1) for s, n in zip(part, lengths, strict=True))
        x, y, mask = (np.ascontiguousarray(v[pixels]) for v in (self.x, self.y, self.mask))
        shape = tuple(s.stop - s.start for s in part)
        size, tile = max(lengths), columns_of(kernel.dtype, min(self.tile, shape[2]))
        is_whole = bool(mask.all())  # which gives the same bits as no mask
        values = np.empty(shape)
        doubtful = np.zeros((*shape[:2], -(-shape[2] // tile)), np.bool_)
        kernel.fast(
            *fixed(x, y, None if is_whole else mask),
            tuple(number for length in shape for number in (0, length)),
            (np.zeros(3), values, np.empty((shape[0], 0, 0), np.bool_), doubtful),
            (
                workspaces(size, kernel.planes, tile, kernel.dtype)[not is_whole],
                ring_buffers(size, kernel.planes + (not is_whole), tile, kernel.dtype),
                taps_by_axis(kernel.window, kernel.dtype)[:2],
                True,
            ),
            *kernel.constants,
        )
        return values

    def settle(self, values: Array) -> None:
        """Replace NaN at doubtful windows."""
        kernel, sides = self.kernel, self.kernel.window.sides
        again = kernel.precise, kernel.precise_constants, kernel.beside_constant
        settle_constant(values, self.x, self.y, self.mask, kernel.window, *again)
        taps, orders = (tuple(map(np.array, v)) for v in (sides, map(by_weight, sides)))
        _, high, wide = kernel.window.lengths

        def compute(part: tuple[slice, ...]) -> None:
            planes, rows, columns = part
            for row in range(rows.start, rows.stop):
                doubts = np.isnan(values[planes, row, columns]).any(axis=1)
                firsts = planes.start + np.flatnonzero(doubts)  # windows that share most planes
                if not firsts.size:
                    continue
                pixels = (
                    slice(None),
                    slice(row, row + high),
                    slice(columns.start, columns.stop + wide - 1),
                )
                x, y, mask = (np.ascontiguousarray(v[pixels]) for v in (self.x, self.y, self.mask))
                moments = volume_moments(x, y, mask, firsts, taps, orders)
                precise = precise_taps(kernel.window), kernel.constant
                settle_opposites(moments, x, y, mask, firsts, 0, *precise)
                some = values[firsts, row, columns]
                kernel.precise(moments, some, *kernel.precise_constants)
                values[firsts, row, columns] = some

        settle_by_parts(values, self.run, compute, has_run=kernel.wider is not None)


@part
def slab_offset(image, mask, first, last, top, bottom, left, right, digits):  # type: ignore[no-untyped-def]
    """Return a number close to the mean of a tile: that of its middle plane, if it has pixels."""
    near = 0.0
    for k in range(last - first):
        # The middle plane first, and then all others.
        plane = (first + last) // 2 + k
        plane = plane if plane < last else plane - (last - first)
        near = local_offset(
            image[plane, top:bottom],
            None if mask is None else mask[plane, top:bottom],
            left,
            right,
            digits,
        )
        if near != 0:
            break
    return near


@inline
def centre_of(deep, high, wide):  # type: ignore[no-untyped-def]
    """Size of a window as `find_scored` takes it for one row, and the rows above that row.

    A window with an even side has no centre: an even size says so.
    """
    is_odd = deep % 2 == 1 and high % 2 == 1 and wide % 2 == 1
    return (wide if is_odd else 2), (high // 2 - wide // 2 if is_odd else 0)
