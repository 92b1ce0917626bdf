"""Images in blocks score as they do in memory, whatever the blocks and their order."""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose, assert_array_equal
from stored import Stored

import imsim
from imsim import METRICS, inputs
from imsim.scenes import dispatch

IN_BLOCKS = {name: facts for name, facts in METRICS.items() if facts.pieces is not None}
MAPPED = {name: facts for name, facts in IN_BLOCKS.items() if facts.map_function is not None}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ssim": [
        {"border": "replicate"},
        {"downsample": True},
        {"window": "uniform", "window_size": 6},
        {"min_coverage": 1.0},
        {"K1": 0.0, "K2": 0.0},
    ],
    "zncc": [{"window_size": 9}],
    "sam": [{"mode": "image", "degrees": True}],
    "imed": [{"sigma": 1.3, "normalize": "rms"}, {"spacing": (1.0, 2.0)}],
    "sh": [{"hash": hash} for hash in ("perceptual", "difference", "average", "census")],
    "se": [{"reduction": "mean"}],
    "rmse": [{"normalize": "range"}],
    "uiq": [{"block_size": 5}],
}
"""Further options, whose pieces differ from those of the defaults."""
CASES = [
    pytest.param(name, options, id=f"{name}-{'-'.join(map(str, options.values()))}")
    for name in IN_BLOCKS
    for options in ({}, *OPTIONS.get(name, []))
]
TOLERANCE = 1e-11
"""Of sums in another order; cancellation in IMED takes an order of magnitude."""


