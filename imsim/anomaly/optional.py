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
    package[name] = value = found(where, name, homes[name])
    return value


def found(where: str, name: str, home: str) -> Any:
    """Return a name of a module of a package; where something is missing, say what to install."""
    try:
        module = importlib.import_module(f"{where}.{home}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "imsim":
            raise
        raise ImportError(
            f"{where}.{name} needs the package {error.name!r}, which is not installed: "
            f"pip install 'imsim[{_EXTRAS.get(home, 'anomaly')}]'"
        ) from error
    return getattr(module, name)
