"""Small images, and saving them to files, for the tests of the command and of its readers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
from PIL import Image

from imsim.cli import main

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (40, 48)).astype(np.uint8)
NOISY = np.clip(GREY + RNG.normal(0, 9, GREY.shape), 0, 255).astype(np.uint8)
RGB = RNG.integers(0, 256, (40, 48, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (40, 48)).astype(np.uint16)
COLOURS = np.repeat(GREY[..., None] // 64 * 64, 3, axis=-1)
"""Few enough for a palette."""


def save(name: str, pixels: np.ndarray, **options: Any) -> str:
    """Save an image in the current directory, and return its name."""
    if name.endswith(".tif"):
        tifffile.imwrite(name, pixels, **options)
    else:
        Image.fromarray(pixels).save(name, **options)
    return name


def refusal(capsys: Any, *arguments: str) -> str:
    """Run `imsim compare` on what it must refuse, and return its message."""
    assert main(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("imsim: error: ")
    assert err.count("\n") == 1
    return err
