"""Scores of the regions of a label image, in one table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from imsim import checking, tensors
from imsim.comparison import Columns, warn_of_range
from imsim.errors import DTypeError, EmptyMaskWarning, ImsimError, ShapeError, warn
from imsim.finite import in_another_unit, is_finite
from imsim.inputs import as_array
from imsim.portable.arrays import is_compiling, outside_graphs
from imsim.region_scores import Scorer, Survey, survey
from imsim.registry import METRICS
from imsim.typing import Array, ImageLike
from imsim.validation import Images, check_names, check_ndim, check_spacing

MOST_ROWS = 60
"""Rows up to which a printed table has all of them."""
ENDS = 10
"""First and last rows of a longer one."""
NOT_FINITE = "NaN or infinite pixels inside"
NOT_SCORED = "no position could be scored: too few pixels, or too thin"
UNDEFINED = "undefined for these pixels"
LEFT_OUT = "every pixel is left out"


class Regions(Columns):
    """Scores of regions: a mapping from column to array that prints as a table, also in Jupyter.

    The columns are "label", "pixels", the box as "bbox-0", "bbox-1" ... (first the beginnings
    along each axis, then the ends, as scikit-image's ``regionprops_table`` has them), and the
    metrics.

    Attributes
    ----------
    labels : array of int, shape (n,)
        The labels, ascending.
    pixels : array of int, shape (n,)
        Their numbers of pixels.
    boxes : array of int, shape (n, axes, 2)
        Where the regions begin and end along each axis.
    scores : dict of array
        Scores of shape (n,) by the name of the metric.
    missing : dict of dict of array
        By the name of the metric, why scores are NaN, and of which labels.
    skipped : dict of str
        The metrics that could not run on this input, with the reason.
    errors : dict of ImsimError
        The reasons as errors, whose remedies can be read apart.
    """

    def __init__(
        self,
        found: Survey,
        scores: dict[str, Array],
        missing: dict[str, dict[str, Array]],
        errors: dict[str, ImsimError],
    ) -> None:
        self.labels, self.pixels, self.boxes = found.labels, found.pixels, found.boxes
        self.scores, self.missing = scores, missing
        ends = [self.boxes[:, axis, end] for end in (0, 1) for axis in range(self.boxes.shape[1])]
        box = {f"bbox-{k}": column for k, column in enumerate(ends)}
        super().__init__({"label": self.labels, "pixels": self.pixels, **box, **scores}, errors)

    def to_dict(self) -> dict[str, Array]:
        """Return the columns as a dict."""
        return dict(self)

    to_csv, to_dataframe = Columns.to_csv, Columns.to_dataframe

    def __repr__(self) -> str:
        return f"Regions({len(self.labels)} labels, {list(self.scores)}, skipped={self.skipped!r})"

    def _cells(self) -> tuple[list[list[str]], str]:
        """Return a line per region; of many, the first and the last ones."""
        n, cells = len(self.labels), []
        for row in range(n) if n <= MOST_ROWS else [*range(ENDS), *range(n - ENDS, n)]:
            box = ", ".join(f"{begin}:{end}" for begin, end in self.boxes[row])
            scores = (f"{scores[row]:.6g}" for scores in self.scores.values())
            cells.append([str(self.labels[row]), str(self.pixels[row]), box, *scores])
        if n > MOST_ROWS:
            cells.insert(ENDS, ["..."] * (3 + len(self.scores)))
        heads = ["label", "pixels", "box", *self.scores]
        return [heads, *cells], "rrl" + "r" * len(self.scores)

    def _said(self) -> list[str]:
        """Say how many regions there are if not all are shown, and why scores are NaN."""
        n = len(self.labels)
        lines = [f"{n} labels"] if n > MOST_ROWS else []
        for name, whys in self.missing.items():
            lines += [f"{name:8}  NaN for {_some(of)}: {why}" for why, of in whys.items()]
        return lines


def with_left_out(found: Regions, labels: Array) -> Regions:
    """Add the labels of which a mask left no pixel: their scores are NaN, and their boxes empty."""
    if not len(labels):
        return found
    every = np.concatenate([found.labels, labels])
    order = np.argsort(every)
    none = np.zeros_like(found.boxes, shape=(len(labels), *found.boxes.shape[1:]))
    pixels = np.concatenate([found.pixels, np.zeros_like(found.pixels, shape=len(labels))])
    boxes = np.concatenate([found.boxes, none])
    scores = {
        name: np.concatenate([those, np.full(len(labels), np.nan)])[order]
        for name, those in found.scores.items()
    }
    missing = {name: {**found.missing.get(name, {}), LEFT_OUT: labels} for name in scores}
    empty = np.empty(0, np.int32)
    regions = Survey(empty, every[order], empty, pixels[order], boxes[order])
    return Regions(regions, scores, missing, found.errors)


def _some(labels: Array) -> str:
    """Name labels, or some of many."""
    named = ", ".join(map(str, labels[:5]))
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return f"label{'s' if len(labels) > 1 else ''} {named}{more}"


def regions(
    a: ImageLike,
    b: ImageLike,
    labels: ImageLike,
    metrics: Iterable[str] | None = None,
    *,
    data_range: float | None = None,
    channel_axis: int | None = None,
    ndim: Literal[2, 3] = 2,
    spacing: tuple[float, ...] | None = None,
) -> Regions:
    """Score each region of a label image.

    Parameters
    ----------
    a, b : array_like, shape (height, width) or (depth, height, width)
        Reference and test image, or volume; one pair, not a batch.
    labels : array_like of int, of their shape
        The label of each pixel. As in scikit-image, 0 is background. Every other value is a
        region, a negative one too; its pixels need not touch each other.
    metrics : iterable of str, optional
        Names of metrics, see `imsim.METRICS`; by default all of them. Metrics whose record has no
        `crop` (fsim, issm, sh) read the whole frame for each label, which takes long for many.
    data_range : float, optional
        Largest possible minus smallest possible value. By default 255 for uint8 and 1 for bool;
        for every other dtype, the metrics that depend on it are skipped without it.
    channel_axis : int, optional
        The axis that holds channels.
    ndim : {2, 3}
        Axes of an image, or of a volume.
    spacing : tuple of float, optional
        Distance of neighbouring pixels, (dy, dx), or (dz, dy, dx) for volumes, for the metrics
        that take it. These then read the whole frame for each label.

    Returns
    -------
    Regions
        A row for each label: label, number of pixels, box and scores. The score of label k is that
        of the metric with ``mask=(labels == k)``; it is NaN, with the reason in ``missing``, where
        the metric can score nothing. Metrics that cannot run on this input are left out, and named
        with the reason in ``skipped``.

        The table is one of NumPy arrays, whatever library `a` and `b` come from. Of images of
        float32, crops are scored in float64 by the metrics whose rounding in float32 depends on
        the place (ssim, imed); they agree with the masked score to that rounding.

    Raises
    ------
    OptionError
        If a name in `metrics` is not that of a metric.
    ShapeError
        If `a` and `b` are no single images of one shape, or `labels` has another shape.
    DTypeError
        If `labels` does not hold integers, or an image no real numbers.
    DataRangeError
        If `data_range` is not a positive finite number.

    Warns
    -----
    EmptyMaskWarning
        If a metric can score nothing of some region; or if there is no region.
    DataRangeWarning
        If the values of the regions lie beyond the data range by more than the range itself.
    PrecisionWarning
        If integers of the regions have more digits than float64, and a metric rounds them.

    See Also
    --------
    compare : Scores of one mask.
    polygon_mask : The mask of an annotated region.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> labels = np.kron([[1, 2], [0, 7]], np.ones((8, 8), int))
    >>> a = 10 * labels
    >>> found = imsim.regions(a, a + (labels == 2), labels, ["rmse", "psnr"], data_range=255)
    >>> print(found)
      label    pixels  box           rmse     psnr
          1        64  0:8, 0:8         0      inf
          2        64  0:8, 8:16        1  48.1308
          7        64  8:16, 8:16       0      inf
    >>> found["rmse"]
    array([0., 1., 0.])
    """
    names = check_names("metrics", metrics, METRICS)
    if is_compiling():
        own: dict[str, Any] = {"channel_axis": channel_axis, "ndim": ndim, "spacing": spacing}
        return outside_graphs(regions)(a, b, labels, names, data_range=data_range, **own)
    axes = check_ndim(ndim)
    spacing = check_spacing(spacing, axes)
    a, b, labels, data_range = tensors.on_host(a, b, labels, data_range)
    options: dict[str, Any] = {"data_range": data_range, "channel_axis": channel_axis}
    images, _ = checking.check(a, b, mask=None, weights=None, ndim=ndim, **options)
    checking.check_single("regions", images)
    found = survey(_checked_labels(labels, images))
    if checking.has_long_integers(images) and not all(METRICS[n].of_differences for n in names):
        checking.warn_of_rounding(images, _inside(found, images))
    ends = _ends(images)
    if not len(found.labels):
        warn("labels holds no region: every pixel is 0, background", EmptyMaskWarning)
    elif any(METRICS[name].needs_data_range for name in names) and (
        # Mostly, no pixel at all is beyond the range.
        ends is None or in_another_unit(*ends, float(images.data_range))
    ):
        warn_of_range(images, _inside(found, images))
    broken = np.zeros(len(found.labels), np.bool_) if ends else _broken(images, found)
    scores, errors = Scorer(images, found, broken, data_range, spacing).scores(names)
    return Regions(found, scores, _missing(found, broken, scores), errors)


def _checked_labels(labels: ImageLike, images: Images) -> Array:
    """Return the label image."""
    # The pixels of a palette image are what is meant here.
    array = np.asarray(labels) if str(getattr(labels, "mode", None)) == "P" else labels
    array = as_array("labels", array)
    if not isinstance(array, np.ndarray):
        raise DTypeError("labels is no NumPy array", "convert it with numpy.asarray")
    if array.dtype.kind == "b":
        raise DTypeError(
            "labels has dtype bool",
            "pass labels.astype(numpy.uint8) for one region, or what skimage.measure.label or "
            "scipy.ndimage.label make of it for a region per connected part",
        )
    if array.dtype.kind not in "iu":
        raise DTypeError(f"labels has dtype {array.dtype}", "expected integers, 0 = background")
    if array.shape != images.sides:
        raise ShapeError(
            f"labels has shape {array.shape}, the images are "
            f"{'x'.join(map(str, images.sides))} pixels",
            "expected one label for each pixel (no batch axes and no channel axis)",
        )
    return array


def _ends(images: Images) -> tuple[float, float] | None:
    """Return the least and the largest pixel; None if one is NaN or infinite."""
    ends = [float(end) for v in (images.x, images.y) for end in (v.min(), v.max())]
    return (min(ends), max(ends)) if np.isfinite(ends).all() else None


def _inside(found: Survey, images: Images) -> Array:
    """Return the mask of all regions."""
    return np.isin(found.codes, found.wanted).reshape(images.frame)[None]


def _broken(images: Images, found: Survey) -> Array:
    """Find the regions with pixels that are NaN or infinite."""
    finite = is_finite(images.x, np) & is_finite(images.y, np)
    return np.isin(found.wanted, found.codes.reshape(images.frame)[~finite.all(axis=0)])


def _missing(found: Survey, broken: Array, scores: dict[str, Array]) -> dict[str, dict[str, Array]]:
    """Say why scores are NaN, and warn once of regions of which nothing could be scored."""
    lost = {name: np.isnan(score) for name, score in scores.items() if np.isnan(score).any()}
    if not lost:
        return {}
    missing: dict[str, dict[str, Array]] = {}
    for name, rows in lost.items():
        # Without a neighbourhood, a single pixel is scored.
        crop = METRICS[name].crop
        other = NOT_SCORED if crop is None or crop.halo else UNDEFINED
        reasons = {NOT_FINITE: rows & broken, other: rows & ~broken}
        missing[name] = {why: found.labels[of] for why, of in reasons.items() if of.any()}
    empty = {name: whys[NOT_SCORED] for name, whys in missing.items() if NOT_SCORED in whys}
    if empty:
        said = "; ".join(f"{name} for {_some(labels)}" for name, labels in empty.items())
        warn(
            f"of some regions no position could be scored, which is NaN in the result: {said}; "
            "leave out metrics or regions",
            EmptyMaskWarning,
        )
    return missing
