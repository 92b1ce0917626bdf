"""Counts of the pixels that differ, against definitions written as loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import imsim
from imsim.differing import counted

FEW = st.integers(0, 5)
DTYPES = [np.bool_, np.uint8, np.int16, np.uint64, np.int64, np.float16, np.float32, np.float64]


def far(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two pixels of whole numbers differ, by Python's integers."""
    return max(abs(int(u) - int(v)) for u, v in zip(one, other, strict=True)) > tolerance


def by_loops(a: Any, b: Any, mask: Any, tolerance: float, anti_aliasing: bool) -> Any:
    found = np.zeros(mask.shape, bool)
    for place in np.ndindex(*mask.shape):
        if not mask[place] or not far(a[place], b[place], tolerance):
            continue
        found[place] = True
        if anti_aliasing:
            steps = itertools.product((-1, 0, 1), repeat=mask.ndim)
            near = [tuple(np.add(place, step)) for step in steps]
            near = [q for q in near if min(q) >= 0 and all(np.less(q, mask.shape)) and mask[q]]
            found[place] = all(far(a[place], b[q], tolerance) for q in near) or all(
                far(b[place], a[q], tolerance) for q in near
            )
    return found


@st.composite
def pairs(draw: Any) -> Any:
    ndim = draw(st.sampled_from([2, 3]))
    shape = draw(st.tuples(*[st.integers(1, 5)] * ndim))
    channels = draw(st.integers(1, 2))
    images = [draw(hnp.arrays(np.int16, (*shape, channels), elements=FEW)) for _ in "ab"]
    return *images, draw(hnp.arrays(bool, shape)), draw(st.sampled_from([0, 0.5, 1, 3]))


@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")
@settings(max_examples=60, deadline=None)
@given(pairs(), st.booleans())
def test_the_definition(pair: Any, anti_aliasing: bool) -> None:
    a, b, mask, tolerance = pair
    options = {"tolerance": tolerance, "anti_aliasing": anti_aliasing, "ndim": mask.ndim}
    found = imsim.differing_pixels(a, b, mask=mask, channel_axis=-1, **options)
    want = by_loops(a, b, mask, tolerance, anti_aliasing)
    np.testing.assert_array_equal(found.where, want)
    assert found.count == want.sum() == found.sizes.sum()
    assert found.used == mask.sum()
    for box, size in zip(found.boxes, found.sizes, strict=True):
        inside = want[tuple(slice(*ends) for ends in box)]
        assert size <= inside.sum()
        for axis in range(mask.ndim):  # no box is larger than what it holds
            rows = inside.any(axis=tuple(set(range(mask.ndim)) - {axis}))
            assert rows[[0, -1]].all()


@settings(max_examples=30, deadline=None)
@given(pairs(), st.booleans(), st.randoms())
def test_pixels_outside_the_mask_change_nothing(
    pair: Any, anti_aliasing: bool, random: Any
) -> None:
    a, b, mask, tolerance = pair
    mask.flat[0] = True
    other = a.astype(np.float64), b.astype(np.float64)
    for image in other:
        image[~mask] = random.choice([np.nan, -9999.0, np.inf, 3.0])
    options = {"tolerance": tolerance, "anti_aliasing": anti_aliasing, "ndim": mask.ndim}
    found = imsim.differing_pixels(a, b, mask=mask, channel_axis=-1, **options)
    again = imsim.differing_pixels(*other, mask=mask, channel_axis=-1, **options)
    np.testing.assert_array_equal(found.where, again.where)
    assert found.largest == again.largest


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: Any) -> None:
    a = np.zeros((4, 5), dtype)
    b = a.copy()
    b[1, 2] = 1
    found = imsim.differing_pixels(a, b)
    assert (found.count, found.largest, found.parts) == (1, 1.0, 1)
    assert found.boxes.tolist() == [[[1, 2], [2, 3]]]


def test_wide_integers_are_exact() -> None:
    a = np.array([[2**63 - 1, -(2**63)]])
    assert imsim.differing_pixels(a, a - np.array([[1, 0]])).count == 1
    assert imsim.differing_pixels(a, a[:, ::-1]).largest == 2.0**64


