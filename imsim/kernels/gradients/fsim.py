"""Gradient of FSIM: from the pooled similarity back to the features, cells and pixels.

The score comes with it, from the same transforms, to the last bit that of `imsim.kernels.fsim`.

With the similarity s of a cell and its weight w = max(PC_x, PC_y), the score is sum s w / sum w:

    d FSIM / ds = w / sum w          d FSIM / dw = (s - FSIM) / sum w
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.caches import SPARES
from imsim.kernels.common.cell_rows import cell_similarity
from imsim.kernels.common.coarse import add_to_pixels, fill_back
from imsim.kernels.common.jit import allocating_exact, exact, kernel, part
from imsim.kernels.common.planes import NO_MASK, Planes
from imsim.kernels.fsim import (
    DIAGONAL,
    SIDE,
    CellFeatures,
    chroma_of,
    filled_cells,
    length,
    pooled,
    scharr,
    share_images,
    similarity,
    within_zeros,
)
from imsim.kernels.gradients import LARGEST_RANGE, Gradients, largest, plane_weights
from imsim.kernels.gradients.phase_congruency import Congruency, Room
from imsim.portable.coarse import LAMBDA, T1, T2, T3, T4, YIQ, automatic_factor, eroded
from imsim.portable.pair import Pair, Scores
from imsim.typing import Array
from imsim.workers import Run

LARGEST_SIZE = 1e15
"""Largest magnitude of pixels scaled to a data range of 255; the formula takes larger ones."""


def gradient(
    pair: Pair, upstream: Array, wanted: tuple[bool, bool], chromatic: bool = False
) -> Gradients | None:
    """Gradients of the sum of `upstream` times the score; see `imsim.kernels.gradients`."""
    found = scored_gradient(pair, wanted, chromatic, upstream)
    return None if found is None else found[1]


def scored_gradient(
    pair: Pair, wanted: tuple[bool, bool], chromatic: bool = False, upstream: Array | float = 1.0
) -> tuple[Scores, Gradients] | None:
    """Scores with the gradients of their sum, or of that with weights."""
    channels = pair.x.shape[-3]
    if chromatic and channels != 3:
        return None  # the formula says what is wrong
    if not 1 / LARGEST_RANGE < pair.data_range < LARGEST_RANGE:
        return None
    if largest(pair) * 255 / pair.data_range > LARGEST_SIZE:
        return None
    planes = Planes(pair, pair.mask)
    size = 3 if chromatic else 1  # planes of a pair
    scores = (*planes.shape[:-1], channels // size)
    weights, sums = plane_weights(upstream, scores), np.zeros((math.prod(scores), 3))
    sides = [side for side in (0, 1) if wanted[side]]
    found = [np.zeros((planes.count, *planes.frame), pair.x.dtype) for _ in sides]
    work = _Work(planes.frame, pair.x.dtype, 255 / pair.data_range)

    def task(i: int, run: Run) -> None:
        numbers = range(i * size, (i + 1) * size)
        x, y, masks = zip(*(planes[k] for k in numbers), strict=True)
        out = [gradients[numbers.start : numbers.stop] for gradients in found]
        sums[i] = work.write((list(x), list(y)), masks[0], weights[i], sides, out, run)

    share_images(task, planes.count // size, work.cells)
    shape = (*planes.shape, *planes.frame)
    done = dict(zip(sides, (gradients.reshape(shape) for gradients in found), strict=True))
    return pooled(sums, scores), (done.get(0), done.get(1))


class _Work:
    """The gradients of pairs of one frame, and the memory for their transforms."""

    def __init__(self, frame: tuple[int, int], dtype: np.dtype[Any], scale: float) -> None:
        self._factor = automatic_factor(*frame)
        self._dtype, self._scale = dtype, np.float64(scale)
        rows, columns = (-(-length // self._factor) for length in frame)
        self.cells = (rows, columns)
        self._waiting: dict[np.dtype[Any], list[Congruency]] = {}
        self._rooms: dict[np.dtype[Any], list[Room]] = {}

    def write(
        self,
        pair: tuple[list[Array], list[Array]],
        mask: Array | None,
        weight: float,
        sides: list[int],
        gradients: list[Array],
        run: Run,
    ) -> Array:
        """Write the gradients of one pair, of whose images each has one or three planes.

        Returns the sums of `similarity`.
        """
        if mask is not None and mask.all():
            mask = None
        cells: dict[int, list[Array]] = {}
        valids: dict[int, Array | None] = {}

        def load(side: int, run: Run) -> None:
            cells[side], valids[side] = filled_cells(pair[side], mask, self._factor)

        share_images(load, 2, self.cells, run)
        valid = valids[0]
        scored: Array = NO_MASK if valid is None else eroded(valid)
        if scored.size > 0 and not scored.any():
            return np.zeros(3)
        congruencies: dict[int, Congruency] = {}
        values: dict[int, Array] = {}

        def find(side: int, run: Run) -> None:
            keep = side in sides
            found = self._congruency(cells[side][0], valid, keep, run)
            congruencies[side], values[side] = found

        share_images(find, 2, self.cells, run)
        x, y = (
            CellFeatures(
                within_zeros(luminance), values[side], tuple(self._scale * c for c in rest), valid
            )
            for side, (luminance, *rest) in sorted(cells.items())
        )
        chroma = chroma_of(x, y)
        similarities, sums = similarity(x, y, chroma, self._scale)
        given = scored, self._scale, sides, similarities, sums
        slopes, edges, chrominance = _slopes(x, y, chroma, *given)

        def back(k: int, run: Run) -> None:
            side = sides[k]
            of_luminance = congruencies[side].back(slopes[side], run)
            _add_edges(edges[side], of_luminance)
            of_planes = [of_luminance, *chrominance[side]]
            for plane in of_planes if valid is not None else ():
                fill_back(plane, valid)
            for c, pixels in enumerate(gradients[k]):
                of_channel = of_luminance
                if len(pair[side]) == 3:
                    of_channel = sum(w[c] * v for w, v in zip(YIQ, of_planes, strict=True))
                add_to_pixels(of_channel, mask, self._factor, weight, pixels)

        share_images(back, len(sides), self.cells, run)
        for congruency in congruencies.values():
            self._waiting[congruency.dtype].append(congruency)
        return sums

    def _congruency(
        self, cells: Array, valid: Array | None, keep: bool, run: Run
    ) -> tuple[Congruency, Array]:
        """Phase congruency to the precision of the score, in float64 where float32 fails."""
        for dtype in (self._dtype, np.dtype(np.float64)):
            waiting = self._waiting.setdefault(dtype, [])
            try:
                congruency = waiting.pop()
            except IndexError:
                rooms = self._rooms.setdefault(dtype, [])
                congruency = Congruency(*self.cells, dtype, rooms)
            values = congruency.find(cells, valid, self._scale, keep, run)
            if values is not None:
                break
            waiting.append(congruency)
        return congruency, np.asarray(values, self._dtype).astype(np.float64)


def _slopes(
    x: CellFeatures,
    y: CellFeatures,
    chroma: Array,
    scored: Array,
    scale: float,
    sides: list[int],
    values: Array,
    sums: Array,
) -> tuple[Array, Array, Array]:
    """Gradients of the score by the features; the similarities are overwritten.

    The first axis is the image. They are those by the phase congruency, by both components of the
    gradients of the luminance, in a frame of zeros, and by I and Q, if there are any.
    """
    rows, columns = values.shape
    scored = scored.view(np.uint8)
    scored.setflags(write=False)  # Numba would compile again for a writable array
    real = np.dtype(np.float64)
    slopes = SPARES.array((2, rows, columns), real)
    edges = SPARES.array((2, 2, rows + 2, columns + 2), real)
    edges[..., [0, -1], :] = edges[..., [0, -1]] = 0
    part = 1 / sums[1] if sums[1] > 0 else 0.0
    _pool_back(
        x.luminance,
        y.luminance,
        x.congruency,
        y.congruency,
        chroma,
        scored,
        scale,
        values,
        part,
        sums[0] * part if sums[1] > sums[0] else 1.0,
        slopes,
        edges,
    )
    # `values` are now the gradients of the logarithm of the chromatic similarity.
    parts = (x.chrominance, y.chrominance)
    chrominance = np.empty((2, len(parts[0]), rows, columns))
    for side in sides:
        for p, q, t, out in zip(
            parts[side], parts[1 - side], (T3, T4), chrominance[side], strict=False
        ):
            _chrominance_back(p, q, values, LAMBDA * scale, t, out)
    return slopes, edges, chrominance


@exact  # equal images have exactly the gradient 0
def _chrominance_back(p, q, slopes, factor, constant, out):  # type: ignore[no-untyped-def]
    """Write the gradient of I or Q of one image from that of the logarithm of S; 0 where S = 0."""
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            u, v = p[i, j], q[i, j]
            s = cell_similarity(u, v, constant)
            of_s = factor * slopes[i, j] / s if s != 0 else 0.0
            out[i, j] = of_s * 2 * ((v - u) + u * (1 - s)) / (u * u + v * v + constant)


@allocating_exact  # equal images have exactly the gradient 0
def _pool_back(  # type: ignore[no-untyped-def]
    x, y, pc_x, pc_y, chroma, scored, scale, values, part, score, slopes, edges
):
    """Write the gradients by the phase congruencies, and by both components of the gradients.

    `values` first hold the similarity, and then s ds of the score. `part` is 1 / sum w.
    """
    height, width = values.shape
    room = np.empty((7, width))
    colour, use = np.ones(width), np.ones(width)
    for i in range(height):
        _load(chroma, scored, i, colour, use)
        # A loop of less is vectorised: the compiler compares what it reads and writes in pairs.
        for j in range(width):
            room[2, j], room[3, j] = scharr(x, i, j)
            room[4, j], room[5, j] = scharr(y, i, j)
        for j in range(width):
            p, q, s = pc_x[i, j], pc_y[i, j], values[i, j]
            of_s, of_weight = use[j] * part * max(p, q), use[j] * part * (s - score)
            share = (0.5 if p >= q else 0.0) + (0.5 if p > q else 0.0)
            g_x = scale * length((room[2, j], room[3, j]))
            g_y = scale * length((room[4, j], room[5, j]))
            s_pc, s_g = cell_similarity(p, q, T1), cell_similarity(g_x, g_y, T2)
            of_pc = of_s * colour[j] * s_g * 2 / (p * p + q * q + T1)
            room[0, j] = of_pc * ((q - p) + p * (1 - s_pc)) + of_weight * share
            room[1, j] = of_pc * ((p - q) + q * (1 - s_pc)) + of_weight * (1 - share)
            of_g = of_s * colour[j] * s_pc * 2 / (g_x * g_x + g_y * g_y + T2) * scale * scale
            # The root at 0 has the slope 0.
            along_x = of_g * ((g_y - g_x) + g_x * (1 - s_g)) / (g_x if g_x > 0 else 1.0)
            along_y = of_g * ((g_x - g_y) + g_y * (1 - s_g)) / (g_y if g_y > 0 else 1.0)
            room[2, j] *= along_x
            room[3, j] *= along_x
            room[4, j] *= along_y
            room[5, j] *= along_y
            room[6, j] = of_s * s
        for j in range(width):
            values[i, j] = room[6, j]
        for side in range(2):
            for j in range(width):
                slopes[side, i, j] = room[side, j]
            for k in range(2):
                for j in range(width):
                    edges[side, k, i + 1, j + 1] = room[2 + 2 * side + k, j]


@part
def _load(chroma, scored, i, colour, use):  # type: ignore[no-untyped-def]
    """Copy a row of the chromatic similarity, and of the scored cells."""
    if chroma.size > 0:
        for j in range(colour.size):
            colour[j] = chroma[i, j]
    if scored.size > 0:
        for j in range(use.size):
            use[j] = scored[i, j]


@kernel
def _add_edges(edges, cells):  # type: ignore[no-untyped-def]
    """Add the gradients of the cells that those by the components of Scharr's gradients imply."""
    across, along = edges[0], edges[1]
    for i in range(cells.shape[0]):
        up, here, down = i, i + 1, i + 2
        for j in range(cells.shape[1]):
            left, middle, right = j, j + 1, j + 2
            side = across[here, left] - across[here, right]
            side += along[up, middle] - along[down, middle]
            diagonal = (across[up, left] - across[up, right]) + along[up, left]
            diagonal += (across[down, left] - across[down, right]) + along[up, right]
            diagonal -= along[down, left] + along[down, right]
            cells[i, j] += SIDE * side + DIAGONAL * diagonal
