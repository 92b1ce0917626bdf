"""Scores of all metrics in one call."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imsim import checking, errors
from imsim.differing import measure
from imsim.finite import in_another_unit, value_ends
from imsim.portable.arrays import to_host
from imsim.registry import METRICS, ReadOnly
from imsim.scenes import dispatch, lazy
from imsim.scenes.attributes import described
from imsim.scenes.names import Labelled, are_labelled, call, check_unnamed
from imsim.tables import indexed, number, reasons, table, to_csv, to_frame
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory
from imsim.validation import (
    Images,
    check_memory,
    check_names,
    check_ndim,
    check_spacing,
    warn_of_width,
)

Options = dict[str, dict[str, Any]]
"""From a metric to its own options."""


class Columns(ReadOnly[str, Any]):
    """Values by name, which print as a table, and the errors of the metrics that have none."""

    def __init__(self, values: dict[str, Any], failed: dict[str, errors.ImsimError]) -> None:
        super().__init__(values)
        self.errors = failed
        self.skipped = {name: str(error) for name, error in failed.items()}

    def __eq__(self, other: object) -> bool:  # of arrays, too; NaN equals nothing
        if not isinstance(other, Mapping):
            return NotImplemented  # such as what compares approximately
        return self.keys() == other.keys() and all(
            np.array_equal(to_host(v), to_host(other[k])) for k, v in self.items()
        )

    def to_csv(self, path: str | Path | None = None) -> str | None:
        """Write the columns as CSV, with a row per image or region.

        Parameters
        ----------
        path : str or Path, optional
            The file, which is replaced if it exists.

        Returns
        -------
        str or None
            The text, if there is no path. The numbers read back exactly. Of a batch, the first
            column is "image"; of several batch axes, there are "axis_0", "axis_1" ...

        Raises
        ------
        ImsimError
            If the file cannot be written.

        Examples
        --------
        >>> import imsim
        >>> images = [[[1.0, 4.0]], [[1.0, 2.0]]]
        >>> print(imsim.compare([[1.0, 2.0]], images, ["se", "rmse"]).to_csv().strip())
        image,se,rmse
        0,4.0,1.4142135623730951
        1,0.0,0.0
        """
        return to_csv(*self._indexed(), path)

    def to_dataframe(self) -> Any:
        """Return a data frame of pandas, with a row per image or region.

        Returns
        -------
        pandas.DataFrame
            Of one pair, it has one row. The index of a batch is called "image"; of several batch
            axes, there is a level for each, "axis_0", "axis_1" ... Its ``attrs["skipped"]`` names
            the metrics that are skipped, with the reason.

        Raises
        ------
        ImsimError
            If pandas is not installed.
        """
        return to_frame(*self._indexed(), {"skipped": dict(self.skipped)})

    def _indexed(self) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """Return the index of the rows, and the columns."""
        return {}, self

    def __str__(self) -> str:
        """Return a table, and what else is to be said."""
        skipped = (f"{name:8}  skipped: {reason}" for name, reason in self.skipped.items())
        return "\n".join([table(*self._cells()), *self._said(), *skipped])

    def _repr_html_(self) -> str:
        """Return the table as Jupyter shows it."""
        said = "".join(f"\n<p>{escape(line)}</p>" for line in self._said())
        return table(*self._cells(), html=True) + said + reasons(self.skipped)

    def _cells(self) -> tuple[list[list[str]], str]:
        """Return the cells of the table, and how its columns are set."""
        raise NotImplementedError

    def _said(self) -> list[str]:
        """Return the lines below the table."""
        return []


class Comparison(Columns):
    """Scores by the name of the metric; prints as a table, also in Jupyter.

    Attributes
    ----------
    skipped : dict of str
        The metrics that could not run on this input, with the reason.
    errors : dict of ImsimError
        The reasons as errors, whose remedies can be read apart.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the scores by name: numbers of one pair, NumPy arrays of a batch.

        Returns
        -------
        dict of float or array
            A copy, without the metrics that are skipped.

        Examples
        --------
        >>> import imsim
        >>> imsim.compare([[1.0, 2.0]], [[1.0, 4.0]], ["rmse", "se"]).to_dict()
        {'rmse': 1.4142135623730951, 'se': 4.0}
        """
        return {k: float(v) if np.ndim(v) == 0 else v for k, v in self._on_host().items()}

    to_csv, to_dataframe = Columns.to_csv, Columns.to_dataframe  # listed where they are called

    def _indexed(self) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        return indexed(self._on_host())

    def _on_host(self) -> dict[str, Any]:
        """Return the scores as NumPy arrays."""
        return {name: np.asarray(to_host(score)) for name, score in self.items()}

    def __repr__(self) -> str:
        return f"Comparison({dict(self)!r}, skipped={self.skipped!r})"

    def _cells(self) -> tuple[list[list[str]], str]:
        """Return a line per metric: the score, or mean, min and max of a batch."""
        scores = self._on_host()
        batch = any(map(np.ndim, scores.values()))
        columns = ("mean", "min", "max") if batch else ("score",)
        rows = [["metric", *columns, "unit", "better"]]
        for name, score in scores.items():
            numbers = _summary(score) if batch else [float(score)]
            facts = measure(name)
            better = "higher" if facts.higher_is_better else "lower"
            missing = np.count_nonzero(np.isnan(score)) if batch else 0
            better += f"  ({missing} of {np.size(score)} NaN)" if missing else ""
            rows.append([name, *map(number, numbers), facts.unit, better])
        return rows, "l" + "r" * len(columns)


class LazyComparison(Comparison):
    """Scores that are lazy arrays of Dask; `compute` computes them all.

    Examples
    --------
    >>> import imsim
    >>> from imsim.comparison import LazyComparison
    >>> print(LazyComparison({}, {}).compute())
    metric  score  unit  better
    """

    def compute(self, **options: Any) -> Comparison:
        """Compute all scores in one pass over the images; the options are those of Dask."""
        return Comparison(lazy.computed(self, **options), self.errors)

    def __str__(self) -> str:
        """Return a table without numbers: nothing is computed to be printed."""
        shown = self._lazy() | {name: f"skipped: {why}" for name, why in self.skipped.items()}
        return "\n".join(f"{name:8}  {text}" for name, text in shown.items())

    def _repr_html_(self) -> str:
        """Return such a table as Jupyter shows it."""
        return table([["metric", "score"], *self._lazy().items()], html=True) + reasons(
            self.skipped
        )

    def _lazy(self) -> dict[str, str]:
        return {name: f"lazy, of shape {score.shape}" for name, score in self.items()}

    def _on_host(self) -> dict[str, Any]:
        """Compute all scores, which a dict, CSV or a data frame holds, in one pass."""
        return self.compute()._on_host()


def _summary(scores: Any) -> list[float]:
    scores = scores[~np.isnan(scores)]
    if not scores.size:
        return [np.nan] * 3
    with np.errstate(invalid="ignore"):  # the mean of inf and -inf
        return [float(scores.mean()), float(scores.min()), float(scores.max())]


def compare(
    a: ImageLike,
    b: ImageLike,
    metrics: Iterable[str] | None = None,
    *,
    mask: MaskLike | None = None,
    weights: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | str | None = None,
    ndim: Literal[2, 3] = 2,
    dims: Dims = None,
    memory: Memory = None,
    spacing: tuple[float, ...] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Score two images by every metric.

    Parameters
    ----------
    a : array_like, shape (..., height, width)
        Reference image, or a batch of them.
    b : array_like, shape (..., height, width)
        Test image, or a batch of them. Leading axes are batch axes and broadcast.
    metrics : iterable of str, optional
        Names of metrics, see `imsim.METRICS`; by default all of them.
    mask : array_like of bool, shape (..., height, width), optional
        True = use. Pixels outside influence no bit of the result.
    weights : array_like, shape (..., height, width), optional
        Weights of the pixels, see ``help(imsim)``; metrics that take none are skipped.
    data_range : float, optional
        Largest possible minus smallest possible value. By default 255 for uint8 and 1 for bool;
        for every other dtype, the metrics that depend on it are skipped without it.
    channel_axis : int or str, optional
        The axis that holds channels, or its name.
    ndim : {2, 3}
        Axes of an image, or of a volume: 3 takes the last three axes, besides that of channels,
        for depth, height and width.
    dims, memory
        As for every metric, see ``help(imsim)``. What is not in memory is read once for all
        metrics.
    spacing : tuple of float, optional
        Distance of neighbouring pixels, (dy, dx), or (dz, dy, dx) for volumes, for the metrics
        that take it; the others do without.
    options : mapping of mapping, optional
        Options of single metrics, such as ``{"ssim": {"downsample": True}}``.

    Returns
    -------
    Comparison
        A mapping from name to score that prints as a table. Metrics that cannot run on this
        input are left out, and named with the reason in its ``skipped``. Of arrays of Dask, the
        scores are lazy, and its method ``compute`` computes them all. Of arrays of xarray, the
        result is a Dataset with a variable for each metric.

    Raises
    ------
    OptionError
        If a name in `metrics` or `options` is not that of a metric, or of one of its options.
    ShapeError, DTypeError, MaskError, DataRangeError
        If the input is wrong for every metric.

    Warns
    -----
    EmptyMaskWarning
        If the mask leaves a metric nothing to score; its score is NaN.
    DataRangeWarning
        If the values lie beyond the data range by more than the range itself.
    PrecisionWarning
        If integers inside the mask have more digits than float64, and a metric rounds them; or if
        float64 loses the contrast of long doubles.
    ChannelAxisWarning
        If the last of three or more axes has a length of 3 or 4, and `channel_axis` is not given.

    Examples
    --------
    >>> import imsim
    >>> print(imsim.compare([[1.0, 2.0]], [[1.0, 4.0]], ["rmse", "psnr", "sre"]))
    metric           score  unit  better
    rmse           1.41421  I     lower
    sre           0.511525  dB    higher
    psnr      skipped: psnr depends on data_range, which has no default for float64: ...
    """
    check_memory(memory)
    names = check_names("metrics", metrics, METRICS)
    spacing = check_spacing(spacing, check_ndim(ndim))
    spaced = {} if spacing is None else {"spacing": spacing}
    own = _own_options(names, spaced, options)
    arguments: dict[str, Any] = {
        "data_range": data_range,
        "channel_axis": channel_axis,
        "ndim": ndim,
    }
    if are_labelled(a, b):
        shared = arguments | {"mask": mask, "weights": weights, "memory": memory}
        return _by_names(a, b, names, dims, shared, own)  # type: ignore[no-any-return]
    check_unnamed(dims)
    read = dispatch.read(a, b, mask, weights, memory)
    if isinstance(read, dispatch.Given):
        return _in_blocks(names, read, own, memory, arguments)
    a, b, mask, weights = read
    arguments |= {"mask": mask, "weights": weights}
    images, valid = checking.check(a, b, **arguments)
    if any(METRICS[name].needs_data_range for name in names):
        warn_of_range(images, valid)
    scores, failed = _attempted(names, (a, b), arguments, own)
    if scores:
        warn_of_width(images)
    if not all(METRICS[name].of_differences for name in scores):
        checking.warn_of_rounding(images, valid)
    return Comparison(scores, failed)


