"""Detectors, and the grey images for them out of folders, files and stacks."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from imsim._images import (
    Array,
    ImageFile,
    ImageFileError,
    Picture,
    Reading,
    file_of,
    read_picture,
    why_not_read,
    without_index,
)
from imsim.cli.outputs import Notes, progress, say, say_of
from imsim.cli.pairing import NO_IMAGE, Folder
from imsim.errors import ImsimError, OptionError

if TYPE_CHECKING:
    from imsim.anomaly import AnomalyDetector, ItemDetector

IMAGES = """\
Images are grey: PNG, JPEG, TIFF (each page) and whatever else `imsim compare`
reads, .npy or .npz of shape (images, height, width), and folders of these."""
SKIPPED = """\
A file that cannot be read, or an image unlike the others, is named, counted
and skipped; the exit status is then 2."""
OTHER = (
    "is an image with an ending that is not looked for in a folder: save it as PNG or TIFF, or "
    "move it elsewhere"
)


def add_fields(parser: argparse.ArgumentParser) -> None:
    """Add the options on the flat field and the dark image."""
    parser.add_argument(
        "--flat",
        metavar="F",
        help="image of the open beam; the images are then raw counts and become transmission",
    )
    parser.add_argument("--dark", metavar="D", help="image without any beam, to go with --flat")


class Unusable(NamedTuple):
    """A file or an image that cannot be used."""

    path: str
    reason: str


class KeptNotes(Notes):
    """Keeps the notes on images, to be said elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def add(self, note: str, name: str) -> None:
        """Keep a note on an image."""
        self.found.append((note, name))


class Pictures:
    """The grey images of files and folders; what cannot be used is named, counted and skipped.

    Relative paths begin in the folder `base`.
    """

    def __init__(self, paths: Iterable[str], base: str = "") -> None:
        self.paths = list(paths)
        self.failures = 0
        self.notes = Notes()
        # One for all, which keeps what came out of pipes.
        self._reading = Reading(folder=base, grey=True)
        self.files: list[str] = []
        self.odd: list[Unusable] = []  # what is there beside them and cannot be used
        left_aside: list[str] = []
        for path in self.paths:
            if os.path.isdir(path):
                folder = Folder(path)
                left_aside += folder.left_aside
                self.files += map(folder.path, folder.names)
                self.odd += [Unusable(*unread) for unread in folder.unread]
                self.odd += [Unusable(o, "is no file but a pipe or a device") for o in folder.odd]
                if not folder.names:
                    self.odd.append(Unusable(path, NO_IMAGE))
            else:
                self.files.append(path)
        others = []
        for path in left_aside:
            if why_not_read(path):
                self.odd.append(Unusable(path, OTHER))
            else:
                others.append(path)
        say_of(others, "files of other kinds left aside")

    def fail(self, failure: Unusable) -> None:
        """Name and count what cannot be used."""
        self.failures += 1
        say(f"error: {failure.path}: {failure.reason}")

    def take_once(self) -> None:
        """Leave aside files that are there under two names, through links or nested folders."""
        first: dict[object, str] = {}
        twice = []
        for path in self.files:
            file = _identity(path)
            if file in first:
                twice.append(path)
            first.setdefault(file, path)
        self.files = list(first.values())
        say_of(twice, "files that are there twice, taken once")

    def each(
        self, skip: Callable[[str], bool] = lambda label: False
    ) -> Iterator[Picture | Unusable]:
        """Yield image after image, or why there is none, but for labels that are to be skipped."""
        yield from (failure for failure in self.odd if not skip(failure.path))
        with progress(len(self.files), "file") as bar:
            for path in self.files:
                if not skip(path):
                    yield from self.each_of(path, skip)
                bar.update()

    def each_of(
        self,
        path: str,
        skip: Callable[[str], bool] = lambda label: False,
        choose: Callable[[int], Iterable[int]] = range,
    ) -> Iterator[Picture | Unusable]:
        """Yield the images of a file, or those of the indices chosen by the number of them."""
        try:
            file = ImageFile(path, self._reading)
        except Exception as error:  # whatever is wrong with one file does not end the run
            yield _unusable(path, error)
            return
        with file:
            for index in choose(len(file)):
                if skip(label := file.label(index)):
                    continue
                try:
                    picture = _grey(file.read(index))
                except Exception as error:
                    yield _unusable(label, error)
                    continue
                for note in picture.notes:
                    self.notes.add(note, label)
                yield picture

    def chosen(self, labels: Collection[str]) -> Iterator[Picture | Unusable]:
        """Yield the images that have one of these labels."""
        files = {*labels, *(without_index(label)[0] for label in labels)}
        for path in self.files:
            if path in files:
                yield from self.each_of(path, lambda label: label not in labels)


def _grey(picture: Picture) -> Picture:
    """Refuse what a detector cannot inspect as a whole."""
    if picture.pixels.ndim != 2:
        channels = picture.pixels.shape[-1]
        raise ImageFileError(f"has {channels} channels", "convert it to grey", image=picture.path)
    valid = picture.valid
    if valid is not None and not valid.all():
        missing = np.count_nonzero(~valid)
        raise ImageFileError(
            f"holds no data at {missing} of {valid.size} pixels", image=picture.path
        )
    return picture


