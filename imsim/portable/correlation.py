"""Correlations by one operation of PyTorch, where the formulas take a sum of shifted images."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from imsim.portable.arrays import array_namespace, is_tensor, where_valid, without_gradient
from imsim.typing import Array

GRID = 16
"""Pixels a side, about, that choose a centre."""


def is_convolved(values: Array) -> bool:
    """Whether `convolved` takes these values: tensors of float64, which TF32 never touches."""
    return is_tensor(values) and str(values.dtype) == "torch.float64"


def convolved(values: Array, taps: tuple[float, ...], axis: int) -> Array:
    """Correlate tensors with `taps` along axis -1, -2 or -3, at the positions where they fit."""
    if axis == -3:
        *others, depth, height, width = values.shape
        planes = values.reshape(*others, depth, height * width)
        return convolved(planes, taps, -2).reshape(*others, -1, height, width)
    shape = (1, 1, len(taps), 1) if axis == -2 else (1, 1, 1, len(taps))
    weights = values.new_tensor(taps).reshape(shape)
    height, width = values.shape[-2:]
    flat = values.reshape(-1, 1, height, width)
    found = sys.modules["torch"].nn.functional.conv2d(flat, weights)
    return found.reshape(*values.shape[:-2], *found.shape[-2:])


def convolved_similarity(
    x: Array,
    y: Array,
    sides: tuple[tuple[float, ...], ...],
    mask: Array | None,
    weight: Array | float,
    weights: Array | None,
    constants: Sequence[Any],
    unbiased: Array | float,
) -> Array:
    """SSIM of the windows of two tensors, in few operations: all sums are convolved at once.

    `sides` are the taps along each axis, `weights` those of the pixels, if they have any, and
    `weight` is what a window weighs.
    Each image is taken about a number among its own, on which neither moments nor gradients depend.
    """
    xp = array_namespace(x)
    centres = [centre_of(v, mask, len(sides)) for v in (x, y)]
    d, e = (where_valid(mask, v - c) for v, c in zip((x, y), centres, strict=True))
    d, e = xp.broadcast_arrays(d, e)
    means = xp.stack([d, e, (d * d).addcmul(e, e), d * e])
    if weights is not None:
        means = means * weights
    for axis, taps in zip(range(-1, -1 - len(sides), -1), reversed(sides), strict=True):
        means = convolved(means, taps, axis)
    if not isinstance(weight, float) or weight != 1.0:
        means = means / weight
    p, q, squares, products = means[0], means[1], means[2], means[3]
    mu_x, mu_y = p + centres[0], q + centres[1]
    c1, c2 = (p.new_tensor(c) if isinstance(c, float) else c for c in constants)
    top = c1.addcmul(mu_x, mu_y, value=2)
    bottom = c1.addcmul(mu_x, mu_x).addcmul(mu_y, mu_y)
    covariance = products.addcmul(p, q, value=-1)
    variances = squares.addcmul(p, p, value=-1).addcmul(q, q, value=-1)
    if not isinstance(unbiased, float) or unbiased != 1.0:
        covariance, variances = covariance * unbiased, variances * unbiased
    return top / bottom * (c2.add(covariance, alpha=2) / (variances + c2))


def centre_of(image: Array, mask: Array | None, ndim: int = 2) -> Array:
    """Median of some pixels of each image inside the mask, which no outlier draws away."""
    image = without_gradient(image)
    if mask is not None:
        image = where_valid(mask, image, math.nan)
    axes = tuple(range(-ndim, 0))
    steps = (max(image.shape[axis] // GRID, 1) for axis in axes)
    some = image[(..., *(slice(None, None, step) for step in steps))]
    some = some.reshape(*some.shape[:-ndim], -1)
    if is_tensor(image):
        found = some.nanmedian(-1).values
    else:
        found = sys.modules["jax"].numpy.nanmedian(some, axis=-1)
    found = found.reshape(*found.shape, *(1,) * ndim)
    if mask is None:
        return found
    if is_tensor(image):
        of_all = image.nanmean(axes, True).nan_to_num(0.0)
        return found.where(found == found, of_all)  # a small mask may lie between these pixels
    jnp = sys.modules["jax"].numpy
    of_all = jnp.nan_to_num(jnp.nanmean(image, axis=axes, keepdims=True))
    return jnp.where(found == found, found, of_all)


def cell_gradients(images: tuple[Array, ...]) -> list[Array]:
    """Twelve times the Prewitt gradients of means over 2x2 pixels; see `cell_gradient`.

    The derivative is 0 where a gradient is 0. There the value is the root of the least number,
    whose square is 0 beside any constant.
    """
    torch = sys.modules["torch"]
    counts = [math.prod(image.shape[:-2]) for image in images]  # numel() would ask for a number
    height, width = images[0].shape[-2:]
    flat = torch.cat([image.reshape(-1, 1, height, width) for image in images])
    if height % 2 or width % 2:
        flat = torch.nn.functional.pad(flat, (0, width % 2, 0, height % 2))
    across = flat.new_tensor([-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]).expand(6, 6)
    # Of whole numbers, so that constant images have gradients of exactly 0.
    weights = torch.stack([across, across.T])[:, None]
    components = torch.nn.functional.conv2d(flat, weights, stride=2, padding=2)
    squares = (components * components).sum(1)
    found = squares.clamp(min=torch.finfo(flat.dtype).smallest_normal).sqrt()
    return [
        part.reshape(*image.shape[:-2], *part.shape[-2:])
        for part, image in zip(found.split(counts), images, strict=True)
    ]
