"""Choosing the engine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from engines import by_both

import imsim


@pytest.fixture(autouse=True)
def _restored(request: pytest.FixtureRequest) -> Iterator[None]:
    from imsim import engine

    before = engine._engine
    yield
    engine._engine = before


def test_unknown_engine() -> None:
    with pytest.raises(imsim.OptionError, match=r"engine='gpu'.*'auto', 'portable', 'fast'"):
        imsim.set_engine("gpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [m.name for m in imsim.METRICS.values() if m.kernel])
def test_kernel_and_formula_agree(name: str) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 255, (2, 32, 34))
    imsim.set_engine("fast")
    fast = imsim.METRICS[name].function(x, y, data_range=255)
    imsim.set_engine("portable")
    assert fast == pytest.approx(imsim.METRICS[name].function(x, y, data_range=255), rel=1e-12)


@pytest.mark.parametrize("name", sorted(imsim.METRICS))
def test_formula_does_not_depend_on_the_layout_of_the_mask(name: str) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 255, (2, 3, 32, 34))
    mask = rng.random((3, 32, 34)) < 0.9
    imsim.set_engine("portable")
    want = imsim.METRICS[name].function(x, y, mask=mask, data_range=255)
    for other in (np.asfortranarray(mask), mask[..., ::-1].copy()[..., ::-1]):
        got = imsim.METRICS[name].function(x, y, mask=other, data_range=255)
        np.testing.assert_array_equal(got, want)


def test_fast_engine_says_where_there_is_no_kernel() -> None:
    xp = pytest.importorskip("array_api_strict", reason="a test dependency; see the extra 'test'")
    image = xp.ones((16, 16))
    imsim.set_engine("fast")
    with pytest.raises(imsim.OptionError, match=r"no kernel for se.*set_engine\('auto'\)"):
        imsim.se(image, image)


def test_numpy_only_metrics_refuse_other_arrays() -> None:
    xp = pytest.importorskip("array_api_strict", reason="a test dependency; see the extra 'test'")
    image = xp.ones((16, 16))
    for name in ("issm", "sh"):
        with pytest.raises(imsim.DTypeError, match=rf"{name} takes NumPy arrays.*asarray"):
            imsim.METRICS[name].function(image, image, data_range=1)


@pytest.mark.parametrize("name", imsim.METRICS)
def test_every_order_of_magnitude(name: str, rng: np.random.Generator) -> None:
    """The engines agree from the smallest to the largest squares of squares, and beyond."""
    function = imsim.METRICS[name].function
    x = rng.random((14, 17))
    for y in (x + 0.2 * rng.normal(size=x.shape), rng.random(x.shape)):
        for power in range(-300, 306, 15):
            size = 10.0**power
            if name in {"se"} and abs(power) > 150:
                continue  # beyond float64
            want, got = by_both(function, x * size, y * size, data_range=1.0)
            # Logarithms and angles have a size of their own; what has units is relative.
            close = 1e-10 * (0.0 if imsim.METRICS[name].unit.startswith("I") else 1.0)
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=close, err_msg=str(power))
            assert np.isfinite(got)
