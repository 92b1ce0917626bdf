"""FSIM: the phase congruency of each image, then one pass over both for the similarity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imsim.kernels.common.cell_rows import cell_similarity
from imsim.kernels.common.coarse import block_means, fill_cells
from imsim.kernels.common.jit import exact, inline
from imsim.kernels.common.phase_congruency import Transforms, phase_congruency
from imsim.kernels.common.planes import NO_MASK, Planes, image_numbers, unwritable
from imsim.portable.coarse import (
    SCHARR,
    T1,
    T2,
    YIQ,
    automatic_factor,
    chromatic_similarity,
    eroded,
    weighted,
)
from imsim.portable.pair import Local, Scores
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import Run, parallel, share_out

COST = 16
"""Work per cell, as a multiple of that per pixel for which `parallel` has its threshold."""
LARGE_IMAGE = 1 << 16
"""Cells above which all threads share one image, since transforms of an image take much memory."""
SIDE, DIAGONAL = SCHARR[1], SCHARR[0]
NO_CHROMA = np.empty((0, 0))
LARGEST_SIZE = 1e150
"""Largest magnitude of cells, scaled or not, whose squares are certain to be numbers."""


class CellFeatures(NamedTuple):
    """The features of one image, by cell."""

    luminance: Array
    """Cells of the coarser grid within a frame of zeros, in float64."""
    congruency: Array
    chrominance: tuple[Array, ...]
    """I and Q, or nothing."""
    valid: Array | None
    """Cells inside the mask; None: all cells."""
    is_huge: bool = False
    """Whether squares of cells may leave float64; the features are those of zeros."""


def fsim(images: Images, mask: Array | None, chromatic: bool) -> Scores | None:
    """Mean of the similarity, weighted by the larger phase congruency."""
    if chromatic and images.x.shape[-3] != 3:
        return None  # the formula says what is wrong
    work = _Work(images, mask, chromatic)
    sums = np.empty((work.count, 3))
    huge = np.zeros(work.shape, np.bool_)

    def task(i: int, x: CellFeatures, y: CellFeatures) -> None:
        _, sums[i] = similarity(x, y, chroma_of(x, y), work.scale)
        if x.is_huge or y.is_huge:
            huge.flat[i], sums[i, :2] = True, math.nan  # they are no witness of finite pixels

    work.run(task)
    return pooled(sums, work.shape)._replace(left=huge.any(axis=-1))


def fsim_map(images: Images, mask: Array | None, chromatic: bool) -> Local | None:
    """Compute the similarity of each cell."""
    if chromatic and images.x.shape[-3] != 3:
        return None
    work = _Work(images, mask, chromatic)
    values = np.empty((work.count, *work.cells), dtype=images.dtype)
    valid = None if mask is None else np.ones(values.shape, dtype=bool)
    huge = np.zeros(work.shape, np.bool_)

    def task(i: int, x: CellFeatures, y: CellFeatures) -> None:
        values[i], _ = similarity(x, y, chroma_of(x, y), work.scale)
        huge.flat[i] = x.is_huge or y.is_huge
        if valid is not None:
            valid[i] = True if x.valid is None else eroded(x.valid)

    work.run(task)
    shape = (*work.shape, *work.cells)
    step = work.factor
    valid = None if valid is None else valid.reshape(shape)
    return Local(values.reshape(shape), valid, step=step, left=huge.any(axis=-1))


def pooled(sums: Array, shape: tuple[int, ...]) -> Scores:
    """Scores from what `similarity` adds up for each pair."""
    weighted_sums, weights, scored = (sums[:, k].reshape(shape) for k in range(3))
    scores = np.ones_like(weights)
    np.divide(weighted_sums, weights, out=scores, where=weights != 0)
    np.minimum(scores, 1, out=scores)
    # A transform spreads NaN and infinities to every cell.
    return Scores(scores, scored, witness=weighted_sums)


def chroma_of(x: CellFeatures, y: CellFeatures) -> Array:
    """Chromatic similarity of cells, or an empty array for grey images."""
    return chromatic_similarity(x.chrominance, y.chrominance) if x.chrominance else NO_CHROMA


def similarity(
    x: CellFeatures, y: CellFeatures, chroma: Array, scale: float
) -> tuple[Array, Array]:
    """Return the similarity of cells; and its weighted sum, the sum of weights, and the count."""
    congruency = (np.asarray(image.congruency, np.float64) for image in (x, y))
    values = np.empty(x.congruency.shape)
    columns = np.zeros((2, values.shape[1]))
    valid: Array = NO_MASK if x.valid is None else eroded(x.valid)
    valid.setflags(write=False)  # Numba would compile again for a writable array
    _pool(x.luminance, y.luminance, *congruency, chroma, valid, scale, values, columns)
    n = np.count_nonzero(valid) if valid.size else values.size
    return values, np.array([*columns.sum(axis=1), n])


@exact  # equal images score exactly 1, and swapped images score the same
def _pool(x, y, pc_x, pc_y, chroma, valid, scale, values, columns):  # type: ignore[no-untyped-def]
    """Write the similarity, and add it up by columns, an order that vectorises."""
    height, width = values.shape
    for i in range(height):
        for j in range(width):
            s = cell_similarity(pc_x[i, j], pc_y[i, j], T1)
            g_x, g_y = length(scharr(x, i, j)), length(scharr(y, i, j))
            s *= cell_similarity(scale * g_x, scale * g_y, T2)
            values[i, j] = s
        if chroma.size > 0:
            for j in range(width):
                values[i, j] *= chroma[i, j]
        for j in range(width):
            s, p, q = values[i, j], pc_x[i, j], pc_y[i, j]
            s = 1.0 if s > 1 else s  # rounding may exceed 1
            values[i, j] = s
            weight = p if p > q or p != p else q  # max() would drop NaN
            if valid.size == 0 or valid[i, j]:
                columns[0, j] += s * weight
                columns[1, j] += weight


@inline
def scharr(v, i, j):  # type: ignore[no-untyped-def]
    """Scharr's gradient at cell (i, j), which is (i + 1, j + 1) within the frame."""
    gx = SIDE * (v[i + 1, j + 2] - v[i + 1, j])
    gx += DIAGONAL * ((v[i, j + 2] - v[i, j]) + (v[i + 2, j + 2] - v[i + 2, j]))
    gy = SIDE * (v[i + 2, j + 1] - v[i, j + 1])
    gy += DIAGONAL * ((v[i + 2, j] - v[i, j]) + (v[i + 2, j + 2] - v[i, j + 2]))
    return gx, gy


