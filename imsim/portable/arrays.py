"""Small array helpers: namespaces, selection by mask, sums in float64, planes of volumes.

The planes of a volume lie below each other, as one image, and one behind the other for windows. A
sum over pixels does not ask where these are: metrics that are such sums take a volume for an image.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import sys
from collections.abc import Callable, Iterable
from itertools import zip_longest
from types import ModuleType
from typing import Any, TypeVar, cast

import array_api_compat
import numpy as np

from imsim.typing import Array

_OF_NUMPY = (np.ndarray, np.generic)  # torch.compile knows no union of types
MANY = 1 << 12
"""Numbers of an array for which a faster way pays."""
F = TypeVar("F", bound=Callable[..., Any])


def array_namespace(*arrays: Array) -> ModuleType:
    """Return the array-API namespace of arrays; NumPy itself needs no compatibility layer."""
    if all(isinstance(array, _OF_NUMPY) for array in arrays):
        return np
    if all(is_tensor(array) for array in arrays):  # torch.compile cannot trace what follows
        from array_api_compat import torch

        return torch
    namespace: ModuleType = array_api_compat.array_namespace(*arrays)
    return namespace


def is_of_numpy(values: Any) -> bool:
    """Whether this is an array or a scalar of NumPy."""
    return isinstance(values, _OF_NUMPY)


def is_tensor(values: Any) -> bool:
    """Whether this is a tensor of PyTorch; nobody can have one who has not imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def is_of_jax(values: Any) -> bool:
    """Whether this is an array of JAX, or is traced by it."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(values, jax.Array)


def is_compiling() -> bool:
    """Whether torch.compile traces these lines."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.compiler.is_compiling())


