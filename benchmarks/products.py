"""Simulated products as they are: ``python -m benchmarks.products [--without NAME]``.

Six kinds of good and bad images, on which the statistics of images as they are were chosen, before
real sets were looked at. Printed is the AUROC of the default detector, and of each of its distances
alone; with ``--without``, what is left without one part of it.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from sklearn.metrics import roc_auc_score

from imsim.anomaly import AnomalyDetector, gaussians, statistics
from imsim.tables import table

Floats = NDArray[np.float64]
Rng = np.random.Generator

SIDE = 128
Y, X = np.mgrid[:SIDE, :SIDE].astype(float)
WITHOUT: dict[str, tuple[object, str, object]] = {
    "usual": (gaussians.Usual, "relative", lambda usual, energies, squares: np.sqrt(squares)),
    "width": (statistics, "HIGHEST_OF_ALL", 0.02),
    "border": (statistics, "within", lambda rows, columns: (rows, columns)),
    "places": (statistics, "has_places", lambda shown: False),
    "pose": (AnomalyDetector, "pose", None),
}
"""What is put in the place of each part that ``--without`` takes out."""


def field(rng: Rng, width: float) -> Floats:
    """Noise of a width, with a standard deviation of 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), width, mode="wrap")
    return np.asarray(noise / noise.std())


def off_line(rng: Rng, start: Floats, length: float, bend: float) -> Floats:
    """Distance of each pixel from a line that bends at random, to both sides of its start."""
    line, first = np.ones((SIDE, SIDE), bool), rng.uniform(0, 2 * np.pi)
    for side in (0, np.pi):
        angle, place = first + side, start.copy()
        for _ in range(int(length / 2)):
            row, column = place.astype(int) % SIDE
            line[row, column] = False
            angle += rng.normal(0, bend)
            place += np.sin(angle), np.cos(angle)
    return np.asarray(ndimage.distance_transform_edt(line))


def blob(rng: Rng, at: Floats, radius: float, rough: float = 0.3) -> Floats:
    """A patch of 1 with a rough outline."""
    angle, wide = np.arctan2(Y - at[0], X - at[1]), radius
    for k in (2, 3, 4):
        wide = wide + radius * rough / k * np.cos(k * angle + rng.uniform(0, 6)) * rng.normal()
    return np.clip(wide - np.hypot(Y - at[0], X - at[1]) + 0.5, 0, 1)


def patched(image: Floats, where: Floats, value: float) -> Floats:
    return image * (1 - where) + where * value


def damaged(rng: Rng, image: Floats, at: Floats, strength: float) -> Floats:
    """Put a crack, a pit, a stain or rough ground on an image."""
    kind = rng.integers(4)
    if kind == 0:
        away = off_line(rng, at, rng.uniform(20, 70), 0.15)
        return image - strength * np.exp(-(away**2) / 1.3)
    if kind == 1:
        return patched(image, blob(rng, at, rng.uniform(2, 5)), image.mean() - 1.3 * strength)
    soft = ndimage.gaussian_filter(blob(rng, at, rng.uniform(8, 16)), 2)
    if kind == 2:
        return image - rng.choice([-0.6, 0.6]) * strength * soft
    return image + 0.4 * strength * soft * field(rng, 0.8)


def tile(rng: Rng, bad: bool) -> Floats:
    """Grained stone without any place."""
    grain, lumps = field(rng, 1), field(rng, 3)
    image = 0.55 + 0.05 * grain + 0.05 * lumps - 0.1 * np.clip(lumps - 1, 0, 2)
    return damaged(rng, image, rng.uniform(16, 112, 2), 0.2) if bad else image


def cell(rng: Rng, bad: bool) -> Floats:
    """Crystals of any shape between two bars, darker at the rim."""
    seeds = rng.uniform(0, SIDE, (rng.integers(60, 220), 2))
    bent = np.stack([Y + 1.5 * field(rng, 3), X + 1.5 * field(rng, 3)], -1)
    crystal = cKDTree(seeds).query(bent.reshape(-1, 2))[1].reshape(SIDE, SIDE)
    image = rng.uniform(0.45, 0.7) + rng.normal(0, rng.uniform(0.03, 0.09), len(seeds))[crystal]
    image = image - rng.uniform(0.05, 0.2) * np.hypot(Y - 64, X - 64) ** 2 / 90**2
    if bad:
        image = damaged(rng, image, rng.uniform(16, 112, 2), 0.25)
    bars = np.minimum(np.abs(Y - 42 - rng.normal()), np.abs(Y - 86 - rng.normal())) < 2.2
    return np.where(bars, 0.12, image)


