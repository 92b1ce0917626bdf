"""Zero-mean normalised cross-correlation (ZNCC)."""

from __future__ import annotations

import functools
from typing import Any, Literal

from imsim import engine, validation
from imsim.portable.arrays import (
    array_namespace,
    as_image,
    at_largest,
    count,
    mean,
    minimum,
    peak_to_peak,
    to_widest_float,
    total,
    unstacked,
    where_valid,
    without_gradient,
)
from imsim.portable.moments import is_flat, local_covariance, local_moments
from imsim.portable.pair import Local, Pair, Scores, average, in_slabs, laid_out
from imsim.portable.units import SQUARES, in_units, scaling_unit
from imsim.portable.windows import support_of, uniform
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.local import WindowMeans
from imsim.scenes.moments import Correlation
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score, Writable


def correlation(
    covariance: Array, variance_x: Array, variance_y: Array, flat_x: Array, flat_y: Array
) -> Array:
    """Cov / sqrt(var_x var_y); 1 where both images are constant, 0 where one of them is."""
    xp = array_namespace(covariance)
    product = variance_x * variance_y
    usual = (product > validation.SMALLEST) & (product < validation.LARGEST)
    larger = xp.maximum(variance_x, variance_y)
    smaller = xp.minimum(variance_x, variance_y)
    both = smaller > 0
    larger_one, smaller_one = (where_valid(both, v, 1.0) for v in (larger, smaller))
    # Both forms are exactly 1 for equal images. The second holds where the product leaves float64.
    r = xp.where(
        usual,
        covariance / xp.sqrt(where_valid(usual, product, 1.0)),
        covariance / larger_one / xp.sqrt(smaller_one / larger_one),
    )
    r = xp.where(both, r, without_gradient(covariance / larger / xp.sqrt(smaller / larger)))
    # The correlation of a flat image and one that is not finite is NaN.
    r = xp.where(flat_x | flat_y, 0.0 * (variance_x + variance_y), xp.clip(r, -1.0, 1.0))
    return where_valid(~(flat_x & flat_y), r, 1.0)


def global_correlation(pair: Pair) -> Scores:
    """Pearson's correlation of the scored pixels."""
    x, y = to_widest_float(pair.x), to_widest_float(pair.y)
    x, y = x / scaling_unit(x), y / scaling_unit(y)  # so that no sum overflows
    mask, weights = pair.mask, pair.weights

    def centre(v: Array) -> Array:
        """A pixel: far from 0, the mean has fewer digits than differences of pixels."""
        return minimum(v, mask) if weights is None else at_largest(v, weights)

    x, y = (v - as_image(centre(v), v) for v in (x, y))
    dx = where_valid(mask, x - as_image(mean(x, mask, weights), x))
    dy = where_valid(mask, y - as_image(mean(y, mask, weights), y))
    dx, dy = dx / scaling_unit(dx), dy / scaling_unit(dy)
    r = correlation(
        total(dx * dy, None, weights),
        total(dx * dx, None, weights),
        total(dy * dy, None, weights),
        peak_to_peak(x, mask) == 0,
        peak_to_peak(y, mask) == 0,
    )
    return Scores(r, count(x, mask, weights))


