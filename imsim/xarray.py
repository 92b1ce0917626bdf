"""The accessor `.imsim` of xarray's DataArrays and Datasets; importing this module registers it.

The functions of imsim take DataArrays and Datasets without it. With it, the reference comes first:

>>> import numpy as np, xarray
>>> import imsim.xarray
>>> a = xarray.DataArray(np.eye(16), dims=("y", "x"))
>>> print(float(a.imsim.ssim(a, data_range=1)))
1.0
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import xarray

import imsim
from imsim.registry import METRICS


@xarray.register_dataset_accessor("imsim")
@xarray.register_dataarray_accessor("imsim")
class Accessor:
    """Every metric and every map as a method, and `compare`; the array is the reference.

    Examples
    --------
    >>> import numpy as np, xarray
    >>> import imsim.xarray
    >>> a = xarray.Dataset({"red": (("y", "x"), np.zeros((2, 2)))})
    >>> print(float(a.imsim.compare(a + 1, ["rmse"])["rmse"].sel(variable="red")))
    1.0
    """

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function of `imsim` with the reference in place."""
        if name in _functions():
            return functools.partial(_functions()[name], self._reference)
        raise AttributeError(f"{name!r} is neither a metric of imsim, nor a map, nor 'compare'")

    def __dir__(self) -> list[str]:
        return sorted(_functions())


def _functions() -> dict[str, Callable[..., Any]]:
    maps = {
        f"{name}_map": metric.map_function
        for name, metric in METRICS.items()
        if metric.map_function is not None
    }
    scores = {name: metric.function for name, metric in METRICS.items()}
    return {"compare": imsim.compare, **scores, **maps}
