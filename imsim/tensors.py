"""Arrays of PyTorch and JAX in the memory of the host: lent to the kernels, with their gradients.

An eager array is lent without a copy, and the result comes back as an array of its library on its
device. Other arrays, those that are traced, mapped or on an accelerator, go to the formulas.

Neither library is imported here unless an array of it came in.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from imsim.typing import Array

Function = Callable[..., Any]
"""Computes a score or a map of two images and a mask."""
Gradient = Callable[..., Any]
"""Computes the gradient of a score with respect to each of two NumPy images that is wanted, from
the images, the mask, the scores and the weight of each; None if no kernel does."""
PLAIN_KINDS = "?buifc"
"""Kinds of dtypes that NumPy has by itself."""


def call(function: Function, a: Any, b: Any, mask: Any, gradient: Gradient | None = None) -> Any:
    """Call a function of two images and a mask, with NumPy arrays in place of eager tensors.

    Tensors whose gradient is asked for are lent if `gradient` computes it. The function itself
    takes whatever cannot be lent.
    """
    first, second = _library(a), _library(b)
    library = first or second
    if library is None or (first and second and first is not second):
        return function(a, b, mask)
    return library(function, a, b, mask, gradient)


def _library(value: Any) -> Callable[..., Any] | None:
    """Return the caller for arrays of a library, by the module of their type."""
    module = type(value).__module__
    if module == "torch" or module.startswith("torch."):
        return _call_torch
    if module.startswith(("jax.", "jaxlib.")):
        return _call_jax
    return None


def _lent(view: Callable[[Any], Any], *values: Any) -> list[Any] | None:
    """Return NumPy views in place of arrays of a library; None if one has no view."""
    own, found = _library_types(view), []
    for value in values:
        if isinstance(value, own):
            value = view(value)
            if value is None:
                return None
        found.append(value)
    return found


def _each(found: Any, convert: Callable[[Any], Any]) -> Any:
    """Convert a result, or each of several."""
    return [convert(v) for v in found] if isinstance(found, list) else convert(found)


def _library_types(view: Callable[[Any], Any]) -> Any:
    return sys.modules["torch"].Tensor if view is _torch_view else sys.modules["jax"].Array


# PyTorch


def _call_torch(function: Function, a: Any, b: Any, mask: Any, gradient: Gradient | None) -> Any:
    import torch

    lent = None if _torch_traces(torch) else _lent(_torch_view, a, b, mask)
    if lent is None:
        return function(a, b, mask)
    if torch.is_grad_enabled() and any(getattr(v, "requires_grad", False) for v in (a, b)):
        if gradient is None:
            return function(a, b, mask)
        scores = torch.from_numpy(np.array(function(*lent)))
        return _torch_scored().apply(a, b, mask, scores, function, gradient)
    return _each(function(*lent), lambda found: torch.from_numpy(np.asarray(found)))


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
        if tensor.itemsize <= 2 and tensor.is_floating_point() and tensor.dtype != torch.float16:
            tensor = tensor.detach().float()  # NumPy has neither bfloat16 nor floats of 8 bits
        view: Array = tensor.numpy(force=True)  # of a tensor of the host, without a copy
    except (TypeError, RuntimeError):  # quantized, ragged, freed, one of a batch of gradients, ...
        return None
    return view


@functools.cache
def _torch_scored() -> Any:
    """Return the function that scores by kernels, and whose gradient is computed by kernels."""
    import torch

    class Scored(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(
            context: Any,
            a: Any,
            b: Any,
            mask: Any,
            scores: Any,
            function: Function,
            gradient: Gradient,
        ) -> Any:
            tensors = [v if isinstance(v, torch.Tensor) else None for v in (a, b, mask)]
            context.save_for_backward(*tensors)
            context.scores = scores.numpy()
            context.others = [
                None if t is not None else v for t, v in zip(tensors, (a, b, mask), strict=True)
            ]
            context.function, context.gradient = function, gradient
            return scores.clone()  # an input that is returned would be taken for a view

        @staticmethod
        def backward(context: Any, upstream: Any) -> Any:
            a, b, mask = (
                other if tensor is None else tensor
                for tensor, other in zip(context.saved_tensors, context.others, strict=True)
            )
            wanted = context.needs_input_grad[:2]
            found = None
            if not torch.is_grad_enabled():  # else the gradient itself is to be differentiated
                lent = _lent(_torch_view, a, b, mask, upstream)
                if lent is not None:
                    *images, weights = lent
                    found = context.gradient(*images, context.scores, weights, wanted)
            if found is None:
                found = _torch_gradient(torch, context.function, a, b, mask, upstream, wanted)
            else:
                found = [
                    torch.from_numpy(g).to(image.dtype) if w else None
                    for g, image, w in zip(found, (a, b), wanted, strict=True)
                ]
            return (*found, None, None, None, None)

    return Scored


def _torch_gradient(
    torch: Any, function: Function, a: Any, b: Any, mask: Any, upstream: Any, wanted: Any
) -> list[Any]:
    """Differentiate the formula."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        images = [
            # A view keeps the graph of the image, if the gradient is to be differentiated again.
            (image.view_as(image) if further else image.detach().requires_grad_()) if w else image
            for image, w in zip((a, b), wanted, strict=True)
        ]
        scores = function(*images, mask)
        inputs = [image for image, w in zip(images, wanted, strict=True) if w]
        gradients = iter(torch.autograd.grad(scores, inputs, upstream, create_graph=further))
    return [next(gradients) if w else None for w in wanted]


