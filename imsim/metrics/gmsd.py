"""Gradient magnitude similarity deviation (GMSD)."""

from __future__ import annotations

from typing import Any, Literal

from imsim import engine
from imsim.portable.arrays import array_namespace, at_most, stacked, to_widest_float, unstacked
from imsim.portable.coarse import (
    CELL_REACH,
    LOST,
    PREWITT,
    C,
    block_mean,
    cell_gradient,
    eroded,
    exact_cell_gradient,
    least_around,
    least_in_cells,
    similarity,
)
from imsim.portable.correlation import cell_gradients, is_convolved
from imsim.portable.pair import Local, Pair, Scores, deviation, in_slabs
from imsim.portable.units import (
    SQUARES,
    always_ordinary,
    in_unit,
    in_units,
    scaling_unit,
    takes_one_pass,
    unless_infinite,
)
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.local import Deviation
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score, Writable


def gradient_similarity(pair: Pair) -> Local:
    """(2 m_x m_y + c) / (m_x^2 + m_y^2 + c), with Prewitt gradients of 2x2 means.

    For volumes, of 2x2x2 means, and each component is smoothed along the other two axes.
    """
    return in_slabs(_gradient_similarity, pair, CELL_REACH[1], step=2)


def _gradient_similarity(pair: Pair) -> Local:
    axes = (-1, -2) if pair.depth is None else (-1, -2, -3)
    x, y = (unstacked(to_widest_float(v), pair.depth) for v in (pair.x, pair.y))
    valid = unstacked(pair.mask, pair.depth)
    if valid is not None:
        _, valid = block_mean(x, valid, 2, border="zero", min_coverage=1.0, axes=axes[::-1])
    weights = pair.weights
    if weights is not None:
        weights = least_around(least_in_cells(unstacked(weights, pair.depth), axes), axes)

    def values(unit: Any, _: Any) -> Array:
        c = C * (pair.data_range / unit) ** 2
        if is_convolved(x) and always_ordinary(pair.x, x) and pair.depth is None:
            m_x, m_y = cell_gradients((in_unit(x, unit), in_unit(y, unit)))
            return similarity(m_x, m_y, 144 * c)
        p, q = in_unit(x, unit), in_unit(y, unit)
        m_x, m_y = (_with_digits(cell_gradient(v, PREWITT, axes), v, c, axes) for v in (p, q))
        return unless_infinite(similarity(m_x, m_y, c), m_x * m_x + m_y * m_y)

    if always_ordinary(pair.x, x):
        quality = values(1.0, 1.0)
    else:
        unit = scaling_unit(x, y, axis=axes, root=SQUARES)
        unit = pair.xp.maximum(unit, pair.xp.ones_like(unit))  # small pixels need no unit
        quality = in_units(values, unit, unit)
    # Rounding may lift it above 1 where the gradients are nearly the same.
    quality, valid = at_most(quality, 1.0), eroded(valid, axes)
    if pair.depth is None:
        return Local(quality, valid, step=2, reach=CELL_REACH, weights=weights)
    planes = quality.shape[-3]
    quality, *others = (None if v is None else stacked(v) for v in (quality, valid, weights))
    valid, weights = others
    return Local(quality, valid, step=2, reach=CELL_REACH, depth=planes, weights=weights)


def _with_digits(gradient: Array, image: Array, c: Array | float, axes: tuple[int, ...]) -> Array:
    """Make a gradient precise also where distant pixels cancel, as of a cliff at a border.

    Nothing changes in libraries that differentiate and compile, or where c is large beside the
    gradient.
    """
    xp = array_namespace(image)
    if takes_one_pass(image) or image.dtype != xp.float64:
        return gradient
    largest = xp.max(xp.abs(image), axis=axes, keepdims=True)
    lost = gradient * gradient + c < (LOST * largest) ** 2
    if not bool(xp.any(lost)):
        return gradient
    precise = exact_cell_gradient(image, axes)
    return xp.where(lost & xp.isfinite(precise), precise, gradient)


