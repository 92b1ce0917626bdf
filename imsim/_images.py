"""Reading image files for the command line; nothing in a file is dropped or converted silently."""

from __future__ import annotations

import io
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
_KINDS = {"b": "1-bit", "u": "{}-bit", "i": "signed {}-bit", "f": "{}-bit float"}


class ImageFileError(ImsimError):
    """An image file that cannot be read, or holds something that imsim does not score."""


class Picture(NamedTuple):
    """The pixels of one image file."""

    path: str
    """The file as the caller named it."""
    pixels: np.ndarray[Any, Any]
    """Shape (height, width) or (height, width, channels), in the file's own type."""
    notes: tuple[str, ...]
    """What was left aside while reading."""

    @property
    def channel_axis(self) -> int | None:
        """The `channel_axis` to pass to a metric."""
        return None if self.pixels.ndim == 2 else -1

    def __str__(self) -> str:
        """Describe the picture: ``512 × 512, 8-bit, 3 channels``."""
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
        Its pixels and what was left aside.

    Raises
    ------
    ImageFileError
        If the file is missing, damaged, of another format, or holds what cannot be scored as
        it is: several images, 16-bit colour in a PNG, CMYK, an unusual TIFF layout.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror}") from error
    read = _read_tiff if content.startswith(_TIFF_SIGNATURES) else _read_png_or_jpeg
    try:
        pixels, notes = read(content)
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error
    except Exception as error:
        # The decoders raise exceptions of a dozen kinds when a file is damaged.
        raise ImageFileError(f"{path}: damaged or not an image: {error}") from error
    return Picture(path, pixels, notes)


def read_mask(path: str) -> np.ndarray[Any, Any]:
    """Read a mask: a grey image that holds 0 and one other value, which means "use".

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    numpy.ndarray of bool
        True where the pixel is not 0.

    Raises
    ------
    ImageFileError
        If the file cannot be read, has channels, or holds more than 0 and one of 1, 255, 65535.
    """
    pixels = read_picture(path).pixels
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


def _read_png_or_jpeg(content: bytes) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    from PIL import Image, UnidentifiedImageError

    if content.startswith(_PNG_SIGNATURE) and len(content) > 25:
        depth, colour = content[24], content[25]
        if depth == 16 and colour != _PNG_GREY:
            raise ImageFileError(
                "a 16-bit PNG with colour or alpha, which the PNG reader would cut down to "
                "8 bits; save it as TIFF"
            )
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except UnidentifiedImageError as error:
        raise ImageFileError("not a PNG, JPEG or TIFF file") from error
    with image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise ImageFileError(f"holds {frames} images; save the one to be scored by itself")
        return _pillow_pixels(image)


def _pillow_pixels(image: Image.Image) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    alpha = image.has_transparency_data
    if image.mode in ("P", "PA", "RGBA"):
        pixels = np.asarray(image.convert("RGBA"))[..., :3]
    elif image.mode == "LA":
        pixels = np.asarray(image)[..., 0]
    elif image.mode in ("1", "L", "RGB", "I;16"):
        pixels = np.asarray(image)
    elif image.mode == "I":
        pixels = np.asarray(image).astype(np.uint16)  # Pillow's other name for a 16-bit grey PNG
    else:
        raise ImageFileError(f"its colours are {image.mode}; save it as grey or RGB")
    return pixels, ("its alpha channel (transparency) is ignored",) if alpha else ()


def _read_tiff(content: bytes) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    from tifffile import COMPRESSION, TiffFile

    with TiffFile(io.BytesIO(content)) as tiff:
        page = _only_page(tiff)
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            compression = COMPRESSION(page.compression).name
            raise ImageFileError(
                f"its compression ({compression}) needs the package imagecodecs; install that "
                "(pip install imagecodecs), or save the file with deflate or without compression"
            ) from error
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        return _without_alpha(pixels, page)


def _only_page(tiff: TiffFile) -> TiffPage:
    """Return the page of a file that holds one plain image, and refuse any other."""
    from tifffile import PHOTOMETRIC, TiffPage

    page = tiff.pages[0]
    if len(tiff.pages) != 1 or tiff.series[0].size != page.size or not isinstance(page, TiffPage):
        raise ImageFileError("holds several images (pages); save the one to be scored by itself")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise ImageFileError(f"its axes are {page.axes}, not those of one image (YX, YXS or SYX)")
    if page.photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB):
        raise ImageFileError(
            f"its pixels are stored as {PHOTOMETRIC(page.photometric).name}; "
            "save it as grey (0 is black) or RGB"
        )
    return page


def _without_alpha(
    pixels: np.ndarray[Any, Any], page: TiffPage
) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    if pixels.ndim == 2:
        return pixels, ()
    colours = pixels.shape[-1] - len(page.extrasamples)
    bands = [*range(colours)]
    bands += [colours + i for i, kind in enumerate(page.extrasamples) if kind not in _TIFF_ALPHA]
    notes = () if len(bands) == pixels.shape[-1] else ("its alpha channel is ignored",)
    pixels = pixels[..., bands]
    return (pixels[..., 0] if len(bands) == 1 else pixels), notes
