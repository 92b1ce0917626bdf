"""`imsim report` of two folders: an index, and a page for each pair that is not equal."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

import imsim
from imsim._images import ImageFile, Picture, Reading, why_not_read, without_index
from imsim._version import __version__
from imsim.cli.accept import can_replace
from imsim.cli.executors import in_order
from imsim.cli.jobs import Job, Jobs
from imsim.cli.messages import progress, say
from imsim.cli.options import reading_of
from imsim.cli.outcome import Outcome, by_reason
from imsim.cli.pair_scoring import Result
from imsim.cli.pairing import Failure, Pairing, pair_files
from imsim.cli.report_pages import INDEX, PAGES, ReportPages
from imsim.cli.report_pair import NOT_SCORED, Rules, shown
from imsim.errors import ImsimError, OptionError, unforeseen
from imsim.pages import Entry, folder_report, readable
from imsim.pages.folder import Status, Thumbnail, thumbnails
from imsim.pages.layers import ImagePair
from imsim.validation import usual_data_range


class _Done(NamedTuple):
    """What comes of a pair."""

    result: Result | Failure
    entry: Entry
    html: str | None = None


class _Run(NamedTuple):
    """What is the same for every pair."""

    folders: tuple[str, str]
    rules: Rules
    reading: Reading


def report_folder(arguments: argparse.Namespace, rules: Rules) -> Generator[str, None, int]:
    """Write the report and yield where it is; return the exit status, as `imsim compare` does."""
    if arguments.output == "-":
        raise OptionError("--output -: the report of two folders is a folder; name one")
    run = _Run((arguments.reference, arguments.test), rules, reading_of(arguments))
    found = pair_files(arguments.reference, [arguments.test], arguments.mask, pairs_may_miss=True)
    settings = rules.settings
    outcome = Outcome(settings.metrics, rules.limits, rules.required)
    pages = ReportPages(arguments.output, found.inputs)
    for text in settings.ignored.unused(found.pairs):
        say(f"note: {text}")
    with Jobs(found, run.reading) as jobs:
        outcome.start(found, [file for file in (jobs.reference, jobs.mask) if file])
        entries = [*_without_partner(found, run), *_set_aside(found, run)]
        with progress(len(found.pairs), "pair") as bar:
            threads = arguments.workers or imsim.get_workers()
            work = in_order(
                jobs.each(bar),
                lambda item: _done(item, run),
                threads,
                singly=settings.volumes,  # many at once would fill the memory
            )
            for item, done in work:
                if isinstance(item, Job):
                    item.close()  # the files of a pair whose last image is done
                entries.append(done.entry)
                if done.entry.page and done.html:
                    pages.write(done.entry.page, done.html)
                hear(outcome, done.result)
                if bar is not None:
                    bar.update(1)
    facts = _facts(arguments)
    pages.write(
        INDEX, folder_report(entries, folders=run.folders, metrics=settings.metrics, facts=facts)
    )
    pages.tidy({entry.page for entry in entries if entry.page})
    status = outcome.end()
    if found.pairless:
        say(f"error: {found.pairless}")
    yield f"Report: {readable(os.path.join(arguments.output, INDEX))}"
    return 2 if found.pairless else status


def hear(outcome: Outcome, result: Result | Failure) -> None:
    """Take a result; different sizes are shown, so that without limits they are no error."""
    if isinstance(result, Result):
        outcome.add(result)
    elif result.sizes and not outcome.limits:
        say(f"note: {result.test}: {result.sizes}")
        outcome.shown += 1
    else:
        outcome.fail(result)


def _done(item: Job | Failure, run: _Run) -> _Done:
    """Score a pair and make its page; whatever fails, the other pairs have theirs."""
    if isinstance(item, Failure):
        return _Done(item, _failed(item, run))
    found = shown(item, run.rules)
    if isinstance(found, Failure):
        return _Done(found, _failed(found, run))
    name, accept = item.name, without_index(item.name)[0]
    is_equal = found.status == "equal"
    address = f"{PAGES}/{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.html"
    can = _can_replace(item.reference, item.test)
    try:
        html = None if is_equal else found.html(f"../{INDEX}")
        small = thumbnails(found.pair)
    except Exception as error:  # whatever it is, the other pairs are shown
        reason = f"{item.test}: could not be shown: {unforeseen(error)}"
        failure = Failure(reason, item.reference, item.test)
        return _Done(failure, _failed(failure, run))
    skipped = found.result.skipped if isinstance(found.result, Result) else {}
    optional = {name: why for name, why in skipped.items() if name not in run.rules.required}
    entry = Entry(
        name,
        found.status,
        found.scores,
        [*found.reasons, *found.missing],
        [*found.notes, *(f"{names}: skipped, {why}" for names, why in by_reason(optional))],
        small,
        None if is_equal else address,
        None if is_equal or not can or run.rules.settings.volumes else accept,
    )
    return _Done(found.result, entry, html)


def _failed(failure: Failure, run: _Run) -> Entry:
    """Say why there is no page, and show of the images what can be read."""
    path = failure.test or failure.reference
    name = _inside(path, run) if path else failure.message
    small, _ = _small(run, reference=failure.reference, test=failure.test)
    can = "test" in small and failure.reference and _can_replace(failure.reference, failure.test)
    status: Status = NOT_SCORED
    if failure.sizes:  # of volumes; images of different sizes have pages
        status = "failed" if run.rules.limits else "differs"
    return Entry(
        name,
        status,
        reasons=(failure.sizes or failure.message,),
        thumbnails=small,
        accept=without_index(name)[0] if can and not run.rules.settings.volumes else None,
    )


def _can_replace(reference: str, test: str | None) -> bool:
    return test is not None and can_replace(*(without_index(path)[0] for path in (reference, test)))


def _without_partner(found: Pairing, run: _Run) -> Iterator[Entry]:
    """Yield what there is to say about the files that only one folder has."""
    for failure in found.unmatched:
        is_new = failure.test is not None
        path = str(failure.test if is_new else failure.reference)
        name = _inside(path, run)
        small, problems = _small(run, reference=failure.reference, test=failure.test)
        can_accept = is_new and small and os.path.isfile(path)
        new = name if can_accept and not run.rules.settings.volumes else None
        reasons = [f"only in {run.folders[is_new]}", *problems]
        yield Entry(name, "unmatched", {}, reasons, (), small, None, new)


def _small(run: _Run, **paths: str | None) -> tuple[dict[str, Thumbnail], list[str]]:
    """Draw each image in small, the first of a stack; say why that cannot be done."""
    small, problems = {}, []
    for which, path in paths.items():
        if path is None:
            continue
        file, index = without_index(path)
        try:
            with ImageFile(file, run.reading) as opened:
                small[which] = _thumbnail(opened.read(index or 0), run)
        except ImsimError as error:
            problems.append(str(error))
        except Exception as error:
            problems.append(f"could not be shown: {unforeseen(error)}")
    return small, problems


def _thumbnail(picture: Picture, run: _Run) -> Thumbnail:
    """Draw an image in small, on the scale of its pixels where nothing is said of their range."""
    pixels, valid = picture.samples, picture.valid
    if picture.ndim == 3:  # the slice in the middle
        middle = len(pixels) // 2
        pixels, valid = pixels[middle], None if valid is None else valid[middle]
    span = run.rules.settings.data_ranges.of(picture) or usual_data_range([pixels.dtype])
    if span is None:
        finite = pixels[np.isfinite(pixels)]
        span = float(np.ptp(finite.astype(np.float64))) if finite.size else 0.0
    return thumbnails(ImagePair(pixels, pixels, valid, span or 1.0))["reference"]


def _set_aside(found: Pairing, run: _Run) -> Iterator[Entry]:
    """Yield what there is to say about files that were not compared."""
    for failure in found.failed:
        yield _failed(failure, run)
    for path in found.odd:
        yield Entry(_inside(path, run), NOT_SCORED, reasons=("a pipe or a device, left aside",))
    for path in found.left_aside:
        if why := why_not_read(path):
            yield Entry(_inside(path, run), NOT_SCORED, reasons=(why,))


def _inside(path: str, run: _Run) -> str:
    """Return the path of a file within its folder."""
    for folder in reversed(run.folders):
        start = os.path.join(folder, "")
        if path.startswith(start):
            return path[len(start) :]
    return path


def _facts(arguments: argparse.Namespace) -> dict[str, str]:
    """Say with what the report was made: every option that was given."""
    given: dict[str, Any] = {"imsim": __version__, **vars(arguments)}
    nothing: tuple[Any, ...] = (None, False, [], ())
    return {
        name.replace("_", "-"): ", ".join(map(str, value if isinstance(value, list) else [value]))
        for name, value in given.items()
        if value not in nothing and not callable(value)
    }
