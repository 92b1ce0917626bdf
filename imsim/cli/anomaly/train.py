"""`imsim anomaly train`, `update` and `info`: detectors in files, and what they learned from."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from imsim._images import Array
from imsim.cli.anomaly import inputs
from imsim.cli.options import add_command, check_data_range
from imsim.cli.outputs import check_output, say
from imsim.cli.rows import json_number
from imsim.errors import OptionError, silent
from imsim.tables import table
from imsim.whole_files import writing_to

if TYPE_CHECKING:
    from imsim.anomaly import AnomalyDetector, ItemDetector

RANGE = (
    "with --preprocess none and without --flat only: largest possible minus smallest possible "
    "pixel value; by default 255 for 8-bit images, and for others the range of all GOOD images "
    "together"
)
HELP = f"""\
Train a detector on GOOD images only, and save it.

{inputs.IMAGES}
{inputs.SKIPPED} A file that is there twice,
through links or nested folders, is taken once. --preprocess xray refuses images
most of which do not look like X-ray images of single items with the open beam
around them.

Exit status: 0; 2 after any error.
"""
UPDATE_HELP = f"""\
Let MODEL learn further GOOD images, such as those of a new harvest, and save
the result as another file. The threshold is set anew: it keeps the false-alarm
rate among the earlier images and, of at least 20 new ones, among these alone.
The peel keeps its scale: after a change of the X-ray settings, train again.

{inputs.IMAGES}
{inputs.SKIPPED} An image that MODEL learned from
before is skipped likewise.

Exit status: 0; 2 after any error.
"""
INFO_HELP = """\
Say what is known about MODEL: its metric and threshold, the false alarms to
expect, when it learned from how many images, with which versions and notes.

With IMAGES, say of each whether the model learned from it: such an image must
not be used to judge it. They are compared bit for bit.

--json: one object; "lessons" are the training and the updates.

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
        "ranges above the upper quartile, or 2 K of fewer than 100 images that are not peeled, if "
        "these are at least 5 %% and two images, of at least 40; by default 1.5; none keeps all",
    )
    add_lesson(parser)
    add("--seed", metavar="N", type=int, default=0, help="of the training, by default 0")
    inputs.add_fields(parser)


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


def _read(arguments: argparse.Namespace) -> tuple[inputs.Pictures, list[str], Array]:
    """Read good images and their names, each once: what is held out must not be learned from."""
    correction = inputs.Correction(arguments)
    pictures = inputs.Pictures(arguments.good)
    pictures.take_once()
    labels, images = inputs.stacked(pictures)
    return pictures, labels, correction(images)


def _save(
    learner: AnomalyDetector | ItemDetector, path: str, pictures: inputs.Pictures, labels: list[str]
) -> None:
    """Save a detector, and name what it did not learn from."""
    for i, reason in learner.left_out_.items():
        pictures.fail(inputs.Unusable(labels[i], reason))
    with writing_to(path):
        learner.save(path)


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
    try:
        return None if text == "none" else float(text)
    except ValueError:
        message = f"{text!r} is neither a number nor none"
        raise argparse.ArgumentTypeError(message) from None


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Train a detector on good images, save it, and return the exit status."""
    from imsim import anomaly
    from imsim.anomaly.detector import OddImageWarning, UnscorableImageWarning

    check_data_range(arguments.data_range)
    if arguments.data_range is not None and (arguments.preprocess != "none" or arguments.flat):
        raise OptionError(
            "--data-range: is of use with --preprocess none and without --flat only; leave it out"
        )
    check_output(arguments.output, [*arguments.good, *inputs.field_files(arguments)])
    peeled, model = arguments.preprocess == "xray", None
    if arguments.model == "conv":
        model = anomaly.ConvAutoencoder(seed=arguments.seed)
    elif arguments.model == "pca" and peeled:  # of whole images, the detector takes it itself
        model = anomaly.PCAAutoencoder(components=4, patch=16)
    detector = anomaly.AnomalyDetector(
        model=model,
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
    pictures, labels, images = _read(arguments)
    learner: Any = anomaly.ItemDetector(detector) if arguments.items else detector
    each = (UnscorableImageWarning, OddImageWarning, anomaly.xray.UnusableImageWarning)
    with silent(*each):  # these are named below
        more = {} if arguments.items else {"groups": groups_of(arguments.group_by, labels)}
        learner.fit(images, **more)
    _save(learner, arguments.output, pictures, labels)
    if arguments.items:
        yield from _about_items(learner, arguments.output, labels)
        return inputs.status(pictures)
    name_odd(detector.odd_, labels, "if they are good, --fence none keeps them")
    height, width = detector.shape_
    number = detector.card_.images
    yield f"{arguments.output}: trained on {number} images of {width} x {height} pixels"
    yield from about_threshold(detector)
    return inputs.status(pictures)


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


def add_update(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "update", update, "learn further good images", UPDATE_HELP)
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `imsim anomaly train` wrote")
    add("good", metavar="GOOD", nargs="+", help="files or folders of good images")
    add("-o", "--output", metavar="NEW", required=True, help="the new detector")
    add_lesson(parser)
    inputs.add_fields(parser)


def update(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Let a detector learn further images, save it, and return the exit status."""
    from imsim.anomaly.detector import OddImageWarning, UnscorableImageWarning

    check_output(
        arguments.output, [arguments.model, *arguments.good, *inputs.field_files(arguments)]
    )
    detector = inputs.load(arguments.model)
    pictures, labels, images = _read(arguments)
    detector.set_params(note=arguments.note)
    groups = groups_of(arguments.group_by, labels)
    before = detector.threshold_
    with silent(UnscorableImageWarning, OddImageWarning):  # these are named below
        detector.update(images, groups=groups)
    _save(detector, arguments.output, pictures, labels)
    name_odd(detector.odd_, labels, "if they are good, train again with --fence none")
    lesson = detector.card_.lessons[-1]
    yield f"{arguments.output}: learned {lesson.images} more images, {detector.card_.images} in all"
    yield from about_threshold(detector)
    yield f"Before, it was {before:.6g}; new images above that: {len(detector.unusual_)}"
    return inputs.status(pictures)


def add_info(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "info", info, "say what is known about a detector", INFO_HELP)
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `imsim anomaly train` wrote")
    add("images", metavar="IMAGES", nargs="*", help="files or folders to look for")
    add("--json", action="store_true", help="print JSON instead of tables")
    inputs.add_fields(parser)


def info(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Yield what is known about a model, and return the exit status."""
    from imsim import anomaly

    model = inputs.load_any(arguments.model)
    detector = model if isinstance(model, anomaly.AnomalyDetector) else model.detector_
    sha256 = inputs.digest(arguments.model)
    correction = inputs.Correction(arguments)
    pictures = inputs.Pictures(arguments.images)
    known: dict[str, bool] = {}
    for picture in pictures.each():
        if isinstance(picture, inputs.Unusable):
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
            "threshold": json_number(found.value),
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
    return inputs.status(pictures)
