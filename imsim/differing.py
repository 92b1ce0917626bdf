"""Which pixels differ at all, how many, by how much, and where: counts beside the metrics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from imsim import checking, tensors
from imsim.errors import EmptyMaskWarning, warn
from imsim.portable.arrays import unstacked
from imsim.portable.differences import exact_difference, long_integers
from imsim.registry import METRICS, Metric, ReadOnly
from imsim.typing import Array, ImageLike, MaskLike
from imsim.validation import check_flag, check_ndim, check_number

MOST_BOXES = 100
"""Of the parts that differ, those whose places are kept."""


@dataclass(frozen=True, slots=True)
class Count:
    """Facts about a number that `differing_pixels` finds, as `Metric` holds them of a metric.

    Attributes
    ----------
    name : str
        Its name, where it stands beside metrics.
    title : str
        The name in words.
    attribute : str
        That of `DifferingPixels` which holds it.
    anti_aliasing : bool
        Whether it is of the pixels that the rule of anti-aliasing leaves.
    bounds : tuple of float
        The closed interval of possible values.
    unit : str
        "I" for the unit of the pixel values; empty for a pure number.

    Examples
    --------
    >>> import imsim
    >>> imsim.COUNTS["pixel_share"].bounds
    (0.0, 1.0)
    """

    name: str
    title: str
    attribute: str
    anti_aliasing: bool = False
    bounds: tuple[float, float] = (0.0, math.inf)
    unit: str = ""
    higher_is_better: bool = False
    best: float = 0.0


_LIKEWISE = "that differ from the neighbours too"
_COUNTS = (
    Count("pixels", "Pixels that differ", "count"),
    Count("pixel_share", "Share of pixels that differ", "share", bounds=(0.0, 1.0)),
    Count("parts", "Connected parts that differ", "parts"),
    Count("aa_pixels", f"Pixels {_LIKEWISE}", "count", True),
    Count("aa_pixel_share", f"Share of pixels {_LIKEWISE}", "share", True, bounds=(0.0, 1.0)),
    Count("aa_parts", f"Connected parts {_LIKEWISE}", "parts", True),
    Count("largest_difference", "Largest difference", "largest", unit="I"),
)
COUNTS: Mapping[str, Count] = ReadOnly({one.name: one for one in _COUNTS})
"""Read-only mapping from the name of a count to its `Count` record."""


def measure(name: str) -> Metric | Count:
    """Return the record of a metric or a count."""
    return METRICS[name] if name in METRICS else COUNTS[name]


@dataclass(frozen=True, eq=False)  # arrays are not equal as a whole
class DifferingPixels:
    """The pixels at which two images differ.

    Attributes
    ----------
    count : int
        Their number.
    used : int
        The number of pixels inside the mask.
    share : float
        ``count / used``; NaN if the mask uses none.
    largest : float
        The largest absolute difference of any pixel inside the mask, in the unit of the pixels,
        whatever the tolerance; infinity if a pixel that differs is NaN or infinite.
    boxes : array of int, shape (parts, axes, 2)
        Where each connected part begins and ends (one past its last pixel) along each axis; pixels
        that touch at a corner are connected. The part with most pixels comes first.
    sizes : array of int, shape (parts,)
        The number of pixels of each part.
    where : array of bool, shape (height, width) or (depth, height, width)
        True at the pixels that differ.

    Examples
    --------
    >>> import imsim
    >>> found = imsim.differing_pixels([[0.0, 1.0]], [[0.0, 3.0]])
    >>> found
    DifferingPixels(count=1, used=2, share=0.5, largest=2.0)
    >>> found.where
    array([[False,  True]])
    """

    count: int
    used: int
    share: float
    largest: float
    boxes: Array = field(repr=False)
    sizes: Array = field(repr=False)
    where: Array = field(repr=False)

    @property
    def parts(self) -> int:
        """The number of connected parts."""
        return len(self.sizes)


def differing_pixels(
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None = None,
    tolerance: float = 0.0,
    anti_aliasing: bool = False,
    channel_axis: int | None = None,
    ndim: Literal[2, 3] = 2,
) -> DifferingPixels:
    r"""Count the pixels at which two images differ, and find the parts that they form.

    Pixel p differs if

    .. math:: \max_c |a_{p,c} - b_{p,c}| > t,

    with the channels c and the tolerance t. With `anti_aliasing`, it counts only if a or b has a
    value there that the other image has nowhere near: with N(p), the pixels inside the mask that
    are at most one pixel away along each axis, p itself included,

    .. math:: \min_{q \in N(p)} \max_c |a_{p,c} - b_{q,c}| > t \quad\text{or}\quad
              \min_{q \in N(p)} \max_c |b_{p,c} - a_{q,c}| > t.

    Edges that were drawn one pixel away thus do not count. A dot or a line that only one image has
    does, whichever it is.

    Parameters
    ----------
    a, b : array_like, shape (height, width) or (depth, height, width), or with a channel axis
        Reference and test image, or volume; one pair, not a batch.
    mask : array_like of bool, shape (height, width) or (depth, height, width), optional
        True = use. Pixels outside influence no bit of the result.
    tolerance : float
        The largest difference that does not count, in the unit of the pixels.
    anti_aliasing : bool
        Whether values that the other image has within one pixel are left out.
    channel_axis : int, optional
        The axis that holds channels.
    ndim : {2, 3}
        Axes of an image, or of a volume.

    Returns
    -------
    DifferingPixels
        Number, share, largest difference, and the connected parts with their boxes.

    Raises
    ------
    ShapeError
        If `a` and `b` are no single images of one shape.
    DTypeError, MaskError
        If an image is not made of real numbers, or the mask not boolean or of another shape.
    OptionError
        If `tolerance` is negative or not finite.

    Warns
    -----
    EmptyMaskWarning
        If the mask uses no pixel.

    Notes
    -----
    Differences of integers are exact. NaN differs from everything, NaN too; infinities of one sign
    are equal.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> a = np.zeros((6, 8), np.uint8)
    >>> b = a.copy()
    >>> b[1:3, 2:5] = 9
    >>> b[5, 7] = 1
    >>> found = imsim.differing_pixels(a, b)
    >>> found.count, found.share, found.largest, found.boxes.tolist()
    (7, 0.14583333333333334, 9.0, [[[1, 3], [2, 5]], [[5, 6], [7, 8]]])
    >>> imsim.differing_pixels(a, b, tolerance=1).count
    6
    """
    axes = check_ndim(ndim)
    check_flag("anti_aliasing", anti_aliasing)
    limit = check_number("tolerance", tolerance)
    a, b, mask = tensors.on_host(a, b, mask)
    images, valid = checking.check(
        a, b, mask=mask, weights=None, data_range=None, channel_axis=channel_axis, ndim=axes
    )
    checking.check_single("differing_pixels", images, valid)
    x, y = (np.moveaxis(unstacked(v, images.depth), 0, -1) for v in (images.x, images.y))
    distance = distances(x, y)
    inside = None
    used = distance.size
    if valid is not None:
        inside = np.broadcast_to(unstacked(valid[0], images.depth), images.sides)
        used = int(np.count_nonzero(inside))
        distance = np.where(inside, distance, 0)
    if not used:
        warn("the mask uses no pixel, so that none can differ", EmptyMaskWarning)
    where = distance > limit
    if anti_aliasing:
        where = _without_near(where, x, y, inside, limit)
    return _counted(where, used, float(distance.max(initial=0)))


def with_more(found: DifferingPixels, pixels: Array) -> DifferingPixels:
    """Count some pixels as well, whatever the images hold there; the largest difference stays."""
    return _counted(found.where | pixels, found.used, found.largest)


def _counted(where: Array, used: int, largest: float) -> DifferingPixels:
    count = int(np.count_nonzero(where))
    share = count / used if used else math.nan
    return DifferingPixels(count, used, share, largest, *_parts(where), where)


def places(found: DifferingPixels) -> tuple[tuple[int, ...], ...]:
    """Return where the largest parts lie: x, y, width and height; of volumes with z and depth."""
    boxes = found.boxes[:MOST_BOXES, ::-1]
    starts, ends = boxes[..., 0], boxes[..., 1]
    return tuple(map(tuple, np.concatenate([starts, ends - starts], axis=1).tolist()))


def difference_of(reference: Array, test: Array) -> Array:
    """Return test less reference as float64, which is 0 only where the two are equal."""
    with np.errstate(invalid="ignore", over="ignore"):
        if any(long_integers(image, np.float64) for image in (reference, test)):
            return exact_difference(test, reference, np.float64)
        difference: Array = test.astype(np.float64) - reference.astype(np.float64)
    return difference


def size_of(difference: Array, reference: Array, test: Array) -> Array:
    """Return the size of what `difference_of` found.

    A pixel that is not finite in one image only differs by an unknown amount, infinity; equal
    infinities do not differ.
    """
    size = np.abs(difference)
    unknown = np.isnan(size)
    size[unknown] = np.where(reference[unknown] == test[unknown], 0, np.inf)
    return size


def changes(reference: Array, test: Array) -> tuple[Array, Array]:
    """Return test less reference of the channel that differs most, and its size.

    The size is infinite where the difference is not known, and 0 only where the pixels are equal.
    """
    signed = difference_of(reference, test)
    size = size_of(signed, reference, test)
    if size.shape[-1] > 1:
        channel = size.argmax(axis=-1)[..., None]
        signed, size = (np.take_along_axis(v, channel, axis=-1) for v in (signed, size))
    signed, size = signed[..., 0], size[..., 0]
    return np.where(size > 0, signed, 0), size


def distances(reference: Array, test: Array) -> Array:
    """Return the largest absolute difference over the channels, which are the last axis."""
    if max(reference.itemsize, test.itemsize) <= 2 and {reference.dtype.kind, test.dtype.kind} <= {
        *"bui"
    }:
        whole = np.abs(np.subtract(reference, test, dtype=np.int32))
        return whole[..., 0] if whole.shape[-1] == 1 else whole.max(axis=-1)
    difference = difference_of(reference, test)
    largest: Array = size_of(difference, reference, test).max(axis=-1)
    return largest


PLACES = 1 << 14
"""Pixels whose neighbours are looked at together, within the cache."""


def _without_near(where: Array, x: Array, y: Array, inside: Array | None, limit: float) -> Array:
    """Leave out pixels whose values both images have within one pixel, inside the mask."""
    left, differing = where.copy(), np.flatnonzero(where)
    last = np.array(where.shape)[:, None] - 1
    x, y = (image.reshape(-1, image.shape[-1]) for image in (x, y))
    for start in range(0, differing.size, PLACES):
        some = differing[start : start + PLACES]
        here = np.array(np.unravel_index(some, where.shape))
        values = x.take(some, axis=0), y.take(some, axis=0)
        near = np.zeros((2, here.shape[1]), np.bool_)
        for step in itertools.product((-1, 0, 1), repeat=where.ndim):
            beside = here + np.array(step)[:, None]
            there = np.clip(beside, 0, last)
            counts = (beside == there).all(axis=0)
            flat = np.ravel_multi_index(tuple(there), where.shape)
            if inside is not None:
                counts &= inside.take(flat)
            for found, one, two in zip(near, values, (y, x), strict=True):
                found |= counts & (distances(one, two.take(flat, axis=0)) <= limit)
        left.flat[some] = ~near.all(axis=0)
    return left


def _parts(where: Array) -> tuple[Array, Array]:
    """Return the boxes and the sizes of the connected parts, the largest first."""
    from scipy import ndimage

    labels, number = ndimage.label(where, np.ones((3,) * where.ndim))
    slices = ndimage.find_objects(labels)
    boxes = np.array([[(s.start, s.stop) for s in box] for box in slices], np.intp)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    return boxes.reshape(number, where.ndim, 2)[order], sizes[order]


def counted(found: Mapping[bool, DifferingPixels], names: Any) -> dict[str, float]:
    """Return counts by their names, from what was found without and with the rule.

    Where the mask uses no pixel they are NaN, as all scores are: 0 would pass every limit.
    """
    counts = [(COUNTS[name], found[COUNTS[name].anti_aliasing]) for name in names]
    return {
        one.name: float(getattr(those, one.attribute)) if those.used else math.nan
        for one, those in counts
    }
