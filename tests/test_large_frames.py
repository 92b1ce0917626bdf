"""Frames of several runs, strips and tiles, of which a kernel merges the parts.

A part may hold nothing that counts: be black, constant, black in one image only, or lie outside
the mask from end to end.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from engines import by_both

import imsim
from imsim.errors import ImsimError
from imsim.kernels.common.planes import RUN_PIXELS

FRAMES = ((1100, 700), (3, 400_000), (400_000, 3), (1, 600_001))
"""Several of the longest runs there are, of 2^18 pixels of floats and 2^20 differences."""
SHORTER = 16
"""How many times shorter runs are beside formulas, which take long."""
SMALLER = ((550, 88), (3, 25_000), (25_000, 3), (1, 37_501))
"""Several of these runs, and of the usual strips."""
MODES: tuple[dict[str, Any], ...] = ({"mode": "image"}, {"mode": "spectral"})
SLOW = ("fsim", "issm", "sh", "ssim", "uiq")
"""Metrics whose formula takes long: one pair of one frame, of its channels the second, which has
black."""


def black(x: np.ndarray, y: np.ndarray) -> None:
    """The first 40 % of one image, the last 45 % of the other, in every channel but the first."""
    x[: x.shape[0] * 2 // 5, 1:] = 0
    y[x.shape[0] * 11 // 20 :, 1:] = 0


def disjoint(x: np.ndarray, y: np.ndarray) -> None:
    """Nowhere are both images bright; in between, both are black."""
    x[: x.shape[0] * 3 // 5] = 0
    y[x.shape[0] * 2 // 5 :] = 0


def constant(x: np.ndarray, y: np.ndarray) -> None:
    """Levels of their own at both ends, black and level against texture."""
    n = x.shape[0]
    x[: n // 2] = y[: n // 3] = 7
    x[n * 9 // 10 :] = y[n * 4 // 5 :] = 0


def make(edit: Any, rng: np.random.Generator, frame: tuple[int, int], dtype: Any) -> Any:
    """Two channels of noise and a noisy version, changed along the long side."""
    x = rng.uniform(1, 250, (math.prod(frame), 2))
    y = np.clip(x + rng.normal(0, 20, x.shape), 1, 255)
    edit(x, y)
    tall = frame if frame[0] > 10 else frame[::-1]  # so that a run lies within a part
    x, y = (v.reshape(*tall, 2).astype(dtype) for v in (x, y))
    return (x, y) if tall == frame else (x.swapaxes(0, 1), y.swapaxes(0, 1))


def middle(frame: tuple[int, int]) -> np.ndarray:
    """A mask that empties the first and the last runs."""
    mask = np.zeros(math.prod(frame), bool)
    mask[mask.size * 7 // 20 : mask.size * 13 // 20] = True
    return mask.reshape(frame) if frame[0] > 10 else mask.reshape(frame[::-1]).T


CASES = [
    *((black, frame) for frame in SMALLER),
    *((edit, frame) for edit in (disjoint, constant) for frame in SMALLER[:2]),
]
EVERYDAY = ((black, SMALLER[0]), (constant, SMALLER[1]), (black, SMALLER[3]))
"""Each side that may be long, and each part that may be empty; integers go through all of them."""


@pytest.mark.parametrize(
    ("edit", "frame"),
    [pytest.param(*c, marks=() if c in EVERYDAY else pytest.mark.thorough) for c in CASES],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_engines_agree(
    rng: Any, frame: tuple[int, int], edit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("common.planes", "sam"):
        monkeypatch.setattr(f"imsim.kernels.{place}.RUN_PIXELS", RUN_PIXELS // SHORTER)
    x, y = make(edit, rng, frame, np.float64)
    for name, metric in imsim.METRICS.items():
        if name in SLOW and (frame != SMALLER[0] or edit is not black):
            continue
        for function in (metric.function, metric.map_function):
            if function is None:
                continue
            images: dict[str, Any] = {"a": x, "b": y, "channel_axis": -1}
            masks = [None, middle(frame)]
            if name in SLOW:
                images, masks = {"a": x[..., 1], "b": y[..., 1]}, masks[1:]
            modes = (
                ("image", "spectral") if "mode" in inspect.signature(function).parameters else ()
            )
            for mode in modes or (None,):
                options: dict[str, Any] = {"mode": mode} if mode else {}
                # A formula sums pairwise and a kernel by blocks: a few roundings.
                for mask in masks:
                    call = {"data_range": 255, "mask": mask, **images, **options}
                    try:
                        want, got = by_both(function, **call)
                    except ImsimError:
                        assert min(frame) <= 3  # too small for a window
                        continue
                    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_tiles_inside_across_and_outside_a_mask(rng: Any, dtype: Any) -> None:
    """Beside each other in one strip; what lies outside does not change a bit."""
    pair = make(constant, rng, (150, 700), dtype)
    mask = np.zeros((150, 700), bool)
    mask[:, 40:430] = mask[:140, 560:600] = True
    mask[100, 300] = False
    broken = 255 if dtype is np.uint8 else math.nan
    other = tuple(np.where(mask[..., None], v, broken).astype(dtype) for v in pair)
    # Rounding to float32 costs a Canny threshold of ISSM up to 1e-5.
    tolerance = 1e-4 if dtype is np.float32 else 1e-11
    for name, metric in imsim.METRICS.items():
        options: dict[str, Any] = {"data_range": 255, "mask": mask}
        if name not in SLOW:
            options["channel_axis"] = -1
        for function in filter(None, (metric.function, metric.map_function)):
            a, b, p, q = (v[..., 1] if name in SLOW else v for v in (*pair, *other))
            want, got = by_both(function, a, b, **options)
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=name)
            np.testing.assert_array_equal(function(p, q, **options), got, err_msg=name)


def angle(x: np.ndarray, y: np.ndarray) -> float:
    """Angle between two vectors of integers, without error but for the root and the arc."""
    u, v = x.astype(np.int64).ravel(), y.astype(np.int64).ravel()
    xx, yy, xy = (int(p @ q) for p, q in ((u, u), (v, v), (u, v)))
    return math.atan2(math.sqrt(xx * yy - xy * xy), xy)


@pytest.mark.parametrize("edit", [black, disjoint, constant], ids=lambda f: f.__name__)
@pytest.mark.parametrize("frame", FRAMES[:2], ids=str)
def test_integers_against_exact_sums(rng: Any, frame: tuple[int, int], edit: Any) -> None:
    x, y = make(edit, rng, frame, np.uint8)
    for mask in (np.ones(frame, bool), middle(frame)):
        p, q = x[mask].astype(np.int64), y[mask].astype(np.int64)
        call: dict[str, Any] = {"mask": mask, "channel_axis": -1}
        assert imsim.se(x, y, **call) == ((p - q) ** 2).sum()
        got = imsim.sam(x, y, mode="image", **call)
        assert got == pytest.approx(angle(p, q), abs=1e-12)
        n = len(p)
        want = [
            (n * (u @ v) - u.sum() * v.sum())
            / math.sqrt((n * (u @ u) - u.sum() ** 2) * float(n * (v @ v) - v.sum() ** 2))
            if np.ptp(u) and np.ptp(v)
            else float(np.ptp(u) == np.ptp(v))
            for u, v in zip(p.T, q.T, strict=True)
        ]
        assert imsim.zncc(x, y, **call) == pytest.approx(np.mean(want), abs=1e-12)
        ratio = [
            10 * math.log10(u.mean() ** 2 / ((u - v) ** 2).mean())
            if u.any()
            else -math.inf
            if v.any()
            else math.inf
            for u, v in zip(p.T, q.T, strict=True)
        ]
        assert imsim.sre(x, y, **call) == pytest.approx(np.mean(ratio), rel=1e-12)


def test_angle_of_disjoint_images() -> None:
    """What only one image shows is orthogonal to the other, in whichever run or channel it lies."""
    x, y = np.zeros((2, 8, 8, 3), np.uint8)
    x[..., 0], y[..., 1] = 255, 255
    assert imsim.sam(x, y, mode="image", channel_axis=-1) == math.pi / 2
    x, y = np.zeros((2, 1024, 1024))
    x[:600] = y[500:] = 1
    want = math.acos(100 / math.sqrt(600 * 524))
    assert imsim.sam(x, y) == pytest.approx(want, abs=1e-15)
    assert imsim.sam(y, x) == imsim.sam(x, y)
    assert imsim.sam(x, np.where(x, 0, y)) == math.pi / 2
