"""
Anomaly detection, end to end
=============================

Learn from good X-ray images of potatoes only, reconstruct images, compare input with output,
decide. Four detectors do so, side by side: a straw man that compares whole images as they are, the
default, which peels them first, a linear autoencoder of images in one pose, and a convolutional
one of peeled images. Then ask which of the measures would have decided best, and write a report::

    python examples/anomaly_detection.py
    python examples/anomaly_detection.py --data FOLDER     # with good/ and bad/ in it
    python examples/anomaly_detection.py --data FILE.npz   # train_images, train_labels, test_...

Without ``--data`` the images are simulated, so that the truth is known. Images of your own are
compared as they are; X-ray images of one item each need ``--peel``, and ``--conv`` trains the
convolutional autoencoder on them too. Labels are 0 for good images.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from imsim.anomaly import (
    AnomalyDetector,
    PCAAutoencoder,
    evaluate,
    rank_metrics,
    simulate,
    write_comparison,
    write_report,
)
from imsim.tables import table

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
# The detectors. Each learns from the same good images, and says what it is before it has numbers.

STRAW_MAN = "straw man (to be beaten)"
DEFAULT = "default"
LINEAR = "linear autoencoder"
CONVOLUTIONAL = "convolutional autoencoder"


def detectors(peel, conv):
    """Return a text and a detector for each name."""
    found = {
        STRAW_MAN: (
            "compares whole images, as they are, with 30 principal components of good ones. It "
            "fails: outline and thickness vary far more than a foreign body does",
            AnomalyDetector(
                PCAAutoencoder(30), preprocess=None, aggregate="mean", pose=None, random_state=0
            ),
        ),
        DEFAULT: (
            "takes outline and thickness out (the peel); expects the mean of good texture"
            if peel
            else "learns how the energies of FSIM's filters are distributed in good images",
            AnomalyDetector(preprocess="xray" if peel else None, random_state=0),
        ),
        LINEAR: (
            "brings items into one pose, if they lie in several; expects 60 principal components",
            AnomalyDetector(PCAAutoencoder(60), preprocess=None, random_state=0),
        ),
    }
    if conv:
        try:
            from imsim.anomaly import ConvAutoencoder
        except ImportError as error:
            print(f"The convolutional autoencoder is left out. {error}")
            return found
        found[CONVOLUTIONAL] = (
            f"sees {'peeled images' if peel else 'images as they are'}; it was trained to take "
            "random bodies out of good ones, for up to a minute",
            AnomalyDetector(ConvAutoencoder(), preprocess="xray" if peel else None, random_state=0),
        )
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder with good/ and bad/, or a .npz file")
    parser.add_argument(
        "--peel", action="store_true", help="needed with X-ray images of one item each"
    )
    parser.add_argument(
        "--conv",
        action=argparse.BooleanOptionalAction,
        help="train the convolutional autoencoder; by default without --data only",
    )
    parser.add_argument("-o", type=Path, default=Path("anomaly_report"), help="for the report")
    arguments = parser.parse_args()

    if arguments.data is None:
        print("Simulating 350 good potatoes to learn from, and 330 to judge by ...")
        data = simulated()
    else:
        data = (from_folder if arguments.data.is_dir() else from_file)(arguments.data)
    print(f"{len(data.good)} good images to learn from; {len(data.images)} to judge by")

    peel = arguments.peel or arguments.data is None
    conv = arguments.data is None if arguments.conv is None else arguments.conv
    rows = [("detector", "AUROC", "found", "false alarms", "training", "images/s")]
    fitted, judged = {}, {}
    for name, (text, detector) in detectors(peel, conv).items():
        print(f"\nThe {name} {text} ...", flush=True)
        began = time.perf_counter()
        fitted[name] = detector.fit(data.good)
        seconds = time.perf_counter() - began
        judged[name] = found = evaluate(
            detector, data.images, data.labels, kinds=data.kinds, sizes=data.sizes
        )
        print(f"AUROC {found.auroc:.3f}")
        rates = f"{found.detection_rate:.1%}", f"{found.false_alarm_rate:.1%}"
        speed = f"{found.images_per_second:.0f}"
        rows.append((name, f"{found.auroc:.3f}", *rates, f"{seconds:.1f} s", speed))
    print(f"\n{table(rows, 'lrrrrr')}")

    # %%
    # Which measure separates good from bad best, where the default compares?
    detector, evaluation = fitted[DEFAULT], judged[DEFAULT]
    print(f"\nThe {DEFAULT}, {detector.metric}\n{evaluation}")
    compared = detector.reconstruct(data.images)
    ranking = rank_metrics(
        compared.inputs,
        compared.reconstructions,
        data.labels,
        masks=compared.masks,
        data_range=detector.data_range_,
    )
    print(f"\n{ranking}")
    beside = write_comparison(arguments.o, fitted, judged, data.images, kinds=data.kinds)
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
    print(f"\nAll detectors side by side: {beside.resolve()}")
    print(f"The report on the {DEFAULT}: {report.resolve()}")


if __name__ == "__main__":
    main()
