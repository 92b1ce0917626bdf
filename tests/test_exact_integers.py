"""Integers are exact, also those that no float holds; options of any numeric type."""

from __future__ import annotations

import inspect
from typing import Any

import array_api_strict
import numpy as np
import pytest
from engines import by_both

import imsim

BIG = 2**60
OF_DIFFERENCES = [name for name, metric in imsim.METRICS.items() if metric.of_differences]


@pytest.mark.parametrize(
    ("dtype", "other"),
    [(np.int64, np.int64), (np.uint64, np.uint64), (np.int64, np.uint64), (np.int64, np.float64)],
    ids=str,
)
def test_large_integers(rng: Any, dtype: Any, other: Any) -> None:
    apart = rng.integers(1, 200, (4, 5))
    x, y = (apart + BIG).astype(dtype), np.full(apart.shape, BIG, other)
    for a, b, d in ((x, y, apart), (y, x, -apart)):
        for name in OF_DIFFERENCES:
            metric = imsim.METRICS[name]
            call = {"data_range": 255}
            want = metric.function(d.astype(float), np.zeros(d.shape), **call)
            for got in by_both(metric.function, a, b, **call):
                assert got == pytest.approx(want, rel=1e-14), name
            if metric.map_function is None:
                continue
            want = metric.map_function(d.astype(float), np.zeros(d.shape), **call)
            for got in by_both(metric.map_function, a, b, **call):
                np.testing.assert_allclose(got, want, rtol=1e-13, err_msg=name)
        strict = [array_api_strict.asarray(v) for v in (a, b)]
        assert float(imsim.se(*strict)) == (d**2).sum()


def test_ends_of_integers() -> None:
    assert by_both(imsim.se, [[BIG + 1]], [[BIG]]) == (1, 1)
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    ends = {np.int64: (low, high), np.uint64: (0, 2**64 - 1)}
    for dtype, (least, most) in ends.items():
        x = np.array([[least, most, most]], dtype)
        y = np.array([[most, least, most - 3]], dtype)
        want = 2 * float(most - least) ** 2 + 9
        assert by_both(imsim.se, x, y) == (want, want)
        assert by_both(imsim.se, x[:, 2:], y[:, 2:]) == (9, 9)
    signed = np.array([[-1, high, BIG + 1]])
    unsigned = np.array([[2**64 - 1, high, BIG]], np.uint64)
    for got in by_both(imsim.se_map, signed, unsigned):
        np.testing.assert_array_equal(got, [[2.0**128, 0, 1]])


def test_options_as_numpy_scalars() -> None:
    """Of any width: a narrow type must not overflow, nor be asked for more than it holds."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 255, (2, 3, 24, 24))
    functions = [m.function for m in imsim.METRICS.values()]
    functions += [m.map_function for m in imsim.METRICS.values() if m.map_function]
    for function in functions:
        options = inspect.signature(function).parameters
        for name, option in options.items():
            types: tuple[Any, ...] = ()
            if isinstance(option.default, float) or name == "data_range":
                types = (np.float16, np.float32, np.float64)
            elif isinstance(option.default, int) and not isinstance(option.default, bool):
                types = (np.int8, np.uint16)
            elif isinstance(option.default, bool):
                types = (np.bool_,)
            for kind in types:
                value = kind(255 if name == "data_range" else option.default)
                call: dict[str, Any] = {"data_range": 255, "channel_axis": 0}
                want = function(x, y, **{**call, name: value.item()})
                got = function(x, y, **{**call, name: value})
                np.testing.assert_array_equal(got, want, err_msg=f"{function.__name__} {name}")
    assert np.isfinite(imsim.imed(x, y, sigma=np.float32(1.2))).all()
