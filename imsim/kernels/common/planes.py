"""Planes of a batch, and the strips, runs and blocks of their pixels on which kernels work."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from imsim.kernels.common.jit import inline, part
from imsim.portable.arrays import broadcast
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel

READABLE = "dfBH"
"""NumPy's characters of the dtypes that kernels read: float64, float32, uint8 and uint16."""
RUN_PIXELS = 1 << 16
"""Pixels of a run: enough to outweigh the call of a kernel, few enough for several threads."""


class Plane(NamedTuple):
    """One channel of one pair of images, in C order."""

    x: Array
    """Reference, (height, width), in the dtype of the input."""
    y: Array
    """Test image, likewise."""
    mask: Array | None
    """True = use, (height, width)."""


class Planes:
    """The planes of a batch, in the order of the broadcast batch and channel axes."""

    def __init__(self, images: Images, mask: Array | None, *, in_order: bool = True) -> None:
        """Copy planes that do not lie in C order, unless `in_order` is False."""
        x, y = _readable(images)
        shape = x.shape[:-2]
        if x.shape != y.shape:
            shape = (*images.batch_shape, shape[-1])
        if mask is not None:
            shape = (*broadcast(shape[:-1], mask.shape[:-3]), shape[-1])
        self.shape = shape
        """Batch shape and number of channels."""
        self.count = math.prod(self.shape)
        self.frame: tuple[int, int] = x.shape[-2:]
        self.dtype = x.dtype
        """Dtype of the pixels, as kernels read them."""
        self._first = (0,) * len(self.shape)
        self._x = self._view(x, in_order)
        self._y = self._view(y, in_order)
        self._mask = None if mask is None else self._view(mask, in_order)
        weights = images.weights
        self._weights = None if weights is None else self._view(weights, in_order)

    def _view(self, image: Array, in_order: bool) -> Array:
        """Give an image the full batch shape."""
        if in_order and not image.flags.c_contiguous:
            first = image[(0,) * (image.ndim - 2)]
            image = image if first.flags.c_contiguous else np.ascontiguousarray(image)
        if image.shape[:-2] != self.shape:
            return np.broadcast_to(image, (*self.shape, *self.frame))
        return image

    def __getitem__(self, i: int) -> Plane:
        """Return the i-th plane, read-only: Numba would compile again for writable arrays."""
        index = self._first if self.count == 1 else np.unravel_index(i, self.shape)
        x, y = self._x[index], self._y[index]
        x.setflags(write=False)
        y.setflags(write=False)
        if self._mask is None:
            return Plane(x, y, None)
        mask = self._mask[index]
        mask.setflags(write=False)
        return Plane(x, y, mask)

    def weights(self, i: int) -> Array:
        """Return the weights of the i-th plane, likewise."""
        index = np.unravel_index(i, self.shape)
        weights: Array = self._weights[index]  # type: ignore[index]
        weights.setflags(write=False)
        return weights

    def spectra(self, i: int, rows: slice) -> tuple[Array, Array, Array | None]:
        """Return rows of all channels of the i-th pair, (channels, pixels), and of their mask."""
        index = np.unravel_index(i, self.shape[:-1])
        x, y = (
            np.ascontiguousarray(v[index][:, rows]).reshape(self.shape[-1], -1)
            for v in (self._x, self._y)
        )
        x.setflags(write=False)
        y.setflags(write=False)
        mask = None if self._mask is None else self._mask[(*index, 0)]
        return x, y, None if mask is None else flat_rows(mask[rows])

    def strips(
        self,
        kernel: Callable[..., None],
        width: int,
        *constants: Any,
        positions: int | None = None,
        rows: int = 128,
        cheapness: int = 1,
    ) -> Array:
        """Return what `kernel` finds in the strips of each plane; shape (strips, *shape, width).

        ``kernel(x, y, mask, start, stop, out, *constants)`` writes `width` sums over the
        positions in rows start to stop into ``out``. The mask is `NO_MASK` if there is none.
        `positions` is the number of rows of positions, by default that of the frame. The strips do
        not depend on the number of workers. If there are weights, those of the plane come before
        the constants. `cheapness` is the number of pixels that cost as much time as one for which
        `parallel` has its threshold.
        """
        height = self.frame[0] if positions is None else positions
        strips = -(-height // rows)
        is_weighted = self._weights is not None
        if self.count == strips == 1 and not is_weighted:  # the fast way for one small pair
            only = np.zeros(width)
            x, y, mask = self[0]
            kernel(x, y, NO_MASK if mask is None else mask, 0, height, only, *constants)
            return only.reshape(1, *self.shape, width)
        found = np.zeros((strips, self.count, width))

        def task(i: int) -> None:
            plane, strip = divmod(i, strips)
            start = strip * rows
            stop = min(start + rows, height)
            own = (self.weights(plane),) if is_weighted else ()
            x, y, mask = self[plane]
            inside = NO_MASK if mask is None else mask
            kernel(x, y, inside, start, stop, found[strip, plane], *own, *constants)

        parallel(task, self.count * strips, self.count * math.prod(self.frame) // cheapness)
        return found.reshape(strips, *self.shape, width)

    def runs(
        self, kernel: Callable[..., None], width: int, *constants: Any, cheapness: int = 1
    ) -> Array:
        """Return what `kernel` finds in runs of pixels, without their places in the frame.

        ``kernel(x, y, mask, out, *constants)`` gets flat arrays, see `flat_rows`, `NO_BYTES` for no
        mask, and writes `width` numbers into ``out``; shape (runs, *shape, width). The runs depend
        on the frame only. `cheapness` is the number of pixels that cost as much time as one pixel
        of an ordinary kernel: a run has that many times more pixels. If there are weights, those of
        the run come before the constants.
        """
        height, length = self.frame
        rows = max(1, cheapness * RUN_PIXELS // length)
        is_weighted = self._weights is not None
        if self.count == 1 and height <= rows:  # the fast way for one small pair
            only = np.zeros(width)
            inside = NO_BYTES if self._mask is None else flat_rows(self._mask)
            own = (flat_rows(self._weights),) if is_weighted else ()
            kernel(flat_rows(self._x), flat_rows(self._y), inside, only, *own, *constants)
            return only.reshape(1, *self.shape, width)
        runs = -(-height // rows)
        found = np.zeros((runs, self.count, width))

        def task(i: int) -> None:
            plane, run = divmod(i, runs)
            start, stop = run * rows, (run + 1) * rows
            x, y, mask = self[plane]
            inside = NO_BYTES if mask is None else flat_rows(mask[start:stop])
            p, q = flat_rows(x[start:stop]), flat_rows(y[start:stop])
            own = (flat_rows(self.weights(plane)[start:stop]),) if is_weighted else ()
            kernel(p, q, inside, found[run, plane], *own, *constants)

        parallel(task, self.count * runs, self.count * height * length // cheapness)
        return found.reshape(runs, *self.shape, width)


def sum_parts(parts: Array) -> Array:
    """Add up the parts along the first axis, one by one, so that no other axis changes the sum."""
    total: Array = parts[0] if len(parts) == 1 else functools.reduce(np.add, parts)
    return total


def _readable(images: Images) -> tuple[Array, Array]:
    """Return two images in dtypes that kernels read."""
    x, y = images.x, images.y
    dtype = x.dtype
    is_usual = dtype == y.dtype and dtype.char in READABLE and dtype.isnative
    if is_usual and x.flags.aligned and y.flags.aligned:
        return x, y
    return _converted(x, images), _converted(y, images)


def _converted(image: Array, images: Images) -> Array:
    """Convert an image to a dtype that kernels read, if it has another one or the two differ.

    Most images are uint8 or uint16, and to convert them would take as long as the fastest kernels.
    Other integers become float64, the dtype of their arithmetic: to compile a kernel for each of
    them would take seconds, and the conversion takes milliseconds.
    """
    dtype = image.dtype.newbyteorder("=")
    differ = images.x.dtype.newbyteorder("=") != images.y.dtype.newbyteorder("=")
    is_other_integer = dtype.kind in "iu" and dtype not in (np.uint8, np.uint16)
    if differ or is_other_integer or dtype.itemsize > 8:
        return image.astype(images.dtype, order="C")
    if not image.dtype.isnative:  # one kernel, so that both byte orders give the same bits
        image = image.astype(dtype)
    if dtype.kind == "f" and dtype.itemsize == 2:
        return image.astype(np.float32)
    if not image.flags.aligned:
        return image.copy()
    return image.view(np.uint8) if dtype.kind == "b" else image


def unwritable(values: Array) -> Array:
    """View an array in C order, read-only: Numba would compile again for one that is writable."""
    view = np.ascontiguousarray(values).view()
    view.setflags(write=False)
    return view


def flat_rows(rows: Array) -> Array:
    """Flatten rows of a plane in C order, read-only; a mask becomes bytes, odd = use."""
    flat: Array = rows.ravel()
    if rows.dtype.char == "?":
        flat = flat.view(np.uint8)
    flat.setflags(write=False)
    return flat


def image_numbers(
    images: Images, mask: Array | None, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number the images of x and of y; return the number of each pair's image.

    Pairs are counted along `shape`, the batch axes and channels. An image with two masks counts as
    two images.
    """
    masks = () if mask is None else mask.shape[:-3]

    def numbers(image: Array) -> NDArray[np.intp]:
        own = (*broadcast(image.shape[:-3], masks), shape[-1])
        return np.broadcast_to(np.arange(math.prod(own)).reshape(own), shape).reshape(-1)

    return numbers(images.x), numbers(images.y)


def distinct_images(sides: tuple[NDArray[np.intp], ...]) -> list[tuple[int, int, int]]:
    """List side (0: x, 1: y), number and first pair of every image."""
    firsts: dict[tuple[int, int], int] = {}
    for side, own in enumerate(sides):
        for pair, image in enumerate(own.tolist()):
            firsts.setdefault((side, image), pair)
    return [(side, image, pair) for (side, image), pair in firsts.items()]


BLOCK = 1 << 11
"""Pixels of a block; two blocks of float64 take 32 KiB."""

# An array without elements stands for no mask: None would be a type of its own, for which Numba
# compiles a kernel again.
NO_BYTES = np.empty(0, np.uint8)
"""No mask of flat rows, see `flat_rows`."""
NO_MASK = np.empty((0, 0), np.bool_)
"""No mask of a plane."""
for _none in (NO_BYTES, NO_MASK):
    _none.setflags(write=False)


def floats(values: Array, room: Array) -> Array:
    """Return floats as they are, and integers copied into `room`; for compiled code only.

    A copy within the cache costs little. It lets one code add up integers and floats in the same
    order.
    """
    raise NotImplementedError


@overload(floats)
def _floats(values: Any, room: Any) -> Any:
    def same(values: Any, room: Any) -> Any:
        return values

    def converted(values: Any, room: Any) -> Any:
        for i in range(values.size):
            room[i] = values[i]
        return room[: values.size]

    return same if isinstance(values.dtype, types.Float) else converted


@inline
def load_block(x, y, mask, start, room):  # type: ignore[no-untyped-def]
    """Return a block of both images as floats, that of the mask, and its number of pixels inside.

    Two rows of `room` hold what is converted. The compiler gets it as a part of each caller.
    """
    p = floats(x[start : start + BLOCK], room[0])
    q = floats(y[start : start + BLOCK], room[1])
    inside = mask[start : start + BLOCK]
    n = count(inside) if mask.size > 0 else p.size
    return p, q, inside, n


@part
def count(inside):  # type: ignore[no-untyped-def]
    """Count the pixels inside a mask of bytes."""
    total = np.int64(0)
    for start in range(0, inside.size, BLOCK):
        block = inside[start : start + BLOCK]
        n = np.uint16(0)  # the CPU adds many numbers of 16 bits at a time
        for i in range(block.size):
            n = np.uint16(n + np.uint16(block[i] & np.uint8(1)))
        total += np.int64(n)
    return total


BYTE_BLOCK = 1 << 15
"""Pixels of a block of bytes, whose squares and products add up to less than 2^31."""


@part
def sums_of_bytes(p, q, inside):  # type: ignore[no-untyped-def]
    """Return the number of pixels of a block, and the sums of x, y, x^2, y^2 and x y.

    The CPU multiplies and adds many bytes at a time, other than pixels in float64.
    """
    n, sums = np.int32(p.size), (np.int32(0), np.int32(0), np.int32(0), np.int32(0), np.int32(0))
    if inside.size == 0:
        for i in range(p.size):
            sums = _added(sums, np.int32(p[i]), np.int32(q[i]))
    else:
        n = np.int32(0)
        for i in range(p.size):
            use = inside[i] & np.uint8(1)
            every_bit = np.uint8(0) - np.uint8(use)
            a, b = np.int32(np.uint8(p[i] & every_bit)), np.int32(np.uint8(q[i] & every_bit))
            n = np.int32(n + np.int32(use))
            sums = _added(sums, a, b)
    x, y, xx, yy, xy = sums
    return np.int64(n), np.int64(x), np.int64(y), np.int64(xx), np.int64(yy), np.int64(xy)


@inline
def _added(sums, a, b):  # type: ignore[no-untyped-def]
    x, y, xx, yy, xy = sums
    return (
        np.int32(x + a),
        np.int32(y + b),
        np.int32(xx + np.int32(a * a)),
        np.int32(yy + np.int32(b * b)),
        np.int32(xy + np.int32(a * b)),
    )
