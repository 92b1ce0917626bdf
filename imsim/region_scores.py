"""From a pair of images and a survey of their labels to the scores of all regions.

Small regions are scored by a kernel of the metric for many of them at once, or in batches of crops
of one size. A metric whose score depends on the whole frame, and the formulas, take one label after
the other.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from imsim import engine, errors
from imsim.portable.arrays import unstacked
from imsim.registry import METRICS, Crop
from imsim.typing import Array
from imsim.validation import Images, check_data_range, check_frame

BATCH_PIXELS = 1 << 18
"""Most pixels of a batch of crops, unless it is a single one; a few MB with masks and channels."""
LARGE = 4
"""A crop that fills more than one part of so many of the frame is large."""
PADDING = 0.15
"""Part of the pixels of a batch that may be there only to bring its crops to one size."""
CALL_PIXELS = 1 << 14
"""Pixels that are scored in about the time that a further call of a metric takes."""
FINENESS = 3
"""Sides of crops are rounded up to this number of binary digits after the first."""

CLOSE, MOST_UNUSED = 1 << 16, 4
"""Labels from 0 to less than this, and the unused numbers among labels, a pixel, up to which no
list of labels is made by sorting."""


class Survey(NamedTuple):
    """What a label image holds."""

    codes: Array
    """int32, (*frame); one number for each label."""
    labels: Array
    """The labels, ascending, in the dtype of the label image."""
    wanted: Array
    """Their codes."""
    pixels: Array
    """Their numbers of pixels."""
    boxes: Array
    """Their boxes, (labels, axes, begin and end)."""


class Batch(NamedTuple):
    """Crops of one size."""

    rows: Array
    """Which of the regions."""
    starts: Array
    """First pixel of each crop, (crops, 3 axes)."""
    shape: tuple[int, ...]
    """Of each crop, along three axes."""
    is_large: bool
    """Whether it is a single crop of a large part of the frame."""


def survey(labels: Array) -> Survey:
    """Find the regions of a label image of integers; 0 is background."""
    from imsim.kernels.regions import crops  # slow to import, as Numba is

    codes, values = _codes(labels)
    codes = np.ascontiguousarray(codes).view()
    codes.setflags(write=False)  # Numba would compile again for arrays that can be written to
    counts, boxes = crops.survey(in_three_axes(codes), len(values))
    is_region = (counts > 0) & (values != 0)
    wanted = np.flatnonzero(is_region).astype(np.int32)
    axes = labels.ndim
    return Survey(codes, values[wanted], wanted, counts[wanted], boxes[wanted, 3 - axes :])


def in_three_axes(values: Array, channels: bool = False) -> Array:
    """View an array with three spatial axes, after that of the channels if there is one."""
    lead = int(channels)
    missing = 3 + lead - values.ndim
    return values.reshape(values.shape[:lead] + (1,) * missing + values.shape[lead:])


def _codes(labels: Array) -> tuple[Array, Array]:
    """Return numbers from 0 on in place of labels, int32, and the label of each number."""
    low, high = int(labels.min()), int(labels.max())
    kind = labels.dtype.newbyteorder("=")
    if high - low >= MOST_UNUSED * labels.size + CLOSE:
        values, codes = np.unique(labels, return_inverse=True)
        return codes.reshape(labels.shape).astype(np.int32), values.astype(kind)
    low = 0 if 0 <= high < CLOSE and low > 0 else low  # mostly, labels are their own codes
    # What leaves the dtype on the way is right again at the end: integers wrap around.
    codes = labels
    if low != 0:
        codes = (labels.astype(kind, copy=False) - kind.type(low)).view(f"u{kind.itemsize}")
    values = np.arange(high - low + 1).astype(kind) + kind.type(low)
    if high - low >= CLOSE:  # leave out the numbers between the labels
        is_used = np.zeros(len(values), np.bool_)
        is_used[codes.reshape(-1)] = True
        numbers = np.cumsum(is_used, dtype=np.int32) - 1
        return np.asarray(numbers[codes]), values[is_used]
    return codes.astype(np.int32, copy=False), values


def crops_around(boxes: Array, frame: tuple[int, ...], crop: Crop) -> Array:
    """Return the smallest crops around regions, as boxes."""
    begin = np.maximum(boxes[..., 0] - crop.halo, 0)
    end = np.minimum(boxes[..., 1] + crop.halo, frame)
    return np.stack([begin - begin % crop.step, end], axis=-1)


def batches(crops: Array, frame: tuple[int, ...], step: int, least: int) -> Iterator[Batch]:
    """Sort regions into batches of crops of nearly equal sizes, each within the frame.

    A crop is larger than the smallest one if it must, to have the size of the others, or at least
    `least` pixels along each axis. It ends where the frame ends, or not before the smallest one.
    """
    ends, low = np.asarray(frame), crops[..., 0]
    sizes = _rounded(np.maximum(crops[..., 1] - low, least))
    # Then a crop that ends with the frame begins at a multiple of the step, too.
    sizes += (ends - sizes) % step
    sizes = np.minimum(sizes, ends)
    for rows, size in _groups(sizes):
        starts = np.zeros((len(rows), 3), np.int64)
        starts[:, 3 - len(frame) :] = np.minimum(low[rows], ends - size)
        shape = (*(1,) * (3 - len(frame)), *size.tolist())
        most = max(1, BATCH_PIXELS // int(size.prod()))
        for first in range(0, len(rows), most):
            part = slice(first, first + most)
            is_large = most == 1 and LARGE * size.prod() > ends.prod()
            yield Batch(rows[part], starts[part], shape, bool(is_large))


def _rounded(sizes: Array) -> Array:
    """Round up to a few binary digits."""
    digits = np.frexp(sizes)[1] - 1 - FINENESS  # of what is rounded away
    unit = np.left_shift(1, np.maximum(digits, 0))
    return -(-sizes // unit) * unit


def _groups(sizes: Array) -> Iterator[tuple[Array, Array]]:
    """Yield the rows of a group of nearly equal sizes, and the size that holds all of them."""
    if not len(sizes):
        return
    order = np.lexsort(sizes.T[::-1])
    ordered = sizes[order]
    news = np.flatnonzero((np.diff(ordered, axis=0) != 0).any(axis=1)) + 1
    bounds = [0, *news.tolist(), len(order)]
    first, largest, own = 0, ordered[0], 0
    for begin, end in itertools.pairwise(bounds):
        size = ordered[begin]
        together = np.maximum(largest, size)
        further = own + int(size.prod()) * (end - begin)
        padded = int(together.prod()) * (end - first)
        if padded - further > max(PADDING * padded, CALL_PIXELS):
            yield order[first:begin], largest
            first, together, further = begin, size, int(size.prod()) * (end - begin)
        largest, own = together, further
    yield order[first:], largest


SPARSE = 8
"""A region that fills less than one part of so many of a large box is scattered."""
SMALL_PIXELS = 1 << 15
"""Most pixels of a box that one thread scores within its cache."""


class Scorer:
    """Scores all regions of one pair of images, which has no batch axes."""

    def __init__(
        self,
        images: Images,
        found: Survey,
        broken: Array,
        data_range: Any,
        spacing: tuple[float, ...] | None = None,
    ) -> None:
        x, y = (np.ascontiguousarray(v) for v in (images.x, images.y))
        self._images = images._replace(x=x, y=y)
        self._found, self._broken, self._data_range = found, broken, data_range
        self._spacing = spacing
        self._pixels = tuple(
            in_three_axes(unstacked(v, images.depth), channels=True) for v in (x, y)
        )
        self._scores: dict[str, Array] = {}
        self._errors: dict[str, errors.ImsimError] = {}

    def scores(self, names: Iterable[str]) -> tuple[dict[str, Array], dict[str, errors.ImsimError]]:
        """Return the scores of each metric, and why others have none."""
        names = list(names)
        self._scores = {name: np.full(len(self._found.labels), np.nan) for name in names}
        with errors.silent(
            errors.EmptyMaskWarning, errors.ChannelAxisWarning, errors.PrecisionWarning
        ):
            alike: dict[Crop | None, list[str]] = {}
            for name in names:
                self._attempt(name, self._check)
                crop = None if self._spaced(name) else METRICS[name].crop
                crop = crop if engine.runs_kernels() else None
                alike.setdefault(crop, []).append(name)
            for crop, some in alike.items():
                if crop is not None:
                    self._score_crops(crop, some)
                    continue
                for name in some:
                    self._attempt(name, self._score_frames, range(len(self._found.labels)))
        scores = {name: self._scores[name] for name in names if name not in self._errors}
        return scores, self._errors

    def _attempt(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of a metric, unless that has failed before."""
        if name not in self._errors:
            try:
                return function(name, *args)
            except errors.ImsimError as error:
                self._errors[name] = errors.without_traceback(error)
        return None

    def _spaced(self, name: str) -> dict[str, Any]:
        """Return the option of the spacing, if there is one and the metric takes it."""
        takes = self._spacing is not None and METRICS[name].takes_spacing
        return {"spacing": self._spacing} if takes else {}

    def _check(self, name: str) -> None:
        facts, images = METRICS[name], self._images
        needed_by = name if facts.needs_data_range else None
        check_data_range(self._data_range, (images.x.dtype, images.y.dtype), needed_by, np)
        if not self._spaced(name):  # or the windows have other sides
            check_frame(name, images.sides, facts.least_side, facts.least_longer_side)

    def _score_frames(self, name: str, rows: Iterable[int]) -> None:
        """Score one label after the other, in the whole frame."""
        for row in rows:
            mask = in_three_axes(self._found.codes == self._found.wanted[row])
            x, y = self._pixels
            self._scores[name][row : row + 1] = self._call(name, x, y, mask[None])

    def _score_gathered(self, name: str, rows: Iterable[int]) -> None:
        """Score one label after the other, whose pixels are gathered in one row."""
        for row in rows:
            order, ends = self._places
            end = ends[self._found.wanted[row]]
            places = order[end - self._found.pixels[row] : end]
            x, y = (
                v.reshape(*v.shape[:-3], -1)[..., places].reshape(*v.shape[:-3], 1, 1, -1)
                for v in self._pixels
            )
            mask = np.ones((1, *x.shape[-3:]), np.bool_)
            self._scores[name][row : row + 1] = self._call(name, x, y, mask)

    @functools.cached_property
    def _places(self) -> tuple[Array, Array]:
        """Places in the flat frame, by code, and where those of each code end, by one pass."""
        codes = self._found.codes.reshape(-1)
        ends = np.cumsum(np.bincount(codes))
        narrow = len(ends) <= np.iinfo(np.uint16).max  # of which NumPy sorts the digits
        order = np.argsort(codes.astype(np.uint16) if narrow else codes, kind="stable")
        return order, ends

    def _score_crops(self, crop: Crop, names: list[str]) -> None:
        crops = crops_around(self._found.boxes, self._images.sides, crop)
        # Metrics of which the same regions are left share their crops.
        waiting: dict[bytes, tuple[Array, list[str]]] = {}
        for name in names:
            rows = self._attempt(name, self._score_small)
            if rows is not None:
                waiting.setdefault(rows.tobytes(), (rows, []))[1].append(name)
        for rows, some in waiting.values():
            self._score_batches(crop, some, rows, crops[rows])

    def _score_small(self, name: str) -> Array:
        """Score small regions by the kernel for these, if there is one; return the rows left."""
        load, found = METRICS[name].region_kernel, self._found
        rows = np.arange(len(found.labels))
        sizes = (found.boxes[..., 1] - found.boxes[..., 0]).prod(axis=1)
        small = rows[(sizes <= SMALL_PIXELS) & ~self._broken]
        if load is None or self._images.depth is not None or not len(small):
            return rows
        from imsim.kernels.regions import Places

        places = Places(found.codes, found.wanted[small], found.boxes[small])
        with np.errstate(all="ignore"):
            scores = load()(self._images, places)
        if scores is None:
            return rows
        done = small[~scores.left]
        values = np.where(scores.scored > 0, scores.values, np.nan).mean(axis=-1)
        self._scores[name][done] = values[~scores.left]
        return np.setdiff1d(rows, done)

    def _score_batches(self, crop: Crop, names: list[str], rows: Array, crops: Array) -> None:
        """Score crops, those of nearly equal size at once."""
        from imsim.kernels.regions.crops import crops_of, masks_of  # slow to import, as Numba is

        found, frame = self._found, self._images.sides
        facts = [METRICS[name] for name in names]
        least = max(max(one.least_side, one.least_longer_side) for one in facts)
        codes, widens = in_three_axes(found.codes), crop.widens and self._images.dtype == np.float32
        for batch in batches(crops, frame, crop.step, least):
            own = rows[batch.rows]
            if batch.is_large:  # copies would take as much memory as the images
                is_sparse = SPARSE * self._found.pixels[own].max() < math.prod(batch.shape)
                score = self._score_gathered if crop.gathers and is_sparse else self._score_frames
                for name in names:
                    self._attempt(name, score, own)
                continue
            masks = masks_of(codes, found.wanted[own], batch.starts, batch.shape)
            x, y = (crops_of(v, masks, batch.starts) for v in self._pixels)
            if widens:
                x, y = x.astype(np.float64), y.astype(np.float64)
            for name in names:
                found_scores = self._attempt(name, self._call, x, y, masks)
                if found_scores is not None:
                    self._scores[name][own] = found_scores

    def _call(self, name: str, x: Array, y: Array, masks: Array) -> Array:
        """Score crops, (crops, channels, 3 axes), or one pair without the first axis."""
        has_channels, axes = self._images.has_channels, len(self._images.sides)

        def plain(values: Array, lead: int) -> Array:
            """View without the axes of length 1 that the images lack."""
            return values.reshape(*values.shape[:lead], *values.shape[-axes:])

        x, y = (plain(v, v.ndim - (3 if has_channels else 4)) for v in (x, y))
        return METRICS[name].function(
            x,
            y,
            mask=plain(masks, 1),
            data_range=self._data_range,
            channel_axis=-1 - axes if has_channels else None,
            ndim=axes,
            **self._spaced(name),
        )
