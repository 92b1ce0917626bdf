"""FSIM and its gradient at once: one set of transforms for both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from derivatives import gradients, pair_of, score
from sampling import blob_mask
from test_fsim_gradient import smooth_pair

from imsim.derivatives import Gradient
from imsim.kernels.gradients import fsim as fsim_gradient
from imsim.kernels.gradients.fsim import scored_gradient
from imsim.registry import METRICS
from imsim.validation import check_images


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "chromatic"),
    [((2, 1, 40, 41), False), ((3, 33, 30), True), ((2, 390, 400), False)],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_score_that_comes_with_it_is_the_same(
    rng: Any, shape: tuple[int, ...], chromatic: bool, is_masked: bool, dtype: Any
) -> None:
    x, y = (v.astype(dtype) for v in smooth_pair(rng, shape))
    mask = blob_mask(rng, *shape[-2:], 0.8) if is_masked else None
    pair = pair_of(x, y, mask)
    scores, found = scored_gradient(pair, (True, True), chromatic)
    want = score("fsim", x, y, mask, chromatic=chromatic)
    np.testing.assert_array_equal(scores.values.mean(axis=-1), want)
    for got, again in zip(found, gradients("fsim", x, y, mask, chromatic=chromatic), strict=True):
        np.testing.assert_array_equal(got, again)


def test_what_came_with_the_score_is_scaled(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reference for two images; one image has no score, and no gradient."""
    a, b = smooth_pair(rng, (2, 24, 25))
    a = a[:1]
    b[1, 3, 4] = np.nan

    def scored(a: Any, b: Any, mask: Any, data_range: Any, at_once: Any) -> Any:
        images = check_images(a, b, data_range=data_range, channel_axis=None)
        return at_once(images, mask, chromatic=False).values.mean(axis=-1)

    call = Gradient(METRICS["fsim"], scored, {"channel_axis": None, "ndim": 2, "chromatic": False})
    scores, ahead = call.with_scores((a, b, None, 1.0), (True, True))
    assert np.isnan(scores).tolist() == [False, True]
    assert ahead is None
    given, weights = (a, b[:1], None, 1.0), np.array([3.0])
    scores, ahead = call.with_scores(given, (True, False))
    assert ahead is not None
    want = call(given, weights, (True, False), scores)
    monkeypatch.setattr(fsim_gradient, "_pool_back", None)  # nothing is computed again
    got = call(given, weights, (True, False), scores, ahead)
    assert got is not None
    assert want is not None
    assert got[1] is None
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
