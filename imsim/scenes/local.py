"""Local values: means for SSIM, UIQ and ZNCC, deviation for GMSD, sum for IMED, bits for SH.

And the cells of the coarser grid of FSIM and of the downsampled SSIM, which has about 256 along the
shorter side, however large the images are: those of each block, laid side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from imsim.finite import is_finite, prepared, subtracted
from imsim.portable.arrays import broadcast, root, where_valid
from imsim.portable.coarse import automatic_factor, block_mean
from imsim.portable.differences import scaled_difference
from imsim.portable.hashes import SIGNATURES, TIE, area_means, grid_shape, overlaps
from imsim.portable.pair import Local, Scores, window_reach
from imsim.scenes.pieces import (
    Accurate,
    Block,
    Loader,
    Part,
    Pieces,
    Reach,
    Whole,
    own_positions,
    repeated,
    sums_over,
)
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel


class WindowMeans(Pieces):
    """A block is scored with the pixels that its windows read: these windows lie inside it."""

    def __init__(
        self,
        whole: Whole,
        formula: Callable[..., Scores | Local],
        kernel: Loader | None,
        lengths: tuple[int, ...],
        options: dict[str, Any],
    ) -> None:
        super().__init__(whole, kernel)
        self._formula, self._options, self._lengths = formula, options, lengths
        self.reach = tuple(window_reach(length) for length in lengths)

    def part(self, block: Block) -> Part:
        """Return the sums over the windows whose centres the block owns, and their numbers."""
        images, valid = block.images, block.valid
        shape = (*block.batch, self.whole.channels)
        if any(side < one for side, one in zip(images.sides, self._lengths, strict=True)):
            nothing = np.zeros(shape)
            return Part((nothing, nothing.copy()), block.finite(*block.owned()))
        found, finite = self._computed(images, valid, self._formula, self._options)
        values, n = repeated(shape, found.values, found.scored)
        return Part((np.where(n > 0, values * n, 0.0), n), block.finite(images, valid, finite))

    def finish(self, part: Part) -> Scores:
        """Return the means."""
        total, n = part.values
        return Scores(total / np.where(n > 0, n, 1.0), n)


class PaddedMeans(WindowMeans):
    """Means over windows where each pixel has one: the border of the images is repeated.

    That of a block, which is repeated too, is read by windows of other blocks alone.
    """

    def part(self, block: Block) -> Part:
        """Return the sums over the windows whose centres the block owns, and their numbers."""
        images, valid = block.images, block.valid
        found, finite = self._computed(images, valid, self._formula, self._options)
        values, scored = own_positions(found, block)
        sums = sums_over(values, scored, len(block.own))
        shape = (*block.batch, self.whole.channels)
        return Part(repeated(shape, *sums), block.finite(images, valid, finite))


LEAST_SUM, LARGEST_SUM = 1e-180, 1e200
"""Sums of squares beyond these may have lost some of them."""


class Deviation(Pieces):
    """Number, mean and sum of squares about the mean of the similarities of cells."""

    def __init__(
        self, whole: Whole, formula: Callable[..., Local], kernel: Loader | None, step: int
    ) -> None:
        super().__init__(whole, kernel)
        self._formula, self.step = formula, step
        # A cell, and those beside it.
        self.reach = ((step, 2 * step - 1),) * len(whole.sides)

    def part(self, block: Block) -> Part:
        """Return the moments of the cells whose first pixel the block owns."""
        images, valid, axes = block.images, block.valid, len(block.own)
        local, finite = self._computed(images, valid, self._formula, {})
        values, scored = own_positions(local, block)
        total, n = sums_over(values, scored, axes)
        mean = total / np.where(n > 0, n, 1.0)
        away = values - mean[(..., *[None] * axes)]
        squares, _ = sums_over(away * away, scored, axes)
        rest, _ = sums_over(away, scored, axes)
        squares = np.maximum(squares - rest * rest / np.where(n > 0, n, 1.0), 0.0)
        moments = repeated((*block.batch, self.whole.channels), n, mean, squares)
        return Part(moments, block.finite(images, valid, finite))

    def _merge(self, p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
        (n_p, mean_p, squares_p), (n_q, mean_q, squares_q) = p, q
        n = n_p + n_q
        weight = n_q / np.where(n > 0, n, 1.0)
        apart = np.where(n_p > 0, mean_q - mean_p, 0.0)
        mean = np.where(n_p > 0, mean_p, mean_q) + np.where(n_q > 0, apart * weight, 0.0)
        return n, mean, squares_p + squares_q + apart * apart * n_p * weight

    def finish(self, part: Part) -> Scores:
        """Return the deviations, with n - 1; one cell has none."""
        n, _, squares = part.values
        several = n > 1
        return Scores(np.sqrt(squares / np.where(several, n - 1, 1.0)), np.where(several, n, 0.0))


class QuadraticForm(Pieces):
    """The sum of the contributions of pixels to the squared distance, and the number of pixels."""

    def __init__(
        self,
        whole: Whole,
        formula: Callable[..., Local],
        kernel: Loader | None,
        reach: Reach,
        normalize: str | None,
        options: dict[str, Any],
    ) -> None:
        super().__init__(whole, kernel)
        self._formula, self._options = formula, options
        self.reach, self._normalize = reach, normalize

    def part(self, block: Block) -> Part:
        """Return the sum over the pixels that the block owns."""
        images, valid = subtracted(block.images), block.valid
        local, finite = self._computed(images, valid, self._formula, self._options)
        with np.errstate(all="ignore"):  # infinities of both signs, which are computed again
            total, n = sums_over(*own_positions(local, block), len(block.own))
        unit: Any = np.ones_like(total)
        beyond = ~((abs(total) > LEAST_SUM) & (abs(total) < LARGEST_SUM))
        if beyond.any() and (images.x.dtype.kind == "f" or images.y.dtype.kind == "f"):
            with np.errstate(all="ignore"):
                difference, unit = scaled_difference(prepared(images, valid, finite))
            images = images._replace(x=difference, y=np.zeros_like(difference), dtype=np.float64)
            local, _ = self._computed(images, valid, self._formula, self._options)
            total, n = sums_over(*own_positions(local, block), len(block.own))
        total, n, unit = repeated((*block.batch, 1), total, n, unit)
        values = Accurate.of(total, unit, 2), Accurate.of(n)
        return Part(values, block.finite(block.images, valid, finite))

    def finish(self, part: Part) -> Scores:
        """Return the distances."""
        form, n = part.values[0], part.values[1].value
        # G is positive definite, yet for a large sigma its smallest eigenvalues are below rounding.
        squared = np.maximum(form.value, 0.0)
        if self._normalize == "rms":
            with np.errstate(all="ignore"):
                squared = squared / (n * self.whole.channels)
        return Scores(root(squared) * form.unit, n)


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


GROUP_OF_CELLS = 1 << 20
"""Pixels of a group of rows of cells: their means take tens of times as many bytes."""


class Cells(NamedTuple):
    """The cells of some blocks."""

    place: tuple[int, int]
    """Row and column of the first one."""
    x: Array
    """(*batch, channels, rows, columns), float64."""
    y: Array
    valid: Array | None
    """Cells inside the mask, (*batch, 1, rows, columns)."""


class Coarse(Pieces):
    """The cells of a block, and the score of the images that all cells make up."""

    def __init__(
        self,
        whole: Whole,
        formula: Callable[..., Any],
        kernel: Loader | None,
        border: Literal["zero", "symmetric"],
        options: dict[str, Any],
    ) -> None:
        super().__init__(whole, kernel)
        self._formula, self._border, self._options = formula, border, options
        self.step = automatic_factor(*whole.sides)
        self.is_global = border == "zero"
        """Whether a pixel that is not finite leaves no value anywhere: a transform spreads NaN."""
        self.coarse_options = {key: False for key in options if key == "downsample"}
        self.reach = (((self.step - 1) // 2, self.step // 2),) * 2

    def part(self, block: Block) -> Part:
        """Return the cells whose pixel the block owns."""
        finite = block.finite(*block.owned())
        places = [(-(-own.start // self.step), -(-own.stop // self.step)) for own in block.own]
        (top, bottom), (left, right) = places
        if top >= bottom or left >= right:
            return Part((), finite)
        found = [self._rows(block, *rows, left, right) for rows in self._groups(block, top, bottom)]
        x, y, valid = zip(*found, strict=True)
        joined = [None if v[0] is None else np.concatenate(v, axis=-2) for v in (x, y, valid)]
        return Part((Cells((top, left), *joined),), finite)

    def _groups(self, block: Block, top: int, bottom: int) -> Iterator[tuple[int, int]]:
        """Yield first and last rows of cells that are computed at once."""
        images = block.images
        row = images.frame[1] * self.step * math.prod(block.batch) * self.whole.channels
        rows = max(1, GROUP_OF_CELLS // row)
        for first in range(top, bottom, rows):
            yield first, min(first + rows, bottom)

    def _rows(
        self, block: Block, top: int, bottom: int, left: int, right: int
    ) -> tuple[Array, Array, Array | None]:
        """Cells of some rows."""
        step, (before, after) = self.step, self.reach[0]
        first = max(top * step - before, 0) // step * step
        above, beside = (one.start for one in block.region)
        rows = slice(first - above, (bottom - 1) * step + after + 1 - above)
        x, y = (v[..., rows, :] for v in (block.images.x, block.images.y))
        valid = None if block.valid is None else block.valid[..., rows, :]
        own = (
            slice(top - first // step, bottom - first // step),
            slice(left - beside // step, right - beside // step),
        )
        found: list[Any] = [None, None]

        def mean(side: int) -> None:
            found[side] = self._means((x, y)[side], valid)

        parallel(mean, 2, math.prod(x.shape))
        (cells_x, scored), (cells_y, _) = found
        cut: Any = (..., *own)
        return cells_x[cut], cells_y[cut], None if scored is None else scored[cut]

    def _means(self, image: Array, valid: Array | None) -> tuple[Array, Array | None]:
        """Means of blocks of pixels, and which of them are valid."""
        if self.step == 1 or self._border == "symmetric" or not self.whole.by_kernel:
            image = where_valid(valid, image.astype(np.float64))
            return block_mean(image, valid, self.step, border=self._border)
        from imsim.kernels.common.coarse import block_means  # slow to import, as Numba is
        from imsim.kernels.common.planes import unwritable

        image = _clean(image, valid)
        batch = image.shape[:-2]
        if valid is not None:
            batch = broadcast(image.shape[:-3], valid.shape[:-3]) + image.shape[-3:-2]
        planes = np.broadcast_to(image, (*batch, *image.shape[-2:]))
        masks = None if valid is None else np.broadcast_to(valid, planes.shape)
        cells = np.empty((*batch, *(-(-n // self.step) for n in image.shape[-2:])))
        scored = None if valid is None else np.empty(cells.shape, np.bool_)
        for index in np.ndindex(batch):
            mask = None if masks is None else unwritable(masks[index])
            cells[index], inside = block_means(unwritable(planes[index]), mask, self.step)
            if scored is not None:
                scored[index] = inside
        return cells, None if scored is None else scored[..., :1, :, :]

    def _merge(self, p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
        return p + q

    def coarse(self, part: Part) -> tuple[Images, Array | None, int]:
        """Return images of the cells, and their mask."""
        sides = tuple(-(-side // self.step) for side in self.whole.sides)
        blocks: tuple[Cells, ...] = part.values
        x, y = (_laid_out(blocks, [b[k] for b in blocks], sides) for k in (1, 2))
        has_mask = blocks[0].valid is not None
        valid = _laid_out(blocks, [b.valid for b in blocks], sides) if has_mask else None
        # The cells are float64; the kernels of FSIM transform those of float32 in float32.
        dtype = self.whole.dtype
        if self._border == "symmetric" or not self.whole.by_kernel:
            dtype = np.float64
        images = Images(np, x, y, dtype, self.whole.data_range, self.whole.has_channels)
        return images, valid, self.step

    def finish(self, part: Part) -> Scores:
        """Return the scores of the images of cells."""
        images, valid, _ = self.coarse(part)
        found, _ = self._computed(images, valid, self._formula, self._options)
        return found._replace(witness=None, left=None)  # type: ignore[no-any-return]


def _clean(image: Array, valid: Array | None) -> Array:
    """Replace what is not finite by zeros: these images have no score."""
    if image.dtype.kind != "f":
        return image
    finite = is_finite(image, np)
    inside = finite if valid is None else finite | ~valid
    return image if inside.all() else np.where(finite, image, 0)


def _laid_out(blocks: tuple[Cells, ...], values: list[Any], sides: tuple[int, ...]) -> Array:
    """Lay the cells of blocks side by side."""
    found = np.zeros((*values[0].shape[:-2], *sides), values[0].dtype)
    for block, cells in zip(blocks, values, strict=True):
        row, column = block.place
        found[..., row : row + cells.shape[-2], column : column + cells.shape[-1]] = cells
    return found
