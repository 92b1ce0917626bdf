"""Maps of images in blocks, written one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imsim import errors
from imsim.inputs import kind
from imsim.portable.arrays import asks_for_gradient, has_values, is_of_jax, is_tensor
from imsim.scenes.local import Coarse
from imsim.scenes.pieces import Part, Pieces
from imsim.scenes.scoring import Job, Scene, parts_of_groups, plan, regions
from imsim.scenes.sources import Place, lengths_of, within
from imsim.typing import Array


class Mapped(NamedTuple):
    """How images in blocks are mapped; it travels by pickle."""

    pieces: Pieces
    function: Callable[..., Array]
    """Returns the map of images in memory."""
    least: tuple[int, ...]
    """Pixels that each side of a block needs."""
    dtype: Any

    def block(self, scene: Scene, arrays: list[Array], region: Place, own: Place) -> Array:
        """Return the map of the pixels that a block owns, from all those that it reads."""
        wanted = self.pieces.read(own)
        cut = scene.cut(arrays, region, wanted)
        if any(n < needed for n, needed in zip(lengths_of(wanted), self.least, strict=True)):
            batch = [scene.batch_of(array, k) for k, array in enumerate(cut)]
            return np.full((*np.broadcast_shapes(*batch), *lengths_of(own)), np.nan, self.dtype)
        mask = cut[2] if len(cut) > 2 else None
        with errors.silent(
            errors.EmptyMaskWarning, errors.ChannelAxisWarning
        ):  # a block may be narrow
            found = self.function(*cut[:2], mask, scene.data_range, None, least_side=1)
        index: Any = (..., *within(own, wanted))
        return np.asarray(found)[index]

    def cells(self, part: Part) -> tuple[Array, int]:
        """Return the map of the cells, and their size."""
        pieces: Any = self.pieces  # those of cells
        images, valid, step = pieces.coarse(part)
        x, y = (v if images.has_channels else v[..., 0, :, :] for v in (images.x, images.y))
        mask = None if valid is None else valid[..., 0, :, :]
        options = {"channel_axis": -3 if images.has_channels else None, **pieces.coarse_options}
        with errors.silent(errors.EmptyMaskWarning, errors.ChannelAxisWarning):
            cells = self.function(x, y, mask, images.data_range, None, **options)
        cells = np.where(part.finite[..., None, None] | (not pieces.is_global), cells, np.nan)
        return cells.astype(self.dtype, copy=False), step


def write(job: Job, scene: Scene, mapped: Mapped, memory: int, target: Any) -> Array:
    """Write the map of images; return of which of the batch some position is scored."""
    any_scored = np.zeros(job.batch, np.bool_)
    if isinstance(job.pieces, Coarse):
        layout = plan([job], scene, memory)
        for group, (part,) in parts_of_groups([job.pieces], scene, job.batch, layout):
            cells = mapped.cells(part)
            any_scored[group] |= has_cells(cells[0], part)
            for own, _ in layout.blocks():
                _write_into(target, (*group, *own), spread(own, cells))
        return any_scored | (scene.mask is None)
    layout = plan([job], scene, memory, further=2 * np.dtype(mapped.dtype).itemsize)
    for group, whole, region, arrays in regions(scene, job.batch, layout):
        found = np.empty((*lengths_of(group), *lengths_of(whole)), mapped.dtype)
        for own in layout.parts(whole, group):
            place: Any = (..., *within(own, whole))
            found[place] = mapped.block(scene, arrays, region, own)
        _write_into(target, (*group, *whole), found)  # stores write whole chunks at once
        scored = ~np.isnan(found).all(axis=tuple(range(-scene.ndim, 0)))
        if not scored.all():  # for want of positions, and not for a pixel that is NaN
            block = scene.block(arrays, region, whole, job.pieces)
            scored = scored | ~block.finite(block.images, block.valid)
        any_scored[group] |= scored
    return any_scored | (scene.mask is None)


def written(found: Array, out: Any) -> Any:
    """Write a map into what the user gives for it."""
    place = target(out, tuple(found.shape), found.dtype, None)
    if asks_for_gradient(found) or not has_values(found):
        raise errors.OptionError(
            "out= with tensors that ask for a gradient, are traced or on an accelerator",
            "leave it out: the map is a tensor",
        )
    _write_into(place, ..., found if isinstance(place, np.ndarray) else np.asarray(found))
    return place


def _write_into(out: Any, index: Any, values: Array) -> None:
    """Write a part of a map."""
    try:
        out[index] = values
    except (MemoryError, errors.ImsimError):
        raise
    except Exception as error:  # of a store that is closed, or opened to be read only
        raise errors.ImsimError(
            f"out cannot be written: {kind(out)} raises {type(error).__name__} ({error})"
        ) from error


def target(out: Any, shape: tuple[int, ...], dtype: Any, room: int | None) -> Any:
    """Return where to write a map; refuse what does not take it."""
    if out is None:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if room is not None and size > room:
            raise errors.OptionError(
                f"a map of {'x'.join(map(str, shape))} numbers takes {size / 1e6:.1f} MB, memory= "
                f"allows {room / 1e6:.1f} MB",
                "pass out=, an array of Zarr or numpy.lib.format.open_memmap, or a larger memory=",
            )
        return np.full(shape, np.nan, dtype)
    try:
        given, own = tuple(getattr(out, "shape", ())), getattr(out, "dtype", None)
    except Exception as error:  # of a store that is closed
        raise errors.ImsimError(
            f"out has no shape: {kind(out)} raises {type(error).__name__} ({error})",
            f"expected an open array of shape {shape}",
        ) from error
    if given != shape or not hasattr(out, "__setitem__"):
        raise errors.ShapeError(
            f"out is a {kind(out)} of shape {given}", f"expected an array of shape {shape}"
        )
    if is_tensor(out) or is_of_jax(out):
        raise errors.DTypeError(
            f"out is a {kind(out)}", "pass an array of NumPy or Zarr, or leave it out"
        )
    native = own.newbyteorder("=") if isinstance(own, np.dtype) else own
    if native not in (np.float32, np.float64):
        raise errors.DTypeError(f"out has dtype {own}", "expected float32 or float64")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise errors.ImsimError(
            "out is an array that is read-only", "pass one that can be written to"
        )
    if isinstance(out, np.ndarray) and not _takes_all(out):
        raise errors.ImsimError(
            "out is an array that does not keep all numbers: some share memory, or a mask is hard",
            "pass one of its own, e.g. numpy.empty(shape)",
        )
    return out


def _takes_all(out: Array) -> bool:
    """Whether each number has a place of its own, and a masked array takes what is written.

    In a slice of an array, a step along an axis passes over all that lies along the axes of smaller
    steps, such as the pixels of a row; windows that overlap step less.
    """
    if getattr(out, "hardmask", False):
        return False
    end = out.itemsize  # of what lies along the axes so far, in bytes from its beginning
    for step, n in sorted((abs(s), n) for s, n in zip(out.strides, out.shape, strict=True)):
        if n > 1 and step < end:
            return False
        end += (n - 1) * step
    return True


def has_cells(cells: Array, part: Part) -> Array:
    """Return of which of the batch some cell is scored, or is none because of a pixel."""
    return ~np.isnan(cells).all(axis=(-2, -1)) | ~part.finite


def check_scored(metric: str, any_scored: Array) -> None:
    """Warn if of some of the batch no position is scored."""
    if not any_scored.all():
        errors.warn(
            f"{metric}: of some image no position could be scored, which is NaN in the map; "
            "widen the mask, or leave such images out",
            errors.EmptyMaskWarning,
        )


def spread(own: Place, found: tuple[Array, int]) -> Array:
    """Repeat each cell over those of its pixels that a block owns, given cells and their size."""
    cells, step = found
    for axis, pixels in zip((-2, -1), own, strict=True):
        cells = np.take(cells, np.arange(pixels.start, pixels.stop) // step, axis=axis)
    return cells
