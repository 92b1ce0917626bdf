"""Seeded calls of every kind against every metric, judged by what must hold for all of them.

``python tests/fuzz.py --cases 20000 --seed 1`` runs as many cases, each of several calls, and
prints a line for each breach; `test_fuzz.py` runs a few of them with the suite.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import distant
import numpy as np
import strategies
from engines import by_engine
from sampling import MAPS, SCORES, Variant, blob_mask

import imsim
from imsim.errors import ImsimError

DTYPES = (
    "bool",
    "uint8",
    "int16",
    "uint16",
    "int64",
    "float16",
    "float32",
    "float64",
    ">f4",
    ">u2",
)
SHAPES = ((1, 1), (1, 9), (7, 2), (8, 8), (11, 12), (17, 16), (24, 31), (33, 20), (40, 40))
# More than one strip of rows, tile of columns or run of pixels.
LARGE = ((300, 40), (24, 700), (150, 170))
HUGE = ((700, 420), (3, 90_000), (90_000, 3))
RANGES = (1.0, 255.0, 4095.0, 1e-3, 1e6)
ODD_RANGES = (1e-14, 1e14, 1e-30, 1e30)
"""Of floats, whose formulas the square of the range may bring beyond float32."""
EXTREMES = {"float16": (1e-6, 6e4), "float32": (1e-30, 1e30), "float64": (1e-90, 1e90)}
BAD = (np.nan, np.inf, -np.inf)


@dataclass
class Case:
    """One pair of images with a mask and a call, and how often it was called."""

    variant: Variant
    a: np.ndarray
    b: np.ndarray
    mask: np.ndarray | None
    data_range: float
    words: list[str]
    calls: int = 0
    breaches: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        mask = "no mask" if self.mask is None else f"mask {self.mask.shape}"
        return (
            f"{self.variant.id} {self.a.dtype} {self.a.shape} {self.b.shape} {mask} "
            f"L={self.data_range:g} {' '.join(self.words)}"
        )

    def call(self, a: Any = None, b: Any = None, mask: Any = None) -> Any:
        """Return the result, or the ImsimError; any other exception or warning is a breach."""
        self.calls += 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for category in DOCUMENTED:
                warnings.simplefilter("ignore", category)
            try:
                return self.variant(
                    self.a if a is None else a,
                    self.b if b is None else b,
                    mask=self.mask if mask is None else mask,
                    data_range=self.data_range,
                )
            except ImsimError as error:
                return error
            except Exception as error:
                self.breaches.append(f"raises {type(error).__name__}: {error}")
                return error


DOCUMENTED = tuple(
    value
    for name in dir(imsim)
    if isinstance(value := getattr(imsim, name), type) and issubclass(value, Warning)
)
"""The warnings that imsim documents."""


def cases(seed: int, *, large: float = 0.03, huge: float = 0.002) -> Iterator[Case]:
    """Draw cases for ever; `large` and `huge` are the shares of frames of several parts."""
    rng = np.random.default_rng(seed)
    variants = (*SCORES, *MAPS)
    while True:
        yield _draw(rng, variants[rng.integers(len(variants))], large, huge)


def _pick(rng: np.random.Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _draw(rng: np.random.Generator, variant: Variant, large: float, huge: float) -> Case:
    size = rng.random()
    frame = _pick(rng, HUGE if size < huge else LARGE if size < huge + large else SHAPES)
    batch = _pick(rng, ((), (), (), (2,), (3,), (2, 1))) if size >= huge + large else ()
    dtype = np.dtype(_pick(rng, DTYPES))
    data_range = _pick(rng, (*RANGES, *ODD_RANGES) if dtype.kind == "f" else RANGES)
    channels = (3,) if variant.colour else ()
    words: list[str] = []
    kind = _pick(rng, (*strategies.KINDS, *distant.KINDS, "extreme", "negative"))
    words.append(kind)
    a, b = (np.empty((*batch, *channels, *frame)) for _ in "ab")
    for index in np.ndindex(*batch, *channels):
        a[index], b[index] = _pair(rng, kind, frame, dtype, data_range)
    relation = _pick(rng, ("as drawn", "as drawn", "equal", "flat", "zero", "other side"))
    words.append(relation)
    b = {
        "as drawn": b,
        "equal": a,
        "flat": np.full_like(b, b.flat[0]),
        "zero": np.zeros_like(b),
        "other side": -b,
    }[relation]
    a, b = _cast(a, dtype), _cast(b, dtype)
    mask = _mask(rng, batch, frame, words)
    if dtype.kind == "f" and rng.random() < 0.25:
        _spoil(rng, a if rng.random() < 0.5 else b, words)
    if len(batch) and rng.random() < 0.3:  # one image against many
        a, words = a[(0,) * len(batch)], [*words, "one against many"]
    a, b = (_laid_out(rng, _channels_last(v, channels), words) for v in (a, b))
    return Case(variant, a, b, mask, data_range, words)


def _pair(
    rng: np.random.Generator, kind: str, frame: tuple[int, int], dtype: np.dtype, data_range: float
) -> tuple[np.ndarray, np.ndarray]:
    if kind in distant.KINDS:
        x, y = distant.distant_pair(kind, rng, frame, distance=_pick(rng, (1e2, 1e4, 1e6)))
        return x, y
    if kind == "extreme":
        scale = _pick(rng, EXTREMES.get(dtype.name, (1.0, 1e4)))
        x = rng.normal(size=frame)
        return x * scale, (x + 0.1 * rng.normal(size=frame)) * scale
    if kind == "negative":
        x = rng.normal(size=frame)
        return x, x + 0.3 * rng.normal(size=frame)
    if min(frame) < 2 and kind in ("texture", "binary"):  # too small to scale by its extremes
        kind = "noise"
    base = strategies.image(kind, int(rng.integers(2**32)), *frame) * (data_range / 255)
    return base, base + rng.normal(0, 0.03 * data_range, frame)


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "b":
        return values > np.median(values)
    if dtype.kind == "f":
        return np.clip(values, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(values, float(limits.min), float(limits.max) * (1 - 1e-15)).astype(dtype)


def _mask(
    rng: np.random.Generator, batch: tuple[int, ...], frame: tuple[int, int], words: list[str]
) -> np.ndarray | None:
    kind = _pick(rng, ("none", "none", "blob", "blob", "all", "empty", "pixel", "rows", "batch"))
    words.append(f"mask: {kind}")
    if kind == "none":
        return None
    mask = np.zeros((*batch, *frame) if kind == "batch" else frame, bool)
    if kind == "blob":
        mask = blob_mask(rng, *frame)
    elif kind == "batch":
        for index in np.ndindex(*batch):
            mask[index] = blob_mask(rng, *frame, coverage=float(rng.uniform(0, 1)))
    elif kind == "all":
        mask[...] = True
    elif kind == "pixel":
        mask[int(rng.integers(frame[0])), int(rng.integers(frame[1]))] = True
    elif kind == "rows":
        mask[: frame[0] // 3] = True
    return mask


def _spoil(rng: np.random.Generator, image: np.ndarray, words: list[str]) -> None:
    """Put something that is not finite into one place of one image."""
    *others, height, width = image.shape
    row, column = _pick(rng, ((0, 0), (height - 1, width - 1), (height // 2, width // 2)))
    index = tuple(int(rng.integers(n)) for n in others)
    value = _pick(rng, BAD)
    image[(*index, row, column)] = value
    words.append(f"{value} at {row}, {column}")


def _channels_last(image: np.ndarray, channels: tuple[int, ...]) -> np.ndarray:
    return np.moveaxis(image, -3, -1) if channels else image


def _laid_out(rng: np.random.Generator, image: np.ndarray, words: list[str]) -> np.ndarray:
    """Return the same pixels in another memory layout."""
    kind = _pick(rng, ("C", "C", "F", "negative", "step", "read-only", "unaligned"))
    if kind == "F":
        image = np.asfortranarray(image)
    elif kind == "negative":
        image = image[..., ::-1].copy()[..., ::-1]
    elif kind == "step":
        room = np.zeros((*image.shape[:-1], 2 * image.shape[-1]), image.dtype)
        room[..., ::2] = image
        image = room[..., ::2]
    elif kind == "read-only":
        image = np.ascontiguousarray(image)
        image.flags.writeable = False
    elif kind == "unaligned" and image.dtype.itemsize > 1:
        buffer = np.zeros(image.nbytes + 1, np.uint8)
        view = buffer[1:].view(image.dtype).reshape(image.shape)
        view[...] = image
        image = view
    words.append(kind)
    return image


def judge(case: Case) -> Case:
    """Call the case in every way and note what must not be."""
    note = case.breaches.append
    before = case.a.tobytes(), case.b.tobytes()
    got = case.call()
    if (case.a.tobytes(), case.b.tobytes()) != before:
        note("changes its input")
    portable = by_engine("portable", case.call)
    if isinstance(got, Exception) or isinstance(portable, Exception):
        if str(got) != str(portable):
            note(f"engines disagree: {got!r} and {portable!r}")
        return case
    _judge_values(case, np.asarray(got))
    if not _agree(case, np.asarray(got), np.asarray(portable)):
        note(f"engines disagree: {_worst(np.asarray(got), np.asarray(portable))}")
    with imsim.workers(3):
        if not _same(case.call(), got):
            note("depends on the workers")
    _judge_batch(case, np.asarray(got))
    if case.mask is not None:
        _judge_mask(case, got)
    return case


def _frame(case: Case) -> tuple[int, int]:
    shape = case.b.shape[:-1] if case.variant.colour else case.b.shape
    return shape[-2], shape[-1]


def _finite(case: Case) -> np.ndarray:
    """Whether all pixels inside the mask are finite, for each element of the batch."""
    axes = (-3, -2, -1) if case.variant.colour else (-2, -1)
    a, b = np.broadcast_arrays(np.isfinite(case.a), np.isfinite(case.b))
    fine = a & b
    if case.mask is not None:
        inside = case.mask[..., None] if case.variant.colour else case.mask
        fine = fine | ~inside
    return np.asarray(fine.all(axis=axes))


def _judge_values(case: Case, got: np.ndarray) -> None:
    note = case.breaches.append
    facts = imsim.METRICS[case.variant.metric]
    low, high = facts.map_bounds if case.variant.is_map else facts.bounds
    if case.variant.options.get("degrees"):
        low, high = np.rad2deg(low), np.rad2deg(high)
    known = got[~np.isnan(got)]
    if known.size and (known.min() < low or known.max() > high):
        note(f"outside its bounds: {known.min()!r} to {known.max()!r}")
    fine = _finite(case)
    if case.variant.is_map:
        if got.dtype != (np.float32 if _is_single(case) else np.float64):
            note(f"dtype {got.dtype}")
        if got.shape != (*fine.shape, *_frame(case)):
            note(f"shape {got.shape}")
        return
    if got.shape != fine.shape:
        note(f"shape {got.shape}")
    elif not np.isnan(got[~fine]).all():
        note(f"scores what is not finite: {got[~fine]}")
    elif case.variant.colour and low == -np.inf and high == np.inf:
        pass  # the mean over channels of infinities of both signs
    elif case.mask is None and np.isnan(got[fine]).any():
        note("NaN for finite pixels")


def _is_single(case: Case) -> bool:
    return all(v.dtype.kind == "f" and v.dtype.itemsize <= 4 for v in (case.a, case.b))


def _agree(case: Case, p: np.ndarray, q: np.ndarray) -> bool:
    """Whether the engines agree within the accuracy that each of them promises."""
    single, is_map = _is_single(case), case.variant.is_map
    bound = (4e-5 if is_map else 4e-6) if single else 2e-11
    if case.variant.metric == "sam" and not single:
        bound = 1e-10  # the angle of nearly equal vectors is a root of what rounding leaves
    # A result in units of the pixels has no size of its own.
    natural = 0.0 if imsim.METRICS[case.variant.metric].unit.startswith("I") else 1.0
    known = np.abs(p[np.isfinite(p)])
    largest = float(known.max()) if is_map and known.size else 0.0
    atol = bound * max(largest, natural)
    return bool(np.allclose(p, q, rtol=bound, atol=atol, equal_nan=True))


def _worst(p: np.ndarray, q: np.ndarray) -> str:
    if p.shape != q.shape:
        return f"{p.shape} and {q.shape}"
    with np.errstate(all="ignore"):
        far = np.abs(p - q)
    odd = np.isnan(p) != np.isnan(q)
    at = np.argmax(odd) if odd.any() else np.nanargmax(np.where(np.isnan(far), 0, far))
    return f"{p.flat[at]!r} and {q.flat[at]!r}, {np.count_nonzero(odd)} NaN in one only"


def _same(p: Any, q: Any) -> bool:
    return bool(np.array_equal(p, q, equal_nan=True))


def _judge_batch(case: Case, got: np.ndarray) -> None:
    axes = 3 if case.variant.colour else 2
    batch = np.broadcast_shapes(case.a.shape[:-axes], case.b.shape[:-axes])
    if not batch:
        return
    a, b = (np.broadcast_to(v, (*batch, *v.shape[-axes:])) for v in (case.a, case.b))
    for index in np.ndindex(*batch):
        mask = case.mask
        if mask is not None and mask.ndim > 2:
            mask = np.broadcast_to(mask, (*batch, *mask.shape[-2:]))[index]
        alone = case.call(a[index], b[index], mask)
        if isinstance(alone, Exception) or not _same(alone, got[index]):
            case.breaches.append(f"batch is not the loop: {got[index]!r} and {alone!r}"[:200])


def _judge_mask(case: Case, got: Any) -> None:
    """Nothing outside the mask may matter."""
    mask = case.mask
    inside = mask[..., None] if mask is not None and case.variant.colour else mask
    kind = case.a.dtype.kind
    for garbage in (np.nan, np.inf, -3e4) if kind == "f" else (0, 1):
        a, b = (np.where(inside, v, np.asarray(garbage).astype(v.dtype)) for v in (case.a, case.b))
        changed = case.call(a, b)
        if isinstance(changed, Exception) or not _same(changed, got):
            case.breaches.append(f"pixels outside the mask matter ({garbage}): {changed!r}"[:200])


def main() -> int:
    """Run cases until there are enough; return 1 if there was a breach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--huge", type=float, default=0.002)
    parser.add_argument("--skip", type=int, default=0, help="cases that are drawn and not run")
    arguments = parser.parse_args()
    calls = broken = 0
    start = time.perf_counter()
    for i, case in enumerate(cases(arguments.seed, huge=arguments.huge)):
        if i == arguments.cases:
            break
        if i < arguments.skip:
            continue
        judge(case)
        calls += case.calls
        broken += bool(case.breaches)
        for breach in case.breaches:
            print(f"{i}: {case}: {breach}", flush=True)
    seconds = time.perf_counter() - start
    print(f"{calls} calls in {arguments.cases} cases, {broken} with breaches, {seconds:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
