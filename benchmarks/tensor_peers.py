"""What other libraries compute from tensors of PyTorch and JAX: work -> library -> function.

A function takes two tensors of shape (batch, channels, height, width), of JAX with the channels
last, and returns a score for each pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import libraries as lib
from benchmarks.images import DATA_RANGE, Array
from benchmarks.libraries import Call

Function = Callable[[Any, Any], Any]
SINGLE = 1e-5
"""What sums of squares in float32 leave of a score."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, as piq has them."""


@dataclass(frozen=True)
class TensorPeer:
    """How one library computes a score."""

    library: str
    load: Callable[[], Function]
    """Imports the library."""
    tolerance: float
    """Largest difference from imsim's score of the same float32 tensors."""
    reason: str = ""
    """What it computes instead, if it does."""

    @property
    def mark(self) -> str:
        return "≈" if self.reason else ""


@dataclass(frozen=True)
class TensorWork:
    """A metric, and who else computes it."""

    metric: str
    load: Callable[..., Function]
    """Returns imsim's function; takes a mask, if there is one."""
    peers: tuple[TensorPeer, ...]
    module: str = "torch"
    """The library of the tensors."""

    def tensors(self, x: Array, y: Array) -> list[Any]:
        """Convert images of shape (batch, height, width) or (batch, height, width, channels)."""
        images = [v[..., None] if v.ndim == 3 else v for v in (x, y)]
        if self.module == "jax":
            import jax

            return [jax.numpy.asarray(v) for v in images]
        import torch

        return [torch.tensor(v).movedim(-1, 1).contiguous() for v in images]


def forward(function: Function, x: Any, y: Any) -> Call:
    return partial(function, x, y)


def both_ways(function: Function, x: Any, y: Any) -> Call:
    """Score, and differentiate with respect to the first image, as training does."""
    import torch

    x = x.clone().requires_grad_()

    def call() -> Any:
        with torch.enable_grad():  # other benchmarks have switched it off
            return torch.autograd.grad(function(x, y).sum(), x)[0]

    return call


def ours(metric: str, *, luma: bool = False) -> Callable[..., Function]:
    """Return imsim's function: mean over channels, or score of the luma of colour."""

    def load(mask: Any = None) -> Function:
        import imsim

        if mask is not None:
            import torch

            mask = torch.from_numpy(mask)
        function = partial(getattr(imsim, metric), mask=mask, data_range=DATA_RANGE)
        if luma:
            return lambda x, y: function(*(v[:, 0] if v.shape[1] == 1 else grey(v) for v in (x, y)))
        return partial(function, channel_axis=1)

    return load


def grey(image: Any) -> Any:
    """Return the luma of a batch of colour images, in few passes."""
    red, green, blue = (image[:, k] for k in range(3))
    return (red * LUMA[0]).add(green, alpha=LUMA[1]).add(blue, alpha=LUMA[2])


def ours_compiled(mask: Any = None) -> Function:
    """Return imsim's SSIM, compiled by JAX; the mask is an argument, as in training."""
    import jax

    import imsim

    @jax.jit
    def function(x: Any, y: Any, mask: Any) -> Any:
        return imsim.ssim(x, y, mask=mask, data_range=DATA_RANGE, channel_axis=-1)

    mask = None if mask is None else jax.numpy.asarray(mask)
    return lambda x, y: function(x, y, mask).block_until_ready()


def _dm_pix() -> Function:
    import dm_pix
    import jax

    function = jax.jit(partial(dm_pix.ssim, max_val=DATA_RANGE))
    return lambda x, y: function(x, y).block_until_ready()


def _piq(name: str, **options: Any) -> Callable[[], Function]:
    def load() -> Function:
        function = getattr(lib._import_piq(), name)
        return partial(function, data_range=DATA_RANGE, reduction="none", **options)

    return load


def _by_channel(load: Callable[[], Function]) -> Callable[[], Function]:
    """Score the channels as images of their own, and average, where the library takes the luma."""

    def load_it() -> Function:
        function = load()

        def score(x: Any, y: Any) -> Any:
            planes = (v.reshape(-1, 1, *v.shape[2:]) for v in (x, y))
            return function(*planes).reshape(x.shape[:2]).mean(1)

        return score

    return load_it


def _torchmetrics() -> Function:
    function = lib._import_torchmetrics().image.structural_similarity_index_measure
    return partial(function, data_range=DATA_RANGE, sigma=1.5, reduction="none")


def _pytorch_msssim() -> Function:
    import pytorch_msssim

    return partial(pytorch_msssim.ssim, data_range=DATA_RANGE, size_average=False)


def _kornia() -> Function:
    from kornia.metrics import ssim

    compute = partial(ssim, window_size=11, max_val=DATA_RANGE, padding="valid")
    return lambda x, y: compute(x, y).mean((1, 2, 3))


BORDER = "averages over the frame and a reflected border"
POPULATION = "population instead of sample deviation, another border"
MEDIAN = "lower median, another way of downsampling large images"

TENSOR_WORKS = {
    "SSIM": TensorWork("ssim", ours("ssim"), (
        TensorPeer("piq", _piq("ssim", downsample=False), SINGLE),
        TensorPeer("torchmetrics", _torchmetrics, 0.01, BORDER),
        TensorPeer("pytorch-msssim", _pytorch_msssim, SINGLE),
        TensorPeer("kornia", _kornia, SINGLE),
    )),
    "GMSD": TensorWork("gmsd", ours("gmsd"), (
        TensorPeer("piq", _by_channel(_piq("gmsd")), 1e-4, POPULATION),
    )),
    "FSIM of the luma": TensorWork("fsim", ours("fsim", luma=True), (
        TensorPeer("piq", _piq("fsim", chromatic=False), 1e-4, MEDIAN),
    )),
    "SSIM, jitted": TensorWork("ssim", ours_compiled, (
        TensorPeer("dm-pix", _dm_pix, SINGLE),
    ), module="jax"),
}  # fmt: skip
"""Metrics by channel, averaged; FSIM of the luma, which piq takes of colour."""
