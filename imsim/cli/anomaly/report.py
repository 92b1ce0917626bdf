"""`imsim anomaly report`: how good a detector is, and which measure suits it best."""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator
from typing import Any

import numpy as np

from imsim._images import ImageFileError
from imsim.cli.anomaly.inputs import (
    IMAGES,
    SKIPPED,
    Correction,
    Pictures,
    add_fields,
    digest,
    load,
    refuse_equal,
    refuse_shared,
    stacked,
    status,
)
from imsim.cli.anomaly.truth import defect_masks, kinds_and_sizes
from imsim.cli.messages import say
from imsim.cli.options import add_command, check_folder
from imsim.errors import ImsimError, silent

HELP = f"""\
Judge a detector on GOOD and BAD images, which took no part in its training,
and write a page with the result: what it found and missed, and which
similarity measure tells good from bad best.

{IMAGES}
{SKIPPED} An image that is
among the good and the bad ones is refused, and so is its copy; images that the
model learned from are counted in a note.

Exit status: 0; 2 after any error.
"""


def add_report(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(
        commands, "report", run, "judge a detector, and the similarity measures", HELP
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `imsim anomaly train` wrote")
    add("good", metavar="GOOD", help="a file or folder of good images")
    add("bad", metavar="BAD", help="a file or folder of bad images")
    add("-o", "--output", metavar="DIR", required=True, help="the folder of the report")
    add(
        "--labels",
        metavar="CSV",
        help="file, kind and size of each anomaly, like the labels.csv of simulate; file is "
        "relative to the folder of the CSV. The page then judges each kind and size",
    )
    add(
        "--masks",
        metavar="MASKS",
        help="where the defects are: a folder with a mask for each bad image, like the "
        "defect_masks of simulate, or a stack for a stack; 0 is sound, one other value the defect. "
        "Matched by name, with any ending, or NAME_mask. The page then judges the anomaly maps by "
        "pixels and by regions",
    )
    add_fields(parser)


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Judge a detector on labelled images, write the report, and return the exit status."""
    from imsim import anomaly
    from imsim.anomaly.detector import UnscorableImageWarning

    pictures = [Pictures([path]) for path in (arguments.good, arguments.bad)]
    refuse_shared(*pictures)
    read = (arguments.good, arguments.bad, arguments.masks)
    check_folder(arguments.output, [path for path in read if path])
    detector = load(anomaly.AnomalyDetector, arguments.model)
    correction = Correction(arguments)
    (good_names, good), (bad_names, bad) = map(stacked, pictures)
    if good.shape[1:] != bad.shape[1:] or good.dtype != bad.dtype:
        raise ImageFileError(
            f"{bad_names[0]} is of {bad.shape[2]} x {bad.shape[1]} pixels ({bad.dtype}), but "
            f"{good_names[0]} of {good.shape[2]} x {good.shape[1]} ({good.dtype}); they must have "
            "the same size and type"
        )
    refuse_equal((good_names, good), (bad_names, bad))
    images = np.concatenate([correction(good), correction(bad)])
    labels = np.arange(len(images)) >= len(good)
    names = good_names + bad_names
    kinds = sizes = None
    if arguments.labels is not None:
        kinds, sizes = kinds_and_sizes(arguments.labels, names, labels)
    defects = None
    if arguments.masks is not None:
        defects = np.zeros(images.shape, dtype=np.bool_)
        defects[labels] = defect_masks(arguments.masks, arguments.bad, bad_names, bad.shape[1:])
    try:
        with silent(UnscorableImageWarning):  # the page names what has no score
            evaluation = anomaly.evaluate(
                detector, images, labels, kinds=kinds, sizes=sizes, defects=defects
            )
            reconstruction = detector.reconstruct(images)
    except ImsimError as error:
        raise ImsimError(f"{arguments.good}, {arguments.bad}: {error}") from error
    ranking = anomaly.rank_metrics(
        reconstruction.inputs,
        reconstruction.reconstructions,
        labels,
        masks=reconstruction.masks,
        data_range=detector.data_range_,
    )
    page = anomaly.write_report(
        arguments.output,
        evaluation,
        ranking,
        reconstruction,
        images=images,
        metric=detector.metric,
        data_range=detector.data_range_,
        kinds=kinds,
        names=[os.path.basename(name) for name in names],
        facts={
            "model": arguments.model,
            "SHA-256 of the model": digest(arguments.model),
            **detector.describe(),
        },
    )
    if learned := np.count_nonzero(detector.card_.knows(images)):
        say(
            f"note: the model learned from {learned} of these images, which flatters it: judge it "
            "by others"
        )
    yield f"{evaluation}\n\n{ranking}\n\nReport: {page}"
    return max(map(status, pictures))
