"""`imsim compare`: from the arguments to scores on the terminal or in a file."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any

import imsim
from imsim._images import file_of
from imsim.cli.fleet import FLEET_HELP, add_fleet, refuse_pipes
from imsim.cli.jobs import Job, Jobs, left
from imsim.cli.maps import add_maps, check_map_format, scales
from imsim.cli.measures import Settings, add_judging, settings_of
from imsim.cli.options import (
    IGNORING_HELP,
    SIZES_HELP,
    DataRanges,
    add_aligning,
    add_command,
    add_ignoring,
    add_reading,
    add_sizes,
    reading_of,
)
from imsim.cli.outcome import Junit, Listener, Outcome, add_ci, annotate, by_reason, check_junit
from imsim.cli.outputs import (
    check_maps,
    check_output,
    output_format,
    progress,
    say,
    shortened,
    width,
)
from imsim.cli.pair_scoring import Result, scored, scored_afar
from imsim.cli.pairing import Failure, FilePair, contested_stems, number_of_images, pair_files
from imsim.cli.pairs import SCENES_HELP, add_scenes
from imsim.cli.reading import (
    LABELS_HELP,
    VOLUMES_HELP,
    add_labels,
    add_volumes,
    check_labels,
    check_volumes,
)
from imsim.cli.rows import (
    Writer,
    another_run,
    changed_since,
    finish,
    parted,
    record_of,
    same_score,
    saying_rows,
    writer_of,
)
from imsim.comparison import Comparison
from imsim.differing import COUNTS, measure
from imsim.errors import ImsimError, OptionError
from imsim.pages import readable
from imsim.registry import METRICS
from imsim.tables import breadth, number, padded

MOST_TABLES = 3
"""Files up to which each gets a table of its own."""
NAME_WIDTH = 20
"""Of the names in a table with a row per pair, at least."""
SCORE_WIDTH = 12
"""Of a score of six digits, at most; two spaces come before it."""
_COUNTED = "\n".join(f"  {name:18} {count.title.lower()}" for name, count in COUNTS.items())
HELP = f"""\
Score each TEST against REF with every metric, or with those of --metrics.

Files and folders:
  REF and TEST are files    one reference against many
  TEST is a folder          REF against every image in it and in its folders
  REF and TEST are folders  files of the same path, endings aside, are
                            compared; those without a partner are named
Links are followed. Pipes and devices in folders are left aside and named.

JPEG; PNG; WebP; AVIF; GIF; BMP; TIFF of 1 bit, of integers of 8 bits or more,
or of floats; FITS (one HDU, or FILE.fits:NAME); OpenEXR; .npy; .npz (one array,
or FILE.npz:NAME); HDF5 (one dataset, or FILE.h5:/PATH); Zarr; DICOM of one
frame. A TIFF of several pages, an animation, a cube of FITS, and an array of
shape (images, height, width) or (images, height, width, channels), is a stack:
image i is compared with image i of REF, or with the only one. FILE[i] names it,
counted from 0, in results and in REF and TEST. REF, TEST and the mask must have
the same size; nothing is cropped, moved or resized unless an option asks for
it. What is done to an image on the way (composited, turned, widened, no data
left out) is said in a note, on the terminal, in CSV and in JSON. - is the
standard input.

{SCENES_HELP}
{VOLUMES_HELP}
{SIZES_HELP}
{IGNORING_HELP}
Results: a table for each of up to three files; of more, a row per pair if the
metrics fit into the width, and for each metric the mean, the range and the
worst image. --csv: columns "reference", "test", one per metric, empty where
that was skipped, "status", "notes", and "options" (as JSON) if options that
decide scores are given. --json: an object per line. The first is of the "kind"
"run" and has "reference", these options ("mask", "data_range", "ignore_value",
"ignore_nan", "background", "orientation", "channel_axis") and "metrics"; then
one of the kind "scored" for each pair has "reference", "test", "scores",
"skipped" (metric: reason) and "notes". The last rows of both are of the status,
or kind, "failed" for pairs that could not be scored, "size differs", and "no
partner" for files without one; JSON has the "reason". JSON has no infinity and
no NaN: such scores are the strings "Infinity", "-Infinity" and "NaN". Both are
UTF-8, with the names as they are, and rows are written as soon as they are
known.

{LABELS_HELP}
{FLEET_HELP}
Counts beside the metrics, by --metrics, --tolerance or --anti-aliasing:
{_COUNTED}
JSON has "boxes" of the largest parts, as x, y, w, h.

For servers: JSON has also the "versions", "rules" (which rule of --fail-under
and --fail-over passes) for each pair, and a last line of the kind "end" with
counts of rows, pairs that pass and fail each rule, and the exit status.

