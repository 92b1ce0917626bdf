"""What the library says on a terminal without being asked."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Hearer = Callable[[str], object]
_hearers: list[Hearer] = []


@contextmanager
def heard_by(hearer: Hearer) -> Iterator[None]:
    """Let something else have the notices, for example what also shows a progress bar."""
    _hearers.append(hearer)
    try:
        yield
    finally:
        _hearers.remove(hearer)


@functools.cache
def compiling() -> None:
    """Say once why a call takes seconds."""
    text = (
        "a metric is compiled when it is first used for images of a type, and kept for later; "
        "`imsim compile` does all of this ahead"
    )
    (_hearers[-1] if _hearers else _write)(text)


def _write(text: str) -> None:
    with suppress(Exception):  # there may be no stream, or a closed one
        if sys.stderr.isatty():
            sys.stderr.write(f"imsim: note: {text}\n")
