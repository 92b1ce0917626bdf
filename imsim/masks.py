"""The home of masks: True = use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from array_api_compat import is_numpy_array

from imsim import errors
from imsim.finite import is_finite
from imsim.inputs import as_array, check_meaning, check_real, to_namespace, to_numpy
from imsim.portable import arrays
from imsim.tensors import as_numpy
from imsim.typing import Array, ImageLike, MaskLike
from imsim.validation import AXES, Images, check_images, check_integer, warn_of_width


def check_mask(mask: MaskLike | None, images: Images) -> Array | None:
    """Return the mask as booleans of shape (*batch, 1, height, width)."""
    if mask is None:
        return None
    xp = images.xp
    array = _as_boolean(beside("mask", images.x, as_array("mask", mask), xp), xp)
    return of_images("mask", array, images, errors.MaskError)


def of_images(name: str, array: Array, images: Images, error: type[errors.ImsimError]) -> Array:
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
        arrays.broadcast(shape[:-ndim], images.batch_shape)
    except ValueError as problem:
        raise error(
            f"{name} has shape {shape}, the batch has shape {images.batch_shape}",
            "their batch axes do not broadcast",
        ) from problem
    return (array if images.depth is None else arrays.stacked(array))[..., None, :, :]


def batch_of(images: Images, valid: Array | None) -> tuple[int, ...]:
    """Return the shape of a batch; a mask may have more batch axes than the images."""
    return (
        images.batch_shape
        if valid is None
        else arrays.broadcast(images.batch_shape, valid.shape[:-3])
    )


def beside(name: str, image: Array, array: Array, xp: Any) -> Array:
    """Bring a mask, or weights, to the library of the images; between devices nothing is moved."""
    own = arrays.array_namespace(array)
    if own is not xp:
        check_real(name, array)
        array = array if own is np else to_numpy(name, array)
        return array if xp is np else to_namespace(name, array, xp, arrays.device(image))
    own_device, other = (None if xp is np else arrays.device(v) for v in (array, image))
    # An array that is only traced may have no device.
    if own_device != other and own_device is not None and other is not None:
        error = errors.MaskError if name == "mask" else errors.WeightsError
        raise error(f"{name} is on {own_device}, the images are on {other}", "move one")
    return array


def _as_boolean(array: Array, xp: Any) -> Array:
    """Cast the integers 0 and 1; refuse everything else that is not boolean."""
    remedy = "pass booleans, True = use, e.g. mask=(labels > 0), or numbers as weights="
    if array.dtype == xp.bool:
        return array
    try:
        is_integral = xp.isdtype(array.dtype, "integral")
    except TypeError:  # of a dtype that is no NumPy's own, such as bfloat16, or of text
        is_integral = False
    if not is_integral:
        raise errors.MaskTypeError(f"mask has dtype {array.dtype}", remedy)
    boolean = array == 1
    if arrays.is_compiling():
        raise errors.MaskTypeError(f"mask has dtype {array.dtype}, and is only traced", remedy)
    try:
        is_binary = bool(xp.all(boolean | (array == 0)))
    except (TypeError, RuntimeError) as error:
        raise errors.MaskTypeError(
            f"mask has dtype {array.dtype}, and is only traced", remedy
        ) from error
    if not is_binary:
        other = array[~boolean & (array != 0)] if is_numpy_array(array) else None
        found = "" if other is None else f", such as {other[0]}"
        raise errors.MaskTypeError(f"mask holds integers other than 0 and 1{found}", remedy)
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

    Warns
    -----
    ChannelAxisWarning
        If the last axis looks like channels that no `channel_axis` names.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> a = np.ones((2, 2)); b = np.array([[1.0, np.nan], [3.0, 1.0]])
    >>> float(imsim.se(a, b, mask=imsim.finite_mask(a, b)))
    4.0
    """
    images = check_images(a, b, data_range=None, channel_axis=channel_axis, ndim=ndim)
    warn_of_width(images)
    xp = images.xp
    finite = xp.all(is_finite(images.x, xp) & is_finite(images.y, xp), axis=-3)
    return arrays.unstacked(finite, images.depth)


