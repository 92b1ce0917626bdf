"""Scoring pair after pair, several at a time; a damaged file does not end the run."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

import imsim
from imsim._images import Picture
from imsim.cli.jobs import Job, Mask, alike
from imsim.cli.maps import write_maps
from imsim.cli.pairing import Failure
from imsim.cli.reading import NEEDS_RANGE, Array, DataRanges, Ignored
from imsim.cli.terminal import in_options, unforeseen
from imsim.comparison import compare
from imsim.errors import ImsimError
from imsim.finite import in_another_unit, value_ends
from imsim.registry import METRICS


class Settings(NamedTuple):
    """What is the same for every pair."""

    metrics: list[str]
    named: bool
    """Whether the metrics were asked for by name; else all of them run."""
    data_ranges: DataRanges
    ignored: Ignored
    maps: str | None


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


def scored(
    work: Iterable[Job | Failure], settings: Settings, threads: int
) -> Iterator[Result | Failure]:
    """Score the pairs and yield the results in their order; few are under way at a time."""
    work = iter(work)
    few = list(itertools.islice(work, 2 * threads))
    if threads == 1 or len(few) < 2 * threads:
        # Threads serve better within a pair.
        with imsim.workers(threads):
            for item in itertools.chain(few, work):
                yield _closed(item, _attempt(item, settings))
        return
    pool = ThreadPoolExecutor(threads)
    under_way: deque[tuple[Job | Failure, Future[Result | Failure]]] = deque()
    try:
        for item in itertools.chain(few, work):
            under_way.append((item, pool.submit(_alone, item, settings)))
            if len(under_way) >= 2 * threads:
                job, future = under_way.popleft()
                yield _closed(job, future.result())
        while under_way:
            job, future = under_way.popleft()
            yield _closed(job, future.result())
    finally:
        # Somebody may wait for the end after Ctrl-C: not for what is under way.
        pool.shutdown(wait=False, cancel_futures=True)


def _closed(item: Job | Failure, result: Result | Failure) -> Result | Failure:
    """Close the files of a pair whose last image is done."""
    if isinstance(item, Job):
        item.close()
    return result


def _alone(item: Job | Failure, settings: Settings) -> Result | Failure:
    with imsim.workers(1):
        return _attempt(item, settings)


def _attempt(item: Job | Failure, settings: Settings) -> Result | Failure:
    if isinstance(item, Failure):
        return item
    try:
        return _score(item, settings)
    except ImsimError as error:
        return Failure(in_options(str(error)), item.reference, item.test)
    except MemoryError:
        reason = "too large for the memory of this machine"
    except Exception as error:  # whatever it is, the pairs after this one are scored
        reason = f"could not be scored: {unforeseen(error)}"
    return Failure(f"{item.test}: {reason}", item.reference, item.test)


def _score(job: Job, settings: Settings) -> Result:
    first, second, mask = job.read()
    reference, test = alike(first, second)
    data_range = settings.data_ranges.of(test)
    used, notes = settings.ignored.used(first, second, mask and mask.pixels)
    options: dict[str, Any] = {
        "mask": used,
        "data_range": data_range,
        "channel_axis": reference.channel_axis,
    }
    found = compare(reference.pixels, test.pixels, settings.metrics, **options)
    pictures = [reference, test, *([mask.picture] if mask else [])]
    notes = [(picture.path, note) for picture in pictures for note in picture.notes] + notes
    notes += option_notes(reference, test, mask, used, data_range)
    notes += nan_notes(found, reference, test, mask, used)
    if settings.maps is not None:
        missing = write_maps(settings.maps, job.stem, reference, test, settings.metrics, options)
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
        {name: float(score) for name, score in found.items()},
        _reasons(found.skipped, settings, test),
        str(test),
        tuple(dict.fromkeys(notes)),
    )


def option_notes(
    reference: Picture,
    test: Picture,
    mask: Mask | None,
    used: Array | None,
    data_range: float | None,
) -> list[tuple[str, str]]:
    """Say of which image or mask the data range or the mask makes little sense."""
    if mask and not mask.pixels.any():
        return [(mask.picture.path, "this mask leaves out every pixel, so that the scores are NaN")]
    if used is not None and not used.any():
        return [(test.path, "every pixel is left out, so that the scores are NaN")]
    if data_range is None:
        return []
    inside = used if used is None or test.pixels.ndim == 2 else used[..., None]
    low, high = value_ends(reference.pixels, test.pixels, inside)
    if high - low <= data_range * (1 + 1e-6):  # the rounding of floats
        return []
    said = f"pixels span more than --data-range {data_range:g}, from {low:.6g} to {high:.6g}"
    if in_another_unit(low, high, data_range):
        said += "; that is beyond it by more than the range itself: is it in another unit?"
    return [(test.path, said)]


def nan_notes(
    scores: Mapping[str, Any],
    reference: Picture,
    test: Picture,
    mask: Mask | None,
    used: Array | None,
) -> list[tuple[str, str]]:
    """Say which scores are NaN although pixels are left, and of which image that is due to."""
    names = [name for name, score in scores.items() if math.isnan(score)]
    if not names or (used is not None and not used.any()):  # of which `option_notes` tells
        return []
    where = "over all pixels" if used is None else "over the pixels that are left"
    where = f"with the mask {mask.picture.path}" if mask else where
    notes = [(test.path, f"NaN {where}: {', '.join(names)}")]
    for picture in (reference, test):
        finite = np.isfinite(picture.pixels)
        broken = ~(finite if finite.ndim == 2 else finite.all(axis=-1))
        count = int(np.count_nonzero(broken if used is None else broken & used))
        if count:
            said = f"{count} of its pixels are NaN or infinite, so that the scores are NaN"
            notes.append((picture.path, f"{said}; --ignore-nan leaves out NaN"))
    return notes


def _reasons(skipped: dict[str, str], settings: Settings, test: Picture) -> dict[str, str]:
    """Say which option is missing where the library names the argument of its functions."""
    missing = settings.data_ranges.missing(test)
    return {
        name: f"needs {NEEDS_RANGE}"
        if missing and METRICS[name].needs_data_range
        else in_options(reason)
        for name, reason in skipped.items()
    }
