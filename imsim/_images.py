"""Reading image files for the command line.

What is left aside or converted on the way from the file to the pixels is said in a note.
Colour profiles and gamma are not applied.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imsim.errors import ImsimError

if TYPE_CHECKING:
    from PIL import Image
    from tifffile import TiffFile, TiffPage

_TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_GREY = 0
_TIFF_ALPHA = (1, 2)  # values of the ExtraSamples tag: associated and unassociated alpha
_ORIENTATION = 274  # the tag's number, the same in TIFF and EXIF
_KINDS = {"b": "1-bit", "u": "{}-bit", "i": "signed {}-bit", "f": "{}-bit float"}


Contents = tuple[np.ndarray[Any, Any], tuple[str, ...]]
"""Pixels and notes."""


class ImageFileError(ImsimError):
    """An image file that cannot be read, or holds something that imsim does not score."""


class Picture(NamedTuple):
    """The pixels of one image file."""

    path: str
    """The file as the caller named it."""
    pixels: np.ndarray[Any, Any]
    """Shape (height, width) or (height, width, channels), in the file's own type."""
    notes: tuple[str, ...]
    """What was left aside or converted while reading."""

    @property
    def channel_axis(self) -> int | None:
        """The `channel_axis` to pass to a metric."""
        return None if self.pixels.ndim == 2 else -1

    def __str__(self) -> str:
        """Describe the picture: ``512 x 512 pixels, 8-bit, 3 channels``."""
        height, width, *channels = self.pixels.shape
        kind = _KINDS.get(self.pixels.dtype.kind, str(self.pixels.dtype))
        kind = kind.format(8 * self.pixels.dtype.itemsize)
        return f"{width} x {height} pixels, {kind}, " + (
            f"{channels[0]} channels" if channels else "grey"
        )


def read_picture(path: str) -> Picture:
    """Read a PNG, JPEG or TIFF file.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    Picture
        Its pixels and what was left aside or converted.

    Raises
    ------
    ImageFileError
        If the file is missing, damaged, of another format, or holds what cannot be scored as
        it is: several images, 16-bit colour in a PNG, CMYK, complex numbers, an unusual TIFF
        layout.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        reason = getattr(error, "strerror", None) or error
        raise ImageFileError(f"{path}: cannot be read: {reason}") from error
    read = _read_tiff if content.startswith(_TIFF_SIGNATURES) else _read_png_or_jpeg
    try:
        pixels, notes = read(content)
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error
    except Exception as error:
        # The decoders raise exceptions of a dozen kinds when a file is damaged.
        raise ImageFileError(f"{path}: damaged or not an image: {error}") from error
    return Picture(path, pixels, notes)


def as_mask(picture: Picture) -> np.ndarray[Any, Any]:
    """Take a picture as a mask: grey, with 0 and one other value, which means "use".

    Parameters
    ----------
    picture : Picture
        What `read_picture` returned.

    Returns
    -------
    numpy.ndarray of bool
        True where the pixel is not 0.

    Raises
    ------
    ImageFileError
        If the picture has channels, or holds more than 0 and one of 1, 255, 65535.
    """
    path, pixels, _ = picture
    if pixels.ndim != 2:
        raise ImageFileError(
            f"{path}: a mask must be grey; this one has {pixels.shape[-1]} channels"
        )
    values = np.unique(pixels)
    used = values[values != 0]
    if used.size > 1 or (used.size == 1 and used[0] not in (1, 255, 65535)):
        raise ImageFileError(
            f"{path}: a mask must hold 0 (leave out) and 255, 65535 or 1 (use) and no other value; "
            f"this one has values from {values[0]} to {values[-1]}. Threshold it first"
        )
    mask: np.ndarray[Any, Any] = pixels != 0
    return mask


def _read_png_or_jpeg(content: bytes) -> Contents:
    from PIL import Image, UnidentifiedImageError

    notes: tuple[str, ...] = ()
    if content.startswith(_PNG_SIGNATURE) and len(content) > 25:
        depth, colour = content[24], content[25]
        if depth == 16 and colour != _PNG_GREY:
            raise ImageFileError(
                "a 16-bit PNG with colour or alpha, which the PNG reader would cut down to "
                "8 bits; save it as TIFF"
            )
        if depth in (2, 4) and colour == _PNG_GREY:
            notes = (f"its {depth}-bit grey levels are scaled to 8 bits",)
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except UnidentifiedImageError as error:
        raise ImageFileError("not a PNG, JPEG or TIFF file") from error
    with image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise ImageFileError(f"holds {frames} images; save the one to be scored by itself")
        pixels, more = _pillow_pixels(image)
        notes += more + _orientation_note(image.getexif().get(_ORIENTATION, 1))
        return pixels, notes


def _pillow_pixels(image: Image.Image) -> Contents:
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


def _orientation_note(orientation: int) -> tuple[str, ...]:
    if orientation == 1:
        return ()
    return (
        f"its orientation tag ({orientation}: to be turned or mirrored) is ignored; "
        "the pixels are taken as they are stored",
    )


def _read_tiff(content: bytes) -> Contents:
    from tifffile import TiffFile

    with _log_of("tifffile") as messages, TiffFile(io.BytesIO(content)) as tiff:
        page = _only_page(tiff)
        pixels = _decoded(page, content)
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        pixels, notes = _without_alpha(pixels, page)
        pixels, more = _black_is_0(pixels, page)
        notes += more + _orientation_note(_orientation(page))
    return pixels, notes + tuple(f"the TIFF reader warns: {m}" for m in dict.fromkeys(messages))


@contextmanager
def _log_of(package: str) -> Iterator[list[str]]:
    """Collect what a package logs, which would otherwise appear on the terminal."""
    messages: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger(package)
    logger.addFilter(collect)
    try:
        yield messages
    finally:
        logger.removeFilter(collect)


def _only_page(tiff: TiffFile) -> TiffPage:
    """Return the page of a file that holds one plain image, and refuse any other."""
    from tifffile import PHOTOMETRIC, TiffPage

    page = tiff.pages[0]
    if len(tiff.pages) != 1 or tiff.series[0].size != page.size or not isinstance(page, TiffPage):
        raise ImageFileError("holds several images (pages); save the one to be scored by itself")
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


def _decoded(page: TiffPage, content: bytes) -> np.ndarray[Any, Any]:
    from PIL import Image
    from tifffile import COMPRESSION

    try:
        return page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        if _pillow_is_faithful(page):
            with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
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
    bands += [colours + i for i, kind in enumerate(page.extrasamples) if kind not in _TIFF_ALPHA]
    notes = () if len(bands) == pixels.shape[-1] else ("its alpha channel is ignored",)
    pixels = pixels[..., bands]
    return (pixels[..., 0] if len(bands) == 1 else pixels), notes
