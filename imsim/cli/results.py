"""The rows of `imsim compare`, of pairs or regions, and the options that decide what they hold."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import imsim
from imsim._images import Reading, without_index
from imsim.cli.jobs import Jobs
from imsim.cli.measures import Settings, verdicts
from imsim.cli.outcome import Outcome
from imsim.cli.outputs import output_format
from imsim.cli.pair_scoring import Result
from imsim.cli.rows import Csv, Json, Record, Writer
from imsim.differing import COUNTS
from imsim.errors import OptionError

LABELS_HELP = """\
With --labels, a row is about one label of a pair: it has also "label",
"pixels", and in "bbox-0" to "bbox-3" (JSON: "bbox") the first row and column,
and the row and column after the last ones; of volumes, in "bbox-0" to
"bbox-5", with the planes before these. A region of which nothing is left has 0
pixels and NaN.
"""


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the option of a label image."""
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="score each region of a label image by itself: a row per label. Labels are whole "
        "numbers, in any format that keeps them, such as PNG, TIFF, .npy or NIfTI, grey or with a "
        "palette; 0 is background. One image for all pairs, or a stack with one for each image",
    )


def columns(ndim: int) -> tuple[str, ...]:
    """Return the columns of a region in CSV, before those of the metrics."""
    return ("label", "pixels", *(f"bbox-{k}" for k in range(2 * ndim)))


def check_labels(arguments: argparse.Namespace) -> None:
    """Refuse options that go on with, or draw, whole images."""
    for option in ("resume", "maps", "option"):
        if arguments.labels is not None and getattr(arguments, option):
            raise OptionError(
                f"--{option}: is for whole images, and --labels has a row for each region",
                f"leave out --{option}, or --labels",
            )


def parted(result: Result) -> Iterator[Result]:
    """Yield the result of each region, the first with the notes on the images, or itself."""
    found = result.regions
    if found is None:
        yield result
        return
    reasons: dict[int, dict[str, list[str]]] = {}
    for metric, whys in found.missing.items():
        for why, labels in whys.items():
            for label in labels.tolist():
                reasons.setdefault(label, {}).setdefault(why, []).append(metric)
    for row, label in enumerate(found.labels.tolist()):
        one = result._replace(
            name=f"{result.name}, label {label}",
            scores={metric: float(scores[row]) for metric, scores in found.scores.items()},
            row=row,
        )
        own = [
            (one.title, f"{', '.join(metrics)}: {why}")
            for why, metrics in reasons.get(label, {}).items()
        ]
        yield one._replace(notes=(*(result.notes if row == 0 else ()), *own))


def place(result: Result, *, nested: bool) -> Record:
    """Return the label, the number of pixels and the box of a region, if it is one."""
    found, row = result.regions, result.row
    if found is None or row is None:
        return {}
    names = columns(found.boxes.shape[1])
    values = {name: found[name][row].item() for name in names}
    if not nested:
        return values
    box = [values[name] for name in names[2:]]
    return {"label": values["label"], "pixels": values["pixels"], "bbox": box}


SCORED, FAILED, MISMATCHED, UNMATCHED = "scored", "failed", "size differs", "no partner"
"""The ``status`` of a row in CSV, and the ``kind`` of a line in JSON."""


def writer_of(
    arguments: argparse.Namespace, settings: Settings, jobs: Jobs
) -> Writer[Result] | None:
    """Return what writes rows to a file or the terminal."""
    metrics, options = settings.metrics, score_options(arguments, settings, jobs.reading)
    names = {pair.test: pair.name for pair in jobs.found.pairs}
    layout: Csv | Json
    match output_format(arguments):
        case "csv":
            spacing = ["spacing"] if arguments.volume else ["shift"] if arguments.align else []
            regions = columns(3 if arguments.volume else 2) if arguments.labels else ()
            header = ["reference", "test", *regions, *metrics, *spacing, "status", "notes"]
            layout = Csv(header, _changed_options(options))
        case "json":
            versions = {
                "imsim": imsim.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            }
            known = {"reference": arguments.reference, **options, "metrics": metrics}
            layout = Json(**known, versions=versions)
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
        if "kind" in record and record.get("rules", {}) != _rules(numbers, settings.limits):
            raise ValueError("a pair that was judged by other limits: it is scored again")
        return Result(record["reference"], test, name, numbers, record.get("skipped", skipped))

    return Writer(layout, arguments.output, arguments.resume, parse)


