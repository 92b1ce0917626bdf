"""FITS, read by Astropy: planes of the first HDU that holds an image, or of the one that is named.

Rows are taken in the order of the file, as Astropy's arrays have them: the first one, which FITS
calls the bottom one, is the top one here.
"""

from __future__ import annotations

import errno
import math
import re
import warnings
from typing import Any

import numpy as np

from imsim._images.arrays import Axes, axes_of
from imsim._images.metadata import of_fits
from imsim._images.pictures import (
    Array,
    Contents,
    ImageFileError,
    Pages,
    listed,
    native,
    needing,
    said_of_no_data,
)
from imsim._images.reading import Reading, Source
from imsim._images.volumes import rescaled, rescaled_type, scaling_notes

FITS_SIGNATURE = b"SIMPLE  "
_TYPES = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
"""By BITPIX."""
_STRUCTURE = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT")
"""Keywords that tell where data are; each comes once."""


def open_fits(source: Source, name: str | None, reading: Reading) -> Pages:
    """Open a file; the planes of one HDU are images."""
    with needing("FITS needs", "astropy", "astronomy"):
        from astropy.io import fits
    stream = source.open()
    size = stream.seek(0, 2)
    stream.seek(0)
    notes = []
    with warnings.catch_warnings():
        # Of cards that break a rule. What is cut off is found below.
        warnings.simplefilter("ignore")
        try:
            file = fits.open(
                stream, memmap=False, do_not_scale_image_data=True, lazy_load_hdus=False
            )
            _check_whole(file, size, source)
            images = {
                i: hdu.name for i, hdu in enumerate(file) if hdu.is_image and len(hdu.shape) > 1
            }
            index = _chosen(images, name)
            hdu = file[index]
            stored_as = hdu.header, hdu.fileinfo()
            if _is_compressed(hdu):
                stored_as = _as_table(source, index)
                _check_exact(stored_as[0], reading)
            elif _has_more(source, hdu):
                notes.append(
                    "what follows its pixels is not 0, as FITS has it; are its axes right?"
                )
        except BaseException as error:
            stream.close()
            if isinstance(error, OSError) and error.errno in (errno.EINVAL, errno.EOVERFLOW):
                raise ImageFileError(
                    "damaged: its header tells of more data than a file can have"
                ) from error
            raise
    kind = np.dtype(_TYPES[hdu.header["BITPIX"]])
    shape = tuple(hdu.shape)
    # The order of axes is certain, unless somebody says that one of them counts channels.
    axes = Axes(shape, None) if reading.channel_axis is None else axes_of(shape, reading)
    checked: list[bool] = []
    others = [f"{i} ({said})" if said else str(i) for i, said in images.items() if i != index]
    if others and name is None:
        notes.append(
            f"the image of its HDU {index} is taken; FILE.fits:HDU names another: {listed(others)}"
        )

    def read(number: int) -> Contents:
        height, width, *channels = axes.image
        if not checked:
            _check_sum(source, *stored_as)
            checked.append(True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if axes.channel is None:
                reading.check_size((height, width), max(kind.itemsize, 4))
                rows = (slice(None), slice(None))
                stored = np.asarray(hdu.section[(*axes.at(number).values(), *rows)])
            else:
                reading.check_size((len(axes), height, width), max(kind.itemsize, 4), *channels)
                stored = axes.take(np.asarray(hdu.data), number)
        found = _values(native(np.array(stored)), hdu.header, notes)
        return found._replace(grid=of_fits(hdu.header))

    return Pages(len(axes), read, stream.close, counting=axes.leading)


def _check_whole(file: Any, size: int, source: Source) -> None:
    """Refuse a file that ends before its data do, or goes on with something else."""
    end = 0
    for number, hdu in enumerate(file):
        if not hasattr(hdu, "fileinfo"):
            raise ImageFileError(f"damaged: the header of its HDU {number} cannot be read")
        if (bits := hdu.header.get("BITPIX")) not in _TYPES:
            known = ", ".join(map(str, _TYPES))
            raise ImageFileError(f"damaged: its BITPIX is {bits}; expected one of {known}")
        header = _as_table(source, number)[0] if _is_compressed(hdu) else hdu.header
        keywords = [keyword for keyword in header if _STRUCTURE.fullmatch(keyword)]
        twice = sorted({keyword for keyword in keywords if keywords.count(keyword) > 1})
        if twice or (number == 0 and "XTENSION" in keywords):
            # Its end is not seen, so that the next header goes on with it.
            raise ImageFileError(
                f"damaged: the header of its HDU {number} is that of two ({', '.join(twice)})"
            )
        start, span = (hdu.fileinfo()[key] for key in ("datLoc", "datSpan"))
        # What fills up the last block may be missing.
        if start + min(_bytes_of(hdu, span), span) > size:
            raise ImageFileError(f"damaged: it is cut off in the data of its HDU {number}")
        end = start + span
    if end < size:
        raise ImageFileError(
            f"damaged: {size - end} bytes behind its last HDU are none, or one that is cut off"
        )


def _bytes_of(hdu: Any, span: int) -> int:
    """Return the bytes of the data of an HDU, of a table those with what fills them up."""
    if not hdu.is_image or _is_compressed(hdu):
        return span
    return int(math.prod(hdu.shape)) * abs(int(hdu.header["BITPIX"])) // 8


def _has_more(source: Source, hdu: Any) -> bool:
    """Tell whether the last block of the data of an image goes on with something."""
    start, span = (hdu.fileinfo()[key] for key in ("datLoc", "datSpan"))
    number = _bytes_of(hdu, span)
    with source.open() as stream:
        stream.seek(start + number)
        return any(stream.read(max(span - number, 0)))


def _is_compressed(hdu: Any) -> bool:
    return hasattr(hdu, "compression_type")


def _as_table(source: Source, index: int) -> tuple[Any, Any]:
    """Return the header of an HDU as the table that tiles are stored as, and where they lie."""
    from astropy.io import fits

    # Everything that is used of it is read here.
    with source.open() as stream:
        hdu = fits.open(stream, memmap=False, disable_image_compression=True)[index]
        return hdu.header, hdu.fileinfo()


def _check_exact(header: Any, reading: Reading) -> None:
    """Refuse tiles whose compression changes numbers, if these are to be taken as stored."""
    form, steps = header.get("ZCMPTYPE"), header.get("ZQUANTIZ", "NONE")
    values = {header.get(f"ZNAME{i}"): header.get(f"ZVAL{i}") for i in range(1, 9)}
    columns = {header.get(f"TTYPE{i}") for i in range(1, header.get("TFIELDS", 0) + 1)}
    if header.get("ZBITPIX", 8) < 0 and (steps != "NONE" or "ZSCALE" in columns):
        reading.check_exact(f"{form} of quantised floats")
    if form == "HCOMPRESS_1" and values.get("SCALE"):
        reading.check_exact(f"{form} with scale {values['SCALE']:g}")


def _check_sum(source: Source, header: Any, found: Any) -> None:
    """Compare data with the sum in the header, if there is one: of words, with carries added."""
    said = str(header.get("DATASUM", ""))
    if not said.isdecimal():
        return
    with source.open() as stream:
        stream.seek(found["datLoc"])
        content = stream.read(found["datSpan"])
    words = np.frombuffer(content.ljust(found["datSpan"], b"\0"), ">u4")
    total = int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    if total != int(said):
        raise ImageFileError(f"damaged: the sum of its data is {total}, not {said} (DATASUM)")


def _chosen(images: dict[int, str], name: str | None) -> int:
    """Return the index of the HDU that a name or a number calls, or the first with an image."""
    if not images:
        raise ImageFileError("holds no image: none of its HDUs has two axes")
    if name is None:
        return next(iter(images))
    found = [i for i, own in images.items() if own == name.upper() or str(i) == name]
    if len(found) == 1:
        return found[0]
    known = listed(f"{i} ({own})" if own else str(i) for i, own in images.items())
    count = f"{len(found)} images" if found else "no image"
    raise ImageFileError(f"holds {count} called {name}; it has {known}; a number names one")


def _number(header: Any, keyword: str, default: int | None) -> Any:
    """Return the one number that a keyword has; what it stands for decides all pixels."""
    if keyword not in header:
        return default
    found = {header[keyword, i] for i in range(header.count(keyword))}
    kinds = (int,) if default is None else (int, float)
    if len(found) > 1 or not all(type(value) in kinds for value in found):
        said = " and ".join(sorted(map(repr, map(str, found))))
        what = "a whole number" if default is None else "a number"
        raise ImageFileError(f"damaged: its {keyword} is {said}; expected {what}")
    return found.pop()


def _values(stored: Array, header: Any, notes: list[str]) -> Contents:
    """Return what the stored numbers stand for."""
    said = list(notes)
    kind = stored.dtype
    unit = str(header.get("BUNIT", "")).strip()
    slope, intercept = (float(_number(header, *of)) for of in (("BSCALE", 1), ("BZERO", 0)))
    blank = math.nan if kind.kind == "f" else _number(header, "BLANK", None)
    valid = None
    if blank is not None:
        valid = ~np.isnan(stored) if kind.kind == "f" else stored != int(blank)
        if missing := valid.size - int(np.count_nonzero(valid)):
            what = "NaN" if kind.kind == "f" else f"BLANK {blank}"
            said.append(said_of_no_data(what, missing, valid.size))
        else:
            valid = None
    half = 2 ** (8 * kind.itemsize - 1)
    if kind.kind in "iu" and slope == 1 and intercept == (-half if kind.kind == "u" else half):
        # The way of FITS to store integers of the other sign: the highest bit is inverted.
        other = np.dtype(f"{'i' if kind.kind == 'u' else 'u'}{kind.itemsize}")
        unsigned = stored.view(f"u{kind.itemsize}")
        pixels = (unsigned ^ unsigned.dtype.type(half)).view(other)
        return Contents(pixels, tuple(said), valid, from_bottom=True, unit=unit)
    said += scaling_notes(slope, intercept)
    pixels = rescaled(stored, slope, intercept, rescaled_type(kind, slope, intercept))
    return Contents(pixels, tuple(said), valid, from_bottom=True, unit=unit)
