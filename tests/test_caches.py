"""What the library keeps between calls, in bytes, and how it lets go of it."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import imsim
from imsim import caches
from imsim.caches import CACHE, ENTRY, SPARES, Cache, Spares, array_bytes, kept


def test_what_was_not_used_longest_goes_first() -> None:
    cache = Cache(3 * (1000 + ENTRY))
    made: list[str] = []

    def get(key: str, size: int = 1000) -> np.ndarray:
        def make() -> np.ndarray:
            made.append(key)
            return np.zeros(size, dtype=np.uint8)

        return cache.get(key, make)

    for key in ("a", "b", "c", "a", "d"):
        get(key)
    assert made == ["a", "b", "c", "d"]
    get("a")
    get("b")  # had to go for d
    assert made == ["a", "b", "c", "d", "b"]
    assert cache.size == cache.limit
    assert get("large", cache.limit).size == cache.limit
    assert cache.size == cache.limit
    cache.clear()
    assert cache.size == 0


def test_bytes_are_counted_in_tuples_of_arrays_and_numbers() -> None:
    assert array_bytes((np.zeros(3), 1.0, (np.zeros(2, np.float32), (1, 2)))) == 32


def test_threads_get_one_and_the_same_result() -> None:
    gate = threading.Barrier(4)

    @kept
    def slow(n: int) -> np.ndarray:
        gate.wait()  # all four make it
        return np.arange(n)

    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(slow(5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one is found[0] for one in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_fork_may_happen_while_another_thread_holds_the_lock() -> None:
    """In an interpreter of its own: where another test loaded JAX, a fork would make it warn."""
    program = """
import os, imsim
from imsim.caches import CACHE
with CACHE._lock:
    child = os.fork()
    if child == 0:
        imsim.clear_caches()
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "7\n"


def test_many_sizes_stay_within_the_limit_and_can_be_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imsim.clear_caches()
    monkeypatch.setattr(CACHE, "limit", 1 << 20)
    for width in (90, 100, 110, 120, 300):
        for engine in ("auto", "portable"):
            imsim.set_engine(engine)  # type: ignore[arg-type]
            x = np.eye(40, width)
            try:
                assert imsim.fsim(x, x, data_range=1) == 1
                assert imsim.sh(x, x) == 0
            finally:
                imsim.set_engine("auto")
            assert 0 < CACHE.size <= 1 << 20
    imsim.clear_caches()
    assert CACHE.size == 0
    assert caches.LIMIT <= 64 << 20


def test_no_other_cache_holds_arrays() -> None:
    """`clear_caches` would not reach it."""
    x = np.eye(40)
    imsim.compare(x, x, data_range=1)
    for cached in gc.get_objects():
        # By its type: a proxy of what is gone raises when it is asked for its class.
        if not issubclass(type(cached), functools._lru_cache_wrapper):
            continue
        if (cached.__module__ or "").startswith("imsim."):
            returned = str(cached.__wrapped__.__annotations__["return"])
            assert "Array" not in returned
            assert "Floats" not in returned


def test_memory_is_used_again_only_after_its_last_view() -> None:
    spares = Spares(4000)
    first = spares.array((10, 100), np.dtype(np.uint8))
    first[...] = 7
    view = first[3:, ::2].T
    address = first.ctypes.data
    del first
    second = spares.array((10, 100), np.dtype(np.uint8))
    assert second.ctypes.data != address
    assert spares.size == 0
    assert (view == 7).all()
    del view
    gc.collect()
    assert spares.size == 1000
    assert spares.array((200,), np.dtype(np.float32)).ctypes.data == address


def test_spare_memory_is_bounded_and_released() -> None:
    spares = Spares(4000)
    arrays = [spares.array((n,), np.dtype(np.float64)) for n in (100, 200, 300, 600)]
    assert all(v.flags.c_contiguous and v.flags.writeable for v in arrays)
    del arrays
    gc.collect()
    assert 0 < spares.size <= 4000
    assert spares.array((0, 3), np.dtype(np.float64)).shape == (0, 3)
    spares.clear()
    assert spares.size == 0


def test_chunks_of_lazy_arrays_use_memory_again() -> None:
    da = pytest.importorskip("dask.array")
    imsim.clear_caches()
    a, b = np.random.default_rng(0).random((2, 128, 128))
    expected = imsim.ssim(a, b, data_range=1)
    for _ in range(3):
        lazy = imsim.ssim(da.from_array(a, chunks=32), da.from_array(b, chunks=32), data_range=1)
        assert abs(float(lazy.compute(scheduler="threads")) - expected) < 1e-12
        assert 0 < SPARES.size <= SPARES.limit
    imsim.clear_caches()
    assert SPARES.size == 0


def test_a_thread_keeps_memory_of_several_kinds_up_to_a_limit() -> None:
    made: list[int] = []

    @caches.kept_by_thread
    def room(size: int) -> np.ndarray:
        made.append(size)
        return np.empty(size, np.uint8)

    sizes = [1000, 2000, 3000, 4000]
    for size in 3 * sizes:
        assert room(size).nbytes == size
    assert made == sizes
    large = [caches.THREAD_LIMIT, caches.THREAD_LIMIT - 1]
    for size in 2 * large:  # there is no room for the others besides
        room(size)
    assert made == sizes + large
    room(1000)
    assert made[-1] == 1000
    room(caches.THREAD_LIMIT + 1)
    room(caches.THREAD_LIMIT + 1)
    assert made[-2:] == 2 * [caches.THREAD_LIMIT + 1]
