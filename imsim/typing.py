"""The names that imsim's signatures use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

ImageLike: TypeAlias = Any
"""An array of any array-API namespace, nested lists, or a PIL image."""

MaskLike: TypeAlias = Any
"""Booleans (or the integers 0 and 1), True = use, in the same forms as `ImageLike`."""

Array: TypeAlias = Any
"""An array of some array-API namespace; there is no common static type for these."""

Score: TypeAlias = np.float64 | Any
"""float64 scalar for one pair, an array of the batch shape for a batch."""

Dims: TypeAlias = Sequence[str] | None
"""Names of the axes of an image, of arrays whose axes have names."""

Memory: TypeAlias = int | str | None
"""Bytes, or a text such as "512 MB"."""

Writable: TypeAlias = Any
"""An array of some store, such as Zarr's, that takes values by slices."""
