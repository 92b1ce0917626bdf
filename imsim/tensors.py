"""Arrays of PyTorch and JAX in the memory of the host: lent to the kernels, with their gradients.

An eager array is lent without a copy, and the result comes back as an array of its library on its
device. Other arrays, those that are traced, mapped or on an accelerator, go to the formulas.

Neither library is imported here unless an array of it came in.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from imsim.errors import DTypeError
from imsim.inputs import as_array, check_real, is_of_numpy_itself, kind, listed
from imsim.portable.arrays import (
    device,
    is_compiling,
    is_of_jax,
    is_tensor,
    outside_graphs,
    to_host,
)
from imsim.typing import Array, ImageLike

Given = tuple[Any, ...]
"""Two images, a mask and a data range, as the user gave them, or with NumPy arrays in place; and
weights, if there are any."""
NAMES = ("a", "b", "mask", "data_range", "weights")
"""What is given, in its order."""
Function = Callable[..., Any]
"""Computes a score or a map of what is given."""
Gradient: TypeAlias = Any
"""The gradient of a call of a score, `imsim.derivatives.Gradient`."""
PLAIN_KINDS = "?buifc"
"""Kinds of dtypes that NumPy has by itself."""


class Differentiated(np.ndarray):
    """An array of NumPy whose gradient is computed and dropped, to compile the kernels for it."""


def call(function: Function, given: Given, gradient: Gradient | None = None) -> Any:
    """Call a function of what is given, with NumPy arrays in place of eager tensors.

    Tensors whose gradient is asked for are lent if `gradient` computes it. The function itself
    takes whatever cannot be lent.
    """
    first, second = (_library(v) for v in given[:2])
    library = first or second
    if library is None or (first and second and first is not second):
        return function(*given)
    return library(function, given, gradient)


def on_host(*values: Any) -> tuple[Any, ...]:
    """Return NumPy arrays in place of eager tensors in the memory of the host; the others stay.

    For functions whose results are NumPy arrays. A tensor that records a gradient stays as well,
    since such results have no gradient.
    """
    return tuple(map(_on_host, values))


def _on_host(value: Any) -> Any:
    library = _library(value)
    if library is _call_torch:
        import torch

        asks = torch.is_grad_enabled() and getattr(value, "requires_grad", False)
        view = None if asks or _torch_traces(torch) else _torch_view(value)
    elif library is _call_jax:
        view = _jax_view(value) if isinstance(value, sys.modules["jax"].Array) else None
    else:
        view = None
    return value if view is None else view


def as_numpy(name: str, image: ImageLike) -> Array:
    """Return bare real numbers as a NumPy array, wherever they lie; no gradient passes.

    For what is drawn or stored. A container whose meaning the numbers would lose is refused.
    """
    array = as_array(name, image)
    check_real(name, array)
    try:
        (found,) = on_host(array.detach().cpu() if is_tensor(array) else array)
        return np.asarray(to_host(found))
    except (TypeError, RuntimeError) as error:
        raise DTypeError(
            f"{name} is a {kind(array)}, which does not get into the memory of the host ({error})",
            "convert it to a NumPy array",
        ) from error


def _library(value: Any) -> Callable[..., Any] | None:
    """Return the caller for arrays of a library, by the module of their type."""
    if isinstance(value, Differentiated):
        return _call_differentiated
    if isinstance(value, np.ndarray):  # of whose module torch.compile knows nothing
        return None
    module = type(value).__module__
    if module == "torch" or module.startswith("torch."):
        return _call_torch
    if module.startswith(("jax.", "jaxlib.")):
        return _call_jax
    return None


def _lent(view: Callable[[Any], Any], values: Any) -> tuple[Any, ...] | None:
    """Return NumPy views in place of arrays of a library; None if one has no view."""
    own: Any = sys.modules["torch"].Tensor if view is _torch_view else sys.modules["jax"].Array
    found = []
    for value in values:
        if isinstance(value, own):
            value = view(value)
            if value is None:
                return None
        found.append(value)
    return tuple(found)


def _each(found: Any, convert: Callable[[Any], Any]) -> Any:
    """Convert a result, or each of several."""
    return [convert(v) for v in found] if isinstance(found, list) else convert(found)


def _kept(given: Given, lent: Any, library: Any) -> Given:
    """Return what a gradient reads later, with copies of the arrays that may change until then.

    The libraries themselves notice, or forbid, a change of their own arrays.
    """
    names = NAMES[:3]
    parts = [v if v is None else as_array(n, v) for n, v in zip(names, given, strict=False)]
    parts = [v if v is None or _notices(v, library) else _copied(v) for v in parts]
    data_range = lent[3]
    if isinstance(data_range, np.ndarray) and data_range.ndim == 0:
        data_range = data_range.item()
    return (*parts, data_range)


def _notices(value: Any, library: Any) -> bool:
    """Whether the library notices changes of an array; in PyTorch's inference mode, it does not."""
    return isinstance(value, library) and not getattr(value, "is_inference", bool)()


