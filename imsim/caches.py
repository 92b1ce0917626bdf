"""The cache of the library: arrays that depend on sizes and options only."""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
LIMIT = 64 << 20
"""Most bytes of all kept results: filter banks of dozens of ordinary sizes fit."""

ENTRY = 1 << 10
"""Bytes that a kept result takes besides its arrays, about: its key, and the arrays' headers."""
THREAD_LIMIT = 1 << 20
"""Most bytes of memory of one kind that a thread keeps."""
SPARE_LIMIT = 32 << 20
"""Most bytes of memory that waits to be used again."""
_THREAD = threading.local()


class Cache:
    """Results under keys, of at most `limit` bytes in total; the least recently used goes first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """Bytes that the kept results take."""
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the result under a key, or make it; two threads may make the same result."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        result = make()
        size = array_bytes(result) + ENTRY
        with self._lock:
            if key in self._kept:  # another thread was faster: all callers share its result
                return self._kept[key][0]
            if size <= self.limit:
                self._kept[key] = result, size
                self.size += size
            while self.size > self.limit:
                self.size -= self._kept.popitem(last=False)[1][1]
        return result

    def clear(self) -> None:
        """Drop all results."""
        with self._lock:
            self._kept.clear()
            self.size = 0

    def renew_lock(self) -> None:
        """Replace the lock after a fork: a thread that held it does not exist in the child."""
        self._lock = threading.Lock()


def array_bytes(value: Any) -> int:
    """Bytes of an array, or of all arrays in a tuple."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    return sum(map(array_bytes, value)) if isinstance(value, tuple) else 0


CACHE = Cache(LIMIT)


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Keep the results of a function of hashable arguments in the cache of the library.

    The results are arrays, or tuples of arrays; callers must not change them.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        names = tuple(sorted(kwargs.items())) if kwargs else ()
        result: R = CACHE.get((function, args, names), functools.partial(function, *args, **kwargs))
        return result

    return wrapper


def kept_by_thread(make: Callable[..., R]) -> Callable[..., R]:
    """Keep in each thread the memory that it needed last, of several kinds, unless it is large.

    `make` takes hashable arguments and returns arrays, whose content nobody relies on. To allocate
    them takes as long as to score a small image.
    """
    name = f"{make.__module__}.{make.__qualname__}"

    @functools.wraps(make)
    def wrapper(*key: Hashable) -> R:
        last: tuple[tuple[Any, R], ...] = getattr(_THREAD, name, ())
        for found in last:
            if found[0] == key:
                return found[1]
        found = key, make(*key)
        if array_bytes(found[1]) <= THREAD_LIMIT:
            memory = (found, *last)
            sizes = itertools.accumulate(array_bytes(one) for _, one in memory)
            memory = memory[: sum(size <= 2 * THREAD_LIMIT for size in sizes)]
            setattr(_THREAD, name, memory)  # at once: no interrupt parts them
        return found[1]

    return wrapper


class Spares:
    """Memory of arrays that nobody holds any more, of at most `limit` bytes, to be used again.

    The system clears each page of new memory before it gives it away, which takes as long as to
    fill it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: list[np.ndarray] = []
        self._lock = threading.RLock()  # an array may be collected while its thread is in here

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Return an array of any content, whose memory comes back with the last view of it."""
        size = math.prod(shape) * dtype.itemsize
        with self._lock:
            fitting = [v for v in self._waiting if size <= v.nbytes <= 2 * size]
            memory = fitting[-1] if fitting else None
            self._waiting = [v for v in self._waiting if v is not memory]
        memory = np.empty(size, np.uint8) if memory is None else memory
        whole = np.asarray(_Lent(memory, self))
        return whole[:size].view(dtype).reshape(shape)

    def put(self, memory: np.ndarray) -> None:
        """Take memory back; what came first goes first."""
        with self._lock:
            self._waiting.append(memory)
            while self.size > self.limit:
                self._waiting.pop(0)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(v.nbytes for v in self._waiting)

    def clear(self) -> None:
        """Give all to the system."""
        with self._lock:
            self._waiting = []

    def renew_lock(self) -> None:
        """Replace the lock after a fork."""
        self._lock = threading.RLock()


class _Lent:
    """What an array on spare memory is a view of; all views of that array hold it."""

    def __init__(self, memory: np.ndarray, owner: Spares) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._memory, self._owner = memory, owner

    def __del__(self) -> None:
        self._owner.put(self._memory)


SPARES = Spares(SPARE_LIMIT)
if hasattr(os, "register_at_fork"):
    for _memory in (CACHE, SPARES):
        os.register_at_fork(after_in_child=_memory.renew_lock)


def clear_caches() -> None:
    """Release the arrays that the library keeps for further calls.

    These are filters and weights that depend on the size of the images and on options, such as
    the filter bank of `fsim`. Images, and results computed from them, are never looked up again.
    The arrays take at most 64 MiB in total. The next call that needs an array makes it again.
    Released as well is memory, at most 32 MiB, in which chunks of Dask arrays were joined and
    gradients of FSIM were computed. Besides, each thread keeps up to 6 MiB in which it computes
    windows, until it ends.

    Examples
    --------
    >>> import imsim
    >>> imsim.clear_caches()
    """
    CACHE.clear()
    SPARES.clear()
