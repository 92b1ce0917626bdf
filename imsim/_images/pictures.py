"""The result of every reader: pixels with notes, or an error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from imsim._images.metadata import Georeference, Grid, Profile, Space
from imsim.errors import ImsimError

Array = np.ndarray[Any, Any]

OBJECTS = (
    "holds Python objects, which are not loaded, since that can run code; save an array of numbers"
)
"""Why some arrays are not read."""
_KINDS = {"b": "1-bit", "u": "{}-bit", "i": "signed {}-bit", "f": "{}-bit float"}


AS_STORED = (1.0, 0.0)
"""The packing of pixels that are values themselves."""


_LISTED = 9
"""Names in a list that may be of any length."""


class ImageFileError(ImsimError):
    """An image file that cannot be read, or holds something that imsim does not score.

    The text begins with the path of the `image`, if that is given; the attribute `reason` is the
    text without it.
    """

    def __init__(
        self, message: str = "", remedy: str | None = None, *, image: str | None = None
    ) -> None:
        # An empty name, as of a variable that is not set, is quoted to be seen.
        name = "''" if image == "" else image
        super().__init__(message if image is None else f"{name}: {message}", remedy)
        self.image = image
        self.reason = message if remedy is None else f"{message}; {remedy}"


@contextmanager
def needing(what: str, package: str, extra: str) -> Iterator[None]:
    """Say which package is missing, where it is imported, and what to install."""
    try:
        yield
    except ImportError as error:
        remedy = f"pip install 'imsim[{extra}]'"
        raise ImageFileError(f"{what} the package {package}", remedy) from error


class Contents(NamedTuple):
    """The pixels of one image, or of one volume."""

    pixels: Array
    """Shape (height, width) or (height, width, channels), in the file's own type. The depth of a
    volume goes before the height. A `Raster` stays on the disk, and its slices are read."""
    notes: tuple[str, ...] = ()
    """Notes on what was left aside or converted while reading."""
    valid: Array | None = None
    """Without channels; False where the file declares "no data"; None: data everywhere."""
    transparent: bool = False
    """Whether parts of the image are transparent and show the background."""
    turned: str = ""
    """A tag that asks to turn or mirror the image is "obeyed" or "ignored"; "": there is none."""
    ndim: int = 2
    """Axes of an image, 2, or of a volume, 3."""
    space: Space | None = None
    """What a medical format tells of the place of voxels; its values are those of a quantity."""
    place: Georeference | None = None
    """Where the pixels lie on the ground, if the file tells it."""
    profile: Profile | None = None
    """The colour profile that the file embeds, which is not applied."""
    from_bottom: bool = False
    """Whether the format calls the first row the bottom one, as FITS does."""
    unit: str = ""
    """The unit of the values, if the file names one."""
    packing: tuple[float, ...] = AS_STORED
    """The factor and the summand that turn pixels into values, where they are not applied; two
    numbers for each channel, if these differ."""
    grid: Grid | None = None
    """What the file tells of the size of its pixels and where they lie."""
    path: str = ""
    """The file as the caller named it, with the index of the image if there are several."""


class Pages(NamedTuple):
    """The images of an open file."""

    number: int
    read: Callable[[int], Contents]
    close: Callable[[], None] = lambda: None
    further: int = 0
    """Number of pictures after these, which are read only by their index."""
    counting: tuple[int, ...] = ()
    """Lengths of the axes that count images, if there are several."""


class Picture(Contents):
    """The contents of an image that has a path."""

    @property
    def sides(self) -> tuple[int, ...]:
        """The shape without channels."""
        return tuple(self.pixels.shape[: self.ndim])

    @property
    def samples(self) -> Array:
        """The pixels with channels as the last axis, of which there may be one."""
        return self.pixels[..., None] if self.channel_axis is None else self.pixels

    @property
    def channel_axis(self) -> int | None:
        """The `channel_axis` to pass to a metric."""
        return None if self.pixels.ndim == self.ndim else -1

    @property
    def kind(self) -> str:
        """Describe the pixels: ``8-bit, 3 channels``."""
        kind = _KINDS.get(self.pixels.dtype.kind, str(self.pixels.dtype))
        kind = kind.format(8 * self.pixels.dtype.itemsize)
        grey = self.channel_axis is None
        return f"{kind}, {'grey' if grey else f'{self.pixels.shape[-1]} channels'}"

    def __str__(self) -> str:
        """Describe the picture: ``512 x 512 pixels, 8-bit, 3 channels``."""
        spaced = f", spacing {self.space}" if self.space and self.space.spacing else ""
        return f"{sized(self.sides)}, {self.kind}{spaced}"


def listed(names: Iterable[str]) -> str:
    """Write names one behind the other; of many, the first."""
    found = list(names)
    return ", ".join(found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")


def packed(packing: tuple[float, ...]) -> str:
    """Say how stored numbers become values: ``0.5 x stored + 3``, for each channel."""
    pairs = zip(packing[::2], packing[1::2], strict=True)
    return ", ".join(f"{factor:g} x stored + {summand:g}" for factor, summand in pairs)


def sized(sides: tuple[int, ...]) -> str:
    """Say the sides of an image or a volume, width first: ``512 x 512 x 96 voxels``."""
    return f"{' x '.join(map(str, reversed(sides)))} {'pixels' if len(sides) == 2 else 'voxels'}"


def as_mask(picture: Picture) -> Array:
    """Take a picture as a mask: black, which means "leave out", and one other value or colour."""
    if picture.transparent:
        raise ImageFileError(
            f"{picture.path}: is transparent in parts, which a mask must not be: whether they are "
            "to be used is not certain. Save it without alpha"
        )
    pixels, samples = picture.pixels, picture.samples
    mask: Array = (samples != 0).any(axis=-1)
    used = samples[mask]
    if (used != used[:1]).any():  # NaN differs even from itself
        raise several_values(picture.path, pixels.min(), pixels.max())
    return mask if picture.valid is None else mask & picture.valid


def several_values(path: str, low: Any, high: Any) -> ImageFileError:
    """Return the error about a mask of more than two values."""
    return ImageFileError(
        f"{path}: a mask must hold 0 (leave out) and one other value or colour (use); "
        f"this one has values from {low} to {high}. Threshold it first"
    )


def widened(one: Picture, other: Picture) -> tuple[Picture, Picture]:
    """Bring two pictures to one type where that loses nothing, with a note.

    Pixels of 1 bit become 8-bit ones, grey becomes RGB, and floats take the wider type. Integers of
    different depth are left as they are: 255 of 255 and 255 of 65535 are not the same grey. The
    values of medical formats are those of a quantity, and take the wider type. If every conversion
    would lose something, both stay as they are.
    """
    return _like(one, other), _like(other, one)


def _like(picture: Picture, other: Picture) -> Picture:
    pixels, notes = picture.pixels, list(picture.notes)
    kind, wanted = pixels.dtype, other.pixels.dtype
    common = _common_type(picture, other)
    if common is not None:
        if kind != common:
            pixels = _converted(pixels, lambda p: p.astype(common), common)
            notes.append(f"its values are widened to {common}, to compare it with the other volume")
    elif kind.kind == "b" and wanted == np.uint8:
        pixels = _converted(pixels, lambda p: p * np.uint8(255), wanted)
        notes.append("its 1-bit pixels are widened to 8 bits, to compare it with the other image")
    elif kind.kind == wanted.kind == "f" and kind.itemsize < wanted.itemsize:
        pixels = _converted(pixels, lambda p: p.astype(wanted), wanted)
        notes.append(f"its floats are widened to {wanted}, to compare it with the other image")
    if picture.channel_axis is None and other.pixels.shape == (*pixels.shape, 3):
        rgb = (*pixels.shape, 3)
        pixels = _converted(pixels, lambda p: np.repeat(p[..., None], 3, axis=-1), None, rgb)
        notes.append("its grey is widened to RGB, to compare it with the other image")
    if pixels is picture.pixels:
        return picture
    return picture._replace(pixels=pixels, notes=tuple(notes))


def _converted(
    pixels: Any,
    function: Callable[[Array], Array],
    dtype: np.dtype[Any] | None,
    shape: tuple[int, ...] | None = None,
) -> Any:
    """Apply a function to pixels, of an image on the disk to each part that will be read."""
    if isinstance(pixels, np.ndarray):
        return function(pixels)
    return pixels.mapped(
        lambda part: part._replace(pixels=function(part.pixels)),
        pixels.shape if shape is None else shape,
        pixels.dtype if dtype is None else dtype,
    )


def _common_type(picture: Picture, other: Picture) -> np.dtype[Any] | None:
    """Return a type for two quantities; None if one is no quantity, or none holds both."""
    one, two = picture.pixels.dtype, other.pixels.dtype
    known = [picture.space is not None, other.space is not None]
    # An array of floats is one too, as a network returns it; grey levels of 8 bits are not.
    if not (all(known) or (any(known) and "f" in (one.kind, two.kind))):
        return None
    common = np.result_type(one, two)
    large = any(kind.kind in "iu" and kind.itemsize == 8 for kind in (one, two))
    return None if large and common.kind == "f" else common


def where_equal(pixels: Array, value: float | int) -> Array:
    """Tell where samples have a value, which is rounded to their type first.

    That is the type of the file: -999.9 is another number in float32 than in float64. NaN finds
    NaN. A finite value beyond the type finds nothing, not infinity.
    """
    kind = pixels.dtype
    if kind.kind != "f":
        whole = math.isfinite(value) and value == int(value)
        return np.asarray(pixels == int(value)) if whole else np.zeros(pixels.shape, bool)
    if math.isnan(value):
        return np.isnan(pixels)
    with np.errstate(over="ignore"):
        rounded = kind.type(value)
    if math.isfinite(value) and not np.isfinite(rounded):
        return np.zeros(pixels.shape, bool)
    return np.asarray(pixels == rounded)


def said_of_no_data(what: str, number: int, total: int) -> str:
    """Say how many pixels have no data, and by what."""
    return f"no data ({what}) at {number} of {total} pixels, which are masked"


def check_palette(asked: int, number: int) -> None:
    """Refuse pixels that ask for a colour which a palette of so many has not."""
    if asked >= number:
        raise ImageFileError(
            f"damaged: its pixels ask for colour {asked} of a palette of {number}, counted from 0"
        )


def native(pixels: Array) -> Array:
    """Return pixels in the byte order of this machine."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


_NOTHING = 128
"""The code of a run that does nothing: smaller ones copy bytes, larger ones repeat one."""
_FILLING = bytes((0, _NOTHING))


def check_runs(content: bytes, size: int) -> None:
    """Refuse runs and copies of bytes (PackBits, RLE of DICOM) that hold more than their pixels.

    Decoders stop when they have all pixels, of `size` bytes, as they do where a damaged length
    shifts them. What fills up the end, zeros and codes that do nothing, is harmless.
    """
    place = found = 0
    while found < size and place < len(content):
        code = content[place]
        if code < _NOTHING:
            found, place = found + code + 1, place + code + 2
        else:
            found, place = (
                found + (257 - code if code > _NOTHING else 0),
                place + 1 + (code > _NOTHING),
            )
    if found > size or content[place:].strip(_FILLING):
        raise ImageFileError(
            f"damaged: its run lengths hold more than the {size} bytes of their pixels"
        )
