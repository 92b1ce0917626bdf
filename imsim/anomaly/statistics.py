"""Statistics of good images in the language of FSIM: distributions of log-Gabor energies."""

from __future__ import annotations

import math
from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly import descriptions, gaussians, stacks
from imsim.anomaly.descriptions import CHANNELS, FILTERS, WINDOW
from imsim.anomaly.pca import PCAAutoencoder
from imsim.anomaly.scoring import EQUAL
from imsim.anomaly.stacks import Booleans, Doubles, Floats, spread
from imsim.anomaly.storage import Arrays, State, Stored, all_or_nothing
from imsim.validation import check_integer
from imsim.workers import divided

__all__ = ["GoodStatistics"]

METRIC = "fsim"
"""The metric in whose language the statistics are."""
COARSE = 4
"""Cells along a side of the grid that describes the whole image."""
FEW = 64
"""Places that the description of the whole image can hold one by one. Then none is judged alone:
in small images with synthetic defects that only added to the noise of good ones."""
HIGHEST = 0.005
"""Share of the places, those most unlike good ones, whose mean is the score of places."""
HIGHEST_OF_ALL, HIGHEST_WINDOWS = 0.1, 0.01
"""The same of places that are compared with the nearest ones of good images, which see what extends
far, and of windows, which see what is small: these overlap, so that it lies in two or more."""
TEXTURE = 4 / 3
"""Longest tails of the energies of a texture, over those of a normal distribution. Simulated ones,
grass and gravel have 1.02 to 1.26; cells, boards, cookies, bricks and screws 1.47 and more."""
EXAMPLES = 1000
"""Places of good images that are remembered where places mean nothing."""
MEASURED = 32
"""Most images whose distances tell which are usual."""
AT_ONCE = 64
"""Images whose places are in memory at a time."""
SAMPLE = 256
"""Most images from which the smallest energies that count, the use of places and the shape of the
distribution are learned."""
_Taught = tuple[list[Floats], list[gaussians.Moments]]
"""What some images teach: their descriptions, shapes (n, features), and moments of their places."""