# JAX


def _call_jax(function: Function, a: Any, b: Any, mask: Any, gradient: Gradient | None) -> Any:
    import jax

    lent = _lent(_jax_view, a, b, mask)
    if lent is not None:
        device = next(v for v in (a, b) if isinstance(v, jax.Array)).device
        return _each(function(*lent), lambda found: jax.device_put(np.asarray(found), device))
    # The type by which JAX records a gradient has no public name.
    wanted = tuple(type(v).__name__ == "LinearizeTracer" for v in (a, b))
    if gradient is not None and any(wanted):
        scored = _jax_scored(function, mask, gradient, wanted)
        return scored(*(v if isinstance(v, jax.Array) else jax.numpy.asarray(v) for v in (a, b)))
    return function(a, b, mask)


def _jax_view(array: Any) -> Array | None:
    """View an array as a NumPy array; None if it is traced or not in the memory of the host."""
    import jax

    if isinstance(array, jax.core.Tracer) or not array.is_fully_addressable:
        return None
    devices = array.devices()
    if len(devices) != 1 or next(iter(devices)).platform != "cpu":
        return None
    try:
        view = np.asarray(array)
    except (TypeError, RuntimeError):  # keys of random numbers, deleted arrays, ...
        return None
    if view.dtype.kind in PLAIN_KINDS:
        return view
    is_float = jax.numpy.issubdtype(array.dtype, jax.numpy.floating)  # bfloat16, or a short integer
    return view.astype(np.float32 if is_float else np.int8)


def _jax_scored(
    function: Function, mask: Any, gradient: Gradient, wanted: tuple[bool, ...]
) -> Callable[[Any, Any], Any]:
    """Return the function that scores by kernels, and whose gradient is computed by kernels.

    Within further transformations of JAX, both are those of the formula.
    """
    import jax

    @jax.custom_vjp
    def scored(a: Any, b: Any) -> Any:
        return call(function, a, b, mask)

    def forward(a: Any, b: Any) -> Any:
        scores = call(function, a, b, mask)
        return scores, (a, b, scores)

    def backward(saved: Any, upstream: Any) -> Any:
        *images, scores = saved
        lent = _lent(_jax_view, *images, mask, scores, upstream)
        found = None if lent is None else gradient(*lent, wanted)
        if found is None:
            inputs = [image for image, w in zip(images, wanted, strict=True) if w]

            def formula(*inputs: Any) -> Any:
                each = iter(inputs)
                a, b = (next(each) if w else v for v, w in zip(images, wanted, strict=True))
                return function(a, b, mask)

            each = iter(jax.vjp(formula, *inputs)[1](upstream))
            found = [next(each) if w else None for w in wanted]
        return tuple(
            jax.numpy.asarray(g, dtype=v.dtype) if w else None
            for g, v, w in zip(found, images, wanted, strict=True)
        )

    scored.defvjp(forward, backward)
    return scored