def pair(
    shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and a noisy copy."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, 255, shape)
    y = np.clip(x + random.normal(0, 9, shape), 0, 255)
    return x.astype(dtype), y.astype(dtype)


def in_blocks(
    name: str,
    a: np.ndarray,
    b: np.ndarray,
    mask: np.ndarray | None,
    cuts: tuple[list[int], ...],
    order: Any = None,
    **options: Any,
) -> Any:
    """Score blocks between some cuts, merged in some order, as other processes would."""
    facts = METRICS[name]
    layout = {key: options.get(key) for key in ("data_range", "channel_axis")}
    ndim = options.get("ndim", 2)
    x, y, m = dispatch.planned((a, b, mask))
    job = facts.function(x, y, mask=m, **options)
    scene = dispatch.scene_of(dispatch.Given(a, b, mask, False), **layout, ndim=ndim)
    parts = []
    sides = job.images.sides
    ends = [sorted({0, *(c for c in cut if c < n), n}) for cut, n in zip(cuts, sides, strict=True)]
    grid = [list(itertools.pairwise(one)) for one in ends]
    arrays = [v for v in (a, b, mask) if v is not None]
    whole = tuple(slice(0, side) for side in sides)
    for place in np.ndindex(*map(len, grid)):
        own = tuple(slice(*grid[axis][k]) for axis, k in enumerate(place))
        part = job.pieces.part(scene.block(arrays, whole, own, job.pieces))
        parts.append(pickle.loads(pickle.dumps(part)))
    if order is not None:
        order.shuffle(parts)
    while len(parts) > 1:  # as a tree
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [job.pieces.merge(p, q) for p, q in pairs] + parts[len(parts) // 2 * 2 :]
    return job.finish(job.pieces.finish(parts[0]), parts[0].finite)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("masked", [False, True])
def test_strips(name: str, options: dict[str, Any], masked: bool) -> None:
    """Little memory makes many strips; the batch is of two images, one of them with NaN."""
    a, b = pair((2, 101, 67))
    a[1, 70, 20] = np.nan
    mask = None
    if masked:
        mask = np.random.default_rng(1).random((101, 67)) > 0.02
        mask[:9] = mask[40:60, 20:50] = False
    expected = METRICS[name].function(a, b, mask=mask, data_range=255, **options)
    found = METRICS[name].function(
        Stored(a), Stored(b), mask=mask, data_range=255, memory=100_000, **options
    )
    assert isinstance(found, np.ndarray)
    assert found.shape == (2,)
    assert np.isnan(found[1])
    assert not np.isnan(found[0])
    assert_allclose(found, expected, rtol=TOLERANCE)


@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")  # NaN both times
@pytest.mark.parametrize("name", IN_BLOCKS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_blocks_in_any_order(name: str, data: st.DataObject) -> None:
    options = data.draw(st.sampled_from([{}, *OPTIONS.get(name, [])]))
    channels = data.draw(st.sampled_from([None, -1, 0]))
    sides = data.draw(st.tuples(st.integers(12, 40), st.integers(12, 40)))
    shape = sides if channels is None else (*sides, 3) if channels == -1 else (3, *sides)
    # Windows of other sizes are kernels of their own for each dtype.
    is_usual = options.keys().isdisjoint({"window_size", "block_size"})
    dtypes = [np.uint8, np.int32, np.float64] if is_usual else [np.float64]
    dtype = data.draw(st.sampled_from(dtypes))
    a, b = pair(shape, dtype, data.draw(st.integers(0, 99)))
    mask = None
    if data.draw(st.booleans()):
        mask = np.random.default_rng(data.draw(st.integers(0, 9))).random(sides) > 0.05
    cuts = tuple(data.draw(st.lists(st.integers(1, n - 1), max_size=4)) for n in sides)
    options = {**options, "data_range": 255, "channel_axis": channels}
    if dtype == np.float64 and data.draw(st.booleans()):
        a.flat[data.draw(st.integers(0, a.size - 1))] = np.nan
    expected = METRICS[name].function(a, b, mask=mask, **options)
    order = data.draw(st.randoms(use_true_random=False))
    found = in_blocks(name, a, b, mask, cuts, order, **options)
    assert_allclose(found, expected, rtol=TOLERANCE, atol=1e-13)


@pytest.mark.parametrize("name", [n for n, facts in IN_BLOCKS.items() if facts.volumes])
def test_volumes(name: str) -> None:
    a, b = pair((14, 17, 15))
    mask = np.random.default_rng(2).random(a.shape) > 0.01
    options: dict[str, Any] = {"data_range": 255, "ndim": 3}
    expected = METRICS[name].function(a, b, mask=mask, **options)
    found = in_blocks(name, a, b, mask, ([4, 9], [8], [3, 5]), **options)
    assert_allclose(found, expected, rtol=TOLERANCE)


@pytest.mark.parametrize("name", IN_BLOCKS)
@pytest.mark.parametrize("scale", [1e-170, 1e160])
def test_far_from_one(name: str, scale: float) -> None:
    """Squares of such pixels leave float64, in some blocks alone."""
    a, b = pair((40, 30))
    a[:20] *= scale
    b[:20] *= scale
    expected = METRICS[name].function(a, b, data_range=255)
    found = in_blocks(name, a, b, None, ([8, 20, 27], [11]), data_range=255)
    assert_allclose(found, expected, rtol=TOLERANCE)


@pytest.mark.parametrize("name", IN_BLOCKS)
@pytest.mark.parametrize("value", [0.0, 7.0, -9999.0])
def test_constant_parts(name: str, value: float) -> None:
    """In turn, both images are constant, one is, and a part of both is."""
    for both, part in ((True, slice(None)), (False, slice(None)), (True, slice(0, 25))):
        a, b = pair((40, 30))
        a[part] = value
        if both:
            b[part] = value
        expected = METRICS[name].function(a, b, data_range=255)
        found = in_blocks(name, a, b, None, ([8, 20, 27], [11]), data_range=255)
        assert_allclose(found, expected, rtol=TOLERANCE, atol=1e-12)


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_pixels_outside_the_mask_change_no_bit(name: str) -> None:
    a, b = pair((40, 30))
    mask = np.ones((40, 30), np.bool_)
    mask[5:12, 3:9] = mask[30:] = False
    cuts = ([8, 20, 33], [11])
    expected = in_blocks(name, a, b, mask, cuts, data_range=255)
    a[~mask], b[~mask] = np.inf, np.nan
    assert_array_equal(in_blocks(name, a, b, mask, cuts, data_range=255), expected)


def test_sums_of_whole_numbers_are_exact() -> None:
    """Beyond 2^53, a sum in float64 loses the last digit."""
    a = np.full((64, 64), 2.0**25 + 1)
    b = np.zeros_like(a)
    b[0, 0] = 2.0**25
    found = in_blocks("se", a, b, None, (list(range(1, 64)), []))
    exact = 1 + 4095 * (2**25 + 1) ** 2
    assert found == float(exact)


@pytest.mark.parametrize("name", MAPPED)
@pytest.mark.parametrize("masked", [False, True])
def test_maps(name: str, masked: bool) -> None:
    facts = MAPPED[name]
    assert facts.map_function is not None
    for options in ({}, *OPTIONS.get(name, [])):
        own = {k: v for k, v in options.items() if k not in ("mode", "normalize")}
        if name == "zncc" and not own:
            continue
        axis = -1 if facts.map_needs_channels else None
        a, b = pair((91, 83) if axis is None else (91, 83, 3))
        a[60, 70] = np.nan
        mask = np.ones((91, 83), np.bool_) if masked else None
        if mask is not None:
            mask[20:30, 5:40] = mask[:, 80:] = False
        own |= {"mask": mask, "data_range": 255, "channel_axis": axis}
        expected = facts.map_function(a, b, **own)
        out = Stored(np.zeros((91, 83)))
        found = facts.map_function(Stored(a), Stored(b), memory=100_000, out=out, **own)
        assert found is out
        assert_allclose(out[:], expected, rtol=1e-9, atol=1e-11)


def test_map_of_a_coarse_grid() -> None:
    """Two pixels a cell: blocks cut cells apart."""
    a, b = pair((400, 390), np.uint8)
    expected = imsim.fsim_map(a, b)
    found = imsim.fsim_map(Stored(a), Stored(b), memory=1_400_000)
    assert_allclose(found, expected, rtol=TOLERANCE)


@pytest.mark.parametrize("name", set(METRICS) - set(IN_BLOCKS))
def test_metrics_without_pieces_say_why(name: str) -> None:
    a, b = pair((200, 200), np.uint8)
    with pytest.raises(imsim.ImsimError, match=METRICS[name].no_pieces):
        METRICS[name].function(Stored(a), Stored(b), memory=100_000)


def test_compare_reads_once() -> None:
    a, b = pair((600, 100), np.uint8)
    expected = imsim.compare(a, b, IN_BLOCKS)
    x, y = Stored(a), Stored(b)
    found = imsim.compare(x, y, memory=200_000)
    assert set(found.skipped) == set(METRICS) - set(IN_BLOCKS)
    assert x.read == a.nbytes
    assert y.read == b.nbytes
    for name in found:
        assert_allclose(found[name], expected[name], rtol=TOLERANCE)


def test_tiles_read_little_twice() -> None:
    """A band of the whole width does not fit: tiles read what is around them again."""
    a, b = pair((300, 3000), np.uint8)
    x, y = Stored(a), Stored(b)
    found = imsim.ssim(x, y, memory=1_000_000)
    assert_allclose(found, imsim.ssim(a, b), rtol=TOLERANCE)
    assert x.largest < 1_000_000 / 8
    assert x.read <= 1.15 * a.nbytes


def test_small_images_are_read_as_a_whole() -> None:
    a, b = pair((30, 30), np.uint8)
    assert imsim.issm(Stored(a), Stored(b)) == imsim.issm(a, b)
    assert imsim.fsim(Stored(a), b) == imsim.fsim(a, b)


def test_memory_maps(tmp_path: Any) -> None:
    a, b = pair((300, 200), np.uint16)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    x, y = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "ab")
    expected = imsim.gmsd(a, b, data_range=255)
    assert_allclose(imsim.gmsd(x, y, data_range=255, memory=200_000), expected, rtol=TOLERANCE)
    part = imsim.gmsd(x[10:, ::2], y[10:, ::2], data_range=255, memory=100_000)
    assert_allclose(part, imsim.gmsd(a[10:, ::2], b[10:, ::2], data_range=255), rtol=TOLERANCE)
    changed = np.load(tmp_path / "a.npy", mmap_mode="c")
    changed[:] = b
    assert imsim.se(changed, y, memory=100_000) == 0
    assert_array_equal(changed, b)  # what is only in memory is not given back


class Broken(Stored):
    """A file that is damaged from some row on."""

    def __getitem__(self, index: Any) -> Any:
        if index[0].stop > 150:
            raise OSError("checksum of a chunk is wrong")
        return super().__getitem__(index)


def test_a_part_that_cannot_be_read_is_named() -> None:
    a, b = pair((200, 200), np.uint8)
    with pytest.raises(imsim.ImsimError, match=r"b\[\d+:\d+, 0:200\].*checksum"):
        imsim.psnr(Stored(a), Broken(b), memory=100_000)


class Converting(Stored):
    """Says another dtype than its slices have, as sections of FITS and scaled NIfTI do."""

    def __init__(self, values: Any, dtype: Any) -> None:
        super().__init__(values)
        self.dtype = np.dtype(dtype)


def test_slices_of_another_dtype() -> None:
    a, b = pair((200, 200), np.uint16)
    found = imsim.rmse(Converting(a.astype(">u2"), "u2"), b, memory=100_000)
    assert_allclose(found, imsim.rmse(a, b), rtol=TOLERANCE)
    with pytest.raises(imsim.DTypeError, match=r"float64; pass .*numpy\.asarray\(a\)"):
        imsim.rmse(Converting(a * 0.5, "u2"), b)


def test_shapes_are_refused_before_reading() -> None:
    a, b = (Stored(np.zeros(shape, np.uint8)) for shape in ((200, 200), (200, 201)))
    with pytest.raises(imsim.ShapeError, match="height, width and channels must agree"):
        imsim.psnr(a, b, memory=100_000)
    with pytest.raises(imsim.DataRangeError):
        imsim.psnr(Stored(np.zeros((300, 200))), np.zeros((300, 200)), memory=100_000)
    with pytest.raises(imsim.MaskError, match="mask has shape"):
        imsim.psnr(a, a, mask=np.ones((3, 3), np.bool_), memory=100_000)
    assert a.read == b.read == 0


def test_a_mask_of_other_integers_is_refused() -> None:
    a, b = pair((200, 200), np.uint8)
    mask = np.ones((200, 200), np.uint8)
    assert imsim.se(Stored(a), b, mask=mask, memory=100_000) == imsim.se(a, b)
    mask[150] = 2
    with pytest.raises(imsim.MaskTypeError, match="other than 0 and 1"):
        imsim.se(Stored(a), b, mask=mask, memory=100_000)


def test_weights_need_images_that_are_read_as_a_whole() -> None:
    a, b, w = np.random.default_rng(0).random((3, 200, 200))
    for own in (w, Stored(w)):
        found = [imsim.se(Stored(a), b, weights=own), imsim.se_map(Stored(a), b, weights=own)]
        np.testing.assert_array_equal(found[0], imsim.se(a, b, weights=w))
        np.testing.assert_array_equal(found[1], imsim.se_map(a, b, weights=w))
        scores = imsim.compare(Stored(a), b, ["se"], weights=own)
        assert scores["se"] == found[0]
        for function in (imsim.se, imsim.se_map, imsim.compare):
            with pytest.raises(imsim.OptionError, match=r"^weights=.*larger memory=, or mask="):
                function(Stored(a), b, weights=own, memory=100_000)


def test_what_is_read_as_a_whole_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of functions that know no blocks; `Stored` fails where it is read as a whole."""
    monkeypatch.setattr(inputs, "MEMORY", 1000)
    a = Stored(np.zeros((3, 20, 20)))
    labels = np.ones((20, 20), int)
    for call in (
        lambda: imsim.by_slice("se", a, a),
        lambda: imsim.regions(a, a, labels, ["se"]),
        lambda: imsim.differing_pixels(a, a),
        lambda: imsim.finite_mask(a, a),
        lambda: imsim.align(a, a),
    ):
        with pytest.raises(imsim.ImsimError, match=r"a is a stored.Stored, .* numpy.asarray\(a\)"):
            call()


@pytest.mark.parametrize("memory", [0, 99_999, True, 1e6, "much", "12 parsecs", "-5 MB"])
def test_memory_is_checked(memory: Any) -> None:
    """Also where nothing is read by blocks."""
    a, b = pair((200, 200), np.uint8)
    for image in (Stored(a), a):
        for function in (imsim.se, imsim.se_map, imsim.issm_components, imsim.compare):
            with pytest.raises(imsim.OptionError, match="memory="):
                function(image, b, memory=memory)


@pytest.mark.parametrize("memory", ["0.2 MB", "200kb", "1 MiB", "1GB"])
def test_memory_in_words(memory: str) -> None:
    a, b = pair((200, 200), np.uint8)
    assert imsim.se(Stored(a), b, memory=memory) == imsim.se(a, b)


def test_a_map_that_does_not_fit_needs_a_place() -> None:
    a, b = pair((200, 200), np.uint8)
    with pytest.raises(imsim.OptionError, match="pass out="):
        imsim.se_map(Stored(a), b, memory=100_000)
    with pytest.raises(imsim.ShapeError, match="out is a"):
        imsim.se_map(Stored(a), b, memory=100_000, out=np.zeros((3, 3)))
    with pytest.raises(imsim.DTypeError, match="out has dtype"):
        imsim.se_map(Stored(a), b, memory=100_000, out=np.zeros((200, 200), np.uint8))
    for out in (np.zeros((200, 200)), np.zeros((200, 200), ">f8")):
        assert imsim.se_map(a, b, out=out) is out
        assert_array_equal(out, imsim.se_map(a, b))


def test_empty_masks_are_told_once() -> None:
    a, b = pair((200, 200), np.uint8)
    nothing = np.zeros((200, 200), np.bool_)
    with pytest.warns(imsim.EmptyMaskWarning) as told:
        assert np.isnan(imsim.ssim(Stored(a), b, mask=nothing, memory=100_000))
    assert len(told) == 1
    with pytest.warns(imsim.EmptyMaskWarning) as told:
        imsim.ssim_map(Stored(a), b, mask=nothing, memory=600_000)
    assert len(told) == 1


def test_values_beyond_the_range_are_told() -> None:
    a, b = pair((300, 200))
    a[250, 150] = 5000
    with pytest.warns(imsim.DataRangeWarning, match="span"):
        imsim.compare(Stored(a), Stored(b), ["psnr"], data_range=255, memory=100_000)


def test_portable_engine() -> None:
    a, b = pair((60, 50))
    mask = np.random.default_rng(4).random((60, 50)) > 0.05
    imsim.set_engine("portable")
    try:
        for name, facts in IN_BLOCKS.items():
            expected = facts.function(a, b, mask=mask, data_range=255)
            found = in_blocks(name, a, b, mask, ([17, 40], [21]), data_range=255)
            assert_allclose(found, expected, rtol=TOLERANCE, err_msg=name)
    finally:
        imsim.set_engine("auto")


def test_dims_need_names() -> None:
    with pytest.raises(imsim.OptionError, match="neither a nor b"):
        imsim.se(np.zeros((3, 3)), np.zeros((3, 3)), dims=("y", "x"))


class Masked(Stored):
    """Slices are masked arrays, as those of netCDF4 are."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return np.ma.masked_array(part, mask=part > 99)


@pytest.mark.parametrize("shape", [(None, 50), (-40, 50), (40.5, 50)])
def test_sides_that_are_no_numbers_are_named(shape: Any) -> None:
    x = Stored(np.zeros((40, 50)))
    x.shape = shape
    with pytest.raises(imsim.ShapeError, match=r"a has shape \(.*, 50\); pass"):
        imsim.rmse(x, np.zeros((40, 50)))


def test_slices_that_are_masked_arrays_are_refused() -> None:
    a, b = pair((200, 200), np.uint8)
    for memory in (100_000, None):
        with pytest.raises(imsim.DTypeError, match=r"a is a numpy\.ma\.MaskedArray"):
            imsim.rmse(Masked(a), b, memory=memory)


def test_out_is_no_image(tmp_path: Any) -> None:
    a, b = pair((200, 200))
    np.save(tmp_path / "a.npy", a)
    x = np.load(tmp_path / "a.npy", mmap_mode="r+")
    (tmp_path / "link.npy").hardlink_to(tmp_path / "a.npy")
    link = np.load(tmp_path / "link.npy", mmap_mode="r+")
    other = np.load(tmp_path / "a.npy", mmap_mode="r+")
    for out in (x, x[:], other, np.asarray(other), link, link[::-1].view(np.ndarray)):
        with pytest.raises(imsim.OptionError, match="out is a, of which"):
            imsim.ssim_map(x, b, data_range=255, out=out, memory=100_000)
    assert_array_equal(x, a)


@pytest.mark.parametrize("way", ["link", "group"])
def test_out_is_no_image_of_zarr(tmp_path: Any, way: str) -> None:
    """The same folder is opened under another name, or as a part of another one."""
    zarr = pytest.importorskip("zarr")
    a, b = pair((200, 200))
    zarr.create_group(tmp_path / "all")
    x = zarr.create_array(tmp_path / "all" / "a", data=a, chunks=(70, 90))
    if way == "link":
        (tmp_path / "link").symlink_to(tmp_path / "all" / "a")
        out = zarr.open_array(tmp_path / "link", mode="r+")
    else:
        out = zarr.open_group(tmp_path / "all", mode="r+")["a"]
    with pytest.raises(imsim.OptionError, match="out is a, of which"):
        imsim.ssim_map(x, b, data_range=255, out=out, memory=100_000)
    assert_array_equal(x[...], a)


class ReadOnly(Stored):
    """Opened to be read."""

    def __setitem__(self, index: Any, values: Any) -> None:
        raise OSError("opened as read-only")


class Closed(ReadOnly):
    """Of a file that is closed."""

    @property
    def shape(self) -> Any:
        """Raise what h5py raises."""
        raise RuntimeError("not a dataset id")

    @shape.setter
    def shape(self, _: Any) -> None:
        """Take what the constructor gives."""


def test_out_that_cannot_be_written() -> None:
    a, b = pair((200, 200))
    fixed = np.zeros((200, 200))
    fixed.flags.writeable = False
    for image in (a, Stored(a)):
        with pytest.raises(imsim.ImsimError, match="read-only"):
            imsim.se_map(image, b, memory=100_000, out=fixed)
        shared = np.lib.stride_tricks.as_strided(np.zeros(200), (200, 200), (0, 8))
        hard = np.ma.MaskedArray(np.zeros((200, 200)), mask=True, hard_mask=True)
        windows = sliding_window_view(np.zeros(399), 200, writeable=True)
        for out in (shared, hard, windows, windows[::-1]):
            with pytest.raises(imsim.ImsimError, match="does not keep all numbers"):
                imsim.se_map(image, b, memory=100_000, out=out)
        with pytest.raises(imsim.ImsimError, match=r"out cannot be written.*OSError"):
            imsim.se_map(image, b, memory=100_000, out=ReadOnly(fixed))
        with pytest.raises(imsim.ImsimError, match=r"out has no shape.*RuntimeError"):
            imsim.se_map(image, b, memory=100_000, out=Closed(fixed))
        with pytest.raises(imsim.DTypeError, match="float16"):
            imsim.se_map(image, b, memory=100_000, out=np.zeros((200, 200), np.float16))


def test_out_may_be_a_slice() -> None:
    a, b = pair((200, 200))
    whole = imsim.se_map(a, b)
    room = np.zeros((3, 500, 401))
    slices = room[1, ::2, 1::2], room[0, 10:210, 300:100:-1], room[2, 200::-1].T
    for out in (*(one[:200, :200] for one in slices), np.zeros((200, 200, 2))[..., 1]):
        assert imsim.se_map(Stored(a), b, memory=200_000, out=out) is out
        assert_array_equal(out, whole)


def test_channel_axis_is_an_integer() -> None:
    a, b = pair((200, 200))
    with pytest.raises(imsim.OptionError, match="channel_axis='c'"):
        imsim.se(Stored(a), b, channel_axis="c", memory=100_000)


def test_colour_is_asked_for_before_reading() -> None:
    a = Stored(np.zeros((200, 200), np.uint8))
    with pytest.raises(imsim.ShapeError, match="three channels"):
        imsim.fsim(a, a, chromatic=True, memory=100_000)
    assert a.read == 0


def test_infinities_are_no_empty_mask() -> None:
    """Warnings are errors: a cell whose pixels are all infinite has pixels."""
    a, b = pair((60, 60))
    b[:] = np.inf
    mask = np.ones((60, 60), np.bool_)
    mask[0] = False
    assert np.isnan(in_blocks("sh", a, b, mask, ([20], [30])))


def test_tiles_of_chunks_read_little_twice() -> None:
    a, b = pair((300, 1500), np.uint8)
    x = Stored(a, chunks=(20, 30))
    imsim.imed(x, b, memory=1_000_000)
    assert x.read <= 1.15 * a.nbytes


@pytest.mark.parametrize("attribute", ["fill_value", "fillvalue"])
def test_fill_values(attribute: str) -> None:
    """As arrays of Zarr, and of h5py, have them."""
    a, b = pair((200, 200))
    for fill, allowed in ((0, True), (np.nan, True), (True, True), (-9999, False)):
        x = Stored(a)
        setattr(x, attribute, fill)
        if allowed:
            assert_allclose(imsim.rmse(x, b, memory=100_000), imsim.rmse(a, b))
            continue
        with pytest.raises(imsim.DTypeError, match=rf"{attribute}, -9999.* pass mask="):
            imsim.rmse(x, b, memory=100_000)
        mask = a > a.mean()
        for memory in (100_000, 10_000_000):  # in blocks, and as a whole
            assert_allclose(imsim.rmse(x, b, mask=mask, memory=memory), imsim.rmse(a, b, mask=mask))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, None),
        ("AAAAAAAA+H8=", None),  # NaN, as xarray writes it into Zarr
        ("AAAAAICHw8A=", "-9999.0"),
        (0, "0"),
        (np.array([-1.0, -2.0]), r"\[-1. -2.\]"),
    ],
)
def test_attributes_of_stores_that_mark_what_is_no_data(value: Any, told: str | None) -> None:
    a, b = pair((200, 200))
    x = Stored(a)
    x.attrs = {"_FillValue": value, "long_name": "t"}
    if told is None:
        assert_allclose(imsim.rmse(x, b, memory=100_000), imsim.rmse(a, b))
        return
    with pytest.raises(imsim.DTypeError, match=rf"a is .*_FillValue, {told}, .* pass mask="):
        imsim.rmse(x, b, memory=100_000)
