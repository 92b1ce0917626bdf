"""Scores pairs of images, several at a time, here or by the workers of a cluster."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

import imsim
from imsim._images import ImageFileError, Picture, Reading
from imsim.cli.fleet import Order, folders_of
from imsim.cli.jobs import (
    LOST,
    Answer,
    Job,
    Jobs,
    Opened,
    Part,
    afar,
    in_order,
    left,
    parts_of,
)
from imsim.cli.maps import write_maps
from imsim.cli.measures import Settings
from imsim.cli.options import NEEDS_RANGE, in_options
from imsim.cli.outputs import NOTED
from imsim.cli.pairing import Failure, FilePair, Pairing, contested_stems
from imsim.cli.pairs import Scene, aligned, alone, fitted, on_disk
from imsim.cli.reading import (
    NO_LABEL,
    SizeError,
    Spacing,
    broken_counts,
    broken_notes,
    comparable,
    labels_of,
    option_notes,
    placed,
    unknown_notes,
)
from imsim.comparison import compare
from imsim.differing import COUNTS, counted, places, with_more
from imsim.errors import ImsimError, PrecisionWarning, collecting, failed, silent
from imsim.finite import nan_scores, value_ends
from imsim.labelled import Regions, with_left_out
from imsim.registry import METRICS
from imsim.typing import Array
from imsim.validation import bits_of, capacity, usual_data_range

UNCOUNTED = "is not counted block by block; raise --memory above the size of an image"


def tolerance_notes(
    tolerance: float, reference: Picture, test: Picture, used: Array | None
) -> list[tuple[str, str]]:
    """Say whether no two pixels can differ by more than the tolerance, as in another unit."""
    kind = test.pixels.dtype
    said = ""
    if kind.kind != "f" and tolerance >= (most := capacity(kind)):
        said = f"as wide as {bits_of(kind)}-bit pixels can differ ({most:.0f})"
    elif kind.kind == "f" and tolerance:
        inside = used if used is None else used[..., None]
        low, high = value_ends(reference.samples, test.samples, inside)
        if 0 < high - low <= tolerance:
            said = f"as wide as all pixels, which are {low:.6g} to {high:.6g}"
    if not said:
        return []
    text = f"--tolerance {tolerance:g} is {said}, so that none counts; is it in another unit?"
    return [(test.path, text)]


def count(
    names: Sequence[str],
    pair: tuple[Any, Any],
    options: Mapping[str, Any],
    tolerance: float,
    only_one: Array | None,
) -> tuple[dict[str, float], tuple[tuple[int, ...], ...]]:
    """Return counts by their names, and the boxes of the largest parts that differ.

    Boxes are of the parts without the rule of anti-aliasing, if any count without it is named.
    `only_one` is where one image alone has pixels, which always differ.
    """
    kept = {name: options[name] for name in ("mask", "channel_axis", "ndim")}
    rules = {COUNTS[name].anti_aliasing for name in names}
    found = {
        rule: imsim.differing_pixels(*pair, **kept, tolerance=tolerance, anti_aliasing=rule)
        for rule in sorted(rules)
    }
    if only_one is not None:
        more = only_one if options["mask"] is None else only_one & options["mask"]
        found = {rule: with_more(one, more) for rule, one in found.items()}
    return counted(found, names), places(next(iter(found.values())))


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
    for item, result in in_order(work, attempt, threads, singly=settings.volume):
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
    except Exception as error:  # whatever it is, the pairs after this one are scored
        return Failure(f"{item.test}: {failed('scored', error)}", item.reference, item.test)


def _score(job: Job, settings: Settings) -> Result:
    with ExitStack() as stack, collecting(PrecisionWarning) as said:
        result = _score_within(job, settings, stack)
        more = tuple((result.test, message) for message in dict.fromkeys(said))
        return result._replace(notes=result.notes + more)


def _score_within(job: Job, settings: Settings, stack: ExitStack) -> Result:
    """Score a pair; a large one holds, until the stack is left, what others wait for."""
    files, fitting, own = fitted(job.read(), settings.on_size_mismatch, settings.data_ranges)
    first, second, mask, labels = files
    reference, test = comparable(first, second)
    others = [*([mask] if mask else []), *([labels] if labels else [])]
    notes = [(v.path, note) for v in (reference, test, *others) for note in v.notes]
    spacing, said = placed(
        reference, test, others, settings.spacing, ignore=settings.ignore_georeference
    )
    notes += [*said, *fitting]
    data_range = settings.data_ranges.of(test)
    options: dict[str, Any] = {
        "data_range": data_range,
        "channel_axis": reference.channel_axis,
        "ndim": reference.ndim,
        "spacing": spacing,
    }
    metrics = [name for name in settings.metrics if name in METRICS]
    counts = [name for name in settings.metrics if name in COUNTS]
    pair: tuple[Any, Any]
    errors: Mapping[str, ImsimError]
    regions: Regions | None = None
    shift: tuple[float, float] | None = None
    scores: dict[str, float] = {}
    if on_disk(first, second, mask):
        if settings.max_shift is not None:
            raise ImageFileError(
                f"{test.path}: is read block by block, and not moved",
                "leave out --align, or raise --memory above the size of an image",
            )
        stack.enter_context(alone(settings.workers))
        scene = Scene(first, second, reference, mask, settings.ignored, data_range, job)
        options |= {"mask": scene.mask, "memory": settings.memory}
        pair = scene.a, scene.b
        found = compare(*pair, metrics, **options, options=settings.options)
        scores, errors = _floats(found), dict.fromkeys(counts, ImsimError(UNCOUNTED)) | found.errors
        notes += scene.notes(reference, test, found)
    else:
        used, said = settings.ignored.used(first, second, mask and mask.pixels, job, own)
        notes += said
        if settings.max_shift is not None:
            test, used, shift, moved = aligned(reference, test, used, settings.max_shift)
            notes.append(moved)
        pair = reference.pixels, test.pixels
        notes += option_notes(reference, test, mask, used, data_range)
        if labels is None:
            options["mask"] = used
            found = compare(*pair, metrics, **options, options=settings.options)
            scores, errors = _floats(found), found.errors
            # There are none where nothing is left, of which `option_notes` tells.
            if names := nan_scores(found, used):
                broken = broken_counts(reference, test, used)
                notes += broken_notes(names, reference, test, mask, used is not None, broken)
        else:
            numbers, gone = labels_of(labels, reference, used)
            regions = with_left_out(imsim.regions(*pair, numbers, metrics, **options), gone)
            errors = regions.errors
            if not len(regions.labels):
                notes.append((labels.path, f"{NO_LABEL}, so that the scores are NaN"))
                scores, regions = dict.fromkeys(regions.scores, float("nan")), None
    boxes: tuple[tuple[int, ...], ...] = ()
    if labels is None and counts and not errors.keys() & COUNTS.keys():
        notes += tolerance_notes(settings.tolerance, reference, test, used)
        only_one = None if own is None else np.logical_xor(*own)
        more, boxes = count(counts, pair, options, settings.tolerance, only_one)
        scores |= more
        notes += unknown_notes(counts, reference, test, used)
    if settings.maps is not None:
        # That some have none without channels is worth a note only to those who asked for them.
        grey = reference.channel_axis is None
        for name, why in write_maps(settings, job.stem, pair, reference, metrics, options):
            if settings.named or not (grey and METRICS[name].map_needs_channels):
                notes.append((job.test, f"no map of {name}: {why}"))
    return Result(
        job.reference,
        job.test,
        job.name,
        scores,
        _reasons(errors, settings, test, spacing),
        str(test),
        tuple(dict.fromkeys(notes)),
        spacing,
        regions,
        mask.path if mask else None,
        data_range or usual_data_range([test.pixels.dtype]),
        shift,
        boxes,
    )


def _floats(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(score) for name, score in scores.items()}


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


class Run(NamedTuple):
    """What a worker needs to know beside the pairs."""

    reference: str | None
    mask: str | None
    labels: str | None
    """The files that every pair has."""
    reading: Reading
    settings: Settings
    contested: Mapping[str, str]


def scored_afar(
    arguments: argparse.Namespace,
    jobs: Jobs,
    settings: Settings,
    done: set[tuple[str, str]],
    bar: Any,
) -> Iterator[Result | Failure]:
    """Score the pairs that are not done on a cluster, and yield the results as they come."""
    found, reading = jobs.found, jobs.reading
    maps = settings.maps and os.path.abspath(settings.maps)
    run = Run(
        found.reference,
        found.mask,
        arguments.labels,
        replace(reading, folder=os.getcwd()),
        settings._replace(maps=maps),
        contested_stems(found.pairs, reading) if maps else {},
    )
    parts = list(parts_of(((pair, pair.reference, pair.test) for pair in found.pairs), done))
    bar.update(len(found.pairs) - len(parts))
    folders = folders_of([*found.inputs, *(path for path in (maps, arguments.labels) if path)])
    order = Order(_opening, score_parts, run, folders, arguments.workers)
    for answer in afar(arguments.scheduler, order, parts, _lost, bar):
        bar.update(answer.done)
        yield from answer.results


def _lost(part: Part) -> Failure:
    pair: FilePair = part.subject
    test = part.name(pair.test)
    return Failure(f"{test}: {LOST}", pair.reference, test)


def _opening(run: Run) -> Jobs:
    """Open the files that all pairs of a run share, on a worker."""
    return Jobs(Pairing(run.reference, run.mask), run.reading, run.labels)


def score_parts(jobs: Jobs, run: Run, parts: list[Part], threads: int) -> Answer:
    """Score pairs, on a worker."""
    opened = Opened()
    images = (jobs.of(part.subject, opened.choice(part)) for part in parts)
    work = left(chain.from_iterable(images), set(), run.contested, lambda: None)
    return opened.answer(list(scored(work, run.settings, threads)))
