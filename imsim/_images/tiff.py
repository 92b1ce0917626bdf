"""TIFF, by tifffile; each page is an image, unless the file describes other axes."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, cast

import numpy as np

from imsim._images.arrays import Axes, axes_of
from imsim._images.metadata import Grid, of_imagej, of_ome
from imsim._images.pictures import Array, Contents, ImageFileError, Pages
from imsim._images.raster import Raster, stacked
from imsim._images.reading import Reading, Source
from imsim._images.tiff_checks import Link, walk
from imsim._images.tiff_parts import open_page, open_plane

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

# Messages about the chain of pages that tell of lost pages.
_BREAK = re.compile(r"<tifffile\.TiffPages[^>]*> ((?:invalid|corrupted) .*)", re.DOTALL)
_TAG = re.compile(r"<tifffile\.TiffTag (\d+)")
# Tags that describe the pixels: a message of the reader about one of them means damage.
_DESCRIPTIVE = {*range(254, 260), 262, 266, 270, 273, *range(277, 280), 284, 317, 320}
_DESCRIPTIVE |= {*range(322, 326), 330, 338, 339, 347, *range(512, 533), 32997, 32998}
# Kinds of files with a description, read by tifffile, that names the axes or gives the shape.
_DESCRIBED = ("ome", "imagej", "lsm", "stk", "fluoview", "mmstack", "ndtiff", "nih", "shaped")
_EACH = "each page is taken as an image"
_OME_TYPE = re.compile(r"<(?:\w+:)?Pixels\b[^>]*?\bType=\"([\w-]+)\"")
_OME_TYPES = {"bit": "bool", "float": "float32", "double": "float64"}
_messages: ContextVar[list[str] | None] = ContextVar("imsim_tiff_messages", default=None)

Image = Callable[[], Contents]


def open_tiff(source: Source, reading: Reading) -> Pages:
    """Open a file of one or more pages, which are read on demand."""
    from tifffile import TiffFile

    with source.open() as stream:
        links = walk(stream)
    with _logged() as opening:
        # Planes in other files are not looked for.
        name = source.path if source.content is None else source.open()
        tiff = TiffFile(name, _multifile=False)
        tiff.filehandle.set_lock(True)
        try:
            count = len(tiff.pages)
            breaks = [match for match in map(_BREAK.match, opening) if match]
            broken = breaks[0][1] if breaks else "" if count else "there is no page"
            links = (links + [Link()] * count)[:count]
            images, aside, counting = _images(
                tiff, links, source, reading, opening, unbroken=not broken
            )
        except BaseException:
            tiff.close()
            raise
    lost = {match[0] for match in breaks}
    grid = _grid(tiff) if count else {}

    def read(index: int) -> Contents:
        if index == len(images):
            raise ImageFileError(f"damaged: the file is cut off or broken here ({broken})")
        # Tags are read here, and parts of other images at the same time by other threads.
        with _logged() as messages, tiff.filehandle.lock:
            found = images[index]()
        if isinstance(found.pixels, Raster):
            found.pixels.guards.append(_heard)
        said = _harmless(m for m in (*opening, *messages) if m not in lost)
        return found._replace(notes=(*aside, *found.notes, *said), grid=grid)

    # The number of pages behind a break in the chain is unknown. One image that cannot be read
    # stands for all of them.
    return Pages(len(images) + bool(broken), read, tiff.close, counting=counting)


def _grid(tiff: TiffFile) -> Grid:
    if tiff.is_ome:
        return of_ome(_page(tiff, 0).description)
    if tiff.is_imagej:
        tags = _page(tiff, 0).tags
        return of_imagej(tiff.imagej_metadata or {}, [tags.valueof(code) for code in (282, 283)])
    return {}


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect the log of tifffile in this thread, and keep it from the terminal."""
    logging.getLogger("tifffile").addFilter(_collect)  # logging adds a filter only once
    messages: list[str] = []
    token = _messages.set(messages)
    try:
        yield messages
    finally:
        _messages.reset(token)


