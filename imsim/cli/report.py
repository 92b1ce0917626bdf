"""`imsim report`: two images on one HTML page, or two folders on many."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import imsim
from imsim._images import (
    STDIN,
    ImageFile,
    Picture,
    Reading,
    file_of,
    read_picture,
    why_not_read,
    without_index,
)
from imsim._images.reading import first_bytes
from imsim._version import __version__
from imsim.cli.accept import can_replace
from imsim.cli.jobs import Job, Jobs, in_order
from imsim.cli.maps import add_map_scale
from imsim.cli.measures import Settings, add_judging, settings_of
from imsim.cli.options import (
    IGNORING_HELP,
    add_aligning,
    add_command,
    add_ignoring,
    add_reading,
    count,
    reading_of,
)
from imsim.cli.outcome import Outcome, by_reason
from imsim.cli.outputs import (
    check_folder,
    check_output,
    is_standard_output,
    progress,
    say,
    write_exactly,
)
from imsim.cli.pair_scoring import Result
from imsim.cli.pairing import Failure, Pairing, is_folder, pair_files
from imsim.cli.reading import add_volumes, check_size, check_volumes, mask_of
from imsim.cli.report_pair import NOT_SCORED, shown
from imsim.errors import ImsimError, OptionError, failed
from imsim.pages import Entry, folder_report, page, readable, tag
from imsim.pages.folder import Status, Thumbnail, thumbnails
from imsim.pages.layers import ImagePair
from imsim.pages.page import GENERATOR
from imsim.validation import usual_data_range
from imsim.whole_files import is_part, replacing, write_whole, writing_to

INDEX, PAGES = "index.html", "pairs"
_NAME = re.compile(r"[0-9a-f]{16}\.html")
_MARK = str(tag("meta", name="generator", content=GENERATOR)).encode("ascii")
_HEAD = 4096
"""Bytes at the beginning of a page, which hold its mark."""


class ReportPages:
    """Writes the pages of a report into a new or empty folder, or one with an index of imsim."""

    def __init__(self, folder: str, inputs: Iterable[str]) -> None:
        self._folder = folder
        if os.path.exists(folder):
            if not os.path.isdir(folder):
                raise OptionError(
                    f"{folder}: is a file; the report of two folders is a folder, name a new one"
                )
            # Another run may be making its index.
            holds = [name for name in os.listdir(folder) if not is_part(name)]
            if holds and not _is_ours(os.path.join(folder, INDEX)):
                raise OptionError(
                    f"{folder}: is there, and holds no report; name a new folder, or an empty one"
                )
        check_folder(folder, inputs)
        # Whatever happens, the folder is known as ours, and an old index does not stay.
        unfinished = "This report is being written, or was interrupted."
        self.write(INDEX, page("Unfinished report", tag("h1", unfinished)))
        with writing_to(folder):
            os.makedirs(os.path.join(folder, PAGES), exist_ok=True)

    def write(self, name: str, html: str) -> None:
        """Write a page, all of it or nothing; its name is relative to the folder."""
        path = os.path.join(self._folder, name)
        with writing_to(path), replacing(path) as new:
            Path(new).write_text(html, encoding="utf-8")

    def tidy(self, kept: Collection[str]) -> None:
        """Remove the pages of an earlier report that this one has not; nothing else."""
        place = os.path.join(self._folder, PAGES)
        for name in os.listdir(place):
            path = os.path.join(place, name)
            if f"{PAGES}/{name}" not in kept and _NAME.fullmatch(name) and _is_ours(path):
                with suppress(OSError):
                    os.remove(path)


def _is_ours(path: str) -> bool:
    """Tell whether a file is a page of this program."""
    return _MARK in first_bytes(path, _HEAD)


class _Run(NamedTuple):
    """What is the same for every pair."""

    folders: tuple[str, str]
    settings: Settings
    reading: Reading


def report_folder(arguments: argparse.Namespace, settings: Settings) -> Generator[str, None, int]:
    """Write the report and yield where it is; return the exit status, as `imsim compare` does."""
    if arguments.output == "-":
        raise OptionError("--output -: the report of two folders is a folder; name one")
    run = _Run((arguments.reference, arguments.test), settings, reading_of(arguments))
    found = pair_files(arguments.reference, [arguments.test], arguments.mask, pairs_may_miss=True)
    outcome = Outcome(settings)
    pages = ReportPages(arguments.output, found.inputs)
    for text in settings.ignored.unused(found.pairs):
        say(f"note: {text}")
    with Jobs(found, run.reading) as jobs:
        outcome.start(jobs)
        entries = [*_without_partner(found, run), *_set_aside(found, run)]
        with progress(len(found.pairs), "pair") as bar:
            threads = arguments.workers or imsim.get_workers()
            work = in_order(
                jobs.each(bar),
                lambda item: _done(item, run),
                threads,
                singly=settings.volume,  # many at once would fill the memory
            )
            for item, (result, entry, html) in work:
                if isinstance(item, Job):
                    item.close()  # the files of a pair whose last image is done
                entries.append(entry)
                if entry.page and html:
                    pages.write(entry.page, html)
                hear(outcome, result)
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


def _done(item: Job | Failure, run: _Run) -> tuple[Result | Failure, Entry, str | None]:
    """Score a pair and make its page, if it has one; whatever fails, the others have theirs."""
    if isinstance(item, Failure):
        return item, _failed(item, run), None
    found = shown(item, run.settings)
    if isinstance(found, Failure):
        return found, _failed(found, run), None
    name, accept = item.name, without_index(item.name)[0]
    is_equal = found.status == "equal"
    address = f"{PAGES}/{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.html"
    can = can_replace(item.reference, item.test)
    try:
        html = None if is_equal else found.html(f"../{INDEX}")
        small = thumbnails(found.pair)
    except Exception as error:  # whatever it is, the other pairs are shown
        reason = f"{item.test}: {failed('shown', error)}"
        failure = Failure(reason, item.reference, item.test)
        return failure, _failed(failure, run), None
    skipped = found.result.skipped if isinstance(found.result, Result) else {}
    optional = {name: why for name, why in skipped.items() if name not in run.settings.required}
    entry = Entry(
        name,
        found.status,
        found.scores,
        [*found.reasons, *found.missing],
        [*found.notes, *(f"{names}: skipped, {why}" for names, why in by_reason(optional))],
        small,
        None if is_equal else address,
        None if is_equal or not can or run.settings.volume else accept,
    )
    return found.result, entry, html


def _failed(failure: Failure, run: _Run) -> Entry:
    """Say why there is no page, and show of the images what can be read."""
    path = failure.test or failure.reference
    name = _inside(path, run) if path else failure.message
    small, _ = _small(run, reference=failure.reference, test=failure.test)
    can = "test" in small and failure.reference and can_replace(failure.reference, failure.test)
    status: Status = NOT_SCORED
    if failure.sizes:  # of volumes; images of different sizes have pages
        status = "failed" if run.settings.limits else "differs"
    return Entry(
        name,
        status,
        reasons=(failure.sizes or failure.message,),
        thumbnails=small,
        accept=without_index(name)[0] if can and not run.settings.volume else None,
    )


def _without_partner(found: Pairing, run: _Run) -> Iterator[Entry]:
    """Yield what there is to say about the files that only one folder has."""
    for failure in found.unmatched:
        is_new = failure.test is not None
        path = str(failure.test if is_new else failure.reference)
        name = _inside(path, run)
        small, problems = _small(run, reference=failure.reference, test=failure.test)
        can_accept = is_new and small and os.path.isfile(path)
        new = name if can_accept and not run.settings.volume else None
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
            problems.append(failed("shown", error))
    return small, problems


def _thumbnail(picture: Picture, run: _Run) -> Thumbnail:
    """Draw an image in small, on the scale of its pixels where nothing is said of their range."""
    pixels, valid = picture.samples, picture.valid
    if picture.ndim == 3:  # the slice in the middle
        middle = len(pixels) // 2
        pixels, valid = pixels[middle], None if valid is None else valid[middle]
    span = run.settings.data_ranges.of(picture) or usual_data_range([pixels.dtype])
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


METRICS = "ssim,psnr,rmse"
"""Of folders, without --metrics: what most people know, at little cost."""
HELP = f"""\
Show where images differ, on pages that need no network and open in any browser.

