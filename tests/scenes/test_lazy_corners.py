"""Arrays of Dask: odd chunks, names of tasks, schedulers, comparisons, and arrays of xarray."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sampling import FRAME, SCORES
from sampling import MAPS as MAPS_OF

import imsim
from imsim.scenes import lazy as tasks
from imsim.scenes.moments import SquaredErrors

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

RANDOM = np.random.default_rng(0)
A = RANDOM.uniform(0, 255, (2, 40, 41))
B = np.clip(A + RANDOM.normal(0, 9, A.shape), 0, 255)
CUBE = RANDOM.uniform(0, 255, (30, 30, 30))
NAMES = [name for name, facts in imsim.METRICS.items() if facts.pieces is not None]
MAPS = [name for name in NAMES if imsim.METRICS[name].map_function is not None]
TOLERANCE = 1e-12


def lazy(values: np.ndarray, *chunks: int) -> Any:
    return da.from_array(values, chunks=chunks or 20)


@pytest.fixture(autouse=True)
def _small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images here are so small that one task would score all chunks."""
    monkeypatch.setattr(tasks, "TASK_VALUES", 1)


class Computations(dask.callbacks.Callback):
    """Counts how often Dask computes."""

    def __init__(self) -> None:
        super().__init__(start=self._begun)
        self.count = 0

    def _begun(self, _: Any) -> None:
        self.count += 1


# Chunks.


@pytest.mark.parametrize("name", MAPS)
def test_narrow_chunks_are_not_taken_for_channels(name: str) -> None:
    function: Any = imsim.METRICS[name].map_function
    options: dict[str, Any] = {"data_range": 255}
    a, b = A, B
    if imsim.METRICS[name].map_needs_channels:
        a, b, options["channel_axis"] = np.stack([A, B]), np.stack([B, A]), 0
    chunks = (*a.shape[:-2], 40, 3)
    found = function(lazy(a, *chunks), b, **options).compute(scheduler="sync")
    assert_allclose(found, function(a, b, **options), rtol=1e-9, atol=1e-11)


def test_narrow_images_are_told_as_the_graph_is_made() -> None:
    narrow = lazy(A[..., :3], 2, 20, 3)
    for function in (imsim.se, imsim.se_map):
        with pytest.warns(imsim.ChannelAxisWarning):
            function(narrow, narrow)
    with pytest.warns(imsim.ChannelAxisWarning) as told:
        imsim.compare(narrow, narrow, ["se", "rmse"])
    assert len(told) == 1


@pytest.mark.parametrize("name", NAMES)
def test_one_against_a_batch(name: str) -> None:
    function = imsim.METRICS[name].function
    mask = RANDOM.random((3, 1, 40, 41)) > 0.02
    wants = [
        (lazy(A[0]), None, function(A[0], B, data_range=255)),
        (lazy(A[:1], 1, 11, 41), mask, function(A[:1], B, mask=mask, data_range=255)),
    ]
    for a, given, want in wants:
        within = None if given is None else lazy(given, 2, 1, 7, 20)
        found = function(a, lazy(B, 1, 13, 41), mask=within, data_range=255)
        assert found.shape == want.shape
        assert_allclose(found.compute(scheduler="sync"), want, rtol=TOLERANCE, atol=1e-13)


@pytest.mark.parametrize(
    "variant",
    [v for v in (*SCORES, *MAPS_OF) if imsim.METRICS[v.metric].pieces is not None],
    ids=lambda variant: variant.id,
)
def test_all_options(variant: Any) -> None:
    """Of `downsample`, the cells are in the test of a coarse grid: these images have none."""
    sides = FRAME
    a = RANDOM.uniform(0, 255, variant.shape(*sides))
    b = np.clip(a + RANDOM.normal(0, 20, a.shape), 0, 255)
    mask = np.ones(sides, np.bool_)
    mask[:5, 9:20] = False
    chunks = ((7, 1, sides[0] - 8), (3, sides[1] - 3))
    found = variant(
        da.from_array(a, chunks=(*chunks, 2)[: a.ndim]), b, mask=da.from_array(mask, chunks=11)
    )
    want = variant(a, b, mask=mask)
    assert_allclose(found.compute(scheduler="sync"), want, rtol=TOLERANCE, atol=TOLERANCE)


def test_empty_chunks() -> None:
    parts = [lazy(A[0, :20]), lazy(A[0, :0]), lazy(A[0, 20:])]
    a = da.concatenate(parts, allow_unknown_chunksizes=True)
    a = da.Array(a.dask, a.name, a.chunks, dtype=a.dtype)
    for function in (imsim.ssim, imsim.ssim_map):
        found = function(a, B[0], data_range=255).compute(scheduler="sync")
        assert_allclose(found, function(A[0], B[0], data_range=255), rtol=TOLERANCE)


