"""Zarr folders: versions 2 and 3, pyramids of OME, what is missing, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_files import DEEP, GREY, RGB, RNG, contents
from test_images_large import SMALL, same

from imsim._images import ImageFile, ImageFileError, Reading, is_zarr

zarr = pytest.importorskip("zarr")

pytestmark = pytest.mark.usefixtures("empty_directory")

STACK = RNG.integers(0, 999, (2, 3, 4, 40, 48)).astype(np.uint16)
"""Two times, three channels, four planes."""


def put(name, pixels, *, version=3, chunks=None, attributes=None, **options):
    """Save an array, and return its path."""
    array = zarr.create_array(
        name,
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=chunks or tuple(min(n, 16) for n in pixels.shape),
        zarr_format=version,
        attributes=attributes or {},
        **options,
    )
    array[...] = pixels
    return name


def pyramid(name, levels, axes, *, version=3, datasets=None):
    """Save an OME-Zarr image."""
    paths = [str(i) for i in range(len(levels))]
    multiscales = [
        {
            "axes": axes,
            "datasets": [{"path": path} for path in (datasets or paths)],
        }
    ]
    ome = {"multiscales": multiscales}
    zarr.open_group(
        name,
        mode="w",
        zarr_format=version,
        attributes={"ome": {"version": "0.5", **ome}} if version == 3 else ome,
    )
    for path, level in zip(paths, levels, strict=True):
        separator = {"dimension_separator": "/"} if version == 2 else {}
        put(f"{name}/{path}", level, version=version, **separator_options(separator))
    return name


def separator_options(options):
    """Return how chunks are named, as this release of Zarr wants to hear it."""
    if not options:
        return {}
    return {"chunk_key_encoding": {"name": "v2", "separator": "/"}}


def axis(name, kind="space"):
    return {"name": name, "type": kind}


TCZYX = [axis("t", "time"), axis("c", "channel"), axis("z"), axis("y"), axis("x")]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("pixels", [GREY, DEEP, GREY > 9, GREY.astype("f4") / 7, GREY * -1.0])
def test_arrays(version, pixels):
    put("a.zarr", pixels, version=version)
    (picture,) = contents("a.zarr")
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.pixels.dtype == pixels.dtype
    assert picture.notes == ()
    with ImageFile("a.zarr", SMALL) as file:
        same(file.read(0), picture)


def test_byte_order_and_codecs():
    put("a", DEEP.astype(">u2"), version=2, compressors=None, filters=None)
    (picture,) = contents("a")
    np.testing.assert_array_equal(picture.pixels, DEEP)
    assert picture.pixels.dtype == np.dtype("u2")


def test_axes_of_arrays_without_names():
    put("a.zarr", RGB)
    with pytest.raises(ImageFileError, match=r"a\.zarr: .*--channel-axis -1"):
        contents("a.zarr")
    (picture,) = contents("a.zarr", Reading(channel_axis=-1))
    np.testing.assert_array_equal(picture.pixels, RGB)
    put("b.zarr", np.moveaxis(RGB, -1, 0), dimension_names=("band", "y", "x"))
    (picture,) = contents("b.zarr")
    np.testing.assert_array_equal(picture.pixels, RGB)
    with ImageFile("b.zarr", SMALL) as file:
        same(file.read(0), picture)
    put("c.zarr", GREY, dimension_names=("x", "y"))
    with pytest.raises(ImageFileError, match=r"its axes are \(x, y\).*rows before the columns"):
        contents("c.zarr")
    put("d.zarr", GREY, version=2, attributes={"_ARRAY_DIMENSIONS": ["lon", "lat"]})
    with pytest.raises(ImageFileError, match=r"its axes are \(lon, lat\)"):
        contents("d.zarr")


@pytest.mark.parametrize("version", [2, 3])
class TestPyramids:
    def test_levels(self, version):
        levels = [GREY, GREY[::2, ::2], GREY[::4, ::4]]
        pyramid("a.ome.zarr", levels, [axis("y"), axis("x")], version=version)
        (picture,) = contents("a.ome.zarr")
        np.testing.assert_array_equal(picture.pixels, GREY)
        assert picture.notes == ("level 0 of its 3 levels is taken; --level names another",)
        for number, level in enumerate(levels):
            (picture,) = contents("a.ome.zarr", Reading(level=number))
            np.testing.assert_array_equal(picture.pixels, level)
            assert picture.notes == ()
            (picture,) = contents(f"a.ome.zarr/{number}")  # by its path
            np.testing.assert_array_equal(picture.pixels, level)
        with pytest.raises(ImageFileError, match=r"has no level 3: .* it has 3 levels, counted"):
            contents("a.ome.zarr", Reading(level=3))

    def test_axes(self, version):
        pyramid("a.zarr", [STACK], TCZYX, version=version)
        pictures = contents("a.zarr")
        assert [p.path for p in pictures] == [f"a.zarr[{i}]" for i in range(8)]
        for index, picture in enumerate(pictures):
            time, plane = divmod(index, 4)
            np.testing.assert_array_equal(picture.pixels, np.moveaxis(STACK[time, :, plane], 0, -1))
        with ImageFile("a.zarr", SMALL) as file:
            for index, picture in enumerate(pictures):
                same(file.read(index), picture)
        (picture,) = contents("a.zarr/0[5]")
        np.testing.assert_array_equal(picture.pixels, pictures[5].pixels)

    def test_volumes(self, version):
        pyramid("a.zarr", [STACK[:1]], TCZYX, version=version)
        (picture,) = contents("a.zarr", Reading(volume=True))
        np.testing.assert_array_equal(picture.pixels, np.moveaxis(STACK[0], 0, -1))
        assert picture.ndim == 3

    def test_what_is_wrong(self, version):
        pyramid("a.zarr", [GREY], [axis("y"), axis("x")], version=version, datasets=["9"])
        with pytest.raises(ImageFileError, match="names the array '9', which is not there"):
            contents("a.zarr")
        pyramid("b.zarr", [GREY], TCZYX, version=version)
        with pytest.raises(ImageFileError, match=r"name 5 axes .*shape \(40, 48\)"):
            contents("b.zarr")
        pyramid("c.zarr", [GREY], [axis("y"), axis("x")], version=version, datasets=["../x"])
        with pytest.raises(ImageFileError, match="lies outside"):
            contents("c.zarr")


def test_groups_of_series():
    """As bioformats2raw writes them."""
    zarr.open_group("a.zarr", mode="w", attributes={"ome": {"bioformats2raw.layout": 3}})
    pyramid("a.zarr/0", [GREY], [axis("y"), axis("x")])
    (picture,) = contents("a.zarr")
    np.testing.assert_array_equal(picture.pixels, GREY)
    pyramid("a.zarr/1", [DEEP], [axis("y"), axis("x")])
    with pytest.raises(ImageFileError, match=r"holds 2 pyramids \(0, 1\); name one: a\.zarr/0"):
        contents("a.zarr")
    zarr.open_group("p.zarr", mode="w", attributes={"ome": {"plate": {}}})
    with pytest.raises(ImageFileError, match="a plate of many images"):
        contents("p.zarr")


def test_groups_of_arrays():
    zarr.open_group("a.zarr", mode="w")
    with pytest.raises(ImageFileError, match="without an array of two or more axes"):
        contents("a.zarr")
    put("a.zarr/x", np.arange(48.0), dimension_names=("x",))
    put("a.zarr/red", GREY, dimension_names=("y", "x"))
    (picture,) = contents("a.zarr")
    assert picture.notes == ("its array 'red' is taken",)
    put("a.zarr/blue", GREY)
    with pytest.raises(ImageFileError, match=r"holds 2 arrays \(blue, red\); name one: a\.zarr/b"):
        contents("a.zarr")
    np.testing.assert_array_equal(contents("a.zarr/blue")[0].pixels, GREY)
    with pytest.raises(ImageFileError, match="has no level 1"):
        contents("a.zarr", Reading(level=1))


class TestMissingChunks:
    """What is not stored is the fill value to Zarr; nobody would notice."""

    @pytest.mark.parametrize("version", [2, 3])
    def test_lost_files(self, version):
        put("a.zarr", GREY, version=version)
        Path("a.zarr", *(["0.1"] if version == 2 else ["c", "0", "1"])).unlink()
        (picture,) = contents("a.zarr")
        assert picture.notes == (
            "1 of its 9 chunks are not stored; as Zarr has it, their pixels have the fill value 0",
        )
        with ImageFile("a.zarr", SMALL) as file:
            assert file.read(0).notes == picture.notes

    def test_folders_in_the_place_of_chunks(self):
        put("a.zarr", GREY)
        Path("a.zarr/c/0/1").unlink()
        Path("a.zarr/c/0/1").mkdir()
        assert contents("a.zarr")[0].notes[0].startswith("1 of its 9 chunks are not stored")

    def test_only_those_of_the_image_count(self):
        put("a.zarr", np.stack([GREY, GREY]), chunks=(1, 16, 16))
        shutil.rmtree("a.zarr/c/1/2")
        first, second = contents("a.zarr", Reading())
        assert first.notes == ()
        assert second.notes[0].startswith("3 of its 9 chunks are not stored")

    @pytest.mark.parametrize("place", ["start", "end"])
    def test_within_shards(self, place):
        pixels = GREY + 1
        pixels[16:24, 8:16] = 0  # a chunk of nothing but the fill value is not stored
        array = zarr.create_array(
            "a.zarr",
            shape=GREY.shape,
            dtype=GREY.dtype,
            chunks=(8, 8),
            shards=(16, 16),
            fill_value=0,
            config={"write_empty_chunks": False},
        )
        meta = Path("a.zarr/zarr.json")
        record = json.loads(meta.read_text())
        record["codecs"][0]["configuration"]["index_location"] = place
        meta.write_text(json.dumps(record))
        array = zarr.open_array("a.zarr", config={"write_empty_chunks": False})
        array[...] = np.maximum(pixels, 1)
        assert contents("a.zarr")[0].notes == ()
        array[16:24, 8:16] = 0
        (note,) = contents("a.zarr")[0].notes
        assert note.startswith("1 of its 30 chunks are not stored")
        Path("a.zarr/c/0/1").unlink()
        (note,) = contents("a.zarr")[0].notes
        assert note.startswith("5 of its 30 chunks are not stored")


class TestDamage:
    def test_chunks(self):
        put("a.zarr", DEEP)
        path = Path("a.zarr/c/1/1")
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(ImageFileError, match=r"^a\.zarr: damaged"):
            contents("a.zarr")
        with ImageFile("a.zarr", SMALL) as file:
            pixels = file.read(0).pixels
            np.testing.assert_array_equal(pixels[:16], DEEP[:16])
            with pytest.raises(ImageFileError, match=r"^a\.zarr: damaged"):
                pixels[16:]

    @pytest.mark.parametrize("size", [-2, 2])
    @pytest.mark.parametrize("version", [2, 3])
    def test_plain_chunks_of_another_length(self, version, size):
        put("a.zarr", DEEP, version=version, compressors=None)
        path = Path("a.zarr", *(["1.1"] if version == 2 else ["c", "1", "1"]))
        content = path.read_bytes()
        path.write_bytes(content[:size] if size < 0 else content + bytes(size))
        with pytest.raises(ImageFileError, match=r"^a\.zarr: damaged"):
            contents("a.zarr")

    def test_metadata(self):
        put("a.zarr", GREY)
        Path("a.zarr/zarr.json").write_text("{")
        with pytest.raises(ImageFileError, match=r"^a\.zarr: damaged: zarr\.json is no JSON"):
            contents("a.zarr")
        Path("a.zarr/zarr.json").unlink()
        with pytest.raises(
            ImageFileError, match=r"damaged or no Zarr: it holds none of zarr\.json"
        ):
            contents("a.zarr")
        Path("a.zarr/zarr.json").write_text("[]")
        with pytest.raises(ImageFileError, match="no JSON object"):
            contents("a.zarr")


@pytest.mark.parametrize("name", ["zarr.json", ".zattrs", "c/0/1"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes on Windows")
def test_a_pipe_in_place_of_a_file_is_not_opened(name):
    """It would be waited for without an end."""
    put("a.zarr", GREY, version=2 if name == ".zattrs" else 3)
    Path("a.zarr", name).unlink()
    os.mkfifo(f"a.zarr/{name}")
    with pytest.raises(ImageFileError, match=f"its {Path(name).name} is no file"):
        contents("a.zarr")


class TestTypes:
    def test_objects_are_not_unpickled(self):
        """Even to open such an array may run what the file says."""
        Path("a.zarr").mkdir()
        meta = {
            "zarr_format": 2,
            "shape": [4, 4],
            "chunks": [4, 4],
            "dtype": "|O",
            "compressor": None,
            "fill_value": None,
            "filters": [{"id": "pickle", "protocol": 5}],
            "order": "C",
        }
        Path("a.zarr/.zarray").write_text(json.dumps(meta))
        Path("a.zarr/0.0").write_bytes(b"cposix\nsystem\n(S'touch gotcha'\ntR.")
        with pytest.raises(ImageFileError, match="Python objects, which are not loaded"):
            contents("a.zarr")
        meta["dtype"] = "<f8"
        Path("a.zarr/.zarray").write_text(json.dumps(meta))
        with pytest.raises(ImageFileError, match="Python objects, which are not loaded"):
            contents("a.zarr")
        assert not Path("gotcha").exists()

    @pytest.mark.parametrize("kind", ["complex64", "r16", "string", {"name": "structured"}])
    def test_others(self, kind):
        put("a.zarr", GREY)
        record = json.loads(Path("a.zarr/zarr.json").read_text())
        record["data_type"] = kind
        Path("a.zarr/zarr.json").write_text(json.dumps(record))
        with pytest.raises(ImageFileError, match=r"its values are of type .*, not real numbers"):
            contents("a.zarr")

    @pytest.mark.parametrize("kind", ["<c8", "<M8[s]", "|S3", [["a", "<i4"]]])
    def test_others_of_version_2(self, kind):
        put("a.zarr", GREY, version=2)
        record = json.loads(Path("a.zarr/.zarray").read_text())
        record["dtype"] = kind
        Path("a.zarr/.zarray").write_text(json.dumps(record))
        with pytest.raises(ImageFileError, match=r"its values are of type .*, not real numbers"):
            contents("a.zarr")


class TestNoData:
    @pytest.mark.parametrize(
        ("value", "attributes"),
        [
            (-9999, {"_FillValue": -9999}),
            (np.nan, {"nodata": "nan"}),
            (np.nan, {"_FillValue": "AAAAAAAA+H8="}),
            (-1, {"missing_value": [-1]}),
        ],
    )
    def test_attributes(self, value, attributes):
        pixels = GREY.astype("f4")
        pixels[3:5, 7] = value
        put("a.zarr", pixels, attributes=attributes)
        (picture,) = contents("a.zarr")
        assert not picture.valid[3:5, 7].any()
        assert picture.valid.sum() == GREY.size - 2
        (note,) = picture.notes
        assert note.startswith("no data (")
        assert note.endswith("at 2 of 1920 pixels, which are masked")
        with ImageFile("a.zarr", SMALL) as file:
            same(file.read(0), picture)

    @pytest.mark.parametrize("written", [int, str])
    def test_integers_that_no_float_holds(self, written):
        value = -(2**63) + 2  # the default of netCDF
        pixels = GREY.astype("i8")
        pixels[3:5, 7] = value
        put("a.zarr", pixels, attributes={"_FillValue": written(value)})
        (picture,) = contents("a.zarr")
        assert picture.valid.sum() == GREY.size - 2

    def test_what_xarray_writes_in_version_2(self):
        pixels = GREY.astype("f4")
        pixels[0, 0] = -5
        dims = {"_ARRAY_DIMENSIONS": ["y", "x"]}
        put("a.zarr", pixels, version=2, fill_value=-5, attributes=dims)
        assert contents("a.zarr")[0].valid.sum() == GREY.size - 1

    @pytest.mark.parametrize("version", [2, 3])
    def test_the_fill_value_of_zarr_itself_is_said(self, version):
        put("a.zarr", GREY.astype("f4"), version=version, fill_value=-5)
        (picture,) = contents("a.zarr")
        assert picture.valid is None
        assert picture.notes == (
            "its fill value is -5.0; if that means no data, --ignore-value leaves it out",
        )
        for kind, fill in (("f4", np.nan), ("f4", 0.0), ("u1", 0), ("?", True)):
            path = put(f"{kind}{fill}", GREY.astype(kind), version=version, fill_value=fill)
            assert "--ignore-value" not in " ".join(contents(path)[0].notes)

    def test_attributes_beside_the_value_are_said(self):
        same = {"_FillValue": 9, "missing_value": 9}
        put("a.zarr", GREY, attributes=same)
        assert "not applied" not in " ".join(contents("a.zarr")[0].notes)
        put("b.zarr", GREY, attributes={**same, "missing_value": 8, "valid_range": [10, 200]})
        notes = contents("b.zarr")[0].notes
        assert "its missing_value 8 is not applied, beside _FillValue 9" in notes
        assert "its valid_range [10, 200] is not applied" in notes
        nan = {"_FillValue": "NaN", "missing_value": "NaN"}
        put("c.zarr", GREY.astype("f4"), attributes=nan)
        assert contents("c.zarr")[0].notes == ()

    def test_what_cannot_be_applied_is_said(self):
        put("a.zarr", GREY, attributes={"scale_factor": 0.1, "nodata": "none"})
        assert contents("a.zarr")[0].notes == (
            "its scale_factor 0.1 is not applied",
            "its nodata 'none' is no number; no data are masked",
        )


def test_where_it_lies():
    wkt = 'PROJCRS["WGS 84 / UTM zone 33N",BASEGEOGCRS["WGS 84"],ID["EPSG",32633]]'
    zarr.open_group("a.zarr", mode="w")
    put("a.zarr/band", GREY, dimension_names=("y", "x"), attributes={"grid_mapping": "crs"})
    put("a.zarr/y", 5000.0 - 10 * np.arange(40), dimension_names=("y",))
    put("a.zarr/x", 305.0 + 10 * np.arange(48), dimension_names=("x",))
    put("a.zarr/crs", np.zeros(1), attributes={"crs_wkt": wkt})
    (picture,) = contents("a.zarr")
    assert picture.place.crs == ("EPSG", 32633)
    assert picture.place.transform == (10, 0, 300, 0, -10, 5005)
    shutil.rmtree("a.zarr/crs")
    put("a.zarr/crs", np.zeros(1), attributes={"crs_wkt": wkt, "GeoTransform": "1 2 0 3 0 -2"})
    assert contents("a.zarr")[0].place.transform == (2, 0, 1, 0, -2, 3)


def test_what_is_a_zarr_folder():
    put("a", GREY)
    Path("b.zarr").mkdir()
    Path("c").mkdir()
    Path("d.zarr").write_text("")
    assert [is_zarr(name) for name in ("a", "b.zarr", "c", "d.zarr", "e")] == [
        True,
        True,
        *3 * [False],
    ]


def test_without_the_package(monkeypatch):
    put("a.zarr", GREY)
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(ImageFileError, match=r"needs the package zarr; pip install 'imsim"):
        contents("a.zarr")
