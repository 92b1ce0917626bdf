"""A seeded X-ray generator: potatoes and chocolate bars with contaminants and defects.

`potatoes`, `bars` and `dataset` return `Samples`: raw counts, transmission images and their ground
truth. `Beam` and `Detector` hold the physics, `KINDS` the kinds of defect.

A tube's spectrum passes path lengths of tabulated materials, bin of energy by bin; scatter, blur
and photon noise follow, then the detector's gains, dark signal and read noise. The images show
what is hard about such images; they do not replace those of a real line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from imsim import OptionError
from imsim.anomaly.simulate import items, physics
from imsim.anomaly.simulate.physics import Beam, Detector
from imsim.anomaly.xray import correct
from imsim.validation import check_choice, check_integer

__all__ = ["KINDS", "Beam", "Detector", "Samples", "bars", "dataset", "potatoes"]

KINDS = tuple(items.DEFECTS)
SIZES = (64, 8192)  # pixels: the least and the greatest image
MOST = 1_000_000  # images; more do not fit into any memory
SHARED = ("flat", "dark")  # one for all samples
ITEMS = {"potato": (items.potato, "potato"), "bar": (items.bar, "chocolate")}
"""The function of the path lengths through an item, and its material."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Simulated images with their ground truth; the first axis counts the samples.

    `samples[index]` picks some of them, by a boolean mask, a slice or integers; one integer gives
    `Samples` of length 1.

    Attributes
    ----------
    counts : numpy.ndarray of uint16, shape (n, height, width)
        Raw detector counts.
    flat, dark : numpy.ndarray of float32, shape (height, width)
        Measured open beam and dark signal, each the average of 64 frames.
    images : numpy.ndarray of float32, shape (n, height, width)
        Transmission: the counts after flat and dark correction; 1 is the open beam.
    labels : numpy.ndarray of int64, shape (n,)
        0 good, 1 bad.
    kinds : numpy.ndarray of str, shape (n,)
        `"good"` or one of `KINDS`.
    sizes : numpy.ndarray of float64, shape (n,)
        Size of the defect, as a fraction of the greatest of its kind; 0 for good samples.
    defect_masks : numpy.ndarray of bool, shape (n, height, width)
        Every pixel that the sharp projection of the defect touches; the blur of the beam spreads
        the defect a little beyond. Empty for good samples.
    interiors : numpy.ndarray of bool, shape (n, height, width)
        Silhouette of the whole item in sharp projection, whether there is a defect or not. A peeled
        mask is an erosion of it.
    clean : numpy.ndarray of float32, shape (n, height, width)
        Transmission of the clean twin: the same item and the same noise without the defect. It
        equals `images` bit by bit outside the blur's reach of the defect.
    cnr : numpy.ndarray of float64, shape (n,)
        Contrast-to-noise ratio: the noise-free difference between sample and twin, without its
        sign, over the standard deviation of the noise, in the pixel where it is greatest. The
        texture of the item does not count as noise. NaN for good samples.
    """

    counts: npt.NDArray[np.uint16]
    flat: npt.NDArray[np.float32]
    dark: npt.NDArray[np.float32]
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.str_]
    sizes: npt.NDArray[np.float64]
    defect_masks: npt.NDArray[np.bool_]
    interiors: npt.NDArray[np.bool_]
    clean: npt.NDArray[np.float32]
    cnr: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Samples:
        if not isinstance(index, slice):
            index = np.atleast_1d(np.asarray(index))
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return Samples(**{k: v if k in SHARED else v[index] for k, v in arrays.items()})


def potatoes(
    count: int,
    *,
    defects: str | Sequence[str] | None = None,
    sizes: float | tuple[float, float] = (0.5, 1.0),
    size: int = 128,
    seed: int = 0,
    beam: Beam | None = None,
    detector: Detector | None = None,
) -> Samples:
    """Simulate X-ray images of potatoes, all good or all bad.

    A potato has two independent halves, an irregular outline, lumps and eyes, density texture and
    inner lumps. It is 50 to 95 mm long; the field is 112 mm wide whatever the number of pixels.

    Parameters
    ----------
    count : int
        Number of images.
    defects : str or sequence of str, optional
        Kinds of defect out of `KINDS`, which take turns. None makes good samples.
    sizes : float or (float, float)
        Size of the defects as a fraction of the greatest of their kind, fixed or drawn uniformly
        from this interval, within 0.1 to 1. In a potato a defect of size 0.25 can hardly be
        seen, one of size 1 is obvious.
    size : int
        Height and width in pixels, 64 to 8192; the field is 112 mm wide at every size.
    seed : int
        Sample `i` depends on the seed, on `i` and on whether it is good, not on `count`; good and
        bad samples of one seed are different items.
    beam, detector : Beam and Detector, optional
        Tube and scatter; photons, blur, gains and noise.

    Returns
    -------
    Samples
        Images with ground truth.

    Raises
    ------
    OptionError
        For a count, size, seed, kind or size of defect out of its range.

    Examples
    --------
    >>> from imsim.anomaly import simulate
    >>> bad = simulate.potatoes(4, defects=["needle", "hollow_heart"], size=64)
    >>> bad.images.shape, bad.kinds.tolist()
    ((4, 64, 64), ['needle', 'hollow_heart', 'needle', 'hollow_heart'])
    """
    return _one_label("potato", count, defects, sizes, size, seed, beam, detector)


def bars(
    count: int,
    *,
    defects: str | Sequence[str] | None = None,
    sizes: float | tuple[float, float] = (0.5, 1.0),
    size: int = 128,
    seed: int = 0,
    beam: Beam | None = None,
    detector: Detector | None = None,
) -> Samples:
    """Simulate X-ray images of chocolate bars, all good or all bad.

    All bars come out of one mould of bevelled segments with an embossed ring each, 84 mm by 48 mm
    and about 10 mm thick; filling, tilt, placement, nuts, bubbles and density texture vary. As a
    bar is thin, defects show more than in a potato. A hollow heart is an air pocket here, and a
    gap a crack.

    Parameters
    ----------
    count, defects, sizes, size, seed, beam, detector
        As for `potatoes`.

    Examples
    --------
    >>> from imsim.anomaly import simulate
    >>> good = simulate.bars(3, size=64, seed=1)
    >>> good.labels.tolist(), good.counts.dtype.name
    ([0, 0, 0], 'uint16')
    """
    return _one_label("bar", count, defects, sizes, size, seed, beam, detector)


def dataset(
    item: str = "potato",
    *,
    good: int = 100,
    bad: int = 100,
    kinds: str | Sequence[str] = KINDS,
    sizes: float | tuple[float, float] = (0.5, 1.0),
    size: int = 128,
    seed: int = 0,
    beam: Beam | None = None,
    detector: Detector | None = None,
) -> Samples:
    """Simulate good and bad samples of one item.

    Parameters
    ----------
    item : {"potato", "bar"}
        What is on the belt.
    good, bad : int
        How many of each. The good ones come first; nothing is shuffled. They are those of
        `potatoes` or `bars` with the same seed.
    kinds : str or sequence of str
        Kinds of defect, which take turns.
    sizes, size, seed, beam, detector
        As for `potatoes`.

    Examples
    --------
    >>> from imsim.anomaly import simulate
    >>> data = simulate.dataset("potato", good=3, bad=2, size=64)
    >>> data.labels.tolist()
    [0, 0, 0, 1, 1]
    >>> len(data[data.labels == 0])
    3
    """
    check_choice("item", item, (*ITEMS,))
    check_integer("good", good, 0, MOST)
    check_integer("bad", bad, 0, MOST)
    names = _kinds("kinds", kinds)
    return _simulate(item, good, bad, names, sizes, size, seed, beam, detector)


def _one_label(item: str, count: int, kinds: Any, *options: Any) -> Samples:
    check_integer("count", count, 0, MOST)
    if kinds is None:
        return _simulate(item, count, 0, KINDS, *options)
    return _simulate(item, 0, count, _kinds("defects", kinds), *options)


def _simulate(
    item: str,
    good: int,
    bad: int,
    kinds: Sequence[str],
    sizes: Any,
    size: int,
    seed: int,
    beam: Beam | None,
    detector: Detector | None,
) -> Samples:
    make, material = ITEMS[item]
    beam = Beam() if beam is None else beam
    detector = Detector() if detector is None else detector
    if not isinstance(beam, Beam) or not isinstance(detector, Detector):
        raise OptionError(
            f"beam={beam!r}, detector={detector!r}: give simulate.Beam(...), simulate.Detector(...)"
        )
    check_integer("size", size, *SIZES)
    check_integer("seed", seed, 0)
    good, bad, size, seed = int(good), int(bad), int(size), int(seed)
    low, high = _interval(sizes)
    truth = physics.make_fields(beam, detector, size, _generator(seed, 0))
    n = good + bad
    shape = (n, size, size)
    result = Samples(
        counts=np.empty(shape, np.uint16),
        flat=truth.flat,
        dark=truth.dark,
        images=np.empty(shape, np.float32),
        labels=(np.arange(n) >= good).astype(np.int64),
        kinds=np.array(["good"] * good + [kinds[i % len(kinds)] for i in range(bad)], np.str_),
        sizes=np.zeros(n),
        defect_masks=np.zeros(shape, np.bool_),
        interiors=np.empty(shape, np.bool_),
        clean=np.empty(shape, np.float32),
        cnr=np.full(n, np.nan),
    )
    for i in range(n):
        key = (1, i) if i < good else (2, i - good)
        outside, inside, noise, rest = (_generator(seed, *key, part) for part in range(4))
        thickness = make(size, outside, inside)
        foreign = None
        if i >= good:
            result.sizes[i] = rest.uniform(low, high)
            foreign, mask = items.place(result.kinds[i], result.sizes[i], thickness, rest)
            result.defect_masks[i] = mask
        exposure = physics.expose(thickness, material, foreign, beam, detector)
        if foreign is not None:
            result.cnr[i] = physics.contrast_to_noise(exposure, truth, detector)
        counts, twin = physics.count(exposure, truth, detector, noise, rest)
        result.counts[i] = counts
        result.images[i], result.clean[i] = correct([counts, twin], truth.flat, truth.dark)
        result.interiors[i] = thickness > 0
    return result


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _kinds(name: str, kinds: str | Sequence[str]) -> list[str]:
    names = [kinds] if isinstance(kinds, str) or not np.iterable(kinds) else list(kinds)
    if not names or any(kind not in KINDS for kind in names):
        raise OptionError(f"{name}={kinds!r}: name one or more of {', '.join(KINDS)}")
    return names


def _interval(sizes: Any) -> tuple[float, float]:
    """Return the limits of the defects' sizes; one number stands for both."""
    try:
        low, high = np.broadcast_to(np.asarray(sizes, dtype=np.float64), (2,))
    except (TypeError, ValueError, OverflowError):
        low = high = np.nan
    if not 0.1 <= low <= high <= 1:
        raise OptionError(
            f"sizes={sizes!r}: give one number, or the lowest and the highest, from 0.1 to 1"
        )
    return float(low), float(high)
