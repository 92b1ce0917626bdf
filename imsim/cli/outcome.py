"""What a run comes to: scores by metric, notes, failures, the exit status; files for servers."""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from imsim._images import file_of, same_file, why_not_read, without_index
from imsim._version import __version__
from imsim.cli.jobs import Jobs
from imsim.cli.measures import Settings, rule, verdicts
from imsim.cli.outputs import (
    Notes,
    Tally,
    check_output,
    say,
    say_line,
    say_of,
    shortened,
)
from imsim.cli.pair_scoring import Result
from imsim.cli.pairing import Failure, FilePair
from imsim.differing import measure
from imsim.errors import OptionError
from imsim.pages import readable
from imsim.tables import breadth, number, table
from imsim.whole_files import write_whole, writing_to

PASSED, FAILED, ERROR, SKIPPED = "passed", "failed", "error", "skipped"
_ELEMENTS = {FAILED: "failure", ERROR: "error", SKIPPED: "skipped"}


class Case(NamedTuple):
    """One pair, or one file without a partner."""

    name: str
    """The test image."""
    reference: str | None
    status: str
    """`PASSED`, `FAILED` by a rule, `ERROR` if it could not be scored, or `SKIPPED`."""
    message: str = ""
    output: str = ""
    """The scores, for a reader."""
    image: str | None = None
    """The test image, where the name says more, as of a region."""


Listener = Callable[[Case], None]
"""Hears of each case when it is known."""


def add_ci(parser: argparse.ArgumentParser) -> None:
    """Add the options on what servers read."""
    add = parser.add_argument
    add(
        "--junit",
        metavar="FILE",
        help="write JUnit XML to FILE: a test case for each pair, and for each file without a "
        "partner",
    )
    add(
        "--annotations",
        choices=("github",),
        help="say failures also as workflow commands of GitHub Actions, on standard error, which "
        "then mark the files",
    )


def check_junit(arguments: argparse.Namespace, inputs: Iterable[str]) -> None:
    """Refuse a file of --junit that cannot be written, or that is another one of the run."""
    file, rows = arguments.junit, arguments.output
    if rows is not None and same_file(file, rows):
        raise OptionError(f"--junit {file}: is the file of --output; name another one")
    check_output(file, inputs, option="--junit")