def test_a_lazy_mask_makes_the_score_lazy() -> None:
    mask = A[0] > 20
    for given in (lazy(mask), lazy(mask.astype(np.uint8))):
        found = imsim.gmsd(A, B, mask=given, data_range=255)
        want = imsim.gmsd(A, B, mask=mask, data_range=255)
        assert_allclose(found.compute(scheduler="sync"), want, rtol=TOLERANCE)
    wrong = imsim.gmsd(A, B, mask=lazy(2 * mask.astype(np.uint8)), data_range=255)
    with pytest.raises(imsim.MaskTypeError, match="integers other than 0 and 1"):
        wrong.compute(scheduler="sync")


def test_a_lazy_data_range_is_refused() -> None:
    for span in (dask.delayed(255), lazy(A[0]).max()):
        with pytest.raises(imsim.DataRangeError, match=r"data_range.* number"):
            imsim.ssim(lazy(A[0]), B[0], data_range=span)


def test_chunks_are_what_the_array_says() -> None:
    masked = lazy(A[0]).map_blocks(lambda v: np.ma.masked_less(v, 50), meta=np.empty((0, 0)))
    with pytest.raises(imsim.DTypeError, match=r"^a is a .*MaskedArray"):
        imsim.se(masked, B[0]).compute(scheduler="sync")
    single = lazy(B[0]).map_blocks(lambda v: v.astype(np.float32), meta=np.empty((0, 0)))
    with pytest.raises(imsim.DTypeError, match=r"^b has dtype float64, a chunk .* float32; pass b"):
        imsim.se(A[0], single).compute(scheduler="sync")
    for chunks in (20, 41):
        short = lazy(A[0], chunks, chunks).map_blocks(lambda v: v[1:], meta=np.empty((0, 0)))
        for function in (imsim.se, imsim.se_map):
            with pytest.raises(imsim.ShapeError, match=r"^a has a chunk .* is \((19|39), "):
                function(short, short).compute(scheduler="sync")


# Names.


def test_each_axis_of_channels_has_tasks_of_its_own() -> None:
    """Tasks of one name are computed once, whatever they are."""
    x, y = lazy(CUBE), lazy(0.9 * CUBE + 3)
    axes = (None, 0, 1, 2)
    found = dask.compute([imsim.rmse(x, y, channel_axis=k) for k in axes], scheduler="sync")[0]
    for k, one in zip(axes, found, strict=True):
        assert_allclose(one, imsim.rmse(CUBE, 0.9 * CUBE + 3, channel_axis=k), rtol=TOLERANCE)
    maps = [imsim.sam_map(x, y, channel_axis=k) for k in axes[1:]]
    for k, one in zip(axes[1:], dask.compute(maps, scheduler="sync")[0], strict=True):
        want = imsim.sam_map(CUBE, 0.9 * CUBE + 3, channel_axis=k)
        assert_allclose(one, want, rtol=TOLERANCE, atol=1e-15)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (imsim.se_map, [{}, {"reduction": "mean"}]),
        (imsim.sam_map, [{}, {"degrees": True}]),
        (imsim.ssim_map, [{}, {"border": "replicate"}, {"K1": 0.1}, {"window": "uniform"}]),
        (imsim.zncc_map, [{}, {"min_coverage": 0.5}, {"window_size": 5}]),
        (imsim.rmse, [{}, {"normalize": "range"}]),
    ],
)
def test_each_option_has_tasks_of_its_own(function: Any, options: list[dict[str, Any]]) -> None:
    x = lazy(CUBE)
    names = {function(x, x, channel_axis=0, data_range=255, **one).name for one in options}
    assert len(names) == len(options)


# Schedulers.


def test_a_task_takes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    part = SquaredErrors.part

    def watched(self: Any, block: Any) -> Any:
        found.append(imsim.get_workers())
        return part(self, block)

    monkeypatch.setattr(SquaredErrors, "part", watched)
    with imsim.workers(4):
        imsim.se(lazy(A[0]), B[0]).compute(scheduler="threads")
    assert set(found) == {1}
    assert len(found) == 6


@pytest.mark.parametrize(("scheduler", "n"), [("threads", 2), ("processes", 1)])
def test_schedulers(scheduler: str, n: int) -> None:
    found = imsim.psnr(lazy(A, 1, 20, 41), lazy(B, 2, 13, 41), data_range=255)
    scores = found.compute(scheduler=scheduler, num_workers=n)
    assert_allclose(scores, imsim.psnr(A, B, data_range=255), rtol=TOLERANCE)


def test_a_cluster() -> None:
    distributed = pytest.importorskip("distributed")
    x, y = lazy(A, 1, 20, 41), lazy(B, 2, 13, 41)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cluster itself, such as of ports that are taken
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        )
        with cluster, distributed.Client(cluster):
            found = imsim.compare(x, y, ["ssim", "psnr", "fsim"], data_range=255).compute()
    for name, want in imsim.compare(A, B, list(found), data_range=255).items():
        assert_allclose(found[name], want, rtol=TOLERANCE)


