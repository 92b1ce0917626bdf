"""The `imsim` command."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from imsim._images import ImageFileError, Picture, as_mask, read_picture
from imsim._version import __version__
from imsim.comparison import Comparison, compare
from imsim.errors import ImsimError
from imsim.registry import METRICS

if TYPE_CHECKING:
    import numpy as np

    from imsim.registry import Metric

FACTS = ("name", "title", "better", "range", "needs data range", "unit")

COMPARE_HELP = """\
Score each TEST against REF with every metric, or with those named by --metrics.

Files with one image, grey or with channels: JPEG; PNG of at most 8 bits, or 16 if grey; TIFF of
1 bit, of integers of 8 bits or more, or of floats. REF, TEST and the mask must have the same size;
nothing is aligned or resized. What is ignored or converted (alpha, a palette) is said in a note.

JSON: an object with "reference", "mask", "data_range" and "results", a list with "test",
"scores" and "skipped" (metric: reason) for each TEST. JSON has no infinity and no NaN: such
scores are the strings "Infinity", "-Infinity" and "NaN".

Exit status: 0 if every TEST was scored by every metric that --metrics names, or by at least one
without --metrics; 2 otherwise, and if a file or an option could not be used or the output not be
written; 1 if the reader of the output went away.
"""


class Result(NamedTuple):
    """What there is to say about one test image."""

    path: str
    description: str
    scores: Comparison


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        0 on success, 1 if the reader of the output went away, 2 after any error.
    """
    for stream in (sys.stdout, sys.stderr):
        # The name of a file need not be text in the encoding of the terminal.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        status = _run(arguments)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        _say(f"warning: {message}")
    return status


def _run(arguments: argparse.Namespace) -> int:
    try:
        for text in arguments.run(arguments):
            _write(text)
    except ImsimError as error:
        _say(f"error: {error}")
        return 2
    except BrokenPipeError:
        return 1
    return 0


def facts(metric: Metric) -> dict[str, str]:
    """Describe a metric in words, one per column of `FACTS`.

    Parameters
    ----------
    metric : Metric
        The record to describe.

    Returns
    -------
    dict of str
        The keys of `FACTS`.
    """
    return {
        "name": metric.name,
        "title": metric.title + (" (experimental)" if metric.experimental else ""),
        "better": "higher" if metric.higher_is_better else "lower",
        "range": _interval(metric),
        "needs data range": "yes" if metric.needs_data_range else "no",
        "unit": metric.unit or "-",
    }


