"""polygon_mask(): the pixels whose centres lie inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import imsim

SQUARE = [(1, 2), (1, 5), (4, 5), (4, 2)]
TRIANGLE = [(0, 0), (0, 2), (2, 0)]


def test_rows_come_first_and_edges_count() -> None:
    want = np.zeros((6, 8), bool)
    want[1:5, 2:6] = True
    mask = imsim.polygon_mask((6, 8), SQUARE)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, want)


@pytest.mark.parametrize("turned", [False, True])
def test_any_form_and_either_direction(turned: bool) -> None:
    want = imsim.polygon_mask((6, 8), SQUARE)
    vertices = SQUARE[::-1] if turned else SQUARE
    for form in (vertices, tuple(vertices), np.array(vertices), np.array(vertices, np.float32)):
        np.testing.assert_array_equal(imsim.polygon_mask((np.int64(6), 8), form), want)
        np.testing.assert_array_equal(imsim.polygon_mask([6, 8], form), want)


@given(st.integers(0, 2**32 - 1))
def test_centres_inside_a_convex_polygon(seed: int) -> None:
    """A point lies inside a convex polygon if it is on one side of all edges."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    centre, radius = rng.uniform(-5, 30, 2), rng.uniform(2, 20)
    vertices = centre + radius * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    edges = np.roll(vertices, -1, axis=0) - vertices
    pixels = np.stack(np.mgrid[:24, :28], axis=-1)[..., None, :] - vertices
    side = edges[:, 0] * pixels[..., 1] - edges[:, 1] * pixels[..., 0]
    want = (side > 0).all(axis=-1) | (side < 0).all(axis=-1)
    sure = (abs(side) > 1e-9).all(axis=-1)
    if want.any():
        np.testing.assert_array_equal(imsim.polygon_mask((24, 28), vertices)[sure], want[sure])


def test_a_list_of_polygons_is_their_union() -> None:
    one, other = (imsim.polygon_mask((6, 8), p) for p in (SQUARE, TRIANGLE))
    for both in ([SQUARE, TRIANGLE], (np.array(SQUARE), TRIANGLE)):
        np.testing.assert_array_equal(imsim.polygon_mask((6, 8), both), one | other)
    np.testing.assert_array_equal(imsim.polygon_mask((6, 8), [SQUARE]), one)
    np.testing.assert_array_equal(imsim.polygon_mask((6, 8), np.array([SQUARE] * 2)), one)


def test_points_that_count_from_the_corner() -> None:
    """As labelme writes them: (x, y), the first pixel from 0 to 1."""
    points = [(2.0, 1.0), (6.0, 1.0), (6.0, 5.0), (2.0, 5.0)]
    mask = imsim.polygon_mask((6, 8), np.array(points)[:, ::-1] - 0.5)
    np.testing.assert_array_equal(mask, imsim.polygon_mask((6, 8), SQUARE))


@pytest.mark.parametrize("far", [1e3, 1e6, 2.0**31])
def test_vertices_far_outside_the_frame(far: float) -> None:
    """As of a half-plane, whose edge goes through the frame."""
    mask = imsim.polygon_mask((6, 8), [(-far, 2.5), (-far, far), (far, far), (far, 2.5)])
    np.testing.assert_array_equal(mask, np.broadcast_to(np.arange(8) > 2.5, (6, 8)))


def test_it_is_a_mask() -> None:
    a, b = np.random.default_rng(0).uniform(0, 255, (2, 6, 8))
    mask = imsim.polygon_mask(a.shape, SQUARE)
    np.testing.assert_allclose(imsim.se(a, b, mask=mask), ((a - b)[1:5, 2:6] ** 2).sum())


def test_an_empty_mask_is_said() -> None:
    with pytest.warns(imsim.EmptyMaskWarning, match=r"\(row, column\), not \(x, y\)"):
        mask = imsim.polygon_mask((6, 8), np.add(SQUARE, (0, 20)))
    assert mask.shape == (6, 8)
    assert not mask.any()


@pytest.mark.parametrize(
    ("vertices", "kind", "message"),
    [
        ([], imsim.ShapeError, "no list of points"),
        ([1, 2, 3], imsim.ShapeError, "no list of points"),
        (None, imsim.ShapeError, "no list of points"),
        ("polygon", imsim.ShapeError, "no list of points"),
        (np, imsim.ShapeError, "no list of points"),  # whose `shape` is a function
        (SQUARE[:2], imsim.MaskError, "2 vertices; a polygon needs at least 3"),
        ([(1, 2, 3)] * 4, imsim.ShapeError, r"shape \(4, 3\)"),
        ([SQUARE, SQUARE[:2]], imsim.MaskError, r"vertices\[1\] has 2 vertices"),
        ([SQUARE, []], imsim.ImsimError, r"vertices\[1\]"),
        ([*SQUARE, (np.nan, 1)], imsim.MaskError, "not finite"),
        ([*SQUARE, (1, np.inf)], imsim.MaskError, "not finite"),
        ([*SQUARE, (1e30, 1)], imsim.MaskError, "size 1e[+]30.*clip the polygon"),
        ([*SQUARE, (1, -1e308)], imsim.MaskError, "size 1e[+]308"),
        ([("a", "b")] * 3, imsim.DTypeError, "dtype"),
        ([(1j, 2)] * 3, imsim.DTypeError, "complex"),
        ([(1, 2), (3,), (4, 5)], imsim.ShapeError, "rectangular"),
    ],
)
def test_bad_vertices(vertices: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        imsim.polygon_mask((6, 8), vertices)


@pytest.mark.parametrize(
    "shape", [(6,), (6, 8, 3), 6, None, "68x", (6.0, 8), (0, 8), (True, 8), (8, 2**40), (10**30, 8)]
)
def test_bad_shapes(shape: Any) -> None:
    with pytest.raises(imsim.ImsimError, match="shape"):
        imsim.polygon_mask(shape, SQUARE)
