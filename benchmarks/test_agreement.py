"""Peers that claim the same quantity agree with imsim; those marked otherwise do not."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import imsim
from benchmarks import images
from benchmarks.peers import ROUNDING, WORKS, Peer, Work, peer
from benchmarks.tensor_peers import TENSOR_WORKS, TensorPeer, TensorWork

SIZE = 96

CASES = [
    pytest.param(work, other, id=f"{name}-{other.library}")
    for name, work in WORKS.items()
    for other in work.peers
]


@pytest.mark.parametrize(("work", "other"), CASES)
def test_peer_agrees_as_far_as_it_says(work: Work, other: Peer) -> None:
    x, y = images.pair(SIZE, "float64", channels=work.channels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peers warn of is theirs
        try:
            theirs = float(np.squeeze(other.bind(x, y)()))
        except ImportError as error:
            pytest.skip(str(error))
    ours = float(work.bind(x, y)())
    difference = abs(theirs - ours) / max(1.0, abs(ours))
    if other.tolerance is not None:
        assert difference <= other.tolerance
    if not other.same and work.metric != "sh":  # hashes may coincide
        assert not difference <= ROUNDING, "this peer need not be marked as different"


def test_the_map_of_opencv_is_that_of_imsim_inside() -> None:
    # So it is the border alone that makes its score another number.
    cv2 = pytest.importorskip("cv2")
    x, y = images.pair(SIZE, "float32")
    theirs = cv2.quality.QualitySSIM_compute(x, y)[1][5:-5, 5:-5].mean(dtype=np.float64)
    # 1e-4: variances are differences of squares of about 1e4, in float32 with 1e-7 each.
    assert math.isclose(theirs, float(imsim.ssim(x, y, data_range=255)), abs_tol=1e-4)


def test_every_metric_is_in_the_table() -> None:
    assert {work.metric for work in WORKS.values()} == set(imsim.METRICS)


def test_peers_can_be_named() -> None:
    assert peer("ssim", "OpenCV").mark == "≈"


TENSOR_CASES = [
    pytest.param(work, other, channels, id=f"{name}-{other.library}-{channels}")
    for name, work in TENSOR_WORKS.items()
    for other in work.peers
    for channels in (1, 3)
]


@pytest.mark.parametrize(("work", "other", "channels"), TENSOR_CASES)
def test_peer_of_tensors_agrees(work: TensorWork, other: TensorPeer, channels: int) -> None:
    """On the tensors that are raced: a pair of grey images, or a batch in colour."""
    x, y = images.pair(SIZE, "float32", count=2, channels=channels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peers warn of is theirs
        try:
            function, tensors = other.load(), work.tensors(x, y)
        except ImportError as error:
            pytest.skip(str(error))
        theirs = np.asarray(function(*tensors), np.float64)
    ours = np.asarray(work.load()(*tensors), np.float64)
    assert ours.shape == (2,)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=other.tolerance)
