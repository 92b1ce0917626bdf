"""NIfTI, versions 1 and 2, in one file: the header is read by nibabel, the voxels are mapped here.

NIfTI lists voxels with x first, so that its array (x, y, z), in Fortran's order, is ours of shape
(depth, height, width) = (z, y, x).
"""

from __future__ import annotations

import gzip
import logging
import math
from typing import Any

import numpy as np

from imsim._images.metadata import SAME_SPACING, Space, rounded
from imsim._images.pictures import Contents, ImageFileError, Pages, native, needing
from imsim._images.reading import GZIP_SIGNATURE, Reading, Source, beginning, named_as_damage
from imsim._images.volumes import ADD_VOLUME, rescaled, rescaled_type, scaling_notes

NIFTI_SIGNATURES = (
    b"\x5c\x01\x00\x00",
    b"\x00\x00\x01\x5c",
    b"\x1c\x02\x00\x00",
    b"\x00\x00\x02\x1c",
)
"""The length of the header, 348 or 540, in either byte order."""
HEADER_BYTES = 540
LATEST_VOXELS = 2**26
"""Most bytes of header and extensions: a packed file is read that far."""
_MOST_BEHIND = 2**20
"""Bytes that follow the voxels without harm."""
_MILLIMETRES = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, "unknown": 1.0}
_WORDS = ("n+1\0", "ni1\0", "n+2\0", "ni2\0")


def is_nifti(start: bytes) -> bool:
    """Tell by the first bytes of its content whether a file is NIfTI."""
    return _word(start) in _WORDS


