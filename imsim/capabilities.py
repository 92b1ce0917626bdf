"""What a metric does with the arrays of each library, by kind of device.

The documentation's tables and the tests of tensors are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

VALUE, GRADIENT, JIT, VMAP = "value", "gradient", "jit", "vmap"
"""Eager scores and maps; their derivatives by the library; within compiled functions; mapped over
batch axes by the library."""
CPU, GPU = "cpu", "gpu"
"""The memory of the host, and that of any accelerator."""

Capabilities = Mapping[tuple[str, str], frozenset[str]]
"""From library and kind of device to what works there; what is not named does not work."""

_EVERYTHING = frozenset({VALUE, GRADIENT, JIT, VMAP})
_VALUE = frozenset({VALUE})

ON_HOST: Capabilities = MappingProxyType(
    {(library, CPU): _VALUE for library in ("numpy", "torch", "jax")}
)
"""Capabilities of a metric without a formula for array-API libraries."""
PORTABLE: Capabilities = MappingProxyType(
    {
        **ON_HOST,
        ("array_api_strict", CPU): _VALUE,
        ("cupy", GPU): _VALUE,
        **{(library, device): _EVERYTHING for library in ("torch", "jax") for device in (CPU, GPU)},
    }
)
"""Capabilities of a metric whose formula runs on any array-API library. The tests have no
accelerator: they use other devices of array_api_strict, and PyTorch's device without values."""
