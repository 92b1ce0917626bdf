"""`imsim compare --labels`: a row for each region of a label image."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from imsim.cli.pair_scoring import Result
from imsim.cli.rows import Record
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
    """Return the columns of a region in CSV, before those of the metrics.

    After the label and the number of pixels, those of the box: the first row and column of a
    region, and those after its last ones; with the planes of volumes before each.
    """
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
    """Yield the result of each region of a pair; of a pair without labels, that itself.

    The first region has the notes on the images, and each those on itself.
    """
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
