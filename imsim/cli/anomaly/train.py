"""`imsim anomaly train`: from good images to a detector in a file."""

from __future__ import annotations

import argparse
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
    stacked,
    status,
)
from imsim.cli.messages import say
from imsim.cli.options import add_command, check_data_range, check_output
from imsim.errors import ImsimError, OptionError, silent

if TYPE_CHECKING:
    from imsim.anomaly import ItemDetector

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
        choices=("mean", "worst", "both", "statistics"),
        help="the mean over the image, its worst window, the more unusual of both, or the distance "
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
    add("--seed", metavar="N", type=int, default=0, help="of the training, by default 0")
    add_fields(parser)


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Train a detector on good images, save it, and return the exit status."""
    from imsim import anomaly
    from imsim.anomaly.detector import UnscorableImageWarning

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
    )
    pictures = Pictures(arguments.good)
    pictures.take_once()  # what is held out must not be learned from under another name
    labels, images = stacked(pictures)
    images = correction(images)
    learner = anomaly.ItemDetector(detector) if arguments.items else detector
    with silent(UnscorableImageWarning, anomaly.xray.UnusableImageWarning):  # each is named below
        learner.fit(images)
    for i, reason in learner.left_out_.items():
        pictures.fail(Unusable(labels[i], reason))
    try:
        learner.save(arguments.output)
    except OSError as error:
        raise ImsimError(
            f"{arguments.output}: cannot be written: {error.strerror or error}"
        ) from error
    if isinstance(learner, anomaly.ItemDetector):
        yield from _about_items(learner, arguments.output, len(images))
        return status(pictures)
    height, width = detector.shape_
    number = len(images) - len(detector.left_out_)
    yield f"{arguments.output}: trained on {number} images of {width} x {height} pixels"
    yield f"An image is an anomaly if its score is above {detector.threshold_:.6g}"
    return status(pictures)


def _about_items(learner: ItemDetector, output: str, images: int) -> Iterator[str]:
    """Say what was learned from frames of several items."""
    height, width = learner.detector_.shape_
    number = len(learner.detector_.held_out_scores_)
    yield (
        f"{output}: trained on {number} items of up to {width} x {height} pixels in {images} images"
    )
    others = [f"{kind}: {n}" for kind, n in sorted(learner.kinds_.items()) if kind != "item"]
    if others:
        say(f"note: not learned from, since they are no whole single items: {', '.join(others)}")
    yield f"An item is an anomaly if its score is above {learner.detector_.threshold_:.6g}"


def _model(name: str | None, peeled: bool, seed: int) -> Any:
    """Return the model of that name; None leaves it to the detector."""
    from imsim import anomaly

    if name == "conv":
        return anomaly.ConvAutoencoder(seed=seed)
    # Of whole images, PCA is what the detector takes itself.
    return anomaly.PCAAutoencoder(components=4, patch=16) if name == "pca" and peeled else None
