"""The virtual peel: it removes the rim and the thickness of an item, and keeps its texture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly import stacks
from imsim.anomaly.stacks import Booleans, Floats
from imsim.anomaly.storage import Arrays, Stored, all_or_nothing
from imsim.anomaly.xray import signal
from imsim.anomaly.xray.frames import (
    KINDS,
    VARIED,
    UnusableImageWarning,
    border,
    eroded,
    find_doubts,
    find_items,
    find_kind,
    logarithm,
)
from imsim.errors import warn
from imsim.validation import check_choice, check_flag, check_integer, check_number
from imsim.workers import divided, in_parts

_CLIP = 3.0
"""Standard deviations of good texture at which the influence of a pixel on the trend ends."""
_LARGEST = 1e12
"""Largest absorbance: products of larger numbers overflow."""
_VARIED, _HEAVY = 1 / 3, 2.0
"""Limits of the deviation that a tenth of the pixels exceed: relative to the absorbance of the
item, and to the robust standard deviation (1.64 in noise). Beyond both, the image has a pattern
like a photograph."""
_PIECES = 4
"""Parts of a piece of work, which stay in the cache: 8 images of 128x128 pixels."""
_LEVELS = 12
"""Classes of absorbance for which the strength is learned."""
_POWER = 0.75
"""Of the strength, by which textures are divided: a body is as strong behind any absorbance. With 1
bodies in thick parts are missed, with 0.5 noise in thick parts counts as one."""


class Peeled(NamedTuple):
    """Peeled images."""

    images: Floats
    """Texture in standard deviations of good texture, (n, height, width); 0 outside the mask."""
    masks: Booleans
    """The interior, (n, height, width); empty for an image that cannot be used."""
    problems: dict[int, str]
    """Why images cannot be used, by their indices."""


class _Texture(NamedTuple):
    """Absorbance of some frames, separated into texture and trend."""

    texture: Floats
    trend: Floats
    masks: Booleans  # the interiors
    problems: dict[int, str]  # why frames cannot be used, by their index in the whole stack


@dataclass(eq=False, repr=False)
class VirtualPeel(Stored):
    r"""Peel items: keep the interior, take the smooth thickness trend out, equalise the noise.

    1. Absorbance A from the pixel values; the frame's border is the open beam. Pixels, rows and
       columns that stand alone, or up to five together, in the median or in the variation of the
       good images are faults of the detector; so is what is dark in nearly all of them, or never
       changes, up to an eighth of the frame wide. They take the mean of the next sound pixels in
       the four directions, by the inverse square of their distance. The
       gains of columns and rows drift after the flat field was taken; each image shows them in its
       open beam, and they are subtracted. A pixel of a single image that stands alone takes the
       middle of its neighbours.
    2. The item, as `segment` finds it, and its interior: `width` pixels away from its rim.
    3. The trend: the mean of A over the item, weighted by a Gaussian of `trend` pixels, plus the
       same mean of the residual. The residual is clipped at three standard deviations of good
       texture, so that a foreign body does not bend the trend of its surroundings.
    4. Division by :math:`\sigma(A)^{3/4}`, with the strength :math:`\sigma` of good texture behind
       that much absorbance: fewer photons and thicker material make it stronger.
    5. Division by the strength that good texture has at this distance from the rim of the interior:
       next to it, thickness changes most steeply, and the trend follows least.

    The scale :math:`\sigma` and the rim are learned once from all good images: metal in an image
    does not change its scale. The result is in standard deviations of good images.

    Parameters
    ----------
    width : int
        Width of the peel in pixels: at the rim, thickness changes too steeply to be a trend.
    trend : float
        Standard deviation of the Gaussian in pixels; bodies larger than about twice that count as
        thickness.
    kind : {None, "transmission", "counts", "absorbance"}
        What pixel values mean: transmission with the open beam at 1, counts proportional to it
        (raw or 8-bit images with a bright background), or absorbance (the item is brighter). None
        learns it from the good images as a whole, and refuses if they leave a doubt.
    gains : bool
        Whether to subtract the gains of columns and rows. A column counts if at least 4 of its
        pixels are in the open beam, and if it differs from its neighbour by less than 0.2 in
        absorbance; the same for rows. An item that reaches across the whole frame and absorbs less
        than 0.1 looks like gains.

    Attributes
    ----------
    kind_ : str
        What pixel values mean.
    levels_, sigmas_ : float32 array, shape (12,)
        Divisors at these levels of absorbance; linear between them, constant beyond.
    spread_ : float
        Standard deviation of the texture of good images, in units of absorbance.
    faults_ : bool array, shape (height, width)
        Faulty pixels of the detector.
    rim_ : float32 array, shape (16,)
        Divisors at distances of 1 to 16 pixels from the rim of the interior, and beyond.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import xray
    >>> y, x = np.mgrid[-1:1:64j, -1:1:64j]
    >>> noise = np.random.default_rng(0).normal(0, 0.01, (4, 64, 64))
    >>> images = np.exp(-np.sqrt(np.maximum(0.6 - x**2 - y**2, 0))) + noise
    >>> images[3, 32, 30:35] -= 0.2
    >>> peeled = xray.VirtualPeel().fit(images[:3]).transform(images)
    >>> bool(peeled.images[3].max() > 2 * peeled.images[2].max())
    True
    """

    data_range = 120.0
    """The metrics' data range for peeled images: with it, the constant in FSIM's similarity of
    gradients is a few times the gradient that good texture, of standard deviation 1, has."""

    _LEARNED = (
        ("sigmas", np.float32, "levels"),
        ("levels", np.float32, "levels"),
        ("spread", np.float64),
        ("rim", np.float32, signal.REACH),
        ("faults", np.bool_, None, None),
    )
    _TOLD = ("kind",)

    width: int = 3
    trend: float = 5.0
    kind: Literal["transmission", "counts", "absorbance"] | None = None
    gains: bool = True

    @all_or_nothing
    def fit(self, images: Any) -> Self:
        """Learn the scale from good images; those that cannot be used are left out.

        Raises
        ------
        OptionError
            If a parameter has no meaning, or the images leave a doubt about their kind.
        ImsimError
            If no image can be used, or the texture is constant.
        """
        self._check_parameters()
        frames = stacks.as_stack("images", images)
        self.kind_ = self.kind or find_kind(frames)
        self.faults_ = np.zeros(frames.shape[1:], np.bool_)
        sample = self._measured(frames[stacks.sample_of(len(frames), signal.MOST_IMAGES)])
        sound = np.isfinite(sample).all(axis=(1, 2))
        if sound.any():
            dark = () if self.kind_ != "absorbance" else (np.inf,)  # which has any unit
            self.faults_ = signal.faults_of(sample[sound], *dark)
        for rows, columns in signal.wide(self.faults_):
            warn(
                f"the detector is dead or stuck in rows {rows.start} to {rows.stop - 1}, columns "
                f"{columns.start} to {columns.stop - 1}: its pixels there take what those around "
                "show, and what lies behind them is not seen; have it mended",
                UserWarning,
            )
        self.spread_ = np.inf  # clips nothing in the first trend
        found = self._textures(frames)
        problems = _merged(p.problems for p in found)
        _warn_of(problems, len(frames))
        raw = np.concatenate([p.texture[p.masks] for p in found])
        if not raw.size:
            raise imsim.ImsimError(
                f"no image has an interior to learn from: {stacks.listed(problems)}; for images of "
                "other things than X-rayed items take no peel: preprocess=None of a detector, "
                "--preprocess none of the command"
            )
        self.spread_ = max(_deviation(raw), float(np.finfo(np.float32).tiny))
        found = self._textures(frames)
        texture = np.concatenate([p.texture[p.masks] for p in found])
        trend = np.concatenate([p.trend[p.masks] for p in found])
        self.levels_, self.sigmas_ = _strength(texture, trend)
        masks = [p.masks for p in found]
        equal = [self._equalised(p) for p in found]
        inside = np.concatenate([t[m] for t, m in zip(equal, masks, strict=True)])
        gain = np.float32(max(_deviation(inside), float(np.finfo(np.float32).tiny)))
        self.sigmas_ *= gain
        equal = [t / gain for t in equal]
        self.rim_ = signal.rim_strength(chain.from_iterable(equal), chain.from_iterable(masks))
        return self

    def transform(self, images: Any) -> Peeled:
        """Peel images, each by itself.

        Raises
        ------
        ImsimError
            If nothing was fitted.

        Warns
        -----
        UnusableImageWarning
            If images cannot be used; their masks are empty, and the result has the reasons.
        """
        self._check_fitted()
        frames = stacks.as_stack("images", images)
        result = np.zeros(frames.shape, dtype=np.float32)
        masks = np.zeros(frames.shape, dtype=np.bool_)

        def peel(part: slice) -> dict[int, str]:
            found = self._texture(frames, part)
            inside = masks[part] = found.masks
            result[part] = signal.divided_by_rim(self._equalised(found), inside, self.rim_)
            return found.problems

        problems = _merged(in_parts(peel, len(frames), stacks.batch_images(frames)))
        _warn_of(problems, len(frames))
        return Peeled(result, masks, problems)

    def learn_rim(self, peeled: Floats, masks: Booleans, some: NDArray[np.intp]) -> Floats:
        """Learn the rim anew from some of peeled images; return all of them peeled with it.

        So a threshold can be learned from images that did not take part.
        """
        textures = signal.divided_by_rim(peeled, masks, np.float32(1) / self.rim_)
        self.rim_ = signal.rim_strength(textures[some], masks[some])
        return signal.divided_by_rim(textures, masks, self.rim_)

    def doubts(self, images: Any) -> dict[int, str]:
        """Return the reasons to doubt that images are X-ray images of single items, by index."""
        self._check_fitted()
        frames = stacks.as_stack("images", images)

        def doubt(part: slice) -> dict[int, str]:
            absorbed = self._absorbance(frames[part])
            items, _ = find_items(absorbed)
            found = find_doubts(absorbed, items)
            texture, trend, masks, _ = self._texture(frames, part)
            for i, mask in enumerate(masks):
                if mask.any():  # does it vary like the brightness within a photograph?
                    most = float(np.quantile(np.abs(texture[i][mask]), 0.9))
                    spread = _HEAVY * _deviation(texture[i][mask])
                    if most > max(_VARIED * float(np.median(trend[i][mask])), spread):
                        found.setdefault(i, VARIED)
            return {part.start + i: reason for i, reason in found.items()}

        return _merged(in_parts(doubt, len(frames), stacks.batch_images(frames)))

    def _check_learned(self, arrays: Arrays) -> None:
        check_choice("kind", self.kind_, KINDS if self.kind is None else (self.kind,))
        positive = [self.spread_, *self.sigmas_, *self.rim_]
        unlikely = self.faults_.all() or (np.diff(self.levels_) < 0).any()
        if min(positive) <= 0 or unlikely:
            raise imsim.OptionError("the scale of the peel is none that good images have")

    def _equalised(self, found: _Texture) -> Floats:
        """Return texture divided by what good texture at its absorbance has; 0 outside."""
        result = np.zeros(found.texture.shape, dtype=np.float32)
        sigma = np.interp(found.trend[found.masks], self.levels_, self.sigmas_)
        result[found.masks] = found.texture[found.masks] / sigma
        return result

    def _textures(self, frames: NDArray[Any]) -> list[_Texture]:
        return in_parts(
            lambda part: self._texture(frames, part), len(frames), stacks.batch_images(frames)
        )

    def _texture(self, frames: NDArray[Any], part: slice) -> _Texture:
        absorbed = self._absorbance(frames[part])
        items, problems = find_items(absorbed)
        masks = eroded(items, self.width)
        for i in np.flatnonzero(~masks.any(axis=(1, 2))).tolist():
            problems.setdefault(
                i, f"shows an item of which a peel of {self.width} pixels leaves nothing"
            )
            dark = absorbed[i] > signal.DARK
            if dark.all(axis=0).any() or dark.all(axis=1).any():
                problems[i] = (
                    "has a row or column that is dark from end to end: is the detector at fault? "
                    "good images did not have it"
                )
            with np.errstate(over="ignore"):  # numbers beyond float32 count as infinite
                values = frames[part.start + i].astype(np.float32)
            if np.isfinite(values).all() and not np.isfinite(absorbed[i]).all():
                problems[i] = (
                    f"holds absorbances beyond {_LARGEST:g}"
                    if self.kind_ == "absorbance"
                    else "is black along its border, where the open beam should be"
                )
        texture, trend = np.zeros_like(absorbed), np.zeros_like(absorbed)
        for i, item in enumerate(items):
            box = stacks.bounding_box(item)
            texture[i][box], trend[i][box] = self._flattened(absorbed[i][box], item[box])
        numbered = {part.start + i: reason for i, reason in problems.items()}
        return _Texture(texture, trend, masks, numbered)

    def _flattened(self, absorbed: Floats, item: Booleans) -> tuple[Floats, Floats]:
        """Return the texture of one item and its trend; absorbance outside the item is not read."""
        seen, inside = np.where(item, absorbed, np.float32(0)), item.astype(np.float32)
        weight = np.maximum(signal.smoothed(inside, self.trend), np.float32(1e-6))
        trend: Any = signal.smoothed(seen, self.trend) / weight
        most = _CLIP * self.spread_
        trend += signal.smoothed(np.clip(seen - trend, -most, most) * inside, self.trend) / weight
        return (seen - trend) * inside, trend

    def _absorbance(self, frames: NDArray[Any]) -> Floats:
        """Return absorbance relative to the frame's border; NaN where that has no meaning."""
        result = np.empty(frames.shape, np.float32)
        for part in divided(len(frames), max(1, stacks.batch_images(frames) // _PIECES)):
            measured = self._measured(frames[part])
            if self.gains:
                measured = signal.without_gains(measured)
            result[part] = signal.without_lone(measured)
        return result

    def _measured(self, frames: NDArray[Any]) -> Floats:
        """Return absorbance with gains and lone outliers; faults of the detector are repaired."""
        if self.faults_.any():  # faulty pixels have their places
            stacks.check_size(frames, self.faults_.shape, "fit a peel to images of this size")
        with np.errstate(over="ignore"):  # numbers beyond float32 have no absorbance
            values = signal.repaired(frames.astype(np.float32), self.faults_)
        values[np.isinf(values)] = np.nan  # which no neighbour repairs
        around: Any = np.median(border(values), axis=1)[:, None, None]
        if self.kind_ == "absorbance":
            with np.errstate(invalid="ignore", over="ignore"):
                result: Floats = values - around
            return np.where(np.abs(result) < _LARGEST, result, np.float32(np.nan))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            share: Any = values / np.where(around > 0, around, np.float32(np.nan))
        return logarithm(share)

    def _check_parameters(self) -> None:
        check_integer("width", self.width, 0, 1000)
        check_number("trend", self.trend, 0.5, 1000)
        check_choice("kind", self.kind, (None, *KINDS))
        check_flag("gains", self.gains)


def _warn_of(problems: dict[int, str], total: int) -> None:
    """Warn of images that cannot be used."""
    if problems:
        message = f"{len(problems)} of {total} images cannot be used, {stacks.listed(problems)}"
        warn(message, UnusableImageWarning)


def _merged(problems: Iterable[dict[int, str]]) -> dict[int, str]:
    return {i: reason for part in problems for i, reason in part.items()}


def _deviation(values: NDArray[Any]) -> float:
    """Return a robust standard deviation about zero."""
    return float(stacks.ROBUST * np.median(np.abs(values))) if values.size else 0.0


def _strength(texture: Floats, trend: Floats) -> tuple[Floats, Floats]:
    """Return levels of absorbance, and the divisor of the texture at each of them."""
    edges = np.quantile(trend, np.linspace(0, 1, _LEVELS + 1))
    which = np.clip(np.searchsorted(edges, trend, side="right") - 1, 0, _LEVELS - 1)
    classes = [which == k for k in range(_LEVELS) if (which == k).any()]
    sigmas = np.array([_deviation(texture[c]) for c in classes])
    if not sigmas.max() > 0:
        raise imsim.ImsimError(
            "the good images have no texture and no noise at all, so that there is no scale: "
            "pass images as they were taken"
        )
    # A class without noise, such as an opaque one, must not amplify small deviations.
    sigmas = np.maximum(sigmas, 0.1 * np.median(sigmas[sigmas > 0]))
    levels = np.array([np.median(trend[c]) for c in classes], dtype=np.float32)
    return levels, (sigmas**_POWER).astype(np.float32)