Exit status
  0    every pair was scored by every metric that --metrics names, or by at
       least one without; and, with --fail-under or --fail-over, all passed
  1    a score is beyond its limit; or, with limits, a pair has different
       sizes, or a file has no partner
  2    a pair was not scored, or not by what was named; a file is damaged, and
       is named, counted and skipped; an option cannot be used; the output
       cannot be written, or its reader went away; without limits also a pair
       of different sizes
  130  interrupted
"""


def add_compare(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(
        commands, "compare", run, "score images against a reference, one by one or in folders", HELP
    )
    add = parser.add_argument
    add("reference", metavar="REF", help="the reference: a file or a folder")
    add("tests", metavar="TEST", nargs="+", help="what to score: a file or a folder")
    add_reading(
        parser,
        ". A stack holds a mask for each image; in a folder, the mask of an image has its name",
    )
    add(
        "--mask-missing",
        choices=("fail", "whole"),
        default="fail",
        help="what to do with images that have no mask in a folder of masks: fail, which is the "
        "default, or score the whole image",
    )
    add_ignoring(parser)
    add_sizes(parser)
    add_aligning(parser)
    add_volumes(parser)
    add_labels(parser)
    add_judging(parser, "all of the former by default")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write JSON lines instead of tables")
    form.add_argument("--csv", action="store_true", help="write CSV instead of tables")
    add(
        "-o",
        "--output",
        metavar="FILE",
        help="write the rows to FILE (.csv, .json, .jsonl), which is replaced if it exists, and "
        "print the summary; - is the standard output, as CSV unless --json is given",
    )
    add(
        "--resume",
        action="store_true",
        help="keep the rows that FILE has of an interrupted run, and add those that are missing; "
        "options that decide scores must be the same",
    )
    add_maps(parser)
    add_scenes(parser)
    add_ci(parser)
    add_fleet(parser)


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Yield the text of tables, write rows of CSV and JSON on the way, and return the status."""
    settings = settings_of(arguments)
    metrics = settings.metrics
    if arguments.labels and (counts := [name for name in metrics if name in COUNTS]):
        raise OptionError(
            f"--labels: has a row for each region, and {', '.join(counts)} are of whole images",
            "leave out these, or --labels",
        )
    if arguments.mask_missing == "whole" and arguments.mask is None:
        raise OptionError("--mask-missing whole: is for a folder of masks; add --mask DIR")
    check_map_format(arguments)
    output_format(arguments)
    check_volumes(arguments)
    check_labels(arguments)
    found = pair_files(
        arguments.reference,
        arguments.tests,
        arguments.mask,
        arguments.volume,
        masks_may_miss=arguments.mask_missing == "whole",
    )
    reading = reading_of(arguments)
    with Jobs(found, reading, arguments.labels) as jobs:
        images = [path for pair in found.pairs for path in pair[:3] if path]
        inputs = [*found.inputs, *arguments.ignore_from]
        inputs += [arguments.labels] if arguments.labels else []
        check_output(arguments.output, inputs, resume=arguments.resume)
        refuse_pipes(arguments, inputs)
        for text in settings.ignored.unused(found.pairs):
            say(f"note: {text}")
        own = [name for name in metrics if name in METRICS]
        stems = (pair.stem for pair in found.pairs)
        check_maps(arguments.maps, found.inputs, stems, own, images)
        junit = None
        if arguments.junit is not None:
            check_junit(arguments, inputs)
            junit = Junit(arguments.junit)
        writer = writer_of(arguments, settings, jobs)
        listeners: list[Listener] = [junit] if junit else []
        listeners += [annotate] if arguments.annotations else []
        outcome = Outcome(settings, listeners)
        outcome.start(jobs)
        is_whole = False
        try:
            with saying_rows(arguments.output, lambda: outcome.pairs):
                yield from _rows(arguments, settings, jobs, writer, outcome)
            is_whole = True
        finally:
            if writer is not None:
                finish(writer, outcome, is_whole=is_whole)
            if junit is not None:
                junit.write(is_whole=is_whole)
    return outcome.end()


def _rows(
    arguments: argparse.Namespace,
    settings: Settings,
    jobs: Jobs,
    writer: Writer[Result] | None,
    outcome: Outcome,
) -> Iterator[str]:
    pairs = jobs.found.pairs
    earlier = writer.earlier if writer else []
    if writer and earlier:
        areas = [*arguments.ignore_from]
        if arguments.mask_missing == "whole" and arguments.mask is not None:
            areas.append(arguments.mask)  # from which the mask of a pair may have gone
        _check_earlier(jobs, settings, writer, areas)
    for row in earlier:
        outcome.add(row)
    done = {(row.reference, row.test) for row in earlier}
    text = None if writer and not arguments.output else _Text(jobs, settings.metrics)
    rows = text is not None and not arguments.output
    with progress(len(pairs), "pair", rows=rows) as bar:
        if arguments.scheduler is None:
            contested = contested_stems(pairs, jobs.reading) if arguments.maps else {}
            work = left(jobs.each(bar), done, contested, bar.update)
            results = scored(work, settings, arguments.workers or imsim.get_workers())
        else:
            results = scored_afar(arguments, jobs, settings, done, bar)
        for result in results:
            if isinstance(result, Failure):
                outcome.fail(result)
            else:
                for one in parted(result):
                    if writer is not None:
                        writer.row(record_of(one, settings.limits))
                    outcome.add(one)
                    if text is not None and (rows or not text.many):
                        yield from text.of(one)
            bar.update()
    if text is not None and text.many:
        yield from text.end(outcome, arguments, settings.data_ranges)


