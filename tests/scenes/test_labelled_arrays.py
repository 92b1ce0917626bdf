"""Arrays of xarray: axes by name, coordinates that agree, and results with names and attributes."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import imsim

xr = pytest.importorskip("xarray", reason="xarray is not installed: pip install 'imsim[xarray]'")

HEIGHT, WIDTH = 24, 27
NAMES = list(imsim.METRICS)
MAPS = [name for name, metric in imsim.METRICS.items() if metric.map_function is not None]
X = 500 + 10.0 * np.arange(WIDTH)
Y = 900 - 10.0 * np.arange(HEIGHT)


def pixels(*batch: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (*batch, HEIGHT, WIDTH))


def array(values: np.ndarray, *names: str, **coords: Any) -> Any:
    """Label an array whose last two axes are the image."""
    places = {"y": Y, "x": X, "spatial_ref": ((), 0, {"crs_wkt": "PROJCS['A']"})}
    return xr.DataArray(values, dims=(*names, "y", "x"), coords={**places, **coords})


A, B = array(pixels()), array(pixels(seed=1))
STACK = array(pixels(3, seed=2), "time", time=[2001, 2002, 2005])


@pytest.mark.parametrize("name", NAMES)
def test_scores_have_the_other_dimensions(name: str) -> None:
    function = imsim.METRICS[name].function
    found = function(A, STACK.transpose("x", "time", "y"), data_range=255)
    assert isinstance(found, xr.DataArray)
    want = function(A.values, STACK.values, data_range=255)
    xr.testing.assert_equal(
        found.drop_vars("spatial_ref"), xr.DataArray(want, {"time": STACK.time.values}, ("time",))
    )
    assert found.name == found.attrs["metric"] == name
    assert found.attrs["long_name"] == imsim.METRICS[name].title
    assert found.attrs["units"] == (imsim.METRICS[name].unit or "1")
    assert found.attrs["data_range"] == 255


@pytest.mark.parametrize("name", NAMES)
def test_one_pair_has_no_dimension(name: str) -> None:
    found = imsim.METRICS[name].function(A, B, data_range=255)
    assert found.dims == ()
    assert found.item() == imsim.METRICS[name].function(A.values, B.values, data_range=255)


@pytest.mark.parametrize("name", MAPS)
def test_maps_lie_where_the_images_do(name: str) -> None:
    function: Any = imsim.METRICS[name].map_function
    bands = {"band": ["r", "g", "b"]}
    a, b = (array(pixels(3, seed=k), "band", **bands) for k in (3, 4))
    a = a.transpose("y", "x", "band")
    found = function(a, b, data_range=255, channel_axis="band")
    assert found.dims == ("y", "x")
    assert found.coords.keys() == {"y", "x", "spatial_ref"}
    assert found.spatial_ref.attrs == a.spatial_ref.attrs
    assert found.attrs["metric"] == name
    assert found.name == f"{name}_map"
    want = function(a.transpose("band", "y", "x").values, b.values, data_range=255, channel_axis=0)
    np.testing.assert_array_equal(found.values, want)


@given(st.data())
def test_the_order_of_dimensions_does_not_matter(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    parts: dict[str, Any] = {}
    for key, needed in (("a", ["y", "x"]), ("b", ["y", "x"]), ("mask", ["y", "x"])):
        dims = needed + data.draw(st.lists(st.sampled_from(["time", "run"]), unique=True))
        dims += ["band"] if key != "mask" else []
        parts[key] = data.draw(st.permutations(dims))
    sizes = {"time": 2, "run": 3, "band": 3, "y": HEIGHT, "x": WIDTH}
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    given_ = {
        key: xr.DataArray(rng.uniform(0, 255, [sizes[d] for d in dims]), dims=dims)
        for key, dims in parts.items()
    }
    given_["mask"] = given_["mask"] > 1  # some window and some gradient lie inside
    function = imsim.METRICS[name].function
    options = {"data_range": 255, "channel_axis": "band", "dims": ("y", "x")}
    found = function(given_["a"], given_["b"], mask=given_["mask"], **options)

    def in_order(key: str) -> np.ndarray:
        value = given_[key]
        missing = [d for d in ("time", "run") if d not in value.dims]
        last = ["y", "x"] if key == "mask" else ["band", "y", "x"]
        return value.expand_dims(missing).transpose("time", "run", *last).values

    want = function(
        in_order("a"), in_order("b"), mask=in_order("mask"), data_range=255, channel_axis=2
    )
    batch = [d for d in ("time", "run") if d in found.dims]
    assert set(batch) == {d for v in parts.values() for d in v if d in ("time", "run")}
    index = tuple(slice(None) if d in batch else 0 for d in ("time", "run"))
    np.testing.assert_array_equal(found.transpose(*batch).values, want[index])


def test_volumes_have_three_axes() -> None:
    values = np.random.default_rng(0).uniform(0, 255, (2, 12, 14, 16))
    a = xr.DataArray(values, dims=("patient", "z", "y", "x"))
    found = imsim.ssim(
        a, a.transpose(*reversed(a.dims)) ** 0.9, data_range=255, ndim=3, dims=("z", "y", "x")
    )
    want = imsim.ssim(values, values**0.9, data_range=255, ndim=3)
    assert found.dims == ("patient",)
    np.testing.assert_array_equal(found.values, want)
    assert found.attrs["ndim"] == 3


def test_parts_are_labelled() -> None:
    parts = imsim.issm_components(A, STACK, data_range=255)
    assert parts.entropy.dims == ("time",)
    want = imsim.issm_components(A.values, STACK.values, data_range=255)
    np.testing.assert_array_equal(parts.ssim.values, want.ssim)


# Which axes are the image.


def test_more_dimensions_need_names() -> None:
    with pytest.raises(imsim.ShapeError, match=r"a has .*\(time, y, x\).*dims=\('y', 'x'\)"):
        imsim.rmse(STACK, STACK)
    assert imsim.rmse(STACK, STACK, dims=("y", "x")).shape == (3,)


@pytest.mark.parametrize("dims", ["yx", ("y",), ("y", "y"), 3, ("z", "y", "x"), (["y"], "x")])
def test_names_that_are_none(dims: Any) -> None:
    with pytest.raises(imsim.OptionError, match=r"^dims=.*expected the 2 names"):
        imsim.rmse(A, B, dims=dims)


def test_names_that_are_missing() -> None:
    with pytest.raises(imsim.ShapeError, match=r"a has .*none is named 'lat'.*rename"):
        imsim.rmse(A, B, dims=("lat", "x"))
    with pytest.raises(imsim.ShapeError, match=r"b has .*\(v, x\).*none is named 'y'.*rename"):
        imsim.rmse(A, B.rename(y="v"))


def test_names_for_arrays_without() -> None:
    with pytest.raises(imsim.OptionError, match=r"dims=.*leave it out"):
        imsim.rmse(A.values, B.values, dims=("y", "x"))


def test_channels_by_name_and_place() -> None:
    a = array(pixels(3), "band")
    b = array(pixels(3, seed=1), "band")
    want = imsim.sam(a.values, b.values, channel_axis=0)
    assert imsim.sam(a, b, channel_axis="band").item() == want
    assert imsim.sam(a, b.transpose("band", "x", "y"), channel_axis=0).item() == want
    with pytest.raises(imsim.ShapeError, match=r"channel_axis=0 is 'band' in a and 'y' in b"):
        imsim.sam(a, b.transpose("y", "x", "band"), channel_axis=0)
    with pytest.raises(imsim.ShapeError, match=r"'colour' is no dimension of a"):
        imsim.sam(a, b, channel_axis="colour")
    with pytest.raises(imsim.ShapeError, match=r"channel_axis=3 does not exist in a"):
        imsim.sam(a, b, channel_axis=3)
    with pytest.raises(imsim.OptionError, match=r"channel_axis='y' is one of the image axes"):
        imsim.sam(a, b, channel_axis="y", dims=("y", "x"))


def test_names_leave_no_doubt_of_narrow_images() -> None:
    narrow = STACK.isel(x=slice(0, 3))
    assert imsim.rmse(narrow, narrow, dims=("y", "x")).shape == (3,)  # and no warning


# Where the images lie.


def test_coordinates_must_agree() -> None:
    with pytest.raises(
        imsim.ShapeError, match=r"'x' of a and b differ at 27 of 27 places, first at x\[0\]: 500"
    ):
        imsim.rmse(A, B.assign_coords(x=X + 10))
    with pytest.raises(imsim.ShapeError, match=r"reindex_like\(a\)"):
        imsim.rmse(A, B.isel(y=slice(None, None, -1)))
    with pytest.raises(imsim.ShapeError, match=r"rounding.*assign_coords\(x=a\['x'\]\)"):
        imsim.rmse(A, B.assign_coords(x=X + 1e-9))
    with pytest.raises(imsim.ShapeError, match=r"'time' of a and b differ at 1 of 3"):
        imsim.rmse(STACK, STACK.assign_coords(time=[2001, 2002, 2006]), dims=("y", "x"))
    with pytest.raises(imsim.ShapeError, match=r"'x' of a and mask differ"):
        imsim.rmse(A, B, mask=(A > 9).assign_coords(x=X + 10))


@pytest.mark.parametrize("first", [np.nan, np.inf])
def test_coordinates_that_are_not_finite(first: float) -> None:
    """Their difference is no number; the others say whether rounding sets them apart."""
    x = np.concatenate([[first], X[1:]])
    a = A.assign_coords(x=x)
    assert imsim.rmse(a, a) == 0
    with pytest.raises(imsim.ShapeError, match=r"rounding.*assign_coords\(x=a\['x'\]\)"):
        imsim.rmse(a, a.assign_coords(x=x + 1e-9))
    with pytest.raises(imsim.ShapeError, match="resample"):
        imsim.rmse(a, A.assign_coords(x=X + 1e-9))


def test_lengths_must_agree() -> None:
    with pytest.raises(imsim.ShapeError, match=r"'x' has length 27 in a and 26 in b; crop"):
        imsim.rmse(A, B.isel(x=slice(1, None)))
    with pytest.raises(imsim.ShapeError, match=r"'time' has .* 3 in a and 1 in b.*b\.squeeze"):
        imsim.rmse(STACK, STACK.isel(time=[0]), dims=("y", "x"))
    with pytest.raises(imsim.ShapeError, match=r"'time' has .* 3 in a and 2 in b; select"):
        imsim.rmse(STACK, STACK.isel(time=[0, 1]), dims=("y", "x"))


def test_chunks_of_unknown_size_are_named() -> None:
    da = pytest.importorskip("dask.array")
    pixels = da.from_array(A.values, chunks=9)
    lazy = xr.DataArray(pixels[pixels[:, 0] > 0], dims=A.dims)
    for a, b, key in ((lazy, B, "a"), (B, lazy, "b")):
        with pytest.raises(
            imsim.ShapeError, match=rf"{key} has chunks of unknown size.*{key}\.copy"
        ):
            imsim.rmse(a, b)


def test_an_array_without_coordinates_lies_where_the_other_does() -> None:
    bare = B.drop_vars(["x", "y"])
    for a, b in ((A, bare), (bare, A)):
        found = imsim.se_map(a, b)
        np.testing.assert_array_equal(found.x, X)


def test_reference_systems_must_agree() -> None:
    other = B.assign_coords(spatial_ref=((), 0, {"crs_wkt": "PROJCS['B']"}))
    with pytest.raises(imsim.ShapeError, match=r"reference systems \(PROJCS\['A'\].*reproject"):
        imsim.rmse(A, other)
    bare = [
        v.drop_vars(["x", "y"]).assign_coords(
            spatial_ref=((), 0, {"GeoTransform": f"{left} 10 0 900 0 -10"})
        )
        for v, left in ((A, 500), (B, 510))
    ]
    with pytest.raises(imsim.ShapeError, match=r"GeoTransform of a and b"):
        imsim.rmse(*bare)


def test_places_of_a_curved_grid_must_agree() -> None:
    lat = np.add.outer(Y, X)
    a = A.assign_coords(lat=(("y", "x"), lat))
    same = B.assign_coords(lat=(("x", "y"), lat.T))
    assert "lat" in imsim.se_map(a, same).coords
    with pytest.raises(imsim.ShapeError, match=r"'lat' of a and b differ.*drop_vars"):
        imsim.rmse(a, B.assign_coords(lat=(("y", "x"), lat + 1)))


def test_what_does_not_place_the_pixels_may_differ() -> None:
    a, b = A.assign_coords(time=2001, sensor="s"), B.assign_coords(time=2002, sensor="s")
    found = imsim.rmse(a, b)
    assert found.coords.keys() == {"sensor", "spatial_ref"}


# Bare arrays beside labelled ones.


@pytest.mark.parametrize("swapped", [False, True])
def test_bare_arrays_of_one_reading(swapped: bool) -> None:
    for labelled, bare in ((A, B.values), (STACK, STACK.values[::-1]), (STACK, B.values)):
        pair = (bare, labelled) if swapped else (labelled, bare)
        found = imsim.rmse(*pair, dims=("y", "x"))
        want = imsim.rmse(*(np.asarray(v) for v in pair))
        np.testing.assert_array_equal(found.values, want)
        assert found.dims == labelled.dims[:-2]


def test_bare_arrays_that_may_be_read_in_two_ways() -> None:
    square = A.isel(x=slice(0, HEIGHT)).transpose("x", "y")
    with pytest.raises(imsim.ShapeError, match=r"^b is .*several orders.*DataArray\(b, dims="):
        imsim.rmse(square, square.values, dims=("y", "x"))
    with pytest.raises(imsim.ShapeError, match=r"^a is .*no order.*DataArray\(a, dims="):
        imsim.rmse(B.values.T, A)


def test_bare_masks_and_weights() -> None:
    mask = B.values > 100
    want = imsim.rmse(A.values, STACK.values, mask=mask)
    for given_ in (mask, mask.tolist(), B > 100, (B > 100).transpose("x", "y")):
        found = imsim.rmse(A, STACK, mask=given_)
        np.testing.assert_array_equal(found.values, want)
    found = imsim.rmse(A, STACK, weights=B.transpose("x", "y"))
    np.testing.assert_array_equal(found, imsim.rmse(A.values, STACK.values, weights=B.values))
    each = STACK > 100
    found = imsim.rmse(A, B, mask=each.transpose("y", "time", "x"))
    assert found.dims == ("time",)
    np.testing.assert_array_equal(found, imsim.rmse(A.values, B.values, mask=each.values))


def test_arrays_of_other_libraries_are_named() -> None:
    """What is asked of labelled arrays needs NumPy's dtypes."""
    strict = array_api_strict.asarray(A.values)
    for b in (strict, A.copy(data=strict)):
        with pytest.raises(imsim.DTypeError, match=r"^b is .*b\.copy\(data=numpy\.asarray"):
            imsim.rmse(A, b)


