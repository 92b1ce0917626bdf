"""Separable windows, sums over their taps, the part inside a mask, what quality indices share.

JAX loops over the taps. Written out, XLA would compute a sum of sums anew for each term that reads
it: 121 products a pixel for a window of 11 x 11. It would compile, and differentiate, every slice.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from typing import Any, NamedTuple, TypeVar, cast

from imsim.portable.arrays import (
    array_namespace,
    device,
    is_of_jax,
    ratio,
    remembered,
    shifted,
    where_valid,
    without_gradient,
)
from imsim.portable.correlation import convolved, is_convolved
from imsim.typing import Array

F = TypeVar("F", bound=Callable[..., Any])


def under_tap(values: Array, k: Any, taps: tuple[float, ...], axis: int) -> Array:
    """Return what tap k weighs in each window along an axis."""
    length = values.shape[axis] - len(taps) + 1
    if isinstance(k, int):
        return shifted(values, k, length, axis)
    found: Array = sys.modules["jax"].lax.dynamic_slice_in_dim(values, k, length, axis)
    return found


def weighted(tap: Any, values: Array) -> Array:
    """Multiply by a tap, unless it is known to be 1."""
    return values if isinstance(tap, float) and tap == 1 else tap * values


def sum_over_taps(taps: tuple[float, ...], term: Callable[[Any, Any], Array], like: Array) -> Array:
    """Add ``term(k, tap)`` from the first tap to the last."""
    if not is_of_jax(like):
        return functools.reduce(operator.add, (term(k, tap) for k, tap in enumerate(taps)))
    jax = sys.modules["jax"]
    weights = jax.numpy.asarray(taps, like.dtype)
    found: Array = jax.lax.fori_loop(
        1, len(taps), lambda k, total: total + term(k, weights[k]), term(0, weights[0])
    )
    return found


def replace_by_taps(
    order: Sequence[int], step: Callable[[Any, Any], Any], start: Any, like: Array
) -> Any:
    """Apply ``step(k, found)`` to what is found so far, for the taps k in their order."""
    if is_of_jax(like):
        jax = sys.modules["jax"]
        ks = jax.numpy.asarray(order)
        return jax.lax.fori_loop(0, len(order), lambda i, v: step(ks[i], v), start)
    return functools.reduce(lambda found, k: step(k, found), order, start)


def compiled(function: F) -> F:
    """Let JAX compile a function as a whole, once for each window and shape.

    Arguments by name are known when it compiles. Loops that it does not trace itself would be
    compiled at every call.
    """

    @functools.wraps(function)
    def wrapper(like: Array, *args: Any, **known: Any) -> Any:
        if not is_of_jax(like):
            return function(like, *args, **known)
        return _jitted(function, tuple(sorted(known)))(like, *args, **known)

    return cast(F, wrapper)


@functools.cache
def _jitted(function: Callable[..., Any], known: tuple[str, ...]) -> Callable[..., Any]:
    found: Callable[..., Any] = sys.modules["jax"].jit(function, static_argnames=known)
    return found


@dataclass(frozen=True, slots=True)
class Window:
    """A separable window, given by the taps along each axis, the last axis last."""

    sides: tuple[tuple[float, ...], ...]
    sigmas: tuple[float, ...] = field(default=(), compare=False)
    """Standard deviation along each axis, in pixels, of a Gaussian."""

    @property
    def taps(self) -> tuple[float, ...]:
        """Taps along the last axis; along all axes, unless the spacing of pixels differs."""
        return self.sides[-1]

    @property
    def size(self) -> int:
        """Length along the last axis."""
        return len(self.taps)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Length along each axis."""
        return tuple(map(len, self.sides))

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes from the last, -1, to the first."""
        return tuple(-1 - k for k in range(len(self.sides)))

    @property
    def is_square(self) -> bool:
        """Whether it is one of images, and the same along both axes."""
        return len(self.sides) == 2 and self.sides[0] == self.sides[1]

    @property
    def of_planes(self) -> Window:
        """The window of the planes of a volume."""
        return Window(self.sides[-2:], self.sigmas[-2:])

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return math.prod(self.lengths)

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return math.prod([math.fsum(taps) for taps in self.sides])  # as torch.compile needs it

    @property
    def is_uniform(self) -> bool:
        """Whether all weights are 1."""
        return all(tap == 1 for taps in self.sides for tap in taps)


@remembered
def uniform(*lengths: int) -> Window:
    """Return the window whose weights are all 1, so that sums of integers are exact."""
    return Window(tuple((1.0,) * length for length in lengths))


@remembered
def gaussian(lengths: tuple[int, ...], sigmas: tuple[float, ...]) -> Window:
    """Return the Gaussian window whose weights sum to 1."""
    return Window(tuple(map(_gaussian_taps, lengths, sigmas)), sigmas)


def _gaussian_taps(size: int, sigma: float) -> tuple[float, ...]:
    centre = (size - 1) / 2
    # Relative to the nearest pixel, at 0 or 1/2, so that not all weights underflow.
    nearest = (centre % 1) ** 2
    taps = [math.exp((nearest - (k - centre) ** 2) / (2 * sigma**2)) for k in range(size)]
    norm = math.fsum(taps)
    return tuple(t / norm for t in taps)


@remembered
def rests_of(window: Window) -> tuple[tuple[float, ...], ...]:
    """Return what rounding took from the taps along each axis: both together hold 32 digits."""
    if not window.sigmas:
        return tuple((0.0,) * length for length in window.lengths)
    return tuple(map(_gaussian_rests, window.sides, window.sigmas))


def _gaussian_rests(taps: tuple[float, ...], sigma: float) -> tuple[float, ...]:
    with localcontext(Context(prec=50, traps=[])):
        centre, width = Decimal(len(taps) - 1) / 2, 2 * Decimal(sigma) ** 2
        nearest = (centre % 1) ** 2
        exact = [((nearest - (k - centre) ** 2) / width).exp() for k in range(len(taps))]
        norm = sum(exact)
        return tuple(float(e / norm - Decimal(tap)) for e, tap in zip(exact, taps, strict=True))


def lengths_of(size: float, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return the pixels along each axis of a window, given its size in the unit of the spacing.

    What is no whole number of pixels becomes the nearest odd one.
    """
    return tuple(_pixels(size / distance) for distance in spacing)


