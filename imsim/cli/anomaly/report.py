"""`imsim anomaly report`: how good a detector is, and which measure suits it best."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Generator
from typing import Any

import numpy as np

from imsim._images import ImageFileError
from imsim.cli.anomaly.inputs import (
    IMAGES,
    SKIPPED,
    Array,
    Correction,
    Pictures,
    add_fields,
    load,
    refuse_shared,
    stacked,
    status,
)
from imsim.cli.options import add_command, check_folder
from imsim.errors import ImsimError, silent

HELP = f"""\
Judge a detector on GOOD and BAD images, which took no part in its training,
and write a page with the result: what it found and missed, and which
similarity measure tells good from bad best.

{IMAGES}
{SKIPPED} A file that is among the good and the bad ones is refused.

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
    add_fields(parser)


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Judge a detector on labelled images, write the report, and return the exit status."""
    from imsim import anomaly
    from imsim.anomaly.detector import UnscorableImageWarning

    pictures = [Pictures([path]) for path in (arguments.good, arguments.bad)]
    refuse_shared(*pictures)
    check_folder(arguments.output, [arguments.good, arguments.bad])
    detector = load(anomaly.AnomalyDetector, arguments.model)
    correction = Correction(arguments)
    (good_names, good), (bad_names, bad) = map(stacked, pictures)
    if good.shape[1:] != bad.shape[1:] or good.dtype != bad.dtype:
        raise ImageFileError(
            f"{bad_names[0]} is of {bad.shape[2]} x {bad.shape[1]} pixels ({bad.dtype}), but "
            f"{good_names[0]} of {good.shape[2]} x {good.shape[1]} ({good.dtype}); they must have "
            "the same size and type"
        )
    images = np.concatenate([correction(good), correction(bad)])
    labels = np.arange(len(images)) >= len(good)
    names = good_names + bad_names
    kinds = sizes = None
    if arguments.labels:
        kinds, sizes = _truth(arguments.labels, names, labels)
    try:
        with silent(UnscorableImageWarning):  # the page names what has no score
            evaluation = anomaly.evaluate(detector, images, labels, kinds=kinds, sizes=sizes)
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
    )
    yield f"{evaluation}\n\n{ranking}\n\nReport: {page}"
    return max(map(status, pictures))


def _truth(path: str, names: list[str], labels: Array) -> tuple[list[str], list[float]]:
    """Read the kind and the size of each anomaly from a file like that of the simulation."""
    folder = os.path.dirname(path)
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = {
                os.path.normpath(os.path.join(folder, row["file"])): (
                    row["kind"],
                    _size(row["size"], row["file"]),
                )
                for row in csv.DictReader(file)
            }
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror}") from error
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error
    except (KeyError, TypeError, csv.Error) as error:
        raise ImageFileError(
            f"{path}: expected a CSV file with the columns file, kind and size"
        ) from error
    found = [rows.get(os.path.normpath(name), ("good", np.nan)) for name in names]
    for name, (_, size), is_bad in zip(names, found, labels, strict=True):
        if is_bad and np.isnan(size):
            raise ImageFileError(f"{path}: has no kind and size of {name}")
    return [kind for kind, _ in found], [size for _, size in found]


def _size(text: str, file: str) -> float:
    try:
        return float(text or "nan")
    except ValueError as error:
        raise ImageFileError(f"the size of {file}, {text!r}, is not a number") from error