def test_masks_that_are_refused() -> None:
    with pytest.raises(imsim.MaskError, match=r"mask has .*\(x\).*none is named 'y'"):
        imsim.rmse(A, B, mask=A.x > 600)
    bands = array(pixels(3), "band")
    with pytest.raises(imsim.MaskError, match=r"'band' of the channels.*mask\.all\('band'\)"):
        imsim.rmse(bands, bands, mask=bands > 3, channel_axis="band")
    with pytest.raises(imsim.WeightsError, match=r"weights has .*'band' of the channels"):
        imsim.rmse(bands, bands, weights=bands, channel_axis="band")
    with pytest.raises(imsim.MaskTypeError, match="mask has dtype float64"):
        imsim.rmse(A, B, mask=A)
    with pytest.raises(imsim.MaskError, match=r"mask is a Dataset.*mask\['name'\]"):
        imsim.rmse(A, B, mask=xr.Dataset({"m": A > 3}))
    with pytest.raises(imsim.DTypeError, match=r"^mask is .*axes have names"):
        imsim.rmse(A.values, B.values, mask=A > 3)
    for function in (imsim.finite_mask, imsim.differing_pixels, imsim.align):
        with pytest.raises(imsim.DTypeError, match=r"^a is .*axes have names"):
            function(bands, bands, channel_axis="band")


