"""From a metric to one anomaly score per image: over the whole mask, or in its worst window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import imsim
from imsim.anomaly.batches import in_threads
from imsim.anomaly.inputs import as_real, check_masks
from imsim.anomaly.quiet import quiet
from imsim.validation import check_integer

AGGREGATES = ("mean", "worst")
"""`"mean"` is the metric itself; `"worst"` the most dissimilar window of its map."""
WINDOW = 3
"""Default side of the window of `"worst"`, in pixels."""


def aggregates(metric: str) -> tuple[str, ...]:
    """Return the aggregates of a metric: ``("mean",)``, or ``("mean", "worst")`` with a map.

    Parameters
    ----------
    metric : str
        A name in `imsim.METRICS`.

    Returns
    -------
    tuple of str

    Raises
    ------
    OptionError
        If there is no such metric.

    Examples
    --------
    >>> from imsim.anomaly import scoring
    >>> scoring.aggregates("fsim"), scoring.aggregates("psnr")
    (('mean', 'worst'), ('mean',))
    """
    if not isinstance(metric, str) or metric not in imsim.METRICS:
        raise imsim.OptionError(f"metric={metric!r}; expected one of {', '.join(imsim.METRICS)}")
    facts = imsim.METRICS[metric]
    # The images of the workflow have no channels.
    has_map = facts.map_function is not None and not facts.map_needs_channels
    return AGGREGATES if has_map else AGGREGATES[:1]


def anomaly_scores(
    metric: str,
    inputs: Any,
    reconstructions: Any,
    *,
    masks: Any = None,
    data_range: float | None = None,
    aggregate: str = "mean",
    window: int = WINDOW,
) -> NDArray[np.float64]:
    r"""Return how unlike each input and its reconstruction are.

    With ``aggregate="mean"``, the metric's own score as a dissimilarity
    (`imsim.Metric.dissimilarity`). With ``aggregate="worst"``,

    .. math:: \max_w \frac{\sum_{p \in w} d(p)}{|w|}

    over the windows w of the map's dissimilarity d, of which only scored pixels count: a small
    body that vanishes in a mean does not vanish here. A window takes part if at least half of it
    was scored, or, where the mask is too small for that, as much as of any other.

    Parameters
    ----------
    metric : str
        A name in `imsim.METRICS`.
    inputs, reconstructions : array_like, shape (n, height, width)
        Any real dtype; the inputs are the reference where a metric has one.
    masks : array_like of bool, shape (n, height, width) or (height, width), optional
        True = use.
    data_range : float, optional
        See `imsim`; most metrics need it for anything but uint8.
    aggregate : {"mean", "worst"}
        See `aggregates`.
    window : int
        Side of the window of ``"worst"`` in pixels, at most that of the image.

    Returns
    -------
    float64 array, shape (n,)
        Larger = more anomalous. NaN where nothing could be scored, or where NaN or an infinity
        lies inside the mask.

    Raises
    ------
    OptionError
        If there is no such metric or aggregate, the metric has no map to take the worst window
        of, or the window is no integer of at least 1.
    ShapeError, DTypeError, MaskError, DataRangeError
        If the images, masks or data range do not suit the metric.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import scoring
    >>> x = np.zeros((2, 32, 32))
    >>> x[1, 8:10, 8:10] = 1
    >>> scoring.anomaly_scores("se", x, np.zeros_like(x))
    array([0., 4.])
    >>> scoring.anomaly_scores("se", x, np.zeros_like(x), aggregate="worst", window=4)
    array([0.  , 0.25])
    """
    if not isinstance(aggregate, str) or aggregate not in aggregates(metric):
        has = ", ".join(map(repr, aggregates(metric)))
        raise imsim.OptionError(f"aggregate={aggregate!r}; {metric} has {has}")
    check_integer("window", window, 1)
    x, y = as_real("inputs", inputs), as_real("reconstructions", reconstructions)
    if x.ndim != 3 or x.shape != y.shape or 0 in x.shape:
        raise imsim.ShapeError(
            f"inputs have shape {x.shape}, reconstructions {y.shape}; "
            "expected the same non-empty (n, height, width) for both"
        )
    used = None if masks is None else check_masks(masks, x.shape)
    facts = imsim.METRICS[metric]

    def scores(part: slice) -> NDArray[np.float64]:
        p, q, inside = x[part], y[part], None if used is None else used[part]
        if aggregate == "mean":
            score = np.asarray(facts.function(p, q, mask=inside, data_range=data_range))
            result = np.array(facts.dissimilarity(score), dtype=np.float64)
        else:
            values = _map(metric, p, q, inside, data_range)
            result = worst_window(values, window)
        finite = np.isfinite(p) & np.isfinite(q)
        result[~(finite if inside is None else finite | ~inside).all(axis=(1, 2))] = np.nan
        return result

    with quiet():
        return np.concatenate(in_threads(scores, len(x)))


def dissimilarity_map(
    metric: str,
    inputs: Any,
    reconstructions: Any,
    *,
    masks: Any = None,
    data_range: float | None = None,
) -> NDArray[Any]:
    """Return the metric's map, larger = more anomalous, NaN where nothing was scored.

    Parameters
    ----------
    metric : str
        A metric with a map, see `aggregates`.
    inputs, reconstructions, masks, data_range
        As for `anomaly_scores`.

    Returns
    -------
    float array, shape (n, height, width)

    Raises
    ------
    OptionError
        If the metric has no map of grey images.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import scoring
    >>> print(scoring.dissimilarity_map("se", [[[1.0, 2.0]]], [[[1.0, 4.0]]]))
    [[[0. 4.]]]
    """
    if "worst" not in aggregates(metric):
        with_map = [name for name in imsim.METRICS if "worst" in aggregates(name)]
        raise imsim.OptionError(
            f"{metric} has no map of grey images: use one of {', '.join(with_map)}"
        )
    with quiet():
        return _map(metric, inputs, reconstructions, masks, data_range)


def worst_window(values: NDArray[Any], window: int) -> NDArray[np.float64]:
    """Return the largest mean of each map over a window; see `anomaly_scores`.

    Parameters
    ----------
    values : float array, shape (n, height, width)
        Maps; NaN where nothing was scored.
    window : int
        Side of the window in pixels.

    Returns
    -------
    float64 array, shape (n,)
        NaN for a map without any value.
    """
    check_integer("window", window, 1)
    height, width = values.shape[1:]
    size = (1, min(window, height), min(window, width))
    scored = ~np.isnan(values)

    def window_mean(array: NDArray[Any]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = ndimage.uniform_filter(
            array, size, output=np.float64, mode="constant"
        )
        return mean

    share = window_mean(scored.astype(np.float32))
    most = share.max(axis=(1, 2), keepdims=True)
    # The running sums of the filter leave rounding errors, which must not decide on a window.
    enough = scored & (share > np.minimum(0.5, most) - 1e-6)
    means = window_mean(np.where(scored, values, 0)) / np.where(enough, share, 1)
    worst = np.where(enough, means, -np.inf).max(axis=(1, 2))
    return np.where(enough.any(axis=(1, 2)), worst, np.nan)


def _map(metric: str, x: Any, y: Any, masks: Any, data_range: float | None) -> NDArray[Any]:
    facts = imsim.METRICS[metric]
    function: Any = facts.map_function
    return np.asarray(facts.map_dissimilarity(function(x, y, mask=masks, data_range=data_range)))
