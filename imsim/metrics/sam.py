"""Spectral angle mapper (SAM)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from imsim import engine
from imsim.errors import OptionError
from imsim.kernels import loaders
from imsim.portable.arrays import (
    array_namespace,
    channel_sum,
    count,
    ratio,
    root,
    to_widest_float,
    total,
    valid_in_both,
    where_valid,
    without_gradient,
)
from imsim.portable.pair import Local, Pair, Scores
from imsim.portable.units import PER_IMAGE, scaling_unit
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.moments import ImageAngle, SpectralAngles
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score, Writable
from imsim.validation import CHANNEL_HINT, check_choice, check_flag


def angle(x: Array, y: Array, norm: Callable[[Array], Array]) -> tuple[Array, Array, Array]:
    """Return the angle between two vectors, 0 if both are 0, and their lengths.

    Of the unit vectors u, v it is 2 atan2(|u - v|, |u + v|), precise for small angles too.
    """
    norm_x, norm_y = norm(x), norm(y)
    u, v = (w / where_valid(n != 0, n, 1.0) for w, n in ((x, norm_x), (y, norm_y)))
    # Compiled, the unit vectors of equal images may differ by rounding, in an arbitrary direction.
    apart, along = (_smooth(v) for v in (where_valid(norm(x - y) != 0, norm(u - v)), norm(u + v)))
    along = where_valid((norm_x != 0) | (norm_y != 0), along, 1.0)  # atan2(0, 0) has no derivative
    return 2 * array_namespace(apart).atan2(apart, along), norm_x, norm_y


def _smooth(length: Array) -> Array:
    """Give the length of a vector no derivative where it may be rounding alone."""
    tiny = 16 * float(array_namespace(length).finfo(length.dtype).eps)
    return array_namespace(length).where(length > tiny, length, without_gradient(length))


def image_angle(pair: Pair, degrees: bool) -> Scores:
    """Angle between the two images, each as one vector; pi / 2 if only one of them is 0."""
    x, y = to_widest_float(pair.x), to_widest_float(pair.y)
    x, y = (v / scaling_unit(v, axis=PER_IMAGE) for v in (x, y))

    def norm(v: Array) -> Array:
        return root(channel_sum(total(v * v, pair.mask, pair.weights)))[..., None, None]

    theta, norm_x, norm_y = (v[..., 0, 0] for v in angle(x, y, norm))
    zero_x, zero_y = norm_x == 0, norm_y == 0
    theta = where_valid(~(zero_x | zero_y), theta, math.pi / 2)
    theta = where_valid(~(zero_x & zero_y), theta, 0.0)
    return Scores(theta * (180 / math.pi) if degrees else theta, count(x, pair.mask, pair.weights))


def spectral_angle(pair: Pair, degrees: bool) -> Local:
    """Angle between the channel vectors of each pixel; pi / 2 if only one of them is 0."""
    xp = pair.xp
    x, y = (
        v / scaling_unit(v, axis=-3) for v in (to_widest_float(pair.x), to_widest_float(pair.y))
    )

    def norm(v: Array) -> Array:
        return root(xp.sum(v * v, axis=-3, keepdims=True))

    theta, norm_x, norm_y = angle(x, y, norm)
    zero_x, zero_y = norm_x == 0, norm_y == 0
    one_zero = (zero_x & xp.isfinite(norm_y)) | (zero_y & xp.isfinite(norm_x))
    theta = where_valid(~one_zero, theta, math.pi / 2)
    theta = theta * (180 / math.pi) if degrees else theta
    valid = valid_in_both(pair.mask, ~(zero_x & zero_y))
    return Local(theta, valid, reach=(0, 0), weights=pair.weights)


def mean_spectral_angle(pair: Pair, degrees: bool) -> Scores:
    """Mean angle; 0 if all pixels are black in both images."""
    local = spectral_angle(pair, degrees)
    theta = total(local.values, local.valid, local.weights)
    n = count(local.values, local.valid, local.weights)
    n = where_valid((n > 0) | (count(pair.x, pair.mask) == 0), n, 1.0)
    return Scores(ratio(theta, n, math.nan), n)


def mean_angle(pair: Pair, mode: str, degrees: bool) -> Scores:
    """Angle between the images, or mean of the angles of the pixels."""
    return image_angle(pair, degrees) if mode == "image" else mean_spectral_angle(pair, degrees)


def check_mode(mode: str | None, channel_axis: int | str | None) -> str:
    """Return the mode: by default spectral if there are channels."""
    check_choice("mode", mode, (None, "image", "spectral"))
    if mode is None:
        return "image" if channel_axis is None else "spectral"
    if mode == "spectral" and channel_axis is None:
        raise OptionError(
            "mode='spectral' compares the channels of each pixel",
            f"{CHANNEL_HINT}, or use mode='image'",
        )
    return mode


def sam_map(
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None = None,
    weights: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | str | None = None,
    ndim: Literal[2, 3] = 2,
    dims: Dims = None,
    memory: Memory = None,
    out: Writable | None = None,
    degrees: bool = False,
) -> Array:
    """Spectral angle of each pixel; needs `channel_axis`, since a grey image has only one angle.

    The mean of the map over the scored pixels is ``sam(..., mode="spectral")``.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for `sam`; `channel_axis` is required: channels are the components of the vectors.
    out : array-like, optional
        Where to write the map, block by block, e.g. an array of Zarr; it is returned.
    degrees : bool
        Degrees instead of radians.

    Returns
    -------
    array, shape (..., height, width)
        Angle per pixel: none (NaN) where both images are 0 in all channels, pi / 2 where one is.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> red, yellow = np.array([[[9, 0, 0]]]), np.array([[[5, 5, 0]]])
    >>> print(imsim.sam_map(red, yellow, channel_axis=-1, degrees=True).round(6))
    [[45.]]
    """
    if channel_axis is None:
        raise OptionError(
            "sam_map compares the channels of each pixel",
            f"{CHANNEL_HINT}; a grey image has one angle, which sam finds",
        )
    check_flag("degrees", degrees)
    return engine.score_map(
        "sam",
        spectral_angle,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        out=out,
        degrees=degrees,
    )


def _kernels() -> Any:
    from imsim.kernels import sam  # slow to import, as Numba is

    return sam


def _pieces(whole: Any, degrees: bool, mode: str = "spectral") -> Any:
    if mode == "image":
        return ImageAngle(whole, degrees)
    return SpectralAngles(
        whole, mean_angle, Kernel(_kernels, "sam"), {"mode": mode, "degrees": degrees}
    )


@metric(
    title="Spectral angle mapper",
    higher_is_better=False,
    best=0.0,
    bounds=(0.0, math.pi),
    unit="rad",
    references=("Kruse et al. 1993, doi:10.1016/0034-4257(93)90013-N",),
    map_function=sam_map,
    sees="Does colour, or the pattern as a whole, point the same way? Blind to a change of "
    "brightness by a factor.",
    map_needs_channels=True,
    volumes="pixels",
    kernel=Kernel(_kernels, "sam"),
    map_kernel=Kernel(_kernels, "sam_map"),
    gradient=Kernel(loaders.pixel_gradients, "sam"),
    crop=Crop(halo=0, gathers=True),
    pieces=_pieces,
)
def sam(
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None = None,
    weights: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | str | None = None,
    ndim: Literal[2, 3] = 2,
    dims: Dims = None,
    memory: Memory = None,
    mode: Literal["image", "spectral"] | None = None,
    degrees: bool = False,
) -> Score:
    r"""Spectral angle mapper: the angle between two vectors, whatever their lengths.

    .. math:: \mathrm{SAM}(x, y) = \arccos \frac{\langle x, y \rangle}{\|x\| \|y\|}

    With `channel_axis`, the vectors are the channels of one pixel, and the angles are averaged
    over the pixels. Without, each image is one vector. A vector of zeros is at pi / 2 from any
    other; pixels that are 0 in all channels of both images are left out, and two black images
    score 0. The angle is computed as 2 atan2(\|u - v\|, \|u + v\|) of the unit vectors u and v,
    since the arc cosine loses half the digits of a small angle.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``; channels are the components of the vectors.
    mode : {None, "image", "spectral"}
        ``"spectral"`` (the default with `channel_axis`) averages the angles of the pixels,
        ``"image"`` (the default without) takes all pixels and channels as one vector.
    degrees : bool
        Degrees instead of radians.

    Returns
    -------
    float64 or array of float64
        Radians, or degrees. One per pair of images.

    Raises
    ------
    ImsimError
        One of the errors in ``help(imsim)``.

    References
    ----------
    Kruse, F. A., et al.: The spectral image processing system (SIPS): interactive visualization
    and analysis of imaging spectrometer data. Remote Sensing of Environment 44, 145-163 (1993).
    doi:10.1016/0034-4257(93)90013-N

    Examples
    --------
    >>> import imsim
    >>> print(round(imsim.sam([[1.0, 0.0]], [[1.0, 1.0]], degrees=True), 6))
    45.0
    """
    check_flag("degrees", degrees)
    return engine.score(
        "sam",
        mean_angle,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        mode=check_mode(mode, channel_axis),
        degrees=degrees,
    )