@contextmanager
def _heard() -> Iterator[None]:
    """Raise what tifffile says about damage."""
    with _logged() as messages:
        yield
    _harmless(iter(messages))


def _collect(record: logging.LogRecord) -> bool:
    messages = _messages.get()
    if messages is None:
        return True
    messages.append(record.getMessage())
    return False


def _harmless(messages: Iterator[str]) -> list[str]:
    """Turn messages about tags that do not describe the pixels into notes; raise for others."""
    notes: dict[str, None] = {}
    for message in messages:
        if "GDAL_NODATA" in message:  # a value that no pixel of this type can have
            continue
        if "read_colormap" in message:  # or a transfer function; who needs the palette misses it
            notes[f"the TIFF reader warns: {message}"] = None
            continue
        tag = _TAG.search(message)
        if tag is None or int(tag[1]) in _DESCRIPTIVE:
            raise ImageFileError(f"damaged: the TIFF reader warns: {message}")
        notes[f"the TIFF reader warns: {message}"] = None
    return list(notes)


def _images(
    tiff: TiffFile,
    links: Sequence[Link],
    source: Source,
    reading: Reading,
    opening: list[str],
    *,
    unbroken: bool,
) -> tuple[list[Image], tuple[str, ...], tuple[int, ...]]:
    """Return the images of a file, notes on pages that are no images of their own, and what counts.

    Last are the lengths of the axes that count images, where the file describes them.

    A description of axes is used only if the chain of pages is `unbroken`.
    """
    if links and not tiff.is_ome:
        description = _page(tiff, 0).description
        if "<OME" in description and "</OME" not in description:
            raise ImageFileError("damaged: its OME description, which names the axes, is not whole")
    described = unbroken and any(getattr(tiff, f"is_{kind}") for kind in _DESCRIBED)
    plain = [index for index, link in enumerate(links) if not link.aside]
    if links and not plain:
        if any(link.subimages for link in links):
            raise ImageFileError(
                "holds reduced images, thumbnails or masks only; its image is in a sub-directory "
                "(SubIFD), as those of raw camera files. Save it as a page"
            )
        plain = [*range(len(links))]
        aside: tuple[str, ...] = ("declares to be a reduced image or a mask; it is taken as it is",)
    else:
        aside = _left_aside(links)
    if reading.level:
        images, counting = _at_level(tiff, reading.level, source, reading)
        return images, (), counting
    if described and (said := _beyond(tiff, len(plain))):
        # OME names each page that it describes; others count, and may count in vain.
        described = tiff.is_ome
        aside += (f"{said}; {'the others are left aside' if described else _EACH}",)
    if described:
        aside += _other_type(tiff)
        if aside and _is_all_there(tiff):
            opening[:] = [message for message in opening if "shaped series" not in message]
        every = len(plain) == len(links)
        images, counting = _at_level(tiff, 0, source, reading, every=every)
        return images, aside, counting
    if reading.channel_axis is not None and len(plain) > 1 and _page(tiff, plain[0]).axes == "YX":
        axes = axes_of((len(plain), *_page(tiff, plain[0]).shape), reading)
        read = _reader(axes, lambda i, n: open_page(_page(tiff, plain[i]), source, reading, n))
        images = [lambda i=i: read(i) for i in range(len(axes))]  # type: ignore[misc]
        return images, aside, axes.leading
    images = [lambda i=i: open_page(_page(tiff, i), source, reading) for i in plain]  # type: ignore[misc]
    return images, aside, ()


