"""DICOM: a folder of slices is one volume, and so is a file of several frames; read by pydicom."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from imsim._images.jpeg import check_end_mark
from imsim._images.metadata import Space, of_dicom
from imsim._images.pictures import Array, Contents, ImageFileError, Pages, check_runs, needing
from imsim._images.reading import (
    Reading,
    Source,
    check_deflated,
    check_unchanged,
    first_bytes,
    state_of,
)
from imsim._images.volumes import (
    ADD_VOLUME,
    Frame,
    Headers,
    arranged,
    check_alike,
    frames_of,
    rescaled,
    rescaled_type,
    scaling_notes,
)

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
    """Yield the stored values of each frame, of colours as RGB; bits that are not used are 0."""
    from pydicom.encaps import generate_frames

    syntax = header.file_meta.TransferSyntaxUID
    is_marked = str(syntax) in _MARKED
    if syntax.is_deflated or is_marked or syntax == _RLE:  # iter_pixels does not inflate
        file = _dataset(file)
    if is_marked or syntax == _RLE:
        for frame in generate_frames(file.PixelData, number_of_frames=number_of_frames(header)):
            if syntax == _RLE:
                _check_rle(frame, int(header.Rows) * int(header.Columns))
            else:
                check_end_mark(frame, syntax.name)
    _check_length(file, header)
    for stored in _frames(file, number_of_frames(header)):
        yield stored.astype(kind, copy=False)


def _dataset(file: Any, **options: Any) -> Any:
    """Read a whole file, or a stream from its beginning."""
    from pydicom import Dataset, dcmread

    if isinstance(file, Dataset):
        return file
    if hasattr(file, "seek"):
        file.seek(0)
        options = {}  # what is deferred is read by the name of a file
    return dcmread(file, **options)


def number_of_frames(header: Any) -> int:
    """Return how many frames the header counts."""
    return int(header.get("NumberOfFrames") or 1)


def _frames(file: Any, number: int) -> Iterator[Array]:
    """Yield the frames, each decoded when it is wanted."""
    from pydicom.pixels import iter_pixels, pixel_array

    if hasattr(file, "seek"):
        file.seek(0)
    try:
        yield from iter_pixels(file)
    except ValueError as error:
        # Where a stream of JPEG 2000 is signed and the header says otherwise, or the other way
        # round, pydicom corrects frames in place, and of this iterator they are read-only.
        if "read-only" not in str(error):
            raise
        found = pixel_array(_dataset(file))
        yield from found if number > 1 else [found]


def _check_length(file: Any, header: Any) -> None:
    """Refuse pixels without compression that take another number of bytes than the header says.

    What is missing is found where they are decoded, but more of them are passed over there, as of
    16 bits that are said to be 8.
    """
    from pydicom.pixels.utils import get_expected_length

    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    whole = _dataset(file, defer_size="1 KB")  # does not read the pixels
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


DICOM_SIGNATURE = b"DICM"
"""It stands behind 128 bytes of anything."""
_ENDINGS = (".dcm", ".dicom", ".ima")
_SIGN = "PixelRepresentation"
_NEEDED = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated")
"""What every header of an image has."""
_BY_ALL = "raised by all available plugins:"
"""Of pydicom, before what each decoder says."""
_INDEX_FILE = "DICOMDIR"


def is_series(folder: str) -> bool:
    """Tell whether DICOM files lie directly in a folder, by their endings or their content."""
    try:
        return os.path.isdir(folder) and next(_members(folder), None) is not None
    except OSError:
        return False


def open_series(folder: str, reading: Reading) -> Pages:
    """Open a folder of DICOM files as one volume; the headers of all of them are read here."""
    members = list(_members(folder))
    if not members:
        raise ImageFileError("is a folder without DICOM files (.dcm), and so no volume")
    others = len(os.listdir(folder)) - len(members)
    paths = {name: os.path.join(folder, name) for name in members}
    states = list(map(state_of, paths.values()))
    headers: Headers = {}
    for name, path in paths.items():
        with _naming(name):
            headers[name] = _header(path)
    check_alike(headers)
    frames = []
    for name, header in headers.items():
        with _naming(name):
            found = frames_of(name, header)
            if len(members) > 1 and len(found) > 1:
                raise ImageFileError(
                    f"holds {len(found)} frames, and {len(members) - 1} other files lie beside it",
                    "name one file of several frames, or a folder of files of one slice each",
                )
            frames += found
    aside = f"left aside of the folder: {others} that are no DICOM files" if others else ""
    pages = _volume(headers, frames, paths, reading, [aside] if aside else [])

    def read(index: int) -> Contents:
        found = pages.read(index)
        check_unchanged(states, list(map(state_of, paths.values())))
        return found

    return pages._replace(read=read)


def open_file(source: Source, reading: Reading) -> Pages:
    """Open a file: of one frame as an image, of several as a volume."""
    opened: Any = source.path if source.content is None else source.open()
    header = _header(opened)
    frames = frames_of("", header)
    if reading.volume:
        if len(frames) == 1:
            raise ImageFileError(
                "holds one slice, and no volume", "name the folder of all slices of the series"
            )
        return _volume({"": header}, frames, {"": opened}, reading, [])
    if len(frames) > 1:
        raise ImageFileError(f"holds {len(frames)} frames", ADD_VOLUME)

    def read(_: int) -> Contents:
        found = _read({"": header}, frames, {"": opened}, reading)
        valid = None if found.valid is None else found.valid[0]
        return found._replace(
            pixels=found.pixels[0], valid=valid, ndim=2, space=Space(), grid=of_dicom(header)
        )

    return Pages(1, read)


def _members(folder: str) -> Iterator[str]:
    """Yield the names of the DICOM files that lie directly in a folder."""
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if entry.is_file()), key=lambda e: e.name)
    for entry in found:
        ending = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith(".") or entry.name.upper() == _INDEX_FILE:
            continue
        # Many are called by a number, whose end looks like an ending.
        nameless = not ending or ending[1:].isdecimal()
        if ending in _ENDINGS or (nameless and first_bytes(entry.path)[128:] == DICOM_SIGNATURE):
            yield entry.name


def _header(file: Any) -> Any:
    with needing("DICOM needs", "pydicom", "medical"):
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
    check_deflated(file)
    try:
        header = dcmread(file, stop_before_pixels=True)
    except InvalidDicomError as error:
        raise ImageFileError(f"damaged or not DICOM: {error}") from error
    if "Rows" not in header and "Columns" not in header:
        raise ImageFileError("is DICOM without an image: its header has neither Rows nor Columns")
    lost = [keyword for keyword in _NEEDED if keyword not in header]
    lost += [_SIGN] if "BitsStored" in header and _SIGN not in header else []
    lost += ["TransferSyntaxUID"] if "TransferSyntaxUID" not in header.file_meta else []
    if lost:
        raise ImageFileError(f"damaged: its header lacks {', '.join(lost)}")
    return header


def _volume(
    headers: Headers,
    frames: list[Frame],
    paths: dict[str, Any],
    reading: Reading,
    notes: list[str],
) -> Pages:
    ordered, space, said = arranged(frames)

    def read(_: int) -> Contents:
        found = _read(headers, ordered, paths, reading)
        return found._replace(notes=(*notes, *said, *found.notes), space=space)

    return Pages(1, read)


def _read(
    headers: Headers, frames: Sequence[Frame], paths: dict[str, Any], reading: Reading
) -> Contents:
    """Read frames into a volume, in their order."""
    header = headers[frames[0].file]
    channels = int(header.SamplesPerPixel)
    kinds = {name: kind_of(header) for name, header in headers.items()}
    finals = set()
    for frame in frames:
        kind, ends = kinds[frame.file]
        finals.add(rescaled_type(kind, frame.slope, frame.intercept, ends))
    final = np.result_type(*finals)
    sides = (len(frames), int(header.Rows), int(header.Columns))
    largest = max(final.itemsize, *(kind.itemsize for kind, _ in kinds.values()))
    reading.check_size(sides, largest, channels)
    pixels = np.empty((*sides, channels) if channels > 1 else sides, final)
    valid: Array | None = None
    places: dict[str, dict[int, int]] = {}
    for place, frame in enumerate(frames):
        places.setdefault(frame.file, {})[frame.number] = place
    notes: dict[str, None] = {}
    for name, of_frame in places.items():
        with _naming(name):
            check_exact(headers[name], reading)
            check_decoder(headers[name])
            count = 0
            for index, stored in enumerate(decoded(paths[name], headers[name], kinds[name][0])):
                count += 1
                place = of_frame[index]
                data = padding(stored, headers[name])
                if data is not None and not data.all():
                    valid = np.ones(sides, bool) if valid is None else valid
                    valid[place] = data
                frame = frames[place]
                shown, said = invert(stored, headers[name], *kinds[name])
                pixels[place] = rescaled(shown, frame.slope, frame.intercept, final)
                notes.update(dict.fromkeys(said))
            if count != len(of_frame):
                raise ImageFileError(f"damaged: {count} of its {len(of_frame)} frames are there")
    scales = {(frame.slope, frame.intercept) for frame in frames}
    if len(scales) > 1:
        notes[f"its values are rescaled by {len(scales)} slopes and intercepts of its slices"] = (
            None
        )
    else:
        notes.update(dict.fromkeys(scaling_notes(*scales.pop())))
    if valid is not None:
        left = int(valid.size - np.count_nonzero(valid))
        notes[f"{left} of {valid.size} voxels are left out: padding, as its header says"] = None
    return Contents(pixels, tuple(notes), valid, ndim=3, unit=_unit(header))


def _unit(header: Any) -> str:
    """Return what the values are in, of PET or by RescaleType; US is unspecified."""
    unit = str(header.get("Units") or header.get("RescaleType") or "").strip()
    return "" if unit == "US" else unit


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say which file of a folder an error is about; `name` is empty of a file that stands alone."""
    before = f"{name}: " if name else ""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except ImageFileError as error:
        raise ImageFileError(f"{before}{error}") from error
    except Exception as error:  # pydicom raises a dozen kinds
        start, found, reason = str(error).partition(_BY_ALL)
        if found and start.startswith("Unable to decode"):
            said = f"{before}damaged, or of a kind that no installed decoder reads"
            raise ImageFileError(f"{said}: {' '.join(reason.split())}", DECODERS) from error
        raise ImageFileError(f"{before}damaged or not DICOM: {error}") from error