def _unusable(label: str, error: Exception) -> Unusable:
    if isinstance(error, ImageFileError) and error.image == label:
        return Unusable(label, error.reason)
    return Unusable(label, reason_of(error, "read"))


def reason_of(error: Exception, done: str) -> str:
    """Return why something could not be done with an image, such as "scored"."""
    return str(error) if isinstance(error, ImsimError) else f"cannot be {done}: {error!r}"


def refuse_shared(good: Pictures, bad: Pictures) -> None:
    """Refuse files that are among the good ones and among the bad ones, by whatever names."""
    known: dict[object, list[tuple[str, str]]] = {}
    for path in good.files:
        file, chosen = _identity(path)
        known.setdefault(file, []).append((chosen, path))
    for path in bad.files:
        file, chosen = _identity(path)
        for other, name in known.get(file, []):
            short, long = sorted((chosen, other), key=len)
            if long.startswith(short) and (not short or long[len(short) :][:1] in ("", "[")):
                raise ImageFileError(
                    f"{path}: is among the bad images, but also among the good ones"
                    + ("" if name == path else f", as {name}")
                )


def refuse_equal(good: tuple[list[str], Array], bad: tuple[list[str], Array]) -> None:
    """Refuse images of equal pixels among the good ones and among the bad ones, such as copies."""
    from imsim.anomaly.preparation import digests_of

    known = {key.tobytes(): name for name, key in zip(good[0], digests_of(good[1]), strict=True)}
    for name, key in zip(bad[0], digests_of(bad[1]), strict=True):
        if key.tobytes() in known:
            raise ImageFileError(
                f"{name}: is among the bad images, but also among the good ones, whose "
                f"{known[key.tobytes()]} has the same pixels; take it from one of the two"
            )


def _identity(path: str) -> tuple[object, str]:
    """Return what tells a file from others, and what of it is chosen: ``[i]``, ``:NAME``."""
    file = file_of(path)
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return path, ""
    return (found.st_dev, found.st_ino), path[len(file) :]


def stacked(pictures: Pictures) -> tuple[list[str], Array]:
    """Read names and images, in one array; those unlike most others are named and skipped."""
    read = list(pictures.each())
    forms = Counter(form for form in map(_form, read) if form is not None)
    usual = forms.most_common(1)[0][0] if forms else None
    alike = [p for p in read if isinstance(p, Picture) and _form(p) == usual]
    for picture in read:
        if isinstance(picture, Unusable):
            pictures.fail(picture)
        elif _form(picture) != usual:
            reason = f"is {picture}, but {alike[0].path} is {alike[0]}; they must be alike"
            pictures.fail(Unusable(picture.path, reason))
    if not alike:
        raise ImageFileError(f"{', '.join(pictures.paths)}: no image that could be read")
    return [picture.path for picture in alike], np.stack([picture.pixels for picture in alike])


def batches(
    pictures: Iterable[Picture | Unusable], size: int
) -> Iterator[list[Picture] | Unusable]:
    """Yield neighbours that fit into one array, at most `size` at a time; failures alone."""
    for form, group in groupby(pictures, _form):
        if form is None:
            yield from cast("Iterator[Unusable]", group)
        while batch := cast("list[Picture]", list(islice(group, size))):
            yield batch


def _form(picture: Picture | Unusable) -> tuple[object, object] | None:
    """Return the size and type of an image: those of one form fit into one array."""
    if isinstance(picture, Unusable):
        return None
    return picture.pixels.shape, picture.pixels.dtype


def load_any(path: str) -> AnomalyDetector | ItemDetector:
    """Load a detector of whole images or of items, whatever the file holds."""
    from imsim.anomaly import AnomalyDetector, ItemDetector, storage

    kind = ItemDetector if storage.kind_of(path) == "ItemDetector" else AnomalyDetector
    try:
        return kind.load(path)
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror or error}") from error


def load(path: str) -> AnomalyDetector:
    """Load a detector of whole images; refuse one of items."""
    from imsim.anomaly import ItemDetector

    model = load_any(path)
    if isinstance(model, ItemDetector):
        raise OptionError(
            f"{path}: is a model of items, of `imsim anomaly train --items`; `imsim anomaly score` "
            "and `imsim anomaly watch` take it"
        )
    return model


def digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def field_files(arguments: argparse.Namespace) -> list[str]:
    """Return the files of the flat field and the dark image, as far as they are given."""
    return [path for path in (arguments.flat, arguments.dark) if path]


class Correction:
    """Makes transmission of raw counts, with a flat field; other pixels stay as they are."""

    def __init__(self, arguments: argparse.Namespace, tell: Callable[[str], None] = say) -> None:
        if arguments.dark and not arguments.flat:
            raise OptionError("--dark: is of use with --flat only; give both")
        self._fields = []
        for path in field_files(arguments):
            field = read_picture(path)
            self._fields.append(field.pixels)
            for note in field.notes:
                tell(f"note: {path}: {note}")

    def __call__(self, images: Array) -> Array:
        """Return images for a detector."""
        from imsim.anomaly import xray

        return xray.correct(images, *self._fields) if self._fields else images


def status(pictures: Pictures) -> int:
    """Say how many files or images could not be used, and return the exit status."""
    pictures.notes.end()
    if pictures.failures:
        say(f"error: {pictures.failures} could not be used; they are named above")
    return 2 if pictures.failures else 0