def local_correlation(pair: Pair, lengths: tuple[int, ...], min_coverage: float) -> Local:
    """Pearson's correlation within each window."""
    formula = functools.partial(_local_correlation, lengths=lengths, min_coverage=min_coverage)
    return in_slabs(formula, pair, lengths[0] // 2)


def _local_correlation(pair: Pair, lengths: tuple[int, ...], min_coverage: float) -> Local:
    window = uniform(*lengths)
    x, y = (unstacked(to_widest_float(v), pair.depth) for v in (pair.x, pair.y))
    mask, weights = (unstacked(v, pair.depth) for v in (pair.mask, pair.weights))
    support = support_of(mask, window, x, min_coverage, weights)

    def values(unit_x: Any, unit_y: Any) -> Array:
        p, q = (
            local_moments(x / unit_x, window, support),
            local_moments(y / unit_y, window, support),
        )
        covariance = local_covariance(p, q, window, support)
        return correlation(covariance, p.variance, q.variance, is_flat(p), is_flat(q))

    units = (scaling_unit(v, axis=window.axes, root=SQUARES) for v in (x, y))
    found = in_units(values, *units)
    return laid_out(found, support.scored, lengths, weights=support.positions)


def correlation_score(pair: Pair, lengths: tuple[int, ...] | None, min_coverage: float) -> Scores:
    """Correlation of the whole images, or the mean over all windows."""
    if lengths is None:
        return global_correlation(pair)
    return average(local_correlation(pair, lengths, min_coverage))


def _lengths(window_size: float, ndim: int, spacing: tuple[float, ...] | None) -> tuple[int, ...]:
    """Pixels of the window along each axis."""
    ndim = validation.check_ndim(ndim)
    return validation.check_window_size(
        "window_size", window_size, validation.check_spacing(spacing, ndim), ndim
    )


def zncc_map(
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
    window_size: float = 9,
    min_coverage: float = 0.0,
    spacing: tuple[float, ...] | None = None,
) -> Array:
    """Zero-mean normalised cross-correlation within the window around each pixel.

    The mean of the map over the scored pixels is ``zncc(..., window_size=window_size)``.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for `zncc`.
    out : array-like, optional
        Where to write the map, block by block, e.g. an array of Zarr; it is returned.
    window_size : float
        Side of the window: at least 2 pixels, or in the unit of `spacing`.
    min_coverage : float
        Least part of a window, from 0 to 1, that must lie inside the mask; 1 scores only
        windows that lie inside entirely.
    spacing : tuple of float, optional
        As for `zncc`.

    Returns
    -------
    array, shape (..., height, width)
        Correlation per pixel, from -1 to 1; a window outside the frame is not scored.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> ramp = np.arange(9.0).reshape(3, 3)
    >>> print(imsim.zncc_map(ramp, 5 - 2 * ramp, window_size=3))
    [[nan nan nan]
     [nan -1. nan]
     [nan nan nan]]
    """
    lengths = _lengths(window_size, ndim, spacing)
    min_coverage = validation.check_number("min_coverage", min_coverage, 0.0, 1.0)
    return engine.score_map(
        "zncc",
        local_correlation,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        out=out,
        least_side=lengths,
        lengths=lengths,
        min_coverage=min_coverage,
    )


def _kernels() -> Any:
    from imsim.kernels import zncc  # slow to import, as Numba is

    return zncc


def _gradient() -> Any:
    from imsim.kernels.gradients.zncc import zncc

    return zncc


def _pieces(whole: Any, lengths: tuple[int, ...] | None, min_coverage: float) -> Any:
    if lengths is None:
        return Correlation(whole, correlation)
    options = {"lengths": lengths, "min_coverage": min_coverage}
    kernel = Kernel(_kernels, "zncc" if len(whole.sides) == 2 else "volume_zncc")
    return WindowMeans(whole, correlation_score, kernel, lengths, options)


@metric(
    title="Zero-mean normalised cross-correlation",
    higher_is_better=True,
    best=1.0,
    bounds=(-1.0, 1.0),
    references=("Lewis 1995, Fast template matching, Vision Interface 95, 120-123",),
    map_function=zncc_map,
    sees="Do bright and dark fall on the same places? Blind to a change of brightness or "
    "contrast of the whole image.",
    needs_contrast=True,
    map_least_side=9,
    kernel=Kernel(_kernels, "zncc"),
    map_kernel=Kernel(_kernels, "zncc_map"),
    gradient=_gradient,
    volumes="windows",
    volume_kernel=Kernel(_kernels, "volume_zncc"),
    volume_map_kernel=Kernel(_kernels, "volume_zncc_map"),
    takes_spacing=True,
    crop=Crop(halo=0, gathers=True),
    pieces=_pieces,
)
def zncc(
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
    window_size: float | None = None,
    min_coverage: float = 0.0,
    spacing: tuple[float, ...] | None = None,
) -> Score:
    r"""Zero-mean normalised cross-correlation: Pearson's r of the pixel values.

    .. math::
        \mathrm{ZNCC}(x, y) = \frac{\sum_p (x_p - \mu_x)(y_p - \mu_y)}
        {\sqrt{\sum_p (x_p - \mu_x)^2 \sum_p (y_p - \mu_y)^2}}

    Separate positive affine changes of brightness leave it unchanged. Two constant images
    score 1, a constant one and another 0. With `window_size`, the same is computed within
    each window and averaged. Weights weigh all sums and means; a window counts by the weight of
    its centre, and one of even size by the mean weight of its pixels.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``.
    window_size : float, optional
        Side of the window: at least 2 pixels, or in the unit of `spacing`. By default the whole
        image is one window.
    min_coverage : float
        With `window_size`: least part of a window, from 0 to 1, that must lie inside the mask.
    spacing : tuple of float, optional
        With `window_size`: distance of neighbouring pixels, (dy, dx), or (dz, dy, dx) for volumes.
        Along each axis, the window then has its size in pixels if that is a whole number, else the
        nearest odd one.

    Returns
    -------
    float64 or array of float64
        One per pair of images.

    Raises
    ------
    ImsimError
        One of the errors in ``help(imsim)``.

    References
    ----------
    Lewis, J. P.: Fast template matching. Vision Interface 95, 120-123 (1995); no DOI.

    Examples
    --------
    >>> import imsim
    >>> print(imsim.zncc([[1.0, 2.0, 3.0]], [[7.0, 5.0, 3.0]]))
    -1.0
    """
    min_coverage = validation.check_number("min_coverage", min_coverage, 0.0, 1.0)
    validation.check_spacing(spacing, validation.check_ndim(ndim))
    lengths = None if window_size is None else _lengths(window_size, ndim, spacing)
    return engine.score(
        "zncc",
        correlation_score,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        least_side=1 if lengths is None else lengths,
        lengths=lengths,
        min_coverage=min_coverage,
    )
