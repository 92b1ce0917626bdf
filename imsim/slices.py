"""Scores of the slices of volumes, for metrics that are defined for images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim import errors
from imsim.finite import finite_pixels
from imsim.inputs import as_array
from imsim.masks import check_mask
from imsim.portable.arrays import array_namespace, has_values, ratio, unstacked, where_valid
from imsim.registry import METRICS
from imsim.typing import Array, ImageLike, MaskLike, Score
from imsim.validation import check_choice, check_images, check_integer, check_spacing
from imsim.weights import check_weights


def by_slice(
    metric: str,
    a: ImageLike,
    b: ImageLike,
    *,
    axis: int | None = None,
    mask: MaskLike | None = None,
    weights: MaskLike | None = None,
    channel_axis: int | None = None,
    spacing: tuple[float, ...] | None = None,
    **options: Any,
) -> Score:
    r"""Score the slices of volumes by a metric of images.

    Parameters
    ----------
    metric : str
        Name of a metric, see `imsim.METRICS`.
    a, b : array_like, shape (..., depth, height, width)
        Volumes or batches of volumes, whose leading axes broadcast.
    axis : {0, 1, 2}, optional
        The axis to slice across: 0 is the depth, 1 the height, 2 the width. By default the scores
        are averaged over the slices across each axis, and over the three axes.
    mask : array_like of bool, shape (..., depth, height, width), optional
        True = use. Slices that the mask leaves nothing to score are left out of the average.
    weights : array_like of float, shape (..., depth, height, width), optional
        Weights of the pixels within their slices, which count alike in the average.
    channel_axis : int, optional
        The axis that holds channels.
    spacing : tuple of float, optional
        Distance of neighbouring pixels, (dz, dy, dx), for a metric that takes it: a slice has
        those of its own two axes.
    **options
        Further arguments of the metric, such as ``data_range``.

    Returns
    -------
    array of float64, shape (..., slices), or float64 or array of float64
        One score per slice along `axis`, or one average per pair of volumes. It is an average of
        two-dimensional scores, and no score of the volume: structure from slice to slice does not
        count.

    Raises
    ------
    ImsimError
        One of the errors in ``help(imsim)``.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> a = np.arange(24.0).reshape(2, 3, 4)
    >>> b = a + np.array([1.0, 2.0])[:, None, None]
    >>> print(imsim.by_slice("rmse", a, b, axis=0), imsim.by_slice("rmse", a, b))
    [1. 2.] 1.55409255338946
    """
    check_choice("metric", metric, METRICS)
    if axis is not None:
        check_integer("axis", axis)
        if axis not in (0, 1, 2):
            raise errors.OptionError(f"axis={axis}", "expected 0, 1 or 2: depth, height or width")
    if "ndim" in options:
        raise errors.OptionError("by_slice has no ndim", "slices are images; leave it out")
    spacing = check_spacing(spacing, 3)
    if spacing is not None and not METRICS[metric].takes_spacing:
        raise errors.OptionError(f"spacing={spacing}, but {metric} takes none", "leave it out")
    images = check_images(a, b, data_range=None, channel_axis=channel_axis, ndim=3)
    valid = check_mask(mask, images)
    _, used = check_weights(weights, images, valid)
    own = None if weights is None else as_array("weights", weights)

    def scores(axis: int) -> Score:
        x, y = (_slices(v, images.depth, axis) for v in (images.x, images.y))
        within = None if valid is None else _slices(valid, images.depth, axis)[..., 0, :, :]
        spaced = {} if spacing is None else {"spacing": spacing[:axis] + spacing[axis + 1 :]}
        channels = {"channel_axis": -3}
        if not images.has_channels:
            x, y, channels = x[..., 0, :, :], y[..., 0, :, :], {}
        with errors.silent(
            errors.ChannelAxisWarning
        ):  # a volume may be as narrow as an image has channels
            weighted = {}
            if own is not None:
                weighted = {"weights": array_namespace(own).moveaxis(own, axis - 3, -3)}
            given = {"mask": within, **weighted, **channels, **spaced, **options}
            return METRICS[metric].function(x, y, **given)

    if axis is not None:
        return scores(axis)
    finite = finite_pixels(images, used)
    xp = images.xp
    means, counts = [], []
    with errors.silent(errors.EmptyMaskWarning):
        for across in range(3):
            found = scores(across)
            is_number = found == found
            if finite is not None:  # what is NaN because of a pixel stays NaN
                broken = xp.any(~_slices(finite, images.depth, across), axis=(-3, -2, -1))
                is_number = is_number | broken
            count = xp.sum(xp.astype(is_number, found.dtype), axis=-1)
            with np.errstate(invalid="ignore"):  # decibels of both infinities average to NaN
                total = xp.sum(where_valid(is_number, found), axis=-1)
            means.append(ratio(total, count, math.nan))
            counts.append(count)
    with np.errstate(invalid="ignore"):
        mean = (means[0] + means[1] + means[2]) / 3
    if has_values(mean) and any(bool(xp.any(count == 0)) for count in counts):
        errors.warn(
            f"{metric}: across some axis of a volume no slice could be scored, which is NaN in the "
            f"result; {errors.more_pixels(mask, weights)}, or name another axis",
            errors.EmptyMaskWarning,
        )
    return mean[()] if xp is np else mean


def _slices(values: Array, depth: int | None, axis: int) -> Array:
    """From (*batch, channels, depth * height, width) to (*batch, slices, channels, ...)."""
    return array_namespace(values).moveaxis(unstacked(values, depth), axis - 3, -4)