REF and TEST are files    one page: both images, their difference, every
                          similarity map and every score. -o names it
REF and TEST are folders  an index of all pairs, the worst first, with small
                          pictures, and a page for each pair that is not equal.
                          -o names the folder: a new one, or one with such a
                          report, which is replaced. Nothing else in it is
                          touched. Files are matched as `imsim compare` does

On the page, one picture is large: a wipe or a flicker between both images, or
their difference. Images of different sizes are aligned at the top left, and
what only one has is marked; --align moves TEST by the shift that fits best. Of
volumes (--volume), the page shows three cuts through the worst place, and
sliders through the rest. On the index, the ticked pairs make a command line of
`imsim accept`, which copies the new references.

{IGNORING_HELP}
Exit status: 0; 2 after any error, such as a damaged file; else 1 if a score is
beyond its --fail-under or --fail-over, or, with these, sizes differ or a file
has no partner.
"""


def add_report(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(
        commands, "report", run, "show where images differ, on HTML pages: a pair or folders", HELP
    )
    add = parser.add_argument
    add("reference", metavar="REF", help="the reference: a file, FILE[i] of a stack, or a folder")
    add("test", metavar="TEST", help="what to compare with it, likewise")
    add_reading(parser)
    add_ignoring(parser)
    add_aligning(parser)
    add_volumes(parser)
    add_map_scale(parser)
    add_judging(parser, f"all of the former by default; of folders, {METRICS}")
    add("--workers", metavar="N", type=count, help="threads to use; by default one per CPU")
    add(
        "-o",
        "--output",
        metavar="PLACE",
        required=True,
        help="the page, such as report.html, - being the standard output; of folders, a folder",
    )


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Write the report and yield where it is, or print the page itself; return the status."""
    check_volumes(arguments)
    both = arguments.reference, arguments.test
    folders = [path for path in both if is_folder(path, arguments.volume)]
    if len(folders) == 1:
        (other,) = (path for path in both if path not in folders)
        if other != STDIN and not os.path.exists(other):
            raise OptionError(f"{other}: cannot be read: there is no such folder")
        raise OptionError(
            f"{folders[0]}: is a folder, and the other is not; report takes two images, or two "
            "folders"
        )
    report = report_folder if folders else _report_pair
    return (yield from report(arguments, settings_of(arguments, METRICS if folders else None)))


