"""Calls a windowed kernel for all positions of a window in a batch of volumes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.caches import kept_by_thread
from imsim.kernels.common.planes import Planes, sum_parts
from imsim.kernels.common.window_moments import volume_moments
from imsim.kernels.common.window_strips import Strips, spans_of
from imsim.kernels.common.window_sums import CROSSED, INSIDE, columns_of, find_places, workspaces
from imsim.portable.pair import Local, Scores, laid_out
from imsim.portable.windows import by_weight
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel

SLAB_PLANES, SLAB_ROWS = 64, 24
"""Planes and rows of positions in a slab, the unit of work of a thread.

A ring buffer keeps the filtered rows of as many planes as a window has: about 0.5 MB for a tile of
columns, which fits into the second-level cache.
"""


@kept_by_thread
def ring_buffers(size: int, planes: int, tile: int, dtype: Any) -> tuple[Array, Array]:
    """Return memory for the filtered rows of as many planes as a window has, and for counts.

    Shapes (rows, slots, planes * columns) and (rows, slots, columns).
    """
    return (
        np.empty((SLAB_ROWS, size, planes * tile), dtype),
        np.empty((SLAB_ROWS, size, tile), dtype),
    )


class VolumePositions:
    """The positions where a cubic window fits into a volume."""

    def __init__(self, images: Images, mask: Array | None, strips: Strips) -> None:
        self._planes = Planes(images, mask)
        self._strips = strips
        self._dtype = images.dtype
        self._is_masked = mask is not None
        self._sides = images.sides
        size = strips.window.size
        self._frame = tuple(side - size + 1 for side in images.sides)
        self._tile = columns_of(strips.dtype, self._frame[2])

    def scores(self) -> Scores:
        """Return the means of the values."""
        return self._run(None, None)

    def local(self) -> Local:
        """Return the values as well."""
        frames = (self._planes.count, *self._frame)
        values = np.empty(frames, self._dtype)
        valid = np.empty(frames, np.bool_) if self._is_masked else None
        scores = self._run(values, valid)
        shape = (*self._planes.shape, *self._frame)
        local = laid_out(
            values.reshape(shape),
            None if valid is None else valid.reshape(shape),
            self._strips.window.lengths,
        )
        return local._replace(witness=scores.witness, left=scores.left)

    def _run(self, values: Array | None, valid: Array | None) -> Scores:
        """Run the kernel on all slabs, and add up their sums in a fixed order."""
        volumes, kernel = self._planes, self._strips
        depth, height, width = self._frame
        across = -(-height // SLAB_ROWS)
        slabs = across * -(-depth // SLAB_PLANES)
        sums = np.zeros((slabs, volumes.count, 3))
        size, tile = kernel.window.size, self._tile

        def task(i: int) -> None:
            k, slab = divmod(i, slabs)
            first_plane, first_row = (
                start * step
                for start, step in zip(divmod(slab, across), (SLAB_PLANES, SLAB_ROWS), strict=True)
            )
            planes = slice(first_plane, min(first_plane + SLAB_PLANES, depth))
            rows = slice(first_row, min(first_row + SLAB_ROWS, height))
            x, y, mask = (None if v is None else v.reshape(self._sides) for v in volumes[k])
            shape = (planes.stop - planes.start, rows.stop - rows.start, width)
            out = sums[slab, k]
            # Views of the results: each array that a kernel gets is in C order.
            found = np.empty(shape, self._dtype)
            scored = np.empty(shape if valid is not None else (shape[0], 0, 0), np.bool_)
            doubtful = np.zeros((*shape[:2], -(-width // tile)), np.bool_)
            plain, masked = workspaces(size, kernel.planes, tile, kernel.dtype)
            for place, first, last in self._spans(mask, planes, rows):
                spans = (planes.start, planes.stop, rows.start, rows.stop, first, last)
                results = (out, found, scored, doubtful)
                if place == INSIDE:
                    rings = ring_buffers(size, kernel.planes, tile, kernel.dtype)
                    work = (plain, rings, values is not None)
                    kernel.fast(x, y, None, *spans, *results, *work, *kernel.constants)
                elif place == CROSSED:
                    rings = ring_buffers(size, kernel.planes + 1, tile, kernel.dtype)
                    work = (masked, rings, values is not None)
                    kernel.fast(x, y, mask, *spans, *results, *work, *kernel.constants)
                elif valid is not None:
                    found[..., first:last] = np.nan
                    scored[..., first:last] = False
            if out[2]:
                self._compute_again(x, y, mask, planes, rows, out, found, doubtful)
            if values is not None:
                values[k, planes, rows] = found
            if valid is not None:
                valid[k, planes, rows] = scored

        parallel(task, volumes.count * slabs, volumes.count * math.prod(self._frame))
        added = sum_parts(sums).reshape(*volumes.shape, 3)
        totals, numbers = added[..., 0], added[..., 1]
        odd = ~np.isfinite(totals)
        left = odd.any(axis=-1) if odd.any() else None
        return Scores(totals / numbers, numbers, totals, left)

    def _spans(self, mask: Array | None, planes: slice, rows: slice) -> list[tuple[int, int, int]]:
        """Return the spans of columns of a slab whose tiles lie alike, as (place, first, last)."""
        width, tile, size = self._frame[2], self._tile, self._strips.window.size
        if mask is None:
            return [(INSIDE, 0, width)]
        part = mask[planes.start : planes.stop + size - 1, rows.start : rows.stop + size - 1]
        part = part.reshape(-1, mask.shape[-1])  # a copy, whose rows lie below each other
        part.setflags(write=False)
        places = np.empty(-(-width // tile), np.int64)
        find_places(part, size, tile, places)
        return spans_of(places.tolist(), tile, width)

    def _compute_again(
        self,
        x: Array,
        y: Array,
        mask: Array | None,
        planes: slice,
        rows: slice,
        out: Array,
        found: Array,
        doubtful: Array,
    ) -> None:
        """Replace the doubtful values of a slab, and add them up.

        Where a pixel is not finite, they stay NaN: the engine calls again without such pixels.
        """
        kernel, tile, size = self._strips, self._tile, self._strips.window.size
        slab = tuple(slice(s.start, s.stop + size - 1) for s in (planes, rows))
        for image in (x, y):
            pixels = image[slab] if mask is None else image[slab][mask[slab]]
            if not np.isfinite(pixels).all():
                out[0] = np.nan
                return
        taps, order = np.array(kernel.window.taps), np.array(by_weight(kernel.window.taps))
        for plane, row, k in np.argwhere(doubtful).tolist():
            columns = slice(k * tile, min((k + 1) * tile, found.shape[2]))
            doubts = np.isnan(found[plane, row, columns])
            values = found[plane, row : row + 1, columns].astype(np.float64)
            part = (
                slice(planes.start + plane, planes.start + plane + size),
                slice(rows.start + row, rows.start + row + size),
                slice(columns.start, columns.stop + size - 1),
            )
            p, q = x[part].astype(np.float64), y[part].astype(np.float64)
            inside = np.ones(p.shape, np.bool_) if mask is None else mask[part].copy()
            kernel.precise(
                volume_moments(p, q, inside, taps, order), values, *kernel.precise_constants
            )
            out[0] += values[0, doubts].sum()
            found[plane, row, columns] = np.clip(values[0], -1, 1)
        out[0] = np.clip(out[0], -out[1], out[1])
