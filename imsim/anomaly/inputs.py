"""Checks of the images and masks that the models of the workflow take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import imsim
from imsim.inputs import as_array

NOT_FINITE = "holds NaN or infinity: repair these pixels, or leave the image out"


def as_real(name: str, value: Any) -> NDArray[Any]:
    """Return an array of real numbers."""
    try:
        array = np.asarray(as_array(name, value))
    except imsim.ImsimError:
        raise
    except Exception as error:  # of another library that does not hand its values out
        raise imsim.DTypeError(f"{name} does not become a NumPy array: {error}") from error
    if array.dtype.kind not in "buif":
        raise imsim.DTypeError(
            f"{name} has dtype {array.dtype}; expected booleans, integers or real floats"
        )
    return array


def as_stack(name: str, value: Any) -> NDArray[Any]:
    """Return real images of shape (n, height, width)."""
    array = as_real(name, value)
    if array.ndim != 3 or 0 in array.shape:
        raise imsim.ShapeError(
            f"{name} has shape {array.shape}; expected a non-empty (n, height, width): "
            "for one image pass image[None], for colour images one channel"
        )
    if array.shape[2] in (3, 4) and min(array.shape[:2]) > array.shape[2]:
        raise imsim.ShapeError(
            f"{name} has shape {array.shape}, which looks like one colour image of (height, width, "
            "channels); expected grey ones, (n, height, width): pass one channel, or its mean"
        )
    return array


def check_images(
    images: Any, masks: Any = None, *, leave_out: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return images as float32, 0 outside their masks, and masks as booleans or None.

    Parameters
    ----------
    images : array_like, shape (n, height, width)
        Any real dtype; finite inside the masks.
    masks : array_like of bool, shape (n, height, width) or (height, width), optional
        True = use; by default every pixel is used.
    leave_out : bool
        Whether an image that is not finite inside its mask gets an empty one, or is refused.

    Returns
    -------
    images : float32 array, shape (n, height, width)
        Values outside the masks are 0, whatever they were, so that they cannot change any result.
    masks : bool array, shape (n, height, width), or None
        None if all pixels are used.

    Raises
    ------
    DTypeError
        If the images are not real numbers.
    ShapeError
        If the images are not of shape (n, height, width), or hold no pixel.
    MaskError
        If the masks do not fit, or a pixel inside them is NaN or infinite, as float32.
    """
    pixels = as_stack("images", images)
    used = None if masks is None else check_masks(masks, pixels.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # what became infinite is refused below
        values = pixels.astype(np.float32)
    if used is not None:
        if not used.all():
            values[~used] = 0
        else:
            used = None
    sound = np.isfinite(values).all(axis=(1, 2))
    if not sound.all():
        if leave_out:
            used = np.ones(values.shape, np.bool_) if used is None else used.copy()
            used[~sound] = values[~sound] = 0
            return values, used
        index = int(np.argmin(sound))
        where = "" if masks is None else " inside its mask"
        raise imsim.MaskError(
            f"images[{index}] holds NaN or infinity, or a number too large for float32,{where}: "
            "leave such pixels out, e.g. masks=numpy.isfinite(images)"
        )
    return values, used


def depth(images: NDArray[Any]) -> str:
    """Return what the numbers of images are: the name of the dtype, or "float"."""
    return "float" if images.dtype.kind == "f" else images.dtype.name


def filled(images: NDArray[Any], masks: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Give what is not finite outside the masks the value of the nearest finite pixel."""
    if masks is None or images.dtype.kind != "f":
        return images
    unsound = ~(np.isfinite(images) | masks)
    result = images.copy() if unsound.any() else images
    for i in np.flatnonzero(unsound.any(axis=(1, 2))):
        result[i] = images[i][nearest(unsound[i])]
    return result


def nearest(odd: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return row and column of the nearest pixel that is not odd, for every pixel."""
    rows, columns = ndimage.distance_transform_edt(odd, return_distances=False, return_indices=True)
    return rows, columns


def check_masks(masks: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return masks of the shape (n, height, width) of the images; see `check_images`."""
    try:
        used = np.asarray(as_array("masks", masks))
    except imsim.ImsimError:
        raise
    except Exception as error:
        raise imsim.MaskTypeError(f"masks do not become a NumPy array: {error}") from error
    if used.dtype != np.bool_:
        if used.dtype.kind not in "iu" or not np.isin(used, (0, 1)).all():
            raise imsim.MaskTypeError(
                f"masks has dtype {used.dtype}; expected booleans, True = use: pass e.g. masks > 0"
            )
        used = used.astype(np.bool_)
    if used.shape not in (tuple(shape), tuple(shape[1:])):
        raise imsim.MaskError(
            f"masks has shape {used.shape}; expected {tuple(shape)} like the images, "
            f"or {tuple(shape[1:])} for all of them"
        )
    return np.broadcast_to(used, shape)
