"""`imsim anomaly train`: from good images to a detector in a file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from imsim.cli.anomaly.inputs import (
    IMAGES,
    SKIPPED,
    Correction,
    Pictures,
    Unusable,
    add_fields,
    field_files,
    save,
    stacked,
    status,
)
from imsim.cli.messages import say
from imsim.cli.options import add_command, check_data_range, check_output
from imsim.errors import OptionError, silent

if TYPE_CHECKING:
    from imsim.anomaly import AnomalyDetector, ItemDetector

RANGE = (
    "with --preprocess none and without --flat only: largest possible minus smallest possible "
    "pixel value; by default 255 for 8-bit images, and for others the range of all GOOD images "
    "together"
)
HELP = f"""\
Train a detector on GOOD images only, and save it.

{IMAGES}
{SKIPPED} A file that is there twice, through links or nested folders, is taken
once. --preprocess xray refuses images most of which do not look like X-ray
images of single items with the open beam around them.

Exit status: 0; 2 after any error.
"""


def add_train(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "train", run, "train a detector on good images", HELP)
    add = parser.add_argument
    add("good", metavar="GOOD", nargs="+", help="files or folders of good images")
    add(
        "-o",
        "--output",
        metavar="MODEL",
        required=True,
        help="the detector, such as model.safetensors",
    )
    add(
        "--model",
        choices=("pca", "conv"),
        help="what reconstructs: a linear (pca: of patches of peeled images, else of whole images) "
        "or a convolutional autoencoder (conv; needs imsim[network]). By default, peeled images "
        "are compared with the mean of good texture (for uiq and zncc, which need contrast: with "
        "pca); of others, statistics of good images are learned (for other metrics than fsim: pca)",
    )
    add("--metric", default="fsim", metavar="m", help="a name from `imsim list`; by default fsim")
    add(
        "--aggregate",
        choices=("mean", "worst", "highest", "both", "statistics"),
        help="the mean over the image, its worst window, the highest 2 %% of its map, the more "
        "unusual of mean and worst window, or the distance "
        "from the statistics of good images; by default, where the metric has a map, the worst "
        "window of peeled images, statistics of others for fsim, and both for other metrics",
    )
    add(
        "--preprocess",
        default="xray",
        choices=("xray", "none"),
        help="xray (the default) peels X-ray images of single items; none takes images as they are",
    )
    add(
        "--items",
        action="store_true",
        help="the images show several items each, or one that is to be cut out: learn from each "
        "item, and give each its verdict; such items must stand out from the border of the image",
    )
    add(
        "--false-alarm-rate",
        metavar="R",
        type=float,
        default=0.05,
        help="the share of good images that may be called anomalies, which sets the threshold; "
        "by default 0.05",
    )
    add("--data-range", metavar="L", type=float, help=RANGE)
    add(
        "--fence",
        metavar="K",
        type=_fence,
        default=1.5,
        help="leave out bad images among the good ones: those whose scores are K interquartile "
        "ranges above the upper quartile, if these are at least 5 %% and five images; by default "
        "1.5; none keeps all",
    )
    add_lesson(parser)
    add("--seed", metavar="N", type=int, default=0, help="of the training, by default 0")
    add_fields(parser)


def add_lesson(parser: argparse.ArgumentParser) -> None:
    """Add the options of whatever learns from good images."""
    add = parser.add_argument
    add("--note", metavar="TEXT", default="", help="any text, kept with the model")
    add(
        "--group-by",
        metavar="REGEX",
        help="images whose names give the same match, or the same first group of it, show one "
        "item: they are held out together. E.g. '/(item[0-9]+)_' for item12_left.png",
    )


def groups_of(pattern: str | None, labels: list[str]) -> list[str] | None:
    """Return what a regular expression finds in the name of each image; None without one."""
    if pattern is None:
        return None
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise OptionError(f"--group-by: {pattern!r} is no regular expression: {error}") from error
    found = [regex.search(label) for label in labels]
    for label, match in zip(labels, found, strict=True):
        if match is None:
            raise OptionError(
                f"--group-by: {pattern!r} is not in the name {label}: each image needs a group"
            )
    return [match[1] or "" if regex.groups else match[0] for match in found if match]


def name_odd(odd: dict[int, float], labels: list[str], remedy: str) -> None:
    """Name images that were left out for being unlike the others."""
    for i, score in odd.items():
        say(
            f"note: {labels[i]}: unlike the other good images (score {score:.3g}), not learned from"
        )
    if odd:
        say(f"note: look at these {len(odd)}: bad ones among the good would hide others; {remedy}")


def about_threshold(detector: AnomalyDetector) -> Iterator[str]:
    """Say where the threshold is, and how many false alarms are to be expected."""
    found = detector.false_alarms_
    yield f"An image is an anomaly if its score is above {found.value:.6g}"
    yield (
        f"Of good images, {found.rate:.1%} are expected above it (for a single training, "
        f"{found.low:.1%} to {found.high:.1%})"
    )


def _fence(text: str) -> float | None:
    return None if text == "none" else float(text)


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Train a detector on good images, save it, and return the exit status."""
    from imsim import anomaly
    from imsim.anomaly.detector import OddImageWarning, UnscorableImageWarning

    check_data_range(arguments.data_range)
    if arguments.data_range is not None and (arguments.preprocess != "none" or arguments.flat):
        raise OptionError(
            "--data-range: is of use with --preprocess none and without --flat only; leave it out"
        )
    check_output(arguments.output, [*arguments.good, *field_files(arguments)])
    peeled = arguments.preprocess == "xray"
    correction = Correction(arguments)
    detector = anomaly.AnomalyDetector(
        model=_model(arguments.model, peeled, arguments.seed),
        preprocess="xray" if peeled else None,
        metric=arguments.metric,
        aggregate=arguments.aggregate,
        false_alarm_rate=arguments.false_alarm_rate,
        # That of transmission is 1; without one, the detector knows it, or learns it.
        data_range=1.0 if arguments.flat and not peeled else arguments.data_range,
        random_state=arguments.seed,
        fence=arguments.fence,
        note=arguments.note,
    )
    if arguments.items and arguments.group_by:
        raise OptionError("--group-by: names whole images, not the items in them; leave it out")
    pictures = Pictures(arguments.good)
    pictures.take_once()  # what is held out must not be learned from under another name
    labels, images = stacked(pictures)
    images = correction(images)
    learner = anomaly.ItemDetector(detector) if arguments.items else detector
    each = (UnscorableImageWarning, OddImageWarning, anomaly.xray.UnusableImageWarning)
    with silent(*each):  # these are named below
        if isinstance(learner, anomaly.ItemDetector):
            learner.fit(images)
        else:
            learner.fit(images, groups=groups_of(arguments.group_by, labels))
    for i, reason in learner.left_out_.items():
        pictures.fail(Unusable(labels[i], reason))
    save(learner, arguments.output)
    if isinstance(learner, anomaly.ItemDetector):
        yield from _about_items(learner, arguments.output, labels)
        return status(pictures)
    name_odd(detector.odd_, labels, "if they are good, --fence none keeps them")
    height, width = detector.shape_
    number = detector.card_.images
    yield f"{arguments.output}: trained on {number} images of {width} x {height} pixels"
    yield from about_threshold(detector)
    return status(pictures)


def _about_items(learner: ItemDetector, output: str, labels: list[str]) -> Iterator[str]:
    """Say what was learned from frames of several items."""
    height, width = learner.detector_.shape_
    number = len(learner.detector_.held_out_scores_)
    yield (
        f"{output}: trained on {number} items of up to {width} x {height} pixels in {len(labels)} "
        "images"
    )
    others = [f"{kind}: {n}" for kind, n in sorted(learner.kinds_.items()) if kind != "item"]
    if others:
        say(f"note: not learned from, since they are no whole single items: {', '.join(others)}")
    for frame, reason in learner.odd_.items():
        say(f"note: {labels[frame]}: {reason}")
    yield from about_threshold(learner.detector_)


def _model(name: str | None, peeled: bool, seed: int) -> Any:
    """Return the model of that name; None leaves it to the detector."""
    from imsim import anomaly

    if name == "conv":
        return anomaly.ConvAutoencoder(seed=seed)
    # Of whole images, PCA is what the detector takes itself.
    return anomaly.PCAAutoencoder(components=4, patch=16) if name == "pca" and peeled else None
