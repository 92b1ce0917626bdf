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
from imsim.tensors import Given
from imsim.typing import Array, Score
from imsim.validation import Images, check_images, in_canonical_order

OF_CHECKS = frozenset({"channel_axis", "ndim", "needs_data_range", "least_side"})
"""Arguments of a call that are no options of its formula."""
Wanted = tuple[bool, bool]
"""Whether a gradient with respect to a, and to b, is asked for."""


class Gradient:
    """The gradient of one call of a metric for NumPy arrays."""

    def __init__(self, facts: Metric, score: Callable[..., Score], arguments: Any) -> None:
        """`score(*given, at_once=None)` scores by a given kernel in place of the metric's."""
        self._facts, self._score = facts, score
        self.channel_axis: int | None = arguments["channel_axis"]
        self.ndim: int = arguments["ndim"]
        self._options = {key: v for key, v in arguments.items() if key not in OF_CHECKS}

    def __call__(
        self,
        given: Given,
        upstream: Array,
        wanted: Wanted,
        scores: Score,
        ahead: Gradients | None = None,
    ) -> list[Array | None] | None:
        """Return the gradient of the sum of `upstream` times `scores`, those of the images.

        `ahead` is what `with_scores` has found. None: no kernel computes the gradient.
        """
        images = self._images(given)
        if ahead is None:
            found = self._of(images, given, np.asarray(upstream, np.float64), wanted, scores)
        else:
            scale = per_image(np.asarray(upstream, np.float64))
            x, y = (g if g is None else _scaled(g, scale) for g in ahead)
            found = (x, y)
        if found is None:
            return None
        return [
            None if g is None else like_image(g, image, view, self.channel_axis, images.depth)
            for g, image, view in zip(found, given[:2], (images.x, images.y), strict=True)
        ]

    def with_scores(self, given: Given, wanted: Wanted) -> tuple[Score, Gradients | None]:
        """Return scores, and the gradient of their sum, (..., channels, height, width).

        No gradient: to compute both at once would save no work.
        """
        facts = self._facts
        both = kernels.loaded(facts.scored_gradient) if facts.scored_gradient else None
        if both is None:
            return self._score(*given), None
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

        return self._score(*given, at_once=at_once), gradients

    def of_each(self, given: Given, wanted: Wanted) -> tuple[Score, Gradients | None]:
        """Return scores, and the gradient of each, (..., channels, height, width).

        No gradient: no kernel computes it.
        """
        scores, found = self.with_scores(given, wanted)
        if found is None:
            images = self._images(given)
            found = self._of(images, given, np.ones(np.shape(scores)), wanted, scores)
        return scores, found

    def in_order(self, image: Array, xp: Any) -> Array:
        """Return an array of the shape of an image in the order of the gradients."""
        return in_canonical_order("a", image, self.channel_axis, xp, int(self.ndim))

    def _images(self, given: Given) -> Images:
        a, b, _, data_range = given
        return check_images(
            a, b, data_range=data_range, channel_axis=self.channel_axis, ndim=self.ndim
        )

    def _of(
        self, images: Images, given: Given, upstream: Array, wanted: Wanted, scores: Score
    ) -> Gradients | None:
        kernel = kernels.loaded(self._facts.gradient) if self._facts.gradient else None
        if kernel is None:
            return None
        valid = check_mask(given[2], images)
        # A score is a number only if every pixel inside the mask is.
        finite = None if np.isfinite(scores).all() else finite_pixels(images, valid)
        if finite is not None:  # the score of the image is NaN, whatever its pixels are
            upstream = where_valid(np.all(finite, axis=(-3, -2, -1)), upstream)
        with np.errstate(all="ignore"):
            found: Gradients | None = kernel(
                prepared(images, valid, finite), upstream, wanted, **self._options
            )
        if found is None or valid is None or np.isfinite(upstream).all():
            return found
        # Infinity from above times the 0 outside the mask is NaN.
        x, y = (g if g is None else where_valid(valid, g) for g in found)
        return x, y


def _scaled(gradient: Array, scale: Array) -> Array:
    """Multiply a gradient by a number per image; 0 times infinity is 0."""
    with np.errstate(all="ignore"):
        own = scale.astype(gradient.dtype)
        # The product of two float32 is their product in float64, rounded.
        factor = own if np.array_equal(own, scale, equal_nan=True) else scale
        found = (gradient * factor).astype(gradient.dtype, copy=False)
    return found if np.isfinite(scale).all() else where_valid(gradient != 0, found)
