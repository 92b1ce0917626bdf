"""PNG and JPEG, by Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imsim._images.pictures import Contents, ImageFileError, Pages, orientation_note

if TYPE_CHECKING:
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _GREY_ALPHA, _RGBA = 0, 4, 6  # colour types of PNG
_ORIENTATION = 274  # the tag's number in EXIF


def open_png_or_jpeg(path: str) -> Pages:
    """Open a file of one image, which is read when it is asked for."""
    return Pages(1, lambda _: _read(Path(path).read_bytes()), lambda: None)


def _read(content: bytes) -> Contents:
    from PIL import Image, UnidentifiedImageError

    notes: tuple[str, ...] = ()
    deep = None
    if content.startswith(_PNG_SIGNATURE) and len(content) > 25:
        depth, colour = content[24], content[25]
        if depth == 16 and colour != _GREY:
            deep = colour
        if depth in (2, 4) and colour == _GREY:
            notes = (f"its {depth}-bit grey levels are scaled to 8 bits",)
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except UnidentifiedImageError as error:
        raise ImageFileError("not a PNG, JPEG, TIFF, .npy or .npz file") from error
    with image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise ImageFileError(f"holds {frames} images; save the one to be scored by itself")
        pixels, more = _pixels(image) if deep is None else _deep_pixels(content, deep)
        return pixels, notes + more + orientation_note(image.getexif().get(_ORIENTATION, 1))


def _pixels(image: Image.Image) -> Contents:
    notes = []
    if image.mode in ("P", "PA"):
        notes.append("its palette is converted to RGB")
    if image.has_transparency_data:
        notes.append("its alpha channel (transparency) is ignored")
    if image.mode in ("P", "PA", "RGBA"):
        pixels = np.asarray(image.convert("RGBA"))[..., :3]
    elif image.mode == "LA":
        pixels = np.asarray(image)[..., 0]
    elif image.mode in ("1", "L", "RGB", "I;16"):
        pixels = np.asarray(image)
    else:
        raise ImageFileError(f"its colours are {image.mode}; save it as grey or RGB")
    return pixels, tuple(notes)


def _deep_pixels(content: bytes, colour: int) -> Contents:
    """Read colours of 16 bits, of which Pillow keeps one byte: once the high, once the low one."""
    if colour == _GREY_ALPHA:
        # Four bytes a pixel: to Pillow the same as 8-bit RGBA.
        pixels = _bytes(content, "RGBA")
        high, low, transparent = pixels[..., 0], pixels[..., 1], True
    else:
        mode = "RGBA" if colour == _RGBA else "RGB"
        high, low = (_bytes(content, f"{mode};16{order}")[..., :3] for order in "BL")
        transparent = mode == "RGBA"
    notes = ("its alpha channel (transparency) is ignored",) if transparent else ()
    return high.astype(np.uint16) << 8 | low, notes


def _bytes(content: bytes, raw_mode: str) -> np.ndarray[Any, Any]:
    from PIL import Image

    image: PngImageFile
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:  # type: ignore[assignment]
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        return np.asarray(image)


def write_png(path: str | Path, pixels: np.ndarray[Any, Any]) -> None:
    """Write an image as PNG.

    Parameters
    ----------
    path : str or Path
        The file, which is replaced if it exists.
    pixels : numpy.ndarray, shape (height, width) or (height, width, 3)
        Grey of dtype bool, uint8 or uint16, or colours of dtype uint8.

    Raises
    ------
    ImageFileError
        If the file cannot be written.
    """
    from PIL import Image

    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error.strerror or error}") from error
