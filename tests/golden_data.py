"""The golden pairs of `tests/golden`: images, values, and where each value comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GOLDEN = Path(__file__).parent / "golden"

# ITU-R 601 luma with three-digit weights: the grey that the authors' colour code uses.
GREY601 = (0.299, 0.587, 0.114)
# First row of inv([1 .956 .621; 1 -.272 -.647; 1 -1.106 1.703]): MATLAB's rgb2gray.
RGB2GRAY = (0.29893602129377533, 0.58704307445112136, 0.11402090425510324)


@dataclass(frozen=True)
class Golden:
    """One number: its value, who computed it, and with which parameters."""

    value: float
    source: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two images and every value known for them."""

    id: str
    kind: str
    height: int
    width: int
    downsample_factor: int
    ref_file: str
    dist_file: str
    values: dict[str, Golden]
    intermediates: dict[str, float]

    @property
    def is_rgb(self) -> bool:
        """Whether the images are (height, width, 3) instead of (height, width)."""
        return self.kind == "rgb"

    @property
    def uint8(self) -> tuple[np.ndarray, np.ndarray]:
        """Both images as stored."""
        return _read(self.ref_file), _read(self.dist_file)

    @property
    def float64(self) -> tuple[np.ndarray, np.ndarray]:
        """Both images as float64 on the scale 0..255: what the authors' code was given."""
        return _read_float(self.ref_file), _read_float(self.dist_file)

    @property
    def grey601(self) -> tuple[np.ndarray, np.ndarray]:
        """Both colour images as unrounded 601 luma."""
        ref, dist = self.float64
        return _luma(ref, GREY601), _luma(dist, GREY601)

    @property
    def rgb2gray(self) -> tuple[np.ndarray, np.ndarray]:
        """Both colour images as MATLAB's rgb2gray gives them: rounded half up to integers."""
        ref, dist = self.float64
        return np.floor(_luma(ref, RGB2GRAY) + 0.5), np.floor(_luma(dist, RGB2GRAY) + 0.5)


def _luma(rgb: np.ndarray, weights: tuple[float, float, float]) -> np.ndarray:
    # Left to right, as the MATLAB expression 0.299*R + 0.587*G + 0.114*B is evaluated.
    return rgb[..., 0] * weights[0] + rgb[..., 1] * weights[1] + rgb[..., 2] * weights[2]


@cache
def _read(name: str) -> np.ndarray:
    with Image.open(GOLDEN / name) as image:
        pixels = np.array(image)
    pixels.setflags(write=False)  # shared by all tests through the cache
    return pixels


@cache
def _read_float(name: str) -> np.ndarray:
    pixels = _read(name).astype(np.float64)
    pixels.setflags(write=False)
    return pixels


def _number(value: float | str | None) -> float:
    # Non-finite values are stored as strings; a peer that raised is stored as null.
    return float("nan") if value is None else float(value)


def _load() -> tuple[Pair, ...]:
    raw = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
    sources = raw["sources"]

    def parse(entry: dict[str, Any]) -> Pair:
        values = {
            name: Golden(_number(value), sources[k]["source"], sources[k]["parameters"])
            for name, (value, k) in entry["values"].items()
        }
        intermediates = {name: _number(v) for name, v in entry["intermediates"].items()}
        plain = {k: v for k, v in entry.items() if k in Pair.__dataclass_fields__}
        return Pair(**{**plain, "values": values, "intermediates": intermediates})

    return tuple(parse(entry) for entry in raw["pairs"])


PAIRS = _load()
BY_ID = {pair.id: pair for pair in PAIRS}
