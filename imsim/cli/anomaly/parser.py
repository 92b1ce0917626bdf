"""The arguments of `imsim anomaly`."""

from __future__ import annotations

import argparse
from typing import Any

from imsim.cli.anomaly import report, score, simulate, train

IMAGES = """\
Images are grey: PNG, JPEG, TIFF (each page), .npy or .npz of shape (images,
height, width), and folders of these."""
SKIPPED = """\
A file that cannot be read, or an image unlike the others, is named, counted
and skipped; the exit status is then 2."""
SIMULATE = f"""\
Write simulated X-ray images to train and try a detector on.

DIR/good, DIR/bad  transmission as 16-bit PNG; {simulate.OPEN_BEAM} is the open beam
DIR/clean          the bad images without their defects
DIR/defect_masks   255 where the defect is
DIR/labels.csv     file, label (0 good, 1 bad), kind, size and
                   contrast-to-noise ratio (cnr) of the defect

With --npy, each of these folders is a stack of transmissions: DIR/good.npy.
"""
TRAIN = f"""\
Train a detector on GOOD images only, and save it.

{IMAGES}
{SKIPPED} A file that is there twice, through links or nested folders, is taken
once. --preprocess xray refuses images most of which do not look like X-ray
images of single items with the open beam around them.

Exit status: 0; 2 after any error.
"""
SCORE = f"""\
Score IMAGES with a detector: the larger the score, the less an image is like
the good ones.

{IMAGES} They must
have the size and the type of those learned from. An image of which this is not
so, or that cannot be read, or shows nothing to compare, is named and has its
row: it is not inspected, and so rejected like an anomaly.

--csv: columns "image", "anomaly_score", "verdict", which is "good", "anomaly"
or "not inspected", "reason", why it was not, and the "threshold" and the
"model_sha256" of the detector. --json: an object with "model", "model_sha256",
"metric", "threshold", "flat", "dark" and "results", a list with the first four
of each image. Rows are written as soon as they are known. --resume keeps them,
those not inspected too, and refuses a file of another model or threshold, or
one that does not name them.

Exit status: 0 if every image was inspected; 2 if one was not, and after any
error; else 1 if there is an anomaly and --fail-on-anomaly is given, or the
reader of the output went away; 130 if interrupted. With --fail-on-anomaly, 0
alone passes.
"""
REPORT = f"""\
Judge a detector on GOOD and BAD images, which took no part in its training,
and write a page with the result: what it found and missed, and which
similarity measure tells good from bad best.

{IMAGES}
{SKIPPED} A file that is among the good and the bad ones is refused.

Exit status: 0; 2 after any error.
"""


RANGE = (
    "with --preprocess none and without --flat only: largest possible minus smallest possible "
    "pixel value; by default 255 for 8-bit images, and for others the range of all GOOD images "
    "together"
)


def add_anomaly(commands: Any) -> None:
    """Add `anomaly` with its own commands."""
    parser = commands.add_parser(
        "anomaly", help="find what is unlike good images: simulate, train, score, report"
    )
    own = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, summary, text, add in (
        ("simulate", simulate, "write simulated X-ray images", SIMULATE, _add_simulate),
        ("train", train, "train a detector on good images", TRAIN, _add_train),
        ("score", score, "score images with a detector", SCORE, _add_score),
        ("report", report, "judge a detector, and the similarity measures", REPORT, _add_report),
    ):
        command = own.add_parser(
            name,
            help=summary,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add(command)
        command.set_defaults(run=module.run)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--output", metavar="DIR", required=True, help="a new folder")
    add("--item", default="potato", choices=("potato", "bar"), help="by default potato")
    add("--good", metavar="N", type=int, default=100, help="good images, by default 100")
    add("--bad", metavar="N", type=int, default=100, help="bad images, by default 100")
    add("--kinds", metavar="a,b", help="kinds of defect, which take turns; by default all")
    add(
        "--sizes",
        metavar=("LOW", "HIGH"),
        type=float,
        nargs=2,
        default=(0.5, 1.0),
        help="sizes of the defects, as fractions of the greatest of their kind, 0.1 to 1; by "
        "default 0.5 1",
    )
    add("--size", metavar="N", type=int, default=128, help="height and width, by default 128")
    add("--seed", metavar="N", type=int, default=0, help="other seeds make other items")
    add("--npy", action="store_true", help="write .npy stacks instead of PNG files")


def _add_train(parser: argparse.ArgumentParser) -> None:
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
        "or a convolutional autoencoder (conv). By default, peeled images are compared with the "
        "mean of good texture (for uiq and zncc, which need contrast: with pca), others with pca",
    )
    add("--metric", default="fsim", metavar="m", help="a name from `imsim list`; by default fsim")
    add(
        "--aggregate",
        choices=("mean", "worst", "both"),
        help="the mean over the image, its worst window, or the more unusual of both; by default, "
        "where the metric has a map, the worst window of peeled images, and both of others",
    )
    add(
        "--preprocess",
        default="xray",
        choices=("xray", "none"),
        help="xray (the default) peels X-ray images of single items; none takes images as they are",
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
    _add_fields(parser)


def _add_score(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `imsim anomaly train` wrote")
    add("images", metavar="IMAGES", nargs="+", help="files or folders to score")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write JSON instead of a table")
    form.add_argument("--csv", action="store_true", help="write CSV instead of a table")
    add("-o", "--output", metavar="FILE", help="write the rows to FILE (.csv, .json)")
    add("--resume", action="store_true", help="keep the rows that FILE has, and add the others")
    add("--fail-on-anomaly", action="store_true", help="end with status 1 if there is an anomaly")
    _add_fields(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
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
    _add_fields(parser)


def _add_fields(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--flat",
        metavar="F",
        help="image of the open beam; the images are then raw counts and become transmission",
    )
    parser.add_argument("--dark", metavar="D", help="image without any beam, to go with --flat")
