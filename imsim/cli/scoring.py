"""Scoring pair after pair, several at a time; a damaged file does not end the run."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import imsim
from imsim._images import Picture
from imsim.cli.jobs import Job, Mask
from imsim.cli.maps import write_maps
from imsim.cli.pairing import Failure
from imsim.cli.terminal import unforeseen
from imsim.comparison import compare
from imsim.errors import ImsimError
from imsim.registry import METRICS


class Settings(NamedTuple):
    """What is the same for every pair."""

    metrics: list[str]
    named: bool
    """Whether the metrics were asked for by name; else all of them run."""
    data_range: float | None
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
    with ThreadPoolExecutor(threads) as pool:
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
            pool.shutdown(cancel_futures=True)


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
        return Failure(str(error), item.reference, item.test)
    except MemoryError:
        reason = "too large for the memory of this machine"
    except Exception as error:  # whatever it is, the pairs after this one are scored
        reason = f"could not be scored: {unforeseen(error)}"
    return Failure(f"{item.test}: {reason}", item.reference, item.test)


def _score(job: Job, settings: Settings) -> Result:
    reference, test, mask = job.read()
    options: dict[str, Any] = {
        "mask": mask and mask.pixels,
        "data_range": settings.data_range,
        "channel_axis": reference.channel_axis,
    }
    found = compare(reference.pixels, test.pixels, settings.metrics, **options)
    pictures = [reference, test, *([mask.picture] if mask else [])]
    notes = [(picture.path, note) for picture in pictures for note in picture.notes]
    notes += option_notes(reference, test, mask, settings.data_range)
    empty = [name for name, score in found.items() if math.isnan(score)]
    if mask and empty and mask.pixels.any():
        notes.append((test.path, f"NaN with the mask {mask.picture.path}: {', '.join(empty)}"))
    if settings.maps is not None:
        missing = write_maps(settings.maps, job.stem, reference, test, settings.metrics, options)
        if settings.named or not missing.keys() <= {"sam"}:  # which has none for grey images
            notes += [(job.test, f"no map of {name}: {why}") for name, why in missing.items()]
    return Result(
        job.reference,
        job.test,
        job.name,
        {name: float(score) for name, score in found.items()},
        _reasons(found.skipped, settings, test),
        str(test),
        tuple(notes),
    )


def option_notes(
    reference: Picture, test: Picture, mask: Mask | None, data_range: float | None
) -> list[tuple[str, str]]:
    """Say of which image or mask the data range or the mask makes little sense."""
    if mask and not mask.pixels.any():
        return [(mask.picture.path, "this mask leaves out every pixel, so that the scores are NaN")]
    if data_range is None:
        return []
    kind = test.pixels.dtype
    bits = {"b": 1, "u": 8 * kind.itemsize}.get(kind.kind)
    if bits and data_range > 2**bits - 1:
        return [(test.path, f"--data-range {data_range:g} is beyond what {bits}-bit pixels hold")]
    used = [p.pixels[mask.pixels] if mask else p.pixels for p in (reference, test)]
    span = max(float(pixels.max()) for pixels in used) - min(float(pixels.min()) for pixels in used)
    if span > data_range * (1 + 1e-6):  # more than the rounding of floats
        return [(test.path, f"pixels span more than --data-range {data_range:g}")]
    return []


def _reasons(skipped: dict[str, str], settings: Settings, test: Picture) -> dict[str, str]:
    """Say which option is missing where the library names the argument of its functions."""
    has_range = settings.data_range is not None or test.pixels.dtype in ("uint8", "bool")
    option = "needs --data-range (65535 for full 16-bit images, 4095 for those of a 12-bit camera)"
    return {
        name: reason if has_range or not METRICS[name].needs_data_range else option
        for name, reason in skipped.items()
    }
