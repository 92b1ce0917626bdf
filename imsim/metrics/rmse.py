"""Root mean squared error (RMSE)."""

from __future__ import annotations

from typing import Any, Literal

from imsim import engine
from imsim.kernels import loaders
from imsim.portable.arrays import root
from imsim.portable.differences import mean_squared_error
from imsim.portable.pair import Pair, Scores
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.moments import SquaredErrors
from imsim.typing import Dims, ImageLike, MaskLike, Memory, Score
from imsim.validation import check_choice


def root_mean_squared_error(pair: Pair, normalize: str | None) -> Scores:
    """sqrt(mean((x - y)^2)), divided by L on request."""
    mse, n, unit = mean_squared_error(pair)
    rmse = root(mse) * unit
    return Scores(rmse / pair.data_range if normalize == "range" else rmse, n)


def _pieces(whole: Any, normalize: str | None) -> Any:
    return SquaredErrors(whole, "root" if normalize is None else "share of the range")


@metric(
    title="Root mean squared error",
    higher_is_better=False,
    best=0.0,
    bounds=(0.0, float("inf")),
    unit="I",
    references=("Root of the mean squared difference; elementary",),
    sees="The typical difference of a pixel, in the unit of the pixel values.",
    of_differences=True,
    volumes="pixels",
    kernel=Kernel(loaders.pixel_sums, "rmse"),
    gradient=Kernel(loaders.pixel_gradients, "rmse"),
    crop=Crop(halo=0, gathers=True),
    pieces=_pieces,
)
def rmse(
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
    normalize: Literal["range"] | None = None,
) -> Score:
    r"""Root mean squared error.

    .. math:: \mathrm{RMSE}(x, y) = \sqrt{\tfrac{1}{n} \sum_p (x_p - y_p)^2}

    over the n scored pixels and channels of one image, in the unit of the pixel values.

    Parameters
    ----------
    a, b, mask, weights
        As for every metric, see ``help(imsim)``.
    data_range : float, optional
        Largest possible minus smallest possible value; used with ``normalize="range"`` only,
        where dtypes other than uint8 and bool need it.
    channel_axis : int, optional
        The axis that holds channels; the score pools over it.
    ndim, dims, memory
        As for every metric, see ``help(imsim)``.
    normalize : {None, "range"}
        ``"range"`` divides by `data_range`.

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
    Elementary; there is no defining paper (and no DOI).

    Examples
    --------
    >>> import imsim
    >>> print(imsim.rmse([[1, 2], [3, 4]], [[1, 2], [3, 8]]))
    2.0
    """
    check_choice("normalize", normalize, (None, "range"))
    return engine.score(
        "rmse",
        root_mean_squared_error,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        needs_data_range=normalize == "range",
        normalize=normalize,
    )
