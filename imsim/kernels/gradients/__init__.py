"""Compiled gradients of the scores, for images in the memory of the host.

The record of a metric loads one of them: a function

    gradient(pair, upstream, wanted, **options) -> (gradient_x, gradient_y), or None

of a checked `Pair` of NumPy arrays, whose pixels are finite and 0 outside the mask, of a weight per
score, and of the options of the formula. It returns the gradient of the sum of weight times score
with respect to each image that is wanted, and None for one that is not. Gradients have the shape of
the broadcast images, (*batch, channels, height, width), and the dtype of the pixels; outside the
mask they are exactly 0. Where the score has a corner, such as a distance of 0, they are that of the
flat side, 0. None in place of both leaves the input to the formula.

Where score and gradient share most of their work, the record also loads a function

    scored_gradient(pair, wanted, **options) -> (scores, (gradient_x, gradient_y)), or None

of the scores that the kernel of the metric computes, and of the gradients of their sum.
"""

from __future__ import annotations

import numpy as np

from imsim.portable.arrays import unstacked, where_valid
from imsim.portable.pair import Pair
from imsim.typing import Array

Gradients = tuple[Array | None, Array | None]
"""With respect to x and y; None where it is not wanted."""
LARGEST_RANGE = 1e30
"""Largest data range, and inverse of the smallest one, whose gradients fit into float32."""


def inverse(values: Array) -> Array:
    """1 / value, and 0 for 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values != 0)


def multiples(pair: Pair, difference: Array, factor: Array, wanted: tuple[bool, bool]) -> Gradients:
    """Return a multiple, for each image, of what depends on x - y only; the negative for y.

    Outside the mask it is exactly 0.
    """
    shape = np.broadcast_shapes(factor.shape, difference.shape[:-3])
    found: list[Array | None] = [None, None]
    for k in range(2):
        if wanted[k]:
            out = np.empty((*shape, *difference.shape[-3:]), pair.x.dtype)
            signed = per_image(-factor if k else factor)
            np.multiply(difference, signed, out=out, casting="same_kind")
            found[k] = where_valid(pair.mask, out)
    return found[0], found[1]


def largest(pair: Pair) -> float:
    """Largest magnitude of a pixel."""
    return max(float(np.abs(part(v))) for v in (pair.x, pair.y) for part in (np.min, np.max))


def plane_weights(upstream: Array, shape: tuple[int, ...]) -> Array:
    """Weight of the score of each plane: the score of an image is the mean over its channels.

    `shape` is the batch shape and the number of channels.
    """
    weights = np.asarray(upstream, np.float64)[..., None] / shape[-1]
    return np.broadcast_to(weights, shape).reshape(-1)


def like_image(
    gradient: Array, image: Array, view: Array, channel_axis: int | None, depth: int | None
) -> Array:
    """Sum over the axes along which an image was repeated, and restore the order of its axes.

    `view` is the image in the order of the gradient; `depth`, the number of planes of volumes.
    """
    extra = gradient.ndim - view.ndim
    repeated = [k for k, n in enumerate(view.shape[:-3], extra) if n < gradient.shape[k]]
    axes = (*range(extra), *repeated)
    if axes:
        gradient = gradient.sum(axis=axes, keepdims=True)
    gradient = unstacked(gradient.reshape(view.shape), depth)
    if channel_axis is not None:
        gradient = np.moveaxis(gradient, -3 if depth is None else -4, channel_axis)
    return np.ascontiguousarray(gradient).reshape(image.shape)


def per_image(weights: Array) -> Array:
    """Give numbers per image three trailing axes, to match channels, height and width."""
    return weights[..., None, None, None]
