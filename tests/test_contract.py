"""What every metric and map promises: signature, documentation, shapes, types, NaN."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, get_type_hints

import numpy as np
import pytest
from sampling import (
    COLOUR_OPTIONS,
    FRAME,
    MAP_COLOUR_OPTIONS,
    MAP_OPTIONS,
    MAPS,
    OPTIONS,
    SCORES,
    Variant,
    each_of_some,
    textured_pair,
)

import imsim

SHARED = ["mask", "weights", "data_range", "channel_axis"]
FUNCTIONS = [m.function for m in imsim.METRICS.values()] + [
    m.map_function for m in imsim.METRICS.values() if m.map_function is not None
]
each_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
each_score = pytest.mark.parametrize("variant", SCORES, ids=lambda v: v.id)
each_map = pytest.mark.parametrize("variant", MAPS, ids=lambda v: v.id)
each_variant = pytest.mark.parametrize("variant", [*SCORES, *MAPS], ids=lambda v: v.id)


@each_function
def test_signature(function: Callable[..., Any]) -> None:
    assert inspect.isfunction(function)
    assert not hasattr(function, "__wrapped__")
    parameters = list(inspect.signature(function).parameters.values())
    assert [p.name for p in parameters[:6]] == ["a", "b", *SHARED]
    assert all(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters[:2])
    assert all(p.default is None for p in parameters[2:6])
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
    assert all(p.default is not p.empty for p in parameters[2:])


@pytest.mark.parametrize("name", [n for n in imsim.__all__ if inspect.isfunction(vars(imsim)[n])])
def test_annotations(name: str) -> None:
    """Tools that check or convert arguments by them can read all of them as they run."""
    function = getattr(imsim, name)
    assert get_type_hints(function).keys() == {*inspect.signature(function).parameters, "return"}


def _section(doc: str, title: str) -> str:
    """Return the text of a numpydoc section, up to the next underlined title."""
    match = re.search(
        rf"^{title}\n-{{{len(title)}}}\n(.*?)(?=^\S[^\n]*\n-{{3,}}$|\Z)", doc, re.M | re.S
    )
    assert match is not None, f"no section {title}"
    return match[1]


@each_function
def test_docstring(function: Callable[..., Any]) -> None:
    doc = inspect.getdoc(function)
    assert doc is not None
    summary = doc.split("\n\n")[0]
    assert summary.endswith(".")
    own = [] if function.__name__.endswith("_map") else ["Raises"]  # a map raises what they do
    for title in ("Parameters", "Returns", *own, "Examples"):
        assert _section(doc, title).strip()
    assert ">>> " in _section(doc, "Examples")
    names = re.findall(r"^(\w[\w, ]*)(?: :.*)?$", _section(doc, "Parameters"), re.M)
    documented = [name.strip() for group in names for name in group.split(",")]
    assert documented == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("metric", imsim.METRICS.values(), ids=lambda m: m.name)
def test_docstring_names_the_source(metric: imsim.Metric) -> None:
    doc = inspect.getdoc(metric.function)
    assert doc is not None
    assert _section(doc, "References").strip()


def test_public_names() -> None:
    assert sorted(imsim.__all__) == sorted(set(imsim.__all__))
    for name in imsim.__all__:
        assert getattr(imsim, name) is not None
    expected = {f.__name__ for f in FUNCTIONS} | {
        *("METRICS", "Metric", "compare", "finite_mask", "issm_components"),
        *("EmptyMaskWarning", "ImsimError", "ShapeError", "DataRangeError", "MaskError"),
        *("MaskTypeError", "DTypeError", "OptionError"),
    }
    assert expected <= set(imsim.__all__)


def test_error_classes() -> None:
    errors = (imsim.ShapeError, imsim.DataRangeError, imsim.MaskError, imsim.OptionError)
    for error in (*errors, imsim.MaskTypeError, imsim.DTypeError):
        assert issubclass(error, imsim.ImsimError)
    assert issubclass(imsim.ImsimError, ValueError)
    assert issubclass(imsim.MaskTypeError, imsim.MaskError)
    assert issubclass(imsim.MaskTypeError, TypeError)
    assert issubclass(imsim.DTypeError, TypeError)
    assert issubclass(imsim.EmptyMaskWarning, Warning)


@pytest.mark.parametrize("metric", imsim.METRICS.values(), ids=lambda m: m.name)
def test_least_side(metric: imsim.Metric, rng: np.random.Generator) -> None:
    """As many pixels a side as the record says are enough, and fewer are refused."""
    sides = {metric.function: metric.least_side}
    if metric.map_function and not metric.map_needs_channels:
        sides[metric.map_function] = metric.map_least_side
    for function, side in sides.items():
        longer = max(side, metric.least_longer_side)
        x = rng.random((side, longer))
        assert np.shape(function(x, x, data_range=1)) in {(), x.shape}
        for small in (x[: side - 1], x[:, : longer - 1]):
            if small.size:
                with pytest.raises(imsim.ShapeError, match=f"{metric.name} needs at least"):
                    function(small, small, data_range=1)


def test_options_are_those_of_metrics() -> None:
    for options in (OPTIONS, COLOUR_OPTIONS, MAP_OPTIONS, MAP_COLOUR_OPTIONS):
        assert options.keys() <= imsim.METRICS.keys()


def test_import_is_light() -> None:
    code = (
        "import sys, imsim\n"
        "heavy = {'numba', 'jax', 'torch', 'skimage', 'pywt', 'matplotlib', 'PIL', 'tifffile'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@each_score
def test_score_of_a_single_pair(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    for dtype in variant.some(np.float64, np.float32, np.uint8):
        score = variant(a.astype(dtype), b.astype(dtype))
        assert type(score) is np.float64
        assert np.isfinite(score)


@each_score
def test_score_of_a_batch(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2, 3))
    scores = variant(a, b)
    assert isinstance(scores, np.ndarray)
    assert scores.shape == (2, 3)
    assert scores.dtype == np.float64
    one = variant(a[:1, :1], b[:1, :1])
    assert isinstance(one, np.ndarray)
    assert one.shape == (1, 1)


@each_of_some(MAPS, np.float64, np.float32, np.float16, np.uint8)
def test_map(variant: Variant, dtype: type, rng: np.random.Generator) -> None:
    a, b = (i.astype(dtype) for i in textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,)))
    local = variant(a, b)
    assert isinstance(local, np.ndarray)
    assert local.shape == (2, *FRAME)
    assert local.dtype == (np.float64 if dtype in {np.float64, np.uint8} else np.float32)
    assert local.flags.writeable
    assert np.isfinite(local[:, 12, 13]).all()
    assert variant(a[0], b[0]).shape == FRAME


@each_variant
def test_batch_is_a_loop(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2, 3))
    want = [[variant(a[i, j], b[i, j]) for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(variant(a, b), want)
    np.testing.assert_array_equal(variant(a[:, ::-1], b[:, ::-1]), np.asarray(want)[:, ::-1])


@each_variant
def test_leading_axes_broadcast(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2, 3))
    one_against_many = [[variant(a[0, 0], b[i, j]) for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(variant(a[0, 0], b), one_against_many)
    many_against_one = [variant(a[0, j], b[0, 0]) for j in range(3)]
    np.testing.assert_array_equal(variant(a[0], b[0, 0]), many_against_one)
    crossed = [[variant(a[i, 0], b[0, j]) for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(variant(a[:, :1], b[0]), crossed)


@each_score
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_in_gives_nan(variant: Variant, bad: float, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,))
    place = (1, 9, 11, 1) if variant.colour else (1, 9, 11)
    want = variant(a[0], b[0])
    for spoilt in ((True, False), (False, True), (True, True)):
        x, y = (image.copy() for image in (a, b))
        for image, hit in zip((x, y), spoilt, strict=True):
            image[place] = bad if hit else image[place]
        score = variant(x, y)
        assert score[0] == want
        assert np.isnan(score[1])
        assert np.isnan(variant(x[1], y[1], mask=np.ones(FRAME, dtype=bool)))


@each_map
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_shows_in_the_map(
    variant: Variant, bad: float, rng: np.random.Generator
) -> None:
    """At the pixel or beside it: a gradient at a pixel is made of its neighbours alone."""
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    a[10, 12] = bad
    assert not np.all(np.isfinite(variant(a, b)[8:13, 10:15]))


@pytest.mark.parametrize("metric", imsim.METRICS.values(), ids=lambda m: m.name)
def test_data_range_matters_where_the_record_says_so(
    metric: imsim.Metric, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, *FRAME)
    scores = [metric.function(a, b, data_range=v) for v in (255, 300.5)]
    assert (scores[0] != scores[1]) == metric.needs_data_range
    if not metric.needs_data_range:
        assert metric.function(a, b) == scores[0]
        integers = [image.astype(np.uint16) for image in (a, b)]
        want = metric.function(*(image.astype(np.float64) for image in integers))
        assert metric.function(*integers) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("name", [m.name for m in imsim.METRICS.values() if m.needs_data_range])
def test_data_range_defaults(name: str, rng: np.random.Generator) -> None:
    function = imsim.METRICS[name].function
    a, b = (image.astype(np.uint8) for image in textured_pair(rng, *FRAME))
    assert function(a, b) == function(a, b, data_range=255)
    assert function(a, b) != function(a, b, data_range=a.max() - a.min())
    p, q = a > 120, b > 120
    assert function(p, q) == function(p, q, data_range=1)
    assert function(a, b) == function(a, b, data_range=np.float32(255))
    assert function(a, b) == function(a, b, data_range=np.asarray(255))


@each_variant
def test_channel_axis_anywhere(variant: Variant, rng: np.random.Generator) -> None:
    if not variant.colour:
        variant = Variant(variant.metric, variant.options, variant.is_map, colour=True)
    a, b = textured_pair(rng, *FRAME, colour=True, batch=(2,))
    want = variant(a, b)
    for axis in range(-4, 4):
        moved = [np.moveaxis(image, -1, axis) for image in (a, b)]
        got = variant(*moved, channel_axis=axis)
        np.testing.assert_array_equal(got, want, err_msg=f"channel_axis={axis}")


@each_variant
def test_without_a_name_an_axis_is_no_channel(variant: Variant, rng: np.random.Generator) -> None:
    """A leading axis of length 3 is a batch of three images unless channel_axis names it."""
    if variant.colour:
        variant = Variant(variant.metric, is_map=variant.is_map)
    if variant.is_map and imsim.METRICS[variant.metric].map_needs_channels:
        with pytest.raises(imsim.OptionError, match="channel_axis"):
            variant(np.ones((3, *FRAME)), np.ones((3, *FRAME)))
        return
    a, b = textured_pair(rng, *FRAME, batch=(3,))
    assert variant(a, b).shape[0] == 3