@pytest.mark.parametrize("other", [np.int64, np.uint64, np.float64], ids=str)
@pytest.mark.parametrize("dtype", [np.int64, np.uint64], ids=str)
def test_what_no_float_holds_differs(dtype: Any, other: Any) -> None:
    """Also between two dtypes, which NumPy subtracts and compares as floats."""
    a, b = np.array([[2**60 + 1, 2**60]], dtype), np.full((1, 2), 2**60, other)
    for pair in ((a, b), (b, a)):
        found = imsim.differing_pixels(*pair)
        assert (found.where.tolist(), found.largest) == ([[True, False]], 1)


def test_what_is_not_finite() -> None:
    a = np.array([[np.nan, np.inf, np.inf, 0.0]])
    b = np.array([[np.nan, np.inf, -np.inf, 0.0]])
    found = imsim.differing_pixels(a, b, tolerance=1e9)
    assert found.where.tolist() == [[True, False, True, False]]
    assert found.largest == np.inf
    assert imsim.differing_pixels(a, b, mask=imsim.finite_mask(a, b)).largest == 0


def test_the_rule_of_anti_aliasing() -> None:
    """A line drawn one pixel away does not count; a line, or a dot, of one image does."""
    a = np.zeros((9, 9), np.uint8)
    a[:, 4] = 200
    assert imsim.differing_pixels(a, np.roll(a, 1, axis=1), anti_aliasing=True).count == 0
    assert imsim.differing_pixels(a, np.roll(a, 2, axis=1), anti_aliasing=True).count == 18
    empty = np.zeros_like(a)
    for pair in ((a, empty), (empty, a)):
        assert imsim.differing_pixels(*pair, anti_aliasing=True).count == 9
    # What lies outside the mask is no neighbour.
    mask = np.ones(a.shape, bool)
    mask[:, 5] = False
    moved = np.roll(a, 1, axis=1)
    assert imsim.differing_pixels(a, moved, mask=mask, anti_aliasing=True).count == 9


def test_an_empty_mask() -> None:
    a = np.zeros((3, 3))
    with pytest.warns(imsim.EmptyMaskWarning, match="uses no pixel"):
        found = imsim.differing_pixels(a, a + 1, mask=a > 0)
    assert (found.count, found.used, found.parts) == (0, 0, 0)
    assert np.isnan(found.share)


def test_every_count_has_a_record() -> None:
    a, b = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)
    found = {rule: imsim.differing_pixels(a, b, anti_aliasing=rule) for rule in (False, True)}
    numbers = counted(found, imsim.COUNTS)
    assert numbers.keys() == imsim.COUNTS.keys()
    assert not imsim.COUNTS.keys() & imsim.METRICS.keys()
    for name, number in numbers.items():
        low, high = imsim.COUNTS[name].bounds
        assert low <= number <= high
    assert (numbers["pixels"], numbers["pixel_share"], numbers["parts"]) == (4, 0.25, 1)


def test_mistakes() -> None:
    a = np.zeros((4, 4))
    with pytest.raises(imsim.ShapeError, match="a has shape"):
        imsim.differing_pixels(a, a[1:])
    with pytest.raises(imsim.ShapeError, match="differing_pixels takes one pair"):
        imsim.differing_pixels(np.zeros((2, 4, 5)), np.zeros((2, 4, 5)))
    for masks in (1, 2):
        with pytest.raises(imsim.MaskError, match=r"batch axes, \(\d,\), and differing_pixels"):
            imsim.differing_pixels(a, a, mask=np.ones((masks, 4, 4), bool))
    for wrong in (-1, np.nan, np.inf, "2"):
        with pytest.raises(imsim.OptionError, match="tolerance"):
            imsim.differing_pixels(a, a, tolerance=wrong)  # type: ignore[arg-type]
    with pytest.raises(imsim.OptionError, match="anti_aliasing=1"):
        imsim.differing_pixels(a, a, anti_aliasing=1)  # type: ignore[arg-type]


def test_results_can_be_told_apart() -> None:
    """Arrays have no truth; each result is itself."""
    a = np.eye(3)
    one, other = (imsim.differing_pixels(a, a.T) for _ in range(2))
    assert one == one
    assert len({one, other}) == 2
