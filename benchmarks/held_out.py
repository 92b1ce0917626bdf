"""X-ray images from a second generator, which shares nothing with `imsim.anomaly.simulate`.

Items are superellipses with a Fourier outline and a flattened profile; their texture is noise with
a power-law spectrum and soft lumps; the beam has one energy, the detector streaks along its
columns. Contrast and texture were set until a plain high-pass filter, tuned by hand and with an
eroded mask, reached an AUROC of 0.95, and a whole-image PCA about 0.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Rng = np.random.Generator

KINDS = ("needle", "shaving", "stone", "glass", "bone", "hollow_heart")
SIDE = 128
CONTRAST = 2.0
"""Absorbance of the foreign bodies, as a multiple of what their shapes below say."""
TEXTURE = 5.0
"""Strength of what varies inside good items, likewise."""
OUTLINE = 0.18
"""How much outline, orientation and place of good items vary."""
SCALE = 1.9
"""Lengths of defects of size 1, as a multiple of what their shapes below say."""
COUNTS = 40_000
"""Raw counts of the open beam."""
Y, X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)


class Sample(NamedTuple):
    """One image with its ground truth."""

    image: Floats
    """Transmission; the open beam is about 1."""
    item: NDArray[np.bool_]
    defect: NDArray[np.bool_]


class Samples(NamedTuple):
    """Images with their ground truth, either all good or all bad."""

    images: NDArray[np.float32]
    """Transmission, shape (n, 128, 128)."""
    items: NDArray[np.bool_]
    defects: NDArray[np.bool_]
    kinds: NDArray[np.str_]
    sizes: Floats

    @property
    def counts(self) -> NDArray[np.uint16]:
        """The same images as raw counts without dark signal."""
        return np.clip(np.rint(self.images * COUNTS), 0, 65535).astype(np.uint16)


def make(
    n: int,
    bad: bool,
    seed: int,
    *,
    kinds: Sequence[str] = KINDS,
    sizes: tuple[float, float] = (0.5, 1.0),
) -> Samples:
    """Make good images, or bad ones whose kinds take turns and whose sizes are uniform."""
    rng = np.random.default_rng([seed, int(bad), 101])
    names = [kinds[i % len(kinds)] if bad else "good" for i in range(n)]
    drawn = rng.uniform(*sizes, n) if bad else np.zeros(n)
    made = [_sample(rng, name, size) for name, size in zip(names, drawn, strict=True)]
    return Samples(
        images=np.array([sample.image for sample in made], dtype=np.float32),
        items=np.array([sample.item for sample in made]),
        defects=np.array([sample.defect for sample in made]),
        kinds=np.array(names),
        sizes=drawn,
    )


def _sample(rng: Rng, kind: str, size: float) -> Sample:
    radius, half_width = _outline(rng)
    item = radius < 1
    depth = ndimage.distance_transform_edt(item)
    flatness = rng.uniform(1.7, 2.6)
    profile = np.sqrt(1 - np.clip(radius, 0, 1) ** flatness)
    peak = rng.uniform(0.85, 1.25) * (half_width / 45) ** 0.7
    grain = rng.uniform(0.012, 0.026) * _noise(rng, rng.uniform(1.8, 2.6), 0.02)
    absorbance = peak * profile * (1 + TEXTURE * grain)
    for _ in range(rng.poisson(5)):
        x, y = rng.uniform(20, SIDE - 20, 2)
        lump = np.exp(-((X - x) ** 2 + (Y - y) ** 2) / (2 * rng.uniform(3, 9) ** 2))
        absorbance += TEXTURE * rng.normal(0, 0.026) * profile * lump
    defect = np.zeros_like(absorbance)
    if kind != "good":
        hollow = kind == "hollow_heart"
        room = np.argwhere(depth > (0.62 * depth.max() if hollow else 8 + 5 * size))
        if not len(room):
            room = np.argwhere(depth > 0.8 * depth.max())
        y, x = room[rng.integers(len(room))]
        shape = DEFECTS[kind](rng, size * SCALE, np.array([x, y], dtype=np.float64))
        # A hole takes at most half of the path, and leaves the rim alone.
        defect = np.maximum(CONTRAST * shape * item, -0.5 * absorbance)
        defect *= np.clip(depth / 8, 0, 1) if hollow else 1
    sharp = np.exp(-np.clip(absorbance + defect, 0, None))
    return Sample(_detect(rng, sharp), item, (np.abs(defect) > 0.01) & item)


def _outline(rng: Rng) -> tuple[Floats, float]:
    """The distance from the centre, 1 on the outline, and the lesser half axis in pixels."""
    while True:
        small = rng.random() < 0.03
        a = (rng.uniform(0.36, 0.68) if small else rng.uniform(0.68, 0.8)) * SIDE / 2
        b = a * rng.uniform(0.72, 0.95)
        exponent = rng.uniform(2 - 0.2 * OUTLINE, 2 + 1.2 * OUTLINE)
        turn = OUTLINE * rng.normal(0, 0.5)
        slack = OUTLINE * np.clip(SIDE / 2 - 1.17 * a - 3, 0, 4)
        x, y = _turned(SIDE / 2 + rng.uniform(-slack, slack, 2), turn)
        angle = np.arctan2(y, x)
        stretch = np.ones_like(angle)
        for k in range(2, 7):
            wave = np.cos(k * angle + rng.uniform(0, 2 * np.pi))
            stretch += OUTLINE * rng.normal(0, 0.045 / k**0.8) * wave
        radius = (np.abs(x / a) ** exponent + np.abs(y / b) ** exponent) ** (1 / exponent) / stretch
        if min(radius[[2, -3]].min(), radius[:, [2, -3]].min()) > 1:  # it stays off the frame
            return radius, b


def _turned(centre: Floats, angle: float) -> tuple[Floats, Floats]:
    """Coordinates about a centre, along and across a direction."""
    u, v = X - centre[0], Y - centre[1]
    return u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)


def _noise(rng: Rng, exponent: float, lowest: float) -> Floats:
    """Noise whose power falls with the frequency, of mean 0 and standard deviation 1.

    It has no frequencies (in cycles per pixel) up to `lowest`.
    """
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    amplitude = np.zeros_like(frequency)
    kept = frequency > lowest
    amplitude[kept] = frequency[kept] ** (-exponent / 2) * np.exp(-((frequency[kept] / 0.28) ** 4))
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * amplitude
    noise = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    return noise / noise.std()


def _detect(rng: Rng, sharp: Floats) -> Floats:
    """Blur, scatter, photon noise, gain streaks and read-out noise."""
    image = ndimage.gaussian_filter(sharp, rng.uniform(0.5, 0.75))
    image = 0.985 * (image + 0.02 * ndimage.gaussian_filter(image, 14))
    photons = rng.uniform(9000, 14000)
    image = rng.poisson(image * photons) / photons
    image *= 1 + rng.normal(0, 0.0025, (1, SIDE))
    return image + rng.normal(0, 0.0015, (SIDE, SIDE))


def _rod(start: Floats, end: Floats, width: float) -> Floats:
    """How much of each pixel a straight rod covers."""
    d = end - start
    t = np.clip(((X - start[0]) * d[0] + (Y - start[1]) * d[1]) / (d @ d), 0, 1)
    distance = np.hypot(X - start[0] - t * d[0], Y - start[1] - t * d[1])
    return np.clip(width / 2 + 0.5 - distance, 0, 1)


def _needle(rng: Rng, s: float, centre: Floats) -> Floats:
    angle = rng.uniform(0, 2 * np.pi)
    half = 8.5 * s * np.array([np.cos(angle), np.sin(angle)])
    return 0.34 * s * _rod(centre - half, centre + half, 1.3)


def _shaving(rng: Rng, s: float, centre: Floats) -> Floats:
    angles = np.linspace(0, rng.uniform(1.5, 4), 9) + rng.uniform(0, 2 * np.pi)
    radius = rng.uniform(3, 6) * s
    points = centre + radius * np.stack([np.cos(angles), rng.uniform(0.6, 1) * np.sin(angles)], 1)
    links = [_rod(p, q, 1.2) for p, q in pairwise(points)]
    return 0.3 * s * np.max(links, axis=0)


def _stone(rng: Rng, s: float, centre: Floats) -> Floats:
    x, y = _turned(centre, rng.uniform(0, 2 * np.pi))
    angle, shift = np.arctan2(y, x), rng.uniform(0, 2 * np.pi)
    waves = 0.15 * np.cos(2 * angle + 1) + 0.12 * np.cos(3 * angle + shift)
    radius = 4.6 * s * (1 + waves + 0.08 * np.cos(5 * angle))
    return 0.26 * s * np.sqrt(np.clip(1 - (x**2 + y**2) / radius**2, 0, 1))


def _glass(rng: Rng, s: float, centre: Floats) -> Floats:
    x, y = _turned(centre, rng.uniform(0, 2 * np.pi))
    shard = np.ones_like(x)
    for quarter in range(4):
        a = quarter * np.pi / 2 + rng.uniform(-0.5, 0.5)
        edge = rng.uniform(3, 5.5) * s - x * np.cos(a) - y * np.sin(a)
        shard *= np.clip(edge + 0.5, 0, 1)
    return 0.15 * s * shard


def _bone(rng: Rng, s: float, centre: Floats) -> Floats:
    angle = rng.uniform(0, 2 * np.pi)
    half = rng.uniform(6, 9) * s * np.array([np.cos(angle), np.sin(angle)])
    ends = centre - half, centre + half
    return s * (0.17 * _rod(*ends, 5.2 * s) - 0.07 * _rod(*ends, 2.4 * s))


def _hollow_heart(rng: Rng, s: float, centre: Floats) -> Floats:
    x, y = _turned(centre, rng.uniform(0, 2 * np.pi))
    radius = np.hypot(x / (13 * s), y / (6 * s)) + 0.25 * _noise(rng, 3.0, 0.0)
    return -0.24 * s * np.clip(1.25 - radius, 0, 1) ** 0.7


DEFECTS = {
    "needle": _needle,
    "shaving": _shaving,
    "stone": _stone,
    "glass": _glass,
    "bone": _bone,
    "hollow_heart": _hollow_heart,
}
