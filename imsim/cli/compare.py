"""`imsim compare`: from the arguments to scores on the terminal or in a file."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import imsim
from imsim._images import ImageFile, Reading, file_of, without_index
from imsim.cli.fleet import FLEET_HELP, FleetError, add_fleet, refuse_pipes
from imsim.cli.fleet_pairs import scored_afar
from imsim.cli.jobs import Job, Jobs, Result, Settings, scored
from imsim.cli.maps import add_maps, check_map_format, scales
from imsim.cli.messages import (
    Outcome,
    by_reason,
    progress,
    shortened,
    width,
)
from imsim.cli.options import (
    DataRanges,
    add_command,
    add_reading,
    check_maps,
    check_output,
    output_format,
    parse_limits,
    parse_metrics,
    reading_of,
)
from imsim.cli.pairing import Failure, FilePair, Pairing, pair_files
from imsim.cli.reading import Ignored
from imsim.cli.regions import LABELS_HELP, add_labels, check_labels, columns, parted, place
from imsim.cli.remaining import left, owners_of_maps
from imsim.cli.rows import Csv, Json, Record, Writer, another_run, changed_since, same_score
from imsim.cli.scenes import SCENES_HELP, add_scenes, on_disk_of, scene_options
from imsim.cli.volumes import VOLUMES_HELP, add_volumes, check_volumes
from imsim.comparison import Comparison
from imsim.errors import ImsimError
from imsim.pages import readable
from imsim.registry import METRICS

SCORED, FAILED, UNMATCHED = "scored", "failed", "no partner"
"""The ``status`` of a row in CSV, and the ``kind`` of a line in JSON."""
MOST_TABLES = 3
"""Files up to which each gets a table of its own."""
NAME_WIDTH = 20
"""Of the names in a table with a row per pair, at least."""
SCORE_WIDTH = 12
"""Of a score of six digits, at most; two spaces come before it."""
HELP = f"""\
Score each TEST against REF with every metric, or with those of --metrics.

Files and folders:
  REF and TEST are files    one reference against many
  TEST is a folder          REF against every image in it and in its folders
  REF and TEST are folders  files of the same path, endings aside, are
                            compared; those without a partner are named
Links are followed. Pipes and devices in folders are left aside and named.

JPEG; PNG; TIFF of 1 bit, of integers of 8 bits or more, or of floats; .npy;
.npz (one array, or FILE.npz:NAME); Zarr. A TIFF of several pages, and an array of
shape (images, height, width) or (images, height, width, channels), is a
stack: image i is compared with image i of REF, or with the only one. FILE[i]
names it, counted from 0, in results and in REF and TEST. REF, TEST and the
mask must have the same size; nothing is aligned or resized. What is done to an
image on the way (composited, widened, no data left out) is said in a note, on
the terminal, in CSV and in JSON. - is the standard input.

{SCENES_HELP}
{VOLUMES_HELP}
Results: a table for each of up to three files; of more, a row per pair if the
metrics fit into the width, and for each metric the mean, the range and the
worst image. --csv: columns "reference", "test", one per metric, empty where
that was skipped, "status", "notes", and "options" (as JSON) if options that
decide scores are given. --json: an object per line. The first is of the "kind"
"run" and has "reference", these options ("mask", "data_range", "ignore_value",
"ignore_nan", "background", "channel_axis") and "metrics"; then one of the kind
"scored" for each pair has "reference", "test", "scores", "skipped" (metric:
reason) and "notes". The last rows of both are of the status, or kind, "failed"
for pairs that could not be scored, and "no partner" for files without one; JSON
has the "reason". JSON has no infinity and no NaN: such scores are the strings
"Infinity", "-Infinity" and "NaN". Both are UTF-8, with the names as they are,
and rows are written as soon as they are known.

