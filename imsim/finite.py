"""The rule of NaN and infinite pixels inside the mask, by which kernels and formulas are called.

A score is NaN if any pixel inside the mask is NaN or infinite, and a position of a map if it reads
such a pixel. The engine writes this NaN, and gives formulas zeros in place of the pixels. A kernel
runs on the pixels as they are. It returns its witness, a sum over all pixels, which is NaN or
infinite if a pixel is. Then the engine finds these pixels, and runs the kernel again on zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from imsim import kernels
from imsim.errors import OptionError
from imsim.portable import arrays
from imsim.portable.differences import exact_difference, long_integers
from imsim.portable.pair import Local, Pair, Scores
from imsim.typing import Array
from imsim.validation import Images, element


def is_finite(image: Array, xp: Any) -> Array:
    """Like `isfinite`, for integers and booleans too."""
    if xp.isdtype(image.dtype, "real floating"):
        return image - image == 0 if arrays.is_tensor(image) else xp.isfinite(image)
    return xp.ones(image.shape, dtype=xp.bool, device=arrays.device(image))


def finite_pixels(images: Images, valid: Array | None) -> Array | None:
    """Find the pixels, (*batch, 1, height, width), that are finite in both images.

    Pixels outside the mask count as finite. None: all pixels are finite.
    """
    xp = images.xp
    if xp is np and all(_is_clean(image) for image in (images.x, images.y)):
        return None
    finite = xp.all(is_finite(images.x, xp) & is_finite(images.y, xp), axis=-3, keepdims=True)
    return finite if valid is None else finite | ~valid


def finite_images(images: Images, valid: Array | None) -> Array | None:
    """Find the pairs that are finite inside the mask, for scores; of tensors in one pass each."""
    if not (arrays.is_tensor(images.x) and arrays.is_tensor(images.y)):
        return finite_pixels(images, valid)
    finite = None
    for image in (images.x, images.y):
        inside = arrays.where_valid(valid, arrays.without_gradient(image))
        if inside.is_floating_point():
            axes = (-3, -2, -1)
            largest = images.xp.linalg.vector_norm(inside, axis=axes, keepdims=True, ord=math.inf)
            finite = largest < math.inf if finite is None else finite & (largest < math.inf)
    return finite_pixels(images, valid) if finite is None else finite


def _is_clean(image: Array) -> bool:
    """Whether all pixels of a NumPy array are finite, found without a copy of the image."""
    if image.dtype.kind != "f":
        return True
    return math.isfinite(image.min()) and math.isfinite(image.max())


def value_ends(x: Array, y: Array, valid: Array | None) -> tuple[float, float]:
    """Least and largest finite value of two images inside a mask, which broadcasts with them.

    Without a finite value that can be read, they are infinity and minus infinity. Those of NumPy's
    integers are exact: floats would round them beyond 2**53.
    """
    if not (arrays.has_values(x) and arrays.has_values(y)):
        return math.inf, -math.inf
    xp = arrays.array_namespace(x)
    lows: list[float] = []
    highs: list[float] = []
    for image in (x, y):
        if xp is np and image.dtype.kind in "iu":
            ends = np.iinfo(image.dtype)
            least, most = image.dtype.type(ends.min), image.dtype.type(ends.max)
            if image.size and (valid is None or valid.any()):
                lows.append(int((image if valid is None else np.where(valid, image, most)).min()))
                highs.append(int((image if valid is None else np.where(valid, image, least)).max()))
            continue
        # Not every library has a minimum of every integer dtype.
        image = image if xp is np else arrays.to_widest_float(arrays.without_gradient(image))
        low, high = float(xp.min(image)), float(xp.max(image))
        if valid is not None or not (math.isfinite(low) and math.isfinite(high)):
            finite = is_finite(image, xp)
            used = finite if valid is None else finite & valid
            values = arrays.to_widest_float(image)
            low = float(xp.min(arrays.where_valid(used, values, math.inf)))
            high = float(xp.max(arrays.where_valid(used, values, -math.inf)))
        lows.append(low)
        highs.append(high)
    return min(lows, default=math.inf), max(highs, default=-math.inf)


def in_another_unit(low: float, high: float, data_range: float) -> bool:
    """Whether values exceed the data range by more than the range itself.

    Resampled images and outputs of networks overshoot the range by less.
    """
    return high - low > 2 * data_range


def broken_pixels(*images: Array) -> Array:
    """Find the pixels, (height, width), that are NaN or infinite in any of some NumPy images.

    Channels, if there are any, are the last axis.
    """
    broken = False
    for image in images:
        finite = np.isfinite(image)
        broken = broken | ~(finite if finite.ndim == 2 else finite.all(axis=-1))
    return broken


def nan_scores(scores: Mapping[str, Any], used: Array | None) -> list[str]:
    """Name the metrics whose score is NaN although the mask uses a pixel; None: it uses all."""
    if used is not None and not used.any():
        return []
    return [name for name, score in scores.items() if math.isnan(score)]


def is_witnessed(result: Scores | Local | tuple[Scores, ...]) -> bool:
    """Whether the witness of a kernel proves that all pixels are finite."""
    witness = getattr(result, "witness", None)
    if witness is None:
        return False
    if witness.size == 1:  # for one pair, Python's check is faster than NumPy's
        return math.isfinite(witness.item())
    return bool(np.isfinite(witness).all())


def cleaned(images: Images) -> Images:
    """Replace NaN and infinities by zeros."""

    def clean(image: Array) -> Array:
        if arrays.is_tensor(image):
            return image.nan_to_num(0.0, 0.0, 0.0)
        return arrays.where_valid(is_finite(image, images.xp), image)

    return images._replace(x=clean(images.x), y=clean(images.y))


def positions_reading(pixels: Array, local: Local, depth: int | None) -> Array:
    """Find the positions of a map, (*batch, 1, rows, columns), that read any of some pixels."""
    xp = arrays.array_namespace(pixels)
    if local.reach is None:
        return xp.any(pixels, axis=(-2, -1), keepdims=True)
    sides = arrays.unstacked_shape(local.values.shape[-2:], local.depth)
    pixels = arrays.unstacked(pixels, depth)
    for axis in range(-len(sides), 0):
        length = pixels.shape[axis]
        before, after = local.reach_along(axis)
        places = xp.arange(sides[axis], device=arrays.device(pixels))
        own = local.margin_along(axis) + local.step * places
        # The sides may be symbols of torch.compile, which the standard's clip() does not take.
        ends = arrays.at_most(own + (after + 1), length), xp.clip(own - before, min=0)
        counts = arrays.running_sums(xp.astype(pixels, xp.int32), axis)
        until, since = (xp.take(counts, end, axis=axis) for end in ends)
        pixels = until > since
    return pixels if depth is None else arrays.stacked(pixels)


def prepared(images: Images, valid: Array | None, finite: Array | None) -> Pair:
    """Convert to floats, with zeros outside the mask and in place of NaN and infinities."""
    if finite is not None:
        images = cleaned(images)
    if images.xp is np and valid is not None:
        valid = np.ascontiguousarray(valid)  # its memory order sets the order of sums
    weights = None if images.weights is None else arrays.to_widest_float(images.weights)
    if images.xp is np and weights is not None:
        weights = np.ascontiguousarray(weights)
    x, y = (arrays.where_valid(valid, _as_float(image, images)) for image in (images.x, images.y))
    return images._replace(x=x, y=y, mask=valid, weights=weights)


def _as_float(image: Array, images: Images) -> Array:
    """Convert to the dtype of the arithmetic; NumPy arrays to C order, which sets that of sums."""
    if images.xp is np:
        return np.ascontiguousarray(image, dtype=images.dtype)
    return images.xp.astype(image, images.dtype, copy=False)


def computed(
    images: Images,
    valid: Array | None,
    formula: Callable[..., Any],
    kernel: Callable[..., Any] | None,
    options: dict[str, Any],
    by_pixel: bool,
    refusal: str | None,
) -> tuple[Any, Array | None]:
    """Return the result of the kernel, or else of the formula, and which pixels are finite.

    Pixels outside the mask count as finite; None: all pixels are. Without `by_pixel`, one value may
    stand for all pixels of a pair. Where there is no kernel, `refusal` is the message of an error.
    """
    result = finite = None
    if images.weights is not None and kernel is not None and not kernels.weighs(kernel):
        kernel = None
    if kernel is not None:
        result = kernel(images, valid, **options)
    if result is None and refusal is not None:
        raise OptionError(refusal, "set_engine('auto') computes it by the formula")
    if result is None:
        finite = (finite_pixels if by_pixel else finite_images)(images, valid)
        result = formula(prepared(images, valid, finite), **options)
    elif kernel is not None and not is_witnessed(result):
        if images.are_unchecked:  # what has no weight counts as inside a mask
            raise kernels.DoubtfulWeights
        finite = finite_pixels(images, valid)
        if finite is not None:
            # A kernel may spread NaN to other images and to positions that do not read it.
            # These must have the values that they have without it.
            images = cleaned(images)
            result = kernel(images, valid, **options)
        _compute_what_is_left(result, formula, images, valid, options)
    return result, finite


def _compute_what_is_left(
    result: Scores | Local | tuple[Scores, ...],
    formula: Callable[..., Any],
    images: Images,
    valid: Array | None,
    options: dict[str, Any],
) -> None:
    """Compute by the formula the elements of a batch that a kernel leaves to it."""
    parts: tuple[Any, ...] = result if type(result) is tuple else (result,)
    left = parts[0].left
    for place in [] if left is None else np.argwhere(left):
        index = tuple(place)
        x, y, mask, weights = (
            None if v is None else element(v, left.shape, index)
            for v in (images.x, images.y, valid, images.weights)
        )
        one = images._replace(x=x, y=y, weights=weights)
        found = formula(prepared(one, mask, None), **options)
        for part, again in zip(parts, found if type(found) is tuple else (found,), strict=True):
            part.values[index] = again.values


def subtracted(images: Images) -> Images:
    """Replace images of integers that no float holds by their difference and zeros."""
    x, y, dtype = images.x, images.y, images.dtype
    if images.xp is np and (
        x.dtype.kind == y.dtype.kind == "f" or max(x.dtype.itemsize, y.dtype.itemsize) <= 4
    ):
        return images  # the usual case, without the checks below
    if not (long_integers(x, dtype) or long_integers(y, dtype)):
        return images
    zeros = images.xp.zeros_like(y, dtype=dtype)
    return images._replace(x=exact_difference(x, y, dtype), y=zeros)
