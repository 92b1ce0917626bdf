"""JPEG, by libjpeg-turbo; a warning of its decoder means damage.

Pillow also decodes with libjpeg, but does not pass on its warnings.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from imsim._images.metadata import Profile, profile_of
from imsim._images.pictures import Array, Contents, ImageFileError, Pages
from imsim._images.reading import Reading, Source
from imsim._images.shown import ORIENTATION, oriented

JPEG_SIGNATURE = b"\xff\xd8\xff"
_METADATA = {*range(0xE0, 0xF0), 0xFE}  # markers of segments for applications, and of comments
_COLOURS = (0xE0, 0xEE)  # two of them tell the decoder the kind of colours
_BEGIN = {*range(0xD0, 0xDB)}  # markers without a length, and the start of a scan
# A marker with a length. Excluded are 0, which marks 0xFF as data, and restarts.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_FRAMES = (0xC0, 0xC1, 0xC2)  # markers of the header: baseline, extended, progressive
_SCAN, _END = 0xDA, 0xD9
_COEFFICIENTS = 64  # of a block
_DAMAGED_METADATA = "its metadata are damaged and left aside"
_PICTURES = 0xB002  # the tag that lists the pictures of one file (MPO)


_INTEROPERABILITY = 0xA005
_ADOBE_RGB = Profile("Adobe RGB, by EXIF", frozenset({(b"", b"R03")}))
"""As cameras say it that embed no profile."""


class _Metadata(NamedTuple):
    """Metadata that Pillow reads."""

    orientation: object
    offsets: list[int]
    """Offsets of the pictures in the file; the first is 0."""
    notes: tuple[str, ...]
    profile: Profile | None = None


def open_jpeg(source: Source, reading: Reading) -> Pages:
    """Open a file of one image; pictures that cameras append (MPO) are read by their index."""
    reading.check_exact("JPEG")
    metadata = _metadata(source.read())
    return Pages(
        1,
        lambda index: _read(source.read(), index, metadata, reading),
        further=len(metadata.offsets) - 1,
    )


def _read(content: bytes, index: int, metadata: _Metadata, reading: Reading) -> Contents:
    orientation, offsets, notes, profile = metadata
    if len(offsets) > 1 and index == 0:
        notes += (f"the first of its {len(offsets)} pictures is taken; FILE[i] names another",)
    ends = [*offsets[1:], len(content)]
    if index:
        own = _metadata(content[offsets[index] :])
        orientation, profile = own.orientation, own.profile
    plain, has_strays = _without_metadata(content[offsets[index] : ends[index]])
    if has_strays and _DAMAGED_METADATA not in notes:
        notes += (_DAMAGED_METADATA,)
    pixels, end = _decoded(plain, reading)
    further = plain[end:].strip(b"\0")
    if further:
        notes += (f"{len(further)} bytes after its end are left aside",)
    image = Contents(pixels, notes, profile=profile)
    return oriented(image, orientation, reading)


def _without_metadata(content: bytes) -> tuple[bytes, bool]:
    """Leave out segments that do not describe the pixels, and tell whether stray bytes follow them.

    The decoder warns of every stray byte. Bytes behind metadata of a wrong length are harmless, and
    left out. Bytes behind any other segment stay, so that the decoder warns of them.
    """
    parts, place, has_strays, after_metadata = [content[:2]], 2, False, False
    while place + 4 <= len(content):
        marker = content[place + 1]
        if content[place] != 0xFF or marker in (0, 0xFF):
            if not after_metadata:
                break
            has_strays = True
            place += 1
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if marker in _BEGIN or end > len(content):
            break
        after_metadata = marker in _METADATA
        if not after_metadata or marker in _COLOURS:
            parts.append(content[place:end])
        place = end
    return b"".join((*parts, content[place:])), has_strays


def _decoded(content: bytes, reading: Reading) -> tuple[Array, int]:
    """Decode a JPEG stream, and return where it ends; refuse it if the decoder warns."""
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("Gray", "YCbCr", "RGB"):
            raise ImageFileError(f"its colours are {colours}; save it as grey or RGB")
        grey = colours == "Gray"
        reading.check_size((height, width), 1, 1 if grey else 3)
        pixels: Array = simplejpeg.decode_jpeg(content, "GRAY" if grey else "RGB")
        end = _check_scans(content)
    except ImageFileError:
        raise
    except ValueError as error:
        reason = str(error)
        if "nsupported" in reason or "subsampling" in reason or "recision" in reason:
            raise ImageFileError(_why_unread(content, reason)) from error
        raise ImageFileError(f"damaged: {reason}") from error
    return pixels[..., 0] if grey else np.asarray(pixels), end


def check_stream(content: bytes, heights: tuple[int, ...], width: int, samples: int) -> None:
    """Refuse a strip or tile of a TIFF file, a stream with its tables, if it is damaged."""
    import simplejpeg

    height, across, colours, _ = simplejpeg.decode_jpeg_header(content)
    found = {"Gray": 1, "CMYK": 4, "YCCK": 4}.get(colours, 3)
    if height not in heights or (across, found) != (width, samples):
        raise ImageFileError(
            f"damaged: it holds a JPEG stream of {across} x {height} pixels of {found} samples; "
            f"expected {width} x {heights[0]} of {samples}"
        )
    try:
        simplejpeg.decode_jpeg(content, "GRAY" if colours == "Gray" else "RGB")
    except ValueError as error:
        raise ImageFileError(f"damaged: {error}") from error
    _check_scans(content)


def _check_scans(content: bytes) -> int:
    """Return the end of a stream; refuse one without a scan: what it lacks is 0 to the decoder."""
    missing_bits: dict[int, list[int]] = {}  # of each coefficient, by the number of its component
    end = len(content)
    for marker, body, place in _segments(content):
        if marker == _END:
            end = place
            break
        if marker in _FRAMES:
            missing_bits = {body[6 + 3 * i]: [16] * _COEFFICIENTS for i in range(body[5])}
        elif marker == _SCAN and missing_bits:
            count = body[0]
            first, last, approximation = body[1 + 2 * count : 4 + 2 * count]
            for component in body[1 : 1 + 2 * count : 2]:
                missing_bits[component][first : last + 1] = [approximation & 15] * (
                    last + 1 - first
                )
    if any(any(bits) for bits in missing_bits.values()):
        raise ImageFileError("damaged: its last scans are missing")
    return end


def _segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield the marker of each segment, what it holds, and where the marker ends."""
    place = 2
    while found := _MARKER.search(content, place):
        place = found.end()
        size = int.from_bytes(content[place : place + 2], "big")
        yield found[1][0], content[place + 2 : place + size], place
        place += size


