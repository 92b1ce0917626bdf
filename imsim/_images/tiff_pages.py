"""One page of a TIFF file: its completeness, its pixels, and their meaning."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from imsim._images.metadata import NO_DATA, TAGS, Profile, of_tags, profile_of
from imsim._images.pictures import (
    AS_STORED,
    Array,
    Contents,
    ImageFileError,
    native,
    packed,
    said_of_no_data,
    where_equal,
)
from imsim._images.reading import Reading, Source
from imsim._images.shown import ORIENTATION, composite, oriented
from imsim._images.tiff_checks import LZW, NONE, PACKBITS, WITH_PREDICTOR, check_chunks, most_bytes

if TYPE_CHECKING:
    from tifffile import TiffPage

_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _MASK, _YCBCR = 0, 1, 2, 3, 4, 6
"""Values of the PhotometricInterpretation tag."""
_JPEG, _TOGETHER = 7, 1  # values of the Compression tag, and of PlanarConfiguration
_FORMATS = (1, 2, 3, 4, 5, 6)
"""Values of the SampleFormat tag: integers, floats, undefined, complex numbers."""
_UNDEFINED = 4
_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of the ExtraSamples tag
_OF_FLOATS = (3, 34894, 34895)  # values of the Predictor tag
_FIRST = 8  # bytes of the shortest header of a file
_PROFILE = 34675  # and of the colour profile
_GDAL_METADATA = 42112
_ITEM = re.compile(r"<Item\b([^>]*)>([^<]*)</Item>")
_ATTRIBUTE = re.compile(r"(\w+)=\"([^\"]*)\"")
_COLOUR_TAGS = {
    291: "GrayResponseCurve",
    301: "TransferFunction",
    318: "WhitePoint",
    319: "PrimaryChromaticities",
}


def read_page(page: TiffPage, source: Source, reading: Reading, planes: int = 1) -> Contents:
    """Read a page; `planes` of that size make up the image."""
    itemsize, samples = check_kind(page).itemsize, samples_of(page)
    reading.check_size((page.imagelength, page.imagewidth), itemsize, samples * planes)
    check_chunks(page, check_complete(page))
    pixels = native(_decoded(page, source))
    return finished(np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels, page, reading)


def samples_of(page: TiffPage) -> int:
    """Return the number of samples of a pixel."""
    return math.prod(page.shaped) // page.imagelength // page.imagewidth


def finished(pixels: Array, page: TiffPage, reading: Reading, *, is_part: bool = False) -> Contents:
    """Apply the tags of a page to its stored pixels.

    Of a part of them, no note tells how many are no data, and it is not turned by itself.
    """
    valid, notes = _valid(pixels, page, is_part=is_part)
    notes += _doubts(page)
    to_grey_levels = () if reading.as_stored else (_without_palette, _of_8_bits)
    for step in (*to_grey_levels, _black_is_0):
        pixels, more, *_ = step(pixels, page)
        notes += more
    image = _without_alpha(pixels, page, reading, is_part=is_part)
    if image.valid is not None:  # transparent
        valid = image.valid if valid is None else valid & image.valid
    image = image._replace(notes=notes + image.notes, valid=valid)
    return image if is_part else placed(image, page, reading)


def placed(image: Contents, page: TiffPage, reading: Reading) -> Contents:
    """Turn an image as the page says, and add its profile and where it lies on the ground."""
    packing = _packing(page)
    image = image._replace(profile=_profile(page), packing=packing)
    if packing != AS_STORED:
        said = f"its scale and offset (GDAL_METADATA) {packed(packing)} are not applied"
        image = image._replace(notes=(*image.notes, said))
    try:
        image = image._replace(place=of_tags({code: page.tags.valueof(code) for code in TAGS}))
    except (ValueError, TypeError) as error:
        said = f"its place on the ground is damaged and not used: {error}"
        image = image._replace(notes=(*image.notes, said))
    return oriented(image, page.tags.valueof(ORIENTATION), reading)


def _packing(page: TiffPage) -> tuple[float, ...]:
    """Return scale and offset of the values in the tag of GDAL: once, or for each band."""
    text = page.tags.valueof(_GDAL_METADATA)
    found = {"scale": {}, "offset": {}}  # type: dict[str, dict[int, float]]
    for item in _ITEM.findall(text if isinstance(text, str) else ""):
        own = dict(_ATTRIBUTE.findall(item[0]))
        if own.get("role") in found:
            try:
                found[own["role"]][int(own.get("sample", 0))] = float(item[1])
            except ValueError:
                continue
    bands = range(max([page.samplesperpixel - 1, *found["scale"], *found["offset"]]) + 1)
    pairs = [(found["scale"].get(i, 1.0), found["offset"].get(i, 0.0)) for i in bands]
    return pairs[0] if len(set(pairs)) == 1 else tuple(value for pair in pairs for value in pair)


def _profile(page: TiffPage) -> Profile | None:
    """Return the profile of a page, or what its tags say of colours in place of one."""
    content = page.tags.valueof(_PROFILE)
    if isinstance(content, bytes):
        return profile_of(content)
    found = {name: page.tags.valueof(code) for code, name in _COLOUR_TAGS.items()}
    said = {name: value for name, value in found.items() if value is not None}
    if not said:
        return None
    return Profile(" and ".join(said), frozenset({(b"", repr(said).encode())}))


def check_kind(page: TiffPage) -> np.dtype[Any]:
    """Return the type of the samples of a page; refuse a page that holds no plain image."""
    if 0 in page.shape or page.samplesperpixel < 1:
        raise ImageFileError(f"damaged: it holds no pixel; its shape is {page.shape}")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise ImageFileError(f"its axes are {page.axes}, not those of one image (YX, YXS or SYX)")
    if page.photometric == _RGB and page.samplesperpixel < 3:
        raise ImageFileError(
            f"damaged: it says to be RGB, and a pixel has {page.samplesperpixel} of its 3 samples"
        )
    plain = page.photometric in (_BLACK_IS_0, _RGB, _PALETTE)
    bilevel = page.bitspersample == 1 and page.photometric == _MASK
    # Other numbers have no largest one, from which to count.
    whole = page.dtype is not None and page.dtype.kind in "bu" and page.samplesperpixel == 1
    inverse = page.photometric == _WHITE_IS_0 and whole
    # The reader of JPEG in TIFF returns RGB.
    decoded = page.photometric == _YCBCR and page.compression == _JPEG
    if not (plain or bilevel or inverse or decoded):
        name = getattr(page.photometric, "name", page.photometric)
        raise ImageFileError(
            f"its pixels are stored as {name}; save it as grey (0 is black) or RGB"
        )
    bits = page.bitspersample
    if isinstance(bits, int) and page.dtype is None and int(page.sampleformat) not in _FORMATS:
        raise ImageFileError(
            f"its sample format is {int(page.sampleformat)}, which is none",
            "save it as integers (1, 2) or as floats (3)",
        )
    if not isinstance(bits, int) or page.dtype is None:
        raise ImageFileError(
            f"its pixels have {bits} bits (sample format {int(page.sampleformat)}), which are "
            "not read; save it with 8, 16 or 32"
        )
    if bits == 24 and page.dtype.kind != "f":
        raise ImageFileError(
            "its pixels are whole numbers of 24 bits, whose bytes writers store in either order",
            "save it with 32",
        )
    if 1 < bits < 8 and bits not in (2, 4):
        raise ImageFileError(f"its pixels have {bits} bits; scale them to 8 bits")
    if bits % 8 and page.samplesperpixel > 1 and page.planarconfig == _TOGETHER:
        # Writers do not agree on where a row of such pixels ends.
        raise ImageFileError(f"its bands are packed in {bits} bits each; save it with 8 or 16")
    if page.predictor != 1 and page.compression not in WITH_PREDICTOR:
        raise ImageFileError(
            f"has a predictor ({int(page.predictor)}) without a compression that has one, which "
            "some readers apply and others do not",
            "save it anew, without a predictor",
        )
    if page.predictor in _OF_FLOATS and page.dtype.kind != "f":
        raise ImageFileError(
            f"damaged: its predictor ({int(page.predictor)}) is one of floats, and its samples are "
            f"said to be {page.dtype}"
        )
    if page.dtype.kind == "c":
        raise ImageFileError(
            f"its pixels are complex numbers ({page.dtype}); save their magnitude or real part"
        )
    return page.dtype


def check_complete(page: TiffPage) -> Array:
    """Return the bytes of all strips or tiles; refuse missing ones, which the reader has as 0."""
    wanted = math.prod(page.chunked)
    kind = "tiles" if page.is_tiled else "strips"
    offsets, counts = (
        np.array(tag[:wanted], np.float64) for tag in (page.dataoffsets, page.databytecounts)
    )
    if min(len(offsets), len(counts)) < wanted:
        raise ImageFileError(
            f"damaged: {min(len(offsets), len(counts))} of its {wanted} {kind} are there"
        )
    missing = (offsets == 0) | (counts == 0)
    if missing.any() and no_data_of(page, of_first=False) is None:
        raise ImageFileError(f"damaged: {missing.sum()} of its {wanted} {kind} are empty")
    if (~missing & (offsets < _FIRST)).any():
        raise ImageFileError(f"damaged: {kind} begin within the header of the file")
    if (offsets + counts > page.parent.filehandle.size).any():
        raise ImageFileError(f"damaged: {kind} reach beyond the end of the file")
    if _overlap(page, offsets[~missing], counts[~missing]):
        raise ImageFileError(f"damaged: its {kind} overlap each other, or what describes them")
    if page.is_contiguous and counts.sum() < page.nbytes:
        raise ImageFileError(
            f"damaged: its {kind} hold {counts.sum():.0f} of the {page.nbytes} bytes of its pixels"
        )
    return counts


def _overlap(page: TiffPage, offsets: Array, counts: Array) -> bool:
    """Tell whether strips or tiles reach into each other or into tags.

    Those that begin alike may be stored once, and what fills one up may be counted.
    """
    if not offsets.size:
        return False
    counts = np.minimum(counts, most_bytes(page))
    order = np.lexsort((-counts, offsets))  # of those that begin alike, the longest is first
    starts, first = np.unique(offsets[order], return_index=True)
    ends = starts + counts[order][first]
    if (starts[1:] < ends[:-1]).any():
        return True
    described = [(tag.valueoffset, tag.valueoffset + tag.valuebytecount) for tag in page.tags]
    described += [(tag.offset, tag.offset + 2) for tag in page.tags]  # its number
    tags = np.array(described, np.float64)
    # Strips follow each other, so that the last one that begins before a tag ends decides.
    before = starts.searchsorted(tags[:, 1]) - 1
    return bool(((before >= 0) & (ends[before] > tags[:, 0])).any())


def _decoded(page: TiffPage, source: Source) -> Array:
    from PIL.TiffImagePlugin import TiffImageFile

    try:
        return page.asarray()
    except (ValueError, NotImplementedError, ImportError) as error:
        if not is_of_missing_codec(error):
            raise
        if _pillow_is_faithful(page):
            with source.open() as stream, TiffImageFile(stream) as image:
                image.seek(page.index)
                return np.asarray(image)
        raise missing_codec(page, error) from error


def is_of_missing_codec(error: Exception) -> bool:
    """Tell whether tifffile cannot decode without another package."""
    return "imagecodecs" in str(error) or isinstance(error, ImportError)


def missing_codec(page: TiffPage, error: Exception) -> ImageFileError:
    """Return the error that names the package."""
    return ImageFileError(
        f"{_wanting(page, error)} needs the package imagecodecs: "
        "pip install 'imsim[codecs]'; or save the file without it"
    )


def _wanting(page: TiffPage, error: Exception) -> str:
    """Name the feature that tifffile cannot decode alone."""
    from tifffile import COMPRESSION, PREDICTOR

    if "PREDICTOR" in str(error):
        return f"its predictor ({PREDICTOR(page.predictor).name})"
    if page.compression != NONE:
        return f"its compression ({COMPRESSION(page.compression).name})"
    return f"its packing of {page.bitspersample} bits a sample"


def _pillow_is_faithful(page: TiffPage) -> bool:
    """Tell whether Pillow returns the pixels of a page as they are stored."""
    samples = 3 if page.photometric == _RGB else 1
    return (
        page.compression in (LZW, PACKBITS)
        and page.photometric in (_RGB, _BLACK_IS_0)
        and page.dtype == np.uint8
        and page.bitspersample == 8
        and page.samplesperpixel == samples
        and page.planarconfig == _TOGETHER
        and page.tags.valueof(ORIENTATION, 1) == 1  # Pillow would turn the image
    )


def _no_data_text(page: TiffPage, *, of_first: bool = True) -> str:
    """Return what a page declares, or the first one of an array: its writers tag only that."""
    tags = page.tags
    if of_first and NO_DATA not in tags and _is_of_first_array(page):
        tags = page.parent.pages.first.tags
    return str(tags.valueof(NO_DATA, "")).strip("\0 ")


def _is_of_first_array(page: TiffPage) -> bool:
    """Tell whether the file says that a page and the first one are parts of one array."""
    first = page.parent.pages.first
    if not (first.is_shaped or first.is_imagej or first.is_ome) or NO_DATA not in first.tags:
        return False
    # The pages of such an array follow each other; those of sub-directories have several numbers.
    return isinstance(page.index, int) and page.index < len(page.parent.series[0].pages)


def no_data_of(page: TiffPage, *, of_first: bool = True) -> float | int | None:
    """Return the value that stands for "no data", or None if no pixel of this type has it.

    A page that declares none has that of the first one of its array, if that is asked for.
    """
    text, dtype = _no_data_text(page, of_first=of_first).replace(",", "."), page.dtype
    try:
        value = float(text)
    except ValueError:
        return None
    if dtype is None or dtype.kind == "f":
        with np.errstate(over="ignore"):
            rounded = value if dtype is None else dtype.type(value)
        return value if np.isfinite(rounded) or "inf" in text.lower() or value != value else None
    if not math.isfinite(value) or value != int(value):
        return None
    whole = int(text) if text.lstrip("+-").isdecimal() else int(value)  # 64 bits exceed a float
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return whole if low <= whole <= high else None


def _valid(pixels: Array, page: TiffPage, *, is_part: bool) -> tuple[Array | None, tuple[str, ...]]:
    """Tell by GDAL's tag where a page has data, in every band but alpha."""
    value = no_data_of(page)
    if value is None:
        if NO_DATA not in page.tags:
            return None, ()
        text = f"{_no_data_text(page)!r} (GDAL_NODATA)"
        return None, (f"no pixel of {pixels.dtype} can be {text}; no data are masked",)
    bands = np.delete(pixels, _alphas(page), axis=-1) if pixels.ndim == 3 else pixels[..., None]
    empty = np.asarray(where_equal(bands, value).any(axis=-1))
    if is_part or not empty.any():
        return ~empty if empty.any() else None, ()
    number = int(np.count_nonzero(empty))
    return ~empty, (said_of_no_data(f"GDAL_NODATA {value:g}", number, empty.size),)


