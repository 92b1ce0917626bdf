"""Compiling once what the workers of a whole run need, before they all compile the same."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from sampling import FRAME, MAPS, SCORES, blob_mask, textured_pair

import imsim

DTYPES = ("uint8", "uint16", "float32", "float64")
"""Those that most tests use, with masks and without."""


def compile_kernels() -> None:
    """Compile the kernels of all metrics and maps, in as many processes as there are cores."""
    # The last ones, in windows, take longest.
    names = list(reversed(imsim.METRICS))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        list(pool.map(compile_metric, names))


def compile_metric(name: str) -> None:
    """Call a metric and its map, which leaves their kernels in the cache on disk."""
    rng = np.random.default_rng(0)
    mask = blob_mask(rng, *FRAME)
    for variant in (v for v in (*SCORES, *MAPS) if v.metric == name):
        images = textured_pair(rng, *FRAME, colour=variant.colour)
        for dtype in DTYPES:
            for inside in (None, mask):
                # What fails here is for the tests to say.
                with contextlib.suppress(Exception):
                    variant(*(image.astype(dtype) for image in images), mask=inside)
    if imsim.METRICS[name].region_kernel is not None:
        for dtype in DTYPES:
            images = textured_pair(rng, *FRAME)
            a, b = (image.astype(dtype) for image in images)
            imsim.regions(a, b, mask.astype(int), [name], data_range=255)