def _copied(array: Any) -> Any:
    if _library(array) is _call_torch:
        return array.clone()
    return array.copy() if isinstance(array, np.ndarray) else array


def _call_differentiated(function: Function, given: Given, gradient: Gradient | None) -> Any:
    a, b, *others = given
    given = (np.asarray(a), np.asarray(b), *others)
    scores = function(*given)
    if gradient is not None:
        for wanted in ((True, True), (True, False), (False, True)):
            gradient.with_scores(given, wanted)
            gradient(given, scores, wanted, scores)
    return scores


# PyTorch


def _call_torch(function: Function, given: Given, gradient: Gradient | None) -> Any:
    import torch

    if torch.compiler.is_compiling():  # which traces less of arrays than of tensors
        of_numpy = (np.ndarray, np.generic)
        return function(*(torch.as_tensor(v) if isinstance(v, of_numpy) else v for v in given))
    lent = None if _torch_traces(torch) else _lent(_torch_view, given)
    if lent is None:
        return function(*given)
    a, b, _, data_range, *weights = (getattr(v, "requires_grad", False) for v in given)
    if not (torch.is_grad_enabled() and (a or b or data_range or any(weights))):
        return _each(function(*lent), lambda found: torch.from_numpy(np.asarray(found)))
    if gradient is None or data_range:
        return function(*given)
    kept = _kept(given, lent, torch.Tensor)
    lent = _lent(_torch_view, kept)
    scores, ahead = gradient.with_scores(lent, (bool(a), bool(b)))
    call = _Call(function, gradient, kept, np.array(scores), ahead)
    return _torch_scored().apply(*kept[:3], torch.from_numpy(call.scores), call)


class _Call(NamedTuple):
    """What a backward pass needs, besides the tensors."""

    function: Function
    gradient: Gradient
    given: Given
    scores: Array
    ahead: Any
    """The gradient of the sum of the scores, if it came with them."""


def _torch_traces(torch: Any) -> bool:
    """Whether what happens to tensors is recorded or changed, so that no value may be taken out."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    if torch.autograd.forward_ad._current_level >= 0:
        return True
    return bool(torch._C._len_torch_dispatch_stack())


def _torch_view(tensor: Any) -> Array | None:
    """View a tensor as a NumPy array; None if it is not plainly in the memory of the host."""
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or not tensor.is_cpu:
        return None
    if tensor.layout is not torch.strided or torch._C._functorch.is_functorch_wrapped_tensor(
        tensor
    ):
        return None
    if getattr(tensor, "has_names", bool)():  # the names of axes say more than numbers
        return None
    try:
        if tensor.data_ptr() == 0 and tensor.numel() > 0:  # freed
            return None
        if tensor.itemsize <= 2 and tensor.is_floating_point() and tensor.dtype != torch.float16:
            tensor = tensor.detach().float()  # NumPy has neither bfloat16 nor floats of 8 bits
        view: Array = tensor.numpy(force=True)  # of a tensor of the host, without a copy
    except (TypeError, RuntimeError):  # quantized, ragged, one of a batch of gradients, ...
        return None
    return view


@functools.cache
def _torch_scored() -> Any:
    """Return the function that scores by kernels, and whose gradient is computed by kernels."""
    import torch

    class Scored(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, a: Any, b: Any, mask: Any, scores: Any, call: _Call) -> Any:
            tensors = [v if isinstance(v, torch.Tensor) else None for v in (a, b, mask)]
            context.save_for_backward(*tensors)
            others = [
                None if t is not None else v for t, v in zip(tensors, call.given, strict=False)
            ]
            # A tensor that is kept elsewhere would never be freed, nor seen to change.
            context.call = call._replace(given=(*others, call.given[3]))
            return scores.clone()  # an input that is returned would be taken for a view

        @staticmethod
        def backward(context: Any, upstream: Any) -> Any:
            # PyTorch may compile backward passes, too, and cannot trace kernels.
            differentiate = outside_graphs(_torch_backward) if is_compiling() else _torch_backward
            saved = context.call, context.saved_tensors, context.needs_input_grad[:2]
            return (*differentiate(*saved, upstream), None, None, None)

    return Scored


def _torch_backward(call: _Call, saved: Any, wanted: Any, upstream: Any) -> list[Any]:
    """Return the gradients of the images, by kernels if these compute them."""
    import torch

    *others, data_range = call.given
    parts = zip(saved, others, strict=True)
    given = (*(other if t is None else t for t, other in parts), data_range)
    found = lent = None
    if not torch.is_grad_enabled():  # else the gradient itself is to be differentiated
        lent = _lent(_torch_view, (*given, upstream))
    if lent is not None:
        found = call.gradient(lent[:4], lent[4], wanted, call.scores, call.ahead)
    if found is None:
        return _torch_gradient(torch, call.function, given, upstream, wanted)
    return [
        torch.from_numpy(g).to(image.dtype) if w else None
        for g, image, w in zip(found, given[:2], wanted, strict=True)
    ]


def _torch_gradient(
    torch: Any, function: Function, given: Given, upstream: Any, wanted: Any
) -> list[Any]:
    """Differentiate the formula."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        images = [
            # A view keeps the graph of the image, if the gradient is to be differentiated again.
            (image.view_as(image) if further else image.detach().requires_grad_()) if w else image
            for image, w in zip(given[:2], wanted, strict=True)
        ]
        scores = function(*images, *given[2:])
        inputs = [image for image, w in zip(images, wanted, strict=True) if w]
        gradients = iter(torch.autograd.grad(scores, inputs, upstream, create_graph=further))
    return [next(gradients) if w else None for w in wanted]


