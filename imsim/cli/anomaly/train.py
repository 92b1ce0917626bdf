"""`imsim anomaly train`: from good images to a detector in a file."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from typing import Any

from imsim.cli.anomaly.detectors import Correction, field_files, status
from imsim.cli.anomaly.pictures import Failure, Pictures, stacked
from imsim.cli.outputs import check_data_range, check_output
from imsim.errors import ImsimError, OptionError, silent


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
    with silent(UnscorableImageWarning):  # each is named below
        detector.fit(images)
    for i, reason in detector.left_out_.items():
        pictures.fail(Failure(labels[i], reason))
    try:
        detector.save(arguments.output)
    except OSError as error:
        raise ImsimError(
            f"{arguments.output}: cannot be written: {error.strerror or error}"
        ) from error
    height, width = detector.shape_
    number = len(images) - len(detector.left_out_)
    yield f"{arguments.output}: trained on {number} images of {width} x {height} pixels"
    yield f"An image is an anomaly if its score is above {detector.threshold_:.6g}"
    return status(pictures)


def _model(name: str | None, peeled: bool, seed: int) -> Any:
    """Return the model of that name; None leaves it to the detector."""
    from imsim import anomaly

    if name == "conv":
        return anomaly.ConvAutoencoder(seed=seed)
    # Of whole images, PCA is what the detector takes itself.
    return anomaly.PCAAutoencoder(components=4, patch=16) if name == "pca" and peeled else None