{LABELS_HELP}
{FLEET_HELP}
Exit status: 0 if every pair was scored by every metric that --metrics names,
or by at least one without --metrics; 2 otherwise: a damaged file is named,
counted and skipped; 2 also if an option could not be used, the output not be
written, or its reader went away; else 1 if a score is beyond its --fail-under
or a file has no partner there; 130 if interrupted.
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
    add_volumes(parser)
    add_labels(parser)
    add("--metrics", metavar="a,b", help="names from `imsim list`, separated by commas")
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
    add(
        "--fail-under",
        metavar="m=x",
        action="append",
        default=[],
        help="end with status 1 if a score of metric m is worse than x (above it where lower is "
        "better: gmsd=0.1), or a file has no partner; can be repeated",
    )
    add_fleet(parser, "threads to use; by default one per CPU")


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Yield the text of tables, write rows of CSV and JSON on the way, and return the status."""
    limits = parse_limits(arguments.fail_under)
    metrics = parse_metrics(arguments.metrics, limits)
    settings = Settings(
        metrics,
        arguments.metrics is not None,
        DataRanges(arguments.data_range),
        Ignored.of(arguments),
        arguments.maps,
        arguments.volume,
        arguments.spacing,
        on_disk_of(arguments),
    )
    check_map_format(arguments)
    output_format(arguments)
    check_volumes(arguments)
    check_labels(arguments)
    found = pair_files(arguments.reference, arguments.tests, arguments.mask, arguments.volume)
    reading = reading_of(arguments)
    with Jobs(found, reading, arguments.labels) as jobs:
        images = (path for pair in found.pairs for path in pair[:3] if path)
        inputs = [*found.inputs, *([arguments.labels] if arguments.labels else [])]
        check_output(arguments.output, inputs, images=images, resume=arguments.resume)
        if arguments.scheduler is not None:
            refuse_pipes(inputs)
        check_maps(arguments.maps, found.inputs, (pair.stem for pair in found.pairs), metrics)
        options = _score_options(arguments, settings.data_ranges, reading)
        writer = _writer(arguments, metrics, options, {p.test: p.name for p in found.pairs})
        outcome = Outcome(metrics, limits, set(limits if arguments.metrics is None else metrics))
        outcome.wanted = "TIFF of several pages" if arguments.volume else outcome.wanted
        shared = (jobs.reference, jobs.mask, jobs.labels)
        outcome.start(found, [file for file in shared if file])
        try:
            yield from _rows(arguments, settings, found, jobs, writer, outcome, reading)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_rows_there(arguments, outcome)) from None
        except FleetError as error:
            raise FleetError(f"{error}{_rows_there(arguments, outcome)}") from error
        finally:
            if writer is not None:
                _finish(writer, outcome, nested=output_format(arguments) == "json")
    return outcome.end()


def _rows_there(arguments: argparse.Namespace, outcome: Outcome) -> str:
    rows = f"; {outcome.summary.pairs} rows are in {arguments.output}, --resume goes on"
    return rows if arguments.output else ""


def _writer(
    arguments: argparse.Namespace, metrics: list[str], options: Record, names: Mapping[str, str]
) -> Writer[Result] | None:
    """Return what writes rows to a file or the terminal; `names` are those of the test files."""
    layout: Csv | Json
    match output_format(arguments):
        case "csv":
            spacing = ["spacing"] if arguments.volume else []
            regions = columns(3 if arguments.volume else 2) if arguments.labels else ()
            header = ["reference", "test", *regions, *metrics, *spacing, "status", "notes"]
            layout = Csv(header, _changed_options(options))
        case "json":
            layout = Json(reference=arguments.reference, **options, metrics=metrics)
        case _:
            return None

    def parse(record: Record) -> Result:
        if record["status" if "status" in record else "kind"] != SCORED:
            raise ValueError("a pair that was not scored: it is tried again")
        test = record["test"]
        file = test if test in names else without_index(test)[0]
        name = names.get(file, file) + test.removeprefix(file)
        scores = record["scores"] if "scores" in record else {m: record[m] for m in metrics}
        skipped = {name: "in an earlier run" for name in metrics if scores.get(name, "") == ""}
        numbers = {name: float(score) for name, score in scores.items() if score != ""}
        return Result(record["reference"], test, name, numbers, record.get("skipped", skipped))

    return Writer(layout, arguments.output, arguments.resume, parse)


def _record(result: Result, *, nested: bool) -> Record:
    names = {"reference": result.reference, "test": result.test, **place(result, nested=nested)}
    notes = [f"{name}: {note}" for name, note in result.notes]
    if nested:
        more = {"scores": result.scores, "skipped": result.skipped, "notes": notes}
        spaced = {"spacing": list(result.spacing)} if result.spacing else {}
        return {"kind": SCORED} | names | more | spaced
    more = {"status": SCORED, "notes": "; ".join(notes)}
    spacing = ",".join(f"{length:g}" for length in result.spacing or ())
    return names | result.scores | more | {"spacing": spacing}


def _finish(writer: Writer[Result], outcome: Outcome, *, nested: bool) -> None:
    """Write the rows of what has no scores, and end the file."""
    try:
        for status, failures in ((FAILED, outcome.failures), (UNMATCHED, outcome.unmatched)):
            for failure in failures:
                names = {"reference": failure.reference, "test": failure.test}
                if nested:
                    writer.row({"kind": status} | names | {"reason": failure.message})
                else:
                    writer.row(names | {"status": status, "notes": failure.message})
    finally:
        writer.close()


def _rows(
    arguments: argparse.Namespace,
    settings: Settings,
    found: Pairing,
    jobs: Jobs,
    writer: Writer[Result] | None,
    outcome: Outcome,
    reading: Reading,
) -> Iterator[str]:
    earlier = writer.earlier if writer else []
    if writer and earlier:
        _check_earlier(earlier, found, jobs, settings, writer)
    for row in earlier:
        outcome.add(row)
    done = {(row.reference, row.test) for row in earlier}
    nested = output_format(arguments) == "json"
    text = (
        None
        if writer and not arguments.output
        else _Text(found, settings.metrics, reading, jobs.labels is not None)
    )
    rows = text is not None and not arguments.output
    with progress(len(found.pairs), "pair", rows=rows) as bar:

        def advance(images: int = 1) -> None:
            if bar is not None:
                bar.update(images)

        if arguments.scheduler is None:
            work = left(jobs.each(bar), done, owners_of_maps(arguments.maps), advance)
            results = scored(work, settings, arguments.workers or imsim.get_workers())
        else:
            results = scored_afar(arguments, found, reading, settings, done, bar)
        for result in results:
            if isinstance(result, Failure):
                outcome.fail(result)
            else:
                for one in parted(result):
                    if writer is not None:
                        writer.row(_record(one, nested=nested))
                    outcome.add(one)
                    if text is not None and (rows or not text.many):
                        yield from text.of(one)
            advance()
    if text is not None and text.many:
        yield from text.end(outcome, arguments, settings.data_ranges)


def _check_earlier(
    earlier: list[Result], found: Pairing, jobs: Jobs, settings: Settings, writer: Writer[Result]
) -> None:
    """Score pairs of an earlier run again, and refuse to go on if a result is another.

    These are one pair, and those of files that were changed since.
    """
    rows = {(row.reference, row.test): row for row in earlier}
    # A pair of equal images has the same scores whatever the options.
    telling = {names: row for names, row in rows.items() if _tells(row)} or rows
    changed = changed_since(writer.written, chain.from_iterable(map(_files, found.pairs)))
    stale = {file_of(pair.test) for pair in found.pairs if not changed.isdisjoint(_files(pair))}
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
    return any(math.isfinite(s) and s != METRICS[name].best for name, s in row.scores.items())


class _Text:
    """Tables: one for each of a few files, else a row per pair, if that fits, and a summary."""

    def __init__(
        self, found: Pairing, metrics: list[str], reading: Reading, with_labels: bool
    ) -> None:
        stacks = (_is_stack(path, reading) for path in found.tests)
        self.many = found.folders or len(found.pairs) > MOST_TABLES or any(stacks)
        self.metrics = metrics
        self.width = width()
        room = self.width - (2 + SCORE_WIDTH) * len(metrics)
        longest = max((len(readable(pair.name)) for pair in found.pairs), default=0) + len("[999]")
        longest += len(", label 9999") if with_labels else 0
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
            cells = ("-" if score is None else f"{score:.6g}" for score in scores)
            yield self._row(name, cells)
        else:
            return
        self._gap = "\n"

    def _row(self, name: str, cells: Iterable[str]) -> str:
        numbers = "".join(f"  {cell:>{SCORE_WIDTH}}" for cell in cells)
        return f"{name:{self.name_width}}{numbers}"

    def end(
        self, outcome: Outcome, arguments: argparse.Namespace, data_ranges: DataRanges
    ) -> Iterator[str]:
        """Yield the summary."""
        summary = outcome.summary
        what = "region" if arguments.labels else "pair"
        yield f"{self._gap}{summary.pairs} {what}{'' if summary.pairs == 1 else 's'} scored"
        if summary.pairs:
            yield summary.table(self.width)
        if arguments.output:
            yield f"A row per {what}: {readable(arguments.output)}"
        elif not self.rows_fit:
            yield f"A row per {what}: -o FILE.csv, or fewer --metrics"
        if arguments.maps:
            form, ends = arguments.map_format, arguments.map_scale
            said = scales(self.metrics, data_ranges.one, form, ends)
            text = f"Maps: {readable(arguments.maps)}; {said}"
            yield textwrap.fill(text, self.width, subsequent_indent="  ", break_long_words=False)


def _is_stack(path: str, reading: Reading) -> bool:
    try:
        with ImageFile(path, reading) as file:
            return len(file) > 1
    except ImsimError:
        return False  # said when its turn comes


def _score_options(
    arguments: argparse.Namespace, data_ranges: DataRanges, reading: Reading
) -> dict[str, Any]:
    """Return the options that decide scores, as JSON holds them: two runs mix only if they agree.

    The names of the images and the metrics are in the rows.
    """
    labels = {} if arguments.labels is None else {"labels": arguments.labels}
    return {
        "mask": arguments.mask,
        **labels,
        "data_range": data_ranges.plain,
        "ignore_value": sorted(set(arguments.ignore_value), key=str),
        "ignore_nan": arguments.ignore_nan,
        "background": "#{:02x}{:02x}{:02x}".format(*reading.rgb),
        "channel_axis": reading.channel_axis,
        **scene_options(arguments),
    } | ({"volume": True, "spacing": arguments.spacing} if reading.volume else {})


def _changed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those that are not what they are by default."""
    defaults = {"ignore_value": [], "ignore_nan": False, "background": "#ffffff"}
    return {name: value for name, value in options.items() if value != defaults.get(name)}
