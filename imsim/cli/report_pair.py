"""A pair of images as a report shows it, which may be of different sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imsim._images import Array, ImageFileError, Picture, widened
from imsim.cli.jobs import Job
from imsim.cli.measures import Settings, verdicts
from imsim.cli.options import NEEDS_RANGE
from imsim.cli.outcome import lacking
from imsim.cli.pair_scoring import Result, scored
from imsim.cli.pairing import Failure
from imsim.cli.pairs import aligned, fitted, moved_onto
from imsim.cli.reading import Files, comparable
from imsim.comparison import Comparison
from imsim.differing import COUNTS, distances
from imsim.errors import DataRangeError, ImsimError, PrecisionWarning, failed, silent
from imsim.pages import pair_report, volume_report
from imsim.pages.folder import Status
from imsim.pages.layers import ImagePair
from imsim.registry import METRICS

NOT_SCORED: Status = "could not be scored"


@dataclass(frozen=True)
class Shown:
    """What a report says of a pair that could be read."""

    result: Result | Failure
    """A failure if the sizes differ."""
    reference: Picture
    test: Picture
    used: Array | None
    data_range: float | None
    metrics: list[str]
    reasons: list[str]
    """Why the pair fails."""
    missing: list[str]
    """What was not scored, and why."""
    notes: list[str]
    """What the reader must know, each after the name of an image."""
    is_moved: bool
    """Whether the test image was moved onto the reference."""
    settings: Settings

    @cached_property
    def pair(self) -> ImagePair:
        """The pixels, to be drawn in small; of volumes, those of the slice that differs most."""
        images, used = (self.reference.samples, self.test.samples), self.used
        if self.reference.ndim == 3:
            inside = [True] * len(images[0]) if used is None else used
            farthest = [
                float(distances(one, other)[own].max(initial=0))
                for one, other, own in zip(*images, inside, strict=True)
            ]
            index = int(np.argmax(farthest))
            images = images[0][index], images[1][index]
            used = None if used is None else used[index]
        return ImagePair(*images, used, self.data_range)

    @property
    def status(self) -> Status:
        """What the pair comes to; one of which nothing is compared is not equal."""
        if self.missing or (self.used is not None and not self.used.any()):
            return NOT_SCORED
        if self.reasons and self.settings.limits:
            return "failed"
        differs = isinstance(self.result, Failure) or (self.pair.differ & self.pair.mask).any()
        return "differs" if differs else "equal"

    @property
    def scores(self) -> Mapping[str, float]:
        """Of metrics, and counts."""
        return self.result.scores if isinstance(self.result, Result) else {}

    @silent(PrecisionWarning)  # a note has said it
    def html(self, home: str | None = None) -> str:
        """Write the page, with a link to `home`."""
        result = self.result
        options: dict[str, Any] = {
            "mask": self.used,
            "data_range": self.data_range,
            "channel_axis": self.reference.channel_axis,
            "names": (self.reference.path, self.test.path),
            "notes": self.notes,
            "map_scale": self.settings.map_scale,
            "reasons": [*self.reasons, *self.missing],
            "home": home,
        }
        if isinstance(result, Result):
            skipped = {name: ImsimError(reason) for name, reason in result.skipped.items()}
            options["scores"] = Comparison(dict(result.scores), skipped)
            if self.reference.ndim == 3:
                options["spacing"] = result.spacing
                if self.reference.space is not None:
                    options["directions"] = self.reference.space.directions
                return volume_report(self.reference.pixels, self.test.pixels, **options)
            options["boxes"] = result.boxes
        elif not result.sizes:  # scores would be of a pair that was not brought to fit
            options["scores"] = Comparison({}, {})
        return pair_report(
            self.reference.pixels,
            self.test.pixels,
            **options,
            is_moved=self.is_moved,
            options=self.settings.options,
            metrics=[name for name in self.metrics if name in METRICS],
        )


def shown(job: Job, settings: Settings) -> Shown | Failure:
    """Score a pair, and find what there is to show; whatever is wrong is returned."""
    files: list[Files] = []

    def read() -> Files:
        if not files:
            files.append(job.read())
        return files[0]

    (result,) = scored([job._replace(read=read, close=lambda: None)], settings, 1)
    if isinstance(result, Failure) and not files:
        return result
    try:
        return _shown(job, result, files[0], settings)
    except ImsimError as error:
        if isinstance(result, Failure) and (settings.volume or not result.sizes):
            return result
        reason = str(error)
    except Exception as error:
        reason = f"{job.test}: {failed('shown', error)}"
    return Failure(reason, job.reference, job.test)


def _shown(job: Job, result: Result | Failure, files: Files, settings: Settings) -> Shown:
    first, second, mask, _ = files
    reference, test = _together(first, second)
    used, said = _used(first, second, mask, settings, job)
    if isinstance(result, Failure) and reference.ndim == 3:
        raise ImageFileError(result.message)
    missing: list[str] = []
    tolerance = settings.tolerance
    shift = result.shift if isinstance(result, Result) else None
    if isinstance(result, Failure) and result.sizes and settings.max_shift is not None:
        try:
            *_, shift, moved = aligned(reference, test, used, settings.max_shift)
            said.append(moved)
        except ImageFileError as error:
            said.append((test.path, f"not moved: {error.reason}"))
    if shift is not None:
        test, used = moved_onto(reference, test, used, shift)
    metrics = settings.metrics
    if isinstance(result, Failure):
        metrics = metrics if result.sizes else []
        reasons, missing = ([result.sizes], []) if result.sizes else ([], [result.message])
        said = [
            (picture.path, note) for picture in (reference, test) for note in picture.notes
        ] + said
    else:
        said = list(result.notes)
        if tolerance and result.scores.keys() & COUNTS.keys():
            note = f"counts are of pixels that differ by more than {tolerance:g} in some channel"
            said.append((test.path, note))
        judged = verdicts(result.scores, settings.limits)
        reasons = [verdict.said for verdict in judged if not verdict.passed]
        missing = lacking(result, settings.required)
    given = [
        f"{metric}.{name}={value}"
        for metric, own in settings.options.items()
        for name, value in own.items()
    ]
    if given:
        said.append((test.path, f"scored with {', '.join(given)}"))
    if settings.data_ranges.missing(test):
        raise DataRangeError(f"{test.path}: is {test}; add {NEEDS_RANGE}")
    return Shown(
        result,
        reference,
        test,
        used,
        settings.data_ranges.of(test),
        metrics,
        reasons,
        missing,
        [f"{path}: {note}" for path, note in said],
        shift is not None,
        settings,
    )


def _together(first: Picture, second: Picture) -> tuple[Picture, Picture]:
    """Return a pair that one page can show; its sizes may differ, its type and channels not."""
    reference, test = widened(first, second)
    if reference.sides != test.sides:  # of which `widened` takes the grey as it is
        reference, test = _coloured(reference, test), _coloured(test, reference)
    a, b = reference.pixels, test.pixels
    if reference.ndim == test.ndim == 2 and (a.dtype, a.shape[2:]) == (b.dtype, b.shape[2:]):
        return reference, test
    return comparable(first, second)


def _coloured(picture: Picture, other: Picture) -> Picture:
    """Widen grey to RGB, if the other picture has three channels."""
    if picture.channel_axis is not None or other.samples.shape[-1] != 3:
        return picture
    return picture._replace(pixels=np.repeat(picture.samples, 3, axis=-1))


def _used(
    first: Picture, second: Picture, mask: Picture | None, settings: Settings, job: Job
) -> tuple[Array | None, list[tuple[str, str]]]:
    """Return the pixels of the reference to score, None for all, and notes on the others."""
    (one, other, mask, _), *_ = fitted((first, second, mask, None), "crop", settings.data_ranges)
    part, notes = settings.ignored.used(one, other, mask and mask.pixels, job)
    if first.sides == second.sides:
        return part, notes
    if part is None:
        return None, notes
    used = np.ones(first.sides, dtype=bool)
    used[tuple(map(slice, one.sides))] = part
    return used, notes
