"""Sums over the taps of a window, one after the other; JAX loops over them.

Written out, XLA would compute a sum of sums anew for each term that reads it: 121 products a pixel
for a window of 11 x 11. It would compile, and JAX differentiate, every slice.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from imsim.portable.arrays import is_of_jax, shifted
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