def _alphas(page: TiffPage) -> list[int]:
    """Return the indices of the bands of a page that are alpha channels."""
    first = page.samplesperpixel - len(page.extrasamples)
    return [
        first + i
        for i, kind in enumerate(page.extrasamples)
        if int(kind) in (_ASSOCIATED, _UNASSOCIATED)
    ]


def _doubts(page: TiffPage) -> tuple[str, ...]:
    """Say what a page leaves open about its samples, and how they are taken."""
    notes: tuple[str, ...] = ()
    if int(page.sampleformat) == _UNDEFINED:
        notes += (f"its sample format is undefined (4); its samples are taken as {page.dtype}",)
    colours = {_BLACK_IS_0: 1, _RGB: 3}.get(page.photometric, 0)
    if page.samplesperpixel == colours + 1 and colours and not _alphas(page):
        notes += (
            f"sample {colours + 1} of its pixels is of no stated kind (ExtraSamples), and is "
            "scored as a channel; if it is alpha, save it as that",
        )
    return notes


def _without_palette(pixels: Array, page: TiffPage) -> Contents:
    if page.photometric != _PALETTE:
        return Contents(pixels)
    if pixels.ndim != 2:
        raise ImageFileError(
            f"has a palette and {page.samplesperpixel} samples a pixel, which is not read",
            "save it as RGB or RGBA",
        )
    palette = page.colormap
    if palette is None or pixels.dtype.kind != "u":
        raise ImageFileError("damaged: it has no palette for its pixels")
    if pixels.max() >= palette.shape[-1]:
        raise ImageFileError(
            f"damaged: its pixels ask for colour {pixels.max()} of a palette of {palette.shape[-1]}"
        )
    # Colours of 8 bits are stored as 257 times or 256 times their values.
    eight = not (palette % 257).any() or not (palette % 256).any()
    colours = np.ascontiguousarray(palette.T)
    colours = (colours >> 8).astype(np.uint8) if eight else native(colours)
    return Contents(colours[pixels], ("its palette is converted to RGB",))


