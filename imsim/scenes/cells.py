"""Metrics of a coarser grid, FSIM and the downsampled SSIM: cells of each block, laid side by side.

The grid has about 256 cells along the shorter side, however large the images are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from imsim.finite import is_finite
from imsim.portable.arrays import broadcast, where_valid
from imsim.portable.coarse import automatic_factor, block_mean
from imsim.portable.pair import Scores
from imsim.scenes.pieces import Block, Loader, Part, Pieces, Whole
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel

GROUP_PIXELS = 1 << 20
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
        self.is_global = border == "zero"  # a transform spreads NaN
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
        rows = max(1, GROUP_PIXELS // row)
        for first in range(top, bottom, rows):
            yield first, min(first + rows, bottom)

    def _rows(
        self, block: Block, top: int, bottom: int, left: int, right: int
    ) -> tuple[Array, Array, Array | None]:
        """Cells of some rows."""
        step, (before, after) = self.step, self.reach[0]
        first = max(top * step - before, 0) // step * step
        rows = slice(first - block.start[0], (bottom - 1) * step + after + 1 - block.start[0])
        x, y = (v[..., rows, :] for v in (block.images.x, block.images.y))
        valid = None if block.valid is None else block.valid[..., rows, :]
        own = (
            slice(top - first // step, bottom - first // step),
            slice(left - block.start[1] // step, right - block.start[1] // step),
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
