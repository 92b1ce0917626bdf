"""What detectors learn from imperfect images: ``python -m benchmarks.anomaly_learning [--quick]``.

Bad images among the good ones: what is found of others, with and without the fence. Few images: the
false alarms over many trainings, beside the rate that was asked for. The tables are printed; the
numbers of docs/anomaly.md and docs/on_a_line.md are such numbers.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import products
from benchmarks.anomaly import Amount, Data, bars, potatoes, unseen
from imsim.anomaly import AnomalyDetector, simulate
from imsim.tables import table

SHARE = 0.1
"""Of bad images among the good ones."""


def contaminated(data: Data) -> tuple[Data, int]:
    """Put judged bad images in the place of good ones; these are not judged."""
    bad = np.flatnonzero(data.labels)
    rng = np.random.default_rng(0)
    taken = rng.permutation(bad)[: round(SHARE * len(data.train))]
    train = data.train.copy()
    train[rng.permutation(len(train))[: len(taken)]] = data.images[taken]
    left = np.setdiff1d(np.arange(len(data.labels)), taken)
    return Data(train, data.images[left], data.labels[left]), len(taken)


def with_bad_ones(amount: Amount) -> str:
    rows = [["images", "fence", "bad among the good", "left out", "found", "false alarms"]]
    makers: tuple[Callable[[Amount, int], Data], ...] = (potatoes, unseen, bars)
    for make in makers:
        data, bad = contaminated(make(amount, 11))
        for fence in (None, 1.5):
            detector = AnomalyDetector(random_state=0, fence=fence).fit(data.train)
            flagged, labels = detector.predict(data.images) == -1, data.labels == 1
            counts = [str(bad), str(len(detector.odd_))]
            rates = [f"{flagged[kind].mean():.3f}" for kind in (labels, ~labels)]
            rows.append([make.__name__, str(fence), *counts, *rates])
    return table(rows)


def of_few(trainings: int) -> str:
    rows = [["images", "good images", "asked", "false alarms, mean", "least", "most"]]
    makers: dict[str, tuple[Callable[[int, int], Any], str | None]] = {
        "potatoes": (lambda n, seed: simulate.potatoes(n, seed=seed, size=64).images, "xray"),
        "bars": (lambda n, seed: simulate.bars(n, seed=seed, size=64).images, None),
        "castings": (lambda n, seed: products.images("casting", n, False, seed), None),
        "tiles": (lambda n, seed: products.images("tile", n, False, seed), None),
    }
    for name, (make, preprocess) in makers.items():
        pool, fresh = make(40 * trainings, 902), make(300, 901)
        rng = np.random.default_rng(0)
        for number in (20, 40, 100):
            for rate in (0.01, 0.05):
                found = []
                for k in range(trainings):
                    detector = AnomalyDetector(
                        preprocess=preprocess, random_state=k, false_alarm_rate=rate
                    ).fit(pool[rng.permutation(len(pool))[:number]])
                    found.append(float((detector.predict(fresh) == -1).mean()))
                shown = [f"{x:.4f}" for x in (np.mean(found), min(found), max(found))]
                rows.append([name, str(number), f"{rate}", *shown])
    return table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, in a minute")
    quick = parser.parse_args().quick
    amount = Amount(60 if quick else 200, 80, 120, (11,), 10)
    with warnings.catch_warnings(action="ignore"):  # of images left out, and of few images
        for given in (amount, replace(amount, train=40)):
            print(f"{SHARE:.0%} of {given.train} good images are bad\n{with_bad_ones(given)}\n")
        print(of_few(3 if quick else 20))


if __name__ == "__main__":
    main()