@inline
def length(g):  # type: ignore[no-untyped-def]
    """Length of a gradient."""
    return np.sqrt(g[0] * g[0] + g[1] * g[1])


class _Work:
    """The pairs of a batch; features of an image in several pairs are computed once."""

    def __init__(self, images: Images, mask: Array | None, chromatic: bool) -> None:
        self._batch = Planes(images, mask)
        self._chromatic = chromatic
        self.scale = np.float64(255 / images.data_range)
        self.dtype = np.dtype(images.dtype)
        self._are_integers = images.x.dtype.kind != "f" and images.y.dtype.kind != "f"
        self.factor = automatic_factor(*images.frame)
        rows, columns = (-(-length // self.factor) for length in images.frame)
        self.cells = (rows, columns)
        channels = 1 if chromatic else images.x.shape[-3]
        self.shape = (*self._batch.shape[:-1], channels)
        self.count = math.prod(self.shape)
        self._transforms: dict[np.dtype[Any], list[Transforms]] = {}
        self._image_numbers = image_numbers(images, mask, self.shape)

    def run(self, task: Callable[[int, CellFeatures, CellFeatures], None]) -> None:
        """Call a task for every pair, with the features of its images."""
        kept = [self._shared(side) for side in (0, 1)]

        def pair(i: int, run: Run) -> None:
            found: list[Any] = [
                kept[side] and kept[side][self._image_numbers[side][i]] for side in (0, 1)
            ]
            missing = [side for side in (0, 1) if not kept[side]]

            def image(k: int, run: Run) -> None:
                found[missing[k]] = self._features(missing[k], i, run)

            share_images(image, len(missing), self.cells, run)
            task(i, *found)

        share_images(pair, self.count, self.cells)

    def _shared(self, side: int) -> list[CellFeatures]:
        """Features of the images if some take part in several pairs, else an empty list."""
        images, pairs = np.unique(self._image_numbers[side], return_index=True)
        if images.size == self.count:
            return []
        features: list[Any] = [None] * images.size

        def image(k: int, run: Run) -> None:
            features[k] = self._features(side, int(pairs[k]), run)

        share_images(image, images.size, self.cells)
        return features

    def _features(self, side: int, i: int, run: Run) -> CellFeatures:
        """Compute the features of one image of the i-th pair."""
        (luminance, *chrominance), valid = self._planes(side, i)
        is_huge = self._are_huge(luminance, *chrominance)
        if is_huge:
            luminance, *chrominance = np.zeros((1 + len(chrominance), *self.cells))
        congruency = self._congruency(luminance, valid, run)
        chroma = tuple(self.scale * c for c in chrominance)
        return CellFeatures(within_zeros(luminance), congruency, chroma, valid, is_huge)

    def _are_huge(self, *planes: Array) -> bool:
        if self.dtype == np.float32 or self._are_integers:
            return False
        largest = LARGEST_SIZE / max(self.scale, 1.0)
        return any(max(plane.max(), -plane.min()) > largest for plane in planes)

    def _congruency(self, cells: Array, valid: Array | None, run: Run) -> Array:
        """Phase congruency in the dtype of the images, computed in float64 where float32 fails."""
        found = self._transformed(cells, valid, self.dtype, run)
        if found is None:
            found = self._transformed(cells, valid, np.dtype(np.float64), run)
        return np.asarray(found, dtype=self.dtype)

    def _transformed(
        self, cells: Array, valid: Array | None, dtype: np.dtype[Any], run: Run
    ) -> Array | None:
        waiting = self._transforms.setdefault(dtype, [])
        try:
            transforms = waiting.pop()
        except IndexError:
            transforms = Transforms(*self.cells, dtype)
        found = phase_congruency(cells, valid, self.scale, transforms, run)
        if math.prod(self.cells) <= LARGE_IMAGE:
            waiting.append(transforms)
        return found

    def _planes(self, side: int, i: int) -> tuple[list[Array], Array | None]:
        """Cells of the luminance, or of Y, I and Q; and which cells lie inside the mask."""
        mask = self._batch[3 * i if self._chromatic else i].mask
        if mask is not None and mask.all():
            mask = None
        numbers = [3 * i + c for c in range(3)] if self._chromatic else [i]
        return filled_cells([self._batch[k][side] for k in numbers], mask, self.factor)


def share_images(
    task: Callable[[int, Run], None], n: int, cells: tuple[int, int], run: Run = parallel
) -> None:
    """Share tasks among threads; where they are few or large, share the work within each task.

    A task holds the transforms of an image, so large images are computed one at a time.
    """
    size = math.prod(cells)
    share_out(task, n, COST * size, run=run, at_once=size <= LARGE_IMAGE)


def within_zeros(cells: Array) -> Array:
    """Copy cells into a frame of zeros."""
    framed = np.zeros((cells.shape[0] + 2, cells.shape[1] + 2))
    framed[1:-1, 1:-1] = cells
    return framed


def filled_cells(
    channels: list[Array], mask: Array | None, factor: int
) -> tuple[list[Array], Array | None]:
    """Cells of one channel, or of Y, I and Q of three; and which of them lie inside the mask.

    The cells are float64: differences of cells far from 0 must keep their digits.
    """
    planes = channels
    if len(channels) == 3:
        rgb = np.stack([channel.astype(np.float64) for channel in channels])
        planes = [weighted(rgb, w)[0] for w in YIQ]
    cells = [block_means(unwritable(p), mask, factor) for p in planes]
    valid = cells[0][1]
    if valid is not None:
        for plane, _ in cells:
            fill_cells(plane, valid)
    return [plane for plane, _ in cells], valid