def _why_unread(content: bytes, reason: str) -> str:
    """Say what is wrong with a header: the decoder names what it looked for last."""
    samples = 0
    for marker, body, _ in _segments(content):
        if marker in _FRAMES:
            samples = int.from_bytes(body[5:6])
        if marker == _SCAN:
            break
    else:
        return "damaged: it is cut off in its header"
    if samples == 4:
        return "its colours are CMYK or YCCK; save it as grey or RGB"
    return f"a JPEG that is not read ({reason}); save it as PNG"


def _metadata(content: bytes) -> _Metadata:
    from PIL.JpegImagePlugin import jpeg_factory

    offsets = [0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a malformed list of pictures
            with jpeg_factory(io.BytesIO(content)) as image:
                if hasattr(image, "mpinfo"):
                    base = content.index(b"MPF\0") + 4  # their offsets count from here
                    listed = image.mpinfo[_PICTURES][1:]
                    offsets += [base + picture["DataOffset"] for picture in listed]
                    if offsets != sorted(set(offsets)) or not all(
                        content.startswith(JPEG_SIGNATURE, place) for place in offsets
                    ):
                        raise ValueError("a list of pictures that are not there")
                exif = image.getexif()
                profile = profile_of(image.info.get("icc_profile"))
                if profile is None and _is_adobe_rgb(exif):
                    profile = _ADOBE_RGB
                return _Metadata(exif.get(ORIENTATION, 1), offsets, (), profile)
    except Exception:  # damaged metadata are no error; the decoder finds damaged pixels
        return _Metadata(1, [0], (_DAMAGED_METADATA,))


def _is_adobe_rgb(exif: Any) -> bool:
    """Tell whether a camera says so, in the directory of a directory."""
    with suppress(Exception):  # damaged, or not there
        return bool(exif.get_ifd(_INTEROPERABILITY).get(1) == "R03")
    return False


def check_end_mark(content: bytes, name: str) -> None:
    """Refuse a stream of the JPEG family that lacks its end mark, before what fills it up."""
    if not content.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise ImageFileError(
            f"damaged: its {name} data are cut off; the mark of their end is missing"
        )
