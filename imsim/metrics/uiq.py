"""Universal image quality index (UIQ)."""

from __future__ import annotations

import functools
from typing import Any, Literal

from imsim import engine
from imsim.kernels import loaders
from imsim.portable.pair import Local, Pair, Scores, average
from imsim.portable.structural_similarity import WITHOUT_CONSTANTS, structural_similarity
from imsim.portable.windows import uniform
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.local import WindowMeans
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score, Writable
from imsim.validation import check_side


def quality(pair: Pair, block_size: int) -> Local:
    """4 cov mu_x mu_y / ((var_x + var_y)(mu_x^2 + mu_y^2)) in every block: SSIM, C1 = C2 = 0."""
    block = uniform(*[block_size] * (2 if pair.depth is None else 3))
    pair = pair._replace(data_range=1.0)  # on which nothing depends
    return structural_similarity(pair, window=block, **WITHOUT_CONSTANTS)


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


def _region_kernel() -> Any:
    from imsim.kernels.regions.windows import uiq

    return functools.partial(uiq, block_size=8)


def _pieces(whole: Any, block_size: int) -> Any:
    kernel = Kernel(loaders.windows if len(whole.sides) == 2 else loaders.volume_windows, "uiq")
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
    kernel=Kernel(loaders.windows, "uiq"),
    map_kernel=Kernel(loaders.windows, "uiq_map"),
    gradient=Kernel(loaders.window_gradients, "uiq"),
    volumes="windows",
    volume_kernel=Kernel(loaders.volume_windows, "uiq"),
    volume_map_kernel=Kernel(loaders.volume_windows, "uiq_map"),
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