MOST_COORDINATE = 2.0**31
"""Largest coordinate of a vertex, in pixels: edges keep their place to a small part of a pixel."""


def polygon_mask(shape: tuple[int, int], vertices: Any) -> Array:
    """Build the mask of a polygon, such as an annotated region.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the images.
    vertices : array_like, shape (n, 2), or list of these
        The vertices in order, each as (row, column); the last one is joined to the first. The
        centre of the pixel in row i and column j is at (i, j). The mask of a list of polygons is
        their union. A vertex may lie outside of the frame, up to 2^31 pixels from its corner.

    Returns
    -------
    array of bool, shape (height, width)
        True for the pixels whose centres lie inside a polygon or on its edge. What a polygon covers
        twice is outside, and so is a centre where two of its edges cross.

    Raises
    ------
    ShapeError
        If `shape` is not a height and a width, or `vertices` is not a list of points.
    OptionError
        If a side is no integer from 1 to 2^31.
    MaskError
        If a polygon has fewer than three vertices, or a coordinate is not finite or too large.

    Warns
    -----
    EmptyMaskWarning
        If the mask is empty: the polygons cover no centre of a pixel of the frame.

    Notes
    -----
    Annotation tools such as labelme write points as (x, y), and count from the corner of the first
    pixel: pass ``numpy.array(points)[:, ::-1] - 0.5``.

    Examples
    --------
    >>> import imsim
    >>> print(imsim.polygon_mask((4, 6), [(0, 1), (0, 4), (3, 1)]).astype(int))
    [[0 1 1 1 1 0]
     [0 1 1 1 0 0]
     [0 1 1 0 0 0]
     [0 1 0 0 0 0]]
    """
    from skimage.draw import polygon2mask  # slow to import

    if not isinstance(shape, Sequence) or len(shape) != 2:
        raise errors.ShapeError(f"shape={shape!r}", "expected the height and width of the images")
    for name, side in zip(("height", "width"), shape, strict=True):
        check_integer(f"the {name} in shape", side, 1, int(MOST_COORDINATE))
    check_meaning("vertices", vertices)
    is_one = _depth(vertices) == 2
    polygons = {"vertices": vertices} if is_one else _named(vertices)
    mask = np.zeros(shape, np.bool_)
    for name, polygon in polygons.items():
        mask |= polygon2mask(mask.shape, _checked_polygon(name, polygon))  # type: ignore[no-untyped-call]
    if not mask.any():
        errors.warn(
            "vertices: no centre of a pixel of the frame is inside, so that the mask is empty; "
            "a vertex is (row, column), not (x, y)",
            errors.EmptyMaskWarning,
        )
    return mask


def _depth(values: Any) -> int:
    """Count the axes of an array, or the lists inside each other down to the first number."""
    if isinstance(values, list | tuple):
        return 1 + (_depth(values[0]) if values else 0)
    shape = getattr(values, "shape", ())
    return len(shape) if isinstance(shape, tuple) else 0


def _named(polygons: Any) -> dict[str, Any]:
    if _depth(polygons) != 3:
        raise errors.ShapeError(
            "vertices is no list of points", "expected (row, column) of each, or a list of polygons"
        )
    return {f"vertices[{k}]": polygon for k, polygon in enumerate(polygons)}


def _checked_polygon(name: str, vertices: Any) -> Array:
    array = np.asarray(as_numpy(name, vertices), np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise errors.ShapeError(
            f"{name} has shape {array.shape}", "expected (row, column) of each vertex"
        )
    if len(array) < 3:
        raise errors.MaskError(f"{name} has {len(array)} vertices", "a polygon needs at least 3")
    if not np.isfinite(array).all():
        raise errors.MaskError(
            f"{name} has coordinates that are not finite", "leave these vertices out"
        )
    if (largest := np.abs(array).max()) > MOST_COORDINATE:  # scikit-image would find no pixel
        raise errors.MaskError(
            f"{name} has a coordinate of size {largest:g}, and none may exceed {MOST_COORDINATE:g}",
            "clip the polygon to the frame",
        )
    return array
