"""Where the work of a run is done: in this process, or on the workers of a cluster.

Either way few items are under way at a time, whatever their number.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import imsim
from imsim._images import without_index
from imsim.cli.fleet import Fleet

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


class Size:
    """How many images the next task is to have, from the time that others took."""

    def __init__(self) -> None:
        self.images = 1

    def learn(self, images: int, seconds: float, slots: int) -> None:
        """Take the time of a task; the first ones also compile, so that sizes may grow later."""
        wanted = max(TASK_SECONDS, SCHEDULER_SECONDS * slots)
        fitting = int(wanted * images / max(seconds, 1e-9))
        self.images = max(1, min(fitting, 2 * self.images, MOST_IMAGES))


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


def as_they_come(
    fleet: Fleet, parts: Iterable[Part], lost: Callable[[Part], Any]
) -> Iterator[Answer]:
    """Do the parts on the workers of a cluster, and yield the answers as they come.

    What a worker had under way when it died is done by another one. Where several died of a task,
    its images are tried one by one, with nothing else under way, so that none is to blame for
    another; what a worker dies of then is lost, and `lost` returns its result.
    """
    queue, size = Queue(parts), Size()
    suspects: list[Part] = []
    suspect: Part | None = None
    while queue or suspects or len(fleet):
        slots = fleet.slots()
        # A cluster that starts workers when there is work must see some.
        while queue and suspect is None and len(fleet) < AHEAD * max(slots, 1):
            fleet.submit(queue.take(size.images, slots))
        if suspects and not len(fleet):
            suspect = suspects.pop()
            fleet.submit([suspect])
        some = False
        for taken, found in fleet.ended():
            some = True
            if found is not None:
                answer: Answer = found.answer
                size.learn(answer.images, found.seconds, slots)
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