def _check_earlier(
    jobs: Jobs, settings: Settings, writer: Writer[Result], areas: Iterable[str]
) -> None:
    """Score pairs of an earlier run again, and refuse to go on if a result is another.

    These are one pair, and those of files that were changed since: all pairs if that is one of
    `areas`.
    """
    rows = {(row.reference, row.test): row for row in writer.earlier}
    pairs = jobs.found.pairs
    # A pair of equal images has the same scores whatever the options.
    telling = {names: row for names, row in rows.items() if _tells(row)} or rows
    changed = changed_since(writer.written, chain.from_iterable(map(_files, pairs)))
    renewed = bool(changed_since(writer.written, areas))
    stale = {
        file_of(pair.test) for pair in pairs if renewed or not changed.isdisjoint(_files(pair))
    }
    is_tried = False
    for item in jobs.each():
        if not isinstance(item, Job):
            continue
        names = item.reference, item.test
        row = rows.get(names)
        if row is None or not (file_of(item.test) in stale or (not is_tried and names in telling)):
            item.close()
            continue
        is_tried = is_tried or names in telling
        (result,) = scored([item], settings._replace(maps=None), imsim.get_workers())
        if (
            isinstance(result, Failure)
            or result.scores.keys() != row.scores.keys()
            or not all(same_score(result.scores[m], row.scores[m]) for m in row.scores)
        ):
            raise ImsimError(another_run(writer.name, row.test))
        if is_tried and not stale:
            return


def _files(pair: FilePair) -> list[str]:
    return [file_of(name) for name in (pair.reference, pair.test, pair.mask) if name is not None]


def _tells(row: Result) -> bool:
    return any(math.isfinite(s) and s != measure(name).best for name, s in row.scores.items())


class _Text:
    """Tables: one for each of a few files, else a row per pair, if that fits, and a summary."""

    def __init__(self, jobs: Jobs, metrics: list[str]) -> None:
        found = jobs.found
        stacks = (number_of_images(path, jobs.reading) > 1 for path in found.tests)
        self.many = found.folders or len(found.pairs) > MOST_TABLES or any(stacks)
        self.metrics = metrics
        self.width = width()
        room = self.width - (2 + SCORE_WIDTH) * len(metrics)
        longest = max((breadth(readable(pair.name)) for pair in found.pairs), default=0) + len(
            "[999]"
        )
        longest += len(", label 9999") if jobs.labels else 0
        self.rows_fit = room >= NAME_WIDTH
        self.name_width = min(room, max(longest, NAME_WIDTH))
        self._gap = ""

    def of(self, result: Result) -> Iterator[str]:
        """Yield the table of a pair, or its row."""
        if not self.many:
            if result.row:
                return  # the table of the first region has all of them
            found = result.regions or Comparison(dict(result.scores), {})
            yield f"{self._gap}{readable(result.test)}: {result.description}\n{found}"
            for names, reason in by_reason(result.skipped):
                yield f"skipped: {names}: {reason}"
        elif self.rows_fit:
            if not self._gap:
                yield self._row("", self.metrics)
            name = shortened(result.name, self.name_width)
            scores = (result.scores.get(name) for name in self.metrics)
            cells = ("-" if score is None else number(score) for score in scores)
            yield self._row(name, cells)
        else:
            return
        self._gap = "\n"

    def _row(self, name: str, cells: Iterable[str]) -> str:
        numbers = "".join(f"  {cell:>{SCORE_WIDTH}}" for cell in cells)
        return f"{padded(name, self.name_width)}{numbers}"

    def end(
        self, outcome: Outcome, arguments: argparse.Namespace, data_ranges: DataRanges
    ) -> Iterator[str]:
        """Yield the summary."""
        what = "region" if arguments.labels else "pair"
        yield f"{self._gap}{outcome.pairs} {what}{'' if outcome.pairs == 1 else 's'} scored"
        if outcome.pairs:
            yield outcome.table(self.width)
        if arguments.output:
            yield f"A row per {what}: {readable(arguments.output)}"
        elif not self.rows_fit:
            yield f"A row per {what}: -o FILE.csv, or fewer --metrics"
        if arguments.maps:
            form, ends = arguments.map_format, arguments.map_scale
            said = scales(self.metrics, data_ranges.one, form, ends)
            text = f"Maps: {readable(arguments.maps)}; {said}"
            yield textwrap.fill(text, self.width, subsequent_indent="  ", break_long_words=False)
