"""What is not finite inside the mask never scores: NaN for that image, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import array_api_strict
import numpy as np
import pytest
from sampling import DEFAULTS, MAPS, SCORES, Variant, each_of_some, frame, textured_pair

import imsim

thorough = pytest.mark.thorough
# Odd: the last row and column belong to incomplete cells of coarser grids.
FRAME = tuple(side + 1 - side % 2 for side in frame(25, 27))
MASK = np.zeros(FRAME, dtype=bool)
MASK[2:19, 3:21] = True
MASK[9:11, 9:11] = False
MASK[-1, -1] = True  # no window whose centre is used reads it
each_map = pytest.mark.parametrize("variant", MAPS, ids=lambda v: v.id)


@pytest.fixture(params=["auto", "portable"])
def engines(request: pytest.FixtureRequest) -> Iterator[str]:
    from imsim import engine

    before = engine._engine
    imsim.set_engine(request.param)
    yield request.param
    engine._engine = before


def whole(i: int, j: int) -> Callable[[np.ndarray, np.ndarray, float], None]:
    def spoil(a: np.ndarray, b: np.ndarray, value: float) -> None:
        a[i, j] = value

    return spoil


def in_the_second_image(a: np.ndarray, b: np.ndarray, value: float) -> None:
    b[12, 12] = value


def in_both(a: np.ndarray, b: np.ndarray, value: float) -> None:
    a[12, 12] = b[12, 12] = value


def of_opposite_signs(a: np.ndarray, b: np.ndarray, value: float) -> None:
    a[12, 12], b[12, 12] = value, -value


def next_to_a_constant(a: np.ndarray, b: np.ndarray, value: float) -> None:
    a[5, 5] = value
    b[...] = 1


def next_to_black(a: np.ndarray, b: np.ndarray, value: float) -> None:
    a[5, 5] = value
    b[...] = 0


def in_a_constant(a: np.ndarray, b: np.ndarray, value: float) -> None:
    a[...] = b[...] = 1
    a[5, 5] = value


def next_to_a_zero_vector(a: np.ndarray, b: np.ndarray, value: float) -> None:
    a[5, 5] = value
    b[5, 5] = 0


def everywhere(a: np.ndarray, b: np.ndarray, value: float) -> None:
    a[...] = value


def everywhere_in_both(a: np.ndarray, b: np.ndarray, value: float) -> None:
    """No window beside them differs from one that is constant."""
    a[...] = b[...] = value


def in_one_channel(a: np.ndarray, b: np.ndarray, value: float) -> None:
    a.reshape(*FRAME, -1)[5, 5, -1] = value


INSIDE = {
    "inside": whole(12, 13),
    "beside the edge of the mask": whole(2, 3),
    "beside a hole of the mask": whole(8, 10),
    "lone pixel of the mask": whole(-1, -1),
    "second image": in_the_second_image,
    "both images": in_both,
    "opposite signs": of_opposite_signs,
    "flat partner": next_to_a_constant,
    "black partner": next_to_black,
    "constant": in_a_constant,
    "zero vector": next_to_a_zero_vector,
    "everywhere": everywhere,
    "everywhere in both": everywhere_in_both,
    "one channel": in_one_channel,
}
BORDERS = {
    "corner": whole(0, 0),
    "last corner": whole(-1, -1),
    "last row": whole(-1, 12),
    "last column": whole(12, -1),
    "first row": whole(0, 12),
}


def spoilt(
    a: np.ndarray, b: np.ndarray, mask: np.ndarray | None, *values: float
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each kind of place with each value; infinity has either sign by turns."""
    places = {**INSIDE, **BORDERS} if mask is None else INSIDE
    for number, (name, spoil) in enumerate(places.items(), mask is not None):
        for value in (-v if v == np.inf and number % 2 else v for v in values):
            x, y = a.copy(), b.copy()
            spoil(x, y, value)
            yield f"{value} {name}", x, y


