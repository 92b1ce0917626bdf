"""What a run came to, for servers of continuous integration: JUnit XML and annotations."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol
from xml.etree import ElementTree

from imsim._images import same_file
from imsim._version import __version__
from imsim.cli.messages import say_line
from imsim.cli.outputs import check_output
from imsim.errors import OptionError
from imsim.pages import readable
from imsim.tables import number
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


class Listener(Protocol):
    """Hears of each case when it is known."""

    def __call__(self, case: Case) -> None:
        """Take a case."""


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


def check_junit(
    arguments: argparse.Namespace, inputs: Iterable[str], images: Iterable[str]
) -> None:
    """Refuse a file of --junit that cannot be written, or that is another one of the run.

    Raises
    ------
    OptionError
        If it is.
    """
    file, rows = arguments.junit, arguments.output
    if rows is not None and same_file(file, rows):
        raise OptionError(f"--junit {file}: is the file of --output; name another one")
    check_output(file, inputs, images=images, option="--junit")


class Junit:
    """Collects cases, and writes them as XML that servers know from JUnit.

    Parameters
    ----------
    file : str
        Where to. It is emptied at once: a server must not take that of an earlier run for this one.

    Raises
    ------
    ImsimError
        If it cannot be written.
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
        """Write the file; what is left of a run that was ended is an error in it.

        Raises
        ------
        ImsimError
            If it cannot be written.
        """
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
        self._write(ElementTree.tostring(suites, "utf-8", xml_declaration=True) + b"\n")

    def _write(self, content: bytes) -> None:
        with writing_to(self._file):
            write_whole(self._file, content)


def annotate(case: Case) -> None:
    """Say a failure as GitHub Actions reads it."""
    if case.status in (FAILED, ERROR):
        place = readable(_escaped(case.name)).replace(":", "%3A").replace(",", "%2C")
        say_line(f"::error file={place},title=imsim::{_escaped(readable(case.message))}")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _plain(text: str) -> str:
    """Return text that XML 1.0 can hold."""
    return "".join(c if c >= " " and c not in "\ufffe\uffff" else " " for c in readable(text))


def scores_said(scores: Iterable[tuple[str, float]]) -> str:
    """Write scores on one line."""
    return ", ".join(f"{name} {number(score)}" for name, score in scores)
