"""The pairs of images of a run, opened file after file, and which of them are left to score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

from imsim._images import ImageFile, ImageFileError, Picture, Reading
from imsim._images.raster import is_raster
from imsim.cli.outputs import NO_BAR
from imsim.cli.pairing import Failure, FilePair, Pairing
from imsim.cli.reading import Files, check_size, mask_of
from imsim.errors import ImsimError


class Job(NamedTuple):
    """One pair of images to score."""

    reference: str
    test: str
    name: str
    stem: str
    path: str
    """Of the test file below the folder that was named, without the ending."""
    read: Callable[[], Files]
    """Reads them as the files have them."""
    close: Callable[[], None]


class Images:
    """A file of one image for all pairs, or of one for each; if it is shared, one is read once."""

    def __init__(self, path: str, reading: Reading, *, is_shared: bool = False) -> None:
        self.file = ImageFile(path, reading)
        self.picture: Picture | None = None
        if is_shared and len(self.file) == 1:
            try:
                self.picture = self.file.read(0)
            finally:
                if self.picture is None or not is_raster(self.picture.pixels):
                    self.file.close()

    @cached_property
    def mask(self) -> Picture | None:
        """The image that is kept, as a mask."""
        return None if self.picture is None else mask_of(self.picture)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is said once, not for every pair."""
        return self.picture.notes if self.picture else ()

    def _index(self, index: int) -> int:
        return 0 if len(self.file) == 1 else index

    def label(self, index: int) -> str:
        """Name an image, or the only one."""
        return self.file.label(self._index(index))

    def read(self, index: int) -> Picture:
        """Read an image, or return the only one."""
        return self.picture or self.file.read(self._index(index))


class Jobs:
    """The pairs of images of a run; used in a ``with`` statement, it leaves no file open."""

    def __init__(self, found: Pairing, reading: Reading, labels: str | None = None) -> None:
        self.found, self.reading = found, reading
        self._reading = replace(reading, clear_is_no_data=False)  # of all but references
        self._open: set[ImageFile] = set()
        self.reference = self._shared(found.reference, reading)
        self.mask = self._shared(found.mask, self._reading)
        if self.mask:
            _ = self.mask.mask  # one that is none is refused here, not for every pair
        self.labels = self._shared(labels, replace(self._reading, as_stored=True))

    def _shared(self, path: str | None, reading: Reading) -> Images | None:
        if path is None:
            return None
        shared = Images(path, reading, is_shared=True)
        self._open.add(shared.file)
        return shared

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(list(self._open))

    def each(self, bar: Any = NO_BAR) -> Iterator[Job | Failure]:
        """Yield a job for each pair of images, or why there is none; the bar gets its total."""

        def every(number: int) -> range:
            bar.total += number - 1
            return range(number)

        for pair in self.found.pairs:
            yield from self.of(pair, every)

    def of(self, pair: FilePair, choose: Callable[[int], Sequence[int]]) -> Iterator[Job | Failure]:
        """Yield a job for images of a pair of files, or why there is none.

        `choose` gets the number of images, and returns the indices of those that are wanted.
        """
        own: list[ImageFile] = []
        labels = self.labels
        try:
            test = self._opened(pair.test, own)
            reference = self.reference or self._opened(pair.reference, own, self.reading)
            mask = self.mask or (self._opened(pair.mask, own) if pair.mask else None)
            _check_counts(test.file, reference, mask, labels)
        except ImsimError as error:
            self._close(own)
            yield Failure(str(error), pair.reference, pair.test)
            return

        def read(index: int) -> Files:
            first, second = reference.read(index), test.read(index)
            own_mask = None if mask is None else mask.mask or mask_of(mask.read(index))
            if own_mask is not None:
                check_size(own_mask, first, "mask is")
            return first, second, own_mask, None if labels is None else labels.read(index)

        number = len(test.file)
        indices = choose(number)
        if not indices:
            self._close(own)
        digits, one = len(str(number - 1)), number == 1
        for index in indices:
            yield Job(
                reference.label(index),
                test.label(index),
                pair.name if one else f"{pair.name}[{index}]",
                pair.stem if one else f"{pair.stem}_{index:0{digits}}",
                pair.path,
                partial(read, index),
                partial(self._close, own if index == indices[-1] else []),
            )

    def _opened(self, path: str, own: list[ImageFile], reading: Reading | None = None) -> Images:
        images = Images(path, reading or self._reading)
        own.append(images.file)
        self._open.add(images.file)
        return images

    def _close(self, files: list[ImageFile]) -> None:
        for file in files:
            file.close()
        self._open.difference_update(files)


def _check_counts(test: ImageFile, *others: Images | None) -> None:
    for file in (other.file for other in others if other is not None):
        if len(file) not in (1, len(test)):
            raise ImageFileError(
                f"{test.path}: number of images: {len(test)}, but {file.path} holds {len(file)}; "
                f"expected {len(test)}, or one for all"
            )


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
                counts[one] = number_of_images(by_stem[one].test, reading)
        number = counts[head]
        is_asked_for = number > 1 and int(digits) < number
        if is_asked_for and len(digits) == len(str(number - 1)) and counts[stem] == 1:
            first = min(stem, head, key=order.__getitem__)
            image = f"{by_stem[head].test}[{int(digits)}]"
            found[stem] = pair.test if first == stem else image
    return found


def number_of_images(path: str, reading: Reading) -> int:
    """Return how many images a file holds; of one that cannot be read, that is said later."""
    try:
        with ImageFile(path, reading) as file:
            return len(file)
    except ImsimError:
        return 1
