"""The stored values of DICOM frames, and what the header says of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from imsim._images.codestreams import check_end_mark, check_runs
from imsim._images.pictures import Array, ImageFileError
from imsim._images.reading import Reading

Kind = np.dtype[Any]
Ends = tuple[int, int]
_INEXACT = {
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51)),  # JPEG
    "1.2.840.10008.1.2.4.81",  # JPEG-LS, nearly without loss
    *(f"1.2.840.10008.1.2.4.{number}" for number in (91, 93, 203)),  # JPEG 2000
    *(f"1.2.840.10008.1.2.4.{number}" for number in (111, 112)),  # JPEG XL
}
"""Transfer syntaxes that may change values."""
_MARKED = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91)}
"""Those of the JPEG family, whose streams have a mark of their end."""
_RLE = "1.2.840.10008.1.2.5"
_RLE_HEADER = struct.Struct("<16I")  # the number of segments, and the offset of each
DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or save it uncompressed"
"""What to do about a compression that is not read."""
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def kind_of(header: Any) -> tuple[Kind, Ends]:
    """Return the type of stored values, and the ends of whole numbers."""
    bits = int(header.BitsAllocated)
    stored = header.get("BitsStored")
    if stored is None:  # of float pixels nothing tells how they are stored
        return np.dtype(f"f{bits // 8}"), (0, 0)
    stored = int(stored)
    if bits == 1:
        return np.dtype(np.uint8), (0, 1)
    if bits not in (8, 16, 32) or not 1 <= stored <= bits:
        raise ImageFileError(f"its pixels have {stored} of {bits} bits, which are not read")
    high = header.get("HighBit")
    if high is not None and int(high) != stored - 1:
        raise ImageFileError(
            f"its pixels have {stored} of {bits} bits, of which {high} is the highest (HighBit); "
            f"only {stored - 1} is read",
            "save it anew, with the bits that are used as the low ones",
        )
    if header.PixelRepresentation:
        return np.dtype(f"i{bits // 8}"), (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1)
    return np.dtype(f"u{bits // 8}"), (0, 2**stored - 1)


def check_decoder(header: Any) -> None:
    """Refuse pixels that no installed package decodes, or that are no grey or RGB."""
    interpretation = str(header.PhotometricInterpretation)
    if interpretation not in _GREY + _COLOURS:
        raise ImageFileError(
            f"its pixels are stored as {interpretation}", "save it as MONOCHROME2 or RGB"
        )
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or not syntax.is_encapsulated:
        return
    from pydicom.pixels import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ImageFileError(
            f"its compression ({syntax.name}) is not read", "save it uncompressed"
        ) from error
    if not decoder.is_available:
        raise ImageFileError(
            f"its compression ({syntax.name}) needs a decoder that is not installed", DECODERS
        )


def check_exact(header: Any, reading: Reading) -> None:
    """Refuse labels that this compression, or an earlier one, may have changed, or inverted."""
    syntax = header.file_meta.TransferSyntaxUID
    if str(syntax) in _INEXACT:
        reading.check_exact(syntax.name)
    if str(header.get("LossyImageCompression", "00")) == "01":
        reading.check_exact("lossy (LossyImageCompression 01)")
    if str(header.PhotometricInterpretation) == "MONOCHROME1":
        reading.check_black_is_0()


def decoded(file: Any, header: Any, kind: Kind) -> Iterator[Array]:
    """Yield the stored values of each frame, of colours as RGB; bits that are not used are 0.

    A frame that lacks the mark of its end, for which its decoder does not look, or has more bytes
    than pixels, is an error.
    """
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_deflated:  # iter_pixels does not inflate
        if hasattr(file, "seek"):
            file.seek(0)
        file = dcmread(file)
    if str(syntax) in _MARKED or syntax == _RLE:
        if hasattr(file, "seek"):
            file.seek(0)
        file = dcmread(file)
        for frame in generate_frames(file.PixelData, number_of_frames=number_of_frames(header)):
            if syntax == _RLE:
                _check_rle(frame, int(header.Rows) * int(header.Columns))
            else:
                check_end_mark(frame, syntax.name)
    _check_length(file, header)
    for stored in _frames(file, number_of_frames(header)):
        yield stored.astype(kind, copy=False)


def number_of_frames(header: Any) -> int:
    """Return how many frames the header counts."""
    return int(header.get("NumberOfFrames") or 1)


def _frames(file: Any, number: int) -> Iterator[Array]:
    """Yield the frames, each decoded when it is wanted."""
    from pydicom.pixels import iter_pixels, pixel_array

    try:
        yield from iter_pixels(file)
    except ValueError as error:
        # Where a stream of JPEG 2000 is signed and the header says otherwise, or the other way
        # round, pydicom corrects frames in place, and of this iterator they are read-only.
        if "read-only" not in str(error):
            raise
        if hasattr(file, "seek"):
            file.seek(0)
        found = pixel_array(file)
        yield from found if number > 1 else [found]


def _check_length(file: Any, header: Any) -> None:
    """Refuse pixels without compression that take another number of bytes than the header says.

    What is missing is found where they are decoded, but more of them are passed over there, as of
    16 bits that are said to be 8.
    """
    from pydicom import Dataset, dcmread
    from pydicom.pixels.utils import get_expected_length

    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    if isinstance(file, Dataset):
        whole: Any = file
    elif hasattr(file, "seek"):
        file.seek(0)
        whole = dcmread(file)
        file.seek(0)
    else:
        whole = dcmread(file, defer_size="1 KB")  # does not read the pixels
    wanted = int(get_expected_length(header))
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword in whole:
            item = whole.get_item(keyword)
            found = item.length if hasattr(item, "length") else len(item.value)
            # Zeros are what some scanners fill up a block with.
            if found > wanted + wanted % 2 and any(whole[keyword].value[wanted:]):
                raise ImageFileError(
                    f"damaged: its pixels take {wanted} bytes, as its header says; {found} are "
                    "there"
                )


def _check_rle(frame: bytes, pixels: int) -> None:
    """Refuse a frame of which a segment, a byte of each sample, holds more than its pixels."""
    if len(frame) < _RLE_HEADER.size:
        raise ImageFileError("damaged: a frame is cut off in its RLE header")
    count, *offsets = _RLE_HEADER.unpack_from(frame)
    offsets = [*offsets[:count], len(frame)]
    for start, end in pairwise(offsets):
        check_runs(frame[start:end], pixels)


def padding(stored: Array, header: Any) -> Array | None:
    """Tell where there is data and no padding; None if the header names no padding."""
    first = header.get("PixelPaddingValue")
    if first is None or stored.ndim > 2:
        return None
    last = header.get("PixelPaddingRangeLimit")
    values = sorted(_signed(int(v), header) for v in (first, first if last is None else last))
    return (stored < values[0]) | (stored > values[-1])


def _signed(value: int, header: Any) -> int:
    """Read a number as signed pixels are; some writers store it as unsigned."""
    bits = int(header.BitsAllocated)
    return value - 2**bits if header.PixelRepresentation and value >= 2 ** (bits - 1) else value


def invert(stored: Array, header: Any, kind: Kind, ends: Ends) -> tuple[Array, list[str]]:
    """Make large values bright, and say what was done to the stored ones."""
    interpretation = str(header.PhotometricInterpretation)
    if interpretation == "MONOCHROME1":
        if kind.kind == "f":
            raise ImageFileError("its floats are stored as MONOCHROME1", "save it as MONOCHROME2")
        note = f"MONOCHROME1, where small is white: {sum(ends)} - stored is taken"
        wide = sum(ends) - stored.astype(np.int64)
        return wide.astype(kind), [note]
    if interpretation.startswith("YBR"):
        return stored, [f"its {interpretation} is converted to RGB"]
    return stored, []
