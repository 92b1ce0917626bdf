"""Stacks of images in parts and threads."""

from __future__ import annotations

import sys
import threading
import time
import warnings

import numpy as np
import pytest

import imsim
from imsim.anomaly import AnomalyDetector, scoring, xray
from imsim.anomaly.stacks import batch_images, bounding_box
from imsim.errors import silent
from imsim.workers import _Pool, divided, in_parts

MOST = 32


@pytest.mark.parametrize("n", [1, MOST, MOST + 1, 5 * MOST - 1])
def test_parts_are_even_and_complete(n):
    parts = divided(n, MOST)
    assert [i for part in parts for i in range(n)[part]] == list(range(n))
    sizes = {part.stop - part.start for part in parts}
    assert max(sizes) <= MOST
    assert max(sizes) - min(sizes) <= 1


def test_threads_share_the_parts_each_with_one_worker_and_the_callers_context():
    both_there = threading.Barrier(2, timeout=30)

    def found(part):
        both_there.wait()  # breaks unless two threads are at it at once
        return part, threading.get_ident(), imsim.get_workers(), np.geterr()["divide"]

    with imsim.workers(2), np.errstate(divide="raise"):
        parts, threads, workers, divide = zip(*in_parts(found, MOST + 1, MOST), strict=True)
    assert list(parts) == divided(MOST + 1, MOST)
    assert len(set(threads)) == 2
    assert set(workers) == {1}
    assert set(divide) == {"raise"}


def test_one_part_stays_in_the_callers_thread_with_all_workers():
    with imsim.workers(2):
        [(thread, workers)] = in_parts(lambda _: (threading.get_ident(), imsim.get_workers()), 3, 3)
    assert thread == threading.get_ident()
    assert workers == 2


@pytest.mark.parametrize("error", [imsim.ShapeError, KeyboardInterrupt])
def test_errors_reach_the_caller_and_no_further_part_is_begun(error):
    begun = []

    def fail(part):
        begun.append(part)
        raise error("here")

    with imsim.workers(2), pytest.raises(error, match="here"):
        in_parts(fail, 20 * MOST, MOST)
    assert len(begun) <= 2


def test_without_threads_the_caller_does_it_all(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(sys.modules[_Pool.__module__], "_pool", _Pool())
    with imsim.workers(2):
        assert in_parts(lambda part: part, 60, 20) == divided(60, 20)


def test_many_threads_leave_the_filters_of_warnings_as_they_were():
    images = np.random.default_rng(0).random((4, 16, 16))
    before = list(warnings.filters)
    others = [
        threading.Thread(
            target=lambda: [scoring.anomaly_scores("se", images, images) for _ in range(20)]
        )
        for _ in range(4)
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for one in others:
            one.start()
        for one in others:
            one.join()
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before


def test_peel_and_scores_do_not_depend_on_threads_or_company():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:150j, -1:1:200j]
    thickness = np.sqrt(np.maximum(0.6 - x**2 - y**2, 0))
    count = batch_images(np.empty((1, *thickness.shape))) + 3
    images = np.exp(-thickness) * (1 + rng.normal(0, 0.01, (count, *thickness.shape)))
    images[1] = np.roll(images[1], 20, axis=0)  # lies elsewhere

    def peeled_and_scored(some):
        peeled = peel.transform(some)
        scores = scoring.anomaly_scores(
            "fsim",
            peeled.images,
            np.zeros_like(peeled.images),
            masks=peeled.masks,
            data_range=peel.data_range,
            aggregate="worst",
        )
        return peeled.images, peeled.masks, scores

    with imsim.workers(1):
        peel = xray.VirtualPeel().fit(images)
        alone = peeled_and_scored(images)
        single = peeled_and_scored(images[-1:])
    with imsim.workers(2):
        again = xray.VirtualPeel().fit(images)
        shared = peeled_and_scored(images)
    np.testing.assert_array_equal(again.sigmas_, peel.sigmas_)
    np.testing.assert_array_equal(again.sigmas_, peel.sigmas_)
    for a, b, one in zip(alone, shared, single, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[-1:], one)


def test_silence_reaches_the_threads_that_help_and_no_others():
    images, nowhere = np.ones((2 * MOST, 8, 8)), np.zeros((8, 8), bool)

    def score(part):
        return imsim.se(images[part], images[part], mask=nowhere)

    with imsim.workers(2), silent(imsim.EmptyMaskWarning):
        in_parts(score, len(images), MOST)
        other = threading.Thread(target=lambda: heard.append(warned()))
        heard: list[bool] = []
        other.start()
        other.join()
    assert heard == [True]
    assert warned()


def warned():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        imsim.se(np.ones((8, 8)), np.ones((8, 8)), mask=np.zeros((8, 8), bool))
    return bool(caught)


def test_pieces_of_work_hold_images_of_any_size():
    assert batch_images(np.empty((5, 128, 128), bool)) == 32
    assert batch_images(np.empty((5, 3000, 2000), bool)) == 1
    assert batch_images(np.empty((5, 1, 0), bool)) > 1


def test_bounding_box():
    mask = np.zeros((7, 9), bool)
    assert bounding_box(mask) == (slice(0, 1), slice(0, 1))
    mask[2, 3] = mask[5, 4] = True
    assert bounding_box(mask) == (slice(2, 6), slice(3, 5))


class OwnPeel(xray.VirtualPeel):
    """Derived by a user, who does not expect several threads."""

    def transform(self, images):
        threads.add(threading.get_ident())
        time.sleep(0.01)  # so that others take a part
        return super().transform(images)


threads: set[int] = set()


def test_classes_that_others_derive_are_called_by_one_thread():
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    thickness = np.sqrt(np.maximum(0.6 - x**2 - y**2, 0))
    noise = np.random.default_rng(0).normal(0, 0.01, (6 * MOST, 128, 128))
    images = np.exp(-thickness) * (1 + noise)
    detector = AnomalyDetector(preprocess=OwnPeel(), random_state=0).fit(images[:24])
    threads.clear()
    with imsim.workers(4):
        detector.inspect(images)
    assert threads == {threading.get_ident()}
