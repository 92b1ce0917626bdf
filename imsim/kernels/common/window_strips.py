"""Calls a windowed kernel for all positions of a window in a batch of images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imsim.caches import kept
from imsim.kernels.common.planes import Planes, sum_parts
from imsim.kernels.common.window_sums import UNROLLED
from imsim.portable.pair import Local, Scores, window_reach
from imsim.portable.windows import Window, by_weight, representable
from imsim.typing import Array
from imsim.validation import SMALLEST, Images
from imsim.workers import parallel

STRIP_ROWS = 128
"""Rows of positions in a strip, the unit of work of a thread."""


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


class PixelTypes(NamedTuple):
    """The dtypes on which the constants of a kernel depend."""

    kinds: tuple[Any, Any]
    """Dtypes of the two images."""
    arithmetic: Any
    """Dtype of the arithmetic, see `Images.dtype`."""


def pixel_types(images: Images) -> PixelTypes:
    """Return the dtypes of two images and of their arithmetic."""
    return PixelTypes((images.x.dtype, images.y.dtype), images.dtype)


def limits(
    pixels: PixelTypes, window: Window, dtype: Any, c1: float = 0.0, c2: float = 0.0
) -> Array | None:
    """Return the limits below which a window is doubtful; None if no window can be.

    A variance has lost too many digits to rounding where it is a small share of the mean square
    about the offset, and so has a squared mean. A doubtful window is computed again.

    In float64 the limits are the shares of the variance and of the squared mean, and the smallest
    product of both. In float32 they are the shares of the power of x + y, weighted by how far the
    images differ; of the power of x - y; of the power of x + y, whatever the difference; and of
    the powers for the means, weighted by how far these differ. `_quality_row` applies them.
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

    ``kernel(x, y, mask, out, values, valid, *constants)`` gets the rows of pixels of one strip.
    It adds the sum of its values over the scored positions, and their number, to ``out``. It
    writes the values, and whether they are valid, into arrays of the size of the strip, unless
    these are empty. A value is NaN where squares leave float64; the few images with such values
    are left to the formula.
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
        """Return the values as well; `step` is the number of pixels per cell of a coarser grid."""
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
        """Run the kernel on all strips, and add up their sums in a fixed order."""
        planes, height = self._planes, self._frame[0]
        strips = -(-height // STRIP_ROWS)
        found = np.zeros((strips, planes.count, 2))
        nothing = values[:0, 0], valid[:0, 0]

        def task(i: int) -> None:
            k, strip = divmod(i, strips)
            rows = slice(strip * STRIP_ROWS, min((strip + 1) * STRIP_ROWS, height))
            pixels = slice(rows.start, rows.stop + self._size - 1)
            x, y, mask = (None if v is None else v[pixels] for v in planes[k])
            if mask is not None and mask.all():
                mask = None  # gives the same bits as no mask
            maps = (
                v[k, rows] if len(v) else none
                for v, none in zip((values, valid), nothing, strict=True)
            )
            kernel(x, y, mask, found[strip, k], *maps, *constants)

        parallel(task, planes.count * strips, planes.count * math.prod(self._frame))
        sums = sum_parts(found).reshape(*planes.shape, 2)
        totals, numbers = sums[..., 0], sums[..., 1]
        odd = ~np.isfinite(totals)
        left = odd.any(axis=-1) if odd.any() else None
        return Scores(totals / numbers, numbers, totals, left)
