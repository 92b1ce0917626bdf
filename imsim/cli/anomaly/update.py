"""`imsim anomaly update`: a detector learns further good images."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from typing import Any

from imsim.cli.anomaly.inputs import (
    IMAGES,
    SKIPPED,
    Correction,
    Pictures,
    Unusable,
    add_fields,
    field_files,
    load,
    save,
    stacked,
    status,
)
from imsim.cli.anomaly.train import about_threshold, add_lesson, groups_of, name_odd
from imsim.cli.options import add_command, check_output
from imsim.errors import silent

HELP = f"""\
Let MODEL learn further GOOD images, such as those of a new harvest, and save
the result as another file. The threshold is set anew: it keeps the false-alarm
rate among the earlier images and, of at least 20 new ones, among these alone.
The peel keeps its scale: after a change of the X-ray settings, train again.

{IMAGES}
{SKIPPED} So is an image that MODEL learned from before.

Exit status: 0; 2 after any error.
"""


def add_update(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "update", run, "learn further good images", HELP)
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `imsim anomaly train` wrote")
    add("good", metavar="GOOD", nargs="+", help="files or folders of good images")
    add("-o", "--output", metavar="NEW", required=True, help="the new detector")
    add_lesson(parser)
    add_fields(parser)


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Let a detector learn further images, save it, and return the exit status."""
    from imsim.anomaly import AnomalyDetector
    from imsim.anomaly.detector import OddImageWarning, UnscorableImageWarning

    check_output(arguments.output, [arguments.model, *arguments.good, *field_files(arguments)])
    detector: AnomalyDetector = load(AnomalyDetector, arguments.model)
    correction = Correction(arguments)
    pictures = Pictures(arguments.good)
    pictures.take_once()
    labels, images = stacked(pictures)
    detector.set_params(note=arguments.note)
    before = detector.threshold_
    with silent(UnscorableImageWarning, OddImageWarning):  # these are named below
        detector.update(correction(images), groups=groups_of(arguments.group_by, labels))
    for i, reason in detector.left_out_.items():
        pictures.fail(Unusable(labels[i], reason))
    name_odd(detector.odd_, labels, "if they are good, train again with --fence none")
    save(detector, arguments.output)
    lesson = detector.card_.lessons[-1]
    yield f"{arguments.output}: learned {lesson.images} more images, {detector.card_.images} in all"
    yield from about_threshold(detector)
    yield f"Before, it was {before:.6g}"
    return status(pictures)
