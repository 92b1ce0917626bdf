"""DICOM: a folder of slices is one volume, and so is a file of several frames; read by pydicom."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from imsim._images.dicom_frames import Frame, Headers, arranged, check_alike, frames_of
from imsim._images.dicom_pixels import (
    DECODERS,
    check_decoder,
    check_exact,
    decoded,
    invert,
    kind_of,
    padding,
)
from imsim._images.metadata import of_dicom
from imsim._images.pictures import Array, Contents, ImageFileError, Pages, needing
from imsim._images.reading import Reading
from imsim._images.source import Source, check_deflated
from imsim._images.space import Space
from imsim._images.volumes import ADD_VOLUME, rescaled, rescaled_type, scaling_notes

SIGNATURE = b"DICM"
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
    headers: Headers = {}
    for name in members:
        with _naming(name):
            headers[name] = _header(os.path.join(folder, name))
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
    paths = {name: os.path.join(folder, name) for name in members}
    return _volume(headers, frames, paths, reading, [aside] if aside else [])


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
        if ending in _ENDINGS or (nameless and _is_marked(entry.path)):
            yield entry.name


def _is_marked(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == SIGNATURE
    except OSError:
        return False


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
