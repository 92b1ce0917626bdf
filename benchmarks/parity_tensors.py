"""Which call on tensors gives the number of another library: the table of docs/tensors.md.

`python -m benchmarks.parity_tensors`, in the environment of `make bench`. The calls are texts,
evaluated on a batch of two RGB images with values from 0 to 1.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import images
from benchmarks import libraries as lib
from benchmarks.images import Array

PAGE = Path(__file__).parents[1] / "docs" / "tensors.md"
MARKS = "<!-- written by `python -m benchmarks.parity_tensors` -->\n", "<!-- end -->\n"
SIZES = (96, 512, 640)
"""SSIM and FSIM of some libraries shrink the last two, by factors that some round differently."""
PRECISIONS = ("float64", "float32")


class Row(NamedTuple):
    """Two calls, and why they differ if they do."""

    library: str
    theirs: str
    ours: str
    note: str = ""
    apart: tuple[int, ...] = ()
    """Sizes at which the numbers part, which are shown beside the others."""


PIQ, TM, MSSSIM, KORNIA, PIX = "piq", "torchmetrics", "pytorch-msssim", "kornia", "dm-pix"
_OURS = "data_range=1, channel_axis=1)"
IMPORTS = {
    PIQ: "import piq",
    TM: "from torchmetrics.functional import image",
    MSSSIM: "import pytorch_msssim",
    KORNIA: "import kornia",
    PIX: "import dm_pix",
}
SHRUNK = "Rounds half a factor to the even side, and drops the last rows"
LOWER = "Lower median; then as SSIM"
_LAST = "channel_axis=-1)"

ROWS = (
    Row(
        PIQ,
        "piq.psnr(x, y, reduction='none')",
        f"imsim.psnr(x, y, {_OURS}",
        "Adds 1e-8 to the squared error",
    ),
    Row(PIQ, "piq.ssim(x, y, downsample=False, reduction='none')", f"imsim.ssim(x, y, {_OURS}"),
    Row(
        PIQ,
        "piq.ssim(x, y, reduction='none')",
        f"imsim.ssim(x, y, downsample=True, {_OURS}",
        SHRUNK,
        (640,),
    ),
    Row(
        PIQ,
        "piq.gmsd(x, y, reduction='none')",
        "imsim.gmsd(luma(x), luma(y), data_range=1)",
        "Population instead of sample deviation",
    ),
    Row(
        PIQ,
        "piq.gmsd(x, y, reduction='none')",
        "(1 - 4 / luma(x)[0].numel()) ** 0.5 * imsim.gmsd(luma(x), luma(y), data_range=1)",
        "That of the population; sides must be even",
    ),
    Row(
        PIQ,
        "piq.fsim(x, y, chromatic=False, reduction='none')",
        "imsim.fsim(luma(x), luma(y), data_range=1)",
        LOWER,
        (640,),
    ),
    Row(
        PIQ,
        "piq.fsim(x, y, reduction='none')",
        f"imsim.fsim(x, y, chromatic=True, {_OURS}",
        LOWER + "; other digits of the colours",
        (640,),
    ),
    Row(
        TM,
        "image.peak_signal_noise_ratio(x, y, 1.0, dim=(1, 2, 3), reduction='none')",
        f"imsim.psnr(x, y, {_OURS}",
        "Keeps the logarithm of 10 in float32",
    ),
    Row(
        TM,
        "image.structural_similarity_index_measure(x, y, data_range=1.0, reduction='none')",
        f"imsim.ssim(x, y, {_OURS}",
        "Averages over the frame and a reflected border",
    ),
    Row(
        TM,
        "image.structural_similarity_index_measure(x, y, data_range=1.0, reduction='none')",
        f"imsim.ssim(padded(x), padded(y), {_OURS}",
        "With its border",
    ),
    Row(
        TM,
        "image.universal_image_quality_index(x, y)",
        "imsim.ssim(x, y, K1=0, K2=0, data_range=1, channel_axis=1).mean()",
        "What it is: SSIM without constants, in a Gaussian window",
    ),
    Row(
        TM,
        "image.spectral_angle_mapper(x, y)",
        "imsim.sam(x, y, channel_axis=1).mean()",
    ),
    Row(
        MSSSIM,
        "pytorch_msssim.ssim(x, y, data_range=1, size_average=False)",
        f"imsim.ssim(x, y, {_OURS}",
        "Keeps its window in float32",
    ),
    Row(
        KORNIA,
        "kornia.metrics.psnr(x, y, 1.0)",
        "-10 * imsim.se(x, y, reduction='mean', channel_axis=1).mean().log10()",
        "One error of the whole batch",
    ),
    Row(
        KORNIA,
        "kornia.metrics.ssim(x, y, 11, padding='valid').mean((1, 2, 3))",
        f"imsim.ssim(x, y, {_OURS}",
        "Adds 1e-12 to the denominator",
    ),
    Row(
        KORNIA,
        "kornia.losses.ssim_loss(x, y, 11)",
        f"(1 - imsim.ssim(padded(x), padded(y), {_OURS}.mean()) / 2",
        "Half of it, with its border",
    ),
    Row(PIX, "dm_pix.rmse(x, y)", f"imsim.rmse(x, y, {_LAST}"),
    Row(PIX, "dm_pix.psnr(x, y)", f"imsim.psnr(x, y, data_range=1, {_LAST}"),
    Row(PIX, "dm_pix.ssim(x, y)", f"imsim.ssim(x, y, data_range=1, {_LAST}"),
)


def _luma(image: Any) -> Any:
    return 0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2]


def _padded(image: Any) -> Any:
    pad = importlib.import_module("torch.nn.functional").pad
    return pad(image, [5] * 4, mode="reflect")


def namespace(library: str, size: int, dtype: str) -> dict[str, Any]:
    """Return the names that the texts of a library may use; ImportError where it is missing."""
    x, y = (v / 255 for v in images.pair(size, "float64", count=2, channels=3))
    x, y = x.astype(dtype), y.astype(dtype)
    names: dict[str, Any] = {"imsim": importlib.import_module("imsim")}
    if library == PIX:
        names["dm_pix"] = importlib.import_module("dm_pix")
        asarray = importlib.import_module("jax.numpy").asarray
        return names | {"x": asarray(x), "y": asarray(y)}
    names |= {"luma": _luma, "padded": _padded}
    if library == PIQ:
        names["piq"] = lib._import_piq()
    elif library == TM:
        names["image"] = lib._import_torchmetrics().image
    else:
        name = library.replace("-", "_")
        names[name] = importlib.import_module(name)
    from_numpy = importlib.import_module("torch").from_numpy
    first = (np.ascontiguousarray(np.moveaxis(v, -1, 1)) for v in (x, y))
    return names | dict(zip("xy", map(from_numpy, first), strict=True))


def values(row: Row, size: int, dtype: str) -> tuple[Array, Array]:
    """Return what both calls give."""
    wide: Any = nullcontext()
    if row.library == PIX:
        wide = importlib.import_module("jax").enable_x64(dtype == "float64")
    with wide, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peers warn of is theirs
        names = namespace(row.library, size, dtype)
        found = [np.asarray(eval(text, names), dtype=np.float64) for text in (row.theirs, row.ours)]
    return found[0], found[1]


def worst(row: Row, dtype: str, sizes: tuple[int, ...]) -> float:
    """Return the largest difference over all sizes and pairs, relative for values above 1."""
    pairs = [values(row, size, dtype) for size in sizes]
    return float(max(np.max(np.abs(a - b) / np.maximum(1, np.abs(b))) for a, b in pairs))


def cells(row: Row) -> list[str]:
    """Return the line of the table for one row."""
    from benchmarks.parity import digits

    agree = []
    for dtype in PRECISIONS:
        rest = tuple(size for size in SIZES if size not in row.apart)
        agree.append(digits(worst(row, dtype, rest)))
        agree[-1] += "".join(f"; {digits(worst(row, dtype, (s,)))} at {s}" for s in row.apart)
    return [f"`{row.theirs}`", f"`{row.ours}`", *agree, row.note]


HEADS = ("their call", "imsim's call", *PRECISIONS, "note")


def tables() -> str:
    """Return a table for each library, measured anew."""
    from benchmarks.parity import table, version

    parts = []
    for library in dict.fromkeys(row.library for row in ROWS):
        facts = f"Version {version(library)}; `{IMPORTS[library]}`."
        lines = table(HEADS, [cells(row) for row in ROWS if row.library == library])
        parts.append(f"\n### {library}\n\n{facts}\n\n{lines}\n")
    return "".join(parts) + "\n"


if __name__ == "__main__":
    found = tables()
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    _, after = rest.split(MARKS[1])
    PAGE.write_text(before + MARKS[0] + found + MARKS[1] + after, encoding="utf-8")