def casting(rng: Rng, bad: bool) -> Floats:
    """A wheel with rings and blades in uneven light, centred to a pixel."""
    row, column = 63.5 + rng.normal(0, 1.5, 2)
    away, angle = np.hypot(Y - row, X - column), np.arctan2(Y - row, X - column)
    edges, levels = (0, 9, 11, 16, 18, 34, 47, 56), (0.2, 0.2, 0.6, 0.6, 0.4, 0.6, 0.5, 0.5)
    body = np.interp(away, edges, levels) + 0.02 * field(rng, 1.2)
    blades = np.cos(6 * (angle - rng.uniform(0, 6.3)) + 0.08 * away) > 0.7
    body = body + 0.06 * (blades & (away > 19) & (away < 44))
    if bad:
        where, out = rng.uniform(0, 6.3), rng.uniform(20, 50)
        at = np.array((row + out * np.sin(where), column + out * np.cos(where)))
        body = damaged(rng, body, at, 0.1)
    image = np.where(away < 56, body, 0.78)
    slope = rng.normal(0, 0.08, 2)
    return image * (1 + slope[0] * (Y - 64) / 64 + slope[1] * (X - 64) / 64)


def screw(rng: Rng, bad: bool) -> Floats:
    """A screw in any pose on a bright ground; bad ones are bent, short, or without some thread."""
    turn, (row, column) = rng.uniform(0, 2 * np.pi), 63.5 + rng.normal(0, 5, 2)
    along = (X - column) * np.cos(turn) + (Y - row) * np.sin(turn) + 44
    across = (Y - row) * np.cos(turn) - (X - column) * np.sin(turn)
    kind = rng.choice(["bent", "short", "thread", "mark"]) if bad else "good"
    end = 88 - (rng.uniform(2, 5) if kind == "short" else 0)
    if kind == "bent":
        across = across + rng.uniform(0.0005, 0.0015) * np.clip(along - 40, 0, None) ** 2
    half = np.interp(along, (0, 3, 8, 12, 26, 27, end - 8, end), (8.5, 9.5, 5, 4, 4, 5, 5, 0.5))
    wave = np.sin(1.5 * along + rng.uniform(0, 6) + np.sign(across)) * (
        (along > 27) & (along < end)
    )
    if kind == "thread":
        start = rng.uniform(30, 65)
        wave = np.where((along > start) & (along < start + rng.uniform(4, 7)), -1, wave)
    item = np.clip(half + 0.9 * wave - np.abs(across) + 0.5, 0, 1) * ((along > 0) & (along < end))
    body = 0.35 + 0.25 * np.sqrt(np.clip(1 - (across / half) ** 2, 0, 1)) + 0.1 * wave
    if kind == "mark":
        body = body - 0.15 * np.exp(-((along - rng.uniform(4, 25)) ** 2 + across**2) / 6)
    slope = rng.normal(0, 0.03, 2)
    ground = rng.uniform(0.8, 0.9) + slope[0] * (Y - 64) / 64 + slope[1] * (X - 64) / 64
    return item * body + (1 - item) * ground


def board(rng: Rng, bad: bool) -> Floats:
    """Tracks and pads that go on beyond the frame; some tracks end, touch, or have spurs."""
    marks = np.zeros((SIDE, SIDE))
    shift, level = rng.uniform(0, 24, 2), rng.random() < 0.5
    across, along = (Y + shift[0], X + shift[1]) if level else (X + shift[1], Y + shift[0])
    for number in range(8):
        if rng.random() < 0.3:
            continue
        jog = 24 * rng.integers(0, 2) * np.clip((along - rng.uniform(0, SIDE)) / 24, 0, 1)
        marks = np.maximum(marks, np.clip(5.5 - np.abs(across - 24 * number - jog), 0, 1))
        pad = np.hypot(across - 24 * number, along - rng.uniform(0, SIDE))
        marks = np.where(pad < 10, (pad > 4).astype(float), marks)
    if bad:
        on = ndimage.gaussian_filter(marks, 2)
        edges = np.argwhere(
            (np.abs(on - 0.5) < 0.1) & (np.abs(X - 64) < 52) & (np.abs(Y - 64) < 52)
        )
        at = edges[rng.integers(len(edges))].astype(float) if len(edges) else np.full(2, 64.0)
        marks = patched(marks, blob(rng, at, rng.uniform(4, 7)), float(rng.random() < 0.5))
    return 0.12 + 0.76 * ndimage.gaussian_filter(marks, 0.6)


