"""OpenEXR, read by its own library: colours or grey of half or single floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from imsim._images.alpha import composite
from imsim._images.exr_header import opened
from imsim._images.pictures import Array, Contents, ImageFileError, Pages, listed, needing
from imsim._images.profiles import Profile
from imsim._images.reading import Reading
from imsim._images.source import Source

SIGNATURE = b"v/1\x01"
_DEEP, _SEVERAL_PARTS = 0x800, 0x1000  # flags in the version
_TYPES = (np.dtype(np.uint32), np.dtype(np.float16), np.dtype(np.float32))
_INEXACT = ("B44", "B44A", "DWAA", "DWAB", "LJ2K")
"""Compressions that may change numbers; PXR24 those of single floats."""
_COLOURS = ("R", "G", "B")
_SRGB = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
"""Red, green, blue and white of sRGB, which are those of OpenEXR where a file names none."""


def open_exr(source: Source, layer: str | None, reading: Reading) -> Pages:
    """Open a file of one image, or of one layer of it, which is read on demand."""
    with needing("OpenEXR needs", "OpenEXR", "exr"):
        import Imath  # noqa: F401  (the library needs it, and says so only when it reads)
        from OpenEXR import InputFile
    with source.open() as stream:
        flags = int.from_bytes(stream.read(8)[4:], "little")
    if flags & (_DEEP | _SEVERAL_PARTS):
        kind = "deep pixels" if flags & _DEEP else "several parts"
        raise ImageFileError(f"holds {kind}", "save one flat image, of R, G and B or of Y")

    def read(_: int) -> Contents:
        file = InputFile(opened(source))
        try:
            return _read(file, layer, reading)
        finally:
            file.close()

    return Pages(1, read)


def _read(file: Any, layer: str | None, reading: Reading) -> Contents:
    header = file.header()
    stored = header["channels"]
    chosen, alpha = _chosen(list(stored), layer)
    names = [*chosen, *([alpha] if alpha else [])]
    if any((stored[name].xSampling, stored[name].ySampling) != (1, 1) for name in names):
        raise ImageFileError("has fewer samples of colour than of light", "save R, G and B")
    data, shown = (_window(header[f"{kind}Window"]) for kind in ("data", "display"))
    left, top, width, height = data
    kinds = [_TYPES[stored[name].type.v] for name in names]
    kind = np.result_type(*kinds)
    reading.check_size((height, width), kind.itemsize, len(names))
    form = _form(header["compression"].v)
    if form in _INEXACT or (form == "PXR24" and kind == np.float32):
        reading.check_exact(form)
    planes: list[Array] = [
        np.frombuffer(file.channel(name), own).reshape(height, width).astype(kind)
        for name, own in zip(names, kinds, strict=True)
    ]
    notes = []
    if aside := [name for name in stored if name not in names]:
        notes.append(f"left aside of its channels: {listed(aside)}; FILE.exr:NAME names one")
    if data != shown:
        notes.append(
            f"its data window, {width} x {height} pixels at {left}, {top}, is taken; its display "
            f"window is {shown[2]} x {shown[3]} at {shown[0]}, {shown[1]}"
        )
    colours = planes[0] if len(chosen) == 1 else np.stack(planes[: len(chosen)], axis=-1)
    image = Contents(colours)
    if alpha:
        image = composite(colours, planes[-1], reading, premultiplied=True)
    return image._replace(notes=(*notes, *image.notes), profile=_profile(header))


def _form(number: int) -> str:
    """Return what a compression is called; Imath does not know the later ones."""
    from OpenEXR import Compression

    names = {int(value): str(name) for name, value in Compression.__members__.items()}
    name: str = names.get(number, str(number))
    return name.removesuffix("_COMPRESSION")


def _profile(header: Any) -> Profile | None:
    """Return the colours that a file declares; None: those of sRGB, as without a declaration."""
    found = header.get("chromaticities")
    if found is None:
        return None
    points = (getattr(found, name) for name in ("red", "green", "blue", "white"))
    numbers = [round(float(value), 4) for point in points for value in (point.x, point.y)]
    if not any(numbers) or np.allclose(numbers, _SRGB, atol=1e-3):
        return None
    name = f"chromaticities {', '.join(map(str, numbers))}"
    return Profile(name, frozenset({(b"", name.encode())}))


def _window(box: Any) -> tuple[int, int, int, int]:
    """Return the left and top edge, width and height."""
    left, top, right, bottom = (int(v) for v in (box.min.x, box.min.y, box.max.x, box.max.y))
    return left, top, right - left + 1, bottom - top + 1


def _chosen(names: list[str], layer: str | None) -> tuple[list[str], str | None]:
    """Return the channels of colour or grey, and that of alpha if there is one."""
    if layer in names:
        return [layer], None
    before = "" if layer is None else f"{layer}."
    inside = {name.removeprefix(before): name for name in names if name.startswith(before)}
    alpha = inside.get("A")
    if all(colour in inside for colour in _COLOURS):
        return [inside[colour] for colour in _COLOURS], alpha
    others = [name for short, name in inside.items() if short != "A"]
    if "Y" in inside and not {"RY", "BY"} & inside.keys():
        return [inside["Y"]], alpha
    if len(others) == 1:
        return others, alpha
    what = "" if layer is None else f" of {layer}"
    raise ImageFileError(
        f"its channels{what} are {listed(inside or names)}; none are R, G and B, or Y alone",
        "name a channel or a layer: FILE.exr:NAME",
    )
