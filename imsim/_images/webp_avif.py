"""WebP and AVIF, of one image or animated; Pillow decodes them, and composes their frames."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from imsim._images.codestreams import check_avif, check_webp
from imsim._images.metadata import profile_of
from imsim._images.pictures import Contents, ImageFileError, Pages
from imsim._images.reading import Reading, Source
from imsim._images.shown import composite, of_exif, oriented

_CONFIGURATION = re.compile(rb"av1C\x81.(.)", re.DOTALL)
"""The box that tells the depth of AVIF, in bits of the byte that is found."""
_DEEP, _DEEPER = 0x40, 0x20


def open_webp(source: Source, reading: Reading) -> Pages:
    """Open a file, whose frames are images."""
    content = source.read()
    length = 8 + int.from_bytes(content[4:8], "little")
    if len(content) < length:
        raise ImageFileError(f"damaged: it is cut off: {len(content)} of {length} bytes are there")
    reading.check_size(_canvas(content), 1, 4)
    rest = len(content) - length
    notes = [f"{rest} bytes after its end are left aside"] if rest else []
    from PIL import features
    from PIL.Image import DecompressionBombError
    from PIL.WebPImagePlugin import WebPImageFile

    if not features.check("webp"):
        raise ImageFileError("WebP is not read by this Pillow, which was built without it", _REMEDY)
    check_webp(content, lambda changed: WebPImageFile(io.BytesIO(changed)).load())
    try:
        return _pages(WebPImageFile(io.BytesIO(content)), notes, reading)
    except DecompressionBombError as error:
        raise ImageFileError("has more pixels than Pillow reads of WebP", _REMEDY) from error


def open_avif(source: Source, reading: Reading) -> Pages:
    """Open a file, whose frames are images."""
    from PIL import features

    if "avif" not in features.get_supported():
        raise ImageFileError("AVIF is not read by this Pillow", _REMEDY)
    from PIL.AvifImagePlugin import AvifImageFile

    reading.check_exact("AVIF")
    content = source.read()
    check_avif(content)
    bits = max((ord(flags) for flags in _CONFIGURATION.findall(content)), default=0)
    notes = []
    if bits & _DEEP:
        notes.append(f"its samples of {12 if bits & _DEEPER else 10} bits are decoded to 8")
    return _pages(AvifImageFile(io.BytesIO(content)), notes, reading)


_REMEDY = "pip install --upgrade 'pillow>=11.3', or save it as PNG"


def _canvas(content: bytes) -> tuple[int, int]:
    """Return height and width of a WebP file, before Pillow takes memory for them."""
    kind, head = content[12:16], content[20:30]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(head[i : i + 3], "little") for i in (4, 7))
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(head[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        raise ImageFileError("damaged: it begins with no chunk of an image")
    return height, width


def _pages(image: Any, notes: Sequence[str], reading: Reading) -> Pages:
    """Return the frames of a file that Pillow has opened, and decodes as they are asked for."""
    width, height = image.size
    reading.check_size((height, width), 1, len(image.getbands()))
    orientation, doubts = of_exif(image.info.get("exif"), "EXIF")

    profile = profile_of(image.info.get("icc_profile"))

    def read(index: int) -> Contents:
        image.seek(index)
        image.load()
        pixels = np.array(image)
        if image.mode in ("LA", "RGBA"):
            colours = pixels[..., 0] if image.mode == "LA" else pixels[..., :3]
            found = composite(colours, pixels[..., -1], reading)
        else:
            found = Contents(pixels)
        found = found._replace(notes=(*notes, *found.notes, *doubts), profile=profile)
        return oriented(found, orientation, reading)

    return Pages(image.n_frames, read, image.close)
