"""The facts about each metric, and the decorator that records them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from imsim.capabilities import ON_HOST, PORTABLE, Capabilities

F = TypeVar("F", bound=Callable[..., Any])
KernelLoader = Callable[[], Callable[..., Any]]
PiecesMaker = Callable[..., Any]
Volumes = Literal["pixels", "windows", ""]
SHARED = frozenset(
    ("a", "b", "mask", "weights", "data_range", "channel_axis", "ndim", "dims", "memory")
)
"""The parameters of every metric."""


@dataclass(frozen=True, slots=True)
class Crop:
    """How to crop images around a mask without a change of the score, by default options.

    Attributes
    ----------
    halo : int
        Pixels that the crop has beyond the outermost ones of the mask, or up to the border of the
        frame where that is nearer. What lies beyond the frame then lies beyond the crop.
    step : int
        The crop begins at a multiple of it, in pixels, along each axis.
    widens : bool
        True if rounding in float32 depends on the place in the frame. Crops of float32 are then
        scored in float64.
    gathers : bool
        True if the score depends on the pixels inside the mask alone, and not on their places.
        Those of scattered regions are then scored side by side.
    """

    halo: int
    step: int = 1
    widens: bool = False
    gathers: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """Facts about one metric.

    Attributes
    ----------
    name : str
        The registry key, which is also the name of the function and of its file.
    title : str
        The name in words.
    function : callable
        ``function(a, b, *, mask, data_range, channel_axis, ...)`` returns the score.
    map_function : callable or None
        The same arguments; returns the score per pixel, where the metric has such a map.
    higher_is_better : bool
        True when a larger score means more alike.
    best : float
        The score of an image with itself; NaN where that depends on the image.
    bounds : tuple of float
        The closed interval of possible scores for finite input.
    symmetric : bool
        True when exchanging the two images leaves the score unchanged.
    needs_data_range : bool
        True when the score depends on `data_range`.
    unit : str
        The unit of the score; empty for a pure number, "I" for the unit of the pixel values.
    references : tuple of str
        Where the metric was defined, with DOI where one exists.
    experimental : bool
        True when the source of the formula could not be verified; the score may change.
    capabilities : mapping
        From the library of the arrays and the kind of their device, such as ``("torch", "gpu")``,
        to what works there, of "value", "gradient", "jit" and "vmap".
    map_higher_is_better : bool
        The direction of the map's values; that of the score, except for `gmsd`, whose map holds
        the similarities that the score is the deviation of.
    map_bounds : tuple of float
        The closed interval of the map's values for finite input.
    map_title : str
        What the map holds, in words.
    map_needs_channels : bool
        True when only images with a channel axis have a map.
    sees : str
        What the metric sees and what it misses, in one or two sentences for newcomers.
    needs_contrast : bool
        True when the score says nothing about a constant image.
    of_differences : bool
        True when the score depends on the difference of the images only.
    least_side, map_least_side : int
        Pixels that each side of an image needs, by default options.
    least_longer_side : int
        Pixels that the longer side needs.
    kernel, map_kernel : callable or None
        Returns the compiled implementation for NumPy arrays, which it imports.
    gradient : callable or None
        Returns the compiled gradient of the score for NumPy arrays, which it imports; see
        ``imsim.kernels.gradients``.
    scored_gradient : callable or None
        Returns a function that computes score and gradient at once, where these share most of
        their work; see ``imsim.kernels.gradients``.
    volumes : {"pixels", "windows", ""}
        How volumes are scored: by sums over pixels, which take a volume for the image of its
        planes, or by windows with a depth. Empty: the metric is not defined for volumes.
    experimental_volumes : bool
        True when no author defines the metric for volumes; the score may change.
    volume_kernel, volume_map_kernel : callable or None
        As ``kernel`` and ``map_kernel``, for volumes; those of sums over pixels are the same.
    takes_spacing : bool
        True when the metric has an option `spacing`, the distance of pixels along each axis.
    crop : Crop or None
        How to crop images around a mask; None if the score of a mask depends on the whole frame.
    region_kernel : callable or None
        Returns the compiled scores of many small regions, by default options, for images without
        batch axes; see ``imsim.kernels.regions``.
    no_weights : str
        Why the metric takes no weights of pixels; empty: it takes them.
    pieces : callable or None
        ``pieces(whole, **options)`` returns how images in blocks are scored: what a block reads,
        its part of the score, and how parts are merged; see ``imsim.scenes.pieces``.
    no_pieces : str
        Why there are none.
    """

    name: str
    title: str
    function: Callable[..., Any]
    map_function: Callable[..., Any] | None
    higher_is_better: bool
    best: float
    bounds: tuple[float, float]
    symmetric: bool
    needs_data_range: bool
    unit: str
    references: tuple[str, ...]
    experimental: bool
    capabilities: Capabilities
    map_higher_is_better: bool
    map_bounds: tuple[float, float]
    map_title: str
    map_needs_channels: bool
    sees: str
    needs_contrast: bool
    of_differences: bool
    least_side: int
    map_least_side: int
    least_longer_side: int
    kernel: KernelLoader | None
    map_kernel: KernelLoader | None
    gradient: KernelLoader | None
    scored_gradient: KernelLoader | None
    volumes: Volumes
    experimental_volumes: bool
    volume_kernel: KernelLoader | None
    volume_map_kernel: KernelLoader | None
    takes_spacing: bool
    crop: Crop | None
    region_kernel: KernelLoader | None
    no_weights: str
    pieces: PiecesMaker | None
    no_pieces: str

    def __hash__(self) -> int:
        return hash(self.name)  # not all fields have a hash

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle and copy a record by its name, which stands for the same facts everywhere."""
        if METRICS.get(self.name) is self:
            return recorded, (self.name,)
        return object.__reduce_ex__(self, protocol)

    @property
    def numpy_only(self) -> bool:
        """True when no formula takes the arrays of other libraries.

        Eager tensors of PyTorch and JAX on the CPU are read like NumPy arrays all the same.
        """
        return self.capabilities == ON_HOST

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options that the metric has beside those that every metric has.

        Examples
        --------
        >>> import imsim
        >>> imsim.METRICS["uiq"].options
        ('block_size',)
        """
        return tuple(n for n in inspect.signature(self.function).parameters if n not in SHARED)

    def dissimilarity(self, score: Any) -> Any:
        """Turn a score into a number that is larger the less alike the images are.

        Distances stay as they are, decibels change their sign, and other similarities s
        become 1 - s.

        Parameters
        ----------
        score : float or array
            What `function` returned; for the values of a map see `map_dissimilarity`.

        Returns
        -------
        float or array
            The same shape as `score`.

        Examples
        --------
        >>> import imsim
        >>> imsim.METRICS["ssim"].dissimilarity(0.75)
        0.25
        """
        if not self.higher_is_better:
            return score
        return -score if math.isinf(self.best) else 1 - score

    def map_dissimilarity(self, values: Any) -> Any:
        """Turn the values of a map into numbers that are larger the less alike the images are.

        Distances stay as they are, and similarities s become 1 - s.

        Parameters
        ----------
        values : float or array
            What `map_function` returned.

        Returns
        -------
        float or array
            The same shape as `values`.

        Examples
        --------
        >>> import imsim
        >>> imsim.METRICS["gmsd"].map_dissimilarity(0.75)
        0.25
        """
        return 1 - values if self.map_higher_is_better else values

    def describe(self) -> dict[str, str]:
        """Describe the metric in words, as `imsim list` and the documentation show it.

        Returns
        -------
        dict of str
            Its name, title, better direction, range, whether it needs the data range, and unit.

        Examples
        --------
        >>> import imsim
        >>> imsim.METRICS["psnr"].describe()["unit"]
        'dB'
        """
        return {
            "name": self.name,
            "title": self.title + (" (experimental)" if self.experimental else ""),
            "better": "higher" if self.higher_is_better else "lower",
            "range": self.interval(),
            "needs data range": "yes" if self.needs_data_range else "no",
            "unit": self.unit or "-",
        }

    def interval(self) -> str:
        """Write the bounds; an infinite bound that a pair of images can reach is closed."""
        low, high = self.bounds
        left = "(" if math.isinf(low) else "["
        right = ")" if math.isinf(high) and self.best != high else "]"
        names = {math.pi: "pi", math.pi / 2: "pi/2"}
        return f"{left}{names.get(low, f'{low:.4g}')}, {names.get(high, f'{high:.4g}')}{right}"


_metrics: dict[str, Metric] = {}

METRICS: Mapping[str, Metric] = MappingProxyType(_metrics)
"""Read-only mapping from the name of a metric to its `Metric` record."""


def recorded(name: str) -> Metric:
    """Return the record of a metric."""
    return METRICS[name]


def metric(
    *,
    title: str,
    higher_is_better: bool,
    best: float,
    bounds: tuple[float, float],
    symmetric: bool = True,
    needs_data_range: bool = False,
    unit: str = "",
    references: tuple[str, ...],
    map_function: Callable[..., Any] | None = None,
    experimental: bool = False,
    capabilities: Capabilities = PORTABLE,
    map_higher_is_better: bool | None = None,
    map_bounds: tuple[float, float] | None = None,
    map_title: str | None = None,
    map_needs_channels: bool = False,
    sees: str = "",
    needs_contrast: bool = False,
    of_differences: bool = False,
    least_side: int = 1,
    map_least_side: int | None = None,
    least_longer_side: int = 1,
    kernel: KernelLoader | None = None,
    map_kernel: KernelLoader | None = None,
    gradient: KernelLoader | None = None,
    scored_gradient: KernelLoader | None = None,
    volumes: Volumes = "pixels",
    experimental_volumes: bool = False,
    volume_kernel: KernelLoader | None = None,
    volume_map_kernel: KernelLoader | None = None,
    takes_spacing: bool = False,
    crop: Crop | None = None,
    region_kernel: KernelLoader | None = None,
    no_weights: str = "",
    pieces: PiecesMaker | None = None,
    no_pieces: str = "",
) -> Callable[[F], F]:
    """Record the facts about a metric and return its function unchanged.

    The facts about the map are those of the score, unless given. See `Metric`.
    """

    def record(function: F) -> F:
        name = function.__name__
        _metrics[name] = Metric(
            name=name,
            title=title,
            function=function,
            map_function=map_function,
            higher_is_better=higher_is_better,
            best=best,
            bounds=bounds,
            symmetric=symmetric,
            needs_data_range=needs_data_range,
            unit=unit,
            references=references,
            experimental=experimental,
            capabilities=capabilities,
            map_higher_is_better=(
                higher_is_better if map_higher_is_better is None else map_higher_is_better
            ),
            map_bounds=bounds if map_bounds is None else map_bounds,
            map_title=title if map_title is None else map_title,
            map_needs_channels=map_needs_channels,
            sees=sees,
            needs_contrast=needs_contrast,
            of_differences=of_differences,
            least_side=least_side,
            map_least_side=least_side if map_least_side is None else map_least_side,
            least_longer_side=least_longer_side,
            kernel=kernel,
            map_kernel=map_kernel,
            gradient=gradient,
            scored_gradient=scored_gradient,
            volumes=volumes,
            experimental_volumes=experimental_volumes,
            volume_kernel=kernel if volumes == "pixels" else volume_kernel,
            volume_map_kernel=map_kernel if volumes == "pixels" else volume_map_kernel,
            takes_spacing=takes_spacing,
            crop=crop,
            region_kernel=region_kernel,
            no_weights=no_weights,
            pieces=pieces,
            no_pieces=no_pieces,
        )
        in_order = sorted(_metrics.items())  # independent of the order of imports
        _metrics.clear()
        _metrics.update(in_order)
        return function

    return record
