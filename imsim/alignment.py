"""Small shifts between two images: found, and taken out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from imsim import tensors, validation
from imsim.errors import DTypeError, MaskError, ShapeError
from imsim.inputs import on_common_namespace, to_namespace, to_numpy
from imsim.masks import check_mask
from imsim.portable.arrays import (
    device,
    has_values,
    is_compiling,
    outside_graphs,
    without_gradient,
)
from imsim.shifts import Scene, find_shift, moved, translated
from imsim.typing import Array, ImageLike, MaskLike

SNAP = 0.02
"""Pixels within which a shift is taken for whole: interpolation would cost more than it gains."""


class Alignment(NamedTuple):
    """An image moved onto its reference.

    Attributes
    ----------
    image : array
        The moved image, of the height and width of the reference, in its own dtype. It is NaN, or
        0 in dtypes without NaN, where the image has no pixels.
    valid : array of bool, shape (height, width)
        Where both images can be compared, to be passed on as ``mask=``.
    shift : tuple of float
        By how many pixels the image was moved, (down, right).
    """

    image: Array
    valid: Array
    shift: tuple[float, float]


def align(
    a: ImageLike,
    b: ImageLike,
    mask: MaskLike | None = None,
    *,
    max_shift: int = 8,
    subpixel: bool = True,
    channel_axis: int | None = None,
) -> Alignment:
    """Move an image by a small shift, so that it lies on its reference.

    Parameters
    ----------
    a, b : array_like, shape (height, width)
        Reference and test image, one pair. They may differ in size; their first pixels lie on each
        other at shift (0, 0). Their brightness and contrast may differ.
    mask : array_like of bool, shape (height, width) of `a`, optional
        True = use, in both images. Pixels outside influence no bit of the shift, nor of the image
        where it is valid. What a larger `b` has beyond the frame of `a` is used.
    max_shift : int
        Largest shift along each axis, in whole pixels; a shift beyond it is an error.
    subpixel : bool
        Whether to find fractions of pixels, and interpolate. False moves by whole pixels only.
    channel_axis : int, optional
        The axis that holds channels. All channels have one shift.

    Returns
    -------
    Alignment
        The moved `image`, in the dtype of `b`; `valid`, the pixels inside the mask whose place in
        `b` lies on, or between, pixels inside the mask; and the `shift`, (dy, dx): the pixel of
        `b` in row i and column j lies at (i + dy, j + dx) now. Image and mask are arrays of the
        library of the images.

        A shift of whole pixels copies them, to the bit. A shift within 0.02 pixels of a whole one
        along an axis is taken for it. Otherwise, pixels are interpolated: integers are rounded,
        booleans are True from 0.5 on.

    Raises
    ------
    AlignmentError
        If no shift can be told (the images are constant, or have too little structure in common,
        or too little along one direction, such as stripes), or the best one is beyond `max_shift`.
        If one was found, it is in the attribute `shift`. Images that are equal as they are, such
        as two blank pages, have the shift (0, 0), whatever they show.
    ShapeError, DTypeError, MaskError, OptionError
        If the input is not one pair of images, the mask does not fit, or an option has no meaning.

    Notes
    -----
    The whole-pixel shift is that of the most significant peak of the masked normalised
    correlation [1]_, up to 64 pixels or four times `max_shift`. Of several that are as good, as in
    a periodic pattern, it is the smallest. From there, Gauss-Newton steps
    with the slopes of `a` [2]_ lead to where these are uncorrelated with what is left of `b`
    besides `a`, so that noise draws to no whole or half pixel. Heights and slopes are those of
    planes fitted around each pixel to what is used there [3]_. Interpolation is cubic convolution
    of fourth order, of six pixels in a row [4]_; those outside the mask are replaced by the
    nearest inside.

    NaN and infinite pixels have no influence on the shift. They are no mask: in the moved image
    they are valid, and so is NaN that is interpolated from them; `finite_mask` leaves them out.
    Tensors are aligned on the host, and no gradient passes.

    References
    ----------
    .. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Transactions on
       Image Processing 21(5), 2706-2718, 2012, https://doi.org/10.1109/TIP.2011.2181402
    .. [2] S. Baker and I. Matthews, "Lucas-Kanade 20 years on: a unifying framework",
       International Journal of Computer Vision 56, 221-255, 2004,
       https://doi.org/10.1023/B:VISI.0000011205.11775.fd
    .. [3] H. Knutsson and C.-F. Westin, "Normalized and differential convolution", IEEE Conference
       on Computer Vision and Pattern Recognition, 515-523, 1993,
       https://doi.org/10.1109/CVPR.1993.341081
    .. [4] R. G. Keys, "Cubic convolution interpolation for digital image processing", IEEE
       Transactions on Acoustics, Speech, and Signal Processing 29(6), 1153-1160, 1981,
       https://doi.org/10.1109/TASSP.1981.1163711

    Examples
    --------
    >>> import numpy as np, imsim
    >>> from skimage import data
    >>> scene = data.camera()
    >>> a, b = scene[100:200, 100:200], scene[98:198, 103:203]
    >>> moved = imsim.align(a, b)
    >>> moved.shift
    (-2.0, 3.0)
    >>> float(imsim.rmse(a, moved.image, mask=moved.valid))
    0.0
    """
    validation.check_integer("max_shift", max_shift, 0)
    validation.check_flag("subpixel", subpixel)
    if is_compiling():
        own: dict[str, Any] = {"max_shift": max_shift, "channel_axis": channel_axis}
        return outside_graphs(align)(a, b, mask, subpixel=subpixel, **own)
    images = _one_pair(a, b, channel_axis)
    valid = check_mask(mask, images)
    if valid is not None and valid.ndim != 3:
        raise MaskError(f"mask has {valid.ndim - 1} axes", "expected (height, width)")
    x, y = (_on_host(name, v) for name, v in (("a", images.x), ("b", images.y)))
    inside = np.ones(x.shape[-2:], np.bool_) if valid is None else _on_host("mask", valid)[0]
    # The mask is one of both images; it says nothing about pixels beyond its own frame.
    inside_y = translated(inside, (0, 0), y.shape[-2:], fill=True)
    if _equal(x, y, inside):
        shift = np.zeros(2)
    else:
        shift = find_shift(Scene.of("a", x, inside), Scene.of("b", y, inside_y), max_shift)
    whole = np.rint(shift)
    snapped = (np.abs(shift - whole) <= SNAP) | (not subpixel)
    shift[snapped] = whole[snapped] + 0.0  # which is not negative
    image, usable = moved(y, inside_y, shift, inside.shape)
    image = image[0] if channel_axis is None else np.moveaxis(image, 0, channel_axis)
    usable &= inside
    if images.xp is not np:
        where = device(images.y)
        image = to_namespace("b", image, images.xp, where)
        image = images.xp.astype(image, images.y.dtype)  # short floats were widened
        usable = to_namespace("mask", usable, images.xp, where)
    return Alignment(image, usable, (float(shift[0]), float(shift[1])))


def _one_pair(a: ImageLike, b: ImageLike, channel_axis: int | None) -> validation.Images:
    """Check two images, whose sizes may differ, and view them as (channels, height, width)."""
    xp, (x, y) = on_common_namespace(a=a, b=b)
    validation.check_channel_axis(channel_axis)
    for name, image in (("a", x), ("b", y)):
        if len(image.shape) > (2 if channel_axis is None else 3):
            raise ShapeError(
                f"{name} has shape {tuple(image.shape)}, and align takes one pair of images",
                f"call it for each pair of a batch; {validation.CHANNEL_HINT}",
            )
    x, y = (validation.in_canonical_order(n, v, channel_axis, xp) for n, v in (("a", x), ("b", y)))
    if x.shape[0] != y.shape[0]:
        raise ShapeError(
            f"a has {x.shape[0]} channels, b has {y.shape[0]}", "convert both to the same channels"
        )
    return validation.Images(xp, x, y, np.float64, math.nan, channel_axis is not None)


def _equal(x: Array, y: Array, inside: Array) -> bool:
    """Tell whether the images are equal where both have finite pixels inside the mask."""
    part = (..., *(slice(min(pair)) for pair in zip(x.shape[-2:], y.shape[-2:], strict=True)))
    x, y, used = x[part], y[part], inside[part]
    used = used & np.isfinite(x).all(axis=0) & np.isfinite(y).all(axis=0)
    return bool(used.any() and (x == y)[:, used].all())


def _on_host(name: str, array: Array) -> Array:
    """Convert to NumPy what lies in the memory of the host."""
    (found,) = tensors.on_host(array if isinstance(array, np.ndarray) else without_gradient(array))
    if isinstance(found, np.ndarray):
        return found
    if not has_values(array):
        raise DTypeError(
            f"{name} is lazy, traced or on another device than the host, where a shift is sought",
            "compute it, or move it to the CPU",
        )
    return to_numpy(name, found)
