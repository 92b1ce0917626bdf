"""Checks of the images and masks that the models of the workflow take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim


def as_real(name: str, value: Any) -> NDArray[Any]:
    """Return an array of real numbers."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise imsim.ShapeError(
            f"{name} is no array: do all images have one size? {error}"
        ) from None
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
    return array


def check_images(
    images: Any, masks: Any = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return images as float32, 0 outside their masks, and masks as booleans or None.

    Parameters
    ----------
    images : array_like, shape (n, height, width)
        Any real dtype; finite inside the masks.
    masks : array_like of bool, shape (n, height, width) or (height, width), optional
        True = use; by default every pixel is used.

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
    if not np.isfinite(values).all():
        index = int(np.argmin(np.isfinite(values).all(axis=(1, 2))))
        where = "" if masks is None else " inside its mask"
        raise imsim.MaskError(
            f"images[{index}] holds NaN or infinity, or a number too large for float32,{where}: "
            "leave such pixels out, e.g. masks=numpy.isfinite(images)"
        )
    return values, used


def check_masks(masks: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return masks of the shape (n, height, width) of the images; see `check_images`."""
    used = np.asarray(masks)
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
