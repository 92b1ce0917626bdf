"""The work of a run: its pairs of images, opened file after file, and where they are done.

That is in this process, or on the workers of a cluster. Either way few items are under way at a
time, whatever their number.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import imsim
from imsim._images import ImageFile, ImageFileError, Picture, Reading, without_index
from imsim._images.raster import is_raster
from imsim.cli.fleet import Fleet, Order
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

    def label(self, index: int) -> str:
        """Name an image, or the only one."""
        return self.file.label(min(index, len(self.file) - 1))

    def read(self, index: int) -> Picture:
        """Read an image, or return the only one."""
        return self.picture or self.file.read(min(index, len(self.file) - 1))


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


T = TypeVar("T")
R = TypeVar("R")

TASK_SECONDS = 0.25
"""What a task on a cluster takes about: the scheduler spends 1 ms on it, and a worker that is
killed loses it."""
SCHEDULER_SECONDS = 0.002
"""What the scheduler may spend on a task; with many workers, tasks are so long that it keeps up."""
MOST_IMAGES = 1000
"""In a task."""
FIRST_IMAGES = 32
"""Of a file that holds nobody knows how many."""
TASKS_PER_STACK = 8
"""At most, for each slot: every task opens the file again, which may have to be walked through."""
AHEAD = 3
"""Tasks under way for each slot of a worker: one that runs, and others that wait beside it."""
TICK = 0.01
"""Seconds between two looks for results."""
LOST = (
    "the workers that scored it died, each time; likely it is too large for their memory: give "
    "them more, or let them run fewer tasks at a time"
)
"""Why an image has no result, of which every worker died."""


def in_order(
    items: Iterable[T], do: Callable[[T], R], threads: int, *, singly: bool = False
) -> Iterator[tuple[T, R]]:
    """Do the items in threads of this process; yield each with its result, in their order.

    `do` raises nothing. `singly` does one item at a time, in all threads.
    """
    items = iter(items)
    few = list(islice(items, 2 * threads))
    if threads == 1 or len(few) < 2 * threads or singly:
        # Threads serve better within an item.
        with imsim.workers(threads):
            for item in chain(few, items):
                yield item, do(item)
        return

    def alone(item: T) -> R:
        with imsim.workers(1):
            return do(item)

    pool = ThreadPoolExecutor(threads)
    under_way: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in chain(few, items):
            under_way.append((item, pool.submit(alone, item)))
            if len(under_way) >= 2 * threads:
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
    finally:
        # Somebody may wait for the end after Ctrl-C: not for what is under way.
        pool.shutdown(wait=False, cancel_futures=True)


class Part(NamedTuple):
    """Images of a file or of a pair of files, as data that travels to a worker."""

    subject: Any
    """The path of the file, or the pair."""
    start: int = 0
    stop: int | None = None
    """Behind the last image; None: nobody knows yet how many there are."""
    most: int = FIRST_IMAGES
    """Images to take where that is not known."""
    done: frozenset[int] = frozenset()
    """The indices of images that have their rows from an earlier run."""

    @property
    def images(self) -> int:
        """How many images there are, as far as known."""
        return 1 if self.stop is None else self.stop - self.start

    def name(self, file: str) -> str:
        """Return what the first image is called, in a file of this name."""
        return file if self.stop is None else f"{file}[{self.start}]"

    def among(self, number: int) -> range:
        """Return the indices of the images in a file of that many."""
        stop = self.start + self.most if self.stop is None else self.stop
        return range(self.start, min(stop, number))

    def wanted(self, number: int) -> list[int]:
        """Return the indices of those that have no row."""
        return [index for index in self.among(number) if index not in self.done]

    def rest(self, number: int) -> list[Part]:
        """Return the images behind these, if it is now that they come to light."""
        start = self.among(number).stop
        return [] if self.stop is not None or start >= number else [self.cut(start, number)]

    def cut(self, start: int, stop: int) -> Part:
        """Return some of the images."""
        done = frozenset(index for index in self.done if start <= index < stop)
        return self._replace(start=start, stop=stop, done=done)


def parts_of(
    files: Iterable[tuple[Any, str, str]], done: Collection[tuple[str, str]]
) -> Iterator[Part]:
    """Yield subjects, each with its reference and file, that may have images without a row."""
    rows: dict[tuple[str, str], set[int]] = {}
    for reference, image in done:
        file, index = without_index(image)
        if index is not None:
            for other in {reference, without_index(reference)[0]}:
                rows.setdefault((other, file), set()).add(index)
    for subject, reference, file in files:
        if (reference, file) not in done:  # as the only image of a file is called
            yield Part(subject, done=frozenset(rows.get((reference, file), ())))


class Answer(NamedTuple):
    """What comes of a task."""

    results: list[Any]
    images: int = 1
    """That the task had."""
    done: int = 0
    """Images that have their rows from an earlier run."""
    rests: tuple[Part, ...] = ()
    """Images that came to light when their files were opened."""
    notes: tuple[Any, ...] = ()
    """What there is to say beside the results."""


class Opened:
    """Counts what a task finds in the files that it opens."""

    def __init__(self) -> None:
        self._images = self._done = 0
        self._rests: list[Part] = []

    def choice(self, part: Part) -> Callable[[int], list[int]]:
        """Return a function that gets the number of images in a file, and chooses some of them."""
        self._images += 1  # if the file cannot be opened

        def choose(number: int) -> list[int]:
            among, wanted = part.among(number), part.wanted(number)
            self._images += len(among) - 1
            self._done += len(among) - len(wanted)
            self._rests += part.rest(number)
            return wanted

        return choose

    def answer(self, results: list[Any], notes: Iterable[Any] = ()) -> Answer:
        """Return what comes of the task."""
        return Answer(results, self._images, self._done, tuple(self._rests), tuple(notes))


def next_size(size: int, images: int, seconds: float, slots: int) -> int:
    """Return how many images the next task is to have, from the last size and the time of a task.

    The first ones also compile, so that sizes may grow later.
    """
    wanted = max(TASK_SECONDS, SCHEDULER_SECONDS * slots)
    fitting = int(wanted * images / max(seconds, 1e-9))
    return max(1, min(fitting, 2 * size, MOST_IMAGES))


class Queue:
    """The parts that no task has yet."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = deque(parts)
        self._images = sum(part.images for part in self._parts)

    def __bool__(self) -> bool:
        return bool(self._parts)

    def put(self, part: Part) -> None:
        """Take the rest of a file, which goes before other files."""
        self._parts.appendleft(part)
        self._images += part.images

    def take(self, images: int, slots: int) -> list[Part]:
        """Return the parts for a task of so many images, or of fewer towards the end."""
        wanted = max(1, min(images, self._images // (2 * max(slots, 1))))
        taken: list[Part] = []
        while self._parts and wanted > 0:
            part = self._parts.popleft()
            if part.stop is not None:
                least = math.ceil(part.stop / (TASKS_PER_STACK * max(slots, 1)))
                middle = part.start + max(wanted, least)
                if middle < part.stop:
                    self._parts.appendleft(part.cut(middle, part.stop))
                    part = part.cut(part.start, middle)
            taken.append(part)
            wanted -= part.images
            self._images -= part.images
        return taken


def afar(
    scheduler: str, order: Order, parts: Sequence[Part], lost: Callable[[Part], Any], bar: Any
) -> Iterator[Answer]:
    """Do the parts on a cluster, and yield the answers as they come; the bar gets its total."""
    if not parts:
        return
    with Fleet(scheduler, order) as fleet:
        for answer in as_they_come(fleet, parts, lost):
            bar.total += sum(part.images for part in answer.rests)
            yield answer


def as_they_come(
    fleet: Fleet, parts: Iterable[Part], lost: Callable[[Part], Any]
) -> Iterator[Answer]:
    """Do the parts on the workers of a cluster, and yield the answers as they come.

    What a worker had under way when it died is done by another one. Where several died of a task,
    its images are tried one by one, with nothing else under way, so that none is to blame for
    another; what a worker dies of then is lost, and `lost` returns its result.
    """
    queue, size = Queue(parts), 1
    suspects: list[Part] = []
    suspect: Part | None = None
    while queue or suspects or len(fleet):
        slots = fleet.slots()
        # A cluster that starts workers when there is work must see some.
        while queue and suspect is None and len(fleet) < AHEAD * max(slots, 1):
            fleet.submit(queue.take(size, slots))
        if suspects and not len(fleet):
            suspect = suspects.pop()
            fleet.submit([suspect])
        some = False
        for taken, found in fleet.ended():
            some = True
            if found is not None:
                answer: Answer = found.answer
                size = next_size(size, answer.images, found.seconds, slots)
                for part in answer.rests:
                    queue.put(part)
                yield answer
            elif taken == [suspect]:
                yield Answer([lost(taken[0])])
            else:
                suspects += chain.from_iterable(map(_singly, taken))
            suspect = None
        if not some:
            time.sleep(TICK)


def _singly(part: Part) -> list[Part]:
    if part.stop is None:
        return [part._replace(most=1)]
    return [part.cut(index, index + 1) for index in range(part.start, part.stop)]