# Pixels without data.


HOLE = np.zeros((HEIGHT, WIDTH), np.bool_)
HOLE[3:9, 4:12] = True
MARKS = [
    {"_FillValue": -9999.0},
    {"missing_value": np.array([-9999, -1])},
    {"nodata": "-9999"},
    {"fill_value": -9999},
    {"_FillValue": np.nan, "nodata": -9999},
]


@pytest.mark.parametrize("mark", MARKS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_pixels_without_data_leave_the_mask(mark: dict[str, Any], dtype: Any) -> None:
    holed = A.astype(dtype).where(~HOLE, dtype(-9999)).astype(dtype).assign_attrs(mark)
    want = imsim.ssim(A.values.astype(dtype), B.values, mask=~HOLE, data_range=255)
    assert imsim.ssim(holed, B, data_range=255).item() == want
    swapped = imsim.ssim(B.values, A.values.astype(dtype), mask=~HOLE, data_range=255)
    assert imsim.ssim(B, holed, data_range=255).item() == swapped
    inside = B > 60
    want = imsim.rmse(A.values.astype(dtype), B.values, mask=~HOLE & inside.values)
    for mask in (inside, inside.astype(int)):
        assert imsim.rmse(holed, B, mask=mask).item() == want


def test_decoded_fill_values() -> None:
    holed = A.where(~HOLE)
    assert np.isnan(imsim.rmse(holed, B))  # NaN that nothing accounts for
    want = imsim.rmse(A.values, B.values, mask=~HOLE)
    for encoding in ({"_FillValue": -9999.0}, {"_FillValue": np.nan}, {"missing_value": 1e20}):
        holed.encoding = encoding
        assert imsim.rmse(holed, B).item() == want
    # Only NaN stands for a decoded value.
    odd = holed.fillna(-9999.0)
    odd.encoding = {"_FillValue": -9999.0}
    assert imsim.rmse(odd, B) > 1000


def test_a_pixel_without_data_in_some_channel() -> None:
    a = array(pixels(3), "band").transpose("y", "x", "band")
    holed = a.where(
        ~(xr.DataArray(HOLE, dims=("y", "x")) & (xr.DataArray([0, 1, 0], dims="band") > 0)), -1
    )
    holed.attrs["nodata"] = -1
    b = array(pixels(3, seed=5), "band")
    want = imsim.rmse(a.values, b.values.transpose(1, 2, 0), mask=~HOLE, channel_axis=-1)
    assert imsim.rmse(holed, b, channel_axis="band").item() == want


def test_values_that_the_dtype_cannot_hold() -> None:
    plain = imsim.rmse(A.astype(np.uint8).values, B.values)
    for value in (-9999, 0.5, np.nan, 1e300):
        marked = A.astype(np.uint8).assign_attrs(nodata=value)
        assert imsim.rmse(marked, B).item() == plain
    single = A.astype(np.float32)
    assert imsim.rmse(single.assign_attrs(nodata=1e300), single) == 0
    for bad in ("zero", 1 + 2j):
        with pytest.raises(imsim.DTypeError, match=r"b has the attribute nodata="):
            imsim.rmse(A, B.assign_attrs(nodata=bad))


def test_numbers_of_other_kinds_that_mark_no_data() -> None:
    """A fraction is no whole number, in whatever type it comes."""
    whole = A.astype(np.int64)
    holed = whole.copy(data=np.where(HOLE, 1, whole))
    plain, masked = imsim.rmse(holed, whole).item(), imsim.rmse(whole.values, whole.values)
    for value in (Decimal("1.5"), Fraction(3, 2), "1.5", 1.5):
        assert imsim.rmse(holed.assign_attrs(nodata=value), whole).item() == plain
    for value in (Decimal(1), Fraction(1), "1", "1.0", 1.0, np.int64(1), True):
        assert imsim.rmse(holed.assign_attrs(nodata=value), whole).item() == masked


@pytest.mark.parametrize("written", [int, str, np.array, lambda value: [-1, value]])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.int64, -(2**63) + 2),  # the defaults of netCDF
        (np.uint64, 2**64 - 2),
        (np.uint64, 2**64 - 1),
        (np.int64, 2**63 - 1),
    ],
)
def test_integers_that_no_float_holds(dtype: Any, value: int, written: Any) -> None:
    a, b = A.astype(dtype), B.astype(dtype)
    holed = a.copy(data=np.where(HOLE, dtype(value), a)).assign_attrs(_FillValue=written(value))
    assert imsim.rmse(holed, b).item() == imsim.rmse(a.values, b.values, mask=~HOLE)
    assert imsim.rmse(holed.astype(np.float32), b).item() == imsim.rmse(
        a.values.astype(np.float32), b.values, mask=~HOLE
    )


