"""When a window is doubtful to a kernel: its sums have lost digits, so it is computed again."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from imsim.portable.units import CANCELLING
from imsim.portable.windows import Window
from imsim.typing import Array
from imsim.validation import SMALLEST, Images


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
    pixels: PixelTypes,
    window: Window,
    dtype: Any,
    c1: float = 0.0,
    c2: float = 0.0,
    *,
    is_weighted: bool = False,
) -> Array | None:
    """Return the limits below which a window is doubtful; None if no window can be.

    A variance has lost too many digits to rounding where it is a small share of the mean square
    about the offset, and so has a squared mean. A doubtful window is computed again.

    In float64 the limits are the shares of the variance and of the squared mean, the smallest
    product of both, and the share of a squared mean near 0 in the mean square. In float32 they are
    the shares of the power of x + y, weighted by how far the images differ; of the power of x - y;
    of the power of x + y, whatever the difference; and of the powers for the means, weighted by how
    far these differ. `quality_row` applies them.
    """
    if dtype == np.float32:
        return np.array([2.0**-4, 2.0**-4, 2.0**-10, 2.0**-7], dtype)
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
) -> tuple[bool, Array | None, float]:
    """Return what only a kernel for weights takes: whether it counts pixels, limits, and `least`.

    It counts them, by taps of 1, where their number decides what is scored, or the position has no
    pixel of its own.
    """
    is_counted = least > 0 or window.size % 2 == 0
    return is_counted, limits(pixels, window, dtype, c1, c2, is_weighted=True), least
