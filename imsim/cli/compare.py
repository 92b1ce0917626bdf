"""`imsim compare`: from the arguments to scores on the terminal or in a file."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import imsim
from imsim._images import ImageFile, Reading
from imsim.cli.jobs import Job, Jobs
from imsim.cli.limits import parse_limits, parse_metrics
from imsim.cli.maps import scales
from imsim.cli.messages import Report
from imsim.cli.outputs import check_maps, check_output, output_format
from imsim.cli.pairing import Failure, Pairing, pair_files
from imsim.cli.reading import (
    DataRanges,
    Ignored,
    changed_options,
    reading_of,
    score_options,
)
from imsim.cli.scoring import Result, Settings, scored
from imsim.cli.summary import by_reason
from imsim.cli.terminal import patience, progress, shortened, width, write_exactly
from imsim.cli.writers import SCORED, Csv, Json, Record, Writer, another_run, same_score
from imsim.comparison import Comparison
from imsim.errors import ImsimError
from imsim.pages import readable
from imsim.registry import METRICS

FEW = 3
"""Files up to which each gets a table of its own."""
NAME_WIDTH = 20
"""Of the names in a table with a row per pair, at least."""
SCORE_WIDTH = 12
"""Of a score of six digits, at most; two spaces come before it."""


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
    )
    output_format(arguments)
    found = pair_files(arguments.reference, arguments.tests, arguments.mask)
    reading = reading_of(arguments)
    with Jobs(found, reading) as jobs:
        images = (path for pair in found.pairs for path in pair[:3] if path)
        check_output(arguments.output, found.inputs, images=images, resume=arguments.resume)
        check_maps(arguments.maps, found.inputs, found.pairs, metrics)
        writer = _writer(
            arguments, metrics, score_options(arguments, settings.data_ranges, reading)
        )
        report = Report(metrics, limits, set(limits if arguments.metrics is None else metrics))
        report.start(found, [file for file in (jobs.reference, jobs.mask) if file])
        try:
            yield from _rows(arguments, settings, found, jobs, writer, report, reading)
        except KeyboardInterrupt:
            rows = f"; {report.summary.pairs} rows are in {arguments.output}, --resume goes on"
            raise KeyboardInterrupt(rows if arguments.output else "") from None
        finally:
            if writer is not None:
                writer.close(failed=report.failures, unmatched=report.unmatched)
    return report.end()


def _writer(
    arguments: argparse.Namespace, metrics: list[str], options: Record
) -> Writer[Result] | None:
    layout: Csv | Json
    match output_format(arguments):
        case "csv":
            layout = Csv(
                ["reference", "test", *metrics, "status", "notes"], changed_options(options)
            )
        case "json":
            layout = Json(reference=arguments.reference, **options, metrics=metrics)
        case _:
            return None

    def parse(record: Record) -> Result:
        if record.get("status", SCORED) != SCORED:
            raise ValueError("a pair that was not scored: it is tried again")
        names = record["reference"], record["test"], record["test"]
        scores = record["scores"] if "scores" in record else {m: record[m] for m in metrics}
        skipped = {name: "in an earlier run" for name in metrics if scores.get(name, "") == ""}
        numbers = {name: float(score) for name, score in scores.items() if score != ""}
        return Result(*names, numbers, record.get("skipped", skipped))

    return Writer(layout, arguments.output, write_exactly, arguments.resume, parse)


def _record(result: Result, *, nested: bool) -> Record:
    names = {"reference": result.reference, "test": result.test}
    notes = [f"{name}: {note}" for name, note in result.notes]
    if nested:
        return names | {"scores": result.scores, "skipped": result.skipped, "notes": notes}
    return names | result.scores | {"status": SCORED, "notes": "; ".join(notes)}


def _rows(
    arguments: argparse.Namespace,
    settings: Settings,
    found: Pairing,
    jobs: Jobs,
    writer: Writer[Result] | None,
    report: Report,
    reading: Reading,
) -> Iterator[str]:
    earlier = writer.earlier if writer else []
    if earlier:
        _check_earlier(earlier, jobs, settings, arguments.output)
    for row in earlier:
        report.add(row)
    done = {(row.reference, row.test) for row in earlier}
    nested = output_format(arguments) == "json"
    text = None if writer and not arguments.output else _Text(found, settings.metrics, reading)
    rows = text is not None and not arguments.output
    with progress(len(found.pairs), "pair", rows=rows) as bar, patience() as done_waiting:
        work = _left(jobs.each(bar), done, bar, _clashes(arguments.maps))
        for result in scored(work, settings, arguments.workers or imsim.get_workers()):
            done_waiting()
            if isinstance(result, Failure):
                report.fail(result)
            else:
                if writer is not None:
                    writer.row(_record(result, nested=nested))
                report.add(result)
                if text is not None and (rows or not text.many):
                    yield from text.of(result)
            if bar is not None:
                bar.update()
    if text is not None and text.many:
        yield from text.end(report, arguments, settings.data_ranges)


def _check_earlier(earlier: list[Result], jobs: Jobs, settings: Settings, file: str) -> None:
    """Score a pair of an earlier run again, and refuse to go on if the result is another."""
    rows = {(row.reference, row.test): row for row in earlier}
    # A pair of equal images has the same scores whatever the options.
    telling = {names: row for names, row in rows.items() if _tells(row)} or rows
    for item in jobs.each():
        row = telling.get((item.reference, item.test)) if isinstance(item, Job) else None
        if row is not None:
            (result,) = scored([item], settings._replace(maps=None), imsim.get_workers())
            if (
                isinstance(result, Failure)
                or result.scores.keys() != row.scores.keys()
                or not all(same_score(result.scores[m], row.scores[m]) for m in row.scores)
            ):
                raise ImsimError(another_run(file, row.test))
            return
        if isinstance(item, Job):
            item.close()


def _tells(row: Result) -> bool:
    return any(math.isfinite(s) and s != METRICS[name].best for name, s in row.scores.items())


def _clashes(folder: str | None) -> Callable[[Job], str | None]:
    """Return a function that says which earlier image has the maps of a job, if there are maps."""
    owners: dict[str, str] = {}
    if folder is None:
        return lambda _: None

    def clash(job: Job) -> str | None:
        owner = owners.setdefault(job.stem, job.test)
        return None if owner == job.test else owner

    return clash


def _left(
    work: Iterator[Job | Failure],
    done: set[tuple[str, str]],
    bar: Any,
    clash: Callable[[Job], str | None],
) -> Iterator[Any]:
    """Leave out the pairs whose rows are there from an earlier run, or whose maps clash."""
    for item in work:
        other = clash(item) if isinstance(item, Job) else None
        if isinstance(item, Job) and other is not None:
            item.close()
            yield Failure(
                f"{item.test}: its maps would be called {item.stem}, like those of {other}; "
                "rename one of the files",
                item.reference,
                item.test,
            )
        elif isinstance(item, Job) and (item.reference, item.test) in done:
            item.close()
            if bar is not None:
                bar.update()
        else:
            yield item


class _Text:
    """Tables: one for each of a few files, else a row per pair, if that fits, and a summary."""

    def __init__(self, found: Pairing, metrics: list[str], reading: Reading) -> None:
        stacks = (_is_stack(path, reading) for path in found.tests)
        self.many = found.folders or len(found.pairs) > FEW or any(stacks)
        self.metrics = metrics
        self.width = width()
        room = self.width - (2 + SCORE_WIDTH) * len(metrics)
        longest = max((len(readable(pair.name)) for pair in found.pairs), default=0) + len("[999]")
        self.rows_fit = room >= NAME_WIDTH
        self.name_width = min(room, max(longest, NAME_WIDTH))
        self._gap = ""

    def of(self, result: Result) -> Iterator[str]:
        """Yield the table of a pair, or its row."""
        if not self.many:
            comparison = Comparison(dict(result.scores), {})
            yield f"{self._gap}{readable(result.test)}: {result.description}\n{comparison}"
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
        self, report: Report, arguments: argparse.Namespace, data_ranges: DataRanges
    ) -> Iterator[str]:
        """Yield the summary."""
        summary = report.summary
        yield f"{self._gap}{summary.pairs} pair{'' if summary.pairs == 1 else 's'} scored"
        if summary.pairs:
            yield summary.table(self.width)
        if arguments.output:
            yield f"A row per pair: {readable(arguments.output)}"
        elif not self.rows_fit:
            yield "A row per pair: -o FILE.csv, or fewer --metrics"
        if arguments.maps:
            text = f"Maps: {readable(arguments.maps)}; {scales(self.metrics, data_ranges.one)}"
            yield textwrap.fill(text, self.width, subsequent_indent="  ", break_long_words=False)


def _is_stack(path: str, reading: Reading) -> bool:
    try:
        with ImageFile(path, reading) as file:
            return len(file) > 1
    except ImsimError:
        return False  # said when its turn comes