def _own_options(
    names: list[str],
    spaced: dict[str, Any],
    options: Mapping[str, Mapping[str, Any]] | None,
) -> Options:
    """Return the options of each metric beside those that all have."""
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise errors.OptionError(
            f"options={options!r}", "expected {name of a metric: {option: value}}"
        )
    check_names("options", options, METRICS)
    found: Options = {}
    for name in dict.fromkeys([*names, *options]):
        facts, own = METRICS[name], options.get(name, {})
        if not isinstance(own, Mapping):
            raise errors.OptionError(f"options[{name!r}]={own!r}", "expected {option: value}")
        check_names(f"options[{name!r}]", own, facts.options)
        found[name] = {**(spaced if facts.takes_spacing else {}), **own}
    return found


def _attempted(
    names: list[str], given: tuple[Any, ...], arguments: dict[str, Any], own: Options
) -> tuple[dict[str, Any], dict[str, errors.ImsimError]]:
    """Call metrics; return their results, and the errors of those that have none."""
    found, failed, empty = {}, {}, {}
    with errors.silent(errors.ChannelAxisWarning, errors.PrecisionWarning):
        for name in names:
            try:
                with errors.collecting(errors.EmptyMaskWarning) as messages:
                    found[name] = METRICS[name].function(*given, **arguments, **own[name])
            except errors.ImsimError as error:
                failed[name] = errors.without_traceback(error)
            if messages:
                empty[name] = messages[0]
    if empty:
        first, *others = empty
        also = f"; likewise {', '.join(others)}" if others else ""
        errors.warn(empty[first] + also, errors.EmptyMaskWarning)
    return found, failed


