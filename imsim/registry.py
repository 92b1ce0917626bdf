"""The facts about each metric, what works with the arrays of which library among them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from imsim.errors import DTypeError, ShapeError

VALUE, GRADIENT, JIT, VMAP = "value", "gradient", "jit", "vmap"
"""Eager scores and maps; their derivatives by the library; within compiled functions; mapped over
batch axes by the library."""
CPU, GPU = "cpu", "gpu"
"""The memory of the host, and that of any accelerator."""

K = TypeVar("K")
V = TypeVar("V")


class ReadOnly(Mapping[K, V]):
    """A view of a dict that cannot be changed; unlike that of the standard library, it pickles."""

    def __init__(self, facts: dict[K, V]) -> None:
        self._facts = facts

    def __getitem__(self, key: K) -> V:
        return self._facts[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __eq__(self, other: object) -> bool:  # each call of a metric asks
        return self._facts == (other._facts if isinstance(other, ReadOnly) else other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._facts!r})"


Capabilities = Mapping[tuple[str, str], frozenset[str]]
"""From library and kind of device to what works there; what is not named does not work."""

_EVERYTHING = frozenset({VALUE, GRADIENT, JIT, VMAP})
_VALUE = frozenset({VALUE})

ON_HOST: Capabilities = ReadOnly({(library, CPU): _VALUE for library in ("numpy", "torch", "jax")})
"""Capabilities of a metric without a formula for array-API libraries."""
PORTABLE: Capabilities = ReadOnly(
    {
        **ON_HOST,
        ("array_api_strict", CPU): _VALUE,
        ("cupy", GPU): _VALUE,
        **{(library, device): _EVERYTHING for library in ("torch", "jax") for device in (CPU, GPU)},
    }
)
"""Capabilities of a metric whose formula runs on any array-API library. The tests have no
accelerator: they use other devices of array_api_strict, and PyTorch's device without values."""


