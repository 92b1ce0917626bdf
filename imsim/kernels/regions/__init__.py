"""Scores of many small regions of one pair of images.

A kernel here is a function of the images, (channels, height, width), the places of the regions,
and the options of the formula. It copies one crop after the other into the cache, without Python
between them, and returns `Scores` of shape (regions, channels), or None. Regions that it leaves are
scored by the kernel of the metric, in batches of crops.
"""

from __future__ import annotations

from typing import NamedTuple

from imsim.typing import Array


class Places(NamedTuple):
    """Where regions lie."""

    codes: Array
    """The code of each pixel, int32, (height, width)."""
    wanted: Array
    """The codes of the regions."""
    crops: Array
    """Their crops, (regions, 2 axes, begin and end)."""

    def part(self, part: slice) -> Places:
        """Return some of the regions."""
        return Places(self.codes, self.wanted[part], self.crops[part])
