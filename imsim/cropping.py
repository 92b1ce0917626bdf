"""Where to crop images around many regions, so that batches of crops of one size are scored."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from imsim.registry import Crop
from imsim.typing import Array

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