def _in_blocks(
    names: list[str],
    given: dispatch.Given,
    own: Options,
    memory: Memory,
    arguments: dict[str, Any],
) -> Comparison:
    """Score images that are not in memory, in one pass over them."""
    scene = dispatch.scene_of(given, **arguments)
    a, b, mask = dispatch.stand_ins(scene)
    shown = arguments | {"channel_axis": scene.channel_axis, "mask": mask, "weights": None}
    images, _ = checking.check(a, b, **shown)
    a, b, mask = dispatch.planned(given[:3])
    jobs, failed = _attempted(names, (a, b), arguments | {"mask": mask}, own)
    kind = LazyComparison if dispatch.is_lazy(given) else Comparison
    if not jobs:
        return kind({}, failed)
    needs_range = any(METRICS[name].needs_data_range for name in jobs)
    told = functools.partial(_check_ends, images.data_range) if needs_range else None
    scores = dispatch.scene_scores([*jobs.values()], scene, memory, told)
    warn_of_width(images)
    return kind(dict(zip(jobs, scores, strict=True)), failed)


def _by_names(
    a: ImageLike,
    b: ImageLike,
    metrics: Iterable[str],
    dims: Sequence[str] | None,
    arguments: dict[str, Any],
    own: Options,
) -> Any:
    """Compare labelled arrays; the scores are the variables of a Dataset."""
    pixels = {key: arguments.pop(key) for key in ("mask", "weights")}
    channel_axis, ndim = arguments.pop("channel_axis"), arguments["ndim"]

    def plain(x: Array, y: Array, **given: Any) -> Comparison:
        return compare(x, y, metrics, **given, **arguments, options=own)

    def describe(name: str, images: Sequence[Any]) -> tuple[str, dict[str, Any]]:
        options = {"ndim": ndim, **own[name]}
        return described(name, arguments["data_range"], options, images, is_map=False)

    return call(Labelled(plain, describe, ndim, dims, channel_axis), a, b, **pixels)


def warn_of_range(images: Images, valid: Array | None) -> None:
    """Warn if the values lie beyond the data range, so that they seem to be in another unit."""
    if isinstance(images.data_range, float) and not math.isnan(images.data_range):
        with np.errstate(all="ignore"):
            _check_ends(images.data_range, *value_ends(images.x, images.y, valid))


def _check_ends(data_range: float, low: float, high: float) -> None:
    """Warn if the values between the least and the largest one do not suit the data range."""
    if in_another_unit(low, high, data_range):
        span = high - low
        errors.warn(
            f"the values of a and b inside the mask span {span:.4g}, which is "
            f"{span / data_range:.4g} times data_range={data_range:g}; "
            "pass the range in the unit of the images, or clip them to it",
            errors.DataRangeWarning,
        )