def test_soft_masks_are_refused_beside_pixels_without_data() -> None:
    with pytest.raises(imsim.MaskTypeError, match="mask has dtype float64"):
        imsim.rmse(A.where(~HOLE, -1).assign_attrs(nodata=-1), B, mask=A)


def test_from_a_file(tmp_path: Any) -> None:
    pytest.importorskip("h5netcdf")
    holed = A.where(~HOLE).drop_vars("spatial_ref")
    holed.to_netcdf(
        tmp_path / "a.nc",
        encoding={holed.name or "__xarray_dataarray_variable__": {"_FillValue": -1}},
    )
    with xr.open_dataarray(tmp_path / "a.nc") as read:
        assert imsim.rmse(read, B).item() == imsim.rmse(A.values, B.values, mask=~HOLE)


# Datasets.


def dataset(**others: Any) -> Any:
    return xr.Dataset({"red": A, "stack": STACK, **others})


def test_each_variable_of_a_dataset() -> None:
    other = xr.Dataset({"stack": STACK * 0.9, "red": B.transpose("x", "y")})
    found = imsim.ssim(dataset(), other, data_range=255, dims=("y", "x"))
    assert isinstance(found, xr.Dataset)
    assert set(found.data_vars) == {"red", "stack"}
    assert found["red"].item() == imsim.ssim(A.values, B.values, data_range=255)
    assert found["stack"].dims == ("time",)
    assert found["red"].attrs["metric"] == "ssim"
    maps = imsim.ssim_map(dataset(), other, data_range=255, dims=("y", "x"))
    assert maps["stack"].dims == ("time", "y", "x")
    assert "spatial_ref" in maps.coords
    parts = imsim.issm_components(dataset(), other, data_range=255, dims=("y", "x"))
    assert parts.entropy["stack"].dims == ("time",)


