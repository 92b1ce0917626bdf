"""All positions of a window in a batch of images: the calls of the windowed kernels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from imsim.kernels.planes import Planes, added
from imsim.portable.pair import Local, Scores, window_reach
from imsim.portable.windows import Window
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel

STRIP = 128
"""Rows of positions in a strip, which a thread works through at a time."""


@functools.lru_cache(maxsize=32)
def exact_taps(window: Window, dtype: Any) -> tuple[Any, ...]:
    """Round taps to multiples of half the dtype's epsilon that add up to 1; ones stay ones.

    The weights of the pixels inside a mask are then added up without rounding, and a full window
    weighs exactly 1.
    """
    if is_uniform(window):
        return (dtype(1),) * window.size
    unit = float(np.finfo(dtype).eps) / 2
    taps = [round(tap / unit) for tap in window.taps]
    # What is missing goes to the tap, or to the two, in the middle: the window stays symmetric.
    middle = sorted({(window.size - 1) // 2, window.size // 2})
    rest = round(1 / unit) - sum(taps)
    for k in middle:
        taps[k] += rest // len(middle)
    return tuple(dtype(tap * unit) for tap in taps)


def is_uniform(window: Window) -> bool:
    """Whether all weights are 1."""
    return all(tap == 1 for tap in window.taps)


def least_weight(window: Window, min_coverage: float) -> float:
    """Return the weight inside the mask from which on a window may be scored.

    See `imsim.portable.windows.support`.
    """
    full = window.size**2 if is_uniform(window) else 1
    return full * (min_coverage if window.size % 2 else max(min_coverage, 0.5))


class Positions:
    """The positions where a window fits into the frame.

    They are handed out in strips: ``kernel(x, y, mask, out, values, valid, *constants)`` gets
    the rows of pixels that a strip needs. It adds to ``out`` the sum of its values over the
    scored positions and their number, and writes the values, and whether they are valid, into
    arrays of the size of the strip, unless these are empty.
    """

    def __init__(self, images: Images, mask: Array | None, size: int) -> None:
        self._planes = Planes(images, mask)
        self._size = size
        self._dtype = images.dtype
        self._is_masked = mask is not None
        height, width = images.frame
        self._frame = (height - size + 1, width - size + 1)

    def scores(self, kernel: Callable[..., None], *constants: Any) -> Scores:
        """Return the means of the values."""
        return self._run(kernel, constants, self._maps(self._dtype, 0), self._maps(np.bool_, 0))

    def local(
        self, kernel: Callable[..., None], *constants: Any, step: int = 1
    ) -> tuple[Scores, Local]:
        """Return the values as well; `step` is that from pixel to pixel of a coarser grid."""
        count = self._planes.count
        values = self._maps(self._dtype, count)
        valid = self._maps(np.bool_, count if self._is_masked else 0)
        scores = self._run(kernel, constants, values, valid)
        shape = (*self._planes.shape, *self._frame)
        local = Local(
            values.reshape(shape),
            valid.reshape(shape) if self._is_masked else None,
            margin=step * (self._size // 2),
            step=step,
            reach=window_reach(self._size, step),
            witness=scores.witness,
        )
        return scores, local

    def _maps(self, dtype: Any, count: int) -> Array:
        return np.empty((count, *self._frame), dtype)

    def _run(
        self, kernel: Callable[..., None], constants: tuple[Any, ...], values: Array, valid: Array
    ) -> Scores:
        """Go through the strips, which depend on the frame only, and add up in their order."""
        planes, height = self._planes, self._frame[0]
        strips = -(-height // STRIP)
        found = np.zeros((strips, planes.count, 2))
        nothing = values[:0, 0], valid[:0, 0]

        def task(i: int) -> None:
            k, strip = divmod(i, strips)
            rows = slice(strip * STRIP, min((strip + 1) * STRIP, height))
            pixels = slice(rows.start, rows.stop + self._size - 1)
            x, y, mask = (None if v is None else v[pixels] for v in planes[k])
            if mask is not None and mask.all():
                mask = None  # to the last bit what it is without a mask
            maps = (
                v[k, rows] if len(v) else none
                for v, none in zip((values, valid), nothing, strict=True)
            )
            kernel(x, y, mask, found[strip, k], *maps, *constants)

        parallel(task, planes.count * strips, planes.count * math.prod(self._frame))
        sums = added(found).reshape(*planes.shape, 2)
        return Scores(sums[..., 0] / sums[..., 1], sums[..., 1], witness=sums[..., 0])