def _pixels(length: float) -> int:
    whole = round(length)
    if whole >= 1 and math.isclose(length, whole, rel_tol=1e-9):
        return whole
    return 2 * math.floor(length / 2) + 1


def replicated(values: Array, window: Window) -> Array:
    """Extend images by the pixels at their border, so that the window fits at each pixel."""
    xp = array_namespace(values)
    for axis in window.axes:
        size, length = len(window.sides[axis]), values.shape[axis]
        places = xp.arange(-(size // 2), length + size - 1 - size // 2, device=device(values))
        values = xp.take(values, xp.clip(places, 0, length - 1), axis=axis)
    return values


@remembered
def representable(window: Window, epsilon: float) -> Window:
    """Round taps to multiples of half the epsilon of a dtype, with a sum of 1; ones stay ones.

    Weights of pixels inside a mask then add up without rounding in that dtype. A full window
    weighs exactly 1, and half of a window of even size exactly 1/2.
    """
    if window.is_uniform:
        return window
    return Window(tuple(_rounded_taps(taps, epsilon / 2) for taps in window.sides))


def _rounded_taps(taps: tuple[float, ...], unit: float) -> tuple[float, ...]:
    rounded = [round(tap / unit) for tap in taps]
    # The rest goes to the tap in the middle, or to the two there: the window stays symmetric.
    middle = sorted({(len(taps) - 1) // 2, len(taps) // 2})
    rest = round(1 / unit) - sum(rounded)
    for k in middle:
        rounded[k] += rest // len(middle)
    return tuple(tap * unit for tap in rounded)


GAUSSIAN_REACH = 9
"""Standard deviations at which a Gaussian ends: exp(-9^2 / 2) is below float64's resolution."""


def gaussian_reach(sigma: float, length: int) -> int:
    """Pixels from the middle of the Gaussian to its end, along a side of some length."""
    return min(math.ceil(GAUSSIAN_REACH * sigma), length - 1)


def correlate(values: Array, taps: tuple[float, ...], axis: int) -> Array:
    """Correlate with `taps` along an axis, at the positions where they fit into the frame."""
    if is_convolved(values):
        return convolved(values, taps, axis)
    return _sum_of_shifted(values, taps=taps, axis=axis)


@compiled
def _sum_of_shifted(values: Array, *, taps: tuple[float, ...], axis: int) -> Array:
    def term(k: Any, tap: Any) -> Array:
        return weighted(tap, under_tap(values, k, taps, axis))

    return sum_over_taps(taps, term, values)


def by_weight(taps: tuple[float, ...]) -> list[int]:
    """Order taps from the lightest to the heaviest; of equal taps, the middle one is last."""
    half = len(taps) // 2
    return sorted(range(len(taps)), key=lambda k: (taps[k], -abs(k - half)))


def least_weight(window: Window, min_coverage: float, epsilon: float) -> float:
    """Return the least weight inside the mask of a scored window; see `support_of`."""
    has_centre = all(length % 2 for length in window.lengths)
    least = min_coverage if has_centre else max(min_coverage, 0.5)
    return least * window.weight * (1 - 2 * max(window.lengths) * epsilon)


class Support(NamedTuple):
    """The part of each window inside the mask, and the weights of its pixels there."""

    mask: Array | None
    """The mask itself."""
    pixels: Array | float
    """Number of pixels of the window inside the mask."""
    weights: tuple[Array | float, ...]
    """Sums of their weights in windows along no axis, along the last one, the last two, ...; each
    is the product of the tap and of the pixel's own weight, which is 1 for a mask."""
    weight: Array | float
    """Sum of their weights; 1 where it is 0."""
    scored: Array | None
    """Whether the position is scored; None: everywhere."""
    positions: Array | None = None
    """Weights of the positions; None: the pixels have no weights of their own."""


def support_of(
    mask: Array | None,
    window: Window,
    like: Array,
    min_coverage: float,
    weights: Array | None = None,
) -> Support:
    """Weigh each position of a window, whose taps are representable in the dtype of `like`.

    A position is scored if at least `min_coverage` of the weights lie inside the mask, and the
    centre does. A window of even size has no centre pixel: there, half of the weights must lie
    inside, a rule that flips and transposes preserve. For a coverage of 1 all pixels must lie
    inside, even those whose weight is rounded to 0.

    Weights of pixels, positive inside the mask, do not change which positions are scored. A
    position weighs what its centre pixel does. Where there is none, it weighs the mean over its
    pixels inside the mask, by the taps.
    """
    if mask is None:
        whole = [1.0]
        for axis in window.axes:
            whole.append(whole[-1] * math.fsum(window.sides[axis]))
        return Support(None, float(window.pixels), tuple(whole), whole[-1], None)
    xp = array_namespace(mask)
    inside = xp.astype(mask, like.dtype)
    pixels, sums = inside, _sums_along(inside, window)
    for axis in window.axes:
        pixels = correlate(pixels, (1.0,) * len(window.sides[axis]), axis)
    coverage = sums[-1]
    scored = coverage >= least_weight(window, min_coverage, float(xp.finfo(like.dtype).eps))
    has_centre = all(length % 2 for length in window.lengths)
    if has_centre:
        scored = scored & _centres(mask, window, coverage.shape)
    if min_coverage == 1:
        scored = scored & (pixels == window.pixels)
    positions = None
    if weights is not None:
        sums = _sums_along(weights, window)
        if has_centre:
            positions = _centres(weights, window, coverage.shape)
        else:
            positions = ratio(sums[-1], coverage, 0.0)
        positions = where_valid(scored, positions)
    weight = sums[-1]
    weight = where_valid(weight > 0, weight, 1.0)
    return Support(mask, pixels, tuple(sums), weight, scored, positions)


def _sums_along(inside: Array, window: Window) -> list[Array]:
    """Sums in windows along no axis, along the last one, the last two, ..."""
    sums = [inside]
    for axis in window.axes:
        sums.append(correlate(sums[-1], window.sides[axis], axis))
    return sums


def _centres(values: Array, window: Window, shape: tuple[int, ...]) -> Array:
    """Values at the centres of windows of odd size."""
    for axis in window.axes:
        values = shifted(values, window.lengths[axis] // 2, shape[axis], axis)
    return values


def unbiasing(support: Support, window: Window) -> Array | float:
    """Return n / (n - 1) of the pixels of each window, and n for n = 1, which has no variance.

    Weights are those of reliability: n is the square of their sum over that of their squares.
    """
    n = support.pixels
    if isinstance(n, float):
        return n / (n - 1)
    if support.positions is None:
        return n / where_valid(n > 1, n - 1, 1.0)
    total, pairs = _sums_of_pairs(support.weights[0], window)
    return total * total / where_valid(pairs > 0, 2 * pairs, 1.0)


def _sums_of_pairs(weights: Array, window: Window) -> tuple[Array, Array]:
    """Sums of weights, and of the products of two different pixels; none of them cancels."""
    total, pairs = weights, array_namespace(weights).zeros_like(weights)
    for axis in window.axes:
        length = total.shape[axis] - window.lengths[axis] + 1
        parts = (
            tuple(shifted(v, k, length, axis) for v in (total, pairs))
            for k in range(window.lengths[axis])
        )
        total, pairs = functools.reduce(_joined, parts)
    return total, pairs


def _joined(some: tuple[Array, Array], others: tuple[Array, Array]) -> tuple[Array, Array]:
    """Sums of two sets of pixels as one."""
    (total, pairs), (further, own) = some, others
    return total + further, pairs + own + total * further


class Fraction(NamedTuple):
    """A term of a quality index."""

    top: Array
    bottom: Array

    @property
    def value(self) -> Array:
        """The quotient; without a gradient where it is none."""
        return ratio(self.top, self.bottom, without_gradient(self.top / self.bottom))


def zero_rules(luminance: Fraction, structure: Fraction, flat: Array, dark: Array) -> Array:
    """Multiply the terms of a quality index, and replace 0 / 0 as its authors do.

    The result is the luminance term where both windows are flat, and 1 where both means are 0.
    """
    xp = array_namespace(luminance.top)
    # A product with NaN has a gradient of NaN, even where it is not chosen.
    product = ratio(*luminance, 1.0) * ratio(*structure, 1.0)
    usable = (luminance.bottom != 0) & (structure.bottom != 0)
    as_is = luminance.top / luminance.bottom * (structure.top / structure.bottom)
    quality = xp.where(usable, product, without_gradient(as_is))
    return xp.where(dark, xp.ones_like(quality), xp.where(flat, luminance.value, quality))
