"""Public names whose modules need more than the core dependencies of `imsim`."""

from __future__ import annotations

import importlib
from typing import Any

_EXTRAS = {"convolutional": "network"}
"""Modules that need another extra than `anomaly`."""


def loaded(package: str, name: str, homes: dict[str, str]) -> Any:
    """Load a name of a package from its module; where something is missing, say what to install."""
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{package}.{homes[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "imsim":
            raise
        raise ImportError(
            f"{package}.{name} needs the package {error.name!r}, which is not installed: "
            f"pip install 'imsim[{_EXTRAS.get(homes[name], 'anomaly')}]'"
        ) from error
    return getattr(module, name)
