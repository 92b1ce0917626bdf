"""The home of masks: True = use."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from array_api_compat import is_numpy_array

from imsim.errors import ImsimError, MaskError, MaskTypeError, WeightsError
from imsim.finite import is_finite
from imsim.inputs import as_array, check_real, to_namespace, to_numpy
from imsim.portable.arrays import array_namespace, broadcast, device, is_compiling
from imsim.portable.volumes import stacked, unstacked
from imsim.typing import Array, ImageLike, MaskLike
from imsim.validation import AXES, Images, check_images


def check_mask(mask: MaskLike | None, images: Images) -> Array | None:
    """Return the mask as booleans of shape (*batch, 1, height, width)."""
    if mask is None:
        return None
    xp = images.xp
    array = _as_boolean(beside("mask", images.x, as_array("mask", mask), xp), xp)
    return of_images("mask", array, images, MaskError)


def of_images(name: str, array: Array, images: Images, error: type[ImsimError]) -> Array:
    """View a mask, or weights, as (*batch, 1, height, width); refuse shapes that do not fit."""
    shape = tuple(array.shape)
    sides = images.sides
    ndim = len(sides)
    if shape[-ndim:] != sides or 0 in shape:
        raise error(
            f"{name} has shape {shape}, the images are {'x'.join(map(str, sides))} pixels",
            f"expected ({', '.join(AXES[-ndim:])}), or batch axes before these (no channel axis)",
        )
    try:
        broadcast(shape[:-ndim], images.batch_shape)
    except ValueError as problem:
        raise error(
            f"{name} has shape {shape}, the batch has shape {images.batch_shape}",
            "their batch axes do not broadcast",
        ) from problem
    return (array if images.depth is None else stacked(array))[..., None, :, :]


def beside(name: str, image: Array, array: Array, xp: Any) -> Array:
    """Bring a mask, or weights, to the library of the images; between devices nothing is moved."""
    own = array_namespace(array)
    if own is not xp:
        check_real(name, array)
        array = array if own is np else to_numpy(name, array)
        return array if xp is np else to_namespace(name, array, xp, device(image))
    own_device, other = (None if xp is np else device(v) for v in (array, image))
    # An array that is only traced may have no device.
    if own_device != other and own_device is not None and other is not None:
        error = MaskError if name == "mask" else WeightsError
        raise error(f"{name} is on {own_device}, the images are on {other}", "move one")
    return array


def _as_boolean(array: Array, xp: Any) -> Array:
    """Cast the integers 0 and 1; refuse everything else that is not boolean."""
    remedy = "pass booleans, True = use, e.g. mask=(labels > 0), or numbers as weights="
    if array.dtype == xp.bool:
        return array
    if (
        array.dtype.kind not in "iu"
        if is_numpy_array(array)
        else (not xp.isdtype(array.dtype, "integral"))
    ):
        raise MaskTypeError(f"mask has dtype {array.dtype}", remedy)
    boolean = array == 1
    if is_compiling():
        raise MaskTypeError(f"mask has dtype {array.dtype}, and is only traced", remedy)
    try:
        is_binary = bool(xp.all(boolean | (array == 0)))
    except (TypeError, RuntimeError) as error:
        raise MaskTypeError(f"mask has dtype {array.dtype}, and is only traced", remedy) from error
    if not is_binary:
        raise MaskTypeError("mask holds integers other than 0 and 1", remedy)
    return boolean


def finite_mask(
    a: ImageLike, b: ImageLike, *, channel_axis: int | None = None, ndim: Literal[2, 3] = 2
) -> Array:
    """Build the mask of the pixels that are finite in both images.

    Metrics propagate NaN and infinities; this mask leaves them out.

    Parameters
    ----------
    a, b : array_like, shape (..., height, width)
        Images or batches of images, whose leading axes broadcast.
    channel_axis : int, optional
        The axis that holds channels; a pixel is finite if it is so in every channel.
    ndim : {2, 3}
        Axes of an image, or of a volume.

    Returns
    -------
    array of bool, shape (..., height, width)
        True where both images are finite.

    Raises
    ------
    ShapeError, DTypeError
        If the images do not fit together or are not real numbers.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> a = np.ones((2, 2)); b = np.array([[1.0, np.nan], [3.0, 1.0]])
    >>> float(imsim.se(a, b, mask=imsim.finite_mask(a, b)))
    4.0
    """
    images = check_images(a, b, data_range=None, channel_axis=channel_axis, ndim=ndim)
    xp = images.xp
    finite = xp.all(is_finite(images.x, xp) & is_finite(images.y, xp), axis=-3)
    return unstacked(finite, images.depth)