class Junit:
    """Collects cases, and writes them as XML that servers know from JUnit.

    The file is emptied at once: a server must not take that of an earlier run for this one.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        if os.path.isfile(file) or not os.path.exists(file):
            with writing_to(file):
                Path(file).write_bytes(b"")
        self._suite = ElementTree.Element("testsuite", name="imsim compare")
        self._counts = dict.fromkeys((PASSED, FAILED, ERROR, SKIPPED), 0)

    def __call__(self, case: Case) -> None:
        """Take a case."""
        self._counts[case.status] += 1
        folder, name = os.path.split(_plain(case.name))
        element = ElementTree.SubElement(
            self._suite, "testcase", classname=folder or "imsim", name=name, time="0"
        )
        if case.status in _ELEMENTS:
            inside = ElementTree.SubElement(
                element, _ELEMENTS[case.status], message=_plain(case.message)
            )
            is_pair = case.reference not in (None, case.name)
            against = f" against {case.reference}" if is_pair else ""
            message = case.message.removeprefix(f"{case.name}: ")
            inside.text = _plain(f"{case.name}{against}: {message}")
        if case.output:
            ElementTree.SubElement(element, "system-out").text = _plain(case.output)

    def write(self, *, is_whole: bool) -> None:
        """Write the file; what is left of a run that was ended is an error in it."""
        if not is_whole:
            self(Case("imsim", None, ERROR, "the run was ended before all pairs were compared"))
        names = {"failures": FAILED, "errors": ERROR, "skipped": SKIPPED}
        numbers = {name: str(self._counts[status]) for name, status in names.items()}
        total = {"tests": str(sum(self._counts.values())), **numbers}
        self._suite.attrib.update(total)
        properties = ElementTree.Element("properties")
        ElementTree.SubElement(properties, "property", name="imsim", value=__version__)
        self._suite.insert(0, properties)
        suites = ElementTree.Element("testsuites", total)
        suites.append(self._suite)
        ElementTree.indent(suites)
        content = ElementTree.tostring(suites, "utf-8", xml_declaration=True) + b"\n"
        with writing_to(self._file):
            write_whole(self._file, content)


def annotate(case: Case) -> None:
    """Say a failure as GitHub Actions reads it."""
    if case.status in (FAILED, ERROR):
        file, said = file_of(case.image or case.name), case.message
        if file != case.name and not said.startswith(case.name):  # which image, or region, of it
            said = f"{case.name}: {said}"
        place = readable(_escaped(file)).replace(":", "%3A").replace(",", "%2C")
        say_line(f"::error file={place},title=imsim::{_escaped(readable(said))}")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _plain(text: str) -> str:
    """Return text that XML 1.0 can hold."""
    return "".join(c if c >= " " and c not in "\ufffe\uffff" else " " for c in readable(text))


def _is_one_file(pair: FilePair) -> bool:
    """Tell whether a pair is one file, of which its scores tell nothing."""
    indices = [without_index(path)[1] for path in (pair.reference, pair.test)]
    return indices[0] == indices[1] and same_file(pair.reference, pair.test)


class _Statistics:
    """Mean, least, largest and worst of the scores of one metric, without keeping them."""

    def __init__(self) -> None:
        self.count = self.missing = 0
        self.total = 0.0
        self.low = self.high = math.nan, ""  # with the first image that has it

    def add(self, score: float, name: str) -> None:
        if math.isnan(score):
            self.missing += 1
            return
        self.count += 1
        self.total += score
        if not self.low[0] <= score:
            self.low = score, name
        if not self.high[0] >= score:
            self.high = score, name


def by_reason(skipped: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each reason once, after the metrics that were skipped for it."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return [(", ".join(those), reason) for reason, those in names.items()]


def lacking(result: Result, required: Container[str]) -> list[str]:
    """Say what a pair must be scored by, and was not."""
    missing = {name: why for name, why in result.skipped.items() if name in required}
    said = [f"{names}: {reason}" for names, reason in by_reason(missing)]
    return said if said or result.scores else ["every metric was skipped"]


class Outcome:
    """Takes the results one by one, says what is wrong with them, and counts."""

    def __init__(self, settings: Settings, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = listeners
        self.pairs = 0
        self._statistics = {name: _Statistics() for name in settings.metrics}
        self._skipped: Counter[tuple[str, str]] = Counter()
        """Metrics and the reason for skipping them, and of how many pairs."""
        self.limits, self.required = settings.limits, settings.required
        self.notes, self.skips = Notes(), Tally()
        self.failures: list[Failure] = []
        self.mismatched: list[Failure] = []
        """The pairs of different sizes."""
        self.unmatched: list[Failure] = []
        self.rules = {rule(*limit): {"passed": 0, "failed": 0} for limit in self.limits.items()}
        """How many pairs each rule has passed and failed."""
        self.beyond = 0
        self.shown = 0
        """Pairs of different sizes that a report shows, which are no failures without limits."""
        self._said: set[tuple[str, str]] = set()

    def start(self, jobs: Jobs) -> None:
        """Say what is wrong with the choice of files."""
        found = jobs.found
        for failure in found.unmatched:
            say(f"note: {failure.message}")
            status = FAILED if self.limits else SKIPPED
            self._tell(
                failure.test or failure.reference, failure.reference, status, failure.message
            )
        self.unmatched = list(found.unmatched)
        images = {path: why for path in found.left_aside if (why := why_not_read(path))}
        odd = dict.fromkeys(found.odd, "is a pipe or a device, and not compared")
        # A gate must not pass over images; otherwise they are left aside like other files.
        failed = images | odd if self.limits else {}
        if not self.limits:
            say_of(odd, "no files but pipes or devices, left aside")
        aside = dict.fromkeys((*images, *found.left_aside))
        say_of([path for path in aside if path not in failed], "files of other kinds left aside")
        for path, why in failed.items():
            is_reference = path.startswith(os.path.join(found.inputs[0], ""))
            names = (path, None) if is_reference else (None, path)
            self.fail(Failure(f"{path}: {why}", *names))
        if found.unmasked:
            say_of(found.unmasked, "images without a mask, scored whole")
            say_of(found.idle_masks, "masks of no image")
        own = [] if found.reference else [pair.test for pair in found.pairs if _is_one_file(pair)]
        say_of(own, "images compared with themselves, each one file")
        for file in filter(None, (jobs.reference, jobs.mask, jobs.labels)):
            for note in file.notes:
                self._said.add((file.file.path, note))
                say(f"note: {file.file.path}: {note}")
        for failure in found.failed:
            self.fail(failure)

    def fail(self, failure: Failure) -> None:
        """Count and name what cannot be scored."""
        is_gated = bool(failure.sizes and self.limits)
        (self.mismatched if failure.sizes else self.failures).append(failure)
        said = f"{failure.test}: {failure.sizes}" if is_gated else failure.message
        say(f"fails: {said}" if is_gated else f"error: {said}")
        status = FAILED if is_gated else ERROR
        self._tell(failure.test, failure.reference, status, failure.sizes or failure.message)

    def _tell(self, name: str | None, reference: str | None, *rest: str) -> None:
        for listener in self._listeners:
            listener(Case(name or reference or "imsim", reference, *rest))

    def add(self, result: Result) -> None:
        """Take a result."""
        self.pairs += 1
        for name, score in result.scores.items():
            self._statistics[name].add(score, result.name)
        self._skipped.update(by_reason(result.skipped))
        for name, note in result.notes:
            if (name, note) not in self._said:
                self.notes.add(note, name)
        required = {m: reason for m, reason in result.skipped.items() if m in self.required}
        for names, reason in by_reason(required):
            verb = "were" if "," in names else "was"
            self.skips.add(f"{names} {verb} skipped: {reason}", result.title)
        if not (required or result.scores):
            self.skips.add("every metric was skipped", result.title)
        judged = verdicts(result.scores, self.limits)
        failed = [verdict.said for verdict in judged if not verdict.passed]
        for verdict in judged:
            self.rules[verdict.rule]["passed" if verdict.passed else "failed"] += 1
        if failed:
            self.beyond += 1
            say(f"fails: {result.title}: {', '.join(failed)}")
        missing = lacking(result, self.required)
        status = ERROR if missing else FAILED if failed else PASSED
        said = ", ".join(f"{name} {number(score)}" for name, score in result.scores.items())
        message = ", ".join(failed + missing)
        self._tell(result.title, result.reference, status, message, said, result.test)

    def table(self, width: int) -> str:
        """Return a line per metric, at most `width` wide but for the reasons for skipping."""
        rows = [["metric", "mean", "min", "max", "unit"]]
        worsts = [("worst", "")]
        for name, found in self._statistics.items():
            if not found.count and not found.missing:
                continue
            facts = measure(name)
            mean = found.total / found.count if found.count else math.nan
            (low, lowest), (high, highest) = found.low, found.high
            worst = lowest if facts.higher_is_better else highest
            end = f"  ({found.missing} NaN)" if found.missing else ""
            if low == high and found.count > 1:
                worst, end = "", f"all are equal{end}"
            rows.append([name, *map(number, (mean, low, high)), facts.unit])
            worsts.append((worst, end))
        room = width - max(map(breadth, table(rows, "lrrr").splitlines())) - 2
        for row, (worst, end) in zip(rows, worsts, strict=True):
            row.append(shortened(worst, max(room - len(end), 9)) + end)
        lines = [table(rows, "lrrr")]
        for (names, reason), count in self._skipped.items():
            share = "" if count == self.pairs else f" for {count} of {self.pairs} pairs"
            lines.append(f"skipped{share}: {names}: {reason}")
        return "\n".join(lines)

    def end(self) -> int:
        """Say how often things went wrong, and return the exit status."""
        self.notes.end()
        for message, (name, count) in self.skips.items():
            more = f" (and {count - 1} more)" if count > 1 else ""
            say(f"error: {name}: {message}{more}")
        failures, unmatched = len(self.failures), len(self.unmatched)
        mismatched = len(self.mismatched)
        if not self.limits:
            failures, mismatched = failures + mismatched, 0
        total = self.pairs + self.shown + failures + mismatched
        if failures and total > 1:
            say(f"error: {failures} of {total} could not be scored; they are named above")
        if self.beyond and total > 1:
            say(f"{self.beyond} of {self.pairs} pairs fail")
        if mismatched:
            pairs = "1 pair has" if mismatched == 1 else f"{mismatched} pairs have"
            say(f"{pairs} different sizes, and fail{'s' if mismatched == 1 else ''}")
        if self.limits and unmatched:
            files = "1 file has" if unmatched == 1 else f"{unmatched} files have"
            counted = "counts" if unmatched == 1 else "count"
            say(f"{files} no partner, and {counted} as failed")
        return self.status

    @property
    def status(self) -> int:
        """The exit status."""
        if self.failures or self.skips:
            return 2
        if not self.limits:
            return 2 if self.mismatched else 0
        return 1 if self.beyond or self.unmatched or self.mismatched else 0
