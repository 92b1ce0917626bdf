"""An array that is read by slices, as those of Zarr and HDF5 are, and counts what is read."""

from __future__ import annotations

from typing import Any

import numpy as np


class Stored:
    """Looks like an array of Zarr; `chunks` says how it is stored."""

    def __init__(self, values: Any, chunks: tuple[int, ...] | None = None) -> None:
        self._values = np.asarray(values)
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.chunks = chunks
        self.fill_value: Any = 0
        self.read = 0
        """Bytes that were asked for."""
        self.largest = 0
        """Most bytes of one slice."""

    def __getitem__(self, index: Any) -> Any:
        part = self._values[index]
        self.read += part.nbytes
        self.largest = max(self.largest, part.nbytes)
        return part

    def __setitem__(self, index: Any, values: Any) -> None:
        self._values[index] = values

    def __array__(self, *_: Any, **__: Any) -> Any:
        self.read += self._values.nbytes
        raise AssertionError("read as a whole")
