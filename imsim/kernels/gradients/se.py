"""Gradients of SE, RMSE, PSNR, SRE and IMED, multiples of the difference or of it blurred; of SAM.

That of SAM is computed in float64. With the unit vectors u and v of x and y, the angle t between
them has the gradient

    dt/dx = -(v - cos(t) u) / (sin(t) |x|)

of which v - cos(t) u = (v - u) + u |u - v|^2 / 2 and sin(t) = |u - v| |u + v| / 2 keep their digits
for small angles too. The gradient is 0 where the vectors have one direction, or opposite ones,
within rounding, and where one of them is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.kernels.common.planes import NO_MASK
from imsim.kernels.common.rescaling import find_lost_sums, lost_elements
from imsim.kernels.gradients import Gradients, inverse, multiples, per_image
from imsim.kernels.imed import blurred_difference
from imsim.kernels.imed import imed as score
from imsim.kernels.se import pooled, sums_of
from imsim.portable.arrays import where_valid
from imsim.portable.pair import Pair
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST
from imsim.workers import divided, parallel

BEL = 10 / math.log(10)
"""Derivative of 10 log10(s) with respect to log(s)."""


def _of_pooled(
    pair: Pair, upstream: Array, wanted: tuple[bool, bool], factor: Callable[..., Any]
) -> Gradients | None:
    """Return x - y times a factor of the sum of squares, the number of pixels and of channels.

    None where some image is so bright or so dark that a kernel measures it in another unit.
    """
    squares, n, unit = pooled(pair, pair.mask)
    if unit is not None and bool((unit != 1).any()):
        return None
    scale = upstream * factor(squares[..., 0], n[..., 0], pair.x.shape[-3])
    return multiples(pair, pair.x - pair.y, scale, wanted)


def se(pair: Pair, upstream: Array, wanted: tuple[bool, bool], reduction: str) -> Gradients | None:
    """2 (x - y), divided by the number of values for the mean."""
    is_mean = reduction == "mean"
    return _of_pooled(pair, upstream, wanted, lambda _, n, c: 2 / (n * c) if is_mean else 2.0)


def rmse(
    pair: Pair, upstream: Array, wanted: tuple[bool, bool], normalize: str | None
) -> Gradients | None:
    """(x - y) / (n RMSE), divided by L on request; 0 for identical images."""
    span = pair.data_range if normalize == "range" else 1.0
    return _of_pooled(pair, upstream, wanted, lambda s, n, c: inverse(np.sqrt(s * n * c) * span))


def psnr(pair: Pair, upstream: Array, wanted: tuple[bool, bool]) -> Gradients | None:
    """-20 / ln(10) (x - y) / (n MSE); 0 for identical images, whose score is infinite."""
    return _of_pooled(pair, -2 * BEL * upstream, wanted, lambda s, *_: inverse(s))


def sre(pair: Pair, upstream: Array, wanted: tuple[bool, bool]) -> Gradients | None:
    """20 / ln(10) (1 / (n mean(x)) - (x - y) / (n MSE)) for x, 20 / ln(10) (x - y) / (n MSE) for y.

    Both are 0 where the score of a channel is infinite.
    """
    squares, _, total, _ = sums_of(pair, pair.mask, with_total=True)
    odd = find_lost_sums(pair, squares, total * total)
    if odd is not None and any(lost_elements(odd.any(axis=-1), pair, pair.mask, equal=False)):
        return None
    is_finite = (squares > 0) & (total != 0)
    weights = where_valid(is_finite, 2 * BEL * upstream[..., None] / pair.x.shape[-3])
    by_error = (weights * inverse(squares))[..., None, None]
    difference = pair.x - pair.y
    of_y = by_error * difference
    of_x = None
    if wanted[0]:
        by_mean = (weights * inverse(total))[..., None, None]
        of_x = where_valid(pair.mask, by_mean - of_y)
    kind = pair.x.dtype
    return (
        None if of_x is None else of_x.astype(kind, copy=False),
        of_y.astype(kind, copy=False) if wanted[1] else None,
    )


def imed(
    pair: Pair,
    upstream: Array,
    wanted: tuple[bool, bool],
    sigma: float,
    normalize: str | None,
    spacing: tuple[float, ...] | None,
) -> Gradients | None:
    """G d / sqrt(d' G d), divided by the square root of the number of values on request.

    The gradient of identical images is 0. None, for the formula, where there is a spacing.
    """
    scores = score(pair, pair.mask, sigma, None, spacing)
    if scores is None:
        return None
    distance = scores.values[..., 0]
    if not np.all((distance == 0) | ((distance > SMALLEST) & (distance < LARGEST))):
        return None
    if normalize == "rms":
        upstream = upstream * np.sqrt(inverse(scores.scored[..., 0] * pair.x.shape[-3]))
    blurred = blurred_difference(pair, pair.mask, sigma)
    return multiples(pair, blurred, upstream * inverse(distance), wanted)


TINY = 16 * float(np.finfo(np.float64).eps)
"""Length of u - v, or of u + v, that may be rounding, and then has an arbitrary direction."""
ROWS = 64
"""Most rows of a strip, the unit of work of a thread."""


def sam(
    pair: Pair, upstream: Array, wanted: tuple[bool, bool], mode: str, degrees: bool
) -> Gradients | None:
    """Gradient of the angle of the images, or of the mean angle of the pixels."""
    if pair.x.dtype == np.float64 and any(abs(v).max() > LARGEST for v in (pair.x, pair.y)):
        return None
    weights = upstream * (180 / math.pi if degrees else 1.0)
    found = (_of_images if mode == "image" else _of_pixels)(pair, weights)
    return found[0] if wanted[0] else None, found[1] if wanted[1] else None


def _of_images(pair: Pair, weights: Array) -> tuple[Array, Array]:
    """Gradient of the angle between the images, each as one vector."""

    def norm(v: Array) -> Array:
        return np.sqrt((v * v).sum(axis=(-3, -2, -1), keepdims=True))

    x, y = (where_valid(pair.mask, v.astype(np.float64, copy=False)) for v in (pair.x, pair.y))
    norm_x, norm_y = norm(x), norm(y)
    u, v = x * inverse(norm_x), y * inverse(norm_y)
    apart = norm(u - v)
    along = norm(u + v)
    sine = apart * along / 2
    is_smooth = (norm_x > 0) & (norm_y > 0) & (apart > TINY) & (along > TINY)
    factor = where_valid(is_smooth, per_image(-weights) * inverse(sine))
    half = apart * apart / 2
    of_x = factor * inverse(norm_x) * ((v - u) + half * u)
    of_y = factor * inverse(norm_y) * ((u - v) + half * v)
    kind = pair.x.dtype
    return of_x.astype(kind, copy=False), of_y.astype(kind, copy=False)


def _of_pixels(pair: Pair, weights: Array) -> tuple[Array, Array]:
    """Gradient of the mean angle between the channel vectors of the pixels."""
    x, y, mask = pair.x, pair.y, pair.mask
    batch = np.broadcast_shapes(weights.shape, x.shape[:-3], y.shape[:-3])
    shape = (*batch, *x.shape[-3:])
    x, y = (np.broadcast_to(v, shape).reshape(-1, *shape[-3:]) for v in (x, y))
    valid = None
    if mask is not None:
        valid = np.broadcast_to(mask, (*batch, 1, *shape[-2:])).reshape(-1, *shape[-2:])
    of_x, of_y = np.zeros(x.shape, x.dtype), np.zeros(y.shape, y.dtype)
    strips = divided(shape[-2], ROWS)
    counts = np.zeros((len(x), len(strips)))

    def task(i: int) -> None:
        image, k = divmod(i, len(strips))
        rows, inside = strips[k], NO_MASK if valid is None else valid[image]
        # Whole images, which are contiguous: Numba would compile again for strips, which are not.
        arrays = x[image], y[image], inside, of_x[image], of_y[image]
        counts[image, k] = _angles(*arrays, rows.start, rows.stop)

    parallel(task, counts.size, x.size)
    per_angle = np.broadcast_to(weights, batch).reshape(-1) * inverse(counts.sum(axis=1))
    for found in (of_x, of_y):
        np.multiply(found, per_image(per_angle), out=found, casting="same_kind")
    return of_x.reshape(shape), of_y.reshape(shape)


@kernel
def _angles(x, y, mask, of_x, of_y, start, stop):  # type: ignore[no-untyped-def]
    """Write the gradient of the angle of each pixel of some rows; return the number of angles."""
    count = 0
    for i in range(start, stop):
        for j in range(x.shape[2]):
            if mask.size != 0 and not mask[i, j]:
                continue
            square_x, square_y = 0.0, 0.0
            for c in range(x.shape[0]):
                p, q = np.float64(x[c, i, j]), np.float64(y[c, i, j])
                square_x += p * p
                square_y += q * q
            if square_x == 0 and square_y == 0:
                continue
            count += 1
            if square_x == 0 or square_y == 0:
                continue
            norm_x, norm_y = math.sqrt(square_x), math.sqrt(square_y)
            minus, plus = 0.0, 0.0
            for c in range(x.shape[0]):
                u, v = np.float64(x[c, i, j]) / norm_x, np.float64(y[c, i, j]) / norm_y
                minus += (u - v) * (u - v)
                plus += (u + v) * (u + v)
            if minus <= TINY**2 or plus <= TINY**2:
                continue
            sine, half = math.sqrt(minus * plus) / 2, minus / 2
            for c in range(x.shape[0]):
                u, v = np.float64(x[c, i, j]) / norm_x, np.float64(y[c, i, j]) / norm_y
                of_x[c, i, j] = -((v - u) + half * u) / (sine * norm_x)
                of_y[c, i, j] = -((u - v) + half * v) / (sine * norm_y)
    return count
