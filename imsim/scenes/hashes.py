"""SH: sums over the cells of a signature, or differing bits of the census."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from imsim.finite import is_finite
from imsim.portable.hashes import SIGNATURES, TIE, area_means, grid_shape, overlaps
from imsim.portable.pair import Scores
from imsim.scenes.local import WindowMeans
from imsim.scenes.pieces import Block, Part, Pieces, Whole
from imsim.typing import Array

GROUP_PIXELS = 1 << 18
"""Pixels that are converted to float64 at once."""


class CellSums(NamedTuple):
    """Sums of the pixels of one image over the cells of a grid, and what they cover."""

    low: Array
    """Smallest pixel, (*batch, channels), which is subtracted from all; infinity without any."""
    high: Array
    """Largest pixel."""
    sums: Array
    """(*batch, channels, rows, columns)."""
    covered: Array
    """Covered area of each cell, in pixels."""

    def plus(self, other: CellSums) -> CellSums:
        """Add the sums of other pixels."""
        low = np.minimum(self.low, other.low)
        sums = np.zeros_like(self.sums)
        for part in (self, other):
            has_pixels = np.isfinite(part.low)
            apart = np.where(has_pixels, part.low, 0.0) - np.where(has_pixels, low, 0.0)
            sums = sums + (part.sums + apart[..., None, None] * part.covered)
        return CellSums(low, np.maximum(self.high, other.high), sums, self.covered + other.covered)


class Signatures(Pieces):
    """The cells of both images, and the signatures that they make up."""

    def __init__(self, whole: Whole, hash: str, hash_size: int) -> None:
        super().__init__(whole)
        self._hash = hash
        self._grid = grid_shape(hash, hash_size)

    def part(self, block: Block) -> Part:
        """Return the sums over the pixels that the block owns."""
        images, valid = block.owned()
        shape = (*block.batch, self.whole.channels)
        sums = tuple(self._sums(v, valid, shape, block.own) for v in (images.x, images.y))
        return Part((*sums, valid is not None), block.finite(images, valid))

    def _sums(
        self, image: Array, valid: Array | None, shape: tuple[int, ...], own: tuple[slice, ...]
    ) -> CellSums:
        frame = image.shape[-2:]
        image = np.broadcast_to(image, (*shape, *frame))
        inside = None if valid is None else np.broadcast_to(valid, image.shape)
        low, high = np.empty((2, *shape))
        sums, covered = np.zeros((2, *shape, *self._grid))
        rows = max(1, GROUP_PIXELS // frame[1])
        down, across = (
            overlaps(cells, side, one.start, one.stop)
            for cells, side, one in zip(self._grid, self.whole.sides, own, strict=True)
        )
        for index in np.ndindex(shape):
            use = is_finite(image[index], np) if image.dtype.kind == "f" else None
            if inside is not None:
                use = inside[index] if use is None else use & inside[index]
            low[index], high[index] = _ends(image[index], use)
            for first in range(0, frame[0], rows):
                part = slice(first, first + rows)
                pixels = image[index][part].astype(np.float64)
                here = np.ones(pixels.shape, np.bool_) if use is None else use[part]
                pixels = np.where(here, pixels, low[index]) - low[index] if here.any() else here
                sums[index] += down[:, part] @ pixels @ across.T
                if inside is None:
                    covered[index] += down[:, part].sum(axis=1)[:, None] * across.sum(axis=1)
                else:  # also by pixels that are not finite
                    weights = inside[index][part].astype(np.float64)
                    covered[index] += down[:, part] @ weights @ across.T
        return CellSums(low, high, sums, covered)

    def _merge(self, p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
        return p[0].plus(q[0]), p[1].plus(q[1]), p[2]

    def finish(self, part: Part) -> Scores:
        """Return the parts of the bits that differ."""
        *both, has_mask = part.values
        shape = both[0].low.shape
        scores, scored = np.full((2, *shape), np.nan)
        (height, width), (rows, columns) = self.whole.sides, self._grid
        area = (height / rows) * (width / columns)
        for index in np.ndindex(shape):
            bits, valid = [], []
            for image in both:
                covered = image.covered[index] if has_mask else None
                cells, has_pixels = area_means(image.sums[index], covered, area)
                spread = max(image.high[index] - image.low[index], 0.0)
                one = SIGNATURES[self._hash](cells, has_pixels, TIE * spread)
                bits.append(one[0])
                valid.append(one[1])
            both_valid = valid[0] & valid[1]
            n = np.count_nonzero(both_valid)
            scored[index] = n
            if n:
                scores[index] = np.count_nonzero((bits[0] ^ bits[1]) & both_valid) / n
        return Scores(scores, scored)


def _ends(image: Array, use: Array | None) -> tuple[float, float]:
    """Smallest and largest pixel; infinities without any."""
    if use is None:
        return float(image.min()), float(image.max())
    if image.dtype.kind == "b":
        image = image.view(np.uint8)
    values = image[use]
    return (float(values.min()), float(values.max())) if values.size else (np.inf, -np.inf)


class Census(WindowMeans):
    """Differing bits, and all of them, of the pixels that have neighbours on all sides."""

    def part(self, block: Block) -> Part:
        """Return the numbers of bits of the pixels that the block owns."""
        found = super().part(block)
        differing, bits = found.values
        return found._replace(values=(np.rint(differing), bits))
