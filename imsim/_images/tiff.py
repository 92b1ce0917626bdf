"""TIFF, by tifffile; each page is an image."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from imsim._images.pictures import Contents, ImageFileError, Pages, orientation_note

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_ALPHA = (1, 2)  # values of the ExtraSamples tag: associated and unassociated alpha
# Messages on the chain of pages, not on one of them, that tell of a loss.
_BREAK = re.compile(r"<tifffile\.TiffPages[^>]*> ((?:invalid|corrupted) .*)", re.DOTALL)
_ORIENTATION = 274  # the tag's number
_messages: ContextVar[list[str] | None] = ContextVar("imsim_tiff_messages", default=None)


def open_tiff(path: str) -> Pages:
    """Open a file of one page or more; a page is read when it is asked for."""
    from tifffile import TiffFile

    with _logged() as opening:
        tiff = TiffFile(path)
        try:
            count = len(tiff.pages)
        except BaseException:
            tiff.close()
            raise
    breaks = [match for match in map(_BREAK.match, opening) if match]
    lost = {match[0] for match in breaks}
    broken = breaks[0][1] if breaks else "" if count else "there is no page"

    def read(index: int) -> Contents:
        if index == count:
            raise ImageFileError(f"damaged: the file is cut off or broken here ({broken})")
        with _logged() as messages:
            page = _plain_page(tiff, index, whole=not broken)
            pixels = _decoded(page, path)
            if page.axes == "SYX":
                pixels = np.moveaxis(pixels, 0, -1)
            pixels, notes = _without_alpha(pixels, page)
            pixels, more = _black_is_0(pixels, page)
            notes += more + orientation_note(_orientation(page))
        said = dict.fromkeys(m for m in (*opening, *messages) if m not in lost)
        return pixels, notes + tuple(f"the TIFF reader warns: {message}" for message in said)

    # Of the pages that are lost, none tells the number; one more stands for them.
    return Pages(count + bool(broken), read, tiff.close)


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread, which would otherwise appear on the terminal."""
    logging.getLogger("tifffile").addFilter(_collect)  # no more than once
    messages: list[str] = []
    token = _messages.set(messages)
    try:
        yield messages
    finally:
        _messages.reset(token)


def _collect(record: logging.LogRecord) -> bool:
    messages = _messages.get()
    if messages is None:
        return True
    messages.append(record.getMessage())
    return False


def _plain_page(tiff: TiffFile, index: int, *, whole: bool) -> TiffPage:
    """Return a page that holds one plain image, and refuse any other."""
    from tifffile import PHOTOMETRIC, TiffPage

    page = tiff.pages[index]
    if not isinstance(page, TiffPage) or (
        whole and len(tiff.pages) == 1 and tiff.series[0].size != page.size
    ):
        raise ImageFileError("holds several images in one page; save them as pages, or as .npy")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise ImageFileError(f"its axes are {page.axes}, not those of one image (YX, YXS or SYX)")
    bilevel = page.bitspersample == 1 and page.photometric == PHOTOMETRIC.MINISWHITE
    if page.photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB) and not bilevel:
        raise ImageFileError(
            f"its pixels are stored as {PHOTOMETRIC(page.photometric).name}; "
            "save it as grey (0 is black) or RGB"
        )
    if 1 < page.bitspersample < 8:
        raise ImageFileError(f"its pixels have {page.bitspersample} bits; scale them to 8 bits")
    if page.dtype is not None and page.dtype.kind == "c":
        raise ImageFileError(
            f"its pixels are complex numbers ({page.dtype}); save their magnitude or real part"
        )
    return page


def _decoded(page: TiffPage, path: str) -> np.ndarray[Any, Any]:
    from PIL import Image
    from tifffile import COMPRESSION

    try:
        return page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        if _pillow_is_faithful(page):
            with Image.open(path, formats=("TIFF",)) as image:
                image.seek(page.index)
                return np.asarray(image)
        compression = COMPRESSION(page.compression).name
        raise ImageFileError(
            f"its compression ({compression}) needs the package imagecodecs; install that "
            "(pip install imagecodecs), or save the file with deflate or without compression"
        ) from error


def _pillow_is_faithful(page: TiffPage) -> bool:
    """Tell whether Pillow, too, gives the pixels of a page as they are stored."""
    from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG

    samples = 3 if page.photometric == PHOTOMETRIC.RGB else 1
    return (
        page.compression in (COMPRESSION.LZW, COMPRESSION.PACKBITS)
        and page.dtype == np.uint8
        and page.bitspersample == 8
        and page.samplesperpixel == samples
        and page.planarconfig == PLANARCONFIG.CONTIG
        and _orientation(page) == 1  # Pillow would turn the image
    )


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    return 1 if tag is None else int(tag.value)


def _black_is_0(pixels: np.ndarray[Any, Any], page: TiffPage) -> Contents:
    """Invert pixels stored with 0 as white, as tifffile does not."""
    from tifffile import PHOTOMETRIC

    if page.photometric != PHOTOMETRIC.MINISWHITE:
        return pixels, ()
    # tifffile labels every boolean array so, but writes True as 1 all the same.
    if page.is_shaped or page.software.startswith("tifffile"):
        return pixels, ("a boolean array written by tifffile; 1 is taken as True (white)",)
    return ~pixels, ("stored with 0 as white; inverted, so that white is True",)


def _without_alpha(pixels: np.ndarray[Any, Any], page: TiffPage) -> Contents:
    if pixels.ndim == 2:
        return pixels, ()
    colours = pixels.shape[-1] - len(page.extrasamples)
    bands = [*range(colours)]
    bands += [colours + i for i, kind in enumerate(page.extrasamples) if kind not in _ALPHA]
    notes = () if len(bands) == pixels.shape[-1] else ("its alpha channel is ignored",)
    pixels = pixels[..., bands]
    return (pixels[..., 0] if len(bands) == 1 else pixels), notes