def _report_pair(arguments: argparse.Namespace, settings: Settings) -> Generator[str, None, int]:
    paths = [arguments.reference, arguments.test, *([arguments.mask] if arguments.mask else [])]
    if arguments.mask and is_folder(arguments.mask, arguments.volume):
        raise OptionError(f"{arguments.mask}: is a folder; the mask of two images is an image")
    printed = is_standard_output(arguments.output)
    check_output(None if printed else arguments.output, paths)
    reading = reading_of(arguments)
    plain = replace(reading, clear_is_no_data=False)
    first = read_picture(paths[0], reading)
    second, *masks = (read_picture(path, plain) for path in paths[1:])
    mask = mask_of(masks[0]) if masks else None
    if mask:
        check_size(mask, first, "mask is")
    outcome = Outcome(settings)
    found = shown(
        Job(
            first.path,
            second.path,
            second.path,
            "",
            os.path.splitext(os.path.basename(file_of(second.path)))[0],
            lambda: (first, second, mask, None),
            lambda: None,
        ),
        settings,
    )
    if isinstance(found, Failure):
        raise ImsimError(found.message)
    html = found.html()
    hear(outcome, found.result)
    status = outcome.end()
    if printed:
        write_exactly(html)
        return status
    with writing_to(arguments.output):
        write_whole(arguments.output, html.encode("utf-8"))
    yield f"Report: {readable(arguments.output)}"
    return status
