"""All positions of a window in a batch of images: the calls of the windowed kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imsim.caches import kept
from imsim.kernels.common.planes import Planes, added
from imsim.kernels.common.window_sums import UNROLLED
from imsim.portable.pair import Local, Scores, window_reach
from imsim.portable.windows import Window, by_weight, representable
from imsim.typing import Array
from imsim.validation import SMALLEST, Images
from imsim.workers import parallel

STRIP = 128
"""Rows of positions in a strip, which a thread works through at a time."""


class Taps(NamedTuple):
    """The taps of a window, in the forms that kernels take."""

    fast: Any
    """In the dtype of the arithmetic; see `imsim.kernels.common.window_sums.UNROLLED`."""
    precise: Array
    """In float64."""
    order: Array
    """From the lightest to the heaviest."""


@kept
def taps_of(window: Window, dtype: Any = np.float64) -> Taps:
    """Return the taps of a window."""
    if dtype == np.float32:
        fast = np.array(representable(window, float(np.finfo(dtype).eps)).taps, dtype)
    else:
        fast = np.array(window.taps)
    return Taps(
        tuple(fast) if window.size in UNROLLED else fast,
        np.array(window.taps),
        np.array(by_weight(window.taps)),
    )


class Pixels(NamedTuple):
    """What the constants of a kernel depend on of the images."""

    kinds: tuple[Any, Any]
    """Dtypes of the two images."""
    arithmetic: Any
    """That of the metrics, see `Images.dtype`."""


def pixels_of(images: Images) -> Pixels:
    """Return it for two images."""
    return Pixels((images.x.dtype, images.y.dtype), images.dtype)


def limits(
    pixels: Pixels, window: Window, dtype: Any, c1: float = 0.0, c2: float = 0.0
) -> Array | None:
    """Return what makes a window doubtful, so that it is computed again; None if nothing can.

    A variance that is smaller than a share of the mean square about the offset has lost digits to
    rounding that tell, and so has a squared mean. In float64 these shares are the first two limits,
    the third is the smallest product of both that is taken. In float32 it is the share of the power
    of the sum of two images, as far as they differ; that of their difference; the share of the
    former that is never to be exceeded; and that of means, as far as they differ.
    """
    if dtype == np.float32:
        return np.array([2.0**-4, 2.0**-4, 2.0**-10, 2.0**-6], dtype)
    share = 2.0**-28 if pixels.arithmetic == np.float32 else 2.0**-13
    share_of_mean = 16 * share**2
    kind, other = pixels.kinds
    if kind == other and kind.kind in "ub" and kind.itemsize <= 2:
        power = 4.0 ** (8 * kind.itemsize + 1)  # of the sum and the difference of two pixels
        is_exact = window.is_uniform and power * window.size**4 <= 2.0**53
        if is_exact or (share * power < c2 and share_of_mean * power < c1):
            return None
    return np.array([share, share_of_mean, SMALLEST, 0])


class Positions:
    """The positions where a window fits into the frame.

    They are handed out in strips: ``kernel(x, y, mask, out, values, valid, *constants)`` gets
    the rows of pixels that a strip needs. It adds to ``out`` the sum of its values over the
    scored positions and their number, and writes the values, and whether they are valid, into
    arrays of the size of the strip, unless these are empty. Squares that leave float64 are NaN;
    the few images that have them are left to the formula.
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
            left=scores.left,
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
        totals, numbers = sums[..., 0], sums[..., 1]
        odd = ~np.isfinite(totals)
        left = odd.any(axis=-1) if odd.any() else None
        return Scores(totals / numbers, numbers, totals, left)
