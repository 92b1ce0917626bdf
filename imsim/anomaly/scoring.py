"""From a metric to an anomaly score of each image, and from several scores to one that counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import imsim
from imsim.anomaly import stacks
from imsim.anomaly.gaussians import mean_of_highest
from imsim.anomaly.stacks import Doubles
from imsim.errors import silent
from imsim.validation import check_integer
from imsim.workers import in_parts

AGGREGATES = ("mean", "worst", "highest")
"""`"mean"` is the metric itself; `"worst"` the most dissimilar window of its map, and `"highest"`
the mean of the most dissimilar 2 % of the map, wherever they lie."""
HIGHEST = 0.02
"""Share of a map whose mean is the aggregate `"highest"`."""
BOTH = "both"
"""The aggregate of a detector that takes the more anomalous of mean and worst window."""
STATISTICS = "statistics"
"""The aggregate of a detector whose model measures how unlike good images an image is."""
EQUAL = 0.1
"""Distances below this are none: the image equals the only good one. Good images have 1 to 4."""
WINDOW = 3
"""Default side of the window of `"worst"`, in pixels."""
TAIL = 0.95
"""Quantile of held-out good images whose distance from their median is the unit of a score."""


def aggregates(metric: str) -> tuple[str, ...]:
    """Return the aggregates of a metric: all with a map of grey images, else ``("mean",)``.

    Raises
    ------
    OptionError
        If there is no such metric.

    Examples
    --------
    >>> from imsim.anomaly import scoring
    >>> scoring.aggregates("fsim"), scoring.aggregates("psnr")
    (('mean', 'worst', 'highest'), ('mean',))
    """
    if not isinstance(metric, str) or metric not in imsim.METRICS:
        raise imsim.OptionError(f"metric={metric!r}; expected one of {', '.join(imsim.METRICS)}")
    return AGGREGATES if metric in with_map() else AGGREGATES[:1]


def with_map() -> list[str]:
    """Return the metrics with a map of grey images: the images of the workflow have no channels."""
    return [
        name
        for name, facts in imsim.METRICS.items()
        if facts.map_function is not None and not facts.map_needs_channels
    ]


def anomaly_scores(
    metric: str,
    inputs: Any,
    reconstructions: Any,
    *,
    masks: Any = None,
    data_range: float | None = None,
    aggregate: str = "mean",
    window: int = WINDOW,
) -> Doubles:
    r"""Return how unlike each input and its reconstruction are.

    With ``aggregate="mean"``, the metric's own score as a dissimilarity
    (`imsim.Metric.dissimilarity`). With ``aggregate="worst"``,

    .. math:: \max_w \frac{\sum_{p \in w} d(p)}{|w|}

    over the windows w of the map's dissimilarity d, of which only scored pixels count: a small
    body that vanishes in a mean does not vanish here. A window counts if at least half of its
    pixels were scored. Where no window reaches half, those with the most scored pixels count.

    With ``aggregate="highest"``, the mean of the highest 2 % of d among the scored pixels, of one
    at least: a body need not be compact, as a crack is not.

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
    aggregate : {"mean", "worst", "highest"}
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
    ImsimError
        If there is no such metric or aggregate, or the images, masks or data range do not suit the
        metric.

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
    _check_aggregate(aggregate, metric, aggregates(metric))
    check_integer("window", window, 1)
    x, y = stacks.as_real("inputs", inputs), stacks.as_real("reconstructions", reconstructions)
    if x.ndim != 3 or x.shape != y.shape or 0 in x.shape:
        raise imsim.ShapeError(
            f"inputs have shape {x.shape}, reconstructions {y.shape}; "
            "expected the same non-empty (n, height, width) for both"
        )
    used = None if masks is None else stacks.check_masks(masks, x.shape)
    facts = imsim.METRICS[metric]

    def scores(part: slice) -> Doubles:
        p, q, inside = x[part], y[part], stacks.masks_at(used, part)
        if aggregate == "mean":
            score = np.asarray(facts.function(p, q, mask=inside, data_range=data_range))
            result = np.array(facts.dissimilarity(score), dtype=np.float64)
        else:
            values = _map(metric, p, q, inside, data_range)
            result = highest(values) if aggregate == "highest" else worst_window(values, window)
        finite = np.isfinite(p) & np.isfinite(q)
        result[~(finite if inside is None else finite | ~inside).all(axis=(1, 2))] = np.nan
        return result

    with silent(imsim.EmptyMaskWarning):  # the score is NaN
        return np.concatenate(in_parts(scores, len(x), stacks.batch_images(x)))


