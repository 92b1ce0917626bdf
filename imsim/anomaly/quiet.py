"""Leaving warnings out that are told otherwise, also by several threads at once."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

import imsim
from imsim.anomaly.xray.segmentation import UnusableImageWarning

_lock = threading.Lock()
_inside = 0
_filters = contextlib.ExitStack()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Say nothing of empty masks and of frames that cannot be used.

    Among many images they are no event: NaN says it, or one warning about all of them. The
    filters of warnings belong to the whole process: the first thread changes them, the last
    one restores them.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _filters.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", imsim.EmptyMaskWarning)
            warnings.simplefilter("ignore", UnusableImageWarning)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _filters.close()
