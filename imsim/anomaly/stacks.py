"""Stacks of images, the input of the models: checks, masks and matrix products."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imsim.errors import DTypeError, ImsimError, MaskError, MaskTypeError, OptionError, ShapeError
from imsim.inputs import as_array, check_real

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Booleans = NDArray[np.bool_]

BATCH_PIXELS = 1 << 19
"""Most pixels in one piece of work, if that is more than one image: 2 MB of float32."""
ROBUST = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
NOT_FINITE = "holds NaN or infinity: repair these pixels, or leave the image out"
NO_CONTRAST = (
    "has so little contrast at its level that float32, in which images are compared, loses it: "
    "subtract from all images what they have in common, such as the mean of the good ones, or "
    "multiply tiny numbers"
)
_LEVELS = 256
"""Least grey levels of an image that float32 is to hold."""
_NOISE = 2.0**-48
"""Of the largest value: smaller differences of float64 are the rounding of a constant image."""
_ONE_THREAD = 1 << 18
"""Multiplications up to which OpenBLAS works in one thread (its interface/gemm.c)."""
_LEAST_ROWS = 4
"""Least rows of a piece of a product: BLAS computes blocks of a few rows at a time."""


def _as_numpy(name: str, value: Any, refusal: type[ImsimError] = DTypeError) -> NDArray[Any]:
    try:
        return np.asarray(as_array(name, value))
    except ImsimError:
        raise
    except Exception as error:  # a library that does not give its values to NumPy
        raise refusal(f"{name} does not become a NumPy array: {error}") from error


def check_kind(is_right: bool, name: str, given: Any, expected: str) -> None:
    """Refuse what is of the wrong kind."""
    if not is_right:
        raise OptionError(f"{name} is of type {type(given).__name__}; expected {expected}")


def as_real(name: str, value: Any) -> NDArray[Any]:
    """Return an array of real numbers."""
    array = _as_numpy(name, value)
    check_real(name, array)
    return array


def as_stack(name: str, value: Any) -> NDArray[Any]:
    """Return real images of shape (n, height, width)."""
    array = as_real(name, value)
    if array.ndim != 3 or 0 in array.shape:
        raise ShapeError(
            f"{name} has shape {array.shape}",
            "expected a non-empty (n, height, width): "
            "for one image pass image[None], for colour images one channel",
        )
    if array.shape[2] in (3, 4) and min(array.shape[:2]) > array.shape[2]:
        raise ShapeError(
            f"{name} has shape {array.shape}, which looks like one colour image of (height, width, "
            "channels)",
            "expected grey ones, (n, height, width): pass one channel, or its mean",
        )
    return array


def as_booleans(name: str, values: NDArray[Any], meaning: str) -> Booleans:
    """Return booleans, or zeros and ones, as booleans; `meaning` says what True is."""
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind not in "iu" or not np.isin(values, (0, 1)).all():
        raise MaskTypeError(
            f"{name} has dtype {values.dtype}",
            f"expected booleans, True = {meaning}: pass e.g. {name} > 0",
        )
    return values.astype(np.bool_)


def check_masks(masks: Any, shape: tuple[int, ...]) -> Booleans:
    """Return masks as booleans of the shape (n, height, width) of the images."""
    used = as_booleans("masks", _as_numpy("masks", masks, MaskTypeError), "use")
    if used.shape not in (tuple(shape), tuple(shape[1:])):
        raise MaskError(
            f"masks has shape {used.shape}",
            f"expected {tuple(shape)} like the images, or {tuple(shape[1:])} for all of them",
        )
    return np.broadcast_to(used, shape)


def masks_at(masks: Booleans | None, which: Any) -> Booleans | None:
    """Return the masks of some of the images; None if all pixels are used."""
    return None if masks is None else masks[which]


def check_size(images: NDArray[Any], learned: tuple[int, ...], remedy: str) -> None:
    """Refuse images of another size than those learned from."""
    if images.shape[1:] != tuple(learned):
        raise ShapeError(
            "images are {1} x {0} pixels, those learned from {3} x {2}".format(
                *images.shape[1:], *learned
            ),
            remedy,
        )


def with_pixels(pixels: Floats, used: Booleans | None) -> tuple[Floats, Booleans | None]:
    """Return the images of which the masks leave something, and their masks."""
    if used is None:
        return pixels, None
    shown = used.any(axis=(1, 2))
    return (pixels, used) if shown.all() else (pixels[shown], used[shown])


def check_images(
    images: Any, masks: Any = None, *, leave_out: bool = False
) -> tuple[Floats, Booleans | None]:
    """Return images as float32, 0 outside their masks, and masks, None if all pixels are used.

    An image that is not finite inside its mask, or whose contrast float32 does not hold, is
    refused; with `leave_out` it gets an empty mask.
    """
    pixels = as_stack("images", images)
    used = None if masks is None else check_masks(masks, pixels.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # numbers beyond float32 are refused below
        values = pixels.astype(np.float32)
    if used is not None:
        if not used.all():
            values[~used] = 0
        else:
            used = None
    sound = np.isfinite(values).all(axis=(1, 2))
    lost = _without_contrast(pixels, values, used) & sound
    if lost.any() and not leave_out:
        raise DTypeError(f"images[{int(np.argmax(lost))}] {NO_CONTRAST}")
    sound &= ~lost
    if not sound.all():
        if leave_out:
            used = np.ones(values.shape, np.bool_) if used is None else used.copy()
            used[~sound] = values[~sound] = 0
            return values, used
        index = int(np.argmin(sound))
        where = "" if masks is None else ", inside its mask"
        raise MaskError(
            f"images[{index}] holds NaN or infinity, or a number too large for float32{where}: "
            "leave such pixels out, e.g. masks=numpy.isfinite(images)"
        )
    return values, used


def damage(image: NDArray[Any], used: Booleans | None) -> str | None:
    """Return why `check_images` leaves out an image, if it does."""
    try:
        check_images(image[None], None if used is None else used[None])
    except MaskError:
        return NOT_FINITE
    except DTypeError:
        return NO_CONTRAST
    return None


def _without_contrast(pixels: NDArray[Any], values: Floats, used: Booleans | None) -> Booleans:
    """Return which images hold fewer grey levels inside their masks as float32 than they did."""
    found = np.zeros(len(pixels), np.bool_)
    if pixels.dtype.itemsize < 4 or pixels.dtype == np.float32:  # these are exact
        return found
    inside: Any = True if used is None else used
    highest = values.max(axis=(1, 2), initial=-np.inf, where=inside)
    lowest = values.min(axis=(1, 2), initial=np.inf, where=inside)
    largest = np.maximum(np.abs(highest), np.abs(lowest))
    facts = np.finfo(np.float32)
    rounding = np.maximum(facts.eps / 2 * largest, facts.smallest_subnormal)
    with np.errstate(invalid="ignore"):  # infinities, of which none is finite
        doubtful = (_LEVELS * rounding > highest - lowest) & np.isfinite(largest)
    for i in np.flatnonzero(doubtful):
        given, held = (v[i] if used is None else v[i][used[i]] for v in (pixels, values))
        # Long doubles hold integers of 64 bits, and what float64 loses of them.
        exact = given.astype(np.longdouble)
        span = np.ptp(exact)
        error = np.abs(exact - held).max()
        is_noise = given.dtype.kind == "f" and span <= _NOISE * largest[i]
        found[i] = _LEVELS * error > span > 0 and not is_noise
    return found


def finite_outside(images: NDArray[Any], masks: Booleans | None) -> NDArray[Any]:
    """Replace NaN and infinities outside the masks by the value of the nearest finite pixel."""
    if masks is None or images.dtype.kind != "f":
        return images
    unsound = ~(np.isfinite(images) | masks)
    result = images.copy() if unsound.any() else images
    for i in np.flatnonzero(unsound.any(axis=(1, 2))):
        result[i] = images[i][nearest(unsound[i])]
    return result


def listed(problems: dict[int, str]) -> str:
    """List the images that have problems, with the problem of the first one."""
    first, reason = min(problems.items())
    return f"{indices(problems)}; images[{first}] {reason}"


def indices(images: Iterable[int]) -> str:
    """Say the first ten indices of images in words."""
    ordered = sorted(images)
    return f"index {', '.join(map(str, ordered[:10]))}" + (", ..." if len(ordered) > 10 else "")


def nearest(odd: Booleans) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return, for every pixel, row and column of the nearest pixel that is not odd."""
    rows, columns = ndimage.distance_transform_edt(odd, return_distances=False, return_indices=True)
    return rows, columns