def _at_level(
    tiff: TiffFile, level: int, source: Source, reading: Reading, *, every: bool = False
) -> tuple[list[Image], tuple[int, ...]]:
    """Return the images of a level, of plain pages or of `every` one, and what counts them."""
    images: list[Image] = []
    counting: list[tuple[int, ...]] = []
    for series in tiff.series:
        if not every and (series.keyframe.is_reduced or series.keyframe.is_mask):
            continue
        number = len(series.levels)
        if level >= number:
            levels = "1 level" if number == 1 else f"{number} levels"
            raise ImageFileError(f"has no level {level}; it has {levels}, counted from 0")
        found, lengths = _of_series(tiff, series.levels[level], source, reading)
        images += found
        counting.append(lengths)
    return images, counting[0] if len(counting) == 1 else (len(counting), len(images))


def _beyond(tiff: TiffFile, pages: int) -> str:
    """Say that a description leaves out pages, which would be lost; or nothing."""
    planes = sum(math.prod(series.shape[: -len(series.keyframe.axes)]) for series in tiff.series)
    found = max(pages, planes)
    if tiff.is_imagej:
        counted = (tiff.imagej_metadata or {}).get("images", 1)
        # Some writers count the samples of a pixel as images.
        if isinstance(counted, int) and counted > found * _page(tiff, 0).samplesperpixel:
            raise ImageFileError(
                f"damaged: its ImageJ description counts {counted} images, and {found} are there"
            )
    return f"its description counts {planes} of its {pages} pages" if planes < pages else ""


def _other_type(tiff: TiffFile) -> tuple[str, ...]:
    """Say whether an OME description names another type than that of the pixels."""
    named = _OME_TYPE.findall(_page(tiff, 0).description) if tiff.is_ome else []
    notes: dict[str, None] = {}
    for name, series in zip(named, tiff.series, strict=False):
        kind = "" if series.dtype is None else series.dtype.name
        if _OME_TYPES.get(name, name) != kind:
            notes[f"its OME description says Type {name}, its pages are {kind}, which is taken"] = (
                None
            )
    return tuple(notes)


def _is_all_there(tiff: TiffFile) -> bool:
    """Tell whether the pages make up the shape in the description of tifffile.

    tifffile itself doubts that if other pages follow.
    """
    shapes = [data.get("shape") for data in tiff.shaped_metadata or ()]
    return [list(series.shape) for series in tiff.series[: len(shapes)]] == shapes


def _page(tiff: TiffFile, index: int) -> TiffPage:
    """Return a page with all its own tags; in a series, tifffile does not read them."""
    return cast("TiffPage", tiff.pages.get(index, aspage=True))


def _left_aside(links: Sequence[Link]) -> tuple[str, ...]:
    reduced = sum(link.reduced for link in links)
    masks = sum(link.aside and not link.reduced for link in links)
    below = sum(link.subimages for link in links)
    parts = [
        f"{number} {what}"
        for number, what in (
            (reduced, "reduced images"),
            (masks, "masks"),
            (below, "images in sub-directories"),
        )
        if number
    ]
    return (f"left aside of its pages: {', '.join(parts)}",) if parts else ()


def _of_series(
    tiff: TiffFile, series: TiffPageSeries, source: Source, reading: Reading
) -> tuple[list[Image], tuple[int, ...]]:
    """Return the images of a part of a file that describes its axes, and what counts them."""
    first, shape, names = series.keyframe, tuple(series.shape), series.axes
    page_axes = len(first.axes)
    if 0 in shape:
        raise ImageFileError(f"damaged: it holds no pixel; its shape is {shape}")
    if names[-page_axes:] != first.axes:
        raise ImageFileError(f"its axes are {names}, those of a page {first.axes}; save as pages")
    leading = names[:-page_axes]
    if first.axes == "YX" and leading and not leading.strip("QI"):
        axes = axes_of(shape, reading)  # only the shape is described, as in an array file
    elif first.axes == "YX" and "C" in leading:
        axes = Axes(shape, leading.index("C"))
    else:
        axes = Axes((*shape[:-page_axes], first.imagelength, first.imagewidth), None)
    planes = math.prod(shape[:-page_axes])
    one_page_has_all = len(series.pages) < planes

    def plane(index: int, number: int) -> Contents:
        if one_page_has_all:
            if series.dataoffset is None:
                raise ImageFileError(
                    "holds several images in one page; save them as pages, or as .npy"
                )
            return open_plane(first, series.dataoffset + index * first.nbytes, reading, number)
        page = series.pages[index]
        if page is None:
            raise ImageFileError(f"damaged: plane {index} of its description is not in the file")
        own = page.aspage() if len(page.treeindex) > 1 else _page(tiff, page.index)
        return open_page(own, source, reading, number)

    read = _reader(axes, plane)
    return [lambda i=i: read(i) for i in range(len(axes))], axes.leading  # type: ignore[misc]