class GoodStatistics(Stored):
    r"""Tell how unlike good images an image is, by its log-Gabor energies and its brightness.

    The energies are the amplitudes of FSIM's log-Gabor filters (four scales, four orientations) and
    of a finer scale, averaged over the cells of a grid of at most 32 x 32 places, like the
    brightness. Distances of three kinds are learned from good images, all of Mahalanobis,
    :math:`\sqrt{(x - \mu)^T \Sigma^{-1} (x - \mu)}`:

    - of the *whole* image: the logarithmic energies and the brightness of 4 x 4 cells, and their
      quantiles over the places. The covariance is shrunk towards the identity, as Ledoit and Wolf
      do, by 30 %;
    - of the *places*, twice: logarithmic energies and brightness of each place have a mean and a
      covariance of their own, and so have the energies themselves. The logarithms tell where
      something is missing, the energies where something strong is added. Distances count in units
      of what is usual where good images show as much energy, and the mean of the largest 0.5 %.

    Images of at most 64 places are described by the cells of all places, and have the first
    distance only.

    Where good images are more likely, held out, if all places share one Gaussian, places mean
    nothing. Then there are two distances:

    - of a place from the *nearest* of 1000 places of good images, in roots and logarithms of the
      energies that are white over all places; the mean of the largest 10 % counts;
    - of *windows* of 3 x 3 places, which share one Gaussian of energies and brightness: what a
      place shows has to go with what its neighbours show. The mean of the largest 1 %
      counts, in the same units.

    Of a *texture*, a whole image shows nearly the same as any other. So windows join whole images
    and places, in place of the nearest. The energies of its places have hardly longer tails than
    one Gaussian (Mardia's kurtosis is below 4/3 of a normal distribution's). It takes more good
    images than features, 21, and images of more than 64 places.

    Where places mean nothing, the outermost ones are left out, since the filters see there how
    opposite borders of the frame do not fit together, which differs from image to image.

    `reconstruct` is that of `PCAAutoencoder`: the maps of a metric show where an image differs.

    Parameters
    ----------
    components : int
        Components of the reconstruction.
    places : bool, optional
        Whether places mean something; None learns it from the good images.

    Attributes
    ----------
    places_ : bool
        Whether places mean something.
    nearest_ : bool
        Whether places are compared with the nearest ones: they mean nothing, nor are they texture.
    linear_ : PCAAutoencoder
        What reconstructs.

    References
    ----------
    Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices,
    Journal of Multivariate Analysis 88(2), 365-411, doi:10.1016/S0047-259X(03)00096-4.
    Chen, Wiesel, Eldar and Hero 2010, Shrinkage algorithms for MMSE covariance estimation, IEEE
    Transactions on Signal Processing 58(10), 5016-5029, doi:10.1109/TSP.2010.2053029.
    Mardia 1970, Measures of multivariate skewness and kurtosis with applications, Biometrika 57(3),
    519-530, doi:10.1093/biomet/57.3.519.
    Roth et al. 2022, Towards total recall in industrial anomaly detection, CVPR, 14318-14328,
    doi:10.1109/CVPR52688.2022.01392: the nearest of remembered places.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import GoodStatistics
    >>> y, x = np.mgrid[:64, :64]
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (22, 64, 64))
    >>> images = np.sin(x / 3) + noise
    >>> images[21, 12:16, 12:16] += 1
    >>> model = GoodStatistics(components=2).fit(images[:20])
    >>> good, bad = model.distances(images[20:])
    >>> bool((bad > 1.5 * good).any())
    True
    """

    linear_: PCAAutoencoder
    wholes_: Floats
    examples_: Floats
    count_: int
    _LEARNED = (
        ("shape", np.int64, 2),
        ("places", np.bool_),
        *((name, np.float64) for name in ("level", "spread", "floor")),
        ("count", np.int64),
        ("wholes", np.float32, None, None),
        ("examples", np.float32, None, 2 * CHANNELS),
    )
    _PARTS = (("linear", PCAAutoencoder),)

    def __init__(self, components: int = 60, places: bool | None = None) -> None:
        self.components = components
        self.places = places

    @all_or_nothing
    def fit(self, images: Any, masks: Any = None) -> Self:
        """Learn from good images, at least two of them; outside the masks they have no influence.

        `OptionError` refuses parameters that are none of those allowed.
        """
        shown = self._choose(*_to_learn_from(*stacks.check_images(images, masks)), slice(None))
        self._forget()
        self._learn([self._taught(shown, [None] * len(self._local))], shown)
        return self

    @all_or_nothing
    def partial_fit(self, images: Any, masks: Any = None) -> Self:
        """Learn from further good images; scales and the use of places stay.

        So do the features of the places that are remembered, where there are any, and the new
        images get their share of these.
        """
        if not hasattr(self, "shape_"):
            return self.fit(images, masks)
        pixels, used = _to_learn_from(*self._check_size(images, masks))
        self.linear_ = copy(self.linear_).partial_fit(pixels, used)
        shown = self._within(self._energies(pixels, used))
        self._learn([self._taught(shown, [moments.shift for moments in self.moments_])], shown)
        return self

    def cross_fit(
        self,
        images: Any,
        masks: Any,
        dealt: list[NDArray[np.intp]],
        learned: NDArray[np.intp],
    ) -> Doubles:
        """Fit; return `distances` of each fold of images, by what the images of the others teach.

        `dealt` has the indices of the images in each fold, and `learned` those of the images to
        learn from. Scales and the use of places are the same for all folds, and what
        the images show is computed once. Images in no fold have NaN.
        """
        pixels, used = stacks.check_images(images, masks)
        shown = self._choose(pixels, used, learned)
        teaching = [np.intersect1d(fold, learned) for fold in dealt]
        teaching.append(np.setdiff1d(learned, np.concatenate(dealt)))
        parts: list[_Taught] = []
        shifts: list[Doubles | None] = [None] * len(self._local)
        for part in teaching:
            parts.append(self._taught(shown[part], shifts))
            shifts = [moments.shift for moments in parts[-1][1]]
        judge, found = copy(self), []
        for k, fold in enumerate(dealt):
            judge._forget()
            others = np.concatenate([part for j, part in enumerate(teaching) if j != k])
            judge._learn([part for j, part in enumerate(parts) if j != k], shown[np.sort(others)])
            given = stacks.masks_at(used, fold)
            found.append(judge._distances_of(shown[fold], given))
        self._forget()
        self._learn(parts, shown[learned])
        result = np.full((len(pixels), self.columns_), np.nan)
        result[np.concatenate(dealt)] = np.concatenate(found)
        return result

    def distances(self, images: Any, masks: Any = None) -> Doubles:
        """Return the distances of each image, (n, `columns_`); larger = more unlike good.

        They are NaN for an image of which the mask leaves nothing.
        """
        pixels, used = self._check_size(images, masks)
        found = []
        for part in divided(len(pixels), 4 * stacks.batch_images(pixels)):
            given = stacks.masks_at(used, part)
            shown = self._within(self._energies(pixels[part], given))
            found.append(self._distances_of(shown, given))
        return np.concatenate(found)

    @property
    def columns_(self) -> int:
        """The number of distances."""
        return 2 if self.nearest_ else 1 + len(self._local)

    def reconstruct(self, images: Any, masks: Any = None) -> Floats:
        """Return the reconstruction of each image, see `PCAAutoencoder`."""
        self._check_fitted()
        return self.linear_.reconstruct(images, masks)

    def get_state(self) -> State:
        """Return what ``from_state`` needs: with the statistics of the descriptions there are."""
        told, arrays = super().get_state()
        for name, moments in zip(self._local, self.moments_, strict=True):
            arrays |= {f"{name}/{part}": np.asarray(a) for part, a in vars(moments).items()}
        for name, usual in zip(self._judged, self.usual_, strict=True):
            arrays[f"usual/{name}"] = np.array(usual)
        return told, arrays

    def _check_learned(self, arrays: Arrays) -> None:
        if self.linear_.shape_ != self.shape_:
            raise imsim.OptionError(f"a shape of {self.shape_} does not go with {self!r}")
        self.nearest_ = bool(len(self.examples_))
        self.moments_ = [
            gaussians.Moments.taken(arrays.under(f"{name}/"), *sizes)
            for name, sizes in self._local.items()
        ]
        self.usual_ = [
            gaussians.Usual(*arrays.take(f"usual/{name}", np.float64, 2, None))
            for name in self._judged
        ]
        shape = (
            0 if self.nearest_ else self.count_,
            descriptions.number_of_features(*self._coarse),
        )
        scales = [self.spread_, self.floor_, self.count_]
        for usual in self.usual_:
            scales += [len(usual.squares), *usual.squares]
        is_odd = self.nearest_ and self.places_
        if self.wholes_.shape != shape or is_odd or not min(scales) > 0:
            raise imsim.OptionError("its scale is none that good images have")
        self._finish()

    def _forget(self) -> None:
        """Drop what was learned from images; scales and use of places stay."""
        self.moments_ = [gaussians.Moments() for _ in self._local]
        self.wholes_ = np.empty((0, descriptions.number_of_features(*self._coarse)), np.float32)
        self.examples_ = np.empty((0, 2 * CHANNELS), np.float32)
        self.count_ = 0

    def _choose(self, pixels: Floats, used: Booleans | None, learned: Any) -> Floats:
        """Learn scales and the use of places from some images; return what all show."""
        self._check_parameters()
        these = pixels[learned]
        masks = stacks.masks_at(used, learned)
        self.linear_ = PCAAutoencoder(self.components).fit(these, masks)
        self.shape_ = pixels.shape[1:]
        self.level_, self.spread_ = descriptions.level_and_spread(
            these if masks is None else these[masks]
        )
        shown = self._energies(pixels, used)
        some = shown[learned]
        some = some[stacks.sample_of(len(some), SAMPLE)]
        # Energies of constant images are rounding errors: 1e-6 of the spread is above these.
        self.floor_ = max(gaussians.FLOOR * float(np.median(some[:, :FILTERS])), 1e-6)
        self.places_ = descriptions.has_places(some) if self.places is None else bool(self.places)
        self.nearest_ = not self.places_
        if self.nearest_ and len(these) > CHANNELS and math.prod(self._grid) > FEW:
            self.nearest_ = descriptions.tails(self._within(some)) > TEXTURE
        return self._within(shown)

    def _taught(self, shown: Floats, shifts: list[Doubles | None]) -> _Taught:
        """Return what images teach, in moments of these shifts, or of their own."""
        wholes, moments = [], [gaussians.Moments(shift) for shift in shifts]
        for part in divided(len(shown), AT_ONCE):
            if not self.nearest_:
                wholes.append(self._of_wholes(shown[part]))
            numbers = [number for number, _ in self._local.values()]
            for sums, n, local in zip(moments, numbers, self._of_local(shown[part]), strict=True):
                sums.add(local.reshape(-1, n, local.shape[-1]))
        return wholes, moments

    def _learn(self, parts: list[_Taught], shown: Floats) -> None:
        """Learn what images teach, beside what was learned before; `shown` is what they show."""
        is_first = not self.count_
        self.count_ += len(shown)
        taught = [[one for one in sums if one.count] for _, sums in parts]
        for i, sums in enumerate(zip(*filter(None, taught), strict=True)):
            if is_first:
                self.moments_[i] = gaussians.Moments.total(sums)
            # By the first two, the places that are remembered are white.
            elif not self.nearest_ or i >= 2:
                self.moments_[i] = gaussians.Moments.total((self.moments_[i], *sums))
        self.wholes_ = np.concatenate([self.wholes_, *(one for part, _ in parts for one in part)])
        self._finish()
        if self.nearest_:
            every = self._of_local(shown[stacks.sample_of(len(shown), SAMPLE)])[:2]
            flat = [one.reshape(-1, one.shape[-1]) for one in every]
            new = self._white([one[spread(len(one), EXAMPLES)] for one in flat])
            if not is_first and len(self.examples_) + len(new) > EXAMPLES:
                new = new[spread(len(new), math.ceil(EXAMPLES * len(shown) / self.count_))]
                kept = spread(len(self.examples_), EXAMPLES - len(new))
                self.examples_ = self.examples_[kept]
            self.examples_ = np.concatenate([self.examples_, new])
        if is_first:
            some = shown[stacks.sample_of(len(shown), MEASURED)]
            measured = zip(*(self._measured(one[None]) for one in some), strict=True)
            self.usual_ = [gaussians.Usual.of(*np.concatenate(found, axis=1)) for found in measured]

    def _finish(self) -> None:
        """Make distributions of what was learned."""
        self.gaussians_ = [moments.gaussian() for moments in self.moments_]
        if not self.nearest_:
            self.whole_ = gaussians.Whole.of(self.wholes_.astype(np.float64))

    def _check_size(self, images: Any, masks: Any) -> tuple[Floats, Booleans | None]:
        self._check_fitted()
        pixels, used = stacks.check_images(images, masks)
        stacks.check_size(pixels, self.shape_, "resize them")
        return pixels, used

    def _distances_of(self, shown: Floats, used: Booleans | None) -> Doubles:
        """Return the distances of images from what they show; NaN where a mask leaves nothing."""
        result = np.full((len(shown), self.columns_), np.nan)
        for i, one in enumerate(shown):
            if used is None or used[i].any():
                result[i] = self._distances(one[None])
        result[result < EQUAL] = 0
        return result

    def _check_parameters(self) -> None:
        check_integer("components", self.components, 1)
        if self.places is not None and not isinstance(self.places, bool | np.bool_):
            raise imsim.OptionError(f"places={self.places!r}; expected True, False or None")

    @property
    def _grid(self) -> tuple[int, int]:
        """Rows and columns of the places that are looked at."""
        rows, columns = descriptions.grid_of(self.shape_)
        return (rows, columns) if self.places_ else descriptions.within(rows, columns)

    @property
    def _local(self) -> dict[str, tuple[int, int]]:
        """Numbers of distributions and of features of each description of places, by its name."""
        rows, columns = self._grid
        windows = {"windows": (1, CHANNELS * min(WINDOW, rows) * min(WINDOW, columns))}
        if self.nearest_:
            return {"logs": (1, CHANNELS), "roots": (1, CHANNELS)} | windows
        if self.places_ and rows * columns <= FEW:
            return {}
        number = rows * columns
        own = {"logs": (number, CHANNELS), "plain": (number, FILTERS)}
        return own if self.places_ else own | windows

    @property
    def _judged(self) -> list[str]:
        """Names of the descriptions whose distances from their Gaussians count."""
        return ["windows"] if self.nearest_ else list(self._local)

    @property
    def _coarse(self) -> tuple[int, int]:
        """Rows and columns of the cells that describe the whole image."""
        rows, columns = self._grid
        return (min(rows, COARSE), min(columns, COARSE)) if self._local else (rows, columns)

    def _within(self, shown: Floats) -> Floats:
        """Return what images show at the places that are looked at."""
        top, left = ((a - b) // 2 for a, b in zip(shown.shape[2:], self._grid, strict=True))
        rows, columns = self._grid
        return np.ascontiguousarray(shown[:, :, top : top + rows, left : left + columns])

    def _energies(self, pixels: Floats, used: Booleans | None) -> Floats:
        return descriptions.energies_of(pixels, used, self.level_, self.spread_)

    def _distances(self, shown: Floats) -> Doubles:
        """Return the distances of one image, from what it shows (1, channels, rows, columns)."""
        if not self.nearest_:
            whole = self._of_wholes(shown)[0].astype(np.float64)
            found = [self.whole_.distance(whole)]
        else:
            white = self._white([one[0] for one in self._of_local(shown)[:2]])
            sides = [np.split(one, 2, axis=1) for one in (white, self.examples_)]
            near = [gaussians.nearest_distances(a, b) for a, b in zip(*sides, strict=True)]
            found = [sum(gaussians.mean_of_highest(one, HIGHEST_OF_ALL) for one in near)]
        every = zip(self._judged, self.usual_, self._measured(shown), strict=True)
        for name, usual, measured in every:
            share = HIGHEST_WINDOWS if name == "windows" else HIGHEST
            found.append(gaussians.mean_of_highest(usual.relative(*measured), share))
        return np.array(found)

    def _measured(self, shown: Floats) -> list[Doubles]:
        """Return energies and squared distances of the places or windows of one image, (2, n)."""
        local = dict(zip(self._local, self._of_local(shown), strict=True))
        known = dict(zip(self._local, self.gaussians_, strict=True))
        found = []
        for name in self._judged:
            if name == "windows":
                places = local[name].shape[2] // CHANNELS  # of a window
                energies = local[name][:, :, : FILTERS * places].sum(axis=2)
            else:
                energies = descriptions.by_place(shown)[..., :FILTERS].sum(axis=2) / self.floor_
            found.append(np.stack([energies[0], known[name].squared_distances(local[name][0])]))
        return found

    def _of_wholes(self, shown: Floats) -> Floats:
        """Return the descriptions of whole images, rounded alike for those learned and judged."""
        return descriptions.of_wholes(shown, self._coarse, self.floor_).astype(np.float32)

    def _of_local(self, shown: Floats) -> list[Doubles]:
        """Return the descriptions of places, in the order of `_local`."""
        if not self._local:
            return []
        found = descriptions.of_places(shown, self.floor_, alike=self.nearest_)
        return found if self.places_ else [*found, descriptions.of_windows(shown, self.floor_)]

    def _white(self, features: list[Doubles]) -> Floats:
        """Return logarithms and roots of places as what is remembered of places."""
        both = [g.white(one) for g, one in zip(self.gaussians_[:2], features, strict=True)]
        return np.concatenate(both, axis=1).astype(np.float32)


def _to_learn_from(pixels: Floats, used: Booleans | None) -> tuple[Floats, Booleans | None]:
    """Return images and masks without those of an empty mask, which would count as constant."""
    pixels, used = stacks.with_pixels(pixels, used)
    if not len(pixels):
        raise imsim.MaskError("the masks leave no image to learn from: pass larger masks")
    return pixels, used
