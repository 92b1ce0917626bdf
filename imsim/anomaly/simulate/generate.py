"""Seeded X-ray images of potatoes and chocolate bars."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from imsim import OptionError
from imsim.anomaly.simulate import bodies, defects, physics
from imsim.anomaly.simulate.physics import Beam, Detector, Floats
from imsim.anomaly.simulate.samples import Samples
from imsim.anomaly.xray import correct

KINDS = tuple(defects.DEFECTS)
SIZES = (64, 512)  # pixels: the least and the greatest image
MOST = 1_000_000  # images; more do not fit into any memory


class Item(NamedTuple):
    """A product: the path lengths through one of it, and what it is made of."""

    make: Callable[[int, np.random.Generator, np.random.Generator], Floats]
    material: str


ITEMS = {"potato": Item(bodies.potato, "potato"), "bar": Item(bodies.bar, "chocolate")}


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
        Number of images, at least 0.
    defects : str or sequence of str, optional
        Kinds of defect out of `KINDS`, which take turns. None makes good samples.
    sizes : float or (float, float)
        Size of the defects as a fraction of the greatest of their kind, fixed or drawn uniformly
        from this interval, within 0.1 to 1. In a potato a defect of size 0.25 can hardly be
        seen, one of size 1 is obvious.
    size : int
        Height and width in pixels, 64 to 512.
    seed : int
        At least 0. Sample `i` depends on the seed, on `i` and on whether it is good, not on
        `count`; good and bad samples of one seed are different items.
    beam : Beam, optional
        Tube and scatter; by default `Beam()`.
    detector : Detector, optional
        Photons, blur, gains and noise; by default `Detector()`.

    Returns
    -------
    Samples
        Images with ground truth.

    Raises
    ------
    OptionError
        For a count, size, seed, kind or size of defect out of its range.

    See Also
    --------
    bars : The same for chocolate bars.
    dataset : Good and bad samples together.

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

    Returns
    -------
    Samples
        Images with ground truth.

    Raises
    ------
    OptionError
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
        How many of each, at least 0. The good ones come first; nothing is shuffled. They are
        those of `potatoes` or `bars` with the same seed.
    kinds : str or sequence of str
        Kinds of defect, which take turns.
    sizes, size, seed, beam, detector
        As for `potatoes`.

    Returns
    -------
    Samples
        Images with ground truth.

    Raises
    ------
    OptionError
        For an unknown item, and as for `potatoes`.

    Examples
    --------
    >>> from imsim.anomaly import simulate
    >>> data = simulate.dataset("potato", good=3, bad=2, size=64)
    >>> data.labels.tolist()
    [0, 0, 0, 1, 1]
    >>> len(data[data.labels == 0])
    3
    """
    if not isinstance(item, str) or item not in ITEMS:
        raise OptionError(f"item={item!r}: choose one of {', '.join(ITEMS)}")
    good, bad = _whole("good", good, 0, MOST), _whole("bad", bad, 0, MOST)
    names = _kinds("kinds", kinds)
    return _simulate(ITEMS[item], good, bad, names, sizes, size, seed, beam, detector)


def _one_label(
    item: str,
    count: int,
    kinds: str | Sequence[str] | None,
    sizes: float | tuple[float, float],
    size: int,
    seed: int,
    beam: Beam | None,
    detector: Detector | None,
) -> Samples:
    count = _whole("count", count, 0, MOST)
    good, bad = (count, 0) if kinds is None else (0, count)
    names = KINDS if kinds is None else _kinds("defects", kinds)
    return _simulate(ITEMS[item], good, bad, names, sizes, size, seed, beam, detector)


def _simulate(
    item: Item,
    good: int,
    bad: int,
    kinds: Sequence[str],
    sizes: float | tuple[float, float],
    size: int,
    seed: int,
    beam: Beam | None,
    detector: Detector | None,
) -> Samples:
    beam = Beam() if beam is None else beam
    detector = Detector() if detector is None else detector
    if not isinstance(beam, Beam) or not isinstance(detector, Detector):
        raise OptionError(
            f"beam={beam!r}, detector={detector!r}: give simulate.Beam(...), simulate.Detector(...)"
        )
    size, seed = _whole("size", size, *SIZES), _whole("seed", seed)
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
        thickness = item.make(size, outside, inside)
        foreign = None
        if i >= good:
            result.sizes[i] = rest.uniform(low, high)
            foreign, mask = defects.place(result.kinds[i], result.sizes[i], thickness, rest)
            result.defect_masks[i] = mask
        exposure = physics.expose(thickness, item.material, foreign, beam, detector)
        if foreign is not None:
            result.cnr[i] = physics.contrast_to_noise(exposure, truth, detector)
        counts, twin = physics.count(exposure, truth, detector, noise, rest)
        result.counts[i] = counts
        result.images[i], result.clean[i] = correct([counts, twin], truth.flat, truth.dark)
        result.interiors[i] = thickness > 0
    return result


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _whole(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise OptionError(f"{name}={value!r}: give a whole number")
    if number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise OptionError(f"{name}={value!r}: give a whole number {limits}")
    return number


def _kinds(name: str, kinds: str | Sequence[str]) -> list[str]:
    names = [kinds] if isinstance(kinds, str) or not np.iterable(kinds) else list(kinds)
    if not names or any(kind not in KINDS for kind in names):
        raise OptionError(f"{name}={kinds!r}: name one or more of {', '.join(KINDS)}")
    return names


def _interval(sizes: float | tuple[float, float]) -> tuple[float, float]:
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
