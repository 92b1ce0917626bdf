"""Universal image quality index (UIQ)."""

from __future__ import annotations

import functools
from typing import Any, Literal

from imsim import engine
from imsim.portable.arrays import to_widest_float
from imsim.portable.chunks import in_slabs
from imsim.portable.moments import (
    is_dark,
    is_flat,
    local_covariance,
    local_moments,
    mean_of_opposites,
)
from imsim.portable.pair import Local, Pair, Scores, average, laid_out
from imsim.portable.units import SQUARES, in_units, scaling_unit, unless_infinite
from imsim.portable.volumes import unstacked
from imsim.portable.windows import Fraction, support_of, uniform, zero_rules
from imsim.registry import Crop, metric
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score, Writable
from imsim.validation import check_side


def quality(pair: Pair, block_size: int) -> Local:
    """4 cov mu_x mu_y / ((var_x + var_y)(mu_x^2 + mu_y^2)) in every block."""
    return in_slabs(functools.partial(_quality, block_size=block_size), pair, block_size // 2)


def _quality(pair: Pair, block_size: int) -> Local:
    block = uniform(*[block_size] * (2 if pair.depth is None else 3))
    # Without constants in the quotients, rounding in float32 would decide the flat blocks.
    x, y = (unstacked(to_widest_float(v), pair.depth) for v in (pair.x, pair.y))
    mask, weights = (unstacked(v, pair.depth) for v in (pair.mask, pair.weights))
    support = support_of(mask, block, x, 0.0, weights)

    def values(unit: Any, _: Any) -> Array:
        p, q = local_moments(x / unit, block, support), local_moments(y / unit, block, support)
        covariance = local_covariance(p, q, block, support)
        mu_x, mu_y = (mean_of_opposites(v, block, support) for v in (p, q))
        luminance = Fraction(2 * mu_x * mu_y, mu_x * mu_x + mu_y * mu_y)
        structure = Fraction(2 * covariance, p.variance + q.variance)
        flat = is_flat(p) & is_flat(q)
        dark = is_dark(p, block) & is_dark(q, block)
        found = zero_rules(luminance, structure, flat, dark)
        return unless_infinite(found, luminance.bottom, structure.bottom)

    unit = scaling_unit(x, y, axis=block.axes, root=SQUARES)
    found = pair.xp.clip(in_units(values, unit, unit), -1.0, 1.0)
    return laid_out(found, support.scored, block.lengths, weights=support.positions)


def mean_quality(pair: Pair, block_size: int) -> Scores:
    """Mean over all blocks."""
    return average(quality(pair, block_size))


def uiq_map(
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
    block_size: int = 8,
) -> Array:
    """Universal image quality index of the block around each pixel.

    The mean of the map over the scored pixels is `uiq`. A block of even size belongs to the
    pixel below and to the right of its centre.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for `uiq`.
    out : array-like, optional
        Where to write the map, block by block, e.g. an array of Zarr; it is returned.
    block_size : int
        Side of the block, in pixels; at least 2.

    Returns
    -------
    array, shape (..., height, width)
        Quality per pixel; a block outside the frame is not scored.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> x = np.arange(9.0).reshape(3, 3)
    >>> print(imsim.uiq_map(x, x, block_size=3))
    [[nan nan nan]
     [nan  1. nan]
     [nan nan nan]]
    """
    check_side("block_size", block_size)
    return engine.score_map(
        "uiq",
        quality,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        out=out,
        least_side=block_size,
        block_size=block_size,
    )


def _kernel() -> Any:
    from imsim.kernels.uiq import uiq  # slow to import, as Numba is

    return uiq


def _map_kernel() -> Any:
    from imsim.kernels.uiq import uiq_map

    return uiq_map


def _volume_kernel() -> Any:
    from imsim.kernels.volume_ssim import uiq

    return uiq


def _volume_map_kernel() -> Any:
    from imsim.kernels.volume_ssim import uiq_map

    return uiq_map


def _gradient() -> Any:
    from imsim.kernels.gradients.windows import uiq

    return uiq


def _region_kernel() -> Any:
    from imsim.kernels.regions.windows import uiq

    return functools.partial(uiq, block_size=8)


def _pieces(whole: Any, block_size: int) -> Any:
    from imsim.scenes.local import WindowMeans

    kernel = _kernel if len(whole.sides) == 2 else _volume_kernel
    lengths = (block_size,) * len(whole.sides)
    return WindowMeans(whole, mean_quality, kernel, lengths, {"block_size": block_size})


@metric(
    title="Universal image quality index",
    higher_is_better=True,
    best=1.0,
    bounds=(-1.0, 1.0),
    references=("Wang and Bovik 2002, doi:10.1109/97.995823",),
    map_function=uiq_map,
    sees="As SSIM without its constants: strict, and nervous where the images are flat.",
    needs_contrast=True,
    least_side=8,
    kernel=_kernel,
    map_kernel=_map_kernel,
    gradient=_gradient,
    volumes="windows",
    volume_kernel=_volume_kernel,
    volume_map_kernel=_volume_map_kernel,
    crop=Crop(halo=4),  # a block counts if half of it is inside
    region_kernel=_region_kernel,
    pieces=_pieces,
)
def uiq(
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
    block_size: int = 8,
) -> Score:
    r"""Universal image quality index, as its authors' ``img_qi.m`` computes it.

    .. math::
        Q = \frac{4 \sigma_{xy} \mu_x \mu_y}
        {(\sigma_x^2 + \sigma_y^2)(\mu_x^2 + \mu_y^2)}

    in every square block of pixels, averaged over all blocks; SSIM without its constants. Two
    flat blocks score :math:`2 \mu_x \mu_y / (\mu_x^2 + \mu_y^2)`, and 1 if both means are 0.
    With a mask, the moments are those of the pixels of the block inside the mask. A block counts if
    its centre lies inside; one of even size, if half of it does. With weights, the moments are
    weighted. A block counts by the weight of its centre; one of even size, by the mean weight of
    its pixels.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``.
    block_size : int
        Side of the block, in pixels; at least 2.

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
    Wang, Z., Bovik, A. C.: A universal image quality index. IEEE Signal Processing Letters
    9(3), 81-84 (2002). doi:10.1109/97.995823

    Examples
    --------
    >>> import numpy as np, imsim
    >>> flat = np.full((8, 8), 50)
    >>> print(imsim.uiq(flat, 2 * flat))
    0.8
    """
    check_side("block_size", block_size)
    return engine.score(
        "uiq",
        mean_quality,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        least_side=block_size,
        block_size=block_size,
    )
