"""Grey images for the anomaly workflow, out of folders, files and stacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np

from imsim._images import ImageFile, ImageFileError, Picture
from imsim.cli.folders import NO_IMAGE, Folder
from imsim.cli.summary import Notes
from imsim.cli.terminal import progress, say
from imsim.errors import ImsimError

Array = np.ndarray[Any, Any]


class Pictures:
    """The grey images of files and folders; what cannot be used is named, counted and skipped.

    Parameters
    ----------
    paths : iterable of str
        Files of one image or many, and folders.

    Attributes
    ----------
    failures : int
        How many files or images were skipped so far.
    notes : Notes
        What was left aside or converted while reading.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = list(paths)
        self.failures = 0
        self.notes = Notes()
        self.files: list[str] = []
        left_aside: list[str] = []
        for path in self.paths:
            if os.path.isdir(path):
                folder = Folder(path, left_aside)
                self.files += map(folder.path, folder.names)
                for place, reason in folder.unread:
                    self.fail(f"{place}: {reason}")
                for odd in folder.odd:
                    self.fail(f"{odd}: is no file but a pipe or a device")
                if not folder.names:
                    self.fail(f"{path}: {NO_IMAGE}")
            else:
                self.files.append(path)
        if left_aside:
            say(f"note: files of other kinds left aside: {len(left_aside)}, e.g. {left_aside[0]}")

    def fail(self, message: str) -> None:
        """Name and count what cannot be used."""
        self.failures += 1
        say(f"error: {message}")

    def each(self, skip: Callable[[str], bool] = lambda label: False) -> Iterator[Picture]:
        """Yield image after image, but for those whose labels are to be skipped."""
        with progress(len(self.files), "file") as bar:
            for path in self.files:
                try:
                    with ImageFile(path) as file:
                        for index in range(len(file)):
                            if not skip(file.label(index)):
                                yield from self._read(file, index)
                except ImsimError as error:
                    self.fail(str(error))
                if bar is not None:
                    bar.update()

    def first(self, labels: Collection[str]) -> Picture | None:
        """Return the first image that can be read and has one of these labels."""
        files = {*labels, *(label.rpartition("[")[0] for label in labels)}
        for path in self.files:
            if path not in files:
                continue
            try:
                with ImageFile(path) as file:
                    for index in range(len(file)):
                        if file.label(index) in labels:
                            return file.read(index)
            except ImsimError:
                continue  # said when its turn comes
        return None

    def _read(self, file: ImageFile, index: int) -> Iterator[Picture]:
        try:
            picture = file.read(index)
            if picture.pixels.ndim != 2:
                raise ImageFileError(
                    f"{picture.path}: has {picture.pixels.shape[-1]} channels; convert it to grey"
                )
        except ImsimError as error:
            self.fail(str(error))
        else:
            for note in picture.notes:
                self.notes.add(note, picture.path)
            yield picture


def stacked(pictures: Pictures) -> tuple[list[str], Array]:
    """Read all images into one array; those unlike the first are named, counted and skipped.

    Returns
    -------
    labels : list of str
        The names of the images.
    images : numpy.ndarray, shape (n, height, width)
        In the type of the files.

    Raises
    ------
    ImageFileError
        If there is no image.
    """
    labels, images = [], []
    first: Picture | None = None
    for picture in pictures.each():
        first = first or picture
        if alike(picture, first):
            labels.append(picture.path)
            images.append(picture.pixels)
        else:
            pictures.fail(
                f"{picture.path}: is {picture}, but {first.path} is {first}; they must be alike"
            )
    if first is None:
        raise ImageFileError(f"{', '.join(pictures.paths)}: no image that could be read")
    return labels, np.stack(images)


def batches(pictures: Iterable[Picture], size: int) -> Iterator[tuple[list[str], Array]]:
    """Yield labels and images of neighbours that fit into one array, at most `size` at a time."""
    waiting: list[Picture] = []
    for picture in pictures:
        if waiting and (len(waiting) == size or not alike(picture, waiting[0])):
            yield [p.path for p in waiting], np.stack([p.pixels for p in waiting])
            waiting = []
        waiting.append(picture)
    if waiting:
        yield [p.path for p in waiting], np.stack([p.pixels for p in waiting])


def alike(one: Picture, other: Picture) -> bool:
    """Tell whether two images have the same size and type."""
    a, b = one.pixels, other.pixels
    return a.shape == b.shape and bool(a.dtype == b.dtype)
