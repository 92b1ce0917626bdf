"""Exact medians without sorting."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.typing import Array

BUCKETS = 2048
"""Buckets of a histogram: 16 KiB of counts stay in the first-level cache."""
POSITIVE = {4: np.int32(2**31 - 1), 8: np.int64(2**63 - 1)}
"""All bits of a float but its sign, by its number of bytes."""
BLOCK = 64
"""Values of a block: few blocks have one in the middle bucket; the search for it is vectorised."""


def median(values: Array) -> np.float64:
    """Median of numbers that are not negative; the mean of the middle two if n is even.

    The values are overwritten. NaN counts as larger than any number. The median of an empty array
    is NaN.
    """
    if values.size == 0:
        return np.float64(math.nan)
    middle = middle_two(values)
    return (np.float64(middle[0]) + np.float64(middle[1])) / 2


def middle_two(values: Array) -> Array:
    """Return the middle two of at least one number, none of them negative; overwrite them."""
    # Read as integers, the bits of floats that are not negative have the order of the floats.
    bits = values.view(np.int32 if values.dtype == np.float32 else np.int64)
    middle = np.empty(2, bits.dtype)
    _middle(bits, POSITIVE[values.itemsize], np.empty(BUCKETS, np.int64), middle)
    return middle.view(values.dtype)


@kernel
def _middle(bits, positive, counts, found):  # type: ignore[no-untyped-def]
    """Select the middle two of some integers; overwrite these integers and `counts`.

    A histogram with buckets of equal width shows which bucket holds the middle. The values in this
    bucket are counted again in narrower buckets.
    """
    n = bits.size
    lower, upper = (n - 1) // 2, n // 2
    for i in range(n):
        bits[i] &= positive  # even a NaN has no sign now
    while True:
        least, most = bits[0], bits[0]
        for i in range(1, n):
            least, most = min(least, bits[i]), max(most, bits[i])
        if least == most:
            found[0], found[1] = least, least
            return
        shift = 0
        while (most - least) >> shift >= counts.size:
            shift += 1
        counts[:] = 0
        for i in range(n):
            counts[(bits[i] - least) >> shift] += 1
        bucket, before = 0, 0
        while before + counts[bucket] <= lower:
            before += counts[bucket]
            bucket += 1
        if upper >= before + counts[bucket]:  # the middle two lie in different buckets
            below, above = least, most
            for i in range(n):
                if (bits[i] - least) >> shift <= bucket:
                    below = max(below, bits[i])
                else:
                    above = min(above, bits[i])
            found[0], found[1] = below, above
            return
        kept = 0
        for start in range(0, n, BLOCK):
            block, some = bits[start : min(start + BLOCK, n)], 0
            for i in range(block.size):
                some += int((block[i] - least) >> shift == bucket)
            for i in range(block.size if some > 0 else 0):
                if (block[i] - least) >> shift == bucket:
                    bits[kept] = block[i]
                    kept += 1
        lower, upper, n = lower - before, upper - before, kept
