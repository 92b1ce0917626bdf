"""Squared error (SE)."""

from __future__ import annotations

from typing import Any, Literal

from imsim import engine
from imsim.kernels import loaders
from imsim.portable.arrays import channel_sum, count, to_widest_float, total
from imsim.portable.differences import squared_difference
from imsim.portable.pair import Local, Pair, Scores
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.moments import SquaredErrors
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score, Writable
from imsim.validation import check_choice


def squared_error(pair: Pair, reduction: str) -> Scores:
    """Sum, or mean, of the squared differences over the scored pixels and channels."""
    squares, unit = squared_difference(pair)
    n = count(squares, pair.mask, pair.weights)
    found = channel_sum(total(squares, pair.mask, pair.weights))
    if reduction == "mean":
        found = found / (n * squares.shape[-3])
    return Scores(found * unit * unit, n)


def squared_error_map(pair: Pair, reduction: str) -> Local:
    """Squared difference per pixel, averaged over channels, or summed and weighted."""
    difference = to_widest_float(pair.x) - to_widest_float(pair.y)
    squares = difference * difference
    if reduction == "mean":
        return Local(squares, pair.mask, reach=(0, 0))
    squares = pair.xp.sum(squares, axis=-3, keepdims=True)
    if pair.weights is not None:
        squares = squares * pair.weights
    return Local(squares, pair.mask, reach=(0, 0))


def se_map(
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
    reduction: Literal["sum", "mean"] = "sum",
) -> Array:
    """Squared error per pixel.

    The sum of the map over the scored pixels is `se`. With weights, the squares are multiplied by
    them, unless ``reduction="mean"`` asks for the squares alone.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for `se`; the map sums, or averages, over channels.
    out : array-like, optional
        Where to write the map, block by block, e.g. an array of Zarr; it is returned.
    reduction : {"sum", "mean"}
        Whether channels are summed or averaged.

    Returns
    -------
    array, shape (..., height, width)
        Squared error per pixel, in squared units of intensity.

    Examples
    --------
    >>> import imsim
    >>> imsim.se_map([[1.0, 2.0]], [[1.0, 5.0]])
    array([[0., 9.]])
    """
    check_choice("reduction", reduction, ("sum", "mean"))
    return engine.score_map(
        "se",
        squared_error_map,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        out=out,
        weight_power=1 if reduction == "sum" else 0,
        reduction=reduction,
    )


def _pieces(whole: Any, reduction: str) -> Any:
    return SquaredErrors(whole, "mean" if reduction == "mean" else "sum")


@metric(
    title="Squared error",
    higher_is_better=False,
    best=0.0,
    bounds=(0.0, float("inf")),
    unit="I^2",
    references=("Sum of squared differences; elementary",),
    map_function=se_map,
    sees="The sum of all squared differences. Grows with the number of pixels; large "
    "differences count most.",
    of_differences=True,
    volumes="pixels",
    kernel=Kernel(loaders.pixel_sums, "se"),
    map_kernel=Kernel(loaders.pixel_sums, "se_map"),
    gradient=Kernel(loaders.pixel_gradients, "se"),
    crop=Crop(halo=0, gathers=True),
    pieces=_pieces,
)
def se(
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
    reduction: Literal["sum", "mean"] = "sum",
) -> Score:
    r"""Squared error: the **sum** of squared differences.

    .. math:: \mathrm{SE}(x, y) = \sum_p (x_p - y_p)^2

    over the scored pixels and channels. The sum grows with the number of pixels scored, and
    so with the size of the mask; ``reduction="mean"`` gives the mean squared error (MSE).
    With weights w it is :math:`\sum_p w_p (x_p - y_p)^2`: a pixel of weight 2 counts as two, and a
    common factor scales the sum.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``; the score pools over channels.
    reduction : {"sum", "mean"}
        Sum of the squared differences, or their mean (MSE).

    Returns
    -------
    float64 or array of float64
        Squared units of intensity. One per pair of images.

    Raises
    ------
    ImsimError
        One of the errors in ``help(imsim)``.

    References
    ----------
    Elementary; there is no defining paper (and no DOI).

    Examples
    --------
    >>> import imsim
    >>> print(imsim.se([[1, 2], [3, 4]], [[1, 2], [3, 7]]))
    9.0
    """
    check_choice("reduction", reduction, ("sum", "mean"))
    return engine.score(
        "se",
        squared_error,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        weight_power=1 if reduction == "sum" else 0,
        reduction=reduction,
    )