def _reader(axes: Axes, plane: Callable[[int, int], Contents]) -> Callable[[int], Contents]:
    """Return a function that reads image i, from one that reads plane i.

    A plane is what the last two axes of the file hold. The second argument of `plane` is the
    number of planes that make up an image, all of which will be in memory at once.
    """
    counting = axes.shape[:-2]  # the axes that count planes
    numbers_of_planes = np.arange(math.prod(counting)).reshape(counting)
    channel = axes.channel
    # `planes_of` has a row for each image. Its planes are stacked along a new first axis, and
    # `channel_axis` is where the stack has the channels.
    if channel is None:
        planes_of, channel_axis = numbers_of_planes.reshape(-1, 1), 0
    elif channel < len(counting):  # each plane is a channel
        last = np.moveaxis(numbers_of_planes, channel, -1)
        planes_of, channel_axis = last.reshape(-1, counting[channel]), 0
    else:  # each plane holds the channels of one row of the image
        planes_of = numbers_of_planes.reshape(-1, counting[-1])
        channel_axis = channel - len(counting) + 1

    def read(index: int) -> Contents:
        numbers = planes_of[index].tolist()
        found = [plane(number, len(numbers)) for number in numbers]
        if channel is None:
            return found[0]
        if channel_axis and any(part.turned == "obeyed" for part in found):
            raise ImageFileError(
                "its channels lie one behind the other in each row, so that its orientation tag "
                "cannot be obeyed",
                "--orientation ignore takes the pixels as they are stored",
            )
        if any(part.pixels.shape != found[0].pixels.shape for part in found):
            raise ImageFileError("its planes are of different size, so that they are no channels")
        rasters = [part.pixels for part in found if isinstance(part.pixels, Raster)]
        if rasters and (len(rasters) < len(found) or channel_axis != 0):
            raise ImageFileError(
                "is too large for --memory, and its channels lie one behind the other in each row",
                "save it as pages, or with the channels last; or give a larger --memory",
            )
        if len(rasters) > 1:
            return found[0]._replace(pixels=cast("Array", stacked(rasters)))
        if rasters:
            return found[0]
        notes = tuple(dict.fromkeys(note for part in found for note in part.notes))
        pixels = np.moveaxis(np.stack([part.pixels for part in found]), channel_axis, -1)
        valid = None
        if any(part.valid is not None for part in found):
            everywhere = np.ones(found[0].pixels.shape, bool)
            masks = [everywhere if part.valid is None else part.valid for part in found]
            valid = np.asarray(np.stack(masks).all(axis=channel_axis))
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels)
        packings = [part.packing for part in found]
        return found[0]._replace(
            pixels=pixels,
            notes=notes,
            valid=valid,
            transparent=any(part.transparent for part in found),
            packing=packings[0] if len(set(packings)) == 1 else tuple(chain(*packings)),
        )

    return read


def write_stack(path: str, pages: Iterable[Array]) -> None:
    """Write pictures of red, green and blue as the pages of a TIFF file."""
    from tifffile import TiffWriter

    with TiffWriter(path, bigtiff=False) as file:
        for page in pages:
            file.write(page, photometric="rgb", compression="zlib", metadata=None)
