"""Products of matrices in the caller's thread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ALONE = 1 << 18
"""Multiplications up to which OpenBLAS works in one thread (its interface/gemm.c)."""
_FEW_ROWS = 4
"""Rows below which a product is not worth cutting: BLAS computes blocks of a few rows at a time."""


def product(a: Floats, b: Floats) -> Floats:
    """Matrix product over the last two axes, in the caller's thread where that is faster.

    The threads of a BLAS library meet after each product. For the patches of one image that
    costs as much as it saves, and far more where the processors are busy, with other images for
    instance. So rows are taken in pieces that are too small for OpenBLAS to share out.
    """
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    result = np.empty((*leading, a.shape[-2], b.shape[-1]), dtype=np.float32)
    rows = _ALONE // max(b.shape[-2] * b.shape[-1], 1)
    if rows < _FEW_ROWS:
        rows = max(a.shape[-2], 1)
    for start in range(0, a.shape[-2], rows):
        some = slice(start, start + rows)
        with np.errstate(under="ignore"):  # the tails of a Gaussian
            np.matmul(a[..., some, :], b, out=result[..., some, :])
    return result
