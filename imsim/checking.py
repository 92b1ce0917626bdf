"""Checks of what a metric is given: images, mask and sizes; the home of the weights of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from imsim import kernels
from imsim.errors import (
    ChannelAxisWarning,
    DTypeError,
    MaskError,
    OptionError,
    PrecisionWarning,
    ShapeError,
    WeightsError,
    is_silent,
    warn,
)
from imsim.inputs import as_array, check_real
from imsim.masks import beside, check_mask, of_images
from imsim.portable.arrays import (
    array_namespace,
    has_values,
    to_widest_float,
    where_valid,
    without_gradient,
)
from imsim.portable.differences import long_integers, rounding_error
from imsim.portable.pair import Scores
from imsim.portable.units import PER_CHANNEL, scaling_unit
from imsim.registry import METRICS, Metric
from imsim.typing import Array, ImageLike, MaskLike
from imsim.validation import CHANNEL_HINT, Images, check_frame, check_images

LEAST = 2.0**-104
"""Share of the largest weight below which a weight counts as 0: the square of the rounding error.
Products of weights then stay in range, and no score changes by as much as its rounding error."""
UNSCALED = 128
"""Weights up to this root of the largest float, 256 for float64, keep their unit."""
SAMPLE = 512
"""Weights, about, that tell whether all may be equal."""
ORDINARY = 2.0
"""Weights up to this number keep their unit in either precision."""


def check_weights(
    weights: MaskLike | None,
    images: Images,
    mask: Array | None,
    *,
    by_kernel: bool = False,
    leaves_check: Callable[[], bool] | None = None,
) -> tuple[Images, Array | None]:
    """Return the images with their weights, and the mask of the pixels that have one.

    Equal weights are dropped: the mask says as much. Weights that are only traced cannot be
    checked: those that are not allowed make the scores NaN. `leaves_check` says whether a kernel,
    which reads the weights anyway, checks weights that differ. It is called for NumPy arrays only:
    torch.compile cannot follow how a kernel is loaded.
    """
    if weights is None:
        return images, mask
    xp = images.xp
    array = beside("weights", images.x, as_array("weights", weights), xp)
    check_real("weights", array)
    array = of_images("weights", array, images, WeightsError)
    array = _as_floats(array, images)
    of_mask = mask is None or mask.shape == array.shape
    if leaves_check is not None and xp is np and of_mask and leaves_check():
        kept = np.ascontiguousarray(where_valid(mask, array))
        has_own_axes = array.ndim > max(images.x.ndim, images.y.ndim)
        if not has_own_axes and _differ(kept):
            return images._replace(weights=kept, are_unchecked=True), mask
    return checked_weights(images, array, mask, by_kernel=by_kernel)


def _differ(array: Array) -> bool:
    """Whether it is certain that weights of one image are positive and differ."""
    if array.size != array.shape[-1] * array.shape[-2]:
        return False
    some = array.reshape(-1)[:: array.size // SAMPLE | 1]  # odd: mostly not of one column alone
    some = some[some > 0]
    return some.size > 0 and bool(some.min() < some.max())


def checked_weights(
    images: Images, array: Array, mask: Array | None, *, by_kernel: bool
) -> tuple[Images, Array | None]:
    """Check weights, floats of the shape of the images; return images with them, and the mask."""
    xp, images = images.xp, images._replace(are_unchecked=False)
    if not has_values(array):
        return _unchecked(array, images, mask)
    surveyed = _surveyed(array, mask) if xp is np and by_kernel else None
    if surveyed is not None:
        array, valid, largest, are_even = surveyed
        if largest.size == 1 and not are_even and 1 / ORDINARY < largest < ORDINARY:
            return images._replace(weights=array), valid  # the usual case, without what follows
    else:
        array = where_valid(mask, array)
        largest = xp.max(without_gradient(array), axis=PER_CHANNEL, keepdims=True)
        _check_values(float(xp.min(without_gradient(array))), float(xp.max(largest)))
        valid = _that_count(array, largest)
        array = where_valid(valid, array)
        are_even = xp.all(~valid | (array == largest), axis=PER_CHANNEL, keepdims=True)
    unit = xp.where(are_even & (largest > 0), largest, _unit_of(largest))
    if bool(xp.all(are_even)):
        return _weighted(images, None, unit), valid
    some = xp is np and bool(xp.any(are_even))
    even = are_even[..., 0, 0] if some else None
    return _weighted(images, array, unit)._replace(even_weights=even), valid


def _unchecked(array: Array, images: Images, mask: Array | None) -> tuple[Images, Array]:
    """Return images with weights that are only traced; NaN for those that are not allowed."""
    xp = images.xp
    array = where_valid(mask, array)
    largest = xp.max(without_gradient(array), axis=PER_CHANNEL, keepdims=True)
    allowed = xp.all(xp.isfinite(array) & (array >= 0), axis=PER_CHANNEL, keepdims=True)
    unit = where_valid(allowed, _unit_of(largest), math.nan)
    valid = _that_count(array, largest)
    return _weighted(images, where_valid(valid, array), unit), valid


def _unit_of(largest: Array) -> Array:
    """Return a power of four, whose root is exact too: scores by its multiples have equal bits."""
    # Half of it: the root of the largest float would be rounded up to a power whose square is none.
    root = array_namespace(largest).sqrt(largest / 2)
    return scaling_unit(root, root=2 * UNSCALED) ** 2


def _that_count(array: Array, largest: Array) -> Array:
    """Find the weights that do not count as 0."""
    return array > largest * LEAST  # not >=: of the smallest numbers, the product is 0


def _surveyed(array: Array, mask: Array | None) -> tuple[Array, ...] | None:
    """Return weights, where they count, the largest ones, and which are equal, by a kernel.

    None if the kernel leaves that to arrays: some weight is not allowed or does not count, or the
    mask broadcasts.
    """
    survey = kernels.loaded(_survey)
    found = None if survey is None else survey(array, mask)
    if found is None or not (found.least > found.largest * LEAST).all():
        return None
    is_even = (found.least == found.largest) | (found.largest == 0)
    return found.kept, found.valid, found.largest, is_even


def _survey() -> Any:
    from imsim.kernels.common.rescaling import survey  # slow to import, as Numba is

    return survey


def _as_floats(array: Array, images: Images) -> Array:
    """Convert weights to floats; NumPy's to float32 or float64, which kernels read."""
    if images.xp is not np:
        return to_widest_float(array)
    if array.dtype in (np.float32, np.float64):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):  # told as infinities
        return array.astype(np.float64)


