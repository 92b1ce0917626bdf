"""How each library is called: every function here binds one of its calls to two images.

A library is imported when a call is bound, and images are brought into the form it wants: neither
is timed.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.images import DATA_RANGE, Array

Call = Callable[[], Any]
Bind = Callable[[Array, Array], Call]


def looped(bind: Bind) -> Bind:
    """Bind to batches what takes one pair at a time."""

    def bind_batch(x: Array, y: Array) -> Call:
        calls = [bind(a, b) for a, b in zip(x, y, strict=True)]
        return lambda: [call() for call in calls]

    return bind_batch


def using(module: str, function: Callable[[Any, Array, Array], Any]) -> Bind:
    """Bind a function of a module and two arrays."""

    def bind(x: Array, y: Array) -> Call:
        return partial(function, import_module(module), x, y)

    return bind


def plain(function: Callable[[Array, Array], Any]) -> Bind:
    return lambda x, y: partial(function, x, y)


def _tensors(x: Array, y: Array) -> list[Any]:
    """As (batch, channels, height, width), which is (1, 1, height, width) for a grey image."""
    import torch

    torch.set_grad_enabled(False)
    tensors = []
    for v in (x, y):
        v = v if v.dtype.kind == "f" else v.astype(np.float32)
        if v.ndim == 3 and v.shape[-1] == 3:
            v = np.moveaxis(v, -1, 0)[None]
        elif v.ndim == 3:
            v = v[:, None]
        else:
            v = v[None, None]
        tensors.append(torch.from_numpy(np.ascontiguousarray(v)))
    return tensors


class _Stub(types.ModuleType):
    """A module in which every name is found: an empty class, or a module of the same kind."""

    __path__: list[str] = []  # noqa: RUF012  # as a package has it, and never written to

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[0].isupper() else _Stub(name)


@cache
def _import_piq() -> Any:
    """Import piq, which wants torchvision for its neural networks only.

    There is no torchvision for a torch without CUDA, so an empty one stands in meanwhile.
    """
    import torch  # noqa: F401  # looks for torchvision too: it must not find ours

    names = () if "torchvision" in sys.modules else ("torchvision", "torchvision.models")
    sys.modules.update((name, _Stub(name)) for name in names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import piq
    finally:
        for name in names:
            del sys.modules[name]
    return piq


def piq(name: str, **options: Any) -> Bind:
    def bind(x: Array, y: Array) -> Call:
        function = getattr(_import_piq(), name)
        tensors = _tensors(x, y)
        return partial(function, *tensors, data_range=DATA_RANGE, reduction="none", **options)

    return bind


@cache
def _import_torchmetrics() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchmetrics.functional
        import torchmetrics.functional.image
    return torchmetrics.functional


def torchmetrics(name: str, *, flat: bool = False, **options: Any) -> Bind:
    def bind(x: Array, y: Array) -> Call:
        function = _import_torchmetrics()
        for part in name.split("."):
            function = getattr(function, part)
        tensors = _tensors(x, y)
        if flat:
            tensors = [v.flatten() for v in tensors]
        return partial(function, *tensors, **options)

    return bind


def imed(method: str) -> Bind:
    def bind(x: Array, y: Array) -> Call:
        import imed

        x, y = (v if v.dtype.kind == "f" else v.astype(np.float64) for v in (x, y))
        return partial(imed.distance, x, y, 1, method)

    return bind


def gaussian_filtered(x: Array, y: Array) -> Any:
    """IMED through SciPy: the same taps (up to 9 sigma), made to sum to 1."""
    from scipy.ndimage import gaussian_filter

    d = x - y if x.dtype.kind == "f" else x.astype(np.float64) - y
    return np.sqrt(np.sum(d * gaussian_filter(d, 1.0, mode="constant", truncate=9.0)))


def imagehash(name: str) -> Bind:
    def bind(x: Array, y: Array) -> Call:
        import imagehash
        from PIL import Image

        function = getattr(imagehash, name)
        a, b = (Image.fromarray(v.astype(np.uint8)) for v in (x, y))
        return lambda: (function(a) - function(b)) / 64

    return bind


def opencv_hash(name: str) -> Bind:
    def bind(x: Array, y: Array) -> Call:
        import cv2

        hasher = getattr(cv2.img_hash, f"{name}_create")()
        a, b = (v.astype(np.uint8) for v in (x, y))
        return lambda: hasher.compare(hasher.compute(a), hasher.compute(b)) / 64

    return bind


def angle(x: Array, y: Array) -> Any:
    x, y = x.ravel(), y.ravel()
    return np.arccos(x @ y / np.sqrt((x @ x) * (y @ y)))


def sewar_ssim(sewar: Any, x: Array, y: Array) -> Any:
    window = {"fltr": sewar.utils.Filter.GAUSSIAN, "sigma": 1.5, "ws": 11}
    return sewar.ssim(x, y, MAX=DATA_RANGE, fltr_specs=window)[0]


def opencv_zncc(cv2: Any, x: Array, y: Array) -> Any:
    x, y = (v.astype(np.float32, copy=False) for v in (x, y))
    return cv2.matchTemplate(x, y, cv2.TM_CCOEFF_NORMED)[0, 0]


def skimage_ssim(skimage: Any, x: Array, y: Array) -> Any:
    """Compute the authors' SSIM."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return skimage.metrics.structural_similarity(x, y, data_range=DATA_RANGE, **options)


def skimage_uniform_ssim(skimage: Any, x: Array, y: Array) -> Any:
    """Compute the default, whose window is uniform, and covariance that of a sample."""
    return skimage.metrics.structural_similarity(x, y, data_range=DATA_RANGE)
