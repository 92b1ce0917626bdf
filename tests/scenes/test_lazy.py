"""Arrays of Dask: lazy scores and maps, equal to those of arrays in memory."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from stored import Stored

import imsim
from imsim import METRICS
from imsim.scenes import lazy
from imsim.scenes.lazy import bounds_of, gathered

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

IN_BLOCKS = {name: facts for name, facts in METRICS.items() if facts.pieces is not None}
MAPPED = {name: facts for name, facts in IN_BLOCKS.items() if facts.map_function is not None}
TOLERANCE = 1e-11
"""Of sums in another order."""


@pytest.fixture(autouse=True)
def _small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images here are so small that one task would score all chunks."""
    monkeypatch.setattr(lazy, "TASK_VALUES", 1)


class Computes:
    """Counts the tasks that are computed."""

    def __init__(self) -> None:
        self.chunks = 0

    def of(self, values: np.ndarray, chunks: Any) -> Any:
        """Return an array whose chunks are counted as they are computed."""

        def seen(block: np.ndarray) -> np.ndarray:
            self.chunks += 1
            return block

        array = da.from_array(values, chunks=chunks)
        return array.map_blocks(seen, dtype=values.dtype, meta=values)


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and a noisy copy."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, 255, shape)
    return x, np.clip(x + random.normal(0, 9, shape), 0, 255)