# All metrics at once.


def test_a_comparison_is_computed_in_one_pass() -> None:
    x, y = lazy(A[0]), lazy(B[0])
    with Computations() as done:
        found = imsim.compare(x, y, data_range=255)
        assert "ssim      lazy, of shape ()" in str(found)
        assert "issm      skipped: " in str(found)
        assert "dask.array" in repr(found)
        assert done.count == 0
        scores = found.compute(scheduler="sync")
        assert done.count == 1
    assert set(scores) == set(NAMES)
    assert scores.skipped == found.skipped
    for name, want in imsim.compare(A[0], B[0], NAMES, data_range=255).items():
        assert isinstance(scores[name], float)
        assert_allclose(scores[name], want, rtol=TOLERANCE, err_msg=name)


def test_a_comparison_without_scores() -> None:
    found: Any = imsim.compare(lazy(A[0]), lazy(B[0]), ["psnr"])
    assert dict(found.compute()) == {}
    assert "psnr" in found.compute().skipped


def test_a_range_of_another_unit_is_told_once_as_scores_are_computed() -> None:
    found: Any = imsim.compare(lazy(1000 * A[0]), lazy(1000 * B[0]), ["se", "ssim"], data_range=255)
    for compute in (found.compute, found["ssim"].compute):
        with pytest.warns(imsim.DataRangeWarning, match="times data_range=255") as told:
            compute(scheduler="sync")
        assert len(told) == 1
    imsim.compare(lazy(1000 * A[0]), B[0], ["se"], data_range=255).compute(scheduler="sync")


def test_empty_masks_of_coarse_maps_are_told_as_these_are_computed() -> None:
    empty = np.stack([np.ones((40, 41), np.bool_), np.zeros((40, 41), np.bool_)])
    found = imsim.fsim_map(lazy(A), B, data_range=255, mask=lazy(empty))
    with pytest.warns(imsim.EmptyMaskWarning, match=r"^fsim: .* in the map"):
        assert np.isnan(found.compute(scheduler="sync")[1]).all()
    imsim.fsim_map(lazy(A), B, data_range=255, mask=lazy(~empty[::-1])[:1]).compute()


# Arrays of xarray.


def labelled(values: np.ndarray, chunks: dict[str, int]) -> Any:
    xr = pytest.importorskip("xarray")
    coords = {"time": [1, 2], "x": np.arange(41.0)}
    return xr.DataArray(values, coords, dims=("time", "y", "x")).chunk(chunks)


def test_labelled_arrays_stay_lazy() -> None:
    a = labelled(A, {"y": 13})
    b = labelled(B, {"time": 1, "x": 20}).transpose("x", "time", "y")
    with Computations() as done:
        score = imsim.ssim(a, b, data_range=255, dims=("y", "x"))
        where = imsim.ssim_map(a, b, data_range=255, dims=("y", "x"))
        every = imsim.compare(a, b, data_range=255, dims=("y", "x"))
        assert done.count == 0
        assert_allclose(score.compute(scheduler="sync"), imsim.ssim(A, B, data_range=255))
        assert done.count == 1
    assert score.dims == ("time",)
    assert where.chunks == a.chunks
    found = dask.compute(where, every, scheduler="sync")
    assert_allclose(found[0], imsim.ssim_map(A, B, data_range=255), rtol=TOLERANCE)
    assert set(found[1].data_vars) == set(NAMES)
    assert_allclose(found[1]["gmsd"], imsim.gmsd(A, B, data_range=255), rtol=TOLERANCE)


def test_lazy_pixels_without_data() -> None:
    holed = np.where(A < 30, -1, A)
    b = labelled(B, {"x": 20})
    marked = labelled(holed, {"y": 13}).assign_attrs(nodata=-1)
    with Computations() as done:
        found = imsim.rmse(marked, b, dims=("y", "x"), mask=b > 9)
        assert done.count == 0
    want = imsim.rmse(A, B, mask=(A >= 30) & (B > 9))
    assert_allclose(found.compute(scheduler="sync"), want, rtol=TOLERANCE)


def test_lazy_coordinates_are_not_computed() -> None:
    a, b = (labelled(v, {"y": 13}) for v in (A, B))
    lat = (("y", "x"), lazy(A[0]))
    with Computations() as done:
        same = imsim.se_map(a.assign_coords(lat=lat), b.assign_coords(lat=lat), dims=("y", "x"))
        other = imsim.se_map(
            a.assign_coords(lat=lat),
            b.assign_coords(lat=(("y", "x"), lazy(B[0]))),
            dims=("y", "x"),
        )
        assert done.count == 0
    assert "lat" in same.coords
    assert "lat" not in other.coords