def _rules(scores: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, bool]:
    return {verdict.rule: verdict.passed for verdict in verdicts(scores, limits)}


def record_of(result: Result, limits: Mapping[str, float], *, nested: bool) -> Record:
    """Return the row of a pair or a region, for JSON if it is `nested`."""
    names = {"reference": result.reference, "test": result.test, **place(result, nested=nested)}
    notes = [f"{name}: {note}" for name, note in result.notes]
    if nested:
        more = {"scores": result.scores, "skipped": result.skipped, "notes": notes}
        if result.row is None:
            more |= {"mask": result.mask, "data_range": result.data_range}
        if result.shift is not None:
            more["shift"] = list(result.shift)
        if COUNTS.keys() & result.scores.keys():
            more["boxes"] = [list(box) for box in result.boxes]
        if limits:
            more["rules"] = _rules(result.scores, limits)
        spaced = {"spacing": list(result.spacing)} if result.spacing else {}
        return {"kind": SCORED} | names | more | spaced
    more = {"status": SCORED, "notes": "; ".join(notes)}
    spacing = ",".join(f"{length:g}" for length in result.spacing or ())
    shift = ",".join(f"{length:.15g}" for length in result.shift or ())
    return names | result.scores | more | {"spacing": spacing, "shift": shift}


def finish(writer: Writer[Result], outcome: Outcome, *, nested: bool, is_whole: bool) -> None:
    """Write the rows of what has no scores, and end the file; a run may be interrupted."""
    kinds = {
        FAILED: outcome.failures,
        MISMATCHED: outcome.mismatched,
        UNMATCHED: outcome.unmatched,
    }
    try:
        for status, failures in kinds.items():
            for failure in failures:
                names = {"reference": failure.reference, "test": failure.test}
                said = f"{failure.sizes}: {failure.message}" if failure.sizes else failure.message
                if nested:
                    writer.row({"kind": status} | names | {"reason": said})
                else:
                    writer.row(names | {"status": status, "notes": said})
        if nested and is_whole:
            counts = {kind: len(failures) for kind, failures in kinds.items()}
            counts = {SCORED: outcome.pairs, **counts}
            last = {"counts": counts, "rules": outcome.rules, "status": outcome.status}
            writer.row({"kind": "end"} | last)
    finally:
        writer.close()


def score_options(
    arguments: argparse.Namespace, settings: Settings, reading: Reading
) -> dict[str, Any]:
    """Return the options that decide scores, as in JSON: two runs mix only if they agree."""
    labels = {} if arguments.labels is None else {"labels": arguments.labels}
    return {
        "mask": arguments.mask,
        **labels,
        "data_range": settings.data_ranges.plain,
        "ignore_value": sorted(set(arguments.ignore_value), key=str),
        "ignore_nan": arguments.ignore_nan,
        "background": "#{:02x}{:02x}{:02x}".format(*reading.rgb),
        "orientation": reading.orientation,
        "channel_axis": reading.channel_axis,
        **_further_options(arguments, settings),
    } | ({"volume": True, "spacing": arguments.spacing} if reading.volume else {})


def _further_options(arguments: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Return those that are not always named."""
    given = {
        "level": arguments.level,
        "ignore_georeference": arguments.ignore_georeference,
        "ignore": arguments.ignore,
        "ignore_from": arguments.ignore_from,
        "ignore_colour": arguments.ignore_colour,
        "ignore_transparent": arguments.ignore_transparent,
        "tolerance": settings.tolerance,
        "options": settings.options,
        "max_shift": settings.max_shift,
    }
    found = {name: value for name, value in given.items() if value}
    for name in ("on_size_mismatch", "mask_missing"):
        if getattr(arguments, name) != "fail":
            found[name] = getattr(arguments, name)
    return found


def _changed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those that are not what they are by default."""
    defaults = {
        "ignore_value": [],
        "ignore_nan": False,
        "background": "#ffffff",
        "orientation": "obey",
    }
    return {name: value for name, value in options.items() if value != defaults.get(name)}