def outside_graphs(function: F) -> F:
    """Return a function that torch.compile calls, and does not look into."""
    return cast(F, sys.modules["torch"].compiler.disable(function))


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Broadcast shapes against each other; ValueError if they do not fit."""
    if shapes.count(shapes[0]) == len(shapes):  # the common case, faster than by NumPy
        return shapes[0]
    found = []
    # Not by NumPy, which does not take the sizes of JAX and PyTorch where these are symbols.
    for sizes in zip_longest(*map(reversed, shapes), fillvalue=1):
        longer = [size for size in sizes if size != 1] or [1]
        if any(size != longer[0] for size in longer):
            raise ValueError(f"shapes {shapes} do not broadcast")
        found.append(longer[0])
    return tuple(reversed(found))


def remembered(function: F) -> F:
    """Remember the last results of a function of numbers; torch.compile makes them anew."""
    cached = functools.lru_cache(maxsize=64)(function)

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args) if is_compiling() else cached(*args)

    return cast(F, wrapper)


def has_values(values: Array) -> bool:
    """Whether Python may look at an array without waiting for it.

    It may not where the array is only traced, as by `jax.jit` or `torch.func.vmap`, where a mode of
    PyTorch sees what is computed, is not computed yet, or lies on another device than the host.
    """
    if isinstance(values, _OF_NUMPY):
        return True
    if is_compiling():
        return False
    try:
        if is_tensor(values):
            is_seen = sys.modules["torch"]._C._len_torch_dispatch_stack() > 0
            return not is_seen and values.device.type == "cpu" and values.data_ptr() is not None
        return bool(values.__dlpack_device__()[0] == 1)  # the host's number
    except Exception:  # each library that traces has an error of its own
        return False


def asks_for_gradient(values: Array) -> bool:
    """Whether a tensor of PyTorch records what is computed from it."""
    return is_tensor(values) and values.requires_grad and sys.modules["torch"].is_grad_enabled()


def device(values: Array) -> Any:
    """Return the device of an array; None for one of JAX that is free to go to any, or on several.

    It is free if it is only traced, or nobody chose its device.
    """
    if is_tensor(values):
        return values.device
    if is_of_jax(values):
        traced = isinstance(values, sys.modules["jax"].core.Tracer)
        if traced or not getattr(values, "committed", True) or len(values.devices()) > 1:
            return None
    return array_api_compat.device(values)


def widest_float(like: Array) -> Any:
    """Return float64, or float32 where the device has none, or JAX has not enabled it."""
    if isinstance(like, _OF_NUMPY):
        return np.float64
    xp = array_namespace(like)
    where = device(like)
    if is_tensor(like):
        return xp.float32 if where.type == "mps" else xp.float64
    dtypes = xp.__array_namespace_info__().dtypes(device=where, kind="real floating")
    return dtypes.get("float64", xp.float32)


def to_widest_float(values: Array) -> Array:
    """Convert to the widest float, for sums that cancel."""
    return array_namespace(values).astype(values, widest_float(values), copy=False)


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


def at_most(values: Array, bound: float) -> Array:
    """Replace larger values by the bound, and keep NaN."""
    if is_tensor(values):
        return values.clamp(max=bound)
    return where_valid(~(values > bound), values, bound)


def not_above(values: Array, bound: float) -> Array:
    """Lower the values that float32 has rounded up from a bound, such as pi."""
    rounded = float(np.float32(bound))
    if rounded <= bound or values.dtype != array_namespace(values).float32:
        return values
    lower = float(np.nextafter(np.float32(bound), np.float32(-np.inf)))
    return where_valid(values != rounded, values, lower)


def mean_of_channels(values: Array) -> Array:
    """Average maps, (..., channels, height, width), over their channels.

    NumPy averages in float64: in a batch with weights, a formula has computed some elements in
    float64, and a kernel others in float32.
    """
    if values.shape[-3] == 1:
        return values[..., 0, :, :]
    xp = array_namespace(values)
    return np.mean(values, axis=-3, dtype=np.float64) if xp is np else xp.mean(values, axis=-3)


def copied(values: Array, shape: tuple[int, ...]) -> Array:
    """Return a copy of the values, broadcast to a shape."""
    xp = array_namespace(values)
    values = xp.broadcast_to(values, shape)
    if is_tensor(values):
        return values.clone()  # torch's asarray warns of tensors that require gradients
    return xp.asarray(values, copy=True)


def to_host(values: Array) -> Any:
    """Return numbers as an array of NumPy, wherever they lie."""
    if is_tensor(values):
        return values.detach().cpu().numpy()
    try:
        return np.asarray(values)
    except (TypeError, RuntimeError):  # they lie on a device
        with contextlib.suppress(TypeError, RuntimeError, BufferError, AttributeError):
            return np.from_dlpack(values, device="cpu")
        # Older libraries have no common way from device to host.
        flat = array_namespace(values).reshape(values, (-1,))
        numbers = [float(flat[i]) for i in range(flat.shape[0])]
        return np.asarray(numbers).reshape(tuple(values.shape))


def without_gradient(values: Array) -> Array:
    """Return the same values, through which no derivative passes.

    For what chooses a unit, a centre or a branch, on which the result does not depend.
    """
    if is_tensor(values):
        return values.detach()
    if is_of_jax(values):
        return sys.modules["jax"].lax.stop_gradient(values)
    return values


def _are_plain(valid: Array, values: Array) -> bool:
    """Whether two NumPy arrays are booleans and floats of a kernel, row by row in memory."""
    are_kinds = valid.dtype == np.bool_ and values.dtype in (np.float32, np.float64)
    return are_kinds and valid.flags.c_contiguous and values.flags.c_contiguous


def _bits_where(valid: Array, values: Array) -> Array:
    """Return NumPy's floats where valid, else 0, without a branch.

    It takes a twelfth of the time of `where` for masks in which True and False change often, and
    half to all of it for others.
    """
    whole = np.dtype(f"i{values.itemsize}")
    found: Array = values.view(whole) & -valid.astype(whole)
    return found.view(values.dtype)


def where_valid(valid: Array | None, values: Array, fill: float = 0.0) -> Array:
    """Return `values` where `valid`, else `fill`; a product would keep NaN."""
    if valid is None:
        return values
    if isinstance(values, _OF_NUMPY):  # a tenth of a small call went into making the constant
        if fill == 0 and values.size >= MANY and _are_plain(valid, values):
            return _bits_where(valid, values)
        return np.where(valid, values, values.dtype.type(fill))
    # JAX takes an array of NaN for a mistake, where it is told to look for those (jax_debug_nans).
    other = values.dtype.type(fill) if is_of_jax(values) else constant(fill, values)
    return array_namespace(values).where(valid, values, other)


def root(values: Array) -> Array:
    """Square root, with the derivative 0 at 0, where that of `sqrt` is infinite."""
    positive = values != 0
    return where_valid(positive, array_namespace(values).sqrt(where_valid(positive, values, 1.0)))


def ratio(p: Array, q: Array, otherwise: float | Array) -> Array:
    """Return p / q, and `otherwise` where q is 0; there, the derivative is finite too."""
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


def total(values: Array, valid: Array | None = None, weights: Array | None = None) -> Array:
    """Sum the values, times their weights if there are any, over the last two axes, in float64.

    The image is flattened first, so that the order of summation, and with it the last bit,
    does not depend on the batch around it.
    """
    xp = array_namespace(values)
    values = to_widest_float(where_valid(valid, values))
    if weights is not None:
        values = values * weights
    return xp.sum(xp.reshape(values, (*values.shape[:-2], -1)), axis=-1)


def count(values: Array, valid: Array | None, weights: Array | None = None) -> Array:
    """Return the number of valid positions in the last two axes, or their weight, as float64."""
    if weights is not None:
        return total(weights, valid)
    xp = array_namespace(values)
    if valid is None:
        size = float(math.prod(values.shape[-2:]))
        return xp.full((1,), size, dtype=widest_float(values), device=device(values))
    return total(xp.astype(valid, widest_float(valid)))


def mean(values: Array, valid: Array | None = None, weights: Array | None = None) -> Array:
    """Mean over the valid positions of the last two axes, by weight; NaN where there are none."""
    if valid is None and weights is None:
        return total(values) / count(values, None)
    n = count(values, valid, weights)
    return ratio(total(values, valid, weights), n, math.nan)


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


def first_largest(weights: Array) -> Array:
    """Find the largest of the last two axes, the first of several."""
    xp = array_namespace(weights)
    flat = xp.reshape(without_gradient(weights), (*weights.shape[:-2], -1))
    places = xp.arange(flat.shape[-1], device=device(flat))
    are_largest = flat == xp.max(flat, axis=-1, keepdims=True)
    # Not by argmax: its int64 is unknown to devices that hold 32 bits.
    first = xp.min(where_valid(are_largest, places, 2**31 - 1), axis=-1, keepdims=True)
    return xp.reshape(places == first, weights.shape)


def at_largest(values: Array, weights: Array) -> Array:
    """Value with the largest weight of each image, a centre without gradient.

    About it, a weighted variance keeps its digits even if one weight exceeds all others by far.
    """
    return total(without_gradient(values), first_largest(weights))


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


def running_sums(values: Array, axis: int) -> Array:
    """Sums of the values before each position along an axis, and the sum of all values."""
    if is_tensor(values):  # torch.compile cannot trace the standard's function
        return pad(values.cumsum(axis, dtype=values.dtype), 1, 0, axis)
    xp = array_namespace(values)
    return xp.cumulative_sum(values, axis=axis, dtype=values.dtype, include_initial=True)


def shifted(values: Array, start: int, length: int, axis: int, step: int = 1) -> Array:
    """Return `length` positions from `start` on, along an axis counted from the last, -1."""
    return values[(..., slice(start, start + length, step), *[slice(None)] * (-1 - axis))]


def sum_in_order(terms: Iterable[Array]) -> Array:
    """Add arrays from left to right."""
    return functools.reduce(operator.add, terms)


def stacked(values: Array) -> Array:
    """From (..., depth, height, width) to (..., depth * height, width)."""
    *others, depth, height, width = values.shape
    return array_namespace(values).reshape(values, (*others, depth * height, width))


def unstacked(values: Array, depth: int | None) -> Array:
    """From (..., depth * height, width) to (..., depth, height, width).

    Images stay as they are, and so does None, where there is no mask.
    """
    if depth is None or values is None:
        return values
    *others, rows, width = values.shape
    shape = (*others, depth, rows // depth, width)
    return array_namespace(values).reshape(values, shape)


def is_one_plane(depth: int | None, border: str, sample_covariance: bool) -> bool:
    """Whether a volume is one plane, repeated to both sides.

    Its population moments are then those of the plane, which has them to the bit.
    """
    return depth == 1 and border == "replicate" and not sample_covariance


def unstacked_shape(frame: tuple[int, int], depth: int | None) -> tuple[int, ...]:
    """Return the sides of an image, or of a volume."""
    rows, width = frame
    return (rows, width) if depth is None else (depth, rows // depth, width)
