"""
Anomaly detection, end to end
=============================

Learn from good X-ray images of potatoes only, peel them virtually, reconstruct them, compare
input with output, decide; then ask which of the measures would have decided best, and
write a report::

    python examples/anomaly_detection.py
    python examples/anomaly_detection.py --data FOLDER     # with good/ and bad/ in it
    python examples/anomaly_detection.py --data FILE.npz   # train_images, train_labels, test_...

Without ``--data`` the images are simulated, so that the truth is known. Images of your own are
compared as they are; X-ray images of one item each need ``--peel``. Labels are 0 for good images.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from imsim.anomaly import (
    AnomalyDetector,
    ConvAutoencoder,
    PCAAutoencoder,
    evaluate,
    rank_metrics,
    simulate,
    write_report,
)

# %%
# The images: good ones to learn from, and others, good and bad, to judge by.


class Data(NamedTuple):
    good: np.ndarray  # shape (n, height, width)
    images: np.ndarray
    labels: np.ndarray  # 0 good, 1 bad
    kinds: np.ndarray | None = None
    sizes: np.ndarray | None = None


def simulated(seed=0):
    """Potatoes with nine kinds of foreign bodies and defects, from half to full size."""
    good = simulate.potatoes(350, seed=seed)
    judged = simulate.dataset("potato", good=150, bad=180, seed=seed + 1)
    return Data(good.images, judged.images, judged.labels, judged.kinds, judged.sizes)


def from_file(path):
    """The images of a .npz file: ``train_images``, ``train_labels``, ``test_images``, ..."""
    with np.load(path, allow_pickle=False) as file:
        train, test = file["train_images"], file["test_images"]
        is_good = file["train_labels"].ravel() == 0
        return Data(train[is_good], test, (file["test_labels"].ravel() != 0).astype(int))


def from_folder(folder, seed=0):
    """The images in ``good`` and ``bad``; half of the good ones are learned from."""
    good, bad = (read_all(folder / kind) for kind in ("good", "bad"))
    order = np.random.default_rng(seed).permutation(len(good))
    half = len(good) // 2
    images = np.concatenate([good[order[half:]], bad])
    return Data(
        good[order[:half]], images, (np.arange(len(images)) >= len(good) - half).astype(int)
    )


def read_all(folder):
    """Read grey images of one size; what cannot be used is named and left out."""
    images = []
    for path in sorted(folder.iterdir()):
        try:
            with Image.open(path) as file:
                image = np.asarray(file)
        except (OSError, ValueError) as error:
            print(f"{path}: left out, cannot be read ({error})", file=sys.stderr)
            continue
        if image.ndim != 2 or (images and image.shape != images[0].shape):
            print(f"{path}: left out, its shape is {image.shape}", file=sys.stderr)
            continue
        images.append(image)
    if not images:
        sys.exit(f"{folder} holds no grey image that can be read")
    return np.stack(images)


# %%
# Two detectors: whole images as they are, and, for X-ray images, the peeled texture.


def detectors(peel, conv):
    model = ConvAutoencoder() if conv else None
    whole = PCAAutoencoder(components=30)
    if not peel:
        return {"images as they are": AnomalyDetector(model, preprocess=None, random_state=0)}
    return {
        "whole images": AnomalyDetector(whole, preprocess=None, aggregate="mean", random_state=0),
        "peeled images": AnomalyDetector(model, random_state=0),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder with good/ and bad/, or a .npz file")
    parser.add_argument(
        "--peel", action="store_true", help="needed with X-ray images of one item each"
    )
    parser.add_argument("--conv", action="store_true", help="use the convolutional autoencoder")
    parser.add_argument("-o", type=Path, default=Path("anomaly_report"), help="for the report")
    arguments = parser.parse_args()

    if arguments.data is None:
        print("Simulating 350 good potatoes to learn from, and 330 to judge by ...")
        data = simulated()
    else:
        data = (from_folder if arguments.data.is_dir() else from_file)(arguments.data)
    print(f"{len(data.good)} good images to learn from; {len(data.images)} to judge by")

    peel = arguments.peel or arguments.data is None
    for name, detector in detectors(peel, arguments.conv).items():
        evaluation = evaluate(
            detector.fit(data.good), data.images, data.labels, kinds=data.kinds, sizes=data.sizes
        )
        print(f"\n{name}, {detector.metric}\n{evaluation}")

    # %%
    # Which measure separates good from bad on these images? The last detector is the better one.
    compared = detector.reconstruct(data.images)
    ranking = rank_metrics(
        compared.inputs,
        compared.reconstructions,
        data.labels,
        masks=compared.masks,
        data_range=detector.data_range_,
    )
    print(f"\n{ranking}")
    report = write_report(
        arguments.o,
        evaluation,
        ranking,
        compared,
        images=data.images,
        metric=detector.metric,
        data_range=detector.data_range_,
        kinds=data.kinds,
    )
    print(f"\nThe report: {report.resolve()}")


if __name__ == "__main__":
    main()
