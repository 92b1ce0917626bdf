"""The pairs of images of a run, opened file after file and scored several at a time.

Longer than 450 lines: a pair goes through all of it, from its files to its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import imsim
from imsim._images import ImageFile, ImageFileError, Picture, Reading
from imsim._images.raster import is_raster
from imsim.cli.aligning import aligned
from imsim.cli.counting import UNCOUNTED, count, tolerance_notes
from imsim.cli.executors import in_order
from imsim.cli.ignoring import Ignored
from imsim.cli.maps import write_maps
from imsim.cli.messages import NOTED
from imsim.cli.options import NEEDS_RANGE, DataRanges, in_options
from imsim.cli.pairing import Failure, FilePair, Pairing
from imsim.cli.places import check_places
from imsim.cli.reading import (
    NO_LABEL,
    Mask,
    SizeError,
    check_mask_size,
    comparable,
    labels_of,
    mask_of,
    nan_notes,
    option_notes,
    unknown_notes,
)
from imsim.cli.scenes import OnDisk, Scene, alone, on_disk
from imsim.cli.sizes import fitted
from imsim.cli.volumes import Spacing, placed
from imsim.comparison import compare
from imsim.differing import COUNTS
from imsim.errors import ImsimError, PrecisionWarning, collecting, silent, unforeseen
from imsim.labelled import Regions, with_left_out
from imsim.registry import METRICS
from imsim.validation import usual_data_range

S = TypeVar("S", bound="Shared")


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
        self.mask = None if self.picture is None else mask_of(self.picture)


class Jobs:
    """The pairs of images of a run; used in a ``with`` statement, it leaves no file open.

    Parameters
    ----------
    found : Pairing
        The files.
    reading : Reading
        How they are read.
    labels : str, optional
        The file of the labels of every pair, or of a stack of labels.

    Raises
    ------
    ImageFileError
        If a file that every pair needs cannot be read.
    """

    def __init__(self, found: Pairing, reading: Reading, labels: str | None = None) -> None:
        self._pairs = found.pairs
        self._reading = replace(reading, clear_is_no_data=False)
        self._of_references = reading
        self._open: set[ImageFile] = set()
        self.reference = self._shared(Shared, found.reference, reading)
        self.mask = self._shared(SharedMask, found.mask)
        self.labels = self._shared(Shared, labels, replace(self._reading, as_stored=True))

    def _shared(self, kind: type[S], path: str | None, reading: Reading | None = None) -> S | None:
        if path is None:
            return None
        shared = kind(path, reading or self._reading)
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

        def every(number: int) -> range:
            if bar is not None:
                bar.total += number - 1
            return range(number)

        for pair in self._pairs:
            yield from self.of(pair, every)

    def of(self, pair: FilePair, choose: Callable[[int], Sequence[int]]) -> Iterator[Job | Failure]:
        """Yield a job for images of a pair of files, or why there is none.

        Parameters
        ----------
        pair : FilePair
            The files.
        choose : callable
            Gets the number of images, and returns the indices of those that are wanted.
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
    mask: SharedMask | ImageFile | None,
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


def _mask(file: SharedMask | ImageFile, index: int, reference: Picture) -> Mask:
    mask = file.mask if isinstance(file, SharedMask) else None
    mask = mask or mask_of(file.read(_index(file, index)))
    check_mask_size(mask.pixels, mask.picture.path, reference)
    return mask


class Settings(NamedTuple):
    """What is the same for every pair."""

    metrics: list[str]
    """With the counts among them."""
    named: bool
    """Whether the metrics were asked for by name; else all of them run."""
    data_ranges: DataRanges
    ignored: Ignored
    maps: str | None
    volumes: bool = False
    spacing: Spacing | None = None
    """Of volumes, instead of what their files say."""
    on_disk: OnDisk = OnDisk()
    on_size_mismatch: str = "fail"
    tolerance: float = 0.0
    """Of a pixel that counts as equal."""
    options: Mapping[str, Mapping[str, Any]] = {}
    """Of the metrics, by their names."""
    max_shift: int | None = None
    """By which a test image is moved at most, along each axis; None: not at all."""