# JAX


def _call_jax(function: Function, given: Given, gradient: Gradient | None) -> Any:
    import jax

    lent = _jax_lent(given)
    if lent is not None:
        return _each(function(*lent), lambda found: _jax_put(found, given[:2]))
    lent = _jax_lent((None, None, *given[2:]))
    if gradient is None or lent is None:
        return function(*given)
    return _jax_scored(function, gradient, _kept(given, lent, jax.Array))


def _jax_lent(values: Any) -> tuple[Any, ...] | None:
    """Lend arrays, as `_lent` does; refuse those on several devices of the host, as JAX does."""
    lent = _lent(_jax_view, values)
    if lent is not None:
        named = zip(NAMES, values, strict=False)
        places = {n: device(v) for n, v in named if is_of_jax(v) and n != "data_range"}
        places = {n: place for n, place in places.items() if place is not None}
        if len(set(places.values())) > 1:
            where = listed(places.values())
            raise DTypeError(
                f"{' and '.join(places)} are on different devices, {where}", "move one"
            )
    return lent


def _jax_view(array: Any) -> Array | None:
    """View an array as a NumPy array; None if it is traced or not in the memory of the host."""
    import jax

    if isinstance(array, jax.core.Tracer) or not array.is_fully_addressable:
        return None
    if array.is_deleted():
        return None
    devices = array.devices()
    if len(devices) != 1 or next(iter(devices)).platform != "cpu":
        return None
    try:
        view = np.asarray(array)
    except (TypeError, RuntimeError):  # keys of random numbers, ...
        return None
    if view.dtype.kind in PLAIN_KINDS and is_of_numpy_itself(view.dtype):
        return view
    is_float = jax.numpy.issubdtype(array.dtype, jax.numpy.floating)  # bfloat16, or a short integer
    return view.astype(np.float32 if is_float else np.int8)


def _jax_put(found: Any, images: Any) -> Any:
    """Make an array of JAX, on the device of the images if one was chosen for either."""
    jax = sys.modules["jax"]
    arrays = [v for v in images if isinstance(v, jax.Array)]
    chosen = [v.sharding for v in arrays if getattr(v, "committed", True)]
    return jax.device_put(np.asarray(found), *chosen[:1])


def _jax_scored(function: Function, gradient: Gradient, given: Given) -> Any:
    """Score traced images by a function whose derivative is computed by kernels, if it can be.

    It can where the images have values although they are traced, as under an eager `jax.grad`.
    """
    import jax

    places = [k for k in range(2) if isinstance(given[k], jax.Array)]
    zero = jax.custom_derivatives.SymbolicZero

    def complete(images: Any) -> Given:
        found = list(given)
        for k, image in zip(places, images, strict=True):
            found[k] = image
        return tuple(found)

    def filled(tangent: Any) -> Any:
        is_zero = isinstance(tangent, zero)
        return jax.numpy.zeros(tangent.shape, tangent.dtype) if is_zero else tangent

    def by_formula(*images: Any) -> Any:
        return function(*complete(images))

    @jax.custom_jvp
    def scored(*images: Any) -> Any:
        lent = _jax_lent(complete(images))
        return by_formula(*images) if lent is None else _jax_put(function(*lent), images)

    def rule(images: Any, tangents: Any) -> Any:
        moving = {k: t for k, t in zip(places, tangents, strict=True) if not isinstance(t, zero)}
        lent = _jax_lent(complete(images))
        found = scores = None
        if lent is not None:
            scores, found = gradient.of_each(lent, (0 in moving, 1 in moving))
        if found is None:
            return jax.jvp(by_formula, tuple(images), tuple(map(filled, tangents)))
        scores = _jax_put(scores, images)
        parts = []
        for k, tangent in moving.items():
            # A bare number would be moved to the device in a way that may be disallowed.
            own = found[k], found[k] != 0, found[k].dtype.type(0)
            gradients, are_some, zero_there = (_jax_put(v, images) for v in own)
            # JAX does not mix floats of 8 bits with others.
            t = gradient.in_order(tangent, jax.numpy).astype(gradients.dtype)
            # 0 outside the mask, even where what comes from above is infinite.
            products = jax.numpy.where(are_some, gradients * t, zero_there)
            parts.append(products.sum((-3, -2, -1)).astype(scores.dtype))
        return scores, functools.reduce(operator.add, parts)

    scored.defjvp(rule, symbolic_zeros=True)
    return scored(*(given[k] for k in places))