def cookie(rng: Rng, bad: bool) -> Floats:
    """Grained items with chips and cracks of their own; some are broken in two."""
    row, column = 63.5 + rng.normal(0, 3, 2)
    cut = rng.uniform(0, 6.3)
    beside = (Y - row) * np.sin(cut) + (X - column) * np.cos(cut) + 1.5 * field(rng, 2.5)
    gap = rng.uniform(3, 12) if bad and rng.random() < 0.4 else 0.0
    shift = np.sign(beside) * gap / 2
    away = np.hypot(Y - row - shift * np.sin(cut), X - column - shift * np.cos(cut))
    angle = np.arctan2(Y - row, X - column)
    edge = 42 + rng.normal() + sum(rng.normal() / k * np.cos(k * angle + k) for k in range(2, 9))
    item = np.clip(edge - away + 0.5, 0, 1) * np.clip(np.abs(beside) - gap / 2 + 0.5, 0, 1)
    item = item if gap else np.clip(edge - away + 0.5, 0, 1)
    body = 0.6 + 0.04 * field(rng, 0.9) + 0.03 * field(rng, 4)
    inside = np.argwhere(away < 34).astype(float)
    for at in inside[rng.integers(len(inside), size=rng.integers(3, 9))]:
        body = patched(body, blob(rng, at, rng.uniform(2, 4.5), 0.5), 0.27)
    for at in inside[rng.integers(len(inside), size=rng.integers(1, 5))]:
        body = body - 0.1 * np.exp(-(off_line(rng, at, rng.uniform(5, 15), 0.3) ** 2) / 1.5)
    if bad and not gap:
        body = damaged(rng, body, inside[rng.integers(len(inside))], 0.35)
    return item * body + (1 - item) * (rng.uniform(0.2, 0.28) + 0.03 * field(rng, 0.7))


KINDS: dict[str, tuple[Callable[[Rng, bool], Floats], tuple[int, ...]]] = {
    "casting": (casting, (150, 25)),
    "cell": (cell, (150, 25)),
    "screw": (screw, (150, 25)),
    "tile": (tile, (150, 25)),
    "board": (board, (150, 25)),
    "cookie": (cookie, (50, 20)),
}
"""Of each kind what makes an image, and numbers of good images to learn from."""


def images(kind: str, count: int, bad: bool, seed: int) -> NDArray[np.uint8]:
    """Return so many images, with some blur and noise."""
    found = []
    for number in range(count):
        rng = np.random.default_rng([seed, number, bad])
        image = ndimage.gaussian_filter(KINDS[kind][0](rng, bad), 0.6)
        found.append(image + 0.012 * rng.standard_normal(image.shape))
    return np.clip(np.rint(255 * np.array(found)), 0, 255).astype(np.uint8)


def aurocs(kind: str, train: int, seed: int) -> list[float]:
    """Return the AUROC of the default detector, and of each of its distances."""
    good, bad = (images(kind, n, k, 20 + seed) for n, k in ((100, False), (100, True)))
    detector = AnomalyDetector(preprocess=None, random_state=0, pose=AnomalyDetector.pose)
    detector.fit(images(kind, train, False, 10 + seed))
    judged = np.concatenate([good, bad])
    columns = detector.model_.distances(detector.reconstruct(judged).inputs)
    both = [detector.anomaly_score(judged), *columns.T]
    return [float(roc_auc_score(np.repeat([0, 1], 100), scores)) for scores in both]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", choices=WITHOUT, help="a part that is taken out")
    parser.add_argument("--draws", type=int, default=1)
    given = parser.parse_args()
    rows, all_of_them = [["product", "good images", "AUROC", "each distance alone"]], []
    with warnings.catch_warnings(action="ignore"):  # of few images
        if given.without:
            mock.patch.object(*WITHOUT[given.without]).start()
        for kind, (_, numbers) in KINDS.items():
            for train in numbers:
                found = [aurocs(kind, train, seed) for seed in range(given.draws)]
                means = np.mean([one for one in found if len(one) == len(found[0])], axis=0)
                all_of_them.append(np.mean([one[0] for one in found]))
                alone = " ".join(f"{x:.3f}" for x in means[1:])
                rows.append([kind, str(train), f"{all_of_them[-1]:.3f}", alone])
    rows.append(["mean", "", f"{np.mean(all_of_them):.3f}", ""])
    print(table(rows))


if __name__ == "__main__":
    main()
