"""The pairs of images of a run, opened file after file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

from imsim._images import ImageFile, ImageFileError, Picture, Reading, as_mask, widened
from imsim.cli.pairing import Failure, FilePair, Pairing
from imsim.errors import ImsimError

Array = np.ndarray[Any, Any]
S = TypeVar("S", bound="Shared")


class Mask(NamedTuple):
    """A mask and where it came from."""

    picture: Picture
    pixels: Array


class Job(NamedTuple):
    """One pair of images to score."""

    reference: str
    test: str
    name: str
    stem: str
    read: Callable[[], tuple[Picture, Picture, Mask | None]]
    """Reads reference, test and mask as the files have them."""
    close: Callable[[], None]


class Shared:
    """A file that takes part in many pairs; if it holds one image, that is read once."""

    def __init__(self, path: str, reading: Reading) -> None:
        self.file = ImageFile(path, reading)
        self.picture = None
        if len(self.file) == 1:
            with self.file:
                self.picture = self.file.read(0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is said once, not for every pair."""
        return self.picture.notes if self.picture else ()

    def read(self, index: int) -> Picture:
        """Read an image, or return the only one."""
        return self.file.read(index) if self.picture is None else self.picture


class SharedMask(Shared):
    """A mask, or a stack of masks, for many pairs."""

    def __init__(self, path: str, reading: Reading) -> None:
        super().__init__(path, reading)
        self.mask = None if self.picture is None else _as_mask(self.picture)


class Jobs:
    """The pairs of images of a run; used in a ``with`` statement, it leaves no file open.

    Parameters
    ----------
    found : Pairing
        The files.
    reading : Reading
        How they are read.

    Raises
    ------
    ImageFileError
        If a file that every pair needs cannot be read.
    """

    def __init__(self, found: Pairing, reading: Reading) -> None:
        self._pairs = found.pairs
        self._reading = reading
        self._open: set[ImageFile] = set()
        self.reference = self._shared(Shared, found.reference)
        self.mask = self._shared(SharedMask, found.mask)

    def _shared(self, kind: type[S], path: str | None) -> S | None:
        if path is None:
            return None
        shared = kind(path, self._reading)
        self._open.add(shared.file)
        return shared

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(list(self._open))

    def each(self, bar: Any = None) -> Iterator[Job | Failure]:
        """Yield a job for each pair of images, or why there is none.

        Parameters
        ----------
        bar : tqdm.tqdm, optional
            Its total, which counts files, is raised by the further images of each.
        """
        for pair in self._pairs:
            own: list[ImageFile] = []
            try:
                test = self._opened(pair.test, own)
                reference = self.reference or self._opened(pair.reference, own)
                mask = self.mask or (self._opened(pair.mask, own) if pair.mask else None)
                _check_counts(test, reference, mask)
            except ImsimError as error:
                self._close(own)
                yield Failure(str(error), pair.reference, pair.test)
                continue
            if bar is not None:
                bar.total += len(test) - 1
            yield from _jobs_of(pair, test, reference, mask, lambda own=own: self._close(own))  # type: ignore[misc]

    def _opened(self, path: str, own: list[ImageFile]) -> ImageFile:
        own.append(file := ImageFile(path, self._reading))
        self._open.add(file)
        return file

    def _close(self, files: list[ImageFile]) -> None:
        for file in files:
            file.close()
        self._open.difference_update(files)


def _jobs_of(
    pair: FilePair,
    test: ImageFile,
    reference: Shared | ImageFile,
    mask: SharedMask | ImageFile | None,
    close: Callable[[], None],
) -> Iterator[Job]:
    def read(index: int) -> tuple[Picture, Picture, Mask | None]:
        first, second = reference.read(_index(reference, index)), test.read(index)
        return first, second, None if mask is None else _mask(mask, index, first)

    digits = len(str(len(test) - 1))
    for index in range(len(test)):
        one = len(test) == 1
        yield Job(
            _file(reference).label(_index(reference, index)),
            test.label(index),
            pair.name if one else f"{pair.name}[{index}]",
            pair.stem if one else f"{pair.stem}_{index:0{digits}}",
            lambda index=index: read(index),  # type: ignore[misc]
            close if index == len(test) - 1 else lambda: None,
        )


def _file(file: Shared | ImageFile) -> ImageFile:
    return file.file if isinstance(file, Shared) else file


def _index(file: Shared | ImageFile, index: int) -> int:
    return 0 if len(_file(file)) == 1 else index


def _check_counts(test: ImageFile, *others: Shared | ImageFile | None) -> None:
    for other in others:
        if other is not None and len(_file(other)) not in (1, len(test)):
            file = _file(other)
            raise ImageFileError(
                f"{test.path}: number of images: {len(test)}, but {file.path} holds {len(file)}; "
                f"expected {len(test)}, or one for all"
            )


def _as_mask(picture: Picture) -> Mask:
    return Mask(picture, as_mask(picture))


def _mask(file: SharedMask | ImageFile, index: int, reference: Picture) -> Mask:
    mask = file.mask if isinstance(file, SharedMask) else None
    mask = mask or _as_mask(file.read(_index(file, index)))
    check_mask_size(mask.pixels, mask.picture.path, reference)
    return mask


def check_mask_size(mask: Array, path: str, reference: Picture) -> None:
    """Refuse a mask of another size than the reference."""
    if mask.shape != reference.pixels.shape[:2]:
        height, width = mask.shape
        raise ImageFileError(
            f"{path}: the mask is {width} x {height} pixels, but {reference.path} "
            f"is {reference}; they must have the same size"
        )


def alike(reference: Picture, test: Picture) -> tuple[Picture, Picture]:
    """Widen one picture to the type of the other where that loses nothing.

    Raises
    ------
    ImageFileError
        If they still differ in size or type, instead of a misleading score.
    """
    reference, test = widened(reference, test)
    a, b = reference.pixels, test.pixels
    if a.shape == b.shape and a.dtype == b.dtype:
        return reference, test
    if a.shape[:2] != b.shape[:2]:
        remedy = "crop or resample one of them" + _turned(reference, test)
    elif a.shape != b.shape:
        remedy = "convert one of them, so that both are grey or both have the same channels"
    else:
        remedy = "save both with the same number of bits"
    raise ImageFileError(f"{test.path}: is {test}, but {reference.path} is {reference}; {remedy}")


def _turned(*pictures: Picture) -> str:
    """Say which of two pictures of other sizes may lie on its side."""
    (height, width), size = (picture.pixels.shape[:2] for picture in pictures)
    paths = [picture.path for picture in pictures if picture.turned]
    if (width, height) != size or not paths:
        return ""
    return (
        f". Height and width are exchanged: the cause is likely the orientation tag of "
        f"{' and '.join(paths)}, which is not obeyed; turn the pixels themselves"
    )
