"""Integers that no float holds: who rounds them says so, and who does not is exact."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import compared
from stored import Stored

import imsim
from imsim import METRICS
from imsim.cli import main

BIG = 2**54
SHAPE = (24, 26)
RANGE = {"data_range": 255}
LARGE = 170, 160
"""More than the least memory holds."""
NAMES = [name for name, metric in METRICS.items() if not metric.of_differences]
ROUNDING = pytest.mark.parametrize("name", NAMES)


def _pair(
    offset: int = BIG, dtype: Any = np.int64, shape: tuple[int, int] = SHAPE
) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    first, second = (offset + rng.integers(1, 200, shape).astype(dtype) for _ in "ab")
    return first, second


def _functions(name: str) -> list[Any]:
    metric = METRICS[name]
    maps = [metric.map_function] if metric.map_function and not metric.map_needs_channels else []
    return [metric.function, *maps]


@ROUNDING
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_rounding_is_said(name: str, dtype: Any) -> None:
    a, b = _pair(dtype=dtype)
    for function in _functions(name):
        for images in ((a, b), (a, b - dtype(BIG)), (b - dtype(BIG), a)):
            with pytest.warns(imsim.PrecisionWarning, match="float64"):
                function(*images, **RANGE)


@ROUNDING
def test_what_is_not_rounded_is_not_warned_of(name: str) -> None:
    """Neither integers that floats hold, nor those outside the mask or without weight."""
    a, b = _pair(0)
    mask = np.ones(SHAPE, np.bool_)
    mask[:, 20:] = False
    nodata = np.where(mask, a, 2**63 - 1)
    weights = mask.astype(float)
    for function in _functions(name):
        function(a * 2**55, b * 2**55, **RANGE)
        function(a, b + 2**53 - 200, **RANGE)
        function(nodata, b, mask=mask, **RANGE)
        function(np.where(mask, a, -(2**63)), b, **RANGE)
        if not METRICS[name].no_weights:
            function(nodata, b, weights=weights, **RANGE)
            with pytest.warns(imsim.PrecisionWarning):
                function(nodata, b, weights=weights + 1, **RANGE)
        with pytest.warns(imsim.PrecisionWarning):
            function(nodata, b, mask=mask | (nodata > 255), **RANGE)


def test_metrics_of_differences_are_exact() -> None:
    images = _pair()
    for name, metric in METRICS.items():
        if metric.of_differences:
            for function in _functions(name):
                function(*images, **RANGE)


@pytest.mark.parametrize("name", [name for name in NAMES if METRICS[name].pieces])
def test_stores_and_dask(name: str, tmp_path: Path) -> None:
    import dask.array as da

    metric = METRICS[name]
    stored = []
    for k, image in enumerate(_pair(shape=LARGE)):
        np.save(tmp_path / f"{k}.npy", image)
        stored.append(np.load(tmp_path / f"{k}.npy", mmap_mode="r"))
    lazy = [da.from_array(image, chunks=(100, 90)) for image in stored]
    with pytest.warns(imsim.PrecisionWarning):
        metric.function(*stored, memory=100_000, **RANGE)
    with pytest.warns(imsim.PrecisionWarning):
        metric.function(*lazy, **RANGE).compute(scheduler="sync")


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-17, reason="they are as wide as float64")
@pytest.mark.parametrize("name", METRICS)
def test_long_doubles(name: str) -> None:
    """Only where the contrast is lost: the last digits of each pixel always are."""
    a, b = (v.astype(np.longdouble) for v in _pair(0))
    for function in _functions(name):
        function(a / 3, b / 3, **RANGE)
        with pytest.warns(imsim.PrecisionWarning, match="contrast of these float128"):
            function(a + 2**60, b + 2**60, **RANGE)
    with pytest.warns(imsim.PrecisionWarning):  # of images that are constant, too
        METRICS[name].function(a * 0 + 2**60 + 1, a * 0 + 2**60, **RANGE)
    METRICS[name].function(a * 0 + 0.1, a * 0 + np.longdouble(0.1), **RANGE)
    with pytest.warns(imsim.PrecisionWarning) as told:
        imsim.compare(a + 2**60, b + 2**60, [name], **RANGE)
    assert len(told) == 1


def test_compare_says_it_once() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        imsim.compare(*_pair(), **RANGE)
    assert [one.category for one in told] == [imsim.PrecisionWarning]
    assert told[0].filename == __file__
    imsim.compare(*_pair(), ["se", "psnr"], **RANGE)


@pytest.mark.parametrize("name", ["ssim", "sre"])
def test_blocks_say_it_once(name: str) -> None:
    a, b = (np.tile(v, (8, 20)) for v in _pair())
    for function in _functions(name):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            function(Stored(a), Stored(b), memory=1_000_000, **RANGE)
        assert [one.category for one in told] == [imsim.PrecisionWarning]
        assert told[0].filename == __file__


def test_regions_say_it_of_what_is_labelled() -> None:
    a, b = _pair()
    labels = np.zeros(SHAPE, int)
    labels[:20] = 1
    with pytest.warns(imsim.PrecisionWarning) as told:
        imsim.regions(a, b, labels, ["zncc", "uiq", "se"])
    assert len(told) == 1
    imsim.regions(a, b, labels, ["se", "rmse"])
    a[:20], b[:20] = _pair(0)[0][:20], _pair(0)[1][:20]
    imsim.regions(a, b, labels, ["zncc", "uiq"])


def test_the_command_notes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(tmp_path / f"{k}.npy") for k in "ab"]
    for file, image in zip(files, _pair(shape=LARGE), strict=True):
        np.save(file, image)
    call = [*files, "--data-range", "255", "--metrics"]
    for memory in ([], ["--memory", "100kB"]):
        _, said = compared(capsys, *call, "zncc,ssim", *memory)
        assert [line for line in said if "b.npy: integers inside the mask have more" in line]
        _, said = compared(capsys, *call, "se,psnr", *memory)
        assert not [line for line in said if "digits" in line]

    assert main(["report", *files, "--data-range", "255", "-o", str(tmp_path / "page.html")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "integers inside the mask have more" in line]) == 1