def dissimilarity_map(
    metric: str,
    inputs: Any,
    reconstructions: Any,
    *,
    masks: Any = None,
    data_range: float | None = None,
) -> NDArray[Any]:
    """Return the metric's map, larger = more anomalous, NaN where nothing was scored.

    Arguments as for `anomaly_scores`; a float array of shape (n, height, width).

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
    if aggregates(metric) == AGGREGATES[:1]:
        raise imsim.OptionError(
            f"{metric} has no map of grey images: use one of {', '.join(with_map())}"
        )
    with silent(imsim.EmptyMaskWarning):  # the map is NaN
        return _map(metric, inputs, reconstructions, masks, data_range)


def worst_window(values: NDArray[Any], window: int) -> Doubles:
    """Return the largest mean of each map over a window; NaN of a map without any value."""
    height, width = values.shape[1:]
    size = min(window, height), min(window, width)
    found = (_window_means(one, size) for one in values)
    return np.array([math.nan if one is None else one[0].max() for one in found], dtype=np.float64)


def worst_place(values: NDArray[Any], window: int) -> tuple[slice, slice] | None:
    """Return rows and columns of the window of `worst_window` in one map; None if it has no value.

    Of equal windows, the one with the largest value in its middle. At the border of the map, only
    what lies inside.
    """
    size = min(window, values.shape[0]), min(window, values.shape[1])
    found = _window_means(values, size)
    if found is None:
        return None
    means, box = found
    means = np.where(np.isnan(means), np.inf, means)  # the mean of infinities
    top = means.max()
    # Rounding must not choose among windows that hold the same peak.
    equal = means >= (top - 1e-9 * abs(top) if np.isfinite(top) else top)
    best = np.unravel_index(np.argmax(np.where(equal, values[box], -np.inf)), means.shape)
    starts = [
        int(part.start + at) - side // 2 for part, at, side in zip(box, best, size, strict=True)
    ]
    rows, columns = (
        slice(max(0, start), min(length, start + side))
        for start, side, length in zip(starts, size, values.shape, strict=True)
    )
    return rows, columns


def highest(values: NDArray[Any]) -> Doubles:
    """Return the mean of the highest 2 % of each map; NaN of a map without any value."""
    scored = [one[~np.isnan(one)].astype(np.float64) for one in values]
    return np.array([mean_of_highest(one, HIGHEST) if one.size else math.nan for one in scored])


def _window_means(
    values: NDArray[Any], size: tuple[int, int]
) -> tuple[Doubles, tuple[slice, slice]] | None:
    """Return the means of the windows around the pixels of a box, and the box.

    They are -inf where too few pixels were scored. None if nothing was scored.
    """
    scored = ~np.isnan(values)
    box = stacks.bounding_box(scored)
    values, scored = values[box], scored[box]

    def window_mean(array: NDArray[Any]) -> Doubles:
        mean: Doubles = ndimage.uniform_filter(array, size, output=np.float64, mode="constant")
        return mean

    share = window_mean(scored.astype(np.float32))
    # The running sums of the filter leave rounding errors, which must not decide on a window.
    enough = scored & (share > min(0.5, share.max()) - 1e-6)
    if not enough.any():
        return None
    means = np.full(values.shape, -np.inf)
    means[enough] = window_mean(np.where(scored, values, 0))[enough] / share[enough]
    return means, box


def _map(metric: str, x: Any, y: Any, masks: Any, data_range: float | None) -> NDArray[Any]:
    facts = imsim.METRICS[metric]
    function: Any = facts.map_function
    return np.asarray(facts.map_dissimilarity(function(x, y, mask=masks, data_range=data_range)))


def choose_aggregate(
    aggregate: str | None, metric: str, has_preprocess: bool, *, has_distances: bool = False
) -> str:
    """Return the given aggregate if metric or model have it, or a default that suits most images.

    After a preprocess, a foreign body is a small region in plain surroundings: its worst window
    tells most. Images as they are may be anomalous in one place or all over.
    """
    has = aggregates(metric)
    has = (*has, BOTH) if len(has) > 1 else has
    if has_distances:
        has = (*has, STATISTICS)
    if aggregate is None:
        return "worst" if has_preprocess and has[-1] == BOTH else has[-1]
    _check_aggregate(aggregate, metric, has)
    return aggregate


def _check_aggregate(aggregate: Any, metric: str, has: tuple[str, ...]) -> None:
    if not isinstance(aggregate, str) or aggregate not in has:
        raise imsim.OptionError(
            f"aggregate={aggregate!r}; {metric} has {', '.join(map(repr, has))}"
        )


def as_counted(columns: Doubles, aggregate: str) -> Doubles:
    """Return columns as they count: distances in logarithms, which have shorter upper tails."""
    return np.log(np.maximum(columns, EQUAL)) if aggregate == STATISTICS else columns


def scales(scores: Doubles) -> Doubles:
    """Return of each column the median, and its distance to the 95 % quantile; (2, columns).

    So the upper tails of good images are alike, and no column decides more often than another. An
    odd image among the good ones has little influence. A single column needs no scale: it gets 0
    and 1.
    """
    found = np.repeat([[0.0], [1.0]], scores.shape[1], axis=1)
    if scores.shape[1] > 1:
        for k, column in enumerate(scores.T):
            valid = column[~np.isnan(column)]
            if valid.size:
                found[0, k], high = np.quantile(valid, (0.5, TAIL))
                found[1, k] = high - found[0, k] or 1
    return found


def most_anomalous(scores: Doubles, scale: Doubles) -> Doubles:
    """Return the largest column of each image, each in its own scale; NaN if all are NaN."""
    result: Doubles = np.fmax.reduce((scores - scale[0]) / scale[1], axis=1)
    return result


def most_anomalous_of_others(scores: Doubles) -> Doubles:
    """Return `most_anomalous` of each image in the `scales` of the other ones.

    In a scale of its own, an image would seem nearer than a fresh one: of 19 images, 9 % of fresh
    ones were beyond the threshold for 5 %.
    """
    result = scores.copy()
    if scores.shape[1] > 1:
        for column in result.T:
            valid = ~np.isnan(column)
            values = column[valid]
            # A single one has no others.
            middle, high = (
                _quantile_of_others(values, share) if len(values) > 1 else values
                for share in (0.5, TAIL)
            )
            column[valid] = (values - middle) / np.where(high == middle, 1, high - middle)
    largest: Doubles = np.fmax.reduce(result, axis=1)
    return largest


def _quantile_of_others(values: Doubles, share: float) -> Doubles:
    """Return for each value a quantile of all others, as `numpy.quantile` has it."""
    order = np.argsort(values, kind="stable")
    ordered, ranks = values[order], np.argsort(order)
    place = share * (len(values) - 2)
    below, above = math.floor(place), math.ceil(place)
    low, high = (ordered[rank + (ranks <= rank)] for rank in (below, above))
    result: Doubles = low + (place - below) * (high - low)
    return result
