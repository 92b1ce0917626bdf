"""Derivatives of local means and covariances, by a few linear filters; for JAX.

The formulas take sums about a pixel of each window, which differ from window to window. Their
derivatives are filters of the whole image all the same:

    d mean = E[dx],    d cov(x, y) = E[dx (y - mean_y)] + E[dy (x - mean_x)],

where E is the weighted mean of a window. If the weights w move as well, E[(x - mean) dw / w] adds
to the first, and E[((x - mean_x) (y - mean_y) - cov) dw / w] to the second. JAX would differentiate
each of some hundred shifted images instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from imsim.portable.arrays import without_gradient
from imsim.portable.correlation import centre_of
from imsim.portable.windows import Support, Window
from imsim.typing import Array

BLOCK = 64
"""Positions that one product with a band matrix computes."""


def with_derivative_of_mean(mean: Array, image: Array, window: Window, support: Support) -> Any:
    """Return a local mean with its derivative with respect to the image and the weights."""

    def tangent(primals: Any, tangents: Any, mean: Any) -> Any:
        image, mask, own, weight = primals
        moved, _, own_moved, _ = tangents
        found = 0.0
        if not _is_zero(moved):
            found += local_mean(moved * own, window, weight)
        if not _is_zero(own_moved):
            centre = centre_of(image, mask, len(window.sides))
            found += local_mean(own_moved * (image - centre), window, weight)
            found -= (mean - centre) * local_mean(own_moved, window, weight)
        return found

    own = _own_weights(support)
    return _with_tangent(mean, tangent, image, support.mask, own, support.weight)


def _is_zero(tangent: Any) -> bool:
    """Whether nothing is differentiated with respect to an argument."""
    return isinstance(tangent, sys.modules["jax"].custom_derivatives.SymbolicZero)


def _own_weights(support: Support) -> Any:
    """Weights of the pixels, 1 if they have none; the derivative outside a mask is 0 anyway."""
    return 1.0 if support.positions is None else support.weights[0]


def with_derivative_of_covariance(
    covariance: Array,
    images: tuple[Array, Array],
    means: tuple[Array, Array],
    window: Window,
    support: Support,
) -> Any:
    """Return a local covariance with its derivative with respect to images and weights."""

    def tangent(primals: Any, tangents: Any, covariance: Any) -> Any:
        x, y, mean_x, mean_y, mask, own, weight = primals
        own_moved = tangents[-2]
        # About one number for all windows, so that products of distant pixels do not cancel.
        centre_x, centre_y = (centre_of(v, mask, len(window.sides)) for v in (x, y))
        x, mean_x, y, mean_y = x - centre_x, mean_x - centre_x, y - centre_y, mean_y - centre_y
        found = 0.0
        for moved, other, mean in ((tangents[0], y, mean_y), (tangents[1], x, mean_x)):
            if _is_zero(moved):
                continue
            weighted = moved * own
            found += local_mean(weighted * other, window, weight)
            found -= mean * local_mean(weighted, window, weight)
        if not _is_zero(own_moved):
            found += local_mean(own_moved * x * y, window, weight)
            found -= mean_x * local_mean(own_moved * y, window, weight)
            found -= mean_y * local_mean(own_moved * x, window, weight)
            found += (mean_x * mean_y - covariance) * local_mean(own_moved, window, weight)
        return found

    own = _own_weights(support)
    return _with_tangent(covariance, tangent, *images, *means, support.mask, own, support.weight)


def _with_tangent(value: Array, tangent: Callable[[Any, Any, Any], Any], *arguments: Any) -> Any:
    """Return a value whose tangent is ``tangent(arguments, their tangents, value)``."""
    jax = sys.modules["jax"]
    known = jax.custom_jvp(lambda value, *_: value)

    def rule(primals: Any, tangents: Any) -> Any:
        # Through `known` once more, which has this derivative for whoever differentiates twice.
        value = known(*primals)
        found = tangent(primals[1:], tangents[1:], value)
        return value, jax.numpy.broadcast_to(found, value.shape).astype(value.dtype)

    known.defjvp(rule, symbolic_zeros=True)
    return known(without_gradient(value), *arguments)


def local_mean(values: Array, window: Window, weight: Any) -> Array:
    """Weighted mean of each window."""
    for axis in window.axes:
        values = _filtered(values.swapaxes(axis, -1), window.sides[axis]).swapaxes(axis, -1)
    return values / weight


def _filtered(values: Array, taps: tuple[float, ...]) -> Array:
    """Correlate along the last axis where the taps fit, by products with a band matrix.

    Each block of positions is one row of a product. Its derivative is such a product again,
    unlike that of a sum of slices, which JAX pads one by one.
    """
    jnp = sys.modules["jax"].numpy
    length, reach = values.shape[-1], len(taps) - 1
    positions = length - reach
    side = max(min(BLOCK, positions), reach)
    blocks = -(-positions // side)
    rest = (blocks + 1) * side - length
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, rest)])
    cut = padded.reshape(*values.shape[:-1], blocks + 1, side)
    windows = jnp.concatenate([cut[..., :-1, :], cut[..., 1:, :reach]], axis=-1)
    shape = (side + reach, side)
    band = sum(tap * jnp.eye(*shape, k=-k, dtype=values.dtype) for k, tap in enumerate(taps))
    # The highest precision, since TF32 keeps 11 bits only.
    found = jnp.matmul(windows, band, precision="highest")
    return found.reshape(*values.shape[:-1], blocks * side)[..., :positions]