@st.composite
def chunks(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Draw chunks of any sizes, some smaller than what a window reads beside them."""
    found = []
    for n in shape:
        cuts = sorted(draw(st.sets(st.integers(1, max(n - 1, 1)), max_size=min(3, n - 1))))
        found.append(tuple(np.diff([0, *cuts, n]).tolist()))
    return tuple(found)


@pytest.mark.parametrize("name", IN_BLOCKS)
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the size of tasks
)
@given(data=st.data())
def test_any_chunks(name: str, data: st.DataObject) -> None:
    lazy.TASK_VALUES = data.draw(st.sampled_from([1, 300, 900]))  # the fixture puts it back
    channels = data.draw(st.sampled_from([None, -1]))
    shape = (2, 31, 27) if channels is None else (31, 27, 3)
    sides = (31, 27)
    a, b = pair(shape, data.draw(st.integers(0, 9)))
    if data.draw(st.booleans()):
        a.flat[data.draw(st.integers(0, a.size - 1))] = np.nan
    mask = None
    if data.draw(st.booleans()):
        mask = np.random.default_rng(0).random(sides) > 0.03
    options = {"data_range": 255, "channel_axis": channels}
    expected = METRICS[name].function(a, b, mask=mask, **options)
    x = da.from_array(a, chunks=data.draw(chunks(shape)))
    y = da.from_array(b, chunks=data.draw(chunks(shape))) if data.draw(st.booleans()) else b
    if mask is not None and data.draw(st.booleans()):
        mask = da.from_array(mask, chunks=data.draw(chunks(sides)))
    found = METRICS[name].function(x, y, mask=mask, **options)
    assert isinstance(found, da.Array)
    assert found.shape == np.shape(expected)
    assert_allclose(found.compute(scheduler="sync"), expected, rtol=TOLERANCE, atol=1e-13)


@pytest.mark.parametrize("name", MAPPED)
def test_maps(name: str) -> None:
    facts = MAPPED[name]
    assert facts.map_function is not None
    axis = 0 if facts.map_needs_channels else None
    a, b = pair((83, 71) if axis is None else (3, 83, 71))
    a[..., 60, 50] = np.nan
    mask = np.ones((83, 71), np.bool_)
    mask[20:30, 5:40] = False
    options: dict[str, Any] = {"data_range": 255, "mask": mask, "channel_axis": axis}
    if name == "zncc":
        options["window_size"] = 5
    sides = ((40, 3, 40), (25, 46))
    own = sides if axis is None else ((2, 1), *sides)
    found = facts.map_function(da.from_array(a, chunks=own), b, **options)
    assert found.chunks == sides
    expected = facts.map_function(a, b, **options)
    assert_allclose(found.compute(scheduler="sync"), expected, rtol=1e-9, atol=1e-11)


def test_a_coarse_grid() -> None:
    """Cells of two pixels, which chunks cut apart."""
    a, b = pair((410, 390))
    x, y = (da.from_array(v, chunks=(101, 130)) for v in (a, b))
    found = dask.compute(imsim.fsim(x, y, data_range=255), imsim.fsim_map(x, y, data_range=255))
    assert_allclose(found[0], imsim.fsim(a, b, data_range=255), rtol=TOLERANCE)
    assert_allclose(found[1], imsim.fsim_map(a, b, data_range=255), rtol=1e-9)


def test_volumes() -> None:
    a, b = pair((14, 21, 17))
    x, y = da.from_array(a, chunks=(5, 21, 6)), da.from_array(b, chunks=7)
    for name, facts in IN_BLOCKS.items():
        if facts.volumes:
            expected = facts.function(a, b, data_range=255, ndim=3)
            found = facts.function(x, y, data_range=255, ndim=3)
            assert_allclose(found.compute(scheduler="sync"), expected, rtol=TOLERANCE, err_msg=name)


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    a, b = pair((60, 60))
    counts = Computes()
    x, y = counts.of(a, 20), counts.of(b, 30)
    score, values = imsim.ssim(x, y, data_range=255), imsim.ssim_map(x, y, data_range=255)
    scores = imsim.compare(x, y, data_range=255)
    assert counts.chunks == 0
    score.compute(scheduler="sync")
    assert counts.chunks == 9 + 4
    values.compute(scheduler="sync")
    dask.compute(dict(scores), scheduler="sync")
    assert counts.chunks == 3 * (9 + 4)  # all metrics of compare take the same chunks


def test_few_tasks_a_chunk() -> None:
    x = da.zeros((320, 320), chunks=20)
    y = da.ones((320, 320), chunks=20)
    own = len(dict(x.dask)) + len(dict(y.dask))
    for found in (imsim.ssim(x, y, data_range=1), imsim.ssim_map(x, y, data_range=1)):
        assert len(dict(found.dask)) - own <= 2 * 256


def test_one_task_scores_several_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair((3, 320, 200))
    x, y = (da.from_array(v, chunks=(1, 20, (1,) * 100 + (100,))) for v in (a, b))

    def tasks(found: Any) -> int:
        return sum("imsim-part" in str(key) for key in dict(found.dask))

    monkeypatch.setattr(lazy, "TASK_VALUES", 160 * 200)
    found = imsim.ssim(x, y, data_range=255)
    assert tasks(found) == 3 * 2
    assert_allclose(found.compute(scheduler="sync"), imsim.ssim(a, b, data_range=255))
    found = imsim.ssim(x.rechunk((3, 20, 200)), b, data_range=255)
    assert tasks(found) == 8  # of all images of the batch: 3 x 40 x 200
    found = imsim.ssim(x, y, data_range=255, channel_axis=0)
    assert tasks(found) == 8
    small = [v.rechunk((1, 20, 20))[:, :80, :50] for v in (x, y)]
    score, where = (f(*small, data_range=255) for f in (imsim.fsim, imsim.fsim_map))
    assert score.chunks == ((3,),)  # images of the batch
    assert where.chunks[0] == (1, 1, 1)
    cut = (slice(None), slice(80), slice(50))
    computed = dask.compute(score, where, scheduler="sync")  # whose tasks are not mixed up
    assert_allclose(computed[0], imsim.fsim(a[cut], b[cut], data_range=255), rtol=TOLERANCE)
    assert_allclose(computed[1], imsim.fsim_map(a[cut], b[cut], data_range=255), rtol=1e-9)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1), min_size=1, max_size=3), st.integers())
def test_joined_chunks(chunks: list[list[int]], most: int) -> None:
    found = gathered(chunks, most)
    for along, before in zip(found, chunks, strict=True):
        assert set(bounds_of(along)) <= set(bounds_of(before))
        assert bounds_of(along)[-1] == sum(before)
    largest = np.prod([max(along) for along in chunks])
    assert np.prod([max(along) for along in found]) <= max(largest, most)


def test_other_processes() -> None:
    """What the tasks hold travels by pickle, and is small."""
    a, b = pair((300, 300))
    x, y = (da.from_array(v, chunks=100, name=False) for v in (a, b))
    found = [
        imsim.ssim(x, y, data_range=255, downsample=True),
        imsim.fsim_map(x, y, data_range=255),
    ]
    cloudpickle = pytest.importorskip("cloudpickle")
    for one in found:
        own = {k: v for k, v in dict(one.dask).items() if "imsim" in str(k)}
        sent = cloudpickle.dumps(own)
        assert len(sent) < 200_000  # the images take 720 kB each
        pickle.loads(sent)


def test_equal_calls_have_equal_names() -> None:
    x = da.zeros((40, 40), chunks=20)
    y = da.ones((40, 40), chunks=20)
    first = imsim.ssim(x, y, data_range=1)
    assert imsim.ssim(x, y, data_range=1).name == first.name
    assert imsim.ssim(x, y, data_range=2).name != first.name
    assert imsim.ssim(y, x, data_range=1).name != first.name


def test_errors_come_at_once() -> None:
    x = da.zeros((40, 40), chunks=20)
    with pytest.raises(imsim.ShapeError):
        imsim.ssim(x, x[:, 1:], data_range=1)
    with pytest.raises(imsim.DataRangeError):
        imsim.ssim(x, x)
    with pytest.raises(imsim.OptionError, match="out="):
        imsim.se_map(x, x, out=np.zeros((40, 40)))
    with pytest.raises(imsim.ShapeError, match="unknown size"):
        imsim.se(x[x[:, 0] == 0], np.zeros((40, 40)))
    with pytest.raises(imsim.OptionError, match="weights"):
        imsim.se(x, x, weights=np.ones((40, 40)))
    for name in set(METRICS) - set(IN_BLOCKS):
        with pytest.raises(imsim.ImsimError, match=METRICS[name].no_pieces):
            METRICS[name].function(x, x, data_range=1)


def test_empty_masks_are_told_as_they_are_computed() -> None:
    x = da.zeros((40, 40), chunks=20)
    nothing = da.zeros((40, 40), chunks=20, dtype=bool)
    found = imsim.se(x, x, mask=nothing)
    with pytest.warns(imsim.EmptyMaskWarning):
        assert np.isnan(found.compute(scheduler="sync"))


def test_stored_images_beside_lazy_ones() -> None:
    a, b = pair((60, 50))
    x, y = da.from_array(a, chunks=20), Stored(b)
    found = imsim.ssim(x, y, data_range=255)
    assert y.read == 0
    assert_allclose(found.compute(scheduler="sync"), imsim.ssim(a, b, data_range=255))
    assert y.largest < b.nbytes / 4
    with pytest.raises(imsim.OptionError, match="channel_axis"):
        imsim.ssim(x, y, data_range=255, channel_axis="c")


def test_axes_of_cubes_have_names_of_their_own() -> None:
    a, b = pair((6, 6, 6))
    x, y = (da.from_array(v, chunks=3) for v in (a, b))
    found = [imsim.sam(x, y, channel_axis=axis) for axis in (0, 1)]
    expected = [imsim.sam(a, b, channel_axis=axis) for axis in (0, 1)]
    assert_allclose(dask.compute(*found, scheduler="sync"), expected, rtol=TOLERANCE)