@each_of_some(SCORES, "float64", "float32")
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")  # black images have no angle
def test_score_is_nan(
    variant: Variant, mask: np.ndarray | None, dtype: str, rng: np.random.Generator
) -> None:
    """One by one: a look at the pixels for one image of a batch would find those of others."""
    a, b = (i.astype(dtype) for i in textured_pair(rng, *FRAME, colour=variant.colour))
    for name, x, y in spoilt(a, b, mask, np.inf if dtype == "float64" else np.nan):
        assert np.isnan(variant(x, y, mask=mask)), name


@each_of_some(SCORES, "float64", "float32")
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")
def test_others_of_the_batch_keep_theirs(
    variant: Variant,
    mask: np.ndarray | None,
    dtype: str,
    engines: str,
    rng: np.random.Generator,
) -> None:
    if engines == "portable" and dtype == "float32":
        return  # formulas have one code for all dtypes
    a, b = (i.astype(dtype) for i in textured_pair(rng, *FRAME, colour=variant.colour))
    pairs = [(x, y) for _, x, y in spoilt(a, b, mask, np.nan, np.inf)]
    batch = variant(*map(np.stack, zip((a, b), *pairs, (a, b), strict=True)), mask=mask)
    assert np.isnan(batch[1:-1]).all()
    assert batch[0] == batch[-1] == variant(a, b, mask=mask)


@pytest.mark.parametrize("variant", DEFAULTS, ids=lambda v: v.id)
def test_in_a_pixel_of_weights_and_volumes_that_no_window_reads(
    variant: Variant, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, *FRAME)
    a[-1, -1] = np.inf
    metric = imsim.METRICS[variant.metric]
    if not metric.no_weights:
        assert np.isnan(variant(a, b, weights=1.5 * MASK))
    if metric.volumes:
        planes = max(25, min(a.shape))  # a new metric may need more
        volume, other = (np.repeat(image[None], planes, axis=0) for image in (a, b))
        volume[:-1] = other[:-1]
        mask = np.repeat(MASK[None], planes, axis=0)
        mask[19:-1] = False
        mask[-1, :-1] = False
        assert np.isnan(variant(volume, other, mask=mask, ndim=3))


def reach(variant: Variant) -> int:
    """How many positions along an axis may read one pixel, at most."""
    defaults = {"ssim": 11, "zncc": 9, "uiq": 8, "gmsd": 6, "se": 1, "sam": 1, "imed": 19}
    if "sigma" in variant.options:
        return int(18 * variant.options["sigma"]) + 1
    side = variant.options.get("window_size", variant.options.get("block_size"))
    return side or defaults.get(variant.metric, 1000)