def open_nifti(source: Source, reading: Reading) -> Pages:
    """Open a file of one volume, or of several along the fourth axis."""
    header, notes = _header(source)
    shape = tuple(int(length) for length in header.get_data_shape())
    width, height, depth, number, *more = (*shape, *[1] * (4 - len(shape)))
    if min(shape, default=0) < 1:
        raise ImageFileError(f"damaged: it holds no voxel; its shape is {shape}")
    if math.prod(more) > 1:
        raise ImageFileError(
            f"its shape is {shape}: a voxel holds {math.prod(more)} numbers, or there is a sixth "
            "axis",
            "save as (x, y, z) or (x, y, z, volumes)",
        )
    if not reading.volume:
        raise ImageFileError(f"holds a volume, {width} x {height} x {depth} voxels", ADD_VOLUME)
    kind, channels = _kind(header.get_data_dtype())
    offset = int(header.get_data_offset())
    if not 0 <= offset <= LATEST_VOXELS:
        raise ImageFileError(f"damaged: its voxels begin at byte {offset}")
    size = width * height * depth * kind.itemsize * channels
    slope, intercept = _scaling(header, notes)
    final = rescaled_type(kind, slope, intercept)
    notes += scaling_notes(slope, intercept)
    space = _space(header, notes)
    with source.open() as stream:
        packed = stream.read(2) == GZIP_SIGNATURE
    kept: list[bytes] = []
    """Of a packed file of several volumes: it can be read from its start only."""

    def read(index: int) -> Contents:
        part = max(kind.itemsize, final.itemsize)
        count = number if packed else 1
        reading.check_size((count * depth, height, width), part, channels)
        start, end = offset + index * size, offset + number * size
        content = kept[0] if kept else _stored(source, start, size, end, notes, packed=packed)
        if packed and number > 1:
            kept[:] = [content]
        stored = np.frombuffer(content, kind, size // kind.itemsize, start if packed else 0)
        stored = stored.reshape(depth, height, width, channels)
        pixels = rescaled(native(stored), slope, intercept, final)
        pixels = pixels[..., 0] if channels == 1 else pixels
        return Contents(
            np.require(pixels, requirements=["C", "W"]), tuple(notes), ndim=3, space=space
        )

    return Pages(number, read)


def _word(start: bytes) -> str:
    place = 344 if start[:4] in NIFTI_SIGNATURES[:2] else 4
    return start[place : place + 4].decode("latin-1")


def _header(source: Source) -> tuple[Any, list[str]]:
    """Return the header as nibabel reads it, and what it says about that."""
    with needing("NIfTI needs", "nibabel", "medical"):
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    start = beginning(source, HEADER_BYTES)
    if "i" in _word(start):
        raise ImageFileError(
            "is the header of a pair of files, .hdr and .img", "save it as one file, .nii"
        )
    first = start[:4] in NIFTI_SIGNATURES[:2]
    size = 348 if first else 540
    if len(start) < size:
        raise ImageFileError(f"damaged: {len(start)} of the {size} bytes of its header are there")
    notes: list[str] = []
    log = logging.Logger("imsim.nifti")
    log.addFilter(lambda record: bool(notes.append(f"its header: {record.getMessage()}")))  # type: ignore[func-returns-value]
    header = (Nifti1Header if first else Nifti2Header)(start[:size], check=False)
    header.check_fix(log, 40)
    return header, notes


def _kind(kind: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """Return the type of a sample and how many a voxel has."""
    if kind.fields:
        if tuple(kind.fields) != ("R", "G", "B"):
            raise ImageFileError(
                f"its voxels hold {', '.join(kind.fields)}", "save them as RGB or as numbers"
            )
        return np.dtype(np.uint8), 3
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise ImageFileError(f"its values are of type {kind}", "save real numbers of 64 bits")
    return kind, 1


def _scaling(header: Any, notes: list[str]) -> tuple[float, float]:
    """Return slope and intercept; by the format, a slope of 0 means that there are none."""
    slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
    if math.isnan(slope):
        notes.append("its header has NaN as slope; its values are taken as stored")
    return (1.0, 0.0) if math.isnan(slope) or not slope else (slope, intercept)


def _space(header: Any, notes: list[str]) -> Space:
    """Return the geometry; the affine of the header tells directions, its zooms the spacing."""
    unit = header.get_xyzt_units()[0]
    zooms = np.array([*header.get_zooms(), 1.0, 1.0, 1.0][:3], float)
    coded = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    affine = np.asarray(header.get_best_affine(), float) if coded else None
    scale = _MILLIMETRES.get(unit, 1.0)
    if not (np.isfinite(zooms).all() and (zooms > 0).all()):
        notes.append(f"its header has no spacing; the zooms are {zooms.tolist()}")
        return Space()
    spacing = rounded(zooms[::-1] * scale)
    if unit == "unknown":
        notes.append("its header has no unit of length; millimetres are assumed")
    if affine is None:
        notes.append("its header does not tell how the axes lie (no sform, no qform)")
        return Space(spacing)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and (lengths > 0).all()):
        notes.append("its header does not tell how the axes lie (its affine is singular)")
        return Space(spacing)
    if not np.allclose(lengths, zooms, rtol=SAME_SPACING, atol=0):
        notes.append(
            f"its header has two spacings: {zooms[::-1].tolist()}, which is used, and "
            f"{lengths[::-1].round(6).tolist()} in its affine"
        )
    directions = (affine[:3, :3] / lengths).T[::-1]
    return Space(spacing, directions, affine[:3, 3] * scale)


def _stored(
    source: Source, start: int, size: int, whole: int, notes: list[str], *, packed: bool
) -> bytes:
    """Read a part of the voxels, which end at byte `whole`; of a packed file all up to there."""
    with source.open() as stream, named_as_damage():
        length = stream.seek(0, 2)
        stream.seek(0 if packed else start)
        if not packed:
            content = stream.read(size)
        else:
            with gzip.open(stream) as unpacked:
                content = unpacked.read(whole)
                length = len(content)
                # To the end, where the checksum is compared.
                while length <= whole + _MOST_BEHIND and (chunk := unpacked.read(2**16)):
                    length += len(chunk)
    if length < whole:
        raise ImageFileError(f"damaged: {length} of {whole} bytes are there")
    if length > whole + _MOST_BEHIND:
        raise ImageFileError("damaged: it goes on for more than 1 MiB behind its voxels")
    said = f"{length - whole} bytes behind its voxels are left aside"
    if length > whole and said not in notes:
        notes.append(said)
    return content
