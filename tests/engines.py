"""Both engines side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import imsim


def by_both(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, Any]:
    """Return the results of the formula and, where there is one, of the kernel."""
    return by_engine("portable", function, *args, **options), function(*args, **options)


def by_engine(engine: Any, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return the result of one engine."""
    with _engine(engine):
        return function(*args, **options)


def formulas() -> Any:
    """Compute by the formulas, whatever kernels there are."""
    return _engine("portable")


@contextmanager
def _engine(name: Any) -> Iterator[None]:
    imsim.set_engine(name)
    try:
        yield
    finally:
        imsim.set_engine("auto")
