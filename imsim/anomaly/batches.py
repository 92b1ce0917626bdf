"""Stacks of images in parts: small enough for the caches, and shared out among threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

import imsim

TOGETHER = 32
"""Most images of a part: at 128x128 pixels, 2 MB of float32."""

T = TypeVar("T")


def divided(n: int, most: int = TOGETHER) -> list[slice]:
    """Divide `n` images evenly into parts of at most `most`; the same for any number of threads."""
    count = -(-n // most)
    return [slice(n * k // count, n * (k + 1) // count) for k in range(count)]


def in_threads(function: Callable[[slice], T], n: int) -> list[T]:
    """Call a function for each part of `n` images, and return the results in order.

    It runs in as many threads as `imsim.get_workers` says, the caller's among them, which share
    the workers evenly. After an error, or Ctrl-C, no further part is begun. (The pool that the
    metrics share is not public, and this package is built on what is.)
    """
    slices = divided(n)
    count = min(imsim.get_workers(), len(slices))
    if count < 2:
        return [function(part) for part in slices]
    share = imsim.get_workers() // count
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    indices = itertools.count()  # next() on it is atomic

    def drain() -> None:
        try:
            with imsim.workers(share):
                for i in indices:
                    if errors or i >= len(slices):
                        return
                    results[i] = function(slices[i])
        except BaseException as error:  # raised again in the caller's thread
            errors.append(error)

    # Each in the caller's context, and with it NumPy's error handling.
    helpers = [threading.Thread(target=copy_context().run, args=(drain,)) for _ in range(count - 1)]
    begun = []
    for helper in helpers:
        try:
            helper.start()
        except RuntimeError:  # no thread can start while the interpreter shuts down
            break
        begun.append(helper)
    drain()
    for helper in begun:
        helper.join()
    if errors:
        raise errors[0]
    return [results[i] for i in range(len(slices))]
