"""The compiled gradient of a call: after the score, or at once with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from imsim import kernels
from imsim.finite import finite_pixels, prepared
from imsim.kernels.gradients import Gradients, like_image, per_image
from imsim.masks import check_mask
from imsim.portable.arrays import where_valid
from imsim.portable.pair import Scores
from imsim.registry import Metric
from imsim.typing import Array, MaskLike, Score
from imsim.validation import Images, check_images

OF_CHECKS = frozenset({"data_range", "channel_axis", "needs_data_range", "least_side"})
"""Arguments of a call that are no options of its formula."""


class Gradient:
    """The gradient of one call of a metric, of NumPy images; it remembers the call's arguments."""

    def __init__(self, facts: Metric, score: Callable[..., Score], arguments: Any) -> None:
        """`score(a, b, mask, at_once)` scores by a given kernel in place of the metric's."""
        self._facts, self._score, self._arguments = facts, score, arguments
        self._options = {key: v for key, v in arguments.items() if key not in OF_CHECKS}

    def __call__(
        self,
        a: Array,
        b: Array,
        mask: MaskLike | None,
        upstream: Array,
        wanted: tuple[bool, bool],
        ahead: Gradients | None = None,
    ) -> list[Array | None] | None:
        """Gradient of the sum of `upstream` times the score, for images that have a score already.

        `ahead` came with the score. None: no kernel computes it.
        """
        kernel = kernels.loaded(self._facts.gradient) if self._facts.gradient else None
        if kernel is None:
            return None
        images = self._images(a, b)
        weights = np.asarray(upstream, np.float64)
        if ahead is not None:
            scale = per_image(weights)
            with np.errstate(all="ignore"):
                x, y = (g if g is None else (g * scale).astype(g.dtype) for g in ahead)
            return self._like((x, y), a, b, images)
        valid = check_mask(mask, images)
        finite = finite_pixels(images, valid)
        if finite is not None:  # the score of the image is NaN, whatever its pixels are
            weights = where_valid(np.all(finite, axis=(-3, -2, -1)), weights)
        with np.errstate(all="ignore"):
            found = kernel(prepared(images, valid, finite), weights, wanted, **self._options)
        return None if found is None else self._like(found, a, b, images)

    def with_score(
        self, a: Array, b: Array, mask: MaskLike | None, wanted: tuple[bool, bool]
    ) -> tuple[Score, Gradients | None] | None:
        """Scores, and the gradients of their sum if these came with them.

        None: nothing is saved by computing both at once.
        """
        facts = self._facts
        both = kernels.loaded(facts.scored_gradient) if facts.scored_gradient else None
        if both is None:
            return None
        gradients: Gradients | None = None
        is_finite = True

        def at_once(images: Images, valid: Array | None, **options: Any) -> Scores | None:
            nonlocal gradients, is_finite
            # The engine calls again with 0 in place of NaN, for which no gradient is meant.
            is_finite = is_finite and finite_pixels(images, valid) is None
            found = both(prepared(images, valid, None), wanted, **options) if is_finite else None
            if found is None:
                usual = kernels.loaded(facts.kernel) if facts.kernel else None
                return None if usual is None else usual(images, valid, **options)
            scores: Scores
            scores, gradients = found
            return scores

        return self._score(a, b, mask, at_once), gradients

    def _images(self, a: Array, b: Array) -> Images:
        data_range, axis = self._arguments["data_range"], self._arguments["channel_axis"]
        return check_images(a, b, data_range=data_range, channel_axis=axis)

    def _like(self, found: Gradients, a: Array, b: Array, images: Images) -> list[Array | None]:
        """Give the gradients the shapes of the images."""
        return [
            None if g is None else like_image(g, image, view, self._arguments["channel_axis"])
            for g, image, view in zip(found, (a, b), (images.x, images.y), strict=True)
        ]