@each_map
@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_map_is_nan_where_it_reads_them(
    variant: Variant, mask: np.ndarray | None, engines: str, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    unspoilt = variant(a, b, mask=mask)
    instead: dict[str, list[np.ndarray]] = {}
    pairs, maps = [(a, b)], [unspoilt]
    for name, x, y in spoilt(a, b, mask, np.nan, *([np.inf] if engines == "auto" else [])):
        # With two numbers instead, positions that read the pixel differ.
        place = name.split(" ", 1)[1]
        if place not in instead:
            instead[place] = [
                variant(*(np.where(np.isfinite(i), i, number) for i in (x, y)), mask=mask)
                for number in (0.0, 99.0)
            ]
        zeros, numbers = instead[place]
        got = variant(x, y, mask=mask)
        read = ~np.isclose(zeros, numbers, rtol=1e-9, atol=1e-9)  # more than rounding
        assert np.isnan(got[read]).all(), name
        kept = ~np.isnan(got)
        np.testing.assert_array_equal(got[kept], zeros[kept], err_msg=name)
        if "everywhere" in name:
            assert not kept.any()
        else:
            more = ~kept & ~np.isnan(numbers)
            # A black pixel may have no value, nor a cell that lies in part outside the mask.
            assert more.any() or name.endswith(("zero vector", "black partner", "the mask")), name
            for places in np.nonzero(more):
                assert places.size == 0 or np.ptp(places) < reach(variant), name
        pairs.append((x, y))
        maps.append(got)
    batch = variant(*map(np.stack, zip(*pairs, strict=True)), mask=mask)
    np.testing.assert_array_equal(batch, maps)


@pytest.mark.parametrize("variant", DEFAULTS, ids=lambda v: v.id)
def test_in_a_later_part_of_a_large_frame(variant: Variant) -> None:
    """Kernels cut frames into runs and strips; the witness of each has to reach the engine."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 255, (2, 570, 500))
    mask = np.ones(a.shape, dtype=bool)
    mask[:560] = False
    a[-1, -1] = np.nan
    assert np.isnan(variant(a, b))
    assert np.isnan(variant(a, b, mask=mask))
    a[-1, -1], b[0, 0], mask[-1, -1] = 0, np.inf, False
    assert np.isnan(variant(a, b))
    assert np.isfinite(variant(a, b, mask=mask))


def test_overflow_is_not_taken_for_infinity() -> None:
    x, y = np.full((2, 16, 16), 1e200)
    y[0, 0] = -1e200
    assert imsim.se(x, y) == np.inf
    got = imsim.se_map(x, y)
    assert got[0, 0] == np.inf
    assert np.count_nonzero(got) == 1


def test_wider_floats_that_become_infinite() -> None:
    x = np.ones((16, 16), np.longdouble)
    if np.finfo(np.longdouble).max <= np.finfo(np.float64).max:
        pytest.skip("long double is float64 on this machine")
    x[0, 0] = np.finfo(np.longdouble).max
    assert np.isnan(imsim.rmse(x, x))
    assert np.isnan(imsim.fsim(x, np.ones((16, 16)), data_range=1))


PORTABLE = [v for v in (*DEFAULTS, *MAPS) if not imsim.METRICS[v.metric].numpy_only]


@pytest.mark.parametrize("variant", PORTABLE, ids=lambda v: v.id)
def test_in_strict_arrays(variant: Variant, rng: np.random.Generator) -> None:
    xp = array_api_strict
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    for name in ("flat partner", "zero vector", "both images"):
        x, y = a.copy(), b.copy()
        INSIDE[name](x, y, np.inf)
        for mask in (None, MASK) if name == "both images" else (None,):
            want = variant(x, y, mask=mask)
            got = variant(*map(xp.asarray, (x, y)), mask=None if mask is None else xp.asarray(mask))
            np.testing.assert_array_equal(np.isnan(np.asarray(got)), np.isnan(want))


@pytest.mark.parametrize(
    "name",
    ["sam", "ssim", *(pytest.param(n, marks=thorough) for n in ("se", "zncc_map", "uiq_map"))],
)
def test_in_traced_arrays(name: str, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    b[...], a[5, 5] = 1, np.nan
    function = getattr(imsim, name)
    options = {"data_range": 255.0} if name == "ssim" else {}
    want = function(a, b, **options)
    jax = pytest.importorskip("jax", reason="JAX is an optional array library")
    got = jax.jit(lambda x, y: function(x, y, **options))(
        jax.numpy.asarray(a), jax.numpy.asarray(b)
    )
    np.testing.assert_array_equal(np.isnan(np.asarray(got)), np.isnan(want))
    assert np.isnan(want).any()


@pytest.mark.parametrize("variant", SCORES, ids=lambda v: v.id)
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_in_the_only_window(variant: Variant, value: float) -> None:
    """No bound, no maximum drops it, whatever the pixels beside it."""
    metric = imsim.METRICS[variant.metric]
    side = max(metric.least_side, variant.options.get("window_size") or 3, 3)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        a, b = (rng.random(variant.shape(side, side)) for _ in "ab")
        (a, b)[seed % 2][0, 0] = value
        assert np.isnan(variant(a, b, data_range=1.0))