class Result(NamedTuple):
    """What there is to say about one pair."""

    reference: str
    test: str
    name: str
    scores: dict[str, float]
    skipped: dict[str, str]
    description: str = ""
    notes: tuple[tuple[str, str], ...] = ()
    """The name of an image, and what is to be said about it."""
    spacing: Spacing | None = None
    """That two volumes were scored with."""
    regions: Regions | None = None
    """With labels, the scores of all regions of the pair."""
    mask: str | None = None
    data_range: float | None = None
    """What the images were scored with, if it is known."""
    shift: tuple[float, float] | None = None
    """By how many pixels the test image was moved, down and right."""
    boxes: tuple[tuple[int, ...], ...] = ()
    """Of connected parts that differ, as ``x, y, w, h``, the largest first; of volumes with z and
    depth."""
    row: int | None = None
    """Which of the regions the scores are of; None: there are no labels, or it is not parted."""

    @property
    def title(self) -> str:
        """The test image, and the label if there is one."""
        if self.regions is None or self.row is None:
            return self.test
        return f"{self.test}, label {self.regions.labels[self.row]}"


def scored(
    work: Iterable[Job | Failure], settings: Settings, threads: int
) -> Iterator[Result | Failure]:
    """Score the pairs and yield the results in their order; few are under way at a time."""

    def attempt(item: Job | Failure) -> Result | Failure:
        return _attempt(item, settings)

    # Many volumes at once would fill the memory.
    for item, result in in_order(work, attempt, threads, singly=settings.volumes):
        if isinstance(item, Job):
            item.close()  # the files of a pair whose last image is done
        yield result


def _attempt(item: Job | Failure, settings: Settings) -> Result | Failure:
    if isinstance(item, Failure):
        return item
    try:
        # What these warn of is said in notes, which name the images.
        with silent(*NOTED):
            return _score(item, settings)
    except SizeError as error:
        return Failure(in_options(error), item.reference, item.test, error.sizes)
    except ImsimError as error:
        return Failure(in_options(error), item.reference, item.test)
    except MemoryError:
        reason = "too large for the memory of this machine"
    except Exception as error:  # whatever it is, the pairs after this one are scored
        reason = f"could not be scored: {unforeseen(error)}"
    return Failure(f"{item.test}: {reason}", item.reference, item.test)


def _score(job: Job, settings: Settings) -> Result:
    with ExitStack() as stack, collecting(PrecisionWarning) as said:
        result = _score_within(job, settings, stack)
        more = tuple((result.test, message) for message in dict.fromkeys(said))
        return result._replace(notes=result.notes + more)