def _of_8_bits(pixels: Array, page: TiffPage) -> Contents:
    if page.bitspersample not in (2, 4) or page.photometric == _PALETTE:
        return Contents(pixels)
    scale = np.uint8(255 // (2**page.bitspersample - 1))
    return Contents(
        pixels * scale, (f"its {page.bitspersample}-bit grey levels are scaled to 8 bits",)
    )


def _black_is_0(pixels: Array, page: TiffPage) -> Contents:
    """Invert pixels stored with 0 as white; tifffile does not."""
    if page.photometric != _WHITE_IS_0:
        return Contents(pixels)
    if page.bitspersample > 1:
        bits = 8 if page.bitspersample < 8 else page.bitspersample
        most = pixels.dtype.type(2**bits - 1)
        return Contents(
            most - pixels,
            (f"stored with 0 as white; {most} - stored is taken, so that 0 is black",),
        )
    # tifffile gives every boolean array this tag, but writes True as 1.
    if page.is_shaped or page.software.startswith("tifffile"):
        return Contents(
            pixels, ("a boolean array written by tifffile; 1 is taken as True (white)",)
        )
    return Contents(~pixels, ("stored with 0 as white; inverted, so that white is True",))


def _without_alpha(pixels: Array, page: TiffPage, reading: Reading, *, is_part: bool) -> Contents:
    alphas = _alphas(page)
    if pixels.ndim == 2 or not alphas:
        return Contents(pixels)
    bands = [band for band in range(pixels.shape[-1]) if band not in alphas]
    if len(alphas) > 1:
        raise ImageFileError(f"has {len(alphas)} alpha channels; save it with one")
    if not bands:
        raise ImageFileError("holds nothing but alpha; save it as grey")
    colours = pixels[..., bands[0]] if len(bands) == 1 else pixels[..., bands]
    associated = int(page.extrasamples[alphas[0] - pixels.shape[-1]]) == _ASSOCIATED
    alpha = pixels[..., alphas[0]]
    return composite(colours, alpha, reading, premultiplied=associated, is_part=is_part)
