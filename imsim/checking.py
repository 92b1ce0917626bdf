"""Checks of what a metric is given: images, mask, weights, and their sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from imsim import errors
from imsim.masks import check_mask
from imsim.portable.arrays import has_values
from imsim.portable.differences import long_integers, rounding_error
from imsim.registry import METRICS, Metric
from imsim.typing import Array, ImageLike, MaskLike
from imsim.validation import CHANNEL_HINT, SLICES_HINT, Images, check_frame, check_images
from imsim.weights import check_weights

LeastSide = int | tuple[int, ...] | Callable[[int, int], int]
"""Pixels that each side needs: one number, one for each side, or a function of height and width."""


def check(
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None,
    weights: MaskLike | None,
    data_range: float | None,
    channel_axis: int | None,
    ndim: int = 2,
) -> tuple[Images, Array | None]:
    """Refuse input that is wrong for every metric; return the checked images and mask."""
    images = check_images(a, b, data_range=data_range, channel_axis=channel_axis, ndim=ndim)
    return check_weights(weights, images, check_mask(mask, images))


def check_for(
    facts: Metric,
    given: tuple[Any, ...],
    channel_axis: int | None,
    ndim: int,
    needs_data_range: bool | None,
    least_side: LeastSide,
    *,
    by_kernel: bool,
    leaves_check: Callable[[], bool] | None = None,
) -> tuple[Images, Array | None]:
    """Check a, b, mask, data range and weights for one metric; return the images and the mask.

    The record says whether the metric needs the data range, unless `needs_data_range` does. The
    last two say how the weights are checked, see `check_weights`.
    """
    a, b, mask, data_range, *others = given
    weights = others[0] if others else None
    if ndim == 3 and not facts.volumes:
        raise errors.OptionError(
            f"{facts.name} is defined for images only, not for volumes (ndim=3)", SLICES_HINT
        )
    needed = facts.needs_data_range if needs_data_range is None else needs_data_range
    needed_by = facts.name if needed else None
    images = check_images(
        a, b, data_range=data_range, channel_axis=channel_axis, needed_by=needed_by, ndim=ndim
    )
    valid = check_mask(mask, images)
    if weights is not None:
        if facts.no_weights:
            raise errors.OptionError(
                f"weights= is not defined for {facts.name}: {facts.no_weights}",
                "pass mask=, e.g. mask=(weights > 0)",
            )
        images, valid = check_weights(
            weights, images, valid, by_kernel=by_kernel, leaves_check=leaves_check
        )
    if callable(least_side):
        least_side = least_side(*images.frame)
    check_frame(facts.name, images.sides, least_side, facts.least_longer_side)
    return images, valid


def check_on_host(function: str, images: Images) -> None:
    """Refuse what is not in the memory of the host, for a function that takes nothing else."""
    if images.xp is not np:
        raise errors.DTypeError(
            f"{function} takes NumPy arrays, and tensors of PyTorch and JAX on the CPU that are "
            "neither traced nor ask for a gradient",
            "convert a and b with numpy.asarray, tensors of PyTorch after .detach().cpu()",
        )


def check_single(function: str, images: Images, valid: Array | None = None) -> None:
    """Refuse what is not one pair in the memory of the host, for a function that takes no other."""
    check_on_host(function, images)
    if max(images.x.ndim, images.y.ndim) > 3:
        batch = " and ".join(str(v.shape[:-3]) for v in (images.x, images.y))
        of_volumes = ", with ndim=3 if these are volumes" if images.depth is None else ""
        raise errors.ShapeError(
            f"a and b have batch axes, {batch}, and {function} takes one pair of images",
            f"call it for each pair{of_volumes}; {CHANNEL_HINT}",
        )
    if valid is not None and valid.ndim > 3:
        raise errors.MaskError(
            f"mask has batch axes, {valid.shape[:-3]}, and {function} takes one pair of images",
            "pass a mask without batch axes",
        )


def warn_of_rounding(images: Images, valid: Array | None) -> None:
    """Warn of integers inside the mask that the floats of the metrics do not hold.

    Nothing is awaited for it. Metrics of differences have no need of it: these are exact.
    """
    if not has_long_integers(images) or errors.is_silent(errors.PrecisionWarning):
        return
    if any(_is_rounded(image, images, valid) for image in (images.x, images.y)):
        exact = ", ".join(name for name, facts in METRICS.items() if facts.of_differences)
        errors.warn(
            "integers inside the mask have more digits than "
            f"float{images.xp.finfo(images.dtype).bits} and were rounded to it; subtract from both "
            "images what they have in common, or take a metric of their differences, which is "
            f"exact: {exact}",
            errors.PrecisionWarning,
        )


def has_long_integers(images: Images) -> bool:
    """Whether an image holds integers that may have more digits than floats."""
    if images.xp is np and max(images.x.dtype.itemsize, images.y.dtype.itemsize) <= 4:
        return False  # the usual case
    return any(long_integers(image, images.dtype) for image in (images.x, images.y))


def _is_rounded(image: Array, images: Images, valid: Array | None) -> bool:
    """Whether an image has values inside the mask that no float holds, if they are known."""
    xp, dtype, weights = images.xp, images.dtype, images.weights
    if not long_integers(image, dtype):
        return False
    if not all(has_values(v) for v in (image, valid, weights) if v is not None):
        return False
    largest = 2 / xp.finfo(dtype).eps
    if int(xp.min(image)) >= -largest and int(xp.max(image)) <= largest:
        return False
    is_rounded = rounding_error(image, dtype) != 0
    for inside in (valid, None if weights is None else weights > 0):
        is_rounded = is_rounded if inside is None else is_rounded & inside
    return bool(xp.any(is_rounded))