def _score_within(job: Job, settings: Settings, stack: ExitStack) -> Result:
    """Score a pair; a large one holds, until the stack is left, what others wait for."""
    first, second, mask, labels = job.read()
    fit = fitted(first, second, mask, labels, settings.on_size_mismatch, settings.data_ranges)
    first, second, mask, labels = fit[:4]
    reference, test = comparable(first, second)
    others = [*([mask.picture] if mask else []), *([labels] if labels else [])]
    place = placed(reference, test, others, settings.spacing)
    place.notes.extend(
        check_places(reference, test, others, ignore=settings.on_disk.ignore_georeference)
    )
    data_range = settings.data_ranges.of(test)
    options: dict[str, Any] = {
        "data_range": data_range,
        "channel_axis": reference.channel_axis,
        "ndim": reference.ndim,
        "spacing": place.spacing,
    }
    pictures = [reference, test, *others]
    notes = [(picture.path, note) for picture in pictures for note in picture.notes]
    notes += place.notes + fit.notes
    metrics = [name for name in settings.metrics if name in METRICS]
    counts = [name for name in settings.metrics if name in COUNTS]
    boxes: tuple[tuple[int, ...], ...] = ()
    shift: tuple[float, float] | None = None
    regions, scores, errors = None, {}, {}
    pair: tuple[Any, Any] = (reference.pixels, test.pixels)
    if on_disk(first, second, mask):
        if settings.max_shift is not None:
            raise ImageFileError(
                f"{test.path}: is read strip by strip, and not moved",
                "leave out --align, or raise --memory above the size of an image",
            )
        scene = Scene(first, second, reference, mask, settings.ignored, data_range, job)
        pair = scene.a, scene.b
        options |= {"mask": scene.mask, "memory": settings.on_disk.memory}
        stack.enter_context(alone(settings.on_disk.workers))
        found = compare(*pair, metrics, **options, options=settings.options)
        errors = {name: ImsimError(UNCOUNTED) for name in counts}
        notes += scene.notes(reference, test, found)
    else:
        used, said = settings.ignored.used(first, second, mask and mask.pixels, job, fit.own)
        if settings.max_shift is not None:
            moved = aligned(reference, test, used, settings.max_shift)
            pair, used, shift = (reference.pixels, moved.pixels), moved.used, moved.shift
            test = test._replace(pixels=moved.pixels)
            said.append(moved.note)
        notes += said + option_notes(reference, test, mask, used, data_range)
        if labels is not None:
            numbers, gone = labels_of(labels, reference, used)
            regions = with_left_out(imsim.regions(*pair, numbers, metrics, **options), gone)
            errors = regions.errors
            if not len(regions.labels):
                scores, regions = dict.fromkeys(regions.scores, float("nan")), None
                notes.append((labels.path, f"{NO_LABEL}, so that the scores are NaN"))
        else:
            options["mask"] = used
            found = compare(*pair, metrics, **options, options=settings.options)
            notes += nan_notes(found, reference, test, mask, used)
    if labels is None:
        scores = {name: float(score) for name, score in found.items()}
        errors = {**errors, **found.errors}
        if counts and not errors.keys() & COUNTS.keys():
            notes += tolerance_notes(settings.tolerance, reference, test, options["mask"])
            more, boxes = count(counts, pair, options, settings.tolerance, fit.only_one)
            scores |= more
            notes += unknown_notes(counts, reference, test, options["mask"])
    if settings.maps is not None:
        form = settings.on_disk.map_format
        missing = write_maps(
            settings.maps,
            job.stem,
            pair,
            reference,
            metrics,
            options,
            form,
            settings.options,
            settings.on_disk.map_scale,
        )
        # That some have none without channels is worth a note only to those who asked for them.
        grey = reference.channel_axis is None
        notes += [
            (job.test, f"no map of {name}: {why}")
            for name, why in missing.items()
            if settings.named or not (grey and METRICS[name].map_needs_channels)
        ]
    return Result(
        job.reference,
        job.test,
        job.name,
        scores,
        _reasons(errors, settings, test, place.spacing),
        str(test),
        tuple(dict.fromkeys(notes)),
        place.spacing,
        regions,
        mask.picture.path if mask else None,
        data_range or usual_data_range([test.pixels.dtype]),
        shift,
        boxes,
    )


def _reasons(
    errors: Mapping[str, ImsimError], settings: Settings, test: Picture, spacing: Spacing | None
) -> dict[str, str]:
    """Say which option is missing where the library names the argument of its functions."""
    missing = settings.data_ranges.missing(test)
    reasons = {}
    for name, error in errors.items():
        reasons[name] = in_options(error, test)
        if missing and name in METRICS and METRICS[name].needs_data_range:
            reasons[name] = f"needs {NEEDS_RANGE}"
        elif spacing and name in METRICS and METRICS[name].takes_spacing:
            reasons[name] += "; windows are measured in the spacing, with --spacing 1,1,1 in voxels"
    return reasons