def test_datasets_that_are_refused() -> None:
    with pytest.raises(imsim.ShapeError, match=r"only a has 'stack'.*a\.drop_vars\(\['stack'\]\)"):
        imsim.rmse(dataset(), xr.Dataset({"red": A}), dims=("y", "x"))
    with pytest.raises(imsim.OptionError, match=r"a is a Dataset and b is none.*a\['name'\]"):
        imsim.rmse(dataset(), A, dims=("y", "x"))
    with pytest.raises(imsim.OptionError, match=r"b is a Dataset and a is none"):
        imsim.rmse(A, dataset(), dims=("y", "x"))
    with pytest.raises(imsim.ShapeError, match=r"^variable 'stack': a has the dimensions"):
        imsim.rmse(dataset(), dataset())
    with pytest.raises(imsim.ShapeError, match="without a data variable"):
        imsim.rmse(xr.Dataset(), xr.Dataset())


def test_a_reference_system_is_no_image() -> None:
    crs = xr.DataArray(0, attrs={"grid_mapping_name": "latitude_longitude"})
    found = imsim.rmse(xr.Dataset({"red": A, "crs": crs}), xr.Dataset({"red": B, "crs": crs}))
    assert set(found.data_vars) == {"red"}


# All metrics at once.


def test_compare_returns_a_dataset() -> None:
    found = imsim.compare(A, STACK, ["rmse", "psnr", "ssim"], mask=B > 20)
    assert set(found.data_vars) == {"rmse"}
    assert found.attrs["skipped_psnr"].startswith("psnr depends on data_range")
    found = imsim.compare(A, STACK, mask=B > 20, data_range=255)
    want = imsim.compare(A.values, STACK.values, mask=B.values > 20, data_range=255)
    assert set(found.data_vars) == set(want) == set(imsim.METRICS)
    for name, scores in want.items():
        np.testing.assert_array_equal(found[name].values, scores)
        assert found[name].attrs["units"] == (imsim.METRICS[name].unit or "1")


