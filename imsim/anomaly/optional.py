"""Public names whose modules need more than the core dependencies of `imsim`."""

from __future__ import annotations

import importlib
from typing import Any

_EXTRAS = {"convolutional": "network"}
"""Modules that need another extra than `anomaly`."""


def loaded(package: dict[str, Any], name: str, homes: dict[str, str]) -> Any:
    """Load a name of a package from its module; where something is missing, say what to install."""
    where = package["__name__"]
    if name not in homes:
        raise AttributeError(f"module {where!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{where}.{homes[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "imsim":
            raise
        raise ImportError(
            f"{where}.{name} needs the package {error.name!r}, which is not installed: "
            f"pip install 'imsim[{_EXTRAS.get(homes[name], 'anomaly')}]'"
        ) from error
    package[name] = value = getattr(module, name)
    return value
