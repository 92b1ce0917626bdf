"""The kernel or the formula of a metric, run on checked input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from imsim import kernels
from imsim.errors import OptionError
from imsim.finite import cleaned, finite_images, finite_pixels, is_witnessed, prepared
from imsim.portable.differences import exact_difference, long_integers
from imsim.portable.pair import Local, Scores
from imsim.typing import Array
from imsim.validation import Images, element


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
