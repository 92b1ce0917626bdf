"""Feature similarity (FSIM)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from imsim import engine
from imsim.errors import ShapeError
from imsim.portable.arrays import (
    at_most,
    count,
    is_compiling,
    ratio,
    to_widest_float,
    total,
    where_valid,
)
from imsim.portable.coarse import (
    SCHARR,
    T1,
    T2,
    YIQ,
    automatic_factor,
    block_mean,
    cell_weights,
    chromatic_similarity,
    eroded,
    filled,
    gradient_magnitude,
    least_around,
    similarity,
    similarity_in_units,
    weighted,
)
from imsim.portable.pair import Local, Pair, Scores, in_chunks
from imsim.portable.phase_congruency import phase_congruency
from imsim.registry import Kernel, metric
from imsim.scenes.local import Coarse
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score, Writable
from imsim.validation import check_flag

CHUNK_BYTES = 1 << 29
"""Most bytes, as estimated here, that the planes of a chunk take."""
PIXEL_BYTES, CELL_BYTES = 40, 400
"""Bytes of a plane by pixel and by cell of the coarser grid: about 5 and 50 numbers of float64."""


class Features(NamedTuple):
    """The features of one image, on the coarser grid."""

    congruency: Array
    luminance: Array
    chrominance: tuple[Array, ...]
    """I and Q, or nothing."""
    valid: Array | None
    """Where the features read no pixel outside the mask."""
    weights: Array | None
    """The least weight of the cells that a gradient reads."""


def features(image: Array, pair: Pair, chromatic: bool) -> Features:
    """Phase congruency, luminance and chrominance on a grid of about 256 pixels a side."""
    # The transform is float64: in float32, a distant part of the image or rounding in flat parts
    # would spoil it. Differences are scaled, not pixels: those far from 0 would lose digits.
    image = to_widest_float(image)
    planes = [weighted(image, w) for w in YIQ] if chromatic else [image]
    factor = automatic_factor(*image.shape[-2:])
    mask, weights = pair.mask, pair.weights
    cells = [block_mean(p, mask, factor, border="zero", weights=weights) for p in planes]
    valid = cells[0][1]
    if mask is not None and weights is not None:
        weights = where_valid(valid, cell_weights(weights, mask, factor, border="zero"))
    luminance, *chrominance = (filled(c, valid) for c, _ in cells)
    return Features(
        phase_congruency(luminance, valid, 255 / pair.data_range),
        luminance,
        tuple(chrominance),
        eroded(valid),
        least_around(weights),
    )


def check_is_coloured(channels: int, has_channels: bool) -> None:
    """Refuse images that are not of three channels."""
    if not has_channels or channels != 3:
        raise ShapeError(
            "chromatic=True needs three channels, red, green and blue, named by channel_axis; "
            f"got {channels if has_channels else 'no channel_axis'}"
        )


def feature_similarity(pair: Pair, chromatic: bool) -> tuple[Local, Array]:
    """S_PC S_G (S_I S_Q)^lambda, and the weight PC_m = max(PC_x, PC_y)."""
    xp = pair.xp
    if chromatic:
        check_is_coloured(pair.x.shape[-3], pair.has_channels)
    x, y = features(pair.x, pair, chromatic), features(pair.y, pair, chromatic)
    scale = 255 / pair.data_range

    def gradient(cells: Array) -> Array:
        return gradient_magnitude(cells, SCHARR) * scale

    def alike(p: Array, q: Array, c: float) -> Array:
        return similarity_in_units(p, q, c, lambda plane: scale * plane)

    values = similarity(x.congruency, y.congruency, T1)
    values = values * similarity_in_units(x.luminance, y.luminance, T2, gradient)
    if chromatic:
        values = values * chromatic_similarity(x.chrominance, y.chrominance, alike)
    values = at_most(values, 1.0)  # rounding may exceed 1
    local = Local(values, x.valid, step=automatic_factor(*pair.x.shape[-2:]), weights=x.weights)
    return local, xp.maximum(x.congruency, y.congruency)


def pooled_similarity(pair: Pair, chromatic: bool) -> Scores:
    """Mean of the similarity weighted by PC_m; 1 if neither image has any feature."""

    def pooled(pair: Pair) -> tuple[Array, Array]:
        local, weight = feature_similarity(pair, chromatic)
        weights = total(weight, local.valid, local.weights)
        fsim = ratio(total(local.values * weight, local.valid, local.weights), weights, 1.0)
        scored = count(weight, local.valid)
        return at_most(fsim, 1.0), pair.xp.broadcast_to(scored, fsim.shape)

    scores, scored = in_chunks(pooled, pair, *_chunks(pair, 0, chromatic))
    return Scores(scores, scored)


def similarity_map(pair: Pair, chromatic: bool) -> Local:
    """The similarity without its weight."""

    def mapped(pair: Pair) -> tuple[Array, Array | None]:
        local = feature_similarity(pair, chromatic)[0]
        shape = local.values.shape
        valid = None if local.valid is None else pair.xp.broadcast_to(local.valid, shape)
        return local.values, valid

    values, valid = in_chunks(mapped, pair, *_chunks(pair, 2, chromatic))
    return Local(values, valid, step=automatic_factor(*pair.x.shape[-2:]))


def _chunks(pair: Pair, trailing: int, chromatic: bool) -> tuple[int, int, int]:
    """Arguments of `in_chunks`: at most `CHUNK_BYTES` of what a plane takes, beyond the input."""
    if is_compiling():
        return 1, trailing, 1  # sizes may be symbols, which have no number yet
    height, width = pair.x.shape[-2:]
    cells = height * width // automatic_factor(height, width) ** 2
    plane = PIXEL_BYTES * height * width + CELL_BYTES * cells
    return max(1, CHUNK_BYTES // plane), trailing, pair.x.shape[-3] if chromatic else 1


def fsim_map(
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
    chromatic: bool = False,
) -> Array:
    """Feature similarity per pixel: phase congruency similarity times gradient similarity.

    `fsim` is the mean of this map weighted by the larger of the two phase congruencies.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for `fsim`.
    out : array-like, optional
        Where to write the map, block by block, e.g. an array of Zarr; it is returned.
    chromatic : bool
        Multiply by the chromatic similarity; needs three channels, red, green and blue.

    Returns
    -------
    array, shape (..., height, width)
        Similarity per pixel, from 0 to 1; each cell of the coarser grid has one value.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> x = np.eye(16)
    >>> print(imsim.fsim_map(x, x, data_range=1).min())
    1.0
    """
    check_flag("chromatic", chromatic)
    return engine.score_map(
        "fsim",
        similarity_map,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        out=out,
        chromatic=chromatic,
    )


def _kernels() -> Any:
    from imsim.kernels import fsim  # slow to import, as Numba is

    return fsim


def _gradients() -> Any:
    from imsim.kernels.gradients import fsim

    return fsim


def _pieces(whole: Any, chromatic: bool) -> Any:
    if chromatic:
        check_is_coloured(whole.channels, whole.has_channels)
    return Coarse(
        whole, pooled_similarity, Kernel(_kernels, "fsim"), "zero", {"chromatic": chromatic}
    )


@metric(
    title="Feature similarity",
    higher_is_better=True,
    best=1.0,
    bounds=(0.0, 1.0),
    needs_data_range=True,
    references=("Zhang et al. 2011, doi:10.1109/TIP.2011.2109730",),
    map_function=fsim_map,
    sees="Are edges, lines and corners kept? Weighs each place by how much structure it shows, "
    "as the eye does.",
    kernel=Kernel(_kernels, "fsim"),
    map_kernel=Kernel(_kernels, "fsim_map"),
    gradient=Kernel(_gradients, "gradient"),
    scored_gradient=Kernel(_gradients, "scored_gradient"),
    pieces=_pieces,
)
def fsim(
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
    chromatic: bool = False,
) -> Score:
    r"""Feature similarity, as its authors' ``FeatureSIM.m`` computes it.

    .. math::
        \mathrm{FSIM} = \frac{\sum_p S_{PC}(p) \, S_G(p) \, PC_m(p)}{\sum_p PC_m(p)}

    with the similarities :math:`S = (2 u v + T) / (u^2 + v^2 + T)` of the phase congruencies
    (T1 = 0.85) and of the Scharr gradients (T2 = 160 for pixel values to 255) of the two images,
    weighted by the larger phase congruency PC_m. The images are first averaged over blocks of
    F = max(1, round(min(height, width) / 256)) pixels a side. Two images without any feature
    score 1.

    With a mask, block means take the pixels inside it. A cell counts as inside if at least half of
    its pixels do. Before the Fourier transform, cells outside are filled from the nearest cells
    inside. Noise is estimated inside only. Cells next to one outside are not scored. With weights,
    block means are weighted, a cell weighs the mean over its pixels inside the mask, and PC_m is
    multiplied by the least weight among a cell and its neighbours.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``.
    chromatic : bool
        Compute FSIMc on red, green and blue channels: the luminance Y of YIQ instead of an
        average over channels, times the similarity of the chrominances I and Q to the power 0.03.

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
    Zhang, L., Zhang, L., Mou, X., Zhang, D.: FSIM: a feature similarity index for image quality
    assessment. IEEE Transactions on Image Processing 20(8), 2378-2386 (2011).
    doi:10.1109/TIP.2011.2109730

    Examples
    --------
    >>> import numpy as np, imsim
    >>> x = np.eye(32)
    >>> print(imsim.fsim(x, x, data_range=1), round(imsim.fsim(x, x.T[::-1], data_range=1), 4))
    1.0 0.4889
    """
    check_flag("chromatic", chromatic)
    return engine.score(
        "fsim",
        pooled_similarity,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        chromatic=chromatic,
    )
