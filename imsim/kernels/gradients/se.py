"""Gradients of SE, RMSE, PSNR, SRE and IMED: multiples of the difference, or of it blurred."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.rescaling import find_lost_sums, lost_elements
from imsim.kernels.gradients import Gradients, images_of, inverse, multiples
from imsim.kernels.imed import blurred_difference
from imsim.kernels.imed import imed as score
from imsim.kernels.se import pooled, sums_of
from imsim.portable.arrays import where_valid
from imsim.portable.pair import Pair
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST

BEL = 10 / math.log(10)
"""Derivative of 10 log10(s) with respect to log(s)."""


def se(pair: Pair, upstream: Array, wanted: tuple[bool, bool], reduction: str) -> Gradients | None:
    """2 (x - y), divided by the number of values for the mean."""
    _, n, unit = pooled(images_of(pair), pair.mask)
    if is_scaled(unit):
        return None
    factor = 2 / (n[..., 0] * pair.x.shape[-3]) if reduction == "mean" else 2.0
    return multiples(pair, pair.x - pair.y, upstream * factor, wanted)


def rmse(
    pair: Pair, upstream: Array, wanted: tuple[bool, bool], normalize: str | None
) -> Gradients | None:
    """(x - y) / (n RMSE), divided by L on request; 0 for identical images."""
    squares, n, unit = pooled(images_of(pair), pair.mask)
    if is_scaled(unit):
        return None
    range_ = pair.data_range if normalize == "range" else 1.0
    factor = inverse(np.sqrt(squares[..., 0] * n[..., 0] * pair.x.shape[-3]) * range_)
    return multiples(pair, pair.x - pair.y, upstream * factor, wanted)


def psnr(pair: Pair, upstream: Array, wanted: tuple[bool, bool]) -> Gradients | None:
    """-20 / ln(10) (x - y) / (n MSE); 0 for identical images, whose score is infinite."""
    squares, _, unit = pooled(images_of(pair), pair.mask)
    if is_scaled(unit):
        return None
    return multiples(pair, pair.x - pair.y, -2 * BEL * upstream * inverse(squares[..., 0]), wanted)


def sre(pair: Pair, upstream: Array, wanted: tuple[bool, bool]) -> Gradients | None:
    """20 / ln(10) (1 / (n mean(x)) - (x - y) / (n MSE)) for x, 20 / ln(10) (x - y) / (n MSE) for y.

    Both are 0 where the score of a channel is infinite.
    """
    images = images_of(pair)
    squares, _, total, _ = sums_of(images, pair.mask, with_total=True)
    odd = find_lost_sums(images, squares, total * total)
    if odd is not None and any(lost_elements(odd.any(axis=-1), images, pair.mask, equal=False)):
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


def is_scaled(unit: Array | None) -> bool:
    """Whether some image is so bright or so dark that a kernel measures it in another unit."""
    return unit is not None and bool((unit != 1).any())


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
    images = images_of(pair)
    scores = score(images, pair.mask, sigma, None, spacing)
    if scores is None:
        return None
    distance = scores.values[..., 0]
    if not np.all((distance == 0) | ((distance > SMALLEST) & (distance < LARGEST))):
        return None
    if normalize == "rms":
        upstream = upstream * np.sqrt(inverse(scores.scored[..., 0] * images.x.shape[-3]))
    blurred = blurred_difference(images, pair.mask, sigma)
    return multiples(pair, blurred, upstream * inverse(distance), wanted)