def test_a_coordinate_of_the_name_of_a_metric() -> None:
    for stack in (STACK.rename(time="se"), STACK.assign_coords(se=("time", [1, 2, 3]))):
        with pytest.raises(imsim.ShapeError, match=r"'se' is a metric, and .*rename"):
            imsim.compare(stack, stack, ["se", "rmse"], dims=("y", "x"))
        assert set(imsim.compare(stack, stack, ["rmse"], dims=("y", "x"))) == {"rmse"}


def test_compare_of_datasets_has_a_variable_axis() -> None:
    a, b = xr.Dataset({"red": A, "blue": B}), xr.Dataset({"red": B, "blue": B})
    found = imsim.compare(a, b, ["rmse", "ssim"], data_range=255)
    assert found["ssim"].dims == ("variable",)
    assert found["ssim"].sel(variable="blue").item() == 1
    assert found["rmse"].sel(variable="red").item() == imsim.rmse(A.values, B.values)
    with pytest.raises(imsim.ShapeError, match="one by one"):
        imsim.compare(dataset(), dataset(), ["rmse"], dims=("y", "x"))


def test_results_can_be_stored(tmp_path: Any) -> None:
    pytest.importorskip("h5netcdf")
    found = imsim.compare(A, STACK, data_range=255)
    found.drop_vars("spatial_ref").to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "scores.nc") as read:
        np.testing.assert_array_equal(read["ssim"], found["ssim"])


