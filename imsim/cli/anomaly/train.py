"""`imsim anomaly train`: from good images to a detector in a file."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from imsim.cli.anomaly.detectors import Correction, field_files, quiet, reason, status
from imsim.cli.anomaly.pictures import Array, Pictures, stacked
from imsim.cli.outputs import check_data_range, check_output
from imsim.errors import ImsimError, OptionError

if TYPE_CHECKING:
    from imsim.anomaly import AnomalyDetector


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Train a detector on good images, save it, and return the exit status."""
    from imsim import anomaly

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
        random_state=arguments.seed,
    )
    pictures = Pictures(arguments.good)
    labels, images = stacked(pictures)
    if not peeled:
        detector.set_params(data_range=_data_range(arguments, images))
    images = correction(images)
    with quiet():
        detector.fit(images)
    unusable = _unusable(detector, images)
    for i in unusable:
        pictures.fail(f"{labels[i]}: {reason(detector, images[i : i + 1])}")
    try:
        detector.save(arguments.output)
    except OSError as error:
        raise ImsimError(
            f"{arguments.output}: cannot be written: {error.strerror or error}"
        ) from error
    number, height, width = images.shape
    yield (
        f"{arguments.output}: trained on {number - len(unusable)} images of {width} x {height} "
        "pixels"
    )
    yield f"An image is an anomaly if its score is above {detector.threshold_:.6g}"
    return status(pictures)


def _model(name: str | None, peeled: bool, seed: int) -> Any:
    """Return the model of that name; None leaves it to the detector."""
    from imsim import anomaly

    if name == "conv":
        return anomaly.ConvAutoencoder(seed=seed)
    # Of whole images, PCA is what the detector takes itself.
    return anomaly.PCAAutoencoder(components=4, patch=16) if name == "pca" and peeled else None


def _unusable(detector: AnomalyDetector, images: Array) -> list[int]:
    """Return the indices of the images that the training left out."""
    if len(detector.held_out_scores_) == len(images):
        return []
    with quiet():
        scores = detector.anomaly_score(images)
    return [int(i) for i in np.flatnonzero(np.isnan(scores))]


def _data_range(arguments: argparse.Namespace, images: Array) -> float | None:
    """Return the data range of what `Correction` makes of images that are not peeled.

    None leaves it to the detector, which takes the range of all good images together.
    """
    if arguments.flat:
        return 1.0
    largest = float(np.iinfo(images.dtype).max) if images.dtype.kind in "ui" else 1.0
    if arguments.data_range is not None:
        return float(arguments.data_range) / largest
    return 1.0 if images.dtype == np.uint8 else None
