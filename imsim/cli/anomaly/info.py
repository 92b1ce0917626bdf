"""`imsim anomaly info`: what is known about a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator
from typing import Any

from imsim.cli.anomaly.inputs import (
    Correction,
    Pictures,
    Unusable,
    add_fields,
    digest,
    load_any,
    status,
)
from imsim.cli.options import add_command
from imsim.tables import table

HELP = """\
Say what is known about MODEL: its metric and threshold, the false alarms to
expect, when it learned from how many images, with which versions and notes.

With IMAGES, say of each whether the model learned from it: such an image must
not be used to judge it. They are compared bit for bit.

--json: one object; "lessons" are the training and the updates.

Exit status: 0; 2 after any error.
"""


def add_info(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "info", run, "say what is known about a detector", HELP)
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `imsim anomaly train` wrote")
    add("images", metavar="IMAGES", nargs="*", help="files or folders to look for")
    add("--json", action="store_true", help="print JSON instead of tables")
    add_fields(parser)


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Yield what is known about a model, and return the exit status."""
    from imsim.anomaly import AnomalyDetector

    model = load_any(arguments.model)
    detector = model if isinstance(model, AnomalyDetector) else model.detector_
    sha256 = digest(arguments.model)
    correction = Correction(arguments)
    pictures = Pictures(arguments.images)
    known: dict[str, bool] = {}
    for picture in pictures.each():
        if isinstance(picture, Unusable):
            pictures.fail(picture)
            continue
        known[picture.path] = bool(detector.card_.knows(correction(picture.pixels[None]))[0])
    if arguments.json:
        found = detector.false_alarms_
        facts = {
            "model": arguments.model,
            "model_sha256": sha256,
            "metric": detector.metric,
            "aggregate": detector.aggregate_,
            "threshold": found.value,
            "false_alarm_rate": detector.false_alarm_rate,
            "expected": {"rate": found.rate, "low": found.low, "high": found.high},
            "held_out": found.number,
            "height": detector.shape_[0],
            "width": detector.shape_[1],
            "type": detector.depth_,
            "lessons": detector.card_.to_list(),
        }
        if arguments.images:
            facts["images"] = [{"image": name, "learned_from": k} for name, k in known.items()]
        yield json.dumps(facts, indent=2)
    else:
        facts = {"file": arguments.model, "SHA-256": sha256, **detector.describe()}
        yield table([[name, str(value)] for name, value in facts.items()])
        if known:
            rows = [
                [name, "learned from" if k else "not learned from"] for name, k in known.items()
            ]
            yield "\n" + table(rows)
            yield f"\n{sum(known.values())} of {len(known)} images were learned from"
    return status(pictures)
