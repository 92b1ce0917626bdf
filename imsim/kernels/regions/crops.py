"""Regions of a label image: their boxes, and crops of images around them.

Arrays have three spatial axes; the first one of images has length 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.kernels.common.planes import unwritable
from imsim.typing import Array
from imsim.workers import divided, parallel

CHUNK = 100
"""Most crops that a thread copies at a time."""
STRIPS = 8
"""Strips of rows, or of planes, in which codes are counted at once."""
CHEAPNESS = 8
"""Copied pixels that cost as much time as one for which `parallel` has its threshold."""


def survey(codes: Array, n: int) -> tuple[Array, Array]:
    """Return the pixels of each code below `n`, and its box, (n, 3 axes, begin and end)."""
    codes = unwritable(codes)
    # Strips have lists of their own, unless these were longer than the strips.
    axis = 0 if codes.shape[0] > 1 else 1
    most = max(-(-codes.shape[axis] // STRIPS), -(-codes.shape[axis] * n // codes.size))
    parts = divided(codes.shape[axis], most)
    counts, boxes = np.zeros((len(parts), n), np.int64), np.empty((len(parts), n, 3, 2), np.int64)
    boxes[..., 0], boxes[..., 1] = np.iinfo(np.int64).max, 0

    def task(i: int) -> None:
        strip = codes[parts[i]] if axis == 0 else codes[:, parts[i]]
        origin = (parts[i].start, 0) if axis == 0 else (0, parts[i].start)
        _survey(strip, *origin, counts[i], boxes[i])

    parallel(task, len(parts), codes.size)
    begin, end = boxes[..., 0].min(axis=0), boxes[..., 1].max(axis=0)
    return counts.sum(axis=0), np.stack([begin, end], axis=-1)


def masks_of(codes: Array, wanted: Array, starts: Array, shape: tuple[int, ...]) -> Array:
    """Return the mask of each wanted code in its crop, (crops, *shape)."""
    found = np.empty((len(wanted), *shape), np.bool_)
    codes = unwritable(codes)

    def task(part: slice) -> None:
        _fill_masks(codes, wanted[part], starts[part], found[part])

    _in_parts(task, found)
    return found


def crops_of(image: Array, masks: Array, starts: Array) -> Array:
    """Copy crops of an image, (channels, *frame), with zeros outside their masks.

    The shape is (crops, channels, ...), and the dtype that of the image. Bytes are copied whatever
    they mean: so there is one kernel for each size of a pixel, and a pixel of zero bits is 0.
    """
    bits = np.dtype(f"u{image.dtype.itemsize}")
    n, *shape = masks.shape
    found = np.empty((n, len(image), *shape), bits)
    pixels = unwritable(image.view(bits))

    def task(part: slice) -> None:
        _fill_crops(pixels, masks[part], starts[part], found[part])

    _in_parts(task, found)
    return found.view(image.dtype)


def _in_parts(task: Callable[[slice], None], found: Array) -> None:
    parts = divided(len(found), CHUNK)
    parallel(lambda i: task(parts[i]), len(parts), found.size // CHEAPNESS)


@kernel
def _survey(codes, first_plane, first_row, counts, boxes):  # type: ignore[no-untyped-def]
    """Go through the runs of pixels of one code, in a strip that begins at a plane and a row."""
    depth, height, width = codes.shape
    for z in range(depth):
        for y in range(height):
            row = codes[z, y]
            begin = 0
            while begin < width:
                code, end = row[begin], begin + 1
                while end < width and row[end] == code:
                    end += 1
                counts[code] += end - begin
                box = boxes[code]
                plane, line = first_plane + z, first_row + y
                box[0, 0], box[0, 1] = min(box[0, 0], plane), max(box[0, 1], plane + 1)
                box[1, 0], box[1, 1] = min(box[1, 0], line), max(box[1, 1], line + 1)
                box[2, 0], box[2, 1] = min(box[2, 0], begin), max(box[2, 1], end)
                begin = end


@kernel
def _fill_masks(codes, wanted, starts, masks):  # type: ignore[no-untyped-def]
    n, depth, height, width = masks.shape
    for k in range(n):
        code, left = wanted[k], starts[k, 2]
        for z in range(depth):
            for y in range(height):
                row = codes[starts[k, 0] + z, starts[k, 1] + y, left : left + width]
                for x in range(width):
                    masks[k, z, y, x] = row[x] == code


@kernel
def _fill_crops(image, masks, starts, crops):  # type: ignore[no-untyped-def]
    n, channels, depth, height, width = crops.shape
    nothing = image.dtype.type(0)
    for k in range(n):
        left = starts[k, 2]
        for c in range(channels):
            for z in range(depth):
                for y in range(height):
                    row = image[c, starts[k, 0] + z, starts[k, 1] + y, left : left + width]
                    inside, out = masks[k, z, y], crops[k, c, z, y]
                    for x in range(width):
                        out[x] = row[x] if inside[x] else nothing
