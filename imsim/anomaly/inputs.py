"""Checks of the images and masks that the models of the workflow take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim


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
    pixels = np.asarray(images)
    if pixels.dtype.kind not in "buif":
        raise imsim.DTypeError(
            f"images has dtype {pixels.dtype}; expected booleans, integers or real floats"
        )
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise imsim.ShapeError(
            f"images has shape {pixels.shape}; expected a non-empty (n, height, width): "
            "for one image pass image[None], for colour images one channel at a time"
        )
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