def gradient_similarity_deviation(pair: Pair) -> Scores:
    """Standard deviation, with n - 1, of the gradient similarity."""
    return deviation(gradient_similarity(pair))


def gmsd_map(
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
) -> Array:
    """Gradient magnitude similarity per pixel.

    The score `gmsd` is the standard deviation (with n - 1) of this map over its cells of 2x2
    pixels; its mean is known as GMSM.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for `gmsd`.
    out : array-like, optional
        Where to write the map, block by block, e.g. an array of Zarr; it is returned.

    Returns
    -------
    array, shape (..., height, width)
        Similarity per pixel, from 0 to 1; each cell of 2x2 pixels has one value.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> x = np.eye(4)
    >>> print(imsim.gmsd_map(x, x, data_range=1).min())
    1.0
    """
    return engine.score_map(
        "gmsd",
        gradient_similarity,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        out=out,
    )


def _kernels() -> Any:
    from imsim.kernels import gmsd  # slow to import, as Numba is

    return gmsd


def _gradient() -> Any:
    from imsim.kernels.gradients.gmsd import gradient

    return gradient


def _region_kernel() -> Any:
    from imsim.kernels.regions.gmsd import gmsd

    return gmsd


def _pieces(whole: Any) -> Any:
    kernel = Kernel(_kernels, "gmsd_map") if len(whole.sides) == 2 else None
    return Deviation(whole, gradient_similarity, kernel, step=2)


@metric(
    title="Gradient magnitude similarity deviation",
    higher_is_better=False,
    best=0.0,
    bounds=(0.0, 0.5**0.5),
    needs_data_range=True,
    references=("Xue et al. 2014, doi:10.1109/TIP.2013.2293423",),
    map_function=gmsd_map,
    map_higher_is_better=True,
    map_bounds=(0.0, 1.0),
    sees="How unevenly are edges lost? An even loss of contrast over the whole image passes "
    "nearly unnoticed.",
    map_title="Gradient similarity",
    least_longer_side=3,  # a single cell of 2x2 pixels has no deviation
    kernel=Kernel(_kernels, "gmsd"),
    map_kernel=Kernel(_kernels, "gmsd_map"),
    gradient=_gradient,
    volumes="windows",
    experimental_volumes=True,
    crop=Crop(halo=2, step=2),  # a cell
    region_kernel=_region_kernel,
    pieces=_pieces,
)
def gmsd(
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
) -> Score:
    r"""Gradient magnitude similarity deviation, as its authors' ``GMSD.m`` computes it.

    .. math::
        \mathrm{GMS} = \frac{2 m_x m_y + c}{m_x^2 + m_y^2 + c}, \quad
        \mathrm{GMSD} = \operatorname{std}(\mathrm{GMS}), \quad c = 170 (L / 255)^2

    with the magnitudes m of the Prewitt gradients of the images averaged over 2x2 pixels, and
    the standard deviation with n - 1. Beyond the frame there are zeros, as in the authors' code.
    It measures how *unevenly* structure is lost: an even loss of contrast scores near 0. With
    a mask, a cell counts if its gradient needs no pixel outside the mask. With weights, a cell
    counts by the least weight that its gradient needs, and n - 1 becomes V1 - V2 / V1, with the
    sums V1 of these weights and V2 of their squares.

    For volumes, cells are of 2x2x2 pixels, and each component of the gradient is smoothed along
    the other two axes. No author defines this: it is **experimental**. Where a volume does not
    change along the depth, the similarity away from the first and the last planes is that of
    its planes.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``.

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
    Xue, W., Zhang, L., Mou, X., Bovik, A. C.: Gradient magnitude similarity deviation: a highly
    efficient perceptual image quality index. IEEE Transactions on Image Processing 23(2),
    684-695 (2014). doi:10.1109/TIP.2013.2293423

    Examples
    --------
    >>> import numpy as np, imsim
    >>> x = np.eye(8)
    >>> print(imsim.gmsd(x, x, data_range=1), round(imsim.gmsd(x, 1 - x, data_range=1), 4))
    0.0 0.306
    """
    return engine.score(
        "gmsd",
        gradient_similarity_deviation,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
    )
