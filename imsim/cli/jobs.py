"""The pairs of images of a run, opened file after file, and which of them are left to score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from imsim._images import ImageFile, ImageFileError, Picture, Reading
from imsim._images.raster import is_raster
from imsim.cli.pairing import Failure, FilePair, Pairing
from imsim.cli.reading import (
    Mask,
    check_mask_size,
    mask_of,
)
from imsim.errors import ImsimError


class Job(NamedTuple):
    """One pair of images to score."""

    reference: str
    test: str
    name: str
    stem: str
    path: str
    """Of the test file below the folder that was named, without the ending."""
    read: Callable[[], tuple[Picture, Picture, Mask | None, Picture | None]]
    """Reads reference, test, mask and labels as the files have them."""
    close: Callable[[], None]


class Shared:
    """A file that takes part in many pairs; if it holds one image, that is read once."""

    def __init__(self, path: str, reading: Reading) -> None:
        self.file = ImageFile(path, reading)
        self.picture = None
        if len(self.file) == 1:
            try:
                self.picture = self.file.read(0)
            finally:
                if self.picture is None or not is_raster(self.picture.pixels):
                    self.file.close()

    @cached_property
    def mask(self) -> Mask | None:
        """The only image as a mask."""
        return None if self.picture is None else mask_of(self.picture)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is said once, not for every pair."""
        return self.picture.notes if self.picture else ()

    def read(self, index: int) -> Picture:
        """Read an image, or return the only one."""
        return self.file.read(index) if self.picture is None else self.picture


class Jobs:
    """The pairs of images of a run; used in a ``with`` statement, it leaves no file open."""

    def __init__(self, found: Pairing, reading: Reading, labels: str | None = None) -> None:
        self._pairs = found.pairs
        self._reading = replace(reading, clear_is_no_data=False)
        self._of_references = reading
        self._open: set[ImageFile] = set()
        self.reference = self._shared(found.reference, reading)
        self.mask = self._shared(found.mask, self._reading)
        if self.mask:
            _ = self.mask.mask  # one that is none is refused here, not for every pair
        self.labels = self._shared(labels, replace(self._reading, as_stored=True))

    def _shared(self, path: str | None, reading: Reading) -> Shared | None:
        if path is None:
            return None
        shared = Shared(path, reading)
        self._open.add(shared.file)
        return shared

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(list(self._open))

    def each(self, bar: Any = None) -> Iterator[Job | Failure]:
        """Yield a job for each pair of images, or why there is none.

        The total of the bar, which counts files, is raised by the further images of each.
        """

        def every(number: int) -> range:
            if bar is not None:
                bar.total += number - 1
            return range(number)

        for pair in self._pairs:
            yield from self.of(pair, every)

    def of(self, pair: FilePair, choose: Callable[[int], Sequence[int]]) -> Iterator[Job | Failure]:
        """Yield a job for images of a pair of files, or why there is none.

        `choose` gets the number of images, and returns the indices of those that are wanted.
        """
        own: list[ImageFile] = []
        try:
            test = self._opened(pair.test, own)
            reference = self.reference or self._opened(pair.reference, own, self._of_references)
            mask = self.mask or (self._opened(pair.mask, own) if pair.mask else None)
            _check_counts(test, reference, mask, self.labels)
        except ImsimError as error:
            self._close(own)
            yield Failure(str(error), pair.reference, pair.test)
            return
        indices = choose(len(test))
        if not indices:
            self._close(own)
        files = (test, reference, mask, self.labels)
        yield from _jobs_of(pair, *files, indices, lambda: self._close(own))

    def _opened(self, path: str, own: list[ImageFile], reading: Reading | None = None) -> ImageFile:
        own.append(file := ImageFile(path, reading or self._reading))
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
    mask: Shared | ImageFile | None,
    labels: Shared | None,
    indices: Sequence[int],
    close: Callable[[], None],
) -> Iterator[Job]:
    def read(index: int) -> tuple[Picture, Picture, Mask | None, Picture | None]:
        first, second = reference.read(_index(reference, index)), test.read(index)
        own_mask = None if mask is None else _mask(mask, index, first)
        own_labels = None if labels is None else labels.read(_index(labels, index))
        return first, second, own_mask, own_labels

    digits = len(str(len(test) - 1))
    for index in indices:
        one = len(test) == 1
        yield Job(
            _file(reference).label(_index(reference, index)),
            test.label(index),
            pair.name if one else f"{pair.name}[{index}]",
            pair.stem if one else f"{pair.stem}_{index:0{digits}}",
            pair.path,
            lambda index=index: read(index),  # type: ignore[misc]
            close if index == indices[-1] else lambda: None,
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


def _mask(file: Shared | ImageFile, index: int, reference: Picture) -> Mask:
    mask = file.mask if isinstance(file, Shared) else None
    mask = mask or mask_of(file.read(_index(file, index)))
    check_mask_size(mask.pixels, mask.picture.path, reference)
    return mask


def left(
    work: Iterable[Job | Failure],
    done: set[tuple[str, str]] | frozenset[tuple[str, str]],
    contested: Mapping[str, str],
    skipped: Callable[[], object],
) -> Iterator[Job | Failure]:
    """Leave out the images whose rows are there from an earlier run, or whose maps clash."""
    for item in work:
        owner = contested.get(item.stem, item.test) if isinstance(item, Job) else None
        if isinstance(item, Job) and owner != item.test:
            item.close()
            yield Failure(
                f"{item.test}: its maps would be called {item.stem}, like those of {owner}; "
                "rename one of the files",
                item.reference,
                item.test,
            )
        elif isinstance(item, Job) and (item.reference, item.test) in done:
            item.close()
            skipped()
        else:
            yield item


def contested_stems(pairs: Iterable[FilePair], reading: Reading) -> dict[str, str]:
    """Return the image that has the maps of a stem, where two images ask for it.

    Image 0 of a stack ``a`` asks for that of a file ``a_0``. Only files that may be such stacks
    are opened.
    """
    order = {pair.stem: place for place, pair in enumerate(pairs)}
    by_stem = {pair.stem: pair for pair in pairs}
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for stem, pair in by_stem.items():
        head, _, digits = stem.rpartition("_")
        if not (digits.isdecimal() and head in by_stem):
            continue
        for one in (head, stem):
            if one not in counts:
                counts[one] = _count(by_stem[one].test, reading)
        number = counts[head]
        is_asked_for = number > 1 and int(digits) < number
        if is_asked_for and len(digits) == len(str(number - 1)) and counts[stem] == 1:
            first = min(stem, head, key=order.__getitem__)
            image = f"{by_stem[head].test}[{int(digits)}]"
            found[stem] = pair.test if first == stem else image
    return found


def _count(path: str, reading: Reading) -> int:
    try:
        with ImageFile(path, reading) as file:
            return len(file)
    except ImsimError:
        return 1  # it has no maps
