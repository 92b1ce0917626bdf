"""Small array helpers: namespaces, selection by mask, sums in float64."""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np
from array_api_compat import device, is_numpy_array

from imsim.typing import Array


def array_namespace(*arrays: Array) -> ModuleType:
    """Return the array-API namespace of arrays; NumPy itself needs no compatibility layer."""
    if all(is_numpy_array(array) for array in arrays):
        return np
    namespace: ModuleType = array_api_compat.array_namespace(*arrays)
    return namespace


@functools.lru_cache(maxsize=64)
def widest_float(xp: ModuleType) -> Any:
    """Return float64, or float32 for a namespace without it (JAX unless x64 is enabled)."""
    if xp is np:
        return np.float64
    dtypes = xp.__array_namespace_info__().dtypes(kind="real floating")
    return dtypes.get("float64", xp.float32)


def to_widest_float(values: Array) -> Array:
    """Convert to the widest float, for sums that cancel."""
    xp = array_namespace(values)
    return xp.astype(values, widest_float(xp), copy=False)


def complex_dtype(values: Array) -> Any:
    """Return the complex dtype of the same precision."""
    xp = array_namespace(values)
    return xp.complex64 if values.dtype == xp.float32 else xp.complex128


def constant(value: Any, like: Array) -> Array:
    """Return `value` as an array of the namespace, dtype and device of `like`."""
    xp = array_namespace(like)
    if isinstance(value, float):  # filled in on the device; nothing is copied to it
        return xp.full((), value, dtype=like.dtype, device=device(like))
    return xp.asarray(value, dtype=like.dtype, device=device(like))


def copied(values: Array, shape: tuple[int, ...]) -> Array:
    """Return a copy of the values, broadcast to a shape."""
    xp = array_namespace(values)
    values = xp.broadcast_to(values, shape)
    if type(values).__module__.partition(".")[0] == "torch":
        return values.clone()  # torch's asarray warns of tensors that require gradients
    return xp.asarray(values, copy=True)


def without_gradient(values: Array) -> Array:
    """Return the same values, through which no derivative passes.

    For what chooses a unit, a centre or a branch, of which the result does not depend.
    """
    library = type(values).__module__.partition(".")[0]
    if library == "torch":
        return values.detach()
    if library.startswith("jax"):
        return sys.modules["jax"].lax.stop_gradient(values)
    return values


def where_valid(valid: Array | None, values: Array, fill: float = 0.0) -> Array:
    """Return `values` where `valid`, else `fill`; a product would keep NaN."""
    if valid is None:
        return values
    return array_namespace(values).where(valid, values, constant(fill, values))


def root(values: Array) -> Array:
    """Square root, with the derivative 0 at 0, where that of `sqrt` is infinite."""
    positive = values != 0
    return where_valid(positive, array_namespace(values).sqrt(where_valid(positive, values, 1.0)))


def ratio(p: Array, q: Array, otherwise: float | Array) -> Array:
    """Return p / q, and `otherwise` where q is 0; also its derivative is finite there."""
    usable = q != 0
    quotient = p / where_valid(usable, q, 1.0)
    if isinstance(otherwise, float):
        return where_valid(usable, quotient, otherwise)
    return array_namespace(quotient).where(usable, quotient, otherwise)


def valid_in_both(p: Array | None, q: Array | None) -> Array | None:
    """Logical and of two validity maps, where None means valid everywhere."""
    if p is None or q is None:
        return q if p is None else p
    return p & q


def total(values: Array, valid: Array | None = None) -> Array:
    """Sum over the last two axes, in float64.

    The image is flattened first, so that the order of summation, and with it the last bit,
    does not depend on the batch around it.
    """
    xp = array_namespace(values)
    flat = xp.reshape(to_widest_float(where_valid(valid, values)), (*values.shape[:-2], -1))
    return xp.sum(flat, axis=-1)


def count(values: Array, valid: Array | None) -> Array:
    """Return the number of valid positions in the last two axes, as float64."""
    xp = array_namespace(values)
    if valid is None:
        size = float(math.prod(values.shape[-2:]))
        return xp.full((1,), size, dtype=widest_float(xp), device=device(values))
    return total(xp.astype(valid, widest_float(xp)))


def mean(values: Array, valid: Array | None = None) -> Array:
    """Mean over the valid positions of the last two axes; NaN where there are none."""
    if valid is None:
        return total(values) / count(values, None)
    return ratio(total(values, valid), count(values, valid), math.nan)


def channel_sum(per_channel: Array) -> Array:
    """Sum per-channel totals into one, keeping the channel axis."""
    return array_namespace(per_channel).sum(per_channel, axis=-1, keepdims=True)


def as_image(scalars: Array, like: Array) -> Array:
    """Give scalars per image two trailing axes and the dtype of `like`, to match images."""
    xp = array_namespace(scalars)
    return xp.astype(scalars[..., None, None], like.dtype, copy=False)


def minimum(values: Array, valid: Array | None) -> Array:
    """Smallest valid value of each image, a centre without gradient; 0 where there is none."""
    xp = array_namespace(values)
    values = without_gradient(values)
    low = xp.min(where_valid(valid, values, math.inf), axis=(-2, -1))
    return xp.where(low == math.inf, xp.zeros_like(low), low)


def peak_to_peak(values: Array, valid: Array | None) -> Array:
    """Largest minus smallest valid value of each image; exactly 0 for a constant one."""
    return -minimum(-values, valid) - minimum(values, valid)


def pad(values: Array, before: int, after: int, axis: int, fill: float = 0.0) -> Array:
    """Extend one axis by a constant."""
    xp = array_namespace(values)
    blocks = []
    for length in (before, after):
        shape = list(values.shape)
        shape[axis] = length
        blocks.append(xp.full(tuple(shape), fill, dtype=values.dtype, device=device(values)))
    return xp.concat([blocks[0], values, blocks[1]], axis=axis)


def shifted(values: Array, start: int, length: int, axis: int, step: int = 1) -> Array:
    """Return `length` positions from `start` on, along one of the last two axes."""
    part = slice(start, start + length, step)
    return values[..., part, :] if axis == -2 else values[..., part]


def sum_in_order(terms: Iterable[Array]) -> Array:
    """Add arrays from left to right."""
    return functools.reduce(operator.add, terms)
