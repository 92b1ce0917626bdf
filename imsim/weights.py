"""Weights of pixels: their check, their unit, and the mask that takes the place of equal ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from imsim import kernels
from imsim.errors import WeightsError
from imsim.inputs import as_array, check_real
from imsim.masks import beside, of_images
from imsim.portable import arrays
from imsim.portable.pair import Scores
from imsim.portable.units import PER_CHANNEL, scaling_unit
from imsim.typing import Array, MaskLike
from imsim.validation import Images

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
        kept = np.ascontiguousarray(arrays.where_valid(mask, array))
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
    if not arrays.has_values(array):
        return _unchecked(array, images, mask)
    surveyed = _surveyed(array, mask) if xp is np and by_kernel else None
    if surveyed is not None:
        array, valid, largest, are_even = surveyed
        if largest.size == 1 and not are_even and 1 / ORDINARY < largest < ORDINARY:
            return images._replace(weights=array), valid  # the usual case, without what follows
    else:
        array = arrays.where_valid(mask, array)
        largest = xp.max(arrays.without_gradient(array), axis=PER_CHANNEL, keepdims=True)
        _check_values(float(xp.min(arrays.without_gradient(array))), float(xp.max(largest)))
        valid = _that_count(array, largest)
        array = arrays.where_valid(valid, array)
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
    array = arrays.where_valid(mask, array)
    largest = xp.max(arrays.without_gradient(array), axis=PER_CHANNEL, keepdims=True)
    allowed = xp.all(xp.isfinite(array) & (array >= 0), axis=PER_CHANNEL, keepdims=True)
    unit = arrays.where_valid(allowed, _unit_of(largest), 1.0)
    valid = _that_count(array, largest) & allowed  # none of an image whose weights are not allowed
    return _weighted(images, arrays.where_valid(valid, array), unit), valid


def _unit_of(largest: Array) -> Array:
    """Return a power of four, whose root is exact too: scores by its multiples have equal bits."""
    # Half of it: the root of the largest float would be rounded up to a power whose square is none.
    root = arrays.array_namespace(largest).sqrt(largest / 2)
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
        return arrays.to_widest_float(array)
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
    return images._replace(weights=weights, weight_unit=arrays.to_widest_float(unit)[..., 0, 0])


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