def _check_values(least: float, largest: float) -> None:
    """Refuse weights that are negative or not finite; both ends are NaN if a weight is."""
    if math.isnan(least) or math.isinf(largest):
        raise WeightsError(
            "weights holds NaN or infinities inside the mask",
            "expected finite numbers, 0 for pixels to leave out",
        )
    if least < 0:
        raise WeightsError(
            f"weights holds negative numbers, the least is {least:g}",
            "expected numbers >= 0, 0 for pixels to leave out",
        )


def _weighted(images: Images, weights: Array | None, unit: Array) -> Images:
    """Return the images with weights, in a unit, so that sums of these stay in range."""
    if images.xp is np and (unit == 1).all():
        return images._replace(weights=weights)
    if weights is not None:
        weights = weights / unit
    return images._replace(weights=weights, weight_unit=to_widest_float(unit)[..., 0, 0])


def in_unit(result: Any, unit: Array, power: float) -> Any:
    """Multiply the values of scores, or of a map, by a power of the unit of the weights."""
    unit = unit if isinstance(result, Scores) else unit[..., None, None]
    return result._replace(values=result.values * (unit if power == 1 else unit**power))


def evened(weighted: Any, masked: Any, even: Array) -> Any:
    """Take scores, or a map, by the mask alone for those elements whose weights are equal.

    A kernel has computed them as it does for a single pair, even if it leaves the other elements to
    the formula.
    """
    if isinstance(weighted, Scores):
        values = np.where(even, masked.values, weighted.values)
        return weighted._replace(
            values=values, scored=np.where(even, masked.scored, weighted.scored)
        )
    return weighted._replace(values=np.where(even[..., None, None], masked.values, weighted.values))


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
        raise OptionError(
            f"ndim=3, but {facts.name} is defined for images only",
            f"imsim.by_slice({facts.name!r}, a, b) scores the slices of volumes",
        )
    needed = facts.needs_data_range if needs_data_range is None else needs_data_range
    needed_by = facts.name if needed else None
    images = check_images(
        a, b, data_range=data_range, channel_axis=channel_axis, needed_by=needed_by, ndim=ndim
    )
    valid = check_mask(mask, images)
    if weights is not None:
        if facts.no_weights:
            raise OptionError(
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
        raise DTypeError(
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
        raise ShapeError(
            f"a and b have batch axes, {batch}, and {function} takes one pair of images",
            f"call it for each pair{of_volumes}; {CHANNEL_HINT}",
        )
    if valid is not None and valid.ndim > 3:
        raise MaskError(
            f"mask has batch axes, {valid.shape[:-3]}, and {function} takes one pair of images",
            "pass a mask without batch axes",
        )


def warn_of_rounding(images: Images, valid: Array | None) -> None:
    """Warn of integers inside the mask that the floats of the metrics do not hold.

    Nothing is awaited for it. Metrics of differences have no need of it: these are exact.
    """
    if not has_long_integers(images) or is_silent(PrecisionWarning):
        return
    if any(_is_rounded(image, images, valid) for image in (images.x, images.y)):
        exact = ", ".join(name for name, facts in METRICS.items() if facts.of_differences)
        warn(
            "integers inside the mask have more digits than "
            f"float{images.xp.finfo(images.dtype).bits} and were rounded to it; subtract from both "
            "images what they have in common, or take a metric of their differences, which is "
            f"exact: {exact}",
            PrecisionWarning,
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


def warn_of_width(images: Images) -> None:
    """Warn of a batch whose width looks like channels; `compare` does so once for all metrics."""
    is_batch = images.x.ndim + images.y.ndim > 6
    if images.has_channels or images.depth is not None or not is_batch:
        return
    height, width = images.frame
    if width in (3, 4) and height > width:
        warn(
            f"the last axis, of {width}, was taken for the width of images in a batch; "
            "if it holds channels, name it: channel_axis=-1",
            ChannelAxisWarning,
        )
