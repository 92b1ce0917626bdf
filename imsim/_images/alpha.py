"""Transparency: colours are laid over a background."""

from __future__ import annotations

from typing import Any

import numpy as np

from imsim._images.pictures import Array, Contents, ImageFileError, said_of_no_data
from imsim._images.reading import Reading

TRANSPARENT = "transparent"
"""What wholly transparent pixels are, where they are no data."""
_ROWS = 256  # rows composited at a time, which bounds the memory for wide integers


def composite(
    colours: Array,
    alpha: Array,
    reading: Reading,
    *,
    premultiplied: bool = False,
    is_part: bool = False,
) -> Contents:
    """Lay colours over the background, in linear arithmetic of the stored values.

    Alpha is made of booleans, or of the type of `colours`: the largest integer, or 1.0, is opaque.
    Where it is `premultiplied`, it is multiplied into the colours already. Pixels have the type of
    `colours`, rounded to the nearest; grey over a coloured background becomes RGB. There is a note
    unless every pixel is opaque; of a part of an image, no note counts pixels. Wholly transparent
    pixels have no data if the reading says so.
    """
    full = full_value(alpha.dtype)
    if not (alpha != full).any():
        return Contents(colours)
    if not ((alpha >= 0) & (alpha <= full)).all():
        raise ImageFileError(
            f"its alpha channel has values from {alpha.min()} to {alpha.max()}; expected 0 to "
            f"{full}. Save it without alpha"
        )
    grey = len(set(reading.rgb)) == 1
    if colours.dtype == bool and not (grey and reading.rgb[0] in (0, 255)):
        colours = colours * np.uint8(255)
    if colours.ndim == 2 and not grey:
        colours = np.repeat(colours[..., None], 3, axis=-1)
    if colours.ndim == 3 and colours.shape[-1] != 3 and not grey:
        raise ImageFileError(
            f"has {colours.shape[-1]} channels and alpha, so that the background must be grey; "
            f"it is {reading.background}"
        )
    behind = _background(reading, colours)
    pixels = np.empty_like(colours)
    for start in range(0, len(colours), _ROWS):
        rows = slice(start, start + _ROWS)
        cover = alpha[rows] if colours.ndim == 2 else alpha[rows, :, None]
        if alpha.dtype == bool:
            pixels[rows] = np.where(cover, colours[rows], behind)
        elif colours.dtype.kind == "u" and colours.dtype.itemsize <= 4:
            pixels[rows] = _integers(colours[rows], cover, behind, premultiplied)
        else:
            pixels[rows] = _floats(colours[rows], cover, behind, premultiplied)
    note = f"its transparent parts are laid over {reading.background}"
    if not reading.clear_is_no_data:
        return Contents(pixels, (note,), transparent=True)
    valid = np.asarray(alpha != 0)
    clear = int(np.count_nonzero(~valid))
    notes: tuple[str, ...] = (note,)
    if clear and not is_part:
        notes += (said_of_no_data(TRANSPARENT, clear, valid.size),)
    return Contents(pixels, notes, valid if clear else None, transparent=True)


def full_value(dtype: np.dtype[Any]) -> int:
    """Return what is opaque as alpha, and white as a colour."""
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else 1


def _background(reading: Reading, colours: Array) -> Array:
    levels = [reading.rgb[0]] if colours.ndim == 2 or colours.shape[-1] != 3 else reading.rgb
    full = full_value(colours.dtype)
    if colours.dtype.kind in "iu":
        return np.array([(2 * level * full + 255) // 510 for level in levels], colours.dtype)
    return np.array([level / 255 for level in levels]).astype(colours.dtype)


def _integers(colours: Array, alpha: Array, behind: Array, premultiplied: bool) -> Array:
    """Composite exactly: full * full + full / 2 fits into integers of twice the width."""
    wide = np.dtype(f"u{2 * colours.dtype.itemsize}")
    full = wide.type(full_value(colours.dtype))
    cover, over = alpha.astype(wide), colours.astype(wide)
    half = full // wide.type(2)
    if premultiplied:
        sums = over + ((full - cover) * behind.astype(wide) + half) // full
        return np.asarray(np.minimum(sums, full))
    return np.asarray((over * cover + (full - cover) * behind.astype(wide) + half) // full)


def _floats(colours: Array, alpha: Array, behind: Array, premultiplied: bool) -> Array:
    full = float(full_value(colours.dtype))
    cover = alpha / full if full != 1 else alpha.astype(np.float64)
    over = colours.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # hidden pixels may hold anything
        mixed = (over if premultiplied else over * cover) + behind * (1 - cover)
    mixed = np.where(cover == 0, behind + (over if premultiplied else 0), mixed)
    if colours.dtype.kind in "iu":
        info = np.iinfo(colours.dtype)
        mixed = np.clip(np.rint(mixed), info.min, info.max)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(mixed.astype(colours.dtype))
