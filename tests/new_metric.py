"""A metric that no file of the package knows, registered as one of its own would be.

Loaded by ``pytest -p new_metric``, before the tests read `METRICS`. It needs images larger than
any other metric does.
"""

from __future__ import annotations

from typing import Any, Literal

import imsim
from imsim import engine
from imsim.portable.arrays import to_widest_float
from imsim.portable.pair import Local, Pair, Scores, average
from imsim.registry import metric


def absolute_error(pair: Pair) -> Local:
    """|x - y| per pixel."""
    values = pair.xp.abs(to_widest_float(pair.x) - to_widest_float(pair.y))
    return Local(values, pair.mask, reach=(0, 0), weights=pair.weights)


def mean_absolute_error(pair: Pair) -> Scores:
    """Mean over the scored pixels."""
    return average(absolute_error(pair))


def mae_map(
    a: Any,
    b: Any,
    *,
    mask: Any = None,
    weights: Any = None,
    data_range: float | None = None,
    channel_axis: int | None = None,
    ndim: Literal[2, 3] = 2,
) -> Any:
    """Absolute difference per pixel.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim
        As for `mae`.

    Returns
    -------
    array

    Raises
    ------
    ImsimError
        As for `mae`.

    Examples
    --------
    >>> 1
    1
    """
    return engine.score_map(
        "mae",
        absolute_error,
        (a, b, mask, weights, data_range, channel_axis, ndim, None, None),
    )


@metric(
    title="Mean absolute error",
    higher_is_better=False,
    best=0.0,
    bounds=(0.0, float("inf")),
    unit="I",
    references=("Elementary",),
    sees="How far are pixels apart on average?",
    of_differences=True,
    volumes="pixels",
    least_side=41,
    map_function=mae_map,
)
def mae(
    a: Any,
    b: Any,
    *,
    mask: Any = None,
    weights: Any = None,
    data_range: float | None = None,
    channel_axis: int | None = None,
    ndim: Literal[2, 3] = 2,
) -> Any:
    """Mean absolute error.

    Parameters
    ----------
    a, b : array_like, shape (..., height, width)
        Images.
    mask, weights, data_range, channel_axis, ndim
        As everywhere.

    Returns
    -------
    float64 or array of float64

    Raises
    ------
    ImsimError
        As everywhere.

    References
    ----------
    Elementary.

    Examples
    --------
    >>> 1
    1
    """
    return engine.score(
        "mae",
        mean_absolute_error,
        (a, b, mask, weights, data_range, channel_axis, ndim, None, None),
    )


imsim.mae, imsim.mae_map = mae, mae_map  # type: ignore[attr-defined]
imsim.__all__ += ["mae", "mae_map"]
