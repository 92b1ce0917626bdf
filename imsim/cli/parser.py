"""The arguments of the command."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from imsim._version import __version__
from imsim.cli import compare, listing, report
from imsim.cli.anomaly.parser import add_anomaly
from imsim.cli.reading import add_reading, count
from imsim.pages import readable

COMPARE_HELP = """\
Score each TEST against REF with every metric, or with those of --metrics.

Files and folders:
  REF and TEST are files    one reference against many
  TEST is a folder          REF against every image in it and in its folders
  REF and TEST are folders  files of the same path, endings aside, are
                            compared; those without a partner are named
Links are followed. Pipes and devices in folders are left aside and named.

JPEG; PNG; TIFF of 1 bit, of integers of 8 bits or more, or of floats; .npy;
.npz (one array, or FILE.npz:NAME). A TIFF of several pages, and an array of
shape (images, height, width) or (images, height, width, channels), is a
stack: image i is compared with image i of REF, or with the only one. FILE[i]
names it, counted from 0, in results and in REF and TEST. REF, TEST and the
mask must have the same size; nothing is aligned or resized. What is done to an
image on the way (composited, widened, no data left out) is said in a note, on
the terminal, in CSV and in JSON. - is the standard input.

Results: a table for each of up to three files; of more, a row per pair if the
metrics fit into the width, and for each metric the mean, the range and the
worst image. --csv: columns "reference", "test", one per metric, empty where
that was skipped, "status", "notes", and "options" (as JSON) if options that
decide scores are given. --json: an object with "reference", these options
("mask", "data_range", "ignore_value", "ignore_nan", "background",
"channel_axis"), "metrics" and "results", a list with "reference", "test",
"scores", "skipped" (metric: reason) and "notes" for each pair; "failed" lists
the pairs that could not be scored, and "unmatched" the files without a partner,
with the reason. CSV has these as its last rows, of the status "failed" or "no
partner". JSON has no infinity and no NaN: such scores are the strings
"Infinity", "-Infinity" and "NaN". Both are UTF-8, with the names as they are,
and rows are written as soon as they are known.

Exit status: 0 if every pair was scored by every metric that --metrics names,
or by at least one without --metrics; 2 otherwise: a damaged file is named,
counted and skipped; 2 also if an option could not be used, the output not be
written, or its reader went away; else 1 if a score is beyond its --fail-under
or a file has no partner there; 130 if interrupted.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints may quote any name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Before Python 3.14, a number with an exponent, such as a no-data value, is no number.
        self._negative_number_matcher = re.compile(r"-((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|inf)$", re.I)

    def error(self, message: str) -> NoReturn:
        super().error(readable(message))


def command_parser() -> argparse.ArgumentParser:
    """Return the parser; the arguments it finds have a function `run`."""
    parser = _Parser(
        prog="imsim", description="How alike are two images? By many measures, whole or masked."
    )
    parser.add_argument("--version", action="version", version=f"imsim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listed = commands.add_parser("list", help="show the facts of every metric")
    listed.add_argument("--json", action="store_true", help="print JSON instead of a table")
    listed.set_defaults(run=listing.run)

    comparison = commands.add_parser(
        "compare",
        help="score images against a reference, one by one or in folders",
        description=COMPARE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_compare(comparison)
    comparison.set_defaults(run=compare.run)

    page = commands.add_parser(
        "report",
        help="show where two images differ on one HTML page",
        description="Write a page with both images, their difference, every similarity map and "
        "every score. It is one file, needs no network, and opens in any browser. Exit status: 0, "
        "or 2 after any error.",
    )
    _add_report(page)
    page.set_defaults(run=report.run)

    add_anomaly(commands)
    return parser


def _add_report(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("reference", metavar="REF", help="the reference image; FILE[i], from 0, of a stack")
    add("test", metavar="TEST", help="the image to compare with it")
    add_reading(parser)
    add(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help="the page, such as report.html; - is the standard output",
    )


def _add_compare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("reference", metavar="REF", help="the reference: a file or a folder")
    add("tests", metavar="TEST", nargs="+", help="what to score: a file or a folder")
    add_reading(
        parser,
        ". A stack holds a mask for each image; in a folder, the mask of an image has its name",
    )
    add("--metrics", metavar="a,b", help="names from `imsim list`, separated by commas")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write JSON instead of tables")
    form.add_argument("--csv", action="store_true", help="write CSV instead of tables")
    add(
        "-o",
        "--output",
        metavar="FILE",
        help="write the rows to FILE (.csv, .json), which is replaced if it exists, and print "
        "the summary; - is the standard output, as CSV unless --json is given",
    )
    add(
        "--resume",
        action="store_true",
        help="keep the rows that FILE has of an interrupted run, and add those that are missing; "
        "options that decide scores must be the same",
    )
    add(
        "--maps",
        metavar="DIR",
        help="write the similarity maps as PNG, DIR/<name>.<metric>.png: dark is alike, bright "
        "is different, on a scale that follows from the bounds of the metric (for se and imed: "
        "from the data range squared, by the root) and not from the image; grey is not scored",
    )
    add(
        "--fail-under",
        metavar="m=x",
        action="append",
        default=[],
        help="end with status 1 if a score of metric m is worse than x (above it where lower is "
        "better: gmsd=0.1), or a file has no partner; can be repeated",
    )
    add("--workers", metavar="N", type=count, help="threads to use; by default one per CPU")
