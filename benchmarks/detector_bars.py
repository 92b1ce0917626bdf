"""What the detector set out to reach: images per second in batches, and the time of one image."""

from __future__ import annotations

import time
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

import imsim
from benchmarks.bars import Bar, Case
from benchmarks.timing import Spread

if TYPE_CHECKING:
    from imsim.anomaly import AnomalyDetector

TRAINED = {128: 100, 512: 40, 1024: 20}
"""Good images that a detector learns from, per side."""

BATCHES = {128: 64, 512: 32, 1024: 16}
ROUNDS = 7


@cache
def _line(side: int) -> tuple[AnomalyDetector, np.ndarray]:
    """A detector that has seen potatoes, and other potatoes of the same size."""
    from imsim.anomaly import AnomalyDetector, simulate

    good = simulate.potatoes(TRAINED[side], size=side, seed=1).images
    detector = AnomalyDetector(false_alarm_rate=0.05, random_state=0).fit(good)
    images = simulate.potatoes(BATCHES[side], size=side, seed=2).images
    detector.inspect(images[:2])
    return detector, images


def _rate(side: int, budget: float) -> Spread:
    detector, images = _line(side)
    rates = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        detector.inspect(images)
        rates.append(len(images) / (time.perf_counter() - start))
    return Spread.of(rates)


def _one(side: int, budget: float) -> Spread:
    """Milliseconds of CPU that one image takes, without other threads."""
    detector, images = _line(side)
    times = []
    with imsim.workers(1):
        for image in images:
            start = time.process_time()
            detector.inspect(image[None])
            times.append(1e3 * (time.process_time() - start))
    return Spread.of(times)


def _batches(side: int) -> Case:
    label = f"batches of {BATCHES[side]} at {side}x{side}"
    return Case(label, partial(_rate, side), slow=side > 128)


def _single(side: int) -> Case:
    return Case(f"one image of {side}x{side}", partial(_one, side), slow=side > 128)


DETECTOR_BARS = (
    Bar("detector, images in batches", "400 a second", 400, True, (_batches(128),), unit="/s"),
    Bar("detector, images in batches", "60 a second", 60, True, (_batches(512),), unit="/s"),
    Bar("detector, images in batches", "15 a second", 15, True, (_batches(1024),), unit="/s"),
    Bar("detector, one image", "6 ms of one core", 6, False, (_single(128),), unit="ms"),
    Bar("detector, one image", "25 ms of one core", 25, False, (_single(512),), unit="ms"),
)