def test_attributes_name_the_parameters() -> None:
    assert imsim.sam(A, B, degrees=True).attrs["units"] == "degree"
    assert imsim.rmse(A, B, normalize="range", data_range=2).attrs["units"] == "1"
    found = imsim.ssim(A, B, data_range=255, K1=0.02, window="uniform")
    assert found.attrs["K1"] == 0.02
    assert (found.attrs["window"], found.attrs["window_size"]) == ("uniform", [7, 7])
    assert "sigma" not in found.attrs
    found = imsim.ssim_map(A, B, data_range=255, sigma=1.2, spacing=(2, 1))
    assert found.attrs["sigma"] == [0.6, 1.2]  # in pixels, as window_size
    ones = A.astype(np.uint8)
    assert imsim.psnr(ones, ones + 1).attrs["data_range"] == 255
    assert imsim.psnr(A, B, data_range=np.array(9)).attrs["data_range"] == 9


@pytest.mark.filterwarnings("ignore:Duplicate dimension names")
def test_dimensions_of_one_name_are_refused() -> None:
    square = A[:24, :24].drop_vars(["y", "x"])
    twice = xr.DataArray(square.data, dims=("y", "y"))
    stacks = xr.DataArray(np.zeros((2, 2, *A.shape)), dims=("t", "t", "y", "x"))
    for a, b, mask in ((twice, twice, None), (A, stacks, None), (square, square, twice > 9)):
        with pytest.raises(imsim.ShapeError, match=r"(a|b|mask) has .* two have one name; name"):
            imsim.rmse(a, b, mask=mask, dims=("y", "x"))