def sample_of(n: int, most: int) -> slice:
    """Return every k-th of n indices, at most `most` of them."""
    return slice(None, None, -(-n // most))


def spread(count: int, most: int) -> NDArray[np.intp]:
    """Return some of so many indices, evenly spread, with the first and the last."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.intp)


def depth_of(images: NDArray[Any]) -> str:
    """Return the type of number of images: the name of the dtype, or "float"."""
    return "float" if images.dtype.kind == "f" else images.dtype.name


def batch_images(images: NDArray[Any]) -> int:
    """Return the most images of a stack in one piece of work: 32 of 128x128 pixels."""
    return max(1, BATCH_PIXELS // max(1, math.prod(images.shape[1:])))


def bounding_box(mask: Booleans) -> tuple[slice, slice]:
    """Return the part of a frame that holds a mask; one pixel if the mask is empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return slice(0, 1), slice(0, 1)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def product(a: Floats, b: Floats) -> Floats:
    """Matrix product over the last two axes, in the caller's thread where that is faster.

    The threads of a BLAS library wait for each other after each product. That costs more than it
    saves while other threads work on other images. So the rows are cut into pieces that OpenBLAS
    computes in one thread. (A limit of threadpoolctl would hold for the whole process.)
    """
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    result = np.empty((*leading, a.shape[-2], b.shape[-1]), dtype=np.float32)
    rows = _ONE_THREAD // max(b.shape[-2] * b.shape[-1], 1)
    if rows < _LEAST_ROWS:
        rows = max(a.shape[-2], 1)
    with np.errstate(under="ignore"):  # the tails of a Gaussian
        for start in range(0, a.shape[-2], rows):
            piece = slice(start, start + rows)
            np.matmul(a[..., piece, :], b, out=result[..., piece, :])
    return result
