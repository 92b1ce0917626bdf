"""Images compared with stored references; what the fixture of the pytest plugin does."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imsim import COUNTS, METRICS, Count, DifferingPixels, Metric, differing_pixels, errors
from imsim._images import Reading, read_picture, write_png
from imsim._images.png import open_png
from imsim._images.reading import Source
from imsim.differing import places
from imsim.pages import pair_report, share
from imsim.pages.page import number
from imsim.tensors import as_numpy
from imsim.typing import Array, ImageLike, MaskLike
from imsim.validation import (
    check_capacity,
    check_channel_axis,
    check_data_range,
    check_number,
)
from imsim.whole_files import write_whole, writing_to

MOST_LETTERS = 100
"""Of the name of a test; further ones become part of a digest."""
SUFFIXES = (".png", ".npy")
"""Of references; both hold the pixels as they are."""
DPI = 100
"""Of figures of Matplotlib, whatever they have for the screen."""


class ImageMismatchError(AssertionError):
    """An image that does not meet its reference, or has none."""


def safe_name(text: str) -> str:
    """Make a name of a file that every file system takes, and that no other text gets.

    A text that is safe stays as it is. Else other characters become hyphens, a long end is left
    out, and a digest of the text tells it from others: "a/b" becomes "a-b~c14cddc0".
    """
    safe = re.sub(r"[^A-Za-z0-9_.,=+@\[\]-]+", "-", text)
    if safe == text and len(text) <= MOST_LETTERS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{safe[:MOST_LETTERS]}~{digest[:8]}"


class _Rule(NamedTuple):
    """What an image must meet: a metric, or a count of pixels, with its limit and options."""

    record: Metric | Count
    limit: float
    tolerance: float
    mask: MaskLike | None
    data_range: float | None

    @property
    def anti_aliasing(self) -> bool:
        """Whether pixels are counted by the rule of anti-aliasing."""
        return isinstance(self.record, Count) and self.record.anti_aliasing

    def differing(self, reference: Array, image: Array) -> DifferingPixels:
        """Find the pixels that differ, by more than the tolerance."""
        with errors.silent(errors.EmptyMaskWarning):
            return differing_pixels(
                *_without_shared_nan(reference, image),
                mask=self.mask,
                tolerance=self.tolerance,
                anti_aliasing=self.anti_aliasing,
                channel_axis=_channel_axis(image),
            )

    def problem(self, reference: Array, image: Array) -> str | None:
        """Say how an image misses the rule, or return None; both have channels last, if any."""
        found = self.differing(reference, image)
        if not found.used:
            raise errors.MaskError("mask uses no pixel, so that nothing is compared", "True = use")
        if isinstance(self.record, Count):
            score = float(getattr(found, self.record.attribute))
        else:
            options = {"mask": self.mask, "data_range": self.data_range}
            axis = _channel_axis(image)
            score = float(self.record.function(reference, image, channel_axis=axis, **options))
            check_capacity(self.data_range, image.dtype)
        higher = self.record.higher_is_better
        if score >= self.limit if higher else score <= self.limit:
            return None
        said = f"{found.count} of {found.used} pixels ({share(found.count, found.used)}) differ"
        said += f" by more than {number(self.tolerance)}" if self.tolerance else ""
        said += " also from their neighbours" if self.anti_aliasing else ""
        if found.parts:
            (top, bottom), (left, right) = found.boxes[0].tolist()
            said += (
                f", the largest part in rows {top}:{bottom} and columns {left}:{right}; "
                f"the largest difference is {number(found.largest)}"
            )
        if self.record is COUNTS["pixels"] and self.limit == 0:
            return said
        bound = f"at {'least' if higher else 'most'} {number(self.limit)}"
        why = "; NaN or infinite pixels can be left out by mask=" if math.isnan(score) else ""
        return f"{self.record.name} is {number(score)}, not {bound}{why}; {said}"


def _rule(
    metric: str | None,
    at_least: float | None,
    at_most: float | None,
    tolerance: float,
    mask: MaskLike | None,
    data_range: float | None,
) -> _Rule:
    """Check what the caller asks for."""
    check_number("tolerance", tolerance)
    if data_range is not None:  # the page of a failure needs it, whatever the rule
        check_data_range(data_range, (), None, np)
    if metric is None and at_least is None and at_most is None:
        return _Rule(COUNTS["pixels"], 0.0, tolerance, mask, data_range)
    name = metric if isinstance(metric, str) else ""
    record: Metric | Count | None = METRICS.get(name) or COUNTS.get(name)
    if record is None:
        raise errors.OptionError(
            f"metric={metric!r}", f"expected one of {', '.join([*METRICS, *COUNTS])}"
        )
    if tolerance and isinstance(record, Metric):
        raise errors.OptionError(
            f"tolerance={tolerance!r} with metric={metric!r}", "a tolerance is one for pixels"
        )
    wanted, other = ("at_least", "at_most")[:: 1 if record.higher_is_better else -1]
    limits = {"at_least": at_least, "at_most": at_most}
    if limits[wanted] is None or limits[other] is not None:
        better = "higher" if record.higher_is_better else "lower"
        raise errors.OptionError(
            f"of {metric}, {better} is better", f"pass {wanted}=, and no {other}="
        )
    limit = check_number(wanted, limits[wanted], -math.inf, math.inf)
    return _Rule(record, limit, tolerance, mask, data_range)


class ImageRegression:
    """Compares the images of one test with references; pytest makes it for ``image_regression``.

    Parameters
    ----------
    folder : Path
        Of the references.
    stem : str
        How their names begin.
    report : Path
        The folder for images that do not meet their references, and for pages.
    start : Path
        The folder in which pytest was called; paths are told from there.
    test : str
        The test, as pytest takes it there.
    update : bool
        Whether to write references in place of failing.
    written : callable
        Is told the path of each reference that is written.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        *,
        report: Path,
        start: Path,
        test: str,
        update: bool,
        written: Callable[[str], object],
    ) -> None:
        if report.resolve() == folder.resolve():
            raise errors.OptionError(
                f"the report would be written over the references in {folder}",
                "choose another folder, e.g. --imsim-report imsim-report",
            )
        self._folder, self._stem, self._report, self._start = folder, stem, report, start
        self._test, self._update, self._written = test, update, written
        self._used: set[str] = set()
        self._unnamed = 0

    def check(
        self,
        image: ImageLike,
        name: str | None = None,
        *,
        metric: str | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        tolerance: float = 0.0,
        mask: MaskLike | None = None,
        data_range: float | None = None,
        channel_axis: int | None = None,
    ) -> None:
        """Compare an image with its reference, by pixels or by a metric.

        Parameters
        ----------
        image : array_like, shape (height, width), or with a channel axis
            An array of any library, a PIL image or a figure of Matplotlib. A figure is drawn at
            100 dpi, laid over white where it is transparent.
        name : str, optional
            Of the reference, behind that of the test. Without it, further images of a test are
            numbered from 2.
        metric : str, optional
            A metric, see `imsim.METRICS`, or a count of pixels, see `imsim.COUNTS`. By default no
            pixel may differ by more than `tolerance`.
        at_least, at_most : float, optional
            The limit of the metric: `at_least` where higher is better, else `at_most`.
        tolerance : float
            The largest difference of a pixel that does not count.
        mask : array_like of bool, shape (height, width), optional
            True = use.
        data_range : float, optional
            Largest possible minus smallest possible value, see `imsim.compare`. The page of a
            failure needs it for every dtype but uint8 and bool.
        channel_axis : int, optional
            The axis of an array that holds channels; of PIL images and figures it is known.

        Raises
        ------
        ImageMismatchError
            If the image does not meet its reference, or has none, which is an `AssertionError`.
        ImsimError
            If an argument is wrong.

        Notes
        -----
        NaN equals NaN at the same place when pixels are compared.
        """
        __tracebackhide__ = True
        rule = _rule(metric, at_least, at_most, tolerance, mask, data_range)
        pixels = pixels_of(image, channel_axis)
        stem = self._next_stem(name)
        path = self._folder / (stem + _suffix(pixels))
        found, problem = None, "there is no such reference yet"
        for suffix in SUFFIXES:
            if (self._folder / (stem + suffix)).exists():
                path = self._folder / (stem + suffix)
                found, problem = _read(path)
        if found is not None:
            missed = _form_problem(found, pixels) or rule.problem(found, pixels)
            if missed is None:
                self._clear(stem)
                return
            problem = missed
        itself = rule.problem(pixels, pixels)
        if itself is not None:
            raise ImageMismatchError(
                f"{self._told(path)}: no reference can help: with itself, {itself}"
            )
        if self._update:
            self._write(stem, pixels)
            self._clear(stem)
            return
        lines = [f"{self._told(path)}: {problem}"]
        lines += self._reported(path, found, pixels, rule, problem)
        verb = "make" if found is None else "accept"
        lines.append(f"to {verb} it: python -m pytest {shlex.quote(self._test)} --imsim-update")
        raise ImageMismatchError("\n  ".join(lines))

    def _next_stem(self, name: str | None) -> str:
        if name is None:
            self._unnamed += 1
            stem = self._stem if self._unnamed == 1 else f"{self._stem}-{self._unnamed}"
        elif isinstance(name, str) and name:
            stem = f"{self._stem}-{safe_name(name)}"
        else:
            raise errors.OptionError(f"name={name!r}", "expected a text, or leave it out")
        if stem.casefold() in self._used:
            raise errors.OptionError(
                f"name={name!r}: the test has compared an image with the reference {stem}",
                "names must differ by more than the case of letters",
            )
        self._used.add(stem.casefold())
        return stem

    def _told(self, path: Path) -> str:
        return named_from(path, self._start)

    def _write(self, stem: str, pixels: Array) -> None:
        """Write a reference, and remove one of the other format."""
        path = self._folder / (stem + _suffix(pixels))
        with writing_to(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            _save(path, pixels)
            for suffix in SUFFIXES:
                if suffix != path.suffix:
                    (self._folder / (stem + suffix)).unlink(missing_ok=True)
        self._written(self._told(path))

    def _clear(self, stem: str) -> None:
        """Remove what an earlier failure left in the folder of reports."""
        for suffix in (*SUFFIXES, ".html"):
            with suppress(OSError):
                (self._report / (stem + suffix)).unlink(missing_ok=True)

    def _reported(
        self, reference: Path, found: Array | None, pixels: Array, rule: _Rule, problem: str
    ) -> list[str]:
        """Write the image and the page of a failure; return where they are, or why not."""
        stem = reference.stem
        self._clear(stem)
        path = self._report / (stem + _suffix(pixels))
        try:
            self._report.mkdir(parents=True, exist_ok=True)
            _save(path, pixels)
            lines = [f"the image: {self._told(path)}"]
            if found is None:
                return lines
            try:
                html = _page(found, pixels, rule, (self._told(reference), self._test), problem)
            except errors.ImsimError as error:
                return [*lines, f"no page: {error}"]
            path = path.with_name(stem + ".html")
            write_whole(path, html.encode("utf-8"))
            return [f"the page: {self._told(path)}", *lines]
        except (OSError, errors.ImsimError) as error:
            return [f"no page: {error}; choose another folder with --imsim-report DIR"]


def _suffix(pixels: Array) -> str:
    """Choose the format that gives the pixels back: PNG for the usual ones, else .npy."""
    grey = pixels.ndim == 2 and pixels.dtype in (np.bool_, np.uint8, np.uint16)
    colour = pixels.dtype == np.uint8 and pixels.shape[2:] == (3,)
    return SUFFIXES[0] if grey or colour else SUFFIXES[1]


def _save(path: Path, pixels: Array) -> None:
    content = io.BytesIO()
    if path.suffix == ".npy":
        np.save(content, pixels, allow_pickle=False)
    else:
        write_png(content, pixels)
    write_whole(path, content.getvalue())


def _read(path: Path) -> tuple[Array | None, str]:
    """Return the pixels of a reference, or say why they cannot be had."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                pixels = np.lib.format.read_array(file, allow_pickle=False)
            pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        else:
            pixels = read_picture(str(path)).pixels
    except Exception as error:  # NumPy raises half a dozen others for damaged files
        return None, f"cannot be read: {error}"
    if pixels.ndim not in (2, 3):
        return None, f"holds no image, but an array of shape {pixels.shape}"
    return pixels, ""


def _form_problem(reference: Array, image: Array) -> str | None:
    """Say how sizes, channels or types differ."""
    forms = []
    for pixels in (image, reference):
        height, width, *channels = pixels.shape
        kind = f"{channels[0]} channels" if channels else "no channels"
        forms.append(f"{width}x{height}, {pixels.dtype}, {kind}")
    return None if forms[0] == forms[1] else f"the image is {forms[0]}, its reference {forms[1]}"


def _without_shared_nan(reference: Array, image: Array) -> tuple[Array, Array]:
    """Put 0 where both are NaN, which is no difference."""
    if image.dtype.kind != "f":
        return reference, image
    both = np.isnan(reference) & np.isnan(image)
    return np.where(both, 0, reference), np.where(both, 0, image)


def _page(reference: Array, image: Array, rule: _Rule, names: tuple[str, str], problem: str) -> str:
    """Show a failure, with the metric that the test asks for: others would have to be compiled."""
    fits = _form_problem(reference, image) is None
    with errors.silent(errors.EmptyMaskWarning, errors.DataRangeWarning, errors.ChannelAxisWarning):
        return pair_report(
            reference,
            image,
            mask=rule.mask,
            data_range=rule.data_range,
            channel_axis=_channel_axis(image),
            metrics=[rule.record.name] if isinstance(rule.record, Metric) else [],
            names=names,
            reasons=[problem],
            boxes=places(rule.differing(reference, image)) if fits else (),
        )


def _channel_axis(image: Array) -> int | None:
    return -1 if image.ndim == 3 else None


def named_from(path: Path, start: Path) -> str:
    """Name a file from a folder, if they are on the same drive."""
    with suppress(ValueError):
        return os.path.relpath(path, start)
    return str(path)


def pixels_of(image: ImageLike, channel_axis: int | None = None) -> Array:
    """Return one image as a NumPy array with its channels last; draw a figure of Matplotlib."""
    drawn = _drawn(image)
    if drawn is not None:
        return drawn
    pixels = as_numpy("image", image)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if channel_axis is None and hasattr(image, "getbands") and len(image.getbands()) > 1:
        channel_axis = -1  # of a PIL image
    check_channel_axis(channel_axis)
    if channel_axis is not None and pixels.ndim != 3:
        raise errors.ShapeError(
            f"image has shape {pixels.shape}, and channel_axis={channel_axis!r}",
            "expected three axes, one of them that of channels, or no channel_axis",
        )
    if pixels.ndim != (2 if channel_axis is None else 3) or not pixels.size:
        raise errors.ShapeError(
            f"image has shape {pixels.shape}",
            "expected (height, width): name the axis that holds channels, e.g. channel_axis=-1, "
            "and check the images of a stack one by one",
        )
    if channel_axis is None:
        return pixels
    if channel_axis not in range(-3, 3):
        raise errors.OptionError(f"channel_axis={channel_axis!r}", "expected an axis, from -3 to 2")
    return np.moveaxis(pixels, channel_axis, -1)


def _drawn(image: Any) -> Array | None:
    """Draw a figure, or that of axes; nobody can have one who has not imported Matplotlib."""
    figures = sys.modules.get("matplotlib.figure")
    if figures is None:
        return None
    if isinstance(image, sys.modules["matplotlib.artist"].Artist):
        while (above := image.figure) not in (None, image):  # a sub-figure, or the figure
            image = above
    if not isinstance(image, figures.Figure):
        return None
    content = io.BytesIO()
    # As PNG, a figure is drawn by Agg, whatever canvas it has.
    image.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return open_png(Source("figure", content.getvalue()), Reading()).read(0).pixels
