"""Image Euclidean distance (IMED)."""

from __future__ import annotations

import math
from typing import Any, Literal

from imsim import engine
from imsim.kernels import loaders
from imsim.portable.arrays import (
    channel_sum,
    count,
    pad,
    root,
    stacked,
    to_widest_float,
    total,
    unstacked,
    unstacked_shape,
)
from imsim.portable.differences import scaled_difference
from imsim.portable.pair import Local, Pair, Scores
from imsim.portable.windows import correlate, gaussian_reach
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.local import QuadraticForm
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score, Writable
from imsim.validation import SMALLEST, check_choice, check_ndim, check_number, check_spacing


def gaussian_blur(values: Array, sigma: float, spacing: tuple[float, ...]) -> Array:
    """Convolve with g(t) = exp(-t^2 / 2 sigma^2) / (sqrt(2 pi) sigma) by axis; 0 outside."""
    for axis in range(-len(spacing), 0):
        distance = spacing[axis]
        radius = gaussian_reach(sigma / distance, values.shape[axis])
        taps = tuple(
            math.exp(-((k * distance) ** 2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
            for k in range(-radius, radius + 1)
        )
        values = correlate(pad(values, radius, radius, axis), taps, axis)
    return values


def contributions(pair: Pair, sigma: float, spacing: tuple[float, ...] | None) -> Local:
    """D (g * d) per pixel, whose sum is the squared distance d' G d; d = 0 outside the mask."""
    difference = to_widest_float(pair.x) - to_widest_float(pair.y)
    if pair.weights is not None:
        difference = difference * root(pair.weights)
    sides = unstacked_shape(difference.shape[-2:], pair.depth)
    if spacing is None:
        spacing = (1.0,) * len(sides)
    reaches = (gaussian_reach(sigma / d, n) for d, n in zip(spacing, sides, strict=True))
    blurred = gaussian_blur(unstacked(difference, pair.depth), sigma, spacing)
    blurred = blurred if pair.depth is None else stacked(blurred)
    reach = tuple((radius, radius) for radius in reaches)
    return Local(difference * blurred, pair.mask, reach=reach, depth=pair.depth)


def image_euclidean_distance(
    pair: Pair, sigma: float, normalize: str | None, spacing: tuple[float, ...] | None
) -> Scores:
    """sqrt(d' G d), pooled over channels."""
    xp = pair.xp
    difference, unit = scaled_difference(pair)
    local = contributions(pair._replace(x=difference, y=xp.zeros_like(difference)), sigma, spacing)
    n = count(local.values, pair.mask, pair.weights)
    squared = channel_sum(total(local.values))
    # G is positive definite, yet for a large sigma its smallest eigenvalues are below rounding.
    squared = xp.where(squared < 0, xp.zeros_like(squared), squared)
    if normalize == "rms":
        squared = squared / (n * local.values.shape[-3])
    return Scores(root(squared) * unit, n)


def contribution_map(pair: Pair, sigma: float, spacing: tuple[float, ...] | None) -> Local:
    """Contribution of each pixel, summed over channels."""
    local = contributions(pair, sigma, spacing)
    return local._replace(values=pair.xp.sum(local.values, axis=-3, keepdims=True))


def imed_map(
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
    sigma: float = 1.0,
    spacing: tuple[float, ...] | None = None,
) -> Array:
    """Contribution of each pixel to the squared image Euclidean distance.

    The sum of the map over the scored pixels is the square of `imed`, also with weights.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for `imed`; the map sums over channels.
    out : array-like, optional
        Where to write the map, block by block, e.g. an array of Zarr; it is returned.
    sigma : float
        Standard deviation of the Gaussian that joins neighbouring pixels, in pixels or in the
        unit of `spacing`.
    spacing : tuple of float, optional
        As for `imed`.

    Returns
    -------
    array, shape (..., height, width)
        Squared units of intensity, negative where a pixel makes up for its neighbours.

    Examples
    --------
    >>> import imsim
    >>> print(imsim.imed_map([[1.0]], [[3.0]]).round(6))
    [[0.63662]]
    """
    sigma = check_number("sigma", sigma, SMALLEST)
    return engine.score_map(
        "imed",
        contribution_map,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        out=out,
        weight_power=1,
        sigma=sigma,
        spacing=check_spacing(spacing, check_ndim(ndim)),
    )


def _kernels() -> Any:
    from imsim.kernels import imed  # slow to import, as Numba is

    return imed


def _pieces(
    whole: Any, sigma: float, spacing: tuple[float, ...] | None, normalize: str | None = None
) -> Any:
    distances = spacing or (1.0,) * len(whole.sides)
    pairs = zip(distances, whole.sides, strict=True)
    reach = tuple((n, n) for n in (gaussian_reach(sigma / d, side) for d, side in pairs))
    kernel = Kernel(_kernels, "imed_map") if len(whole.sides) == 2 else None
    options = {"sigma": sigma, "spacing": spacing}
    return QuadraticForm(whole, contribution_map, kernel, reach, normalize, options)


@metric(
    title="Image Euclidean distance",
    higher_is_better=False,
    best=0.0,
    bounds=(0.0, float("inf")),
    unit="I",
    references=("Wang, Zhang and Feng 2005, doi:10.1109/TPAMI.2005.165",),
    map_function=imed_map,
    map_bounds=(float("-inf"), float("inf")),
    sees="Like the squared error, but forgives a shift by a pixel, since neighbours share the "
    "difference.",
    of_differences=True,
    kernel=Kernel(_kernels, "imed"),
    map_kernel=Kernel(_kernels, "imed_map"),
    gradient=Kernel(loaders.pixel_gradients, "imed"),
    volumes="windows",
    volume_kernel=Kernel(_kernels, "volume_imed"),
    takes_spacing=True,
    crop=Crop(halo=0, widens=True),
    pieces=_pieces,
)
def imed(
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
    sigma: float = 1.0,
    normalize: Literal["rms"] | None = None,
    spacing: tuple[float, ...] | None = None,
) -> Score:
    r"""Image Euclidean distance: a distance that forgives small shifts.

    .. math::
        \mathrm{IMED}^2(x, y) = \frac{1}{2 \pi \sigma^2} \sum_{p,q}
        e^{-|p - q|^2 / 2 \sigma^2} (x_p - y_p)(x_q - y_q)

    over all pairs of scored pixels p, q, with their distance in pixels, or in the unit of
    `spacing`. For volumes the factor is :math:`(2 \pi \sigma^2)^{-3/2}`. The Gaussian separates:
    the double sum is the sum of d times the blurred d, without approximation. Pixels beyond the
    frame or outside the mask take no part; the Gaussian is not renormalised. With weights, each
    difference is multiplied by the root of its pixel's weight. A common factor of the weights
    scales the distance by its root, unless ``normalize="rms"`` divides by the root of their sum.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``; squared distances of the channels are added.
    sigma : float
        Standard deviation of the Gaussian, in pixels or in the unit of `spacing`.
    normalize : {None, "rms"}
        ``"rms"`` divides by the square root of the number of values, or of the sum of their
        weights, which makes images of different sizes comparable.
    spacing : tuple of float, optional
        Distance of neighbouring pixels, (dy, dx), or (dz, dy, dx) for volumes. The sums run over
        pixels, whatever their size: scores of different spacings do not compare.

    Returns
    -------
    float64 or array of float64
        The unit of the pixel values. One per pair of images.

    Raises
    ------
    ImsimError
        One of the errors in ``help(imsim)``.

    References
    ----------
    Wang, L., Zhang, Y., Feng, J.: On the Euclidean distance of images. IEEE Transactions on
    Pattern Analysis and Machine Intelligence 27(8), 1334-1339 (2005).
    doi:10.1109/TPAMI.2005.165

    Examples
    --------
    >>> import imsim
    >>> print(round(imsim.imed([[0.0, 1.0]], [[0.0, 0.0]]), 6))
    0.398942
    """
    sigma = check_number("sigma", sigma, SMALLEST)
    check_choice("normalize", normalize, (None, "rms"))
    return engine.score(
        "imed",
        image_euclidean_distance,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        weight_power=0 if normalize == "rms" else 0.5,
        sigma=sigma,
        normalize=normalize,
        spacing=check_spacing(spacing, check_ndim(ndim)),
    )