def _interval(metric: Metric) -> str:
    """Write the bounds; an infinite one is closed where some pair of images reaches it."""
    low, high = metric.bounds
    left = "(" if math.isinf(low) else "["
    right = ")" if math.isinf(high) and metric.best != high else "]"
    names = {math.pi: "pi", math.pi / 2: "pi/2"}
    return f"{left}{names.get(low, f'{low:.4g}')}, {names.get(high, f'{high:.4g}')}{right}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="imsim", description="How alike are two images? Thirteen measures, whole or masked."
    )
    parser.add_argument("--version", action="version", version=f"imsim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="show the facts of every metric")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    listing.set_defaults(run=_list)

    comparison = commands.add_parser(
        "compare",
        help="score images against a reference",
        description=COMPARE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    comparison.add_argument("reference", metavar="REF", help="the reference image")
    comparison.add_argument("tests", metavar="TEST", nargs="+", help="an image to score")
    comparison.add_argument(
        "--mask", metavar="M", help="grey image; only pixels where it is not 0 are scored"
    )
    comparison.add_argument(
        "--metrics", metavar="a,b", help="names from `imsim list`, separated by commas"
    )
    comparison.add_argument(
        "--data-range",
        metavar="L",
        type=float,
        help="largest possible minus smallest possible pixel value; 255 for 8-bit images, which "
        "need not say so; 65535 for full 16-bit images, 4095 for those of a 12-bit camera",
    )
    comparison.add_argument("--json", action="store_true", help="print JSON instead of tables")
    comparison.set_defaults(run=_compare)
    return parser


def _list(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.json:
        yield json.dumps([_record(metric) for metric in METRICS.values()], indent=2)
    else:
        rows = [facts(metric) for metric in METRICS.values()]
        yield _table([FACTS, *([row[column] for column in FACTS] for row in rows)])


def _record(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "title": metric.title,
        "higher_is_better": metric.higher_is_better,
        "best": _json_number(metric.best),
        "bounds": [_json_number(bound) for bound in metric.bounds],
        "symmetric": metric.symmetric,
        "needs_data_range": metric.needs_data_range,
        "unit": metric.unit,
        "has_map": metric.map_function is not None,
        "references": list(metric.references),
        "experimental": metric.experimental,
    }


def _compare(arguments: argparse.Namespace) -> Iterator[str]:
    results: list[Result] = []
    for result in _results(arguments):
        if not arguments.json:
            gap = "\n" if results else ""
            yield f"{gap}{result.path}: {result.description}\n{result.scores}"
        results.append(result)
    if arguments.json:
        yield _report(arguments, results)
    if arguments.metrics is None:
        missing = [f"{r.path}: every metric was skipped" for r in results if not r.scores]
    else:
        missing = [
            f"{result.path}: {name} was skipped: {reason}"
            for result in results
            for name, reason in result.scores.skipped.items()
        ]
    if missing:
        raise ImsimError("; ".join(missing))


def _report(arguments: argparse.Namespace, results: Sequence[Result]) -> str:
    report = {
        "reference": arguments.reference,
        "mask": arguments.mask,
        "data_range": arguments.data_range,
        "results": [
            {
                "test": result.path,
                "scores": {name: _json_number(float(s)) for name, s in result.scores.items()},
                "skipped": result.scores.skipped,
            }
            for result in results
        ],
    }
    return json.dumps(report, indent=2)


def _results(arguments: argparse.Namespace) -> Iterator[Result]:
    """Read and score one test image after the other, so that only one is held at a time."""
    metrics = None
    if arguments.metrics is not None:
        metrics = [name.strip() for name in arguments.metrics.split(",")]
    reference = _read(arguments.reference)
    mask = None if arguments.mask is None else _read_fitting_mask(arguments.mask, reference)
    for path in arguments.tests:
        test = _read(path)
        _check_alike(reference, test)
        scores = compare(
            reference.pixels,
            test.pixels,
            metrics,
            mask=mask,
            data_range=arguments.data_range,
            channel_axis=reference.channel_axis,
        )
        skipped = _reasons(scores.skipped, arguments, test)
        yield Result(path, str(test), Comparison(dict(scores), skipped))


def _reasons(
    skipped: Mapping[str, str], arguments: argparse.Namespace, test: Picture
) -> dict[str, str]:
    """Say which option is missing where the library names the argument of its functions."""
    has_range = arguments.data_range is not None or test.pixels.dtype in ("uint8", "bool")
    option = "needs --data-range (65535 for full 16-bit images, 4095 for those of a 12-bit camera)"
    return {
        name: reason if has_range or not METRICS[name].needs_data_range else option
        for name, reason in skipped.items()
    }


def _read(path: str) -> Picture:
    picture = read_picture(path)
    for note in picture.notes:
        _say(f"note: {path}: {note}")
    return picture


def _read_fitting_mask(path: str, reference: Picture) -> np.ndarray[Any, Any]:
    mask = as_mask(_read(path))
    if mask.shape != reference.pixels.shape[:2]:
        height, width = mask.shape
        raise ImageFileError(
            f"{path}: the mask is {width} x {height} pixels, but {reference.path} is {reference}; "
            "they must have the same size"
        )
    return mask


def _check_alike(reference: Picture, test: Picture) -> None:
    """Refuse what would otherwise be a misleading score, or a message about array shapes."""
    a, b = reference.pixels, test.pixels
    if a.shape == b.shape and a.dtype == b.dtype:
        return
    if a.shape[:2] != b.shape[:2]:
        remedy = "crop or resample one of them"
    elif a.shape != b.shape:
        remedy = "convert one of them, so that both are grey or both have the same channels"
    else:
        remedy = "save both with the same number of bits"
    raise ImageFileError(f"{test.path}: is {test}, but {reference.path} is {reference}; {remedy}")


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Set rows in columns; the first row holds their heads."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ([c.ljust(width) for c, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def _json_number(value: float) -> float | str:
    """Return a number, or its name where JSON has none for it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _write(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        # Python flushes standard output once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise ImsimError(f"standard output cannot be written: {error.strerror}") from error


def _say(message: str) -> None:
    print(f"imsim: {message}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