F = TypeVar("F", bound=Callable[..., Any])
KernelLoader = Callable[[], Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A compiled function of a module that `load` imports, which takes long, as Numba does."""

    load: Callable[[], Any]
    name: str

    def __call__(self) -> Callable[..., Any]:
        """Import it."""
        found: Callable[..., Any] = getattr(self.load(), self.name)
        return found


PiecesMaker = Callable[..., Any]
Volumes = Literal["pixels", "windows", ""]
SHARED = ("a", "b", "mask", "weights", "data_range", "channel_axis", "ndim", "dims", "memory")
"""The parameters that all metrics share, in the order of their signatures."""


@dataclass(frozen=True, slots=True)
class Crop:
    """How to crop images around a mask without a change of the score, with default options.

    Attributes
    ----------
    halo : int
        Pixels by which the crop exceeds the box of the mask on each side, at most up to the border
        of the frame. What lies beyond the frame then lies beyond the crop.
    step : int
        The crop begins at a multiple of so many pixels along each axis.
    widens : bool
        True if rounding in float32 depends on the place in the frame. Crops of float32 are then
        scored in float64.
    gathers : bool
        True if the score does not depend on the places of the pixels. Those of a region that is
        scattered are then scored side by side.
    """

    halo: int
    step: int = 1
    widens: bool = False
    gathers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
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
        The direction of the map's values: that of the score, except for `gmsd`, whose score is the
        deviation of the similarities in its map.
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
        Pixels that each side of an image needs, with default options.
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
        planes, or by windows with a depth. Empty, as by default: volumes are refused.
    experimental_volumes : bool
        True when no author defines the metric for volumes; the score may change.
    volume_kernel, volume_map_kernel : callable or None
        As ``kernel`` and ``map_kernel``, for volumes; those of sums over pixels are the same.
    takes_spacing : bool
        True when the metric has an option `spacing`, the distance of pixels along each axis.
    crop : Crop or None
        How to crop images around a mask; None if the score of a mask depends on the whole frame.
    region_kernel : callable or None
        Returns the compiled scores of many small regions, with default options, for images without
        batch axes; see ``imsim.kernels.regions``.
    no_weights : str
        Why the metric takes no weights of pixels; empty: it takes them.
    pieces : callable or None
        ``pieces(whole, **options)`` returns how images in blocks are scored: what a block reads,
        its part of the score, and how parts are merged; see ``imsim.scenes.pieces``.
    no_pieces : str
        Why the metric has no ``pieces``, if it has none.
    """

    name: str
    title: str
    function: Callable[..., Any]
    map_function: Callable[..., Any] | None = None
    higher_is_better: bool
    best: float
    bounds: tuple[float, float]
    symmetric: bool = True
    needs_data_range: bool = False
    unit: str = ""
    references: tuple[str, ...]
    experimental: bool = False
    capabilities: Capabilities = field(default_factory=lambda: PORTABLE)
    map_higher_is_better: bool
    map_bounds: tuple[float, float]
    map_title: str
    map_needs_channels: bool = False
    sees: str = ""
    needs_contrast: bool = False
    of_differences: bool = False
    least_side: int = 1
    map_least_side: int
    least_longer_side: int = 1
    kernel: KernelLoader | None = None
    map_kernel: KernelLoader | None = None
    gradient: KernelLoader | None = None
    scored_gradient: KernelLoader | None = None
    volumes: Volumes = ""
    experimental_volumes: bool = False
    volume_kernel: KernelLoader | None = None
    volume_map_kernel: KernelLoader | None = None
    takes_spacing: bool = False
    crop: Crop | None = None
    region_kernel: KernelLoader | None = None
    no_weights: str = ""
    pieces: PiecesMaker | None = None
    no_pieces: str = "its record names no pieces"

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

        Eager tensors of PyTorch and JAX on the CPU are read like NumPy arrays even so.
        """
        return self.capabilities == ON_HOST

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the metric's own options, beside the arguments that all metrics share.

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
        score = _numbers("score", score)
        if not self.higher_is_better:
            return score
        return -1.0 * score if math.isinf(self.best) else 1.0 - score

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
        values = _numbers("values", values)
        return 1.0 - values if self.map_higher_is_better else values

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


def _numbers(name: str, values: Any) -> Any:
    """Return what can be calculated with floats, so that no integer wraps; lists become arrays."""
    try:
        found = np.asarray(values) if isinstance(values, list | tuple) else values
    except ValueError as error:
        raise ShapeError(f"{name} has unequal lists", "give all rows one length") from error
    try:
        1.0 - found
    except (TypeError, OverflowError, RuntimeError) as error:  # the last one by PyTorch
        raise DTypeError(
            f"{name} is a {type(values).__name__}", "expected a number or an array of numbers"
        ) from error
    return found


_metrics: dict[str, Metric] = {}

METRICS: Mapping[str, Metric] = ReadOnly(_metrics)
"""Read-only mapping from the name of a metric to its `Metric` record."""


def recorded(name: str) -> Metric:
    """Return the record of a metric."""
    return METRICS[name]


def metric(**facts: Any) -> Callable[[F], F]:
    """Record the facts about a metric, those of `Metric`, and return its function unchanged.

    The facts about the map are those of the score, unless given. So are the kernels for volumes,
    where these are scored by sums over pixels.
    """
    of_map = {f"map_{key}": facts[key] for key in ("higher_is_better", "bounds", "title")}
    of_map["map_least_side"] = facts.get("least_side", 1)
    facts = of_map | facts
    if facts.get("volumes") == "pixels":
        facts |= {f"volume_{key}": facts.get(key) for key in ("kernel", "map_kernel")}

    def record(function: F) -> F:
        name = function.__name__
        _metrics[name] = Metric(name=name, function=function, **facts)
        in_order = sorted(_metrics.items())  # independent of the order of imports
        _metrics.clear()
        _metrics.update(in_order)
        return function

    return record