def test_none_is_no_image() -> None:
    for pair in ((A, None), (None, A)):
        with pytest.raises(imsim.DTypeError, match=r"^[ab] is a NoneType"):
            imsim.rmse(*pair)


def test_remedies_for_what_an_array_holds_are_its_own() -> None:
    """The DataArray has no `value`, which its numbers in metres have."""
    units = pytest.importorskip("astropy.units")
    metres = A.copy(data=A.data * units.m)
    with pytest.raises(imsim.DTypeError, match=r"^b\.data is .*units of m.*pass.* b\.data\.value"):
        imsim.rmse(A, metres)


def test_units_are_those_of_the_pixels() -> None:
    kelvin = [v.assign_attrs(units="K") for v in (A, B)]
    assert imsim.rmse(*kelvin).attrs["units"] == imsim.rmse(A, kelvin[1]).attrs["units"] == "K"
    assert imsim.se(*kelvin).attrs["units"] == "(K)^2"
    assert imsim.ssim(*kelvin, data_range=255).attrs["units"] == "1"
    with pytest.raises(imsim.DTypeError, match=r"a is in units of 'K' and b of 'degC'; convert"):
        imsim.ssim(kelvin[0], B.assign_attrs(units="degC"), data_range=255)


def test_packed_numbers_are_no_values() -> None:
    packed = A.assign_attrs(scale_factor=0.5, add_offset=np.array([273.0]), units="K")
    decoded = xr.decode_cf(packed.to_dataset(name="t"))["t"]
    for other in (decoded, packed.assign_attrs(scale_factor=0.25)):
        with pytest.raises(imsim.DTypeError, match=r"\(0\.5, 273\.0\) of a.*decode_cf"):
            imsim.rmse(packed, other)
    assert imsim.rmse(packed, packed + 1).attrs["units"] == "I"  # not kelvin
    assert imsim.rmse(decoded, decoded).attrs["units"] == "K"
    assert imsim.rmse(packed, A) == 0  # which does not say what it is


@pytest.mark.parametrize(("stored", "said", "right"), [("i1", "true", "u1"), ("u2", "False", "i2")])
def test_integers_of_the_other_sign_are_not_decoded(stored: str, said: str, right: str) -> None:
    values = np.array([[0, 255], [1, 2]], right if right == "u1" else stored)
    raw = xr.DataArray(values.astype(stored), dims=("y", "x"), attrs={"_Unsigned": said})
    with pytest.raises(imsim.DTypeError, match=rf"_Unsigned={said.lower()}; .*'.{right}'"):
        imsim.se(raw, raw)
    decoded = xr.decode_cf(raw.to_dataset(name="t"))["t"]
    assert imsim.se(decoded, raw.drop_attrs().astype(right)) == 0


# The accessor.


def test_the_accessor() -> None:
    import imsim.xarray

    xr.testing.assert_identical(A.imsim.ssim(B, data_range=255), imsim.ssim(A, B, data_range=255))
    xr.testing.assert_identical(A.imsim.se_map(B), imsim.se_map(A, B))
    data = xr.Dataset({"red": A})
    xr.testing.assert_identical(data.imsim.compare(data, ["se"]), imsim.compare(data, data, ["se"]))
    assert {"compare", "ssim", "ssim_map"} <= set(dir(A.imsim))
    with pytest.raises(AttributeError, match="'regions' is neither a metric"):
        A.imsim.regions  # noqa: B018


def test_imsim_does_not_import_it() -> None:
    code = (
        "import imsim, sys; imsim.rmse([[1]], [[2]]); print({'xarray', 'dask'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
